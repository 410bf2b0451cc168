import Base
import Codec
import FoundationEssentials
import Grpc
import Loop
import Messages
import Report
import Settings
import Testing

@testable import Relay

/// Real nodes in this process, on Unix sockets and loopback ports of their own.
@Suite("A node", .timeLimit(.minutes(2)), .serialized)
struct NodeTests {
  /// A data directory that goes with the test, and a node on it.
  final class Running {
    let data: String
    let host: NodeHost
    init(_ data: String, _ more: [String] = [], grpc: String = "127.0.0.1:0") throws {
      self.data = data
      let start = try NodeStart.read(
        arguments: [
          "--data", data, "--grpc", grpc, "--http", "127.0.0.1:0", "--auth", "open",
          "--registry", "off",
        ]
          + more, environment: [:])
      guard case .run(let settings, _) = start else { throw Fault(.internal) }
      host = try NodeHost(settings: settings, log: .silent)
    }
    func link() throws -> GrpcBlockingClient {
      try GrpcBlockingClient(.unix(path: host.addresses.admin))
    }
  }

  private func publish(
    _ client: GrpcBlockingClient, _ channel: String, _ numbers: ClosedRange<UInt64>
  ) throws -> [PublishResponse] {
    let call = client.bidi(ChannelService.publish.path)
    for n in numbers {
      var request = PublishRequest()
      request.channel = channel
      request.payload = Array("message \(n)".utf8)
      request.producerID = 9
      request.producerSequence = n
      call.send(request)
    }
    call.halfClose()
    var out: [PublishResponse] = []
    while let answer = try call.next(PublishResponse.self, timeout: .seconds(20)) {
      out.append(answer)
    }
    return out
  }

  @Test("Publishes are answered in order, kept over a restart, and a retry gets its first answer")
  func restart() throws {
    let folder = try TestFolder()
    var first: [UInt64] = []
    do {
      let node = try Running(folder.path)
      let answers = try publish(try node.link(), "acme/t/a", 1...50)
      first = answers.map(\.sequence)
      #expect(first == Array(1...50))
      node.host.drain()
    }
    let node = try Running(folder.path)
    defer { node.host.drain() }
    let again = try publish(try node.link(), "acme/t/a", 41...60)
    #expect(again.map(\.sequence) == Array(41...60))
    #expect(
      again.map(\.duplicate) == Array(repeating: true, count: 10)
        + Array(repeating: false, count: 10))
    var request = ReadRequest()
    request.channel = "acme/t/a"
    var read: [UInt64] = []
    let client = try node.link()
    let stream = client.serverStream(ChannelService.read.path, request.encoded())
    while let message = try stream.next(ReadResponse.self, timeout: .seconds(20)) {
      read.append(message.sequence)
    }
    #expect(read == Array(1...60))
  }

  @Test("One directory, one node")
  func oneProcess() throws {
    let folder = try TestFolder()
    let node = try Running(folder.path)
    defer { node.host.drain() }
    let fault = #expect(throws: Fault.self) { try Running(folder.path) }
    #expect(fault?.code == .conflict)
  }

  @Test("A node whose address is taken makes no directory, and names the setting")
  func addressFirst() throws {
    let folder = try TestFolder()
    let first = try Running(folder.path + "/a")
    defer { first.host.drain() }
    let fault = #expect(throws: Fault.self) {
      try Running(folder.path + "/b", grpc: first.host.addresses.grpc)
    }
    #expect(fault?.detail.contains("Address already in use (setting grpc, --grpc)") == true)
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/b"))
  }

  @Test("A stopped node's directory answers operators, and an empty one says so")
  func offline() throws {
    let folder = try TestFolder()
    do {
      let node = try Running(folder.path)
      _ = try publish(try node.link(), "acme/t/b", 1...3)
      node.host.drain()
    }
    let offline = try OfflineNode(data: folder.path)
    defer { offline.close() }
    let client = try GrpcBlockingClient(.unix(path: offline.adminSocket))
    var request = AdminChannelRequest()
    request.name = "acme/t/b"
    let channel = try client.unary(AdminService.getChannel, request, AdminChannel.self)
    #expect(channel.lastSequence == 3)
    let empty = try TestFolder()
    #expect(throws: Fault.self) { try OfflineNode(data: empty.path) }
  }
}

/// A folder of a test's own, gone with it.
final class TestFolder {
  let path: String
  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/posthouse-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}
