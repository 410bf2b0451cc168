import Base
import Codec
import Glibc
import Grpc
import Loop
import Messages
import Report
import Settings
import Store
import Testing

@testable import Relay

/// Real nodes in this process, one after another on one data directory and the same sockets.
@Suite("A takeover", .timeLimit(.minutes(2)), .serialized)
struct TakeoverTests {
  /// A node, and a thread that drains it when it is asked to.
  final class Running {
    let host: NodeHost
    private let asked: Handoff<Void>
    private let ended = Handoff<Void>()

    init(_ settings: NodeSettings, _ inheritance: Inheritance = .none, drains: Bool = true) throws {
      let asked = Handoff<Void>()
      self.asked = asked
      let host = try NodeHost(
        settings: settings, log: .silent, inheritance: inheritance,
        askForDrain: { asked.put(()) })
      self.host = host
      guard drains else { return }
      let ended = ended
      _ = WorkerThread(named: "drainer") {
        if case .element = asked.take() { host.drain() }
        ended.put(())
      }
    }

    func hasEnded() -> Bool {
      if case .element = ended.take(timeout: .seconds(20)) { return true }
      return false
    }
    /// Ends it if nobody has.
    func end() {
      asked.put(())
      _ = hasEnded()
    }
  }

  private func settings(_ data: String, _ more: [String] = []) throws -> NodeSettings {
    let start = try NodeStart.read(
      arguments: ["--data", data, "--auth", "open", "--registry", "off"] + more,
      environment: ["POSTHOUSE_GRPC": "127.0.0.1:0", "POSTHOUSE_HTTP": "127.0.0.1:0"])
    guard case .run(let settings, _) = start else { throw Fault(.internal) }
    return settings
  }

  private func takeOver(_ settings: NodeSettings) throws -> Inheritance {
    try Inheritance.fromPredecessor(settings: settings, log: .silent)
  }

  private func request(_ number: UInt64) -> PublishRequest {
    var request = PublishRequest()
    request.channel = "acme/t/a"
    request.payload = Array("message \(number)".utf8)
    request.producerID = 9
    request.producerSequence = number
    return request
  }

  @Test(
    "The successor serves on the same addresses; streams end with OK, and nothing taken is lost")
  func handsOver() throws {
    let folder = try TestFolder()
    let settings = try settings(folder.path)
    let first = try Running(settings)
    let place = try #require(Endpoint(first.host.addresses.grpc))
    let old = try GrpcBlockingClient(place)
    let publisher = old.bidi(ChannelService.publish.path)
    for n in 1...100 { publisher.send(request(UInt64(n))) }
    _ = try publisher.next(PublishResponse.self, timeout: .seconds(20))
    var read = ReadRequest()
    read.channel = "acme/t/a"
    read.follow = true
    let reader = old.serverStream(ChannelService.read.path, read.encoded())
    #expect(try reader.next(ReadResponse.self, timeout: .seconds(20))?.sequence == 1)

    let inheritance = try takeOver(settings)
    // Before anybody accepts: it waits in the backlog.
    let new = try GrpcBlockingClient(place)
    let early = new.serverStream(
      AdminService.getStatus.path, AdminGetStatusRequest().encoded(), timeout: .seconds(20))
    let second = try Running(settings, inheritance)
    defer { second.end() }
    #expect(first.hasEnded())
    #expect(second.host.addresses.grpc == first.host.addresses.grpc)
    #expect(second.host.addresses.http == first.host.addresses.http)
    #expect(try early.next(AdminNodeStatus.self)?.ready == true)

    // nil is the end with OK; every request that was taken has its answer.
    var answers: [UInt64] = [1]
    while let answer = try publisher.next(PublishResponse.self, timeout: .seconds(20)) {
      answers.append(answer.sequence)
    }
    #expect(answers == Array(1...UInt64(answers.count)))
    var seen: UInt64 = 1
    while let message = try reader.next(ReadResponse.self, timeout: .seconds(20)) {
      #expect(message.sequence == seen + 1)
      seen = message.sequence
    }
    let again = new.bidi(ChannelService.publish.path)
    for n in 1...101 { again.send(request(UInt64(n))) }
    again.halfClose()
    var sequences: [UInt64] = []
    while let answer = try again.next(PublishResponse.self, timeout: .seconds(20)) {
      sequences.append(answer.sequence)
    }
    #expect(sequences == Array(1...101))
    // The admin socket is where it was.
    let status = try GrpcBlockingClient(.unix(path: settings.adminSocket)).unary(
      AdminService.getStatus, AdminGetStatusRequest(), AdminNodeStatus.self)
    #expect(status.ready)
  }

