import Base
import Codec
import Messages
import Testing

@Suite("Protobuf codec", .timeLimit(.minutes(2)))
struct CodecTests {
  @Test("A Skytale Subscribe has the contract's bytes, and is read back")
  func goldenSubscribe() throws {
    let golden = hex("0a13 0a11 120f 120d 0a03 6f7267 1202 6e73 1a02 6331")
    let name = SlimAName(
      strName: SlimAStringName(strComponent0: "org", strComponent1: "ns", strComponent2: "c1"))
    let message = SlimAMessage(
      messageType: .subscribe(SlimASubscribe(header: SlimAHeader(destination: name))))
    #expect(message.encoded() == golden)
    #expect(try SlimAMessage(decoding: golden) == message)
    #expect(message.framed().array() == [0, 0, 0, 0, 21] + golden)
  }

  @Test(
    "Varints take one to ten bytes and come back",
    arguments: [
      (UInt64(0), "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (16_383, "ff7f"),
      (16_384, "808001"), (1 << 32, "8080808010"), (UInt64.max, "ffffffffffffffffff01"),
      (1 << 63, "80808080808080808001"),
    ])
  func varints(value: UInt64, text: String) throws {
    let bytes = hex(text)
    let message = SlimAEncodedName(component0: value)
    #expect(message.encoded() == (value == 0 ? [] : [8] + bytes))
    #expect(try SlimAEncodedName(decoding: [8] + bytes).component0 == value)
    #expect(WireSize.uint64(value) == bytes.count)
  }

  @Test("Every power of two and its neighbours has the size that is written")
  func varintSizes() {
    for bit in 0..<64 {
      for value in [(UInt64(1) << bit) &- 1, 1 << bit, (UInt64(1) << bit) &+ 1] {
        var size = 1
        var rest = value
        while rest >= 128 {
          size += 1
          rest >>= 7
        }
        #expect(WireSize.uint64(value) == size)
      }
    }
  }

  @Test(
    "Broken bytes are refused with the reason",
    arguments: [
      ("08", WireError.truncated), ("0880", .truncated), ("08ffffffffffffffffff02", .malformed),
      ("08ffffffffffffffffffff01", .malformed), ("00", .badTag), ("0000", .badTag), ("0b", .badTag),
      ("0c", .badTag), ("0e", .badTag), ("0f", .badTag), ("0700", .badTag),
      ("ffffffff7f00", .badTag), ("7a05 01", .truncated),
      ("79 00000000000000", .truncated), ("7d 000000", .truncated),
      ("7a ffffffffffffffffff01", .truncated), ("7a ffffffffffffffff7f", .truncated),
    ])
  func refusals(text: String, reason: WireError) {
    #expect(throws: reason) { try SlimAEncodedName(decoding: hex(text)) }
  }

  @Test(
    "Text must be UTF-8",
    arguments: ["0a01ff", "0a02c080", "0a03eda080", "0a04f4908080", "0a01c3", "0a02e282"])
  func badText(text: String) {
    #expect(throws: WireError.malformed) { try SlimAStringName(decoding: hex(text)) }
  }

  @Test("Unknown fields and known fields with another wire type are skipped and not kept")
  func unknown() throws {
    let bytes = hex("0803 a006 2a 0a0161 a206 02 0102 a506 01020304 a106 0102030405060708 1005")
    let read = try SlimAEncodedName(decoding: bytes)
    #expect(read == SlimAEncodedName(component0: 3, component1: 5))
  }

  @Test("The last scalar wins, embedded messages merge, repeated ones add up")
  func merging() throws {
    let first = SlimAHeader(
      source: SlimAName(name: SlimAEncodedName(component0: 1, component1: 2)), fanout: 3,
      identity: "a")
    let second = SlimAHeader(
      source: SlimAName(name: SlimAEncodedName(component1: 9, component2: 8)), identity: "b")
    let merged = try SlimAHeader(decoding: first.encoded() + second.encoded())
    #expect(
      merged
        == SlimAHeader(
          source: SlimAName(name: SlimAEncodedName(component0: 1, component1: 9, component2: 8)),
          fanout: 3, identity: "b"))
    let list = AdminListKeysResponse(keys: [AdminKey(keyID: "x")])
    #expect(try AdminListKeysResponse(decoding: list.encoded() + list.encoded()).keys.count == 2)
  }

