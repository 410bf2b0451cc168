internal import Base
internal import Foundation
internal import Grpc
internal import Loop
internal import Report
internal import Testing

@Suite("Listening sockets", .timeLimit(.minutes(1))) struct ListenSocketTests {
  private func socketPath() -> String {
    FileManager.default.temporaryDirectory.path + "/ph-\(UUID().uuidString.prefix(8)).sock"
  }

  /// Offers sockets to whoever says hello.
  private final class Giver: ConnectionDriver {
    private let sockets: [ListenSocket]
    private let closed: Lock<Bool>
    init(_ sockets: [ListenSocket], _ closed: Lock<Bool>) {
      self.sockets = sockets
      self.closed = closed
    }
    override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
      #expect(connection.sendNow("here they are\n", with: sockets))
    }
    override func receiveClosed(_ reason: String) { closed.withLock { $0 = true } }
  }

  @Test("a socket goes to another holder, who serves what waits in its backlog; nothing is refused")
  func passing() throws {
    let (old, new) = (try Rig(), try Rig(loops: 2))
    let first = old.server.listen(try ListenSocket(.tcp(host: "127.0.0.1", port: 0)))
    let second = old.server.listen(try ListenSocket(.tcp(host: "127.0.0.1", port: 0)))
    let path = socketPath()
    let gone = Lock(false)
    let admin = old.server.listen(
      try ListenSocket(.unix(path: path)),
      aside: GrpcServer.Aside(firstByte: UInt8(ascii: "h")) {
        Giver([first.socket, second.socket], gone)
      })
    let received: [ListenSocket]
    do {
      let line = try DescriptorLine(connectingTo: path)
      try line.send("hello")
      let answer = try #require(try line.receive(within: .seconds(5)))
      #expect(answer.line == "here they are")
      received = answer.sockets
    }
    #expect(received.map(\.endpoint) == [first.endpoint, second.endpoint])
    #expect(old.eventually { gone.withLock { $0 } })
    // The same listener still speaks HTTP/2.
    let operators = try GrpcBlockingClient(admin.endpoint)
    #expect(try operators.unary("/t.T/Reverse", [1, 2]) == [2, 1])
    old.server.closeListeners()
    #expect(old.eventually { first.socket.isClosed && second.socket.isClosed })

    // Connected and asked before anybody accepts.
    let clients = try received.map { try GrpcBlockingClient($0.endpoint) }
    let calls = clients.map { $0.serverStream("/t.T/Reverse", [1, 2, 3], timeout: .seconds(10)) }
    for socket in received { new.server.listen(socket) }
    for call in calls { #expect(try call.next() == [3, 2, 1]) }
  }

  @Test("a closed listener's loop rests although another holder has connections waiting")
  func rest() throws {
    let rig = try Rig()
    let listener = rig.server.listen(try ListenSocket(.tcp(host: "127.0.0.1", port: 0)))
    let path = socketPath()
    rig.server.listen(
      try ListenSocket(.unix(path: path)),
      aside: GrpcServer.Aside(firstByte: UInt8(ascii: "h")) {
        Giver([listener.socket], Lock(false))
      })
    let line = try DescriptorLine(connectingTo: path)
    try line.send("hello")
    let held = try #require(try line.receive(within: .seconds(5)))
    listener.close()
    #expect(rig.eventually { listener.socket.isClosed })
    let waiting = try DescriptorLine(connectingTo: path)
    let client = try GrpcBlockingClient(listener.endpoint)
    let call = client.serverStream("/t.T/Reverse", [1], timeout: .seconds(30))
    // A loop that still hears of the socket turns as fast as it can. This one turns for us only.
    let turns = Lock(0)
    _ = rig.loops[0].call { rig.loops[0].onTurnEnd = { turns.withLock { $0 += 1 } } }
    for _ in 0..<10 {
      _ = Handoff<Void>().take(timeout: .milliseconds(10))
      _ = rig.loops[0].call { true }
    }
    #expect(turns.withLock { $0 } < 100)
    call.cancel()
    withExtendedLifetime((held, waiting)) {}
  }

  @Test("what is no listening TCP socket is not taken for one")
  func adoption() throws {
    for number in [open("/dev/null", O_RDONLY), socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)] {
      #expect(throws: SocketError.self) { try ListenSocket(adopting: number) }
    }
    #expect(throws: SocketError.self) { try ListenSocket(adopting: 4_000) }
  }

  @Test(
    "a socket is compared with an address by what both mean",
    arguments: [
      ("127.0.0.1", true), ("localhost", true), ("127.0.0.2", false), ("0.0.0.0", false),
      ("::1", false), ("nonsense", false),
    ])
  func bound(_ host: String, _ same: Bool) throws {
    let socket = try ListenSocket(.tcp(host: "127.0.0.1", port: 0))
    guard case .tcp(_, let port) = socket.endpoint else { return }
    #expect(socket.isBound(to: .tcp(host: host, port: port)) == same)
    #expect(socket.isBound(to: .tcp(host: host, port: 0)) == same)
    #expect(!socket.isBound(to: .tcp(host: host, port: port ^ 1)))
  }

  @Test("a Unix socket takes another's place without a gap, and the first leaves it alone")
  func replacing() throws {
    let (old, new) = (try Rig(), try Rig())
    let path = socketPath()
    let first = old.server.listen(try ListenSocket(.unix(path: path)))
    #expect(throws: SocketError.self) { try ListenSocket(.unix(path: path)) }
    let second = try ListenSocket(.unix(path: path), replacing: true)
    first.leavePath()
    first.close()
    #expect(old.eventually { first.socket.isClosed })
    let client = try GrpcBlockingClient(.unix(path: path))
    let call = client.serverStream("/t.T/Reverse", [1, 2], timeout: .seconds(10))
    new.server.listen(second)
    #expect(try call.next() == [2, 1])
    new.server.closeListeners()
    #expect(new.eventually { access(path, F_OK) != 0 })
  }

  @Test("sockets from a supervisor: only for the process they are meant for, and only so many")
  func supervisor() throws {
    #expect(try inheritedSockets(environment: [:]).isEmpty)
    #expect(
      try inheritedSockets(environment: ["LISTEN_PID": "1", "LISTEN_FDS": "1"]).isEmpty)
    for count in ["99", "-1", "x", ""] {
      #expect(throws: SocketError.self) {
        try inheritedSockets(environment: ["LISTEN_PID": "\(getpid())", "LISTEN_FDS": count])
      }
    }
  }
}
