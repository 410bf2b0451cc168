import Base
import Codec
import Messages
import Testing

@Suite("SLIM messages that go on", .timeLimit(.minutes(2)))
struct SlimForwardTests {
  static let noMac = [UInt8](repeating: 0, count: 32)

  @Test("Family B in place: the ttl is one lower, the MAC's place is empty, all else is as it was")
  func patched() throws {
    let bytes = SlimSamples.publishB().encoded()
    let e = try envelope(bytes, .slimB)
    let mac = try #require(e.header.mac)
    let (message, macOffset) = try #require(try forwarded(bytes, .slimB))
    #expect(macOffset == e.headerRecord.lowerBound + mac.lowerBound)
    var wanted = bytes
    wanted.replaceSubrange(macOffset..<macOffset + 32, with: Self.noMac)
    #expect(message.count == bytes.count)
    let different = message.indices.filter { message[$0] != wanted[$0] }
    #expect(different.count == 1 && different.allSatisfy { message[$0] == 7 && wanted[$0] == 8 })
  }

  @Test("Family A without routing commands goes on byte for byte")
  func untouched() throws {
    let bytes = SlimSamples.publishA().encoded()
    let made = try #require(try forwarded(bytes, .slimA))
    #expect(made.message == bytes && made.macOffset == -1)
  }

  @Test("Family A: routing commands are left out, all else is as it was")
  func strippedA() throws {
    var header = SlimSamples.headerA()
    let plain = SlimSamples.publishA(header).encoded()
    for change: (inout SlimAHeader) -> Void in [
      { $0.recvFrom = 1 }, { $0.forwardTo = .max }, { $0.incomingConn = 300 },
    ] {
      change(&header)
      let bytes = SlimSamples.publishA(header).encoded()
      #expect(bytes != plain)
      #expect(try forwarded(bytes, .slimA)?.message == plain)
    }
  }

  /// B's headers that have to be written anew, or not at all.
  static func headers() -> [SlimBHeader] {
    var made: [SlimBHeader] = []
    for mac in [nil, [], [1, 2], noMac, [UInt8](repeating: 1, count: 40)] as [[UInt8]?] {
      for ttl in [2, 8, 127, 128, 129, 16384, .max] as [UInt32] {
        made.append(SlimSamples.headerB(ttl: ttl, mac: mac))
        var routed = SlimSamples.headerB(ttl: ttl, mac: mac)
        routed.recvFrom = 1
        routed.forwardTo = 1 << 40
        routed.incomingConn = 0
        routed.error = true
        made.append(routed)
        made.append(SlimBHeader(destination: SlimSamples.bobB, ttl: ttl, headerMac: mac))
      }
    }
    return made
  }

  @Test("Family B: whatever the header, what goes on differs in the wanted fields only")
  func rebuilt() throws {
    for header in Self.headers() {
      let bytes = SlimSamples.publishB(header).encoded()
      let (message, macOffset) = try #require(try forwarded(bytes, .slimB))
      var wanted = header
      wanted.ttl -= 1
      wanted.recvFrom = nil
      wanted.forwardTo = nil
      wanted.incomingConn = nil
      wanted.headerMac = Self.noMac
      #expect(try SlimBMessage(decoding: message) == SlimSamples.publishB(wanted))
      let again = try envelope(message, .slimB)
      #expect(again.header.mac?.lowerBound == macOffset - again.headerRecord.lowerBound)
      #expect(!again.header.hasRoutingCommand)
    }
  }

