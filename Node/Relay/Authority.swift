import Base
import Crypto
import Digest
import Engine
import Loop
import Report
import Settings
import Store
import Token

/// The token engine's host: accounts, keys, invites and joins of this node, on loop 0. Requests come
/// from the HTTP API, the admin service and streams that open on any loop.
final class Authority: @unchecked Sendable {
  typealias Reply = (Result<TokenReply, Fault>) -> Void
  unowned let node: NodeHost
  let loop: EventLoop
  private var engine: TokenEngine
  private var effects: [TokenEffect] = []
  private var waiting: [UInt64: Reply] = [:]
  private var nextToken: UInt64 = 1
  /// What every loop verifies JWTs with.
  private(set) var keys: SigningKeySet
  /// Over their quota: tenants whose accounts are here.
  private var slow: Set<TenantID> = []
  /// What the loops were told last.
  private var slowSpread: Set<TenantID> = []
  /// nil: this node is alone, and has every tenant.
  private(set) var cluster: ClusterTokens?
  /// Tenants that published since the start.
  private var active: Set<TenantID> = []

  init(node: NodeHost, loop: EventLoop, keys: SigningKeySet) throws(Fault) {
    self.node = node
    self.loop = loop
    self.keys = keys
    var rows: [Row] = []
    try unsafe node.store.scan(.tokens, from: [], to: [0xff, 0xff]) { key, value in
      unsafe rows.append(Row(key: [UInt8](key), value: [UInt8](value)))
      return true
    }
    var settings = TokenSettings(writer: Random.uint64())
    settings.callsPerSecond = node.settings.requestRate.perSecond
    settings.callsBurst = node.settings.requestRate.burst
    settings.pollsPerSecond = node.settings.pollRate.perSecond
    settings.pollsBurst = node.settings.pollRate.burst
    settings.tokenSeconds = node.settings.tokenTTL.wholeSeconds
    settings.tokenMaxSeconds = node.settings.tokenMaxTTL.wholeSeconds
    settings.quota = TokenQuota(
      messagesPerDay: node.settings.quota.messages, bytesPerDay: node.settings.quota.bytes,
      tokensPerDay: node.settings.quota.tokens)
    engine = TokenEngine(rows: rows, settings: settings, keys: keys, at: loop.now)
    if engine.damagedRows > 0 {
      node.log.error("damaged token rows are not used", ["rows": .of(engine.damagedRows)])
    }
  }

  /// Tenants that are not deleted.
  var tenantCount: Int { engine.tenantCount }

  /// This node is one of several from now on. Before it listens.
  func enter(_ host: ClusterHost) {
    let cluster = ClusterTokens(self, host)
    self.cluster = cluster
    cluster.begin()
  }

  // MARK: requests

  /// Runs a request; the reply comes on loop 0. Only on loop 0.
  func submit(_ request: TokenRequest, _ reply: @escaping Reply) {
    if let cluster {
      cluster.submit(request, reply)
    } else {
      submitHere(request, reply)
    }
  }

  /// Decides by the accounts that are here.
  func submitHere(_ request: TokenRequest, _ reply: @escaping Reply) {
    switch request.action {
    case .usage, .account, .listTenants:
      // Counts of the last second still stand with the shards.
      collectUsage { [self] in run(request, reply) }
    default:
      run(request, reply)
    }
  }

  /// The same from any loop; the reply comes on `home`.
  func submit(
    _ request: TokenRequest, from home: EventLoop,
    _ reply: @escaping @Sendable (Result<TokenReply, Fault>) -> Void
  ) {
    if home === loop {
      submit(request, reply)
      return
    }
    loop.post { [self] in
      submit(request) { result in home.post { reply(result) } }
    }
  }

  private func run(_ request: TokenRequest, _ reply: @escaping Reply) {
    let token = nextToken
    nextToken += 1
    waiting[token] = { [self] result in
      if case .success(let done) = result { receiveDone(request.action, done) }
      reply(result)
    }
    engine.receive(
      request, token: token, entropy: Random.bytes(64), at: loop.now, into: &effects)
    runEffects()
  }