  @Test("A oneof holds its last member; occurrences of the same message member merge")
  func oneof() throws {
    let app = SlimAContent(contentType: .appPayload(SlimAApplicationPayload(payloadType: "t")))
    let blob = SlimAContent(contentType: .appPayload(SlimAApplicationPayload(blob: [1])))
    let command = SlimAContent(contentType: .commandPayload(SlimACommandPayload()))
    #expect(
      try SlimAContent(decoding: app.encoded() + blob.encoded()).contentType
        == .appPayload(SlimAApplicationPayload(payloadType: "t", blob: [1])))
    #expect(
      try SlimAContent(decoding: app.encoded() + command.encoded()).contentType
        == .commandPayload(SlimACommandPayload()))
    #expect(
      try SlimAContent(decoding: app.encoded() + command.encoded() + blob.encoded()).contentType
        == .appPayload(SlimAApplicationPayload(blob: [1])))
  }

  @Test("An optional scalar keeps its presence, an implicit one is left out at its default")
  func presence() throws {
    let zero = SlimAHeader(recvFrom: 0, error: false)
    #expect(zero.encoded() == hex("2800 4000"))
    let read = try SlimAHeader(decoding: zero.encoded())
    #expect(read.recvFrom == 0 && read.error == false && read.forwardTo == nil)
    #expect(SlimAHeader().encoded().isEmpty)
  }

  @Test("Repeated numbers are written packed and read both ways")
  func packed() throws {
    let value = ReflectionExtensionNumberResponse(extensionNumber: [3, 270, -1])
    #expect(value.encoded() == hex("120d 03 8e02 ffffffffffffffffff01"))
    #expect(try ReflectionExtensionNumberResponse(decoding: value.encoded()) == value)
    let unpacked = hex("1003 108e02 10ffffffffffffffffff01")
    #expect(try ReflectionExtensionNumberResponse(decoding: unpacked) == value)
    #expect(throws: WireError.truncated) {
      try ReflectionExtensionNumberResponse(decoding: hex("1202 0380"))
    }
  }

  @Test("Maps are written in the order of their keys, the last entry of a key wins")
  func maps() throws {
    let message = SlimAMessage(metadata: ["b": "2", "a": "1", "": ""])
    #expect(message.encoded() == hex("2204 0a00 1200 2206 0a0161 120131 2206 0a0162 120132"))
    #expect(try SlimAMessage(decoding: message.encoded()) == message)
    #expect(
      try SlimAMessage(decoding: hex("2206 0a0161 120131 2203 0a0161")).metadata == ["a": ""])
    let statuses = HealthListResponse(statuses: ["x": HealthCheckResponse(status: .serving)])
    #expect(statuses.encoded() == hex("0a07 0a0178 1202 0801"))
    #expect(try HealthListResponse(decoding: statuses.encoded()) == statuses)
  }

  @Test("An enum keeps numbers it has no name for")
  func openEnum() throws {
    let header = try SlimASessionHeader(decoding: hex("1063"))
    #expect(header.sessionMessageType == SlimASessionMessageType(rawValue: 99))
    #expect(header.sessionMessageType.description == "99")
    #expect(SlimASessionMessageType.groupAdd.description == "SESSION_MESSAGE_TYPE_GROUP_ADD")
    #expect(header.encoded() == hex("1063"))
  }

  @Test("Nesting beyond the bound is refused")
  func depth() throws {
    struct Nest: WireDecodable {
      static let limit = Limits.protoDepth
      var deepest = 0
      mutating func merge(from r: inout WireReader) throws(WireError) {
        while case let tag = try r.nextTag(), tag != 0 {
          var inner = Nest()
          try r.merge(into: &inner)
          deepest = max(deepest, inner.deepest + 1)
        }
      }
    }
    func nested(_ levels: Int) -> [UInt8] {
      var bytes: [UInt8] = []
      for _ in 0..<levels {
        var length: [UInt8] = []
        var rest = bytes.count
        while rest >= 128 {
          length.append(UInt8(rest & 127) | 128)
          rest >>= 7
        }
        bytes = [10] + length + [UInt8(rest)] + bytes
      }
      return bytes
    }
    #expect(try Nest(decoding: nested(Limits.protoDepth)).deepest == Limits.protoDepth)
    #expect(throws: WireError.tooDeep) { try Nest(decoding: nested(Limits.protoDepth + 1)) }
  }

  @Test("Methods carry their path and kind")
  func methods() {
    #expect(ChannelService.publish.path == "/posthouse.v1.ChannelService/Publish")
    #expect(ChannelService.publish.clientStreaming && ChannelService.publish.serverStreaming)
    #expect(!ChannelService.read.clientStreaming && ChannelService.read.serverStreaming)
    #expect(
      DataPlaneService.openChannel.path == "/dataplane.proto.v1.DataPlaneService/OpenChannel")
    #expect(HealthService.check.path == "/grpc.health.v1.Health/Check")
    #expect(InteropTestService.methods.count == 8)
  }

  @Test(
    "A gRPC prefix is read, bounded and checked",
    arguments: [
      ("00000000", GrpcFrame.Prefix.incomplete),
      ("0000000005", .message(length: 5, compressed: false)),
      ("0100000000", .message(length: 0, compressed: true)), ("0200000000", .malformed),
      ("0000001000", .message(length: 4096, compressed: false)),
      ("0000001001", .tooLarge(length: 4097)), ("00ffffffff", .tooLarge(length: 4_294_967_295)),
    ])
  func prefix(text: String, expected: GrpcFrame.Prefix) {
    #expect(hex(text).withUnsafeBytes { GrpcFrame.prefix($0, limit: 4096) } == expected)
  }
}
