import Base
import Codec
import Crypto
import Digest
import FoundationEssentials
import Grpc
import Loop
import Messages
import Report
import Ring
import Settings
import Store
import Testing
import Token

@testable import Relay

/// Three nodes of one cluster in this process, which want tokens of agents.
private final class TokenCluster: @unchecked Sendable {
  private let folder: TestFolder
  private let authority: ClusterAuthority
  private var seeds: [String] = []
  private(set) var nodes: [NodeHost] = []

  init(_ count: Int = 3) throws {
    folder = try TestFolder()
    authority = try ClusterAuthority.make(
      cluster: "test", days: 100, at: Timestamp.now() + .seconds(-86_400))
    for number in 1...count { try start(UInt64(number)) }
    try settle()
  }

  func start(_ number: UInt64) throws {
    let certs = "\(folder.path)/certs-\(number)"
    if !FileManager.default.fileExists(atPath: certs) {
      let made = try authority.issue(
        node: NodeID(number), name: "n\(number)", days: 30, at: Timestamp.now())
      try FileManager.default.createDirectory(atPath: certs, withIntermediateDirectories: true)
      try PrivateFile.write("\(certs)/ca.pem", authority.own.certificatePem)
      try PrivateFile.write("\(certs)/node.pem", made.certificatePem)
      try PrivateFile.write("\(certs)/node.key", made.keyPem)
    }
    var words = [
      "--data", "\(folder.path)/n\(number)", "--node-name", "n\(number)", "--grpc", "127.0.0.1:0",
      "--http", "127.0.0.1:0", "--registry", "off", "--cluster", "127.0.0.1:0", "--cert-dir",
      certs, "--zone", "z\(number)", "--set", "loops=2", "--set", "cluster.profile=local",
    ]
    if !seeds.isEmpty { words += ["--seeds", seeds.joined(separator: ",")] }
    guard case .run(let settings, _) = try NodeStart.read(arguments: words, environment: [:])
    else { throw Fault(.internal) }
    let end = Timestamp.now() + .seconds(30)
    let node = try NodeHost(
      settings: settings, log: .silent, goOnWaiting: { Timestamp.now() < end })
    if seeds.isEmpty { seeds = [node.addresses.cluster] }
    nodes.append(node)
  }

  /// One map, nothing moves, one set of keys.
  func settle() throws {
    try awaitThat {
      let maps = nodes.compactMap { $0.cluster?.map.value }
      return Set(maps).count == 1 && maps[0].movingSlots.isEmpty
        && maps[0].nodes.count >= nodes.count
        && nodes.allSatisfy { maps[0].load(of: $0.cluster!.own).owned > 0 }
        && Set(nodes.map { $0.signing.value.current.kid }).count == 1
        && nodes.allSatisfy { $0.signing.value.edition > 0 }
    }
  }

  func stop(_ place: Int) { nodes.remove(at: place).drain() }
  func end() { for node in nodes { node.drain() } }

  /// Where the node is that has a tenant.
  func place(of org: String) -> Int {
    let owner = nodes[0].cluster!.owner(of: TenantID(org: org).slot)
    return nodes.firstIndex { $0.cluster!.own == owner } ?? -1
  }

  /// An org that this node has.
  func org(at place: Int, _ prefix: String) -> String {
    (0...).lazy.map { "\(prefix)\($0)" }.first { self.place(of: $0) == place }!
  }

  /// A channel of the org that this node has.
  func channel(at place: Int, of org: String) throws -> String {
    for number in 0..<10_000 {
      let name = "\(org)/team/room\(number)"
      let id = ChannelID(family: .skytale, name: name)
      if nodes[0].cluster!.owner(of: id.slot) == nodes[place].cluster!.own { return name }
    }
    throw Fault(.internal)
  }

  func ask(
    _ place: Int, _ caller: TokenCaller, _ action: TokenAction
  ) -> Result<TokenReply, Fault> {
    let answer = Lock<Result<TokenReply, Fault>?>(nil)
    let signal = Signal()
    let node = nodes[place]
    // From another loop, as streams do it.
    node.authority.submit(TokenRequest(caller, action), from: node.loops[1]) { result in
      answer.withLock { $0 = result }
      signal.raise()
    }
    signal.wait()
    return answer.withLock { $0! }
  }