  @Test("Records keep their order and unknown ones their bytes, wherever the header stands")
  func order() throws {
    // metadata, then a publish with content, an unknown field, the header (unknown field, ttl 2, recv_from) and
    // an unknown one behind it; then an unknown field of the message.
    let bytes = hex(
      "2206 0a01 6b12 0176 1a17 1a05 0a03 1201 aa 7805 0a0a 7a02 6869 3002 3801 40 09 7801 f801 05")
    let message = try #require(try forwarded(bytes, .slimB)).message
    let mac = String(repeating: "00", count: 32)
    #expect(
      message
        == hex(
          "2206 0a01 6b12 0176 1a35 1a05 0a03 1201 aa 7805 0a28 7a02 6869 3001 5a20 \(mac) 7801 f801 05"
        ))
  }

  @Test("A ttl or MAC that stands twice is there once afterwards")
  func twice() throws {
    let mac = String(repeating: "11", count: 32)
    for body in ["3005 3008 5a20 \(mac)", "3008 5a20 \(mac) 5a01 01", "308800 5a20 \(mac)"] {
      let header = hex(body)
      let publish = [10, UInt8(header.count)] + header
      let bytes = [26, UInt8(publish.count)] + publish
      let (message, macOffset) = try #require(try forwarded(bytes, .slimB))
      let zeros = String(repeating: "00", count: 32)
      #expect(message == hex("1a26 0a24 3007 5a20 \(zeros)"))
      #expect(macOffset == 8)
    }
  }

  @Test("A message whose last hop this was does not go on", arguments: [0, 1] as [UInt32])
  func ttl(ttl: UInt32) throws {
    let bytes = SlimSamples.publishB(SlimSamples.headerB(ttl: ttl)).encoded()
    let e = try envelope(bytes, .slimB)
    #expect(!SlimForward.hasHopLeft(e.header, .slimB) && SlimForward.hasHopLeft(e.header, .slimA))
    #expect(try forwarded(bytes, .slimB) == nil)
  }

  @Test("Only a publish with a header goes on")
  func others() throws {
    for bytes in [hex(""), hex("0a00"), hex("0a02 0a00"), hex("1a00"), hex("2a00"), hex("3200")] {
      #expect(try forwarded(bytes, .slimA) == nil)
      #expect(try forwarded(bytes, .slimB) == nil)
    }
  }

  @Test("What would be larger than a message may be does not go on")
  func large() throws {
    func message(_ payload: Int) -> [UInt8] {
      let content = SlimSamples.messageB([UInt8](repeating: 1, count: payload))
      return SlimSamples.publishB(SlimSamples.headerB(mac: nil), content).encoded()
    }
    let overhead = message(4 << 20).count - (4 << 20)
    // The MAC's record has 34 bytes and the header's length keeps its own.
    for (room, passes) in [(0, false), (33, false), (34, true)] {
      let bytes = message((4 << 20) - overhead - room)
      #expect(bytes.count == Limits.messageBytes - room)
      #expect(try (forwarded(bytes, .slimB) != nil) == passes)
    }
  }

  @Test("A kept header serves a later message, wherever its header stands")
  func keptHeader() throws {
    let first = SlimSamples.publishB().encoded()
    let kept = try envelope(first, .slimB)
    let record = Array(first[kept.headerRecord])
    let later = hex("2206 0a01 6b12 0176") + SlimSamples.publishB(metadata: [:]).encoded()
    let e = try envelope(later, .slimB, known: record)
    #expect(e.headerIsKnown && e.headerRecord.lowerBound != kept.headerRecord.lowerBound)
    let made = try #require(
      later.withUnsafeBytes { SlimForward.frame($0, e, header: kept.header, family: .slimB) })
    let own = try #require(try forwarded(later, .slimB))
    #expect(Array(made.frame.array()[5...]) == own.message && made.macOffset == own.macOffset + 5)
    let rests = later.withUnsafeBytes { all in
      first.withUnsafeBytes {
        (
          SlimMac.rest(all, e, header: kept.header, forNextHop: true),
          SlimMac.rest($0, kept, header: kept.header, forNextHop: true)
        )
      }
    }
    #expect(rests.0 == rests.1)
  }

  @Test("Answers say what was asked")
  func answers() throws {
    func read(_ frame: Bytes) throws -> SlimBMessage {
      let bytes = frame.array()
      #expect(
        bytes.withUnsafeBytes { GrpcFrame.prefix($0, limit: 1 << 20) }
          == .message(length: bytes.count - 5, compressed: false))
      return try SlimBMessage(decoding: Array(bytes[5...]))
    }
    for id in [0, 1, 300, .max] as [UInt64] {
      #expect(
        try read(SlimAnswer.subscriptionAck(id: id, error: nil))
          == SlimBMessage(
            messageType: .subscriptionAck(SlimBSubscriptionAck(subscriptionID: id, success: true))))
      #expect(
        try read(SlimAnswer.subscriptionAck(id: id, error: "no"))
          == SlimBMessage(
            messageType: .subscriptionAck(SlimBSubscriptionAck(subscriptionID: id, error: "no"))))
    }
    let key = [UInt8](repeating: 3, count: 32)
    #expect(
      try read(
        SlimAnswer.linkReply(
          linkID: Array("link".utf8), version: "3.4.6", publicKey: key, nodeID: "n",
          connectionType: 2))
        == SlimBMessage(
          messageType: .link(
            SlimBLink(
              negotiation: SlimBLinkNegotiation(
                linkID: "link", slimVersion: "3.4.6", isReply: true, publicKey: key,
                connectionType: .edge, nodeID: "n")))))
    #expect(
      try read(
        SlimAnswer.linkReply(
          linkID: Array("link".utf8), version: "1.4.1", publicKey: nil, nodeID: "",
          connectionType: nil))
        == SlimBMessage(
          messageType: .link(
            SlimBLink(
              negotiation: SlimBLinkNegotiation(
                linkID: "link", slimVersion: "1.4.1", isReply: true)))))
  }
}
