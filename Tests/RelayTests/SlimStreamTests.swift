import Base
import Codec
import Digest
import Engine
import Grpc
import Loop
import Messages
import Report
import Settings
import Testing

@testable import Relay

/// SLIM apps of family A, as raw messages over the gRPC client, and a real node in this process.
@Suite("A SLIM stream", .timeLimit(.minutes(2)), .serialized)
struct SlimStreamTests {
  /// A node that is drained with its last reference.
  final class Running {
    let host: NodeHost
    init(_ folder: TestFolder, loops: Int = 1) throws {
      let start = try NodeStart.read(
        arguments: ["--data", folder.path, "--auth", "open", "--registry", "off"],
        environment: [
          "POSTHOUSE_GRPC": "127.0.0.1:0", "POSTHOUSE_HTTP": "127.0.0.1:0",
          "POSTHOUSE_LOOPS": "\(loops)",
        ])
      guard case .run(let settings, _) = start else { throw Fault(.internal) }
      host = try NodeHost(settings: settings, log: .silent)
    }
    deinit { host.drain() }

    func app(_ number: UInt64) throws -> App {
      App(try GrpcBlockingClient(try #require(Endpoint(host.addresses.grpc))), number)
    }
    /// Sessions the engines know of.
    func engineSessions() -> Int {
      host.shards.reduce(0) { sum, shard in
        sum + (shard.loop.call { shard.engine.counters.sessions } ?? 0)
      }
    }
    func counters() -> SlimCounters {
      host.shards.reduce(SlimCounters()) { sum, shard in
        sum + (shard.loop.call { shard.slim.counts } ?? SlimCounters())
      }
    }
  }

  /// One app's stream.
  struct App {
    let client: GrpcBlockingClient
    let stream: GrpcBlockingStream
    let name: SlimAName
    init(_ client: GrpcBlockingClient, _ number: UInt64) {
      self.client = client
      stream = client.bidi(DataPlaneService.openChannel.path)
      name = SlimStreamTests.name(3, id: number)
    }

    func subscribe(_ to: SlimAName, id: UInt64) -> SlimAMessage {
      SlimAMessage(
        messageType: .subscribe(
          SlimASubscribe(
            header: SlimAHeader(source: name, destination: to), subscriptionID: id)))
    }
    func unsubscribe(_ from: SlimAName, id: UInt64) -> SlimAMessage {
      SlimAMessage(
        messageType: .unsubscribe(
          SlimAUnsubscribe(
            header: SlimAHeader(source: name, destination: from), subscriptionID: id)))
    }
    /// Subscribes and waits for the answer.
    func join(_ to: SlimAName) throws {
      stream.send(subscribe(to, id: 7))
      let answer = try #require(try stream.next(SlimAMessage.self, timeout: .seconds(20)))
      #expect(
        answer.messageType
          == .subscriptionAck(SlimASubscriptionAck(subscriptionID: 7, success: true)))
    }
    func message(
      _ to: SlimAName, _ payload: [UInt8], session: SlimASessionType = .multicast,
      _ type: SlimASessionMessageType = .msg
    ) -> SlimAMessage {
      SlimAMessage(
        messageType: .publish(
          SlimAPublish(
            header: SlimAHeader(source: name, destination: to, fanout: 256),
            session: SlimASessionHeader(
              sessionType: session, sessionMessageType: type, sessionID: 1, messageID: 1),
            msg: SlimAContent(
              contentType: .appPayload(
                SlimAApplicationPayload(payloadType: "msg", blob: payload))))))
    }
    /// To one app, never archived.
    func direct(_ to: SlimAName, _ payload: [UInt8]) -> SlimAMessage {
      message(to, payload, session: .pointToPoint)
    }
    /// All in one piece, so that the node reads them at once.
    func send(_ messages: [SlimAMessage]) {
      stream.send(framed: Bytes(messages.flatMap { $0.framed().array() }))
    }
    /// First byte of the payload of the next message; nil at the end with OK.
    func next() throws -> UInt8? {
      guard let message = try stream.next(SlimAMessage.self, timeout: .seconds(20)) else {
        return nil
      }
      guard case .publish(let publish) = message.messageType,
        case .appPayload(let payload) = publish.msg?.contentType
      else { throw Fault(.internal, "\(message)") }
      return payload.blob.first
    }
  }

  static func name(_ service: UInt64, id: UInt64 = .max) -> SlimAName {
    SlimAName(
      name: SlimAEncodedName(component0: 1, component1: 2, component2: service, component3: id))
  }