  @Test("A successor that goes away before it takes leaves the node serving")
  func goesAway() throws {
    let folder = try TestFolder()
    let settings = try settings(folder.path)
    let node = try Running(settings)
    defer { node.end() }
    do {
      let line = try DescriptorLine(connectingTo: settings.adminSocket)
      try line.send(TakeoverWords.hello)
      let answer = try #require(try line.receive(within: .seconds(5)))
      let offer = try #require(TakeoverOffer(line: answer.line))
      #expect(offer.sockets == ["grpc", "http"])
      #expect(offer.process == Int(getpid()))
      #expect(answer.sockets.count == 2)
    }
    let client = try GrpcBlockingClient(try #require(Endpoint(node.host.addresses.grpc)))
    let status = try client.unary(
      AdminService.getStatus, AdminGetStatusRequest(), AdminNodeStatus.self)
    #expect(status.ready && !status.draining)
  }

  @Test(
    "Strangers' lines end the connection and nothing else",
    arguments: ["take", "takeover 2", "t", "takeover 1 ", "t" + String(repeating: "x", count: 500)])
  func strangers(_ words: String) throws {
    let folder = try TestFolder()
    let settings = try settings(folder.path)
    let node = try Running(settings)
    defer { node.end() }
    let line = try DescriptorLine(connectingTo: settings.adminSocket)
    try line.send(words)
    // Closed, or reset.
    #expect((try? line.receive(within: .seconds(5))) == nil)
    #expect(!node.host.readiness.isDraining)
  }

  @Test("What does not fit is refused before the node lets go of anything")
  func refusals() throws {
    let folder = try TestFolder()
    let other = try TestFolder()
    let ours = try settings(folder.path)
    let node = try Running(ours)
    defer { node.end() }
    let socket = ["--admin-socket", ours.adminSocket]
    for (more, data, code) in [
      (["--grpc", "127.0.0.1:1"], folder.path, FaultCode.badSetting),
      (["--http", "off"], folder.path, .badSetting),
      ([], other.path, .badSetting),
      (
        ["--grpc-tls", "127.0.0.1:0", "--cert", "/none", "--key", "/none"], folder.path,
        .unavailable
      ),
    ] {
      let fault = #expect(throws: Fault.self) { try takeOver(settings(data, socket + more)) }
      #expect(fault?.code == code, "\(more)")
    }
    let nobody = #expect(throws: Fault.self) { try takeOver(settings(other.path)) }
    #expect(nobody?.code == .unreachable)
    #expect(!node.host.readiness.isDraining)
    #expect(node.host.readiness.reasons.isEmpty)
  }

  @Test(
    "One successor: a second one is refused, and one that waits too long says who holds the directory"
  )
  func notInTime() throws {
    let folder = try TestFolder()
    let settings = try settings(folder.path, ["--set", "takeover_wait=50ms"])
    let node = try Running(settings, drains: false)
    defer { node.host.drain() }
    let inheritance = try takeOver(settings)
    let fault = #expect(throws: Fault.self) { try Running(settings, inheritance) }
    #expect(fault?.code == .conflict)
    #expect(fault?.description.contains("pid \(getpid())") == true)
    // The admin socket is the successor's, which is gone: nobody to take over from.
    #expect(throws: Fault.self) { try takeOver(settings) }
  }

  @Test("An offer survives its line, and what is no offer is none")
  func offers() {
    let offer = TakeoverOffer(process: 7, format: 1, directory: "8:9", sockets: ["grpc", "http"])
    #expect(TakeoverOffer(line: offer.line) == offer)
    for line in ["", "offer", "offer 7 1", "offer x 1 8:9", "take 7 1 8:9", "offer 7 -1 8:9"] {
      #expect(TakeoverOffer(line: line) == nil, "\(line)")
    }
  }

  @Test("An archive newer than the program stays with who can read it")
  func newerFormat() throws {
    let folder = try TestFolder()
    let offer = TakeoverOffer(
      process: 7, format: Store.format + 1, directory: try #require(fileIdentity(folder.path)),
      sockets: [])
    let fault = #expect(throws: Fault.self) { try offer.check(try settings(folder.path)) }
    #expect(fault?.code == .unimplemented)
  }
}
