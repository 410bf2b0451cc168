import Base
import Codec
import Crypto
import Digest
import FoundationEssentials
import Glibc
import Grpc
import Loop
import Messages
import Report
import Settings
import Slim
import Testing
import Token

@testable import Relay

/// A node that follows another on the same sockets, before its database is open.
@Suite("A node whose store opens", .timeLimit(.minutes(2)), .serialized)
struct OpeningTests {
  /// Looks at every table of its database before it opens it, and waits at one that is a pipe.
  final class Opening {
    let place: Endpoint
    private let folder: TestFolder
    private let pipe: String
    private let started = Handoff<NodeHost?>()

    init(_ folder: TestFolder, _ more: [String] = ["--auth", "open"], loops: Int = 1) throws {
      let start = try NodeStart.read(
        arguments: ["--data", folder.path] + more,
        environment: [
          "POSTHOUSE_GRPC": "127.0.0.1:0", "POSTHOUSE_HTTP": "127.0.0.1:0",
          "POSTHOUSE_LOOPS": "\(loops)",
        ])
      guard case .run(let settings, _) = start else { throw Fault(.internal) }
      self.folder = folder
      try NodeHost(settings: settings, log: .silent).drain()
      pipe = folder.path + "/db/000001.sst"
      try #require(mkfifo(pipe, 0o600) == 0)
      var inheritance = Inheritance()
      let socket = try ListenSocket(.tcp(host: "127.0.0.1", port: 0))
      inheritance.sockets = ["grpc": socket]
      inheritance.mayWait = true
      place = socket.endpoint
      let (started, inherited) = (started, inheritance)
      _ = WorkerThread(named: "opening") {
        started.put(try? NodeHost(settings: settings, log: .silent, inheritance: inherited))
      }
    }

    /// Lets the database open, and waits until the node serves.
    func finish() throws -> NodeHost {
      var file: Int32 = -1
      let end = Timestamp.now() + .seconds(20)
      while file < 0, Timestamp.now() < end {
        file = open(pipe, O_WRONLY | O_NONBLOCK)
        if file < 0 { sched_yield() }
      }
      try #require(file >= 0)
      close(file)
      guard case .element(let host?) = started.take(timeout: .seconds(20)) else {
        throw Fault(.internal, "the node did not start")
      }
      return host
    }

    func app(_ number: UInt64) throws -> SlimStreamTests.App {
      SlimStreamTests.App(try GrpcBlockingClient(place), number)
    }
  }

  private func link(_ id: String, isReply: Bool = false) -> SlimAMessage {
    SlimAMessage(
      messageType: .link(
        SlimALink(
          negotiation: SlimALinkNegotiation(linkID: id, slimVersion: "1.4.1", isReply: isReply))))
  }

  /// The link_id of the reply that comes next.
  private func linkReply(_ stream: GrpcBlockingStream) throws -> String? {
    let answer = try stream.next(SlimAMessage.self, timeout: .seconds(20))
    guard case .link(let link) = answer?.messageType, link.negotiation?.isReply == true else {
      return nil
    }
    return link.negotiation?.linkID
  }

  @Test(
    "SLIM apps get their links at once; what they send then is served in order, whoever comes first",
    arguments: [1, 2])
  func links(loops: Int) throws {
    let opening = try Opening(TestFolder(), loops: loops)
    let (writer, reader) = (try opening.app(1), try opening.app(2))
    for app in [writer, reader] {
      app.stream.send(link("\(app.name)"))
      #expect(try linkReply(app.stream) == "\(app.name)")
    }
    // Nobody is back yet who would get them.
    for n in 0..<3 { writer.stream.send(writer.direct(reader.name, [UInt8(n)])) }
    // Subscribes without a Link, as 1.0 apps do.
    let old = try opening.app(3)
    old.stream.send(old.subscribe(old.name, id: 7))
    old.stream.send(writer.direct(old.name, [50]))

    let host = try opening.finish()
    defer { host.drain() }
    let answer = try #require(try old.stream.next(SlimAMessage.self, timeout: .seconds(20)))
    #expect(
      answer.messageType
        == .subscriptionAck(SlimASubscriptionAck(subscriptionID: 7, success: true)))
    reader.stream.send(reader.subscribe(reader.name, id: 0))
    for n in 0..<3 { #expect(try reader.next() == UInt8(n)) }
    writer.stream.send(writer.direct(reader.name, [3]))
    #expect(try reader.next() == 3)
    // Its Link is answered once.
    writer.stream.send(link("again"))
    #expect(try linkReply(writer.stream) == "again")
  }