  /// Runs it on the loop that has the accounts.
  @discardableResult
  func on<Value: Sendable>(
    _ place: Int, _ work: @escaping @Sendable (ClusterTokens) -> Value
  ) -> Value {
    let answer = Lock<Value?>(nil)
    let signal = Signal()
    let node = nodes[place]
    node.loops[0].post {
      let value = work(node.authority.cluster!)
      answer.withLock { $0 = value }
      signal.raise()
    }
    signal.wait()
    return answer.withLock { $0! }
  }

  func admin(_ place: Int, _ action: TokenAction) throws -> TokenReply {
    try ask(place, .admin(actor: "test"), action).get()
  }

  func bearer(_ place: Int, _ key: String, _ action: TokenAction) throws -> TokenReply {
    try ask(place, .bearer(key, peer: "10.0.0.9"), action).get()
  }

  func fault(_ place: Int, _ key: String, _ action: TokenAction) -> FaultCode? {
    guard case .failure(let fault) = ask(place, .bearer(key, peer: "10.0.0.9"), action) else {
      return nil
    }
    return fault.code
  }

  func tenant(_ place: Int, _ org: String) throws -> String {
    guard
      case .tenantCreated(_, _, let key?) = try admin(
        place, .createTenant(org: org, withKey: true))
    else { throw Fault(.internal) }
    return key
  }

  func jwt(_ place: Int, _ key: String) throws -> String {
    guard
      case .token(let text, _, _) = try bearer(place, key, .issueToken(ttlSeconds: nil, scope: nil))
    else { throw Fault(.internal) }
    return text
  }

  /// A stream that has published one message.
  func stream(
    _ place: Int, _ jwt: String, _ channel: String
  ) throws -> (GrpcBlockingClient, GrpcBlockingStream) {
    let client = try GrpcBlockingClient(
      try #require(Endpoint(nodes[place].addresses.grpc)),
      metadata: [("authorization", "Bearer \(jwt)")])
    let stream = client.bidi(ChannelService.publish.path)
    var request = PublishRequest()
    request.channel = channel
    request.payload = [1, 2, 3]
    stream.send(request)
    _ = try #require(try stream.next(PublishResponse.self, timeout: .seconds(10)))
    return (client, stream)
  }

  /// A stream that has read one message and waits for more.
  func reader(
    _ place: Int, _ jwt: String, _ channel: String
  ) throws -> (GrpcBlockingClient, GrpcBlockingStream) {
    let client = try GrpcBlockingClient(
      try #require(Endpoint(nodes[place].addresses.grpc)),
      metadata: [("authorization", "Bearer \(jwt)")])
    var request = ReadRequest()
    request.channel = channel
    request.follow = true
    let stream = client.serverStream(ChannelService.read.path, request.encoded())
    _ = try #require(try stream.next(ReadResponse.self, timeout: .seconds(10)))
    return (client, stream)
  }

  /// How a stream that must end within five seconds ended.
  func end(of stream: GrpcBlockingStream) -> GrpcStatus? {
    let end = Timestamp.now() + .seconds(5)
    while Timestamp.now() < end {
      do {
        if try stream.next(timeout: .seconds(5)) == nil { return .ok }
      } catch {
        return error.status == .deadlineExceeded ? nil : error.status
      }
    }
    return nil
  }
}

