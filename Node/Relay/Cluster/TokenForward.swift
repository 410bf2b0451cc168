import Base
import Crypto
import Digest
import Loop
import Report
import Ring
import Store
import Token

/// The token API of a node that is one of several. A tenant's accounts are on the node that owns its slot, which
/// decides; any node answers any call, by asking that one. A credential goes to its own tenant's node and no
/// further: what another tenant's node must know of the caller it is told in its place. Everything on loop 0.
final class ClusterTokens: @unchecked Sendable {
  typealias Reply = Authority.Reply
  unowned let authority: Authority
  let node: NodeHost
  let host: ClusterHost
  let loop: EventLoop

  /// What the nodes must know of each other's tenants: `ClusterTokens+Notices`.
  var board: NoticeBoard
  /// How far the other nodes have read the book here.
  var told: [NodeID: UInt64] = [:]
  var telling: [NodeID: Telling] = [:]
  var asking: Set<NodeID> = []
  var isTelling = false
  /// The book here may be read.
  var isSaying = false
  /// Of slots that left a moment ago.
  var partings: [UInt16: Parting] = [:]
  var lastParting: UInt64 = 0
  /// Replies that wait until the other nodes have heard.
  var untold: [Untold] = []
  /// Rows of grants in the store here: of this node's tenants, and copies of the others'.
  var grants: Set<GrantKey> = []
  /// The revision that the copies were last compared for.
  var compared: UInt64 = 0
  /// Over their quota, on other nodes.
  var slowElsewhere: Set<TenantID> = []

  /// Slots whose accounts are on their way to another node: `ClusterTokens+Slots`.
  var held: [UInt16: HeldTokens] = [:]

  /// Usage of other nodes' tenants that their nodes have not confirmed: `ClusterTokens+Usage`.
  var reports: [UsageKey: UsageReport] = [:]
  var reporting: Set<NodeID> = []
  var usageQueue: [UsageCall] = []
  var isCountingUsage = false

  /// Which edition of the signing keys each node has: `ClusterTokens+Keys`.
  var editions: [NodeID: UInt64] = [:]
  var announcedAt = Instant.zero
  var rotations: [@Sendable (Result<String, Fault>) -> Void] = []
  var isFetchingKeys = false
  var mustFetchKeysAgain = false
  /// These are the cluster's keys, from any thread.
  let hasKeys: Guarded<Bool>

  init(_ authority: Authority, _ host: ClusterHost) {
    self.authority = authority
    node = authority.node
    self.host = host
    loop = authority.loop
    board = NoticeBoard(epoch: Random.uint64())
    hasKeys = Guarded(node.signing.value.edition > 0)
  }

  /// Before the node listens for others.
  func begin() {
    readGrants()
    readUsage()
    serve("Token") { $0.serveToken($2, $3) }
    serve("Notices") { $0.serveNotices($2, from: $1, $3) }
    serve("Told") { $0.receiveTold($2, from: $1, $3) }
    serve("Usage") { $0.serveUsage($2, $3) }
    serve("Keys") { $0.serveKeys($2, from: $1, $3) }
    serve("KeysChanged") { tokens, _, _, reply in
      reply(.success([]))
      tokens.fetchKeys()
    }
    serve("RotateKey") { tokens, _, _, reply in
      tokens.rotate { result in reply(result.map { Array($0.utf8) }) }
    }
    let loop = loop
    host.observers.append { [unowned self] map in
      loop.post { [self] in receive(map) }
    }
    loop.post { [self] in tick() }
  }

  private func serve(
    _ method: String,
    _ answer:
      @escaping @Sendable (ClusterTokens, NodeID, [UInt8], @escaping ClusterCalls.Reply) -> Void
  ) {
    host.calls.serve(method) { [unowned self] from, request, reply in
      answer(self, from, request, reply)
    }
  }

  // MARK: who has what

  var map: RingMap { host.map.value }
  /// The nodes of the map but this one.
  var others: [NodeID] { map.nodes.map(\.id).filter { $0 != host.own } }
  func owner(_ tenant: TenantID) -> NodeID {
    // While a slot is handed over, what the hand-over says goes before the map.
    let owner = host.owner(of: tenant.slot)
    return node.links?.owner(of: tenant.slot, byMap: owner) ?? owner
  }
  func owns(_ tenant: TenantID) -> Bool { owner(tenant) == host.own }

  private func receive(_ map: RingMap) {
    let there = Set(map.nodes.map(\.id))
    for gone in board.nodes where !there.contains(gone) { carry(out: board.forget(gone)) }
    told = told.filter { there.contains($0.key) }
    for node in others where !board.isWhole(node) { readBook(of: node) }
  }

  // MARK: time

