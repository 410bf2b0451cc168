import Base
import Codec
import Engine
import Grpc
import Link
import LinkMail
import Loop
import Messages
import Report
import Settings
import Testing
import Tls

@testable import Crypto
@testable import Relay
@testable import Ring

/// Real nodes of one cluster in this process: certificates of one authority, links over loopback, and a map by hand.
final class LinkedNodes {
  typealias LinkSettings = LinkSession<LinkMail>.Settings
  private let folder: TestFolder
  private let authority: ClusterAuthority
  let settings: LinkSettings
  private let older: Int?
  private let loops: Int
  private(set) var nodes: [LinkedNode] = []
  private(set) var map: RingMap

  /// The last node owns every slot. `older`: speaks the previous version of the link only.
  init(
    _ count: Int, loops: Int = 2, settings: LinkSettings = LinkHost.linkSettings, older: Int? = nil
  ) throws {
    folder = try TestFolder()
    self.settings = settings
    self.older = older
    self.loops = loops
    authority = try ClusterAuthority.make(cluster: "test", at: wallClock())
    map = RingMap(replicas: 1)
    map.nodes = (1...count).map {
      RingNode(id: NodeID(UInt64($0)), name: "n\($0)", state: .serving)
    }
    give(everythingTo: count - 1)
    for index in 0..<count { nodes.append(try make(index, incarnation: 1)) }
    introduce()
  }
  deinit { for node in nodes where !node.isStopped { node.stop() } }

  func certificates(_ id: NodeID, _ name: String, by other: ClusterAuthority? = nil) throws
    -> ClusterTlsContext.Files
  {
    let signer = other ?? authority
    let made = try signer.issue(node: id, name: name, at: wallClock())
    let own = try TestFolder()
    kept.append(own)
    let files = ClusterTlsContext.Files(directory: own.path)
    try PrivateFile.write(files.authority, authority.own.certificatePem)
    try PrivateFile.write(files.certificate, made.certificatePem)
    try PrivateFile.write(files.key, made.keyPem)
    return files
  }
  private var kept: [TestFolder] = []

  private func make(_ index: Int, incarnation: UInt64) throws -> LinkedNode {
    let id = NodeID(UInt64(index + 1))
    var settings = settings
    if index == older {
      let last = settings.versions.upperBound - 1
      settings.versions = last...last
    }
    return try LinkedNode(
      id: id, data: "\(folder.path)/n\(index + 1)", loops: loops,
      tls: ClusterTlsContext(try certificates(id, "n\(index + 1)")), incarnation: incarnation,
      settings: settings)
  }

  /// Tells every node where the others are, and who owns what.
  func introduce() {
    for node in nodes where !node.isStopped {
      for other in nodes where other.id != node.id {
        node.links.setPeer(other.id, name: "n\(other.id.value)", endpoint: other.endpoint)
      }
      node.links.receive(map: map)
    }
  }

  func give(everythingTo index: Int?) {
    let owner = index.map { NodeID(UInt64($0 + 1)) } ?? .none
    map.owners = Array(repeating: owner, count: map.slotCount)
    map.revision += 1
    for node in nodes where !node.isStopped { node.links.receive(map: map) }
  }

  func restart(_ index: Int) throws {
    nodes[index].stop()
    nodes[index] = try make(index, incarnation: nodes[index].incarnation + 1)
    introduce()
  }

  func stop(_ index: Int) { nodes[index].stop() }

  /// Every two of them hear each other.
  func waitUntilUp() -> Bool {
    eventually {
      self.nodes.allSatisfy { node in
        node.isStopped
          || node.facts().filter(\.isUp).count == self.nodes.filter { !$0.isStopped }.count - 1
      }
    }
  }
}

final class LinkedNode {
  let id: NodeID
  let incarnation: UInt64
  let host: NodeHost
  let links: LinkHost
  let endpoint: Endpoint
  private let server: GrpcServer
  private(set) var isStopped = false

  init(
    id: NodeID, data: String, loops: Int, tls: ClusterTlsContext, incarnation: UInt64,
    settings linkSettings: LinkedNodes.LinkSettings
  ) throws {
    self.id = id
    self.incarnation = incarnation
    let start = try NodeStart.read(
      arguments: [
        "--data", data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--auth", "open",
        "--registry", "off",
      ], environment: ["POSTHOUSE_LOOPS": "\(loops)"])
    guard case .run(let settings, _) = start else { throw Fault(.internal) }
    host = try NodeHost(settings: settings, log: .silent)
    links = LinkHost(
      node: host, own: id, incarnation: incarnation, tls: tls, settings: linkSettings)
    server = GrpcServer(loops: [host.loops[0]], settings: LinkHost.httpSettings)
    links.register(on: server)
    endpoint = try server.listen(
      .tcp(host: "127.0.0.1", port: 0), tls: { tls.makeServerWire() }
    ).endpoint
  }

  func stop() {
    if isStopped { return }
    isStopped = true
    server.closeListeners()
    links.stop()
    host.drain()
  }

  func facts() -> [LinkFacts] {
    let links = links
    return links.loop.call { links.facts } ?? []
  }