  @Test("Every other call waits, and is served as if it had come then")
  func calls() throws {
    let opening = try Opening(TestFolder())
    let client = try GrpcBlockingClient(opening.place)
    let publisher = client.bidi(ChannelService.publish.path)
    for n in 1...3 {
      var request = PublishRequest()
      request.channel = "acme/t/a"
      request.payload = [UInt8(n)]
      publisher.send(request)
    }
    publisher.halfClose()
    let status = client.serverStream(
      AdminService.getStatus.path, AdminGetStatusRequest().encoded(), timeout: .seconds(60))
    let cancelled = client.bidi(ChannelService.publish.path)
    cancelled.cancel()
    let late = client.serverStream(
      AdminService.getStatus.path, AdminGetStatusRequest().encoded(), timeout: .milliseconds(20))
    // Its deadline passes although nothing serves it.
    let error = #expect(throws: GrpcError.self) {
      _ = try late.next(AdminNodeStatus.self, timeout: .seconds(20))
    }
    #expect(error?.status == .deadlineExceeded)

    let host = try opening.finish()
    defer { host.drain() }
    var sequences: [UInt64] = []
    while let answer = try publisher.next(PublishResponse.self, timeout: .seconds(20)) {
      sequences.append(answer.sequence)
    }
    #expect(sequences == [1, 2, 3])
    #expect(try status.next(AdminNodeStatus.self, timeout: .seconds(20))?.ready == true)
  }

  @Test("A link is all that a token gets before the store says whether its key lives")
  func tokens() throws {
    let folder = try TestFolder()
    let opening = try Opening(folder, ["--auth", "required"])
    let keys = try #require(
      try SigningKeys.load(path: folder.path + "/" + SigningKeys.fileName))
    let seconds = Timestamp.now().nanoseconds / 1_000_000_000
    let claims = TokenClaims(
      tenant: TenantID(org: "acme"), org: "acme", key: RecordID(5), scopes: .channels,
      issuedAt: seconds, expiresAt: seconds + 600)
    let good = JWT.sign(claims, with: keys.set)
    let client = try GrpcBlockingClient(opening.place)
    func stream(_ metadata: [(String, String)]) -> GrpcBlockingStream {
      let stream = client.bidi(DataPlaneService.openChannel.path, metadata: metadata)
      stream.send(link("a"))
      return stream
    }
    let known = stream([("authorization", "Bearer " + good)])
    #expect(try linkReply(known) == "a")
    known.send(link("b"))
    let none = #expect(throws: GrpcError.self) { try linkReply(stream([])) }
    #expect(none?.status == .unauthenticated)

    let host = try opening.finish()
    defer { host.drain() }
    // No tenant has that key: nothing more of the stream was looked at.
    let ended = #expect(throws: GrpcError.self) {
      while try linkReply(known) != nil { Issue.record("a second Link was answered") }
    }
    #expect(ended?.status == .unauthenticated || ended?.status == .permissionDenied)
    let wrong = #expect(throws: GrpcError.self) {
      try linkReply(stream([("authorization", "Bearer x.y.z")]))
    }
    #expect(wrong?.status == .unauthenticated)
  }

  @Test("A publish that nobody claims is kept for a moment, in order and within bounds")
  func unclaimed() {
    let name = SlimName(c0: 1, c1: 2, c2: 3, idHigh: 0, idLow: 4)
    let other = SlimName(c0: 1, c1: 2, c2: 3, idHigh: 0, idLow: 5)
    func message(_ to: SlimName, _ bytes: [UInt8]) -> SlimMessage {
      SlimMessage(SlimCourse(.slimA, to, isAnycast: false, nil), Bytes(bytes), repeats: false)
    }
    var waiting = SlimUnclaimed()
    let early = waiting.keep(message(name, [1]), from: nil)
    #expect(!early, "a node that follows nobody keeps nothing")
    waiting.open()
    for n in 1...3 {
      let kept = [
        waiting.keep(message(name, [UInt8(n)]), from: nil),
        waiting.keep(message(other, [9]), from: nil),
      ]
      #expect(kept == [true, true])
    }
    let strangers = waiting.take(.slimB, name).count
    #expect(strangers == 0, "families never meet")
    let taken = waiting.take(.slimA, name).map { $0.message.frame.array() }
    #expect(taken == [[1], [2], [3]])
    let half = [UInt8](repeating: 0, count: Limits.slimUnclaimedBytes / 2 - 4096)
    let fits = [
      waiting.keep(message(name, half), from: nil), waiting.keep(message(name, half), from: nil),
      waiting.keep(message(name, half), from: nil),
    ]
    #expect(fits == [true, true, false])
    // What was taken makes room.
    let room = waiting.take(.slimA, name).count
    let again = waiting.keep(message(name, half), from: nil)
    #expect(room == 2 && again)
    let left = waiting.close()
    #expect(left == 4)
    let late = waiting.keep(message(name, [1]), from: nil)
    #expect(!late)
  }
}