  private func tick() {
    if node.shards[0].isSealed { return }
    for peer in others { readBook(of: peer) }
    compareGrants()
    sendReports()
    tickKeys()
    // Until the keys are here nobody can be served.
    let wait = hasKeys.value ? Interval.seconds(1) : Interval.milliseconds(100)
    loop.schedule(after: wait) { [self] in tick() }
  }

  // MARK: requests

  /// Has a request decided where that is done; the reply comes on loop 0.
  func submit(_ request: TokenRequest, _ reply: @escaping Reply) {
    switch request.subject {
    case .local: authority.submitHere(request, reply)
    case .everyNode: askAll(request, reply)
    case .tenant(let tenant):
      if case .grant(let channel, let org) = request.action,
        owner(TenantID(org: org)) != owner(tenant)
      {
        grantElsewhere(channel, org, request, of: tenant, reply)
      } else {
        ask(request, of: tenant, reply)
      }
    }
  }

  /// An operator grants a channel to a tenant of another node: that one says whether there is such a tenant.
  private func grantElsewhere(
    _ channel: String, _ org: String, _ request: TokenRequest, of tenant: TenantID,
    _ reply: @escaping Reply
  ) {
    guard case .admin = request.caller else { return ask(request, of: tenant, reply) }
    ask(TokenRequest(request.caller, .account(org: org)), of: TenantID(org: org)) { [self] found in
      if case .failure(let fault) = found { return reply(.failure(fault)) }
      ask(
        TokenRequest(request.caller, .grantKnown(channel: channel, org: org)), of: tenant, reply)
    }
  }

  private func ask(_ request: TokenRequest, of tenant: TenantID, _ reply: @escaping Reply) {
    guard let home = request.home, owner(home) != owner(tenant) else {
      return send(request, of: tenant, reply)
    }
    prove(request, home) { [self] result in
      switch result {
      case .success(let proven):
        send(TokenRequest(.proven(proven), request.action), of: tenant, reply)
      case .failure(let fault): reply(.failure(fault))
      }
    }
  }

  /// The credential's own tenant's node says who it is, and counts the call.
  private func prove(
    _ request: TokenRequest, _ home: TenantID,
    _ done: @escaping (Result<ProvenCaller, Fault>) -> Void
  ) {
    let proof = TokenRequest(request.caller, .prove(polling: request.action.isPoll))
    send(proof, of: home) { result in
      switch result {
      case .success(.proven(let proven)): done(.success(proven))
      case .success: done(.failure(Fault(.internal, "an answer of the wrong shape")))
      case .failure(let fault): done(.failure(fault))
      }
    }
  }

  private func send(
    _ request: TokenRequest, of tenant: TenantID, again: Bool = false, _ reply: @escaping Reply
  ) {
    let to = owner(tenant)
    if to == .none { return reply(.failure(Fault(.unavailable, "no node has this tenant yet"))) }
    if to == host.own {
      let isHeld = hold(tenant, { reply(.failure($0)) }) { [self] in
        send(request, of: tenant, again: again, reply)
      }
      if !isHeld { decide(request, reply) }
      return
    }
    call(to, request) { [self] answer in
      switch answer {
      case .success(.done(let result)): reply(result)
      case .success(.notOwner):
        if again {
          return reply(.failure(Fault(.unavailable, "the tenant moves to another node")))
        }
        // One of the two maps is older: the newer one comes within a moment.
        loop.schedule(after: .milliseconds(300)) { [self] in
          send(request, of: tenant, again: true, reply)
        }
      case .failure: reply(.failure(unreachable(to)))
      }
    }
  }

  private func unreachable(_ peer: NodeID) -> Fault {
    let name = map.node(peer)?.name ?? "\(peer)"
    return Fault(.unavailable, "node \(name), which has this tenant, does not answer")
  }

  /// Asks another node once. A failure: it did not answer.
  private func call(
    _ peer: NodeID, _ request: TokenRequest,
    _ done: @escaping (Result<TokenAnswer, Fault>) -> Void
  ) {
    let bytes = TokenForward(revision: map.revision, request).encoded
    let back = OnLoop(done)
    host.calls.call(peer, "Token", bytes, timeout: timeout(request.action), on: loop) { result in
      switch result {
      case .failure(let fault): back.done(.failure(fault))
      case .success(let bytes):
        guard let answer = try? TokenAnswer(decoding: bytes) else {
          return back.done(.failure(Fault(.internal, "an answer that cannot be read")))
        }
        back.done(.success(answer))
      }
    }
  }

  /// Streams wait for the word on their key; clients of the API have more patience.
  private func timeout(_ action: TokenAction) -> Interval {
    if case .checkPrincipal = action { return .seconds(2) }
    return .seconds(5)
  }

  // MARK: lists