@Suite("Tokens in a cluster", .timeLimit(.minutes(5)), .serialized)
struct ClusterTokenTests {
  @Test("Whichever nodes are asked: an account, its key, a JWT, a stream; lists hold all tenants")
  func anywhere() throws {
    let cluster = try TokenCluster()
    defer { cluster.end() }
    var orgs: [String] = []
    for place in 0..<3 {
      let org = cluster.org(at: place, "acme")
      orgs.append(org)
      let (b, c) = ((place + 1) % 3, (place + 2) % 3)
      // Made where it is, one further, two further.
      let first = try cluster.tenant(place == 1 ? b : place, org)
      guard
        case .keyCreated(_, let key) = try cluster.bearer(
          b, first, .createKey(org: nil, label: "second", scopes: [], ttlSeconds: nil))
      else { throw Fault(.internal) }
      let token = try cluster.jwt(c, key)
      for other in 0..<3 {
        guard
          case .principal(let principal, _) = try cluster.bearer(other, token, .authenticate)
        else { throw Fault(.internal) }
        #expect(principal.org == org)
        let (client, stream) = try cluster.stream(other, token, "\(org)/team/general")
        stream.halfClose()
        #expect(try stream.next(timeout: .seconds(10)) == nil)
        client.close()
      }
      #expect(cluster.fault(c, key, .account(org: nil)) == nil)
      #expect(cluster.fault(c, key, .suspendTenant(org: org)) == .forbidden)
      #expect(cluster.fault(b, key.dropLast(3) + "aaa", .account(org: nil)) == .unauthorized)
      #expect(cluster.fault(b, "nonsense", .account(org: nil)) == .unauthorized)
    }
    for place in 0..<3 {
      var seen: [String] = []
      var after = ""
      repeat {
        guard
          case .tenants(let list, let next) = try cluster.admin(
            place, .listTenants(after: after, limit: 2))
        else { throw Fault(.internal) }
        seen += list.map(\.org)
        after = next
      } while !after.isEmpty
      #expect(seen == orgs.sorted())
    }
    // What was published on other nodes is counted at the tenant's.
    for org in orgs {
      try awaitThat(10) {
        guard case .account(let view, _) = try cluster.admin(0, .account(org: org)) else {
          return false
        }
        #expect(view.today.messages <= 3)
        return view.today.messages == 3 && view.today.bytes >= 9
      }
    }
  }

