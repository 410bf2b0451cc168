internal import Base
internal import Glibc
internal import Grpc
internal import Http
internal import Loop
internal import Report
import Testing
internal import Tls

@testable internal import Crypto

/// Certificates of a test, in a directory that goes with it.
private final class Certificates {
  let path = "/tmp/posthouse-links-\(UInt32.random(in: 0 ... .max))"
  static let epoch = Instant(nanoseconds: 1_800_000_000 * 1_000_000_000)
  let authority: ClusterAuthority

  init(cluster: String = "test") throws {
    mkdir(path, 0o700)
    authority = try ClusterAuthority.make(
      cluster: cluster, days: 9_000, at: Certificates.day(-1_000))
  }
  deinit { system("rm -rf \(path)") }

  static func day(_ day: Int64) -> Instant { epoch + .seconds(day * 86_400) }

  func write(_ made: CertifiedKey, _ name: String) throws -> ClusterTlsContext.Files {
    let directory = "\(path)/\(name)"
    mkdir(directory, 0o700)
    let files = ClusterTlsContext.Files(directory: directory)
    try PrivateFile.write(files.authority, authority.own.certificatePem)
    try PrivateFile.write(files.certificate, made.certificatePem)
    try PrivateFile.write(files.key, made.keyPem)
    return files
  }

  /// Holds from `from` on for `days`.
  func node(_ id: UInt64, _ name: String, from: Int64 = -900, days: Int = 5_000) throws
    -> ClusterTlsContext.Files
  {
    try write(
      try authority.issue(node: NodeID(id), name: name, days: days, at: Certificates.day(from)),
      name)
  }
}

private final class Refusals: Sendable {
  let list = Lock<[LinkRefusal]>([])
  func add(_ refusal: LinkRefusal) { list.withLock { $0.append(refusal) } }
}

/// Says to the test who answered.
private final class Witness: GrpcClientHandler, Sendable {
  struct Seen {
    var node: NodeIdentity?
    var answer: [UInt8] = []
    var status: GrpcStatus?
  }
  let seen = Lock(Seen())
  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcClientCall) {
    let node = call.peerNode
    let copy = Array(bytes)
    seen.withLock {
      $0.node = node
      $0.answer = copy
    }
  }
  func receiveStatus(_ status: GrpcStatus, _ message: String, on call: GrpcClientCall) {
    seen.withLock { $0.status = status }
  }
}

private func failure(_ body: () throws(GrpcError) -> Void) -> GrpcError? {
  do throws(GrpcError) {
    try body()
    return nil
  } catch {
    return error
  }
}

/// What a peer shows that is to be refused, and how the refusal reads.
struct Impostor: Sendable, CustomTestStringConvertible {
  enum Shows: Sendable { case nothing, old, early, stranger, foreign, nameless, authority, garbage }
  let shows: Shows
  let reason: LinkRefusal.Reason
  let text: String
  var testDescription: String { "\(shows)" }

  static let all = [
    Impostor(shows: .old, reason: .expired, text: "the certificate of old expired on 20"),
    Impostor(shows: .early, reason: .notYetValid, text: "early does not hold yet before 20"),
    Impostor(
      shows: .stranger, reason: .otherAuthority, text: "n9 is signed by test, which is not this"),
    Impostor(
      shows: .foreign, reason: .otherCluster,
      text: "the peer is n9 (0000000000000009) of elsewhere, this is cluster test"),
    Impostor(shows: .nameless, reason: .noNode, text: "n9 does not name one node of a cluster"),
    Impostor(shows: .garbage, reason: .noNode, text: "the certificate of a?b?[31mc does not name"),
    Impostor(shows: .authority, reason: .badCertificate, text: "the certificate of test cannot be"),
  ]

  fileprivate func files(_ c: Certificates) throws -> TlsFiles? {
    let made: CertifiedKey
    let issued = Certificates.day(0)
    switch shows {
    case .nothing: return nil
    case .old:
      made = try c.authority.issue(node: NodeID(9), name: "old", days: 5, at: Certificates.day(-10))
    case .early:
      made = try c.authority.issue(node: NodeID(9), name: "early", at: Certificates.day(2))
    case .stranger:
      made = try ClusterAuthority.make(cluster: "test", at: issued).issue(
        node: NodeID(9), name: "n9", at: issued)
    case .foreign:
      made = try c.authority.sign(
        name: "n9", uri: "posthouse://elsewhere/node/0000000000000009", hosts: [], days: 5,
        at: issued)
    case .nameless:
      made = try c.authority.sign(
        name: "n9", uri: nil, hosts: ["n9.example.org"], days: 5, at: issued)
    case .garbage:
      made = try c.authority.sign(
        name: "a\nb\u{1b}[31mc", uri: "posthouse://test/node/0000000000000000", hosts: [], days: 5,
        at: issued)
    case .authority: made = c.authority.own
    }
    let files = try c.write(made, "impostor")
    return TlsFiles(certificate: files.certificate, key: files.key)
  }
}

