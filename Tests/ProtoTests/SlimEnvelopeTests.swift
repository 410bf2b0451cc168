import Base
import Codec
import Messages
import Testing

@Suite("SLIM envelope", .timeLimit(.minutes(2)))
struct SlimEnvelopeTests {
  @Test("Everything of a publish of family B is seen")
  func publishB() throws {
    var header = SlimSamples.headerB()
    header.recvFrom = 3
    header.error = false
    let bytes = SlimSamples.publishB(header).encoded()
    let e = try envelope(bytes, .slimB)
    #expect(e.kind == .publish && !e.headerIsKnown && e.command == 0)
    #expect((e.sessionType, e.messageType, e.sessionID, e.messageID) == (2, 1, 5, 6))
    #expect(e.payload.map { Array(bytes[$0]) } == [1, 2, 3])
    #expect(e.payloadType.map { Array(bytes[$0]) } == Array("msg".utf8))
    let record = Array(bytes[e.headerRecord])
    let body = header.encoded()
    #expect(record == [10, UInt8(body.count & 0x7f | 0x80), UInt8(body.count >> 7)] + body)
    let h = e.header
    #expect(
      h.source == SlimName(c0: 0xf685_e3e0_3791_a023, c1: 2, c2: 3, idHigh: 1, idLow: 2))
    #expect(h.destination == SlimName(c0: 0xf685_e3e0_3791_a023, c1: 2, c2: 4))
    #expect(h.destination?.isAny == true && h.source?.isAny == false)
    #expect(h.fanout == 256 && h.ttl == 8 && h.isError == false && h.hasRoutingCommand)
    #expect(h.recvFrom == 3 && h.forwardTo == nil)
    #expect(h.identity.map { Array(record[$0]) } == [UInt8](repeating: 0x69, count: 130))
    #expect(h.version.map { Array(record[$0]) } == Array("3.4.6".utf8))
    #expect(h.mac.map { Array(record[$0]) } == [UInt8](repeating: 7, count: 32))
    let name = record.withUnsafeBytes { all in
      h.destinationText.flatMap { SlimNameText(all, body: $0) }?.channelName(in: all)
    }
    #expect(name == ChannelName("acme/demo/bob"))
  }

  @Test("Everything of a publish of family A is seen")
  func publishA() throws {
    var header = SlimSamples.headerA()
    header.forwardTo = 4
    header.error = true
    let bytes = SlimSamples.publishA(header).encoded()
    let e = try envelope(bytes, .slimA)
    #expect(e.kind == .publish && e.messageType == 1 && e.messageID == 6)
    #expect(e.payload.map { Array(bytes[$0]) } == [1, 2, 3])
    let h = e.header
    #expect(h.source == SlimName(c0: 1, c1: 2, c2: 3, idHigh: 0, idLow: 77))
    #expect(h.destination == SlimName(c0: 1, c1: 2, c2: 3))
    #expect(h.destination == h.source?.any)
    #expect(h.fanout == 256 && h.ttl == 0 && h.mac == nil && h.isError == true)
    #expect(h.forwardTo == 4 && h.recvFrom == nil)
    #expect(h.identity?.count == 130)
  }

  @Test("An instance id that is not there is NULL in family B and 0 in family A")
  func absentID() throws {
    let b = SlimBName(name: SlimBEncodedName(component0: 1))
    let bytesB = SlimBMessage(
      messageType: .subscribe(SlimBSubscribe(header: SlimBHeader(destination: b)))
    ).encoded()
    #expect(try envelope(bytesB, .slimB).header.destination == SlimName(c0: 1, c1: 0, c2: 0))
    let a = SlimAName(name: SlimAEncodedName(component0: 1))
    let bytesA = SlimAMessage(
      messageType: .subscribe(SlimASubscribe(header: SlimAHeader(destination: a)))
    ).encoded()
    #expect(
      try envelope(bytesA, .slimA).header.destination
        == SlimName(c0: 1, c1: 0, c2: 0, idHigh: 0, idLow: 0))
  }

  @Test("A name of Skytale's has text and no hashes")
  func skytale() throws {
    let bytes = hex("0a13 0a11 120f 120d 0a03 6f7267 1202 6e73 1a02 6331")
    let e = try envelope(bytes, .skytale)
    #expect(e.kind == .subscribe && e.header.destination == nil)
    #expect(e.header.destinationText != nil && e.headerRecord == 2..<21)
  }

  @Test(
    "Subscriptions, links and acks are told apart, in both families", arguments: Family.allCases)
  func kinds(family: Family) throws {
    let subscribe = SlimAMessage(
      messageType: .subscribe(SlimASubscribe(header: SlimAHeader(), subscriptionID: 77)))
    #expect(try envelope(subscribe.encoded(), family).kind == .subscribe)
    #expect(try envelope(subscribe.encoded(), family).subscriptionID == 77)
    let unsubscribe = SlimAMessage(
      messageType: .unsubscribe(SlimAUnsubscribe(subscriptionID: .max)))
    #expect(try envelope(unsubscribe.encoded(), family).kind == .unsubscribe)
    #expect(try envelope(unsubscribe.encoded(), family).subscriptionID == .max)
    #expect(try envelope(unsubscribe.encoded(), family).headerRecord.isEmpty)
    let ack = SlimAMessage(
      messageType: .subscriptionAck(SlimASubscriptionAck(subscriptionID: 5, success: true)))
    #expect(try envelope(ack.encoded(), family).kind == .subscriptionAck)
    #expect(try envelope(ack.encoded(), family).subscriptionID == 5)
    #expect(try envelope([], family).kind == .none)
  }

  @Test("A link's public key is seen in every family", arguments: Family.allCases)
  func link(family: Family) throws {
    var negotiation = SlimBLinkNegotiation(
      linkID: "58a5959b", slimVersion: "3.4.6", publicKey: [UInt8](repeating: 1, count: 32),
      connectionType: .edge, kemPayload: [UInt8](repeating: 2, count: 1184))
    func read() throws -> (SlimLink, [UInt8]) {
      let bytes = SlimBMessage(messageType: .link(SlimBLink(negotiation: negotiation))).encoded()
      let e = try envelope(bytes, family)
      #expect(e.kind == .link)
      return (e.link, bytes)
    }
    let (link, bytes) = try read()
    #expect(Array(bytes[link.linkID]) == Array("58a5959b".utf8))
    #expect(Array(bytes[link.version]) == Array("3.4.6".utf8))
    #expect(link.publicKey.map { Array(bytes[$0]) } == [UInt8](repeating: 1, count: 32))
    #expect(link.connectionType == 2 && !link.isReply && link.kemKey?.count == 1184)
    negotiation.publicKey.removeLast()
    negotiation.kemPayload = nil
    negotiation.isReply = true
    let (other, _) = try read()
    #expect(other.publicKey == nil && other.kemKey == nil && other.isReply)
  }

  @Test("Every command of family B passes and says which it is")
  func commandsB() throws {
    for (i, command) in SlimSamples.commandsB.enumerated() {
      let content = SlimSamples.commandB(command)
      let bytes = SlimSamples.publishB(SlimSamples.headerB(), content).encoded()
      #expect(try envelope(bytes, .slimB).command == UInt32(i + 1))
    }
  }

  @Test("A header that is known is not read, one that differs in a byte is")
  func knownHeader() throws {
    for (family, bytes) in [
      (Family.slimB, SlimSamples.publishB().encoded()), (.slimA, SlimSamples.publishA().encoded()),
    ] {
      let first = try envelope(bytes, family)
      let record = Array(bytes[first.headerRecord])
      let again = try envelope(bytes, family, known: record)
      #expect(again.headerIsKnown && again.headerRecord == first.headerRecord)
      #expect(again.header.destination == nil)
      #expect(again.payload == first.payload && again.messageID == first.messageID)
      for at in record.indices {
        var other = record
        other[at] ^= 1
        #expect(try !envelope(bytes, family, known: other).headerIsKnown)
      }
      #expect(try !envelope(bytes, family, known: record + [0]).headerIsKnown)
      // Known bytes that would reach beyond the publish are not compared.
      let short = Array(bytes[first.headerRecord.lowerBound...]) + [1, 2, 3]
      #expect(try !envelope(bytes, family, known: short).headerIsKnown)
    }
  }

  static let chokingB: [(String, String)] = [
    ("a publish as a varint", "1801"),
    ("a fanout as bytes", "1a06 0a04 2202 0102"),
    ("an identity as a varint (family A's fanout)", "1a04 0a02 1801"),
    ("a fanout as text (family A's identity)", "1a06 0a04 2202 6f6b"),
    ("identity not UTF-8", "1a05 0a03 1a01ff"),
    ("version not UTF-8", "1a05 0a03 2a01ff"),
    ("a ttl as fixed32", "1a07 0a05 35 00000000"),
    ("a MAC as a varint", "1a04 0a02 5801"),
    ("an end-to-end signature as a varint", "1a04 0a02 6001"),
    ("an id as a varint (family A)", "1a08 0a06 0a04 0a02 2001"),
    ("two ids", "1a0a 0a08 0a06 0a04 2200 2200"),
    ("half an id as bytes", "1a0a 0a08 0a06 0a04 2202 0a00"),
    ("a name part not UTF-8", "1a09 0a07 1205 1203 0a01ff"),
    ("payload type not UTF-8", "1a07 1a05 0a03 0a01ff"),
    ("metadata not UTF-8", "2203 0a01ff"),
    ("two publishes", "1a00 1a00"),
    ("a publish and a link", "1a00 2a00"),
    ("two headers", "1a04 0a00 0a00"),
    ("two sources", "1a06 0a04 0a00 0a00"),
    ("two sessions", "1a04 1200 1200"),
    ("two contents", "1a04 1a00 1a00"),
    ("application and command", "1a06 1a04 0a00 1200"),
    ("two commands", "1a08 1a06 1204 3a00 6a00"),
    ("the same command twice", "1a08 1a06 1204 6a00 6a00"),
    ("a heartbeat's epoch as bytes", "1a08 1a06 1204 6a02 0a00"),
    ("two mls payloads", "1a0a 1a08 1206 3a04 2200 2200"),
    ("two participants", "1a0a 1a08 1206 3a04 1200 1200"),
    ("two names of a participant", "1a0c 1a0a 1208 3a06 1204 0a00 0a00"),
    ("a participant's name not UTF-8", "1a0f 1a0d 120b 3a09 1a07 0a05 1203 0a01ff"),
    ("two negotiations", "2a04 0a00 0a00"),
    ("a public key as a varint", "2a04 0a02 2001"),
    ("a link id not UTF-8", "2a05 0a03 0a01ff"),
    ("an ack's error not UTF-8", "3203 1a01ff"),
    ("a group", "1b1c"),
    ("field number 0", "0000"),
    ("a length past the end", "1a05 0a00"),
  ]

  @Test("What a receiver of family B could choke on is refused", arguments: chokingB)
  func refusedB(what: String, text: String) {
    #expect(throws: WireError.self, "\(what)") { try envelope(hex(text), .slimB) }
  }

  @Test(
    "What a receiver of family A could choke on is refused",
    arguments: [
      ("a fanout as bytes (family B)", "1a06 0a04 1a02 0102"),
      ("an identity as a varint (family B)", "1a04 0a02 2001"),
      ("an id as a message (family B)", "1a08 0a06 0a04 0a02 2200"),
      ("a participant's name not UTF-8", "1a0d 1a0b 1209 3a07 1205 1203 0a01ff"),
      ("two new participants", "1a0a 1a08 1206 3a04 0a00 0a00"),
      ("two sources of a proposal", "1a0a 1a08 1206 5a04 0a00 0a00"),
      ("two commands", "1a08 1a06 1204 3a00 6200"),
      ("recv_from as bytes", "1a04 0a02 2a00"),
    ])
  func refusedA(what: String, text: String) {
    #expect(throws: WireError.self, "\(what)") { try envelope(hex(text), .slimA) }
  }

  @Test("Repeated fields may repeat, unknown ones pass at every level", arguments: Family.allCases)
  func unknown(family: Family) throws {
    let e = try envelope(hex("7801 1a13 7801 0a02 7801 1202 7801 1a07 7801 1203 f80101"), family)
    #expect(e.kind == .publish && e.command == 0)
    let update = try envelope(hex("1a0a 1a08 1206 3a04 1a00 1a00"), .slimB)
    #expect(update.command == 7)
    // Field 4 of a negotiation is unknown to family A: it may hold anything there.
    #expect(try envelope(hex("2a04 0a02 3001"), .slimA).kind == .link)
  }

  @Test("A message of the other family is refused or has no name in common")
  func otherFamily() throws {
    #expect(throws: WireError.self) {
      try envelope(SlimSamples.publishA().encoded(), .slimB)
    }
    #expect(throws: WireError.self) {
      try envelope(SlimSamples.publishB().encoded(), .slimA)
    }
  }

  @Test("Damaged messages never crash, and what passes the decoder of the schema takes too")
  func damaged() throws {
    var random = Seeded(31)
    var accepted = 0
    let seeds: [(Family, [UInt8])] =
      SlimSamples.commandsB.map {
        (.slimB, SlimSamples.publishB(SlimSamples.headerB(), SlimSamples.commandB($0)).encoded())
      } + [
        (.slimA, SlimSamples.publishA().encoded()), (.slimB, SlimSamples.publishB().encoded()),
      ]
    for round in 0..<20_000 {
      let (family, seed) = seeds[round % seeds.count]
      let bytes = mutated(seed, &random)
      guard (try? envelope(bytes, family)) != nil else { continue }
      accepted += 1
      if family == .slimB {
        #expect(throws: Never.self) { try SlimBMessage(decoding: bytes) }
      } else {
        #expect(throws: Never.self) { try SlimAMessage(decoding: bytes) }
        #expect(throws: Never.self) { try view(bytes) }
      }
    }
    #expect(accepted > 1_000)
  }

  @Test("Names of message types")
  func names() {
    #expect(SlimNames.messageType(1, family: .slimA) == "MSG")
    #expect(SlimNames.messageType(11, family: .slimA) == "GROUP_ADD")
    #expect(SlimNames.messageType(18, family: .slimA) == "PING")
    #expect(SlimNames.messageType(19, family: .slimA) == "type 19")
    #expect(SlimNames.messageType(11, family: .slimB) == "GROUP_UPDATE")
    #expect(SlimNames.messageType(17, family: .slimB) == "HEARTBEAT")
    #expect(SlimNames.messageType(20, family: .slimB) == "REJOIN_REPLY")
    #expect(SlimNames.messageType(.max, family: .slimB) == "type 4294967295")
    for type in UInt32(0)...20 {
      let a = SlimASessionMessageType(rawValue: Int32(type)).name
      #expect(SlimNames.isKnown(type, family: .slimA) == (a != nil))
      #expect(SlimNames.messageType(type, family: .slimB).contains("type") == false)
    }
  }

  @Test("Names are equal in all five words only")
  func nameEquality() {
    let name = SlimName(c0: 1, c1: 2, c2: 3, idHigh: 4, idLow: 5)
    var others: Set<SlimName> = [name]
    for path in [\SlimName.c0, \.c1, \.c2, \.idHigh, \.idLow] {
      for bit in 0..<64 {
        var other = name
        other[keyPath: path] ^= 1 << UInt64(bit)
        #expect(other != name)
        others.insert(other)
      }
    }
    #expect(others.count == 1 + 5 * 64 && others.contains(name))
    #expect(!name.isAny && name.any.isAny && name.any.c2 == 3)
    #expect(!SlimName(c0: 1, c1: 2, c2: 3, idHigh: 0, idLow: .max).isAny)
  }
}