  private func receiveDone(_ action: TokenAction, _ reply: TokenReply) {
    switch action {
    case .createTenant, .resumeTenant, .suspendTenant, .deleteTenant: break
    default: return
    }
    switch reply {
    case .tenantCreated(let tenant, _, _), .tenant(let tenant):
      if tenant.state == .active { letBack(tenant.id) }
      cluster?.say(
        .tenant(tenant.id, tenant.state, created: tenant.created),
        stands: tenant.state != .active || tenant.generation > 1)
    default: break
    }
  }

  /// A tenant that is back may open streams again.
  func letBack(_ tenant: TenantID) { node.eachShard { $0.ended.tenants.remove(tenant) } }

  func end(_ tenant: TenantID) {
    node.eachShard { shard in
      shard.ended.tenants.insert(tenant)
      shard.endSessions(Fault(.tenantSuspended)) { $0.tenant == tenant && !$0.anonymous }
    }
  }

  func end(_ key: RecordID) {
    node.eachShard { shard in
      shard.ended.keys.insert(key)
      shard.endSessions(Fault(.keyRevoked)) { $0.key == key }
    }
  }

  /// Streams of these must not open: asked once at the start, before anything listens.
  func endedAtStart() -> EndedPrincipals {
    var ended = EndedPrincipals()
    var after = ""
    repeat {
      guard case .tenants(let tenants, let next)? = ask(.listTenants(after: after, limit: 1000))
      else { break }
      for tenant in tenants {
        if tenant.state != .active { ended.tenants.insert(tenant.id) }
        guard case .keys(let list)? = ask(.listKeys(org: tenant.org)) else { continue }
        for key in list where key.revoked != nil {
          if let address = RecordAddress(key.id) { ended.keys.insert(address.record) }
        }
      }
      after = next
    } while !after.isEmpty
    return ended
  }

  /// A read that the engine answers at once.
  private func ask(_ action: TokenAction) -> TokenReply? {
    var answer: TokenReply?
    run(TokenRequest(.admin(actor: "node"), action)) { result in
      if case .success(let reply) = result { answer = reply }
    }
    return answer
  }

  func tick() {
    engine.receiveTick(at: loop.now, into: &effects)
    runEffects()
    collectUsage { [self] in spreadQuotas() }
  }

  // MARK: effects

  private func runEffects() {
    while !effects.isEmpty {
      let list = effects
      effects = []
      for effect in list { run(effect) }
    }
  }

  private func run(_ effect: TokenEffect) {
    switch effect {
    case .write(let ticket, let set):
      // Keys are shown once and invites leave the house: they must survive a power cut.
      node.store.submit(set, synced: true) { [self] result in
        loop.post { [self] in
          switch result {
          case .success: engine.receiveWritten(ticket, at: loop.now, into: &effects)
          case .failure(let fault):
            engine.receiveWriteFailed(ticket, fault, at: loop.now, into: &effects)
          }
          runEffects()
        }
      }
    case .reply(let token, let result):
      waiting.removeValue(forKey: token)?(result)
    case .granted(let channel, let tenant, let org):
      changeGrant(channel, tenant, granted: true)
      cluster?.say(.granted(channel, tenant, org: org))
    case .grantRevoked(let channel, let tenant):
      changeGrant(channel, tenant, granted: false)
      cluster?.say(.granted(channel, tenant, org: ""), stands: false)
    case .keyEnded(let tenant, let key):
      end(key)
      cluster?.say(.keyEnded(tenant, key))
    case .tenantEnded(let tenant): end(tenant)
    case .audit(let action, let actor, let subject):
      node.audit.record(
        AuditEntry(actor: actor, action: action, subject: subject, outcome: "done"))
    }
  }

  /// The row stands, or is gone.
  func changeGrant(_ channel: ChannelID, _ tenant: TenantID, granted: Bool) {
    let shard = node.shards[Int(channel.slot) % node.shardCount]
    shard.loop.post {
      shard.engine.receiveGrant(channel, tenant: tenant, granted: granted, at: shard.loop.now)
      shard.runEffects()
    }
    node.eachShard { $0.slim.receiveGrant(channel, tenant, granted: granted) }
  }