  /// Cuts every connection of this node's links.
  func cut() {
    let links = links
    links.loop.call {
      for link in links.links {
        link.client?.close()
        link.stream?.connection?.close("cut by the test")
      }
    }
  }

  /// The service client, over the admin socket: an operator's.
  func client() throws -> GrpcBlockingClient {
    try GrpcBlockingClient(.unix(path: host.addresses.admin))
  }

  /// An agent's connection; which loop it meets is chance.
  func agent() throws -> GrpcBlockingClient {
    try GrpcBlockingClient(try #require(Endpoint(host.addresses.grpc)))
  }
}

func wallClock() -> Instant { Instant(nanoseconds: Timestamp.now().nanoseconds) }

/// Polls; false when the time is over.
func eventually(seconds: Int64 = 20, _ condition: () throws -> Bool) rethrows -> Bool {
  let end = ContinuousClock.now + .seconds(seconds)
  while try !condition() {
    if ContinuousClock.now > end { return false }
    pauseThread(.milliseconds(3))
  }
  return true
}

/// The same; throws when the time is over.
func awaitThat(_ seconds: Int64 = 30, _ condition: () throws -> Bool) throws {
  if try eventually(seconds: seconds, condition) { return }
  throw Fault(.deadlineExceeded, "it did not come to be in time")
}

/// Publishes over `ChannelService`, one stream.
final class TestPublisher {
  private let client: GrpcBlockingClient
  let call: GrpcBlockingStream
  private let channel: String
  init(_ node: LinkedNode, _ channel: String) throws {
    client = try node.agent()
    call = client.bidi(ChannelService.publish.path)
    self.channel = channel
  }
  func send(_ texts: [String], producer: UInt64 = 0, from sequence: UInt64 = 1) {
    for (offset, text) in texts.enumerated() {
      var request = PublishRequest()
      request.channel = channel
      request.payload = Array(text.utf8)
      if producer != 0 {
        (request.producerID, request.producerSequence) = (producer, sequence + UInt64(offset))
      }
      call.send(request)
    }
  }
  func answer() throws -> PublishResponse? {
    try call.next(PublishResponse.self, timeout: .seconds(20))
  }
  /// Sends them and waits for their sequences; a refusal is 0.
  func publish(_ texts: [String]) throws -> [UInt64] {
    send(texts)
    return try texts.map { _ in try #require(try answer()).sequence }
  }
}

/// Reads a channel over `ChannelService`.
final class TestReader {
  private let client: GrpcBlockingClient
  let call: GrpcBlockingStream
  private(set) var sequences: [UInt64] = []
  private(set) var texts: [String] = []
  init(_ node: LinkedNode, _ channel: String, from: UInt64 = 1, follow: Bool = true) throws {
    client = try node.agent()
    var request = ReadRequest()
    request.channel = channel
    request.fromSequence = from
    request.follow = follow
    call = client.serverStream(ChannelService.read.path, request.encoded())
  }
  /// False at the end of the stream.
  @discardableResult func next() throws -> Bool {
    guard let message = try call.next(ReadResponse.self, timeout: .seconds(20)) else {
      return false
    }
    sequences.append(message.sequence)
    texts.append(String(decoding: message.payload, as: UTF8.self))
    return true
  }
  func read(_ count: Int) throws { while sequences.count < count, try next() {} }
}

/// A Skytale agent: one data-plane stream.
final class TestAgent {
  private let client: GrpcBlockingClient
  let stream: GrpcBlockingStream
  convenience init(_ node: LinkedNode) throws { self.init(try node.agent()) }
  init(_ client: GrpcBlockingClient) {
    self.client = client
    stream = client.bidi(DataPlaneService.openChannel.path)
  }
  private func header(_ channel: String) throws -> SlimAHeader {
    let name = try #require(ChannelName(channel))
    return SlimAHeader(
      destination: SlimAName(
        strName: SlimAStringName(
          strComponent0: name.org, strComponent1: name.namespace, strComponent2: name.service)))
  }
  func subscribe(_ channel: String) throws {
    stream.send(SlimAMessage(messageType: .subscribe(SlimASubscribe(header: try header(channel)))))
  }
  func publish(_ channel: String, _ text: String) throws {
    stream.send(
      SlimAMessage(
        messageType: .publish(
          SlimAPublish(
            header: try header(channel),
            session: SlimASessionHeader(sessionType: .multicast, sessionMessageType: .msg),
            msg: SlimAContent(
              contentType: .appPayload(
                SlimAApplicationPayload(payloadType: "msg", blob: Array(text.utf8))))))))
  }
  /// The text of the next message, without the sequence behind it.
  func next() throws -> String? {
    guard let message = try stream.next(SlimAMessage.self, timeout: .seconds(20)) else {
      return nil
    }
    guard case .publish(let publish) = message.messageType,
      case .appPayload(let payload) = publish.msg?.contentType
    else { throw Fault(.internal, "\(message)") }
    return String(decoding: payload.blob.dropLast(Limits.suffixBytes), as: UTF8.self)
  }
}