  @Test("What waits behind a write goes its way once and in order, to groups not seen before too")
  func holdsAndReleases() throws {
    let folder = try TestFolder()
    let node = try Running(folder)
    let (reader, writer) = (try node.app(1), try node.app(2))
    let groups = (0..<20).map { Self.name(100 + $0) }
    try reader.join(reader.name)
    for group in groups { try reader.join(group) }
    var messages: [SlimAMessage] = []
    for (i, group) in groups.enumerated() {
      messages.append(writer.message(group, [UInt8(2 * i)]))
      messages.append(writer.direct(reader.name, [UInt8(2 * i + 1)]))
    }
    writer.send(messages)
    var got: [UInt8] = []
    while got.count < messages.count { got.append(try #require(try reader.next())) }
    #expect(got == Array(0..<40))
    // Nothing came twice.
    writer.send([writer.direct(reader.name, [99])])
    #expect(try reader.next() == 99)
  }

  @Test("What waits when an app ends its stream is not lost")
  func endsWithHeld() throws {
    let folder = try TestFolder()
    let node = try Running(folder)
    let (reader, writer) = (try node.app(1), try node.app(2))
    let group = Self.name(100)
    try reader.join(reader.name)
    try reader.join(group)
    let messages = (0..<10).flatMap { n in
      [writer.message(group, [UInt8(2 * n)]), writer.direct(reader.name, [UInt8(2 * n + 1)])]
    }
    writer.send(messages)
    writer.stream.halfClose()
    var got: [UInt8] = []
    while got.count < messages.count { got.append(try #require(try reader.next())) }
    #expect(got.sorted() == Array(0..<20))
    #expect(got.filter { $0 % 2 == 0 } == stride(from: 0, to: 20, by: 2).map { UInt8($0) })
  }

  @Test("Readers that stand still for a while get every message of a group once and in order")
  func lags() throws {
    let folder = try TestFolder()
    let node = try Running(folder)
    let (one, other, writer) = (try node.app(1), try node.app(2), try node.app(3))
    let group = Self.name(100)
    try one.join(group)
    try other.join(group)
    let count = 1500
    let payload = [UInt8](repeating: 1, count: 16 << 10)
    for n in 0..<count {
      writer.stream.send(writer.message(group, [UInt8(n % 251)] + payload))
    }
    for app in [one, other] {
      for n in 0..<count { #expect(try app.next() == UInt8(n % 251)) }
    }
    #expect(node.counters().lagging > 0)
    writer.stream.send(writer.message(group, [252]))
    #expect(try other.next() == 252)
    #expect(try one.next() == 252)
  }

  @Test("Apps that subscribe and go leave nothing behind", arguments: [1, 3])
  func leavesNothing(loops: Int) throws {
    let folder = try TestFolder()
    let group = Self.name(100)
    do {
      let node = try Running(folder, loops: loops)
      let (reader, writer) = (try node.app(1), try node.app(2))
      try reader.join(group)
      writer.send([writer.message(group, [1])])
      #expect(try reader.next() == 1)
    }
    // Now the channel is in the archive, and nobody has published to it yet.
    let node = try Running(folder, loops: loops)
    for number in 1...100 {
      let app = try node.app(UInt64(number))
      app.send([app.subscribe(group, id: 7)])
      app.stream.halfClose()
      while try app.stream.next(timeout: .seconds(20)) != nil {}
    }
    #expect(eventually(seconds: 10) { node.engineSessions() == 0 })
  }

  @Test(
    "Who unsubscribes before a replay comes gets neither it nor what follows", arguments: [1, 3])
  func unsubscribesEarly(loops: Int) throws {
    let folder = try TestFolder()
    let node = try Running(folder, loops: loops)
    let (reader, writer) = (try node.app(1), try node.app(2))
    let group = Self.name(100)
    try reader.join(group)
    writer.send([writer.message(group, [1])])
    #expect(try reader.next() == 1)
    for number in 10..<30 {
      let app = try node.app(UInt64(number))
      try app.join(app.name)
      app.send([app.subscribe(group, id: 0), app.unsubscribe(group, id: 7)])
      app.send([app.subscribe(Self.name(101), id: 0), app.unsubscribe(Self.name(101), id: 8)])
      _ = try app.stream.next(timeout: .seconds(20))
      while true {
        let answer = try #require(try app.stream.next(SlimAMessage.self, timeout: .seconds(20)))
        if answer.messageType
          == .subscriptionAck(SlimASubscriptionAck(subscriptionID: 8, success: true))
        {
          break
        }
      }
      writer.send([writer.message(group, [2])])
      #expect(try reader.next() == 2)
      writer.send([writer.direct(app.name, [3])])
      #expect(try app.next() == 3)
    }
  }

  @Test("A grant that is used is remembered, however many others are asked for")
  func remembersGrants() {
    var rights = SlimRights(StreamGate.anyone)
    func channel(_ n: Int) -> ChannelID { ChannelID(family: .skytale, name: "org/a/\(n)") }
    rights.learn(channel(0), granted: true, version: 1, at: .zero)
    for n in 1...3 * Limits.slimGrantsPerSession {
      rights.learn(channel(n), granted: false, version: 1, at: .zero)
    }
    #expect(rights.uses(channel(0)))
  }
}
