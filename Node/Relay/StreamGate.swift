import Base
import Engine
import Grpc
import Http
import Loop
import Settings
import Token

/// Decides whether a stream opens, and for whom.
struct StreamGate {
  unowned let node: NodeHost
  /// True on the admin socket: whoever can open it is the operator.
  let trusted: Bool

  /// A stream with no credential under `--auth open`, or an operator's: every channel is theirs.
  static let anyone = Principal(
    tenant: .none, org: "", key: RecordID(0), anonymous: true)

  /// Who opens, and when its JWT was made; nil: it has none.
  private func principal(
    _ call: GrpcCall, _ shard: Shard
  ) throws(Fault) -> (Principal, issued: Instant?) {
    if node.readiness.isDraining { throw Fault(.draining) }
    if let why = node.readiness.forgotten { throw Fault(.unavailable, why) }
    if trusted { return (Self.anyone, nil) }
    guard let header = call.metadata("authorization") else {
      if node.settings.auth == .open { return (Self.anyone, nil) }
      throw Fault(.unauthorized)
    }
    let claims = try StreamGate.verify(header, shard.signingKeys, call)
    let principal = Principal(tenant: claims.tenant, org: claims.org, key: claims.key)
    if shard.ended.keys.contains(principal.key) { throw Fault(.keyRevoked) }
    if shard.ended.tenants.contains(principal.tenant) { throw Fault(.tenantSuspended) }
    guard claims.scopes.contains(.channels) else {
      throw Fault(.forbidden, "the token lacks the scope `channels`")
    }
    guard shard.streamBudget.take(principal.key, at: shard.loop.now.monotonic) else {
      throw Fault(.rateLimited, "this key opens streams too fast")
    }
    return (principal, Instant(nanoseconds: claims.issuedAt * 1_000_000_000))
  }

  private static func verify(
    _ header: String, _ keys: SigningKeySet, _ call: GrpcCall
  ) throws(Fault) -> TokenClaims {
    guard let text = bearer(header) else {
      throw Fault(.unauthorized, "authorization must be `Bearer ` and a JWT")
    }
    return try JWT.verify(text, keys: keys, wall: call.loop.now.wall)
  }

  /// While the node's store opens: looks at what can be looked at without it (`keys` nil: not even at a signature).
  /// All of it is asked again, with what only the store knows, before anything of the stream but its Link is taken.
  func openEarly(_ call: GrpcCall, keys: SigningKeySet?) -> OpeningStream? {
    do throws(Fault) {
      if let header = call.metadata("authorization") {
        if let keys { _ = try StreamGate.verify(header, keys, call) }
      } else if node.settings.auth != .open {
        throw Fault(.unauthorized)
      }
    } catch {
      note(call, error)
      call.refuse(error.code.grpc, "\(error.code.rawValue): \(error)")
      return nil
    }
    return OpeningStream(call, nodeName: node.settings.nodeName)
  }

  /// Operators: the admin socket, or what `NodeHost.isOperator` says.
  func isOperator(_ call: GrpcCall) -> Bool {
    trusted || node.isOperator(call.metadata("authorization"), call.peer, at: call.loop.now)
  }

  private func note(_ call: GrpcCall, org: String = "", _ fault: Fault) {
    node.refusals.note(
      "stream", from: call.peer.text, org: org, "\(fault.code.rawValue): \(fault)",
      at: call.loop.now.monotonic)
  }

  /// Opens a session of the given kind, or refuses the call.
  func open<S: Session & GrpcHandler>(
    _ call: GrpcCall, _ make: (SessionID, Shard, Principal) -> S
  ) -> (any GrpcHandler)? {
    let shard = node.shards[call.loop.index]
    if node.readiness.isMoving {
      // It crossed our GOAWAY: the client makes it again, on a new connection.
      call.refuseUnprocessed()
      return nil
    }
    let (principal, issued): (Principal, Instant?)
    do {
      (principal, issued) = try self.principal(call, shard)
    } catch {
      shard.counts.streamsRefused &+= 1
      if error.code != .draining { note(call, error) }
      call.refuse(error.code.grpc, "\(error.code.rawValue): \(error)")
      return nil
    }
    let session = make(shard.sessions.nextID(), shard, principal)
    shard.sessions.insert(session)
    shard.counts.streamsOpened &+= 1
    if call.userData is OpeningStream { session.pause(by: Session.openingPause) }
    if !principal.anonymous { confirm(session, principal, issued, shard) }
    return session
  }

  /// A JWT in date may belong to a key that has ended: nothing is read until the authority has said. When the tenant's
  /// node does not answer, one that was made a short while ago is good enough, as its key lived then; an older one
  /// is not. Whoever got in that way goes as soon as that node says that the key has ended.
  private func confirm(
    _ session: Session, _ principal: Principal, _ issued: Instant?, _ shard: Shard
  ) {
    session.pause(by: Session.checkPause)
    let id = session.id
    node.authority.submit(
      TokenRequest(.admin(actor: "stream"), .checkPrincipal(principal)), from: shard.loop
    ) { result in
      guard let session = shard.sessions.find(id) else { return }
      switch result {
      case .success: session.resume(by: Session.checkPause)
      case .failure(let fault):
        let now = shard.loop.now.wall
        if node.cluster != nil, fault.code == .unavailable, let issued,
          now - issued <= .seconds(Int64(Limits.jwtSeconds))
        {
          session.resume(by: Session.checkPause)
        } else {
          note(session.call, org: principal.org, fault)
          session.end(fault)
        }
      }
    }
  }
}

/// The credential of an `authorization: Bearer ...` header.
func bearer(_ header: String) -> String? {
  guard header.utf8.count <= 8192, header.prefix(7).lowercased() == "bearer " else { return nil }
  let text = header.dropFirst(7)
  return text.isEmpty || text.contains(" ") ? nil : String(text)
}