  @Test("Invites and joins of tenants on different nodes; a grant that is taken back ends streams")
  func joins() throws {
    let cluster = try TokenCluster()
    defer { cluster.end() }
    let (owner, joiner) = (cluster.org(at: 0, "own"), cluster.org(at: 1, "join"))
    let ownerKey = try cluster.tenant(2, owner)
    let joinerKey = try cluster.tenant(2, joiner)
    let channel = "\(owner)/team/general"
    guard
      case .inviteCreated(_, let invite) = try cluster.bearer(
        1, ownerKey, .createInvite(channel: channel, maxUses: 1, ttlSeconds: 60)),
      case .joinRequested(let id) = try cluster.bearer(
        2, joinerKey,
        .join(channel: channel, token: invite, keyPackage: [0, 1, 0, 5, 9], identity: "bob"))
    else { throw Fault(.internal) }
    let join = TokenAction.join(
      channel: channel, token: invite, keyPackage: [0, 1, 0, 5, 9], identity: "bob")
    #expect(cluster.fault(1, joinerKey, join) == .notFound, "used up")
    guard case .pending(let list) = try cluster.bearer(2, ownerKey, .pending(channel: channel))
    else { throw Fault(.internal) }
    #expect(list.map(\.id) == [id] && list.first?.identity == "bob")
    guard
      case .welcome(_, .pending, []) = try cluster.bearer(0, joinerKey, .getWelcome(request: id))
    else { throw Fault(.internal) }
    _ = try cluster.bearer(1, ownerKey, .putWelcome(request: id, welcome: [7, 7]))
    guard
      case .welcome(_, .completed, let welcome) = try cluster.bearer(
        2, joinerKey, .getWelcome(request: id))
    else { throw Fault(.internal) }
    #expect(welcome == [7, 7])
    for place in 0..<3 {
      guard
        case .channels(let list, _) = try cluster.bearer(
          place, joinerKey, .listChannels(prefix: "", after: "", limit: 10))
      else { throw Fault(.internal) }
      #expect(list.map(\.name) == [channel])
    }
    // The reply came when all nodes knew of the grant: its streams may be anywhere at once.
    let streams = try (0..<3).map {
      try cluster.stream($0, try cluster.jwt($0, joinerKey), channel)
    }
    let readers = try (0..<3).map {
      try cluster.reader($0, try cluster.jwt($0, joinerKey), channel)
    }
    _ = try cluster.bearer(2, ownerKey, .revokeGrant(channel: channel, org: joiner))
    for (place, stream) in streams.enumerated() {
      // A stream may carry several channels: its messages for this one are refused.
      var request = PublishRequest()
      request.channel = channel
      request.payload = [4]
      stream.1.send(request)
      let answer = try stream.1.next(PublishResponse.self, timeout: .seconds(5))
      #expect(answer?.refusal?.code == "forbidden", "at node \(place)")
    }
    for reader in readers { #expect(cluster.end(of: reader.1) == .permissionDenied) }
    #expect(cluster.fault(2, joinerKey, .getChannel(name: channel)) == .forbidden)
  }

  @Test("A key revoked on one node, a tenant suspended on another: their streams end everywhere")
  func revoked() throws {
    let cluster = try TokenCluster()
    defer { cluster.end() }
    for place in 0..<3 {
      let org = cluster.org(at: place, "rev")
      let key = try cluster.tenant(0, org)
      guard
        case .keyCreated(let view, let second) = try cluster.bearer(
          1, key, .createKey(org: nil, label: "", scopes: [], ttlSeconds: nil))
      else { throw Fault(.internal) }
      let (doomed, left) = (try cluster.jwt(2, second), try cluster.jwt(2, key))
      let channel = "\(org)/team/general"
      let streams = try (0..<3).map { try cluster.stream($0, doomed, channel) }
      let others = try (0..<3).map { try cluster.stream($0, left, channel) }
      _ = try cluster.bearer((place + 1) % 3, key, .revokeKey(id: view.id))
      for stream in streams { #expect(cluster.end(of: stream.1) == .unauthenticated) }
      for other in 0..<3 {
        #expect(cluster.fault(other, doomed, .authenticate) == .keyRevoked)
        let error = #expect(throws: GrpcError.self) {
          _ = try cluster.stream(other, doomed, channel)
        }
        #expect(error?.status == .unauthenticated)
      }
      _ = try cluster.admin((place + 2) % 3, .suspendTenant(org: org))
      for stream in others { #expect(cluster.end(of: stream.1) == .permissionDenied) }
      _ = try cluster.admin(place, .resumeTenant(org: org))
      for other in 0..<3 { _ = try cluster.stream(other, left, channel) }
    }
  }

  @Test("Accounts that move: nothing seems taken back on the way; what comes nowhere ends")
  func moving() throws {
    let cluster = try TokenCluster()
    defer { cluster.end() }
    let (owner, guest) = (cluster.org(at: 0, "own"), cluster.org(at: 1, "guest"))
    let ownerKey = try cluster.tenant(0, owner)
    let guestKey = try cluster.tenant(0, guest)
    let channel = try cluster.channel(at: 2, of: owner)
    // Whoever is asked: the owner's node, the guest's, or neither.
    for place in 0..<3 { _ = try cluster.admin(place, .grant(channel: channel, org: guest)) }
    guard
      case .failure(let nobody) = cluster.ask(
        1, .admin(actor: "a"), .grant(channel: channel, org: "nobody"))
    else { throw Fault(.internal) }
    #expect(nobody.code == .notFound)
    _ = try cluster.stream(0, try cluster.jwt(0, ownerKey), channel)
    let readers = try (0..<3).map { try cluster.reader($0, try cluster.jwt($0, guestKey), channel) }
    let tenant = TenantID(org: owner)
    let id = ChannelID(family: .skytale, name: channel)
    let grant = Notice.Subject.grant(id, TenantID(org: guest))
    let row = GrantRow.key(channel: id, tenant: TenantID(org: guest))

    func depart(_ place: Int) -> [Row] {
      cluster.on(place) { tokens in
        var rows: [Row] = []
        for range in TokenRows.ranges(tenant.slot) {
          try? unsafe tokens.node.store.scan(.tokens, from: range.from, to: range.to) {
            rows.append(unsafe Row(key: [UInt8]($0), value: [UInt8]($1)))
            return true
          }
        }
        tokens.authority.receiveDeparted([tenant.slot])
        return rows
      }
    }

    let rows = depart(0)
    #expect(!rows.isEmpty)
    cluster.on(1) { $0.authority.receiveArrived(rows) }
    #expect(cluster.on(1) { $0.authority.knows(tenant) && $0.board.own.stands(grant) })
    #expect(cluster.on(0) { !$0.authority.knows(tenant) && $0.board.own.stands(grant) })
    try awaitThat(10) { cluster.on(0) { !$0.board.own.stands(grant) } }
    // What is told travels in the order of the calls that follow it.
    for place in 0..<3 { _ = try cluster.bearer(place, guestKey, .account(org: nil)) }
    for (place, reader) in readers.enumerated() {
      #expect(cluster.on(place) { $0.board.stands(grant) })
      #expect(try cluster.nodes[place].store.get(.state, key: row) != nil, "at node \(place)")
      let error = #expect(throws: GrpcError.self) { try reader.1.next(timeout: .milliseconds(100)) }
      #expect(error?.status == .deadlineExceeded)
    }

    // The way back is lost.
    cluster.on(1) { $0.authority.receiveDeparted([tenant.slot]) }
    for reader in readers { #expect(cluster.end(of: reader.1) == .permissionDenied) }
    for place in 0..<3 {
      try awaitThat(5) { try cluster.nodes[place].store.get(.state, key: row) == nil }
    }
  }

  @Test("Without its node a tenant's calls are 503 with a clear text; the others' go on")
  func down() throws {
    let cluster = try TokenCluster()
    defer { cluster.end() }
    let (away, here) = (cluster.org(at: 2, "down"), cluster.org(at: 1, "here"))
    let (awayKey, hereKey) = (try cluster.tenant(0, away), try cluster.tenant(0, here))
    let token = try cluster.jwt(0, awayKey)
    let channel = try cluster.channel(at: 0, of: here)
    cluster.stop(2)
    guard
      case .failure(let fault) = cluster.ask(
        0, .bearer(awayKey, peer: "p"), .issueToken(ttlSeconds: nil, scope: nil))
    else { throw Fault(.internal) }
    #expect(fault.code == .unavailable && fault.code.http == 503)
    #expect(fault.detail == "node n3, which has this tenant, does not answer")
    _ = try cluster.stream(1, try cluster.jwt(0, hereKey), channel)
    #expect(cluster.fault(0, hereKey, .listChannels(prefix: "", after: "", limit: 9)) == nil)
    guard
      case .failure(let list) = cluster.ask(
        0, .admin(actor: "a"), .listTenants(after: "", limit: 9))
    else { throw Fault(.internal) }
    #expect(list.code == .unavailable)
    // A key that lived a moment ago still opens streams.
    let client = try GrpcBlockingClient(
      try #require(Endpoint(cluster.nodes[0].addresses.grpc)),
      metadata: [("authorization", "Bearer \(token)")])
    let stream = client.bidi(ChannelService.publish.path)
    #expect(throws: GrpcError.self) { try stream.next(timeout: .seconds(4)) }
    stream.halfClose()
    #expect(try stream.next(timeout: .seconds(5)) == nil)
    try cluster.start(3)
    try awaitThat { cluster.fault(0, awayKey, .account(org: nil)) == nil }
  }

  @Test("Signing keys change under load, and no token is refused by any node")
  func rotation() throws {
    let cluster = try TokenCluster()
    defer { cluster.end() }
    let key = try cluster.tenant(0, cluster.org(at: 1, "rot"))
    let before = cluster.nodes[0].signing.value.current.kid
    let done = Lock<Result<String, Fault>?>(nil)
    cluster.nodes[2].rotateSigningKey { result in done.withLock { $0 = result } }
    var tokens: [String] = []
    let end = Timestamp.now() + .seconds(20)
    while Timestamp.now() < end {
      let token = try cluster.jwt(tokens.count % 3, key)
      tokens.append(token)
      for place in 0..<3 { #expect(cluster.fault(place, token, .authenticate) == nil) }
      if done.withLock({ $0 != nil }), tokens.count > 30 { break }
    }
    let kid = try #require(done.withLock { $0 }).get()
    #expect(kid != before)
    try cluster.settle()
    for node in cluster.nodes {
      #expect(node.signing.value.current.kid == kid && node.signing.value.previous?.kid == before)
    }
    for place in 0..<3 { #expect(cluster.fault(place, tokens[0], .authenticate) == nil) }
  }
}