  /// Every node answers for its tenants. An operator gets all or nothing; an agent's list lacks what tenants granted
  /// to it whose node does not answer.
  private func askAll(_ request: TokenRequest, _ reply: @escaping Reply) {
    if let home = request.home {
      prove(request, home) { [self] result in
        switch result {
        case .success(let proven):
          gather(TokenRequest(.proven(proven), request.action), needed: [owner(home)], reply)
        case .failure(let fault): reply(.failure(fault))
        }
      }
    } else {
      gather(request, needed: Set(others + [host.own]), reply)
    }
  }

  private func gather(
    _ request: TokenRequest, needed: Set<NodeID>, _ reply: @escaping Reply
  ) {
    let nodes = others + [host.own]
    let gathering = Gathering(left: nodes.count, limit: request.action.limit, reply)
    for peer in nodes {
      let missing = needed.contains(peer) ? unreachable(peer) : nil
      if peer == host.own {
        decide(request) { [self] in gathering.receive($0.map(ownOnly)) }
        continue
      }
      call(peer, request) { answer in
        if case .success(.done(let result)) = answer {
          gathering.receive(result)
        } else {
          gathering.receiveNothing(missing)
        }
      }
    }
  }

  /// A tenant that has moved away may have left rows behind.
  private func ownOnly(_ reply: TokenReply) -> TokenReply {
    switch reply {
    case .tenants(let list, let next): .tenants(list.filter { owns($0.id) }, next: next)
    case .channels(let list, let next):
      .channels(list.filter { owns(TenantID(org: $0.org)) }, next: next)
    default: reply
    }
  }

  // MARK: what other nodes ask

  private func serveToken(_ bytes: [UInt8], _ reply: @escaping ClusterCalls.Reply) {
    guard let forward = try? TokenForward(decoding: bytes) else {
      return reply(.failure(Fault(.badRequest, "a request that cannot be read")))
    }
    let request = forward.request
    func answer(_ result: Result<TokenReply, Fault>) {
      reply(.success(TokenAnswer.done(result).encoded))
    }
    switch request.subject {
    case .everyNode: decide(request) { [self] in answer($0.map(ownOnly)) }
    case .tenant(let tenant):
      guard owns(tenant) else {
        return reply(.success(TokenAnswer.notOwner(revision: map.revision).encoded))
      }
      let isHeld = hold(tenant, { answer(.failure($0)) }) { [self] in serveToken(bytes, reply) }
      if !isHeld { decide(request, answer) }
    case .local: answer(.failure(Fault(.unauthorized)))
    }
  }

  /// Decides here. What other nodes must know of it they have heard when the reply comes, or could not be reached.
  private func decide(_ request: TokenRequest, _ reply: @escaping Reply) {
    guard request.action.isTold else { return authority.submitHere(request, reply) }
    let before = board.own.last
    authority.submitHere(request) { [self] result in
      if case .success = result, board.own.last > before {
        whenTold { reply(result) }
      } else {
        reply(result)
      }
    }
  }
}

extension TokenAction {
  /// May change what all nodes must know.
  fileprivate var isTold: Bool {
    switch self {
    case .createTenant, .suspendTenant, .resumeTenant, .deleteTenant, .grant, .grantKnown,
      .dropGrantee, .revokeKey, .endChannel, .revokeGrant, .join:
      true
    default: false
    }
  }

  /// Rows asked for; 0: the most.
  fileprivate var limit: Int {
    switch self {
    case .listTenants(_, let limit), .listChannels(_, _, let limit): limit
    default: 0
    }
  }
}

/// A closure that is called on the loop it was made on.
final class OnLoop<Value>: @unchecked Sendable {
  let done: (Value) -> Void
  init(_ done: @escaping (Value) -> Void) { self.done = done }
}

/// Waits for every node's part of a list. On loop 0 only.
private final class Gathering {
  private var left: Int
  private let limit: Int
  private var replies: [TokenReply] = []
  private var fault: Fault?
  private let done: Authority.Reply

  init(left: Int, limit: Int, _ done: @escaping Authority.Reply) {
    self.left = left
    self.limit = limit
    self.done = done
  }

  func receive(_ result: Result<TokenReply, Fault>) {
    switch result {
    case .success(let reply): replies.append(reply)
    case .failure(let fault): self.fault = self.fault ?? fault
    }
    count()
  }

  /// A node did not answer; nil: it may be missing.
  func receiveNothing(_ fault: Fault?) {
    self.fault = self.fault ?? fault
    count()
  }

  private func count() {
    left -= 1
    if left > 0 { return }
    if let fault { return done(.failure(fault)) }
    guard let reply = TokenLists.merge(replies, limit: limit) else {
      return done(.failure(Fault(.internal, "lists that do not go together")))
    }
    done(.success(reply))
  }
}
