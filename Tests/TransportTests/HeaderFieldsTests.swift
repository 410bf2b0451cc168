import Base
import Grpc
import Http
import Loop
import Report
import Testing

@Suite("Header fields", .timeLimit(.minutes(1))) struct HeaderFieldsTests {
  @Test("What goes in comes out, in order and the first of two; a copy stays as it was")
  func fields() {
    var fields = HeaderFields([(":path", "/t.T/Echo"), ("a", ""), ("x", "1"), ("x", "2")])
    let copy = fields
    #expect(fields.count == 4)
    // RFC 9113 section 6.5.2: names, values and 32 for each.
    #expect(fields.listBytes == 14 + 1 + 2 + 2 + 4 * 32)
    fields.append("late", String(repeating: "v", count: 10_000))
    for i in 0..<100 { fields.append("n\(i)", "v\(i)") }
    #expect(fields["x"] == "1")
    #expect(fields.all("x") == ["1", "2"])
    #expect(fields["a"] == "")
    #expect(fields["b"] == nil)
    #expect(fields["n99"] == "v99")
    #expect(fields["late"]?.utf8.count == 10_000)
    #expect(fields.withValue(of: ":path") { $0.count } == 9)
    #expect(fields.withValue(of: "a") { $0.count } == 0)
    #expect(fields.withValue(of: "pat") { $0.count } == nil)
    #expect(fields.contains("late") && !copy.contains("late"))
    #expect(copy.list.map(\.name) == [":path", "a", "x", "x"])
    #expect(copy.list.map(\.value) == ["/t.T/Echo", "", "1", "2"])
    fields.removeAll()
    #expect(fields.count == 0 && fields.listBytes == 0 && fields["x"] == nil)
    fields.append("again", "1")
    #expect(fields["again"] == "1" && copy.count == 4)
  }

  @Test(
    "A table for a peer's fields is offered where that is set, and taken back when a credential comes",
    arguments: [(0, false), (0, true), (4_096, false), (4_096, true)])
  func table(bytes: Int, secret: Bool) throws {
    var settings = Http2Settings()
    settings.headerTableBytes = bytes
    let rig = try Rig(settings: settings)
    let endpoint = try rig.server.listen(.tcp(host: "127.0.0.1", port: 0)).endpoint
    let loop = try EventLoop.start(index: 8, name: "raw")
    defer { loop.stop() }
    let client = RawClient(secret ? "authorization" : "x-permission1")
    loop.post { _ = try? Connection.dial(endpoint, on: loop, wire: nil, driver: client) }
    // The answer to the PING that follows the call comes behind whatever the call led to.
    #expect(poll { client.seen.withLock { $0.isAnswered } })
    let sizes = client.seen.withLock { $0.tableSizes }
    #expect(sizes == [bytes] + (secret && bytes > 0 ? [0] : []))
  }
}

/// Makes one call with the field named, then sends a PING, and notes the SETTINGS that come.
private final class RawClient: ConnectionDriver, @unchecked Sendable {
  struct Seen {
    var bytes: [UInt8] = []
    var tableSizes: [Int] = []
    var isAnswered = false
  }
  let seen = Lock(Seen())
  private let field: String

  init(_ field: String) { self.field = field }

  private static func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt8, _ body: [UInt8])
    -> [UInt8]
  {
    [0, 0, UInt8(body.count), type, flags, 0, 0, 0, stream] + body
  }

  /// A literal with incremental indexing and a new name (RFC 7541 section 6.2.1).
  private static func literal(_ name: String, _ value: String) -> [UInt8] {
    [0x40, UInt8(name.utf8.count)] + name.utf8 + [UInt8(value.utf8.count)] + value.utf8
  }

  override func receiveOpened() {
    connection.output.append(utf8: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    connection.output.append(Self.frame(4, 0, 0, []))
    var block = Self.literal(":method", "POST") + Self.literal(":scheme", "http")
    block += Self.literal(":path", "/t.T/Silent") + Self.literal(":authority", "a")
    block += Self.literal("content-type", "application/grpc") + Self.literal(field, "secret")
    connection.output.append(Self.frame(1, 4, 1, block))
    connection.output.append(Self.frame(6, 0, 0, Array(repeating: 7, count: 8)))
    connection.markDirty()
  }

  override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
    seen.withLock { seen in
      seen.bytes += bytes
      while seen.bytes.count >= 9 {
        let size = 9 + Int(bigEndianBytes: seen.bytes[..<3])
        if seen.bytes.count < size { return }
        let body = Array(seen.bytes[9..<size])
        if seen.bytes[3] == 4 {
          for at in stride(from: 0, to: body.count, by: 6) where body[at] == 0 && body[at + 1] == 1
          {
            seen.tableSizes.append(Int(bigEndianBytes: body[(at + 2)..<(at + 6)]))
          }
        }
        if seen.bytes[3] == 6 { seen.isAnswered = true }
        seen.bytes.removeFirst(size)
      }
    }
  }
}