  // MARK: signing keys

  func rotateSigningKey(_ keys: SigningKeySet) {
    self.keys = keys
    engine.receiveSigningKeys(keys)
    node.eachShard { $0.signingKeys = keys }
  }

  // MARK: usage

  /// Brings in what the shards counted since the last time, then calls `done` on this loop.
  private func collectUsage(_ done: @escaping () -> Void) {
    let gathering = UsageGathering(shards: node.shards.count, done)
    for shard in node.shards {
      shard.loop.post { [self] in
        let counts = shard.takeUsage()
        loop.post { [self] in
          for count in counts {
            if let cluster, !cluster.owns(count.tenant) {
              cluster.report(count)
              continue
            }
            receiveUsage(
              count.tenant, day: count.day, messages: count.messages, bytes: count.bytes)
          }
          gathering.receive()
        }
      }
    }
  }

  func receiveUsage(_ tenant: TenantID, day: UInt32, messages: UInt64, bytes: UInt64) {
    active.insert(tenant)
    engine.receiveUsageAdded(tenant, day: day, messages: messages, bytes: bytes)
  }

  /// Tells the loops, and the other nodes, whose streams to slow, when that changes.
  private func spreadQuotas() {
    let wall = loop.now.wall
    let over = active.filter { engine.isOverQuota($0, wall: wall) }
    if over != slow {
      for tenant in over.subtracting(slow).sorted() { cluster?.say(.slow(tenant)) }
      for tenant in slow.subtracting(over).sorted() { cluster?.say(.slow(tenant), stands: false) }
      slow = over
    }
    let all = cluster.map { over.union($0.slowElsewhere) } ?? over
    guard all != slowSpread else { return }
    slowSpread = all
    node.eachShard { $0.slowTenants = all }
  }

  // MARK: slots

  /// What the other nodes must know of these tenants.
  func notices(where isAsked: (TenantID) -> Bool) -> [Notice] {
    engine.notices(wall: loop.now.wall, where: isAsked)
      + slow.filter(isAsked).map { Notice.slow($0) }
  }

  func knows(_ tenant: TenantID) -> Bool { engine.knows(tenant) }

  /// Slots came here, and table `tokens` has these rows of theirs (`TokenRows.ranges`). On loop 0.
  func receiveArrived(_ rows: [Row]) {
    let tenants = Set(rows.compactMap { TokenRows.tenant(ofKey: $0.key) })
    engine.receiveRows(rows, at: loop.now)
    // Whether they are over their quota is this node's to say.
    active.formUnion(tenants)
    cluster?.sayArrived(Set(tenants.map(\.slot)))
  }

  /// These slots are another node's now: their accounts are forgotten, their rows are the caller's to delete.
  func receiveDeparted(_ slots: Set<UInt16>) {
    for slot in slots {
      let said = notices { $0.slot == slot }
      cluster?.sayDeparted(slot, said)
    }
    engine.forget { slots.contains($0.slot) }
    active = active.filter { !slots.contains($0.slot) }
    slow = slow.filter { !slots.contains($0.slot) }
  }

  /// Something is being written for tenants of this slot: the rows are not its last yet.
  func isChanging(_ slot: UInt16) -> Bool { engine.isChanging { $0.slot == slot } }
}

/// What one shard counted for a tenant since it was last asked, and since its start.
struct UsageDelta: Sendable {
  var tenant: TenantID
  var day: UInt32
  var messages: UInt64
  var bytes: UInt64
  var total: UsageReport
}

/// Waits for every shard's counts. On loop 0 only.
private final class UsageGathering: @unchecked Sendable {
  private var left: Int
  private let done: () -> Void
  init(shards: Int, _ done: @escaping () -> Void) {
    left = shards
    self.done = done
  }
  func receive() {
    left -= 1
    if left == 0 { done() }
  }
}