@Suite("TLS between nodes", .timeLimit(.minutes(2))) struct ClusterTlsTests {
  private let now = Certificates.day(1)

  private func context(_ files: ClusterTlsContext.Files, _ refusals: Refusals = Refusals()) throws
    -> ClusterTlsContext
  {
    try ClusterTlsContext(files, verifyingAt: now) { refusals.add($0) }
  }

  private func serve(_ context: ClusterTlsContext) throws -> (Rig, Listener) {
    let rig = try Rig()
    rig.server.registerUnary("/t.T/Who") { call, _, reply in
      reply(.success(Array((call.peerNode?.description ?? "nobody").utf8)))
    }
    let listener = try rig.server.listen(
      .tcp(host: "127.0.0.1", port: 0), tls: { context.makeServerWire() })
    return (rig, listener)
  }

  @Test("a call crosses, and each side knows the other by its certificate") func identity() throws {
    let c = try Certificates()
    let server = try context(try c.node(1, "n1"))
    let client = try context(try c.node(2, "n2"))
    #expect(server.own.node == NodeID(1) && server.own.cluster == "test")
    let (rig, listener) = try serve(server)
    let blocking = try GrpcBlockingClient(listener.endpoint, tls: { _ in client.makeClientWire() })
    #expect(
      String(decoding: try blocking.unary("/t.T/Who", [1]), as: UTF8.self)
        == "n2 (0000000000000002) of test")
    let body = [UInt8](repeating: 7, count: 300_000)
    #expect(try blocking.unary("/t.T/Reverse", body) == body)
    // More than the sockets hold: records wait until they take more.
    let large = (0..<(Limits.messageBytes - 1_000)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    for _ in 0..<4 { #expect(try blocking.unary("/t.T/Reverse", large) == large.reversed()) }

    let witness = Witness()
    let loop = rig.loops[0]
    let caller = GrpcClient(
      loop: loop, endpoint: listener.endpoint,
      tls: { _ in client.makeClientWire(expecting: NodeID(1)) })
    loop.post {
      let call = caller.call("/t.T/Reverse", witness)
      #expect(call.peerNode == nil, "nothing is known before the handshake")
      call.send(framed([1, 2]))
      call.halfClose()
    }
    #expect(poll { witness.seen.withLock { $0.status } == .ok })
    let seen = witness.seen.withLock { $0 }
    #expect(seen.answer == [2, 1])
    #expect(seen.node == server.own, "serial and dates, too")
    #expect(seen.node?.name == "n1" && seen.node?.serial.count == 32)
    #expect(seen.node?.notAfter == Certificates.day(4_100))
    for side in [server, client] { #expect(side.refusals.allSatisfy { $0.count == 0 }) }
    loop.post { caller.close() }
  }

  @Test(
    "who calls with another certificate is refused, told, counted",
    arguments: Impostor.all + [
      Impostor(shows: .nothing, reason: .noCertificate, text: "the peer shows no certificate")
    ])
  func refusedClient(_ impostor: Impostor) throws {
    let c = try Certificates()
    let refusals = Refusals()
    let server = try context(try c.node(1, "n1"), refusals)
    let (rig, listener) = try serve(server)
    defer { withExtendedLifetime(rig) {} }
    let rogue = try TlsClientContext(
      TlsTrust(verifies: false, identity: try impostor.files(c)), protocols: [.h2])
    let client = try GrpcBlockingClient(
      listener.endpoint, tls: { _ in rogue.makeWire(serverName: "localhost") })
    let error = failure { () throws(GrpcError) in _ = try client.unary("/t.T/Who", [1]) }
    #expect(error?.status == .unavailable)
    #expect(
      error?.message.contains("alert") == true, "the caller hears why: \(error?.message ?? "")")
    try expect(server, refusals, impostor)
    // Others are served as before.
    let good = try context(try c.node(2, "n2"))
    let other = try GrpcBlockingClient(listener.endpoint, tls: { _ in good.makeClientWire() })
    #expect(try other.unary("/t.T/Reverse", [1]) == [1])
  }

  @Test("who answers with another certificate is refused, told, counted", arguments: Impostor.all)
  func refusedServer(_ impostor: Impostor) throws {
    let c = try Certificates()
    let refusals = Refusals()
    let rig = try Rig()
    let rogue = try TlsServerContext(try #require(try impostor.files(c)), protocols: [.h2])
    let listener = try rig.server.listen(
      .tcp(host: "127.0.0.1", port: 0), tls: { rogue.makeWire() })
    let caller = try context(try c.node(1, "n1"), refusals)
    let client = try GrpcBlockingClient(listener.endpoint, tls: { _ in caller.makeClientWire() })
    let error = failure { () throws(GrpcError) in _ = try client.unary("/t.T/Reverse", [1]) }
    #expect(error?.status == .unavailable && error?.message.contains(impostor.text) == true)
    try expect(caller, refusals, impostor)
  }

  private func expect(_ side: ClusterTlsContext, _ refusals: Refusals, _ impostor: Impostor) throws
  {
    #expect(poll { side.count(of: impostor.reason) == 1 })
    #expect(side.refusals.reduce(0) { $0 + $1.count } == 1)
    let told = refusals.list.withLock { $0 }
    let refusal = try #require(told.first)
    #expect(told.count == 1 && refusal.reason == impostor.reason && refusal.peer.isLoopback)
    #expect(refusal.description.contains(impostor.text), "\(refusal.description)")
    #expect(refusal.description.utf8.allSatisfy { (0x20...0x7e).contains($0) }, "one line")
    #expect(refusal.description.utf8.count < 300)
  }

  @Test("a refused node of ours hears why from the peer's alert") func alert() throws {
    let c = try Certificates()
    let server = try context(try c.node(1, "n1"))
    let (rig, listener) = try serve(server)
    defer { withExtendedLifetime(rig) {} }
    // Its own clock is behind: it believes itself.
    let heard = Refusals()
    let late = try ClusterTlsContext(
      try c.node(2, "n2", from: -10, days: 5), verifyingAt: Certificates.day(-6)
    ) { heard.add($0) }
    let client = try GrpcBlockingClient(listener.endpoint, tls: { _ in late.makeClientWire() })
    let error = failure { () throws(GrpcError) in _ = try client.unary("/t.T/Who", [1]) }
    #expect(
      error?.message
        == "TLS: the peer refused this node: this node's certificate has expired, by its clock")
    // The alert leaves before who sends it has counted.
    #expect(poll { server.count(of: .expired) == 1 })
    #expect(poll { late.count(of: .refusedByPeer) == 1 })
    #expect(poll { !heard.list.withLock(\.isEmpty) })
    #expect(heard.list.withLock { $0.map(\.reason) } == [.refusedByPeer])
  }

  @Test("another node than the one called is refused, and a copy of the certificate does not help")
  func otherNode() throws {
    let c = try Certificates()
    let server = try context(try c.node(1, "n1"))
    let (rig, listener) = try serve(server)
    defer { withExtendedLifetime(rig) {} }
    let caller = try context(try c.node(2, "n2"))
    let client = try GrpcBlockingClient(
      listener.endpoint, tls: { _ in caller.makeClientWire(expecting: NodeID(3)) })
    let error = failure { () throws(GrpcError) in _ = try client.unary("/t.T/Who", [1]) }
    #expect(error?.message.contains("called was node 0000000000000003") == true)
    #expect(caller.count(of: .otherNode) == 1)
    #expect(poll { server.count(of: .refusedByPeer) == 1 })
    // The certificate is public; without its key nobody is the node.
    let mixed = try c.node(4, "n4")
    #expect(throws: TlsError.self) {
      _ = try context(
        ClusterTlsContext.Files(
          authority: mixed.authority, certificate: "\(c.path)/n1/node.pem", key: mixed.key))
    }
  }

  @Test(
    "what is no h2 over TLS 1.3 is refused",
    arguments: [("none", [ApplicationProtocol]()), ("http/1.1", [.http11]), ("clear", [.h2])])
  func otherProtocol(_ name: String, _ offered: [ApplicationProtocol]) throws {
    let c = try Certificates()
    let refusals = Refusals()
    let server = try context(try c.node(1, "n1"), refusals)
    let (rig, listener) = try serve(server)
    defer { withExtendedLifetime(rig) {} }
    let files = try c.node(2, "n2")
    let plain = try TlsClientContext(
      TlsTrust(
        verifies: false, identity: TlsFiles(certificate: files.certificate, key: files.key)),
      protocols: offered)
    let wire: @Sendable (String) -> Wire? = { _ in plain.makeWire(serverName: "localhost") }
    let client = try GrpcBlockingClient(listener.endpoint, tls: name == "clear" ? nil : wire)
    #expect(throws: GrpcError.self) {
      _ = try client.unary("/t.T/Who", [1], timeout: .seconds(5))
    }
    #expect(poll { server.count(of: .otherProtocol) == 1 }, "\(server.refusals)")
    #expect(refusals.list.withLock { $0.count } == 1)
  }

  @Test(
    "an older TLS is refused, and no ticket is given",
    .enabled(if: access("/usr/bin/openssl", X_OK) == 0, "needs the program openssl"))
  func versions() throws {
    let c = try Certificates()
    let server = try context(try c.node(1, "n1"))
    let (rig, listener) = try serve(server)
    defer { withExtendedLifetime(rig) {} }
    let files = try c.node(2, "n2")
    func talk(_ options: String, seconds: Int) throws -> String {
      let out = "\(c.path)/talk"
      system(
        "timeout \(seconds) openssl s_client -connect 127.0.0.1:\(listener.port) -alpn h2 -msg -cert "
          + "\(files.certificate) -key \(files.key) \(options) -ign_eof </dev/null >\(out) 2>&1")
      chmod(out, 0o600)
      return String(
        decoding: try #require(try PrivateFile.read(out, limit: 1 << 20)), as: UTF8.self)
    }
    let old = try talk("-tls1_2", seconds: 5)
    #expect(old.contains("alert protocol version"), "\(old)")
    #expect(poll { server.count(of: .otherProtocol) == 1 })
    let good = try talk("-tls1_3", seconds: 1)
    #expect(good.contains("ALPN protocol: h2") && good.contains("Finished"), "\(good)")
    #expect(!good.contains("NewSessionTicket"))
    #expect(server.refusals.reduce(0) { $0 + $1.count } == 1)
  }

  @Test("certificates are read again for the next handshakes; what is wrong is not taken")
  func reload() throws {
    let c = try Certificates()
    let files = try c.node(1, "n1")
    let server = try context(files)
    let (rig, listener) = try serve(server)
    defer { withExtendedLifetime(rig) {} }
    let client = try context(try c.node(2, "n2"))
    func call() throws -> [UInt8] {
      try GrpcBlockingClient(listener.endpoint, tls: { _ in client.makeClientWire() })
        .unary("/t.T/Reverse", [1])
    }
    let open = try GrpcBlockingClient(listener.endpoint, tls: { _ in client.makeClientWire() })
    #expect(try open.unary("/t.T/Reverse", [1]) == [1])
    let first = server.own
    _ = try c.node(1, "n1")
    try server.reload()
    #expect(server.own.serial != first.serial && server.own.node == first.node)
    #expect(try open.unary("/t.T/Reverse", [2]) == [2], "the open connection goes on")
    #expect(try call() == [1])

    let taken = server.own
    // Another node's, one that has expired, one of nobody, a broken file: each is refused by itself.
    for made in [
      try c.authority.issue(node: NodeID(5), name: "n5", days: 90, at: Certificates.day(0)),
      try c.authority.issue(node: NodeID(1), name: "n1", days: 5, at: Certificates.day(-10)),
      try c.authority.sign(name: "n1", uri: nil, hosts: ["a"], days: 9, at: Certificates.day(0)),
      try ClusterAuthority.make(cluster: "test", at: Certificates.day(0)).issue(
        node: NodeID(1), name: "n1", at: Certificates.day(0)),
    ] {
      _ = try c.write(made, "n1")
      #expect(throws: TlsError.self) { try server.reload() }
    }
    try PrivateFile.write(files.certificate, Array("broken\n".utf8))
    #expect(throws: TlsError.self) { try server.reload() }
    #expect(server.own == taken)
    #expect(try call() == [1])
  }

  @Test("two authorities in the file: nodes of the old and of the new one meet") func rotation()
    throws
  {
    let c = try Certificates()
    let next = try Certificates()
    let both = c.authority.own.certificatePem + next.authority.own.certificatePem
    let old = try c.node(1, "n1")
    let new = try next.node(2, "n2")
    try PrivateFile.write(old.authority, both)
    try PrivateFile.write(new.authority, both)
    let server = try context(old)
    let (rig, listener) = try serve(server)
    defer { withExtendedLifetime(rig) {} }
    let client = try context(new)
    let caller = try GrpcBlockingClient(listener.endpoint, tls: { _ in client.makeClientWire() })
    #expect(
      String(decoding: try caller.unary("/t.T/Who", [1]), as: UTF8.self)
        == "n2 (0000000000000002) of test")
  }
}
