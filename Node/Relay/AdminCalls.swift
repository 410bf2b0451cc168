import Base
import Codec
import Crypto
import Digest
import Engine
import Grpc
import Loop
import Messages
import Report
import Settings
import Store
import Token

/// `posthouse.v1.AdminService`: what operators may do. Every call has been found to come from the admin
/// socket, from loopback or with an admin credential before it gets here.
final class AdminCalls: @unchecked Sendable {
  unowned let node: NodeHost
  init(node: NodeHost) { self.node = node }

  private var inventory: ChannelInventory { ChannelInventory(store: node.store) }

  // MARK: tenants and keys

  private func ask(
    _ action: TokenAction, _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<TokenReply, Fault>) -> Void
  ) {
    node.authority.submit(TokenRequest(.admin(actor: "operator"), action), from: home, reply)
  }

  /// The action of a tenant or key call, and how its reply is written.
  func tenantCall(
    _ method: MethodDescriptor, _ bytes: [UInt8], _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<[UInt8], Fault>) -> Void
  ) {
    let action: TokenAction
    do {
      action = try Self.action(method, bytes)
    } catch {
      reply(.failure(error))
      return
    }
    ask(action, home) { result in
      reply(
        result.flatMap { answer in
          guard let bytes = Self.encode(answer) else {
            return .failure(Fault(.internal, "an answer of the wrong shape"))
          }
          return .success(bytes)
        })
    }
  }

  static let tenantMethods: [MethodDescriptor] = [
    AdminService.createTenant, AdminService.listTenants, AdminService.getTenant,
    AdminService.suspendTenant, AdminService.resumeTenant, AdminService.deleteTenant,
    AdminService.setQuota, AdminService.createKey, AdminService.listKeys, AdminService.revokeKey,
    AdminService.grantChannel, AdminService.revokeGrant,
  ]

  private static func action(
    _ method: MethodDescriptor, _ bytes: [UInt8]
  ) throws(Fault) -> TokenAction {
    do {
      switch method {
      case AdminService.createTenant:
        let r = try AdminCreateTenantRequest(decoding: bytes)
        return .createTenant(org: r.tenant, withKey: !r.withoutKey)
      case AdminService.listTenants:
        let r = try AdminListTenantsRequest(decoding: bytes)
        return .listTenants(after: r.after, limit: r.limit == 0 ? 1000 : Int(min(r.limit, 1000)))
      case AdminService.setQuota:
        let r = try AdminSetQuotaRequest(decoding: bytes)
        let q = r.quota ?? AdminQuota()
        return .setQuota(
          org: r.tenant,
          TokenQuota(
            messagesPerDay: q.messagesPerDay, bytesPerDay: q.bytesPerDay,
            tokensPerDay: q.tokensPerDay))
      case AdminService.createKey:
        let r = try AdminCreateKeyRequest(decoding: bytes)
        return .createKey(
          org: r.tenant, label: r.label, scopes: r.scopes,
          ttlSeconds: r.ttlSeconds == 0 ? nil : r.ttlSeconds)
      case AdminService.revokeKey:
        return .revokeKey(id: try AdminRevokeKeyRequest(decoding: bytes).keyID)
      case AdminService.grantChannel:
        let r = try AdminGrantChannelRequest(decoding: bytes)
        return .grant(channel: r.name, org: r.tenant)
      case AdminService.revokeGrant:
        let r = try AdminGrantChannelRequest(decoding: bytes)
        return .revokeGrant(channel: r.name, org: r.tenant)
      default:
        let r = try AdminTenantRequest(decoding: bytes)
        switch method {
        case AdminService.getTenant: return .account(org: r.tenant)
        case AdminService.suspendTenant: return .suspendTenant(org: r.tenant)
        case AdminService.resumeTenant: return .resumeTenant(org: r.tenant)
        case AdminService.deleteTenant: return .deleteTenant(org: r.tenant)
        case AdminService.listKeys: return .listKeys(org: r.tenant)
        default: throw Fault(.unimplemented)
        }
      }
    } catch let fault as Fault {
      throw fault
    } catch {
      throw Fault(.badRequest, "not a request of this method")
    }
  }

  private static func encode(_ reply: TokenReply) -> [UInt8]? {
    switch reply {
    case .tenant(let view), .account(let view, _): return tenant(view).encoded()
    case .tenantCreated(let view, let key, let text):
      var out = AdminCreateTenantResponse()
      out.tenant = tenant(view)
      out.apiKey = text ?? ""
      out.keyID = key?.id ?? ""
      return out.encoded()
    case .tenants(let views, let next):
      var out = AdminListTenantsResponse()
      out.tenants = views.map(tenant)
      out.next = next
      return out.encoded()
    case .keyCreated(let view, let text):
      var out = AdminCreateKeyResponse()
      out.key = key(view)
      out.apiKey = text
      return out.encoded()
    case .keys(let views):
      var out = AdminListKeysResponse()
      out.keys = views.map(key)
      return out.encoded()
    case .key(let view): return key(view).encoded()
    case .grant: return AdminGrantChannelResponse().encoded()
    default: return nil
    }
  }

  private static func tenant(_ view: TenantView) -> AdminTenant {
    var out = AdminTenant()
    out.tenant = view.org
    out.tenantID = view.idText
    out.state = view.state.name
    out.createdUnixNs = view.created.nanoseconds
    var quota = AdminQuota()
    quota.messagesPerDay = view.quota.messagesPerDay
    quota.bytesPerDay = view.quota.bytesPerDay
    quota.tokensPerDay = view.quota.tokensPerDay
    out.quota = quota
    out.keys = UInt64(view.keys)
    out.channels = UInt64(view.channels)
    out.messagesToday = view.today.messages
    out.bytesToday = view.today.bytes
    return out
  }

  private static func key(_ view: KeyView) -> AdminKey {
    var out = AdminKey()
    out.keyID = view.id
    out.tenant = view.org
    out.label = view.label
    out.scopes = view.scopes.names
    out.createdUnixNs = view.created.nanoseconds
    out.expiresUnixNs = view.expires?.nanoseconds ?? 0
    out.revokedUnixNs = view.revoked?.nanoseconds ?? 0
    out.lastUsedUnixNs = view.lastUsed?.nanoseconds ?? 0
    return out
  }

  // MARK: channels

  func listChannels(
    _ request: AdminListChannelsRequest, _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<AdminListChannelsResponse, Fault>) -> Void
  ) {
    let inventory = inventory
    node.store.read { _ in
      let limit = request.limit == 0 ? 1000 : Int(min(request.limit, 1000))
      let found = Result { () throws(Fault) in
        try inventory.channels(prefix: request.prefix, after: request.after, limit: limit)
      }.map { list in
        var out = AdminListChannelsResponse()
        out.channels = list
        if list.count == limit, let last = list.last { out.next = last.name }
        return out
      }
      home.post { reply(found) }
    }
  }

  func getChannel(
    _ request: AdminChannelRequest, _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<AdminChannel, Fault>) -> Void
  ) {
    guard let (id, name, _) = ChannelInventory.identity(request.name) else {
      reply(.failure(Fault(.badChannelName)))
      return
    }
    let inventory = inventory
    let shard = node.shard(of: id)
    node.store.read { _ in
      let found = Result { () throws(Fault) in
        guard let channel = try inventory.channel(name) else {
          throw Fault(.notFound, "no channel \(name)")
        }
        return channel
      }
      shard.loop.post {
        var answer = found
        if case .success(var channel) = found {
          if let state = shard.engine.channelState(id) {
            channel.subscribers = UInt64(state.subscribers)
          }
          answer = .success(channel)
        }
        let done = answer
        home.post { reply(done) }
      }
    }
  }

  /// Erases archive, grants and registration; the head stays so that no sequence is used twice.
  func deleteChannel(
    _ request: AdminDeleteChannelRequest, _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<AdminDeleteChannelResponse, Fault>) -> Void
  ) {
    guard let (id, text, family) = ChannelInventory.identity(request.name) else {
      reply(.failure(Fault(.badChannelName)))
      return
    }
    guard request.confirm else {
      reply(.failure(Fault(.badRequest, "deleting a channel wants confirm = true")))
      return
    }
    let inventory = inventory
    let shard = node.shard(of: id)
    let node = node
    let erase: @Sendable () -> Void = {
      node.store.read { _ in
        let before = try? inventory.channel(text)
        shard.loop.post {
          guard let channel = shard.channel(named: text) else { return }
          shard.slim.detach(id)
          shard.delete(channel) { fault in
            home.post {
              if let fault {
                reply(.failure(fault))
                return
              }
              var out = AdminDeleteChannelResponse()
              if let before, before.lastSequence >= before.firstSequence {
                out.messages = before.lastSequence - before.firstSequence + 1
              }
              node.audit.record(
                AuditEntry(
                  actor: "operator", action: "channel.delete", subject: text, outcome: "done"))
              reply(.success(out))
            }
          }
        }
      }
    }
    guard family == .skytale else { return erase() }
    ask(.endChannel(name: text), home) { ended in
      if case .failure(let fault) = ended, fault.code != .notFound {
        reply(.failure(fault))
        return
      }
      erase()
    }
  }

  // MARK: long work

  func verify(
    _ request: AdminVerifyChannelsRequest,
    _ send: @escaping @Sendable (AdminVerifyProgress) -> Bool,
    _ done: @escaping @Sendable (Fault?) -> Void
  ) {
    node.store.upkeep { store in
      do throws(Fault) {
        var check = ArchiveCheck(store: store)
        try check.run(only: request.name, send)
        done(nil)
      } catch {
        done(error)
      }
    }
  }

  func backup(
    _ request: AdminCreateBackupRequest,
    _ send: @escaping @Sendable (AdminBackupProgress) -> Bool,
    _ done: @escaping @Sendable (Fault?) -> Void
  ) {
    let node = node
    node.store.upkeep { _ in
      do throws(Fault) {
        guard request.directory.hasPrefix("/") else {
          throw Fault(.badRequest, "the backup directory must be an absolute path")
        }
        try node.store.checkpoint(
          to: request.directory, alsoCopy: [SigningKeys.fileName])
        var progress = AdminBackupProgress()
        progress.done = true
        progress.directory = request.directory
        node.audit.record(
          AuditEntry(
            actor: "operator", action: "backup.create", subject: request.directory, outcome: "done")
        )
        _ = send(progress)
        done(nil)
      } catch {
        done(error)
      }
    }
  }

  // MARK: the node

  func status(
    _ home: EventLoop, _ reply: @escaping @Sendable (AdminNodeStatus) -> Void
  ) {
    let node = node
    node.gatherFacts { facts in
      var out = AdminNodeStatus()
      out.nodeName = node.settings.nodeName
      out.version = PosthouseVersion.text
      out.startedUnixNs = node.startedWall.nanoseconds
      out.loops = UInt32(node.shardCount)
      out.sessions = UInt64(facts.sessions)
      out.channelsActive = UInt64(facts.channels)
      out.tenants = UInt64(facts.tenants)
      out.messagesPublished = UInt64(facts.counts.published)
      out.messagesDelivered = UInt64(facts.counts.delivered)
      out.diskFreeBytes = UInt64(clamping: node.store.diskFree())
      out.diskUsedBytes = UInt64(clamping: node.store.diskUsed())
      let reasons = node.readiness.reasons
      out.ready = reasons.isEmpty
      out.notReadyReasons = reasons
      out.grpcAddress = node.addresses.grpc
      out.httpAddress = node.addresses.http
      out.dataDirectory = node.settings.data
      out.auth = node.settings.auth.rawValue
      out.draining = node.readiness.isDraining
      out.formatVersion = UInt32(Store.format)
      let answer = out
      home.post { reply(answer) }
    }
  }

  /// Answers before the drain begins.
  func drain(_ request: AdminDrainNodeRequest) throws(Fault) -> AdminDrainNodeResponse {
    let grace =
      request.graceMs == 0 ? node.settings.drain : Interval.milliseconds(Int64(request.graceMs))
    let order = DrainOrder(.moving, grace: grace, why: "an operator asked")
    guard node.requestDrain(order) else { throw Fault(.draining) }
    node.audit.record(
      AuditEntry(actor: "operator", action: "node.drain", subject: "node", outcome: "begun"))
    return AdminDrainNodeResponse(
      pid: UInt32(ProcessFacts.identifier),
      graceMs: UInt32(clamping: grace.nanoseconds / 1_000_000))
  }

  func adminToken(
    _ request: AdminCreateAdminTokenRequest
  ) throws(Fault) -> AdminCreateAdminTokenResponse {
    guard request.ttlSeconds >= 0 else { throw Fault(.badRequest, "ttl_seconds") }
    let ttl =
      request.ttlSeconds == 0 ? 3600 : min(request.ttlSeconds, Int64(Limits.jwtMaxSeconds))
    let now = node.loops[0].now.wall
    let expires = now.nanoseconds / 1_000_000_000 + ttl
    var out = AdminCreateAdminTokenResponse()
    out.token = AdminCredential.make(expires: expires, node.signing.value)
    out.expiresUnixNs = expires * 1_000_000_000
    node.audit.record(
      AuditEntry(actor: "operator", action: "admin.token", subject: "\(ttl)s", outcome: "done"))
    return out
  }
}
