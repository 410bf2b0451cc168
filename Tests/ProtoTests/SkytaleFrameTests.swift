import Base
import Codec
import Messages
import Testing

/// Messages with a payload in each place a relay must know, and how to find it again by plain
/// decoding.
enum Places {
  static let names = [
    "application", "groupAdd", "groupRemove", "groupWelcome", "groupProposal", "joinReply",
  ]

  static func content(_ place: String, _ payload: [UInt8], participants: [SlimAName])
    -> SlimAContent
  {
    let mls = SlimAMlsPayload(commitID: 3, mlsContent: payload)
    let member = participants.first
    let command: SlimACommandPayload.CommandPayloadType
    switch place {
    case "application":
      return SlimAContent(
        contentType: .appPayload(SlimAApplicationPayload(payloadType: "text/x", blob: payload)))
    case "groupAdd":
      command = .groupAdd(
        SlimAGroupAddPayload(newParticipant: member, participants: participants, mls: mls))
    case "groupRemove":
      command = .groupRemove(
        SlimAGroupRemovePayload(removedParticipant: member, participants: participants, mls: mls))
    case "groupWelcome":
      command = .groupWelcome(SlimAGroupWelcomePayload(participants: participants, mls: mls))
    case "groupProposal":
      command = .groupProposal(SlimAGroupProposalPayload(source: member, mlsProposal: payload))
    default: command = .joinReply(SlimAJoinReplyPayload(keyPackage: payload))
    }
    return SlimAContent(
      contentType: .commandPayload(SlimACommandPayload(commandPayloadType: command)))
  }

  static func payload(_ message: SlimAMessage) -> [UInt8]? {
    guard case .publish(let publish)? = message.messageType else { return nil }
    switch publish.msg?.contentType {
    case .appPayload(let app)?: return app.blob
    case .commandPayload(let command)?:
      switch command.commandPayloadType {
      case .groupAdd(let x)?: return x.mls?.mlsContent
      case .groupRemove(let x)?: return x.mls?.mlsContent
      case .groupWelcome(let x)?: return x.mls?.mlsContent
      case .groupProposal(let x)?: return x.mlsProposal
      case .joinReply(let x)?: return x.keyPackage
      default: return nil
      }
    case nil: return nil
    }
  }

  static func message(_ content: SlimAContent?, _ type: SlimASessionMessageType = .msg)
    -> SlimAMessage
  {
    SlimAMessage(
      messageType: .publish(
        SlimAPublish(
          header: SlimAHeader(
            source: SlimAName(name: SlimAEncodedName(component0: 4, component3: .max)),
            destination: channelName("org", "ns", "c1"), fanout: 2, identity: "me", recvFrom: 1,
            forwardTo: 300, incomingConn: .max, error: true),
          session: SlimASessionHeader(sessionType: .multicast, sessionMessageType: type),
          msg: content)),
      metadata: ["k": "v", "a": "b"])
  }

  /// What a receiver must see: the same message, the header stripped.
  static func stripped(_ message: SlimAMessage) -> SlimAMessage {
    var message = message
    if case .publish(var publish)? = message.messageType {
      publish.header?.recvFrom = nil
      publish.header?.forwardTo = nil
      publish.header?.incomingConn = nil
      message.messageType = .publish(publish)
    }
    return message
  }
}

/// The messages on the way to a payload, by the tag that leads into each.
enum Way {
  case message, publish, content, application, command, change, welcome, innermost

  func into(_ tag: UInt32) -> Way? {
    switch (self, tag) {
    case (.message, 26): .publish
    case (.publish, 26): .content
    case (.content, 10): .application
    case (.content, 18): .command
    case (.command, 58), (.command, 66): .change
    case (.command, 74): .welcome
    case (.command, 34), (.command, 90), (.change, 26), (.welcome, 18): .innermost
    default: nil
    }
  }
}

/// Every record of every message on the way to the payload put in another order, with overlong tags
/// and unknown records between them.
func shuffled(_ bytes: [UInt8], _ random: inout Seeded, _ way: Way = .message) -> [UInt8] {
  var records: [[UInt8]] = []
  bytes.withUnsafeBytes { all in
    var r = WireReader(all)
    while let tag = try? r.nextTag(), tag != 0 {
      let start = r.position
      guard (try? r.skip(tag)) != nil else { preconditionFailure("not a message") }
      var value = WireReader(all, range: start..<r.position)
      if let next = way.into(tag), let range = try? value.delimited() {
        let inner = shuffled(Array(all[range]), &random, next)
        records.append(record(tag, inner, overlong: random.below(3) == 0))
      } else {
        records.append(record(tag, Array(all[start..<r.position]), overlong: false, raw: true))
      }
    }
  }
  if random.below(3) == 0 { records.append(hex("fa3e 02 0102")) }
  if random.below(3) == 0 { records.append(hex("f83e 8001")) }
  records.shuffle(using: &random)
  return records.flatMap { $0 }
}

private func record(
  _ tag: UInt32, _ body: [UInt8], overlong: Bool, raw: Bool = false
) -> [UInt8] {
  var out: [UInt8] = overlong ? [UInt8(tag) | 0x80, 0x80, 0] : [UInt8(tag)]
  if raw { return out + body }
  var rest = body.count
  while rest >= 128 {
    out.append(UInt8(rest & 127) | 128)
    rest >>= 7
  }
  out.append(UInt8(rest))
  return out + body
}

func build(_ bytes: [UInt8]) throws -> (frame: Bytes, hasSuffix: Bool)? {
  try bytes.withUnsafeBytes { SkytaleFrame.build(from: $0, view: try SlimView($0)) }
}

@Suite("Skytale frames", .timeLimit(.minutes(4)))
struct SkytaleFrameTests {
  @Test(
    "The payload comes last with eight zero bytes, all else is unchanged, in every place and order",
    arguments: Places.names)
  func everyPlace(place: String) throws {
    var random = Seeded(1)
    let sizes = [1, 7, 8, 9, 100, 119, 120, 127, 128, 1_000, 16_370, 16_384, 70_000]
    for size in sizes {
      for round in 0..<12 {
        let payload = random.bytes(size)
        let names = (0..<round % 3).map { channelName("o\($0)", "n", "s") }
        let message = Places.message(Places.content(place, payload, participants: names))
        var bytes = message.encoded()
        if round > 0 { bytes = shuffled(bytes, &random) }
        let built = try #require(try build(bytes))
        #expect(built.hasSuffix)
        try verify(built.frame, is: message, payload: payload)
        #expect(try view(bytes).payload.map { Array(bytes[$0]) } == payload)
      }
    }
  }

  private func verify(_ frame: Bytes, is message: SlimAMessage, payload: [UInt8]) throws {
    let all = frame.array()
    let prefix = all.withUnsafeBytes { GrpcFrame.prefix($0, limit: Limits.messageBytes) }
    #expect(prefix == .message(length: all.count - 5, compressed: false))
    let suffixed = payload + [UInt8](repeating: 0, count: 8)
    #expect(Array(all.suffix(suffixed.count)) == suffixed)
    let read = try SlimAMessage(decoding: Array(all[5...]))
    #expect(Places.payload(read) == suffixed)
    // With the payload put back, it is the message that was sent, less the routing commands.
    var back = Places.stripped(message)
    guard case .publish(var publish)? = back.messageType, case .publish(let got)? = read.messageType
    else {
      Issue.record("not a publish")
      return
    }
    publish.msg = got.msg
    back.messageType = .publish(publish)
    #expect(read == back)
    let found = try #require(SkytaleFrame.payload(of: frame))
    #expect(Array(all[found.payload]) == payload)
    #expect(found.type == 1)
  }

  @Test("Only the moved bytes differ: the rest of the content is kept")
  func contentKept() throws {
    let names = [channelName("a", "b", "c"), channelName("d", "e", "f")]
    let message = Places.message(Places.content("groupAdd", [9], participants: names), .groupAdd)
    let built = try #require(try build(message.encoded()))
    let read = try SlimAMessage(decoding: built.frame.array(5..<built.frame.count))
    guard case .publish(let publish)? = read.messageType,
      case .commandPayload(let command)? = publish.msg?.contentType,
      case .groupAdd(let add)? = command.commandPayloadType
    else {
      Issue.record("not a group add")
      return
    }
    #expect(add.participants == names && add.newParticipant == names[0] && add.mls?.commitID == 3)
  }

  @Test("An unknown command member behind the payload does not lead the way astray")
  func unknownBehind() throws {
    // command { group_proposal { mls_proposal: 01 02 }, unknown 20: 1 }
    let bytes = hex("1a0d 1a0b 1209 5a04 1202 0102 a00101")
    let built = try #require(try build(bytes))
    #expect(built.hasSuffix)
    #expect(
      built.frame.array()
        == hex("00 00000017 1a15 1a13 1211 a00101 5a0c 120a 0102 0000000000000000"))
    let read = try SlimAMessage(decoding: built.frame.array(5..<built.frame.count))
    #expect(Places.payload(read) == hex("0102 0000000000000000"))
  }

  @Test("Without a payload the message is forwarded as it is, less the routing commands")
  func withoutPayload() throws {
    let ping = SlimAContent(
      contentType: .commandPayload(
        SlimACommandPayload(commandPayloadType: .ping(SlimAPingPayload())))
    )
    let message = Places.message(ping, .ping)
    let built = try #require(try build(message.encoded()))
    #expect(!built.hasSuffix && SkytaleFrame.payload(of: built.frame) == nil)
    #expect(
      try SlimAMessage(decoding: built.frame.array(5..<built.frame.count))
        == Places.stripped(message))
    let plain = Places.stripped(message).encoded()
    #expect(try #require(try build(plain)).frame.array(5..<plain.count + 5) == plain)
    var random = Seeded(3)
    for _ in 0..<200 {
      let odd = try #require(try build(shuffled(message.encoded(), &random)))
      #expect(
        try SlimAMessage(decoding: odd.frame.array(5..<odd.frame.count)) == Places.stripped(message)
      )
    }
    #expect(try build(hex("0a00")) == nil)
  }

  @Test(
    "A frame made from scratch decodes to the publish a Skytale agent would send",
    arguments: [
      (1, "application"), (11, "groupAdd"), (12, "groupRemove"), (13, "groupWelcome"),
      (15, "groupProposal"), (8, "joinReply"),
    ] as [(UInt32, String)])
  func made(type: UInt32, place: String) throws {
    for size in [0, 1, 100, 116, 128, 20_000] {
      let payload = [UInt8](repeating: 0xab, count: size)
      let frame = try #require(
        payload.withUnsafeBytes {
          SkytaleFrame.make(
            org: "org", namespace: "ns", service: "c/1", messageType: type, payloadType: "t",
            payload: $0)
        })
      let all = frame.array()
      let read = try SlimAMessage(decoding: Array(all[5...]))
      #expect(Places.payload(read) == payload + [UInt8](repeating: 0, count: 8))
      guard case .publish(let publish)? = read.messageType else {
        Issue.record("not a publish")
        return
      }
      #expect(publish.header == SlimAHeader(destination: channelName("org", "ns", "c/1")))
      #expect(
        publish.session
          == SlimASessionHeader(
            sessionType: .multicast,
            sessionMessageType: SlimASessionMessageType(rawValue: Int32(type))))
      let found = try #require(SkytaleFrame.payload(of: frame))
      #expect(Array(all[found.payload]) == payload && found.type == type)
      #expect(String(decoding: all[found.payloadType], as: UTF8.self) == (type == 1 ? "t" : ""))
      if type == 1, case .appPayload(let app)? = publish.msg?.contentType {
        #expect(app.payloadType == "t")
      }
    }
    let none = [UInt8](repeating: 0, count: 1)
    for other in [0, 2, 3, 5, 14, 16, 17, 18, 400] as [UInt32] {
      #expect(
        none.withUnsafeBytes {
          SkytaleFrame.make(
            org: "o", namespace: "n", service: "s", messageType: other, payloadType: "", payload: $0
          )
        } == nil)
    }
  }

  @Test("What the published SDK sends becomes what it expects to receive, byte for byte")
  func golden() throws {
    // Publish of `send` to org/ns/c1 with blob aabb.
    let sent = hex(
      "1a21 0a11 120f 120d 0a036f7267 12026e73 1a026331 1204 0802 1001 1a06 0a04 1202 aabb")
    let built = try #require(try build(sent))
    #expect(
      built.frame.array()
        == hex(
          "00 0000002b 1a29 0a11 120f 120d 0a036f7267 12026e73 1a026331 1204 0802 1001"
            + "1a0e 0a0c 120a aabb 0000000000000000"))
    built.frame.patch(7, at: built.frame.count - 8)
    #expect(built.frame.array().last == 7)
  }

  @Test("Acks and nacks name the channel and nothing else")
  func answers() throws {
    let cases: [(Bytes, SlimASessionMessageType, SlimACommandPayload.CommandPayloadType)] = [
      (
        SkytaleFrame.ack(org: "o", namespace: "n", service: "s"), .groupAck,
        .groupAck(SlimAGroupAckPayload())
      ),
      (
        SkytaleFrame.nack(org: "o", namespace: "n", service: "s"), .groupNack,
        .groupNack(SlimAGroupNackPayload())
      ),
    ]
    for (frame, type, command) in cases {
      let read = try SlimAMessage(decoding: frame.array(5..<frame.count))
      #expect(
        read.messageType
          == .publish(
            SlimAPublish(
              header: SlimAHeader(destination: channelName("o", "n", "s")),
              session: SlimASessionHeader(sessionType: .multicast, sessionMessageType: type),
              msg: SlimAContent(
                contentType: .commandPayload(SlimACommandPayload(commandPayloadType: command))))))
    }
  }

  @Test("A message that would pass the limit with its suffix is not built")
  func limit() throws {
    func sized(_ n: Int) -> [UInt8] {
      SlimAMessage(
        messageType: .publish(
          SlimAPublish(
            msg: SlimAContent(
              contentType: .appPayload(
                SlimAApplicationPayload(blob: [UInt8](repeating: 1, count: n)))))
        )
      ).encoded()
    }
    let overhead = sized(3 << 20).count - (3 << 20)
    let fits = Limits.messageBytes - overhead - Limits.suffixBytes
    #expect(try build(sized(fits))?.frame.count == Limits.messageBytes + 5)
    #expect(try build(sized(fits + 1)) == nil)
    let big = [UInt8](repeating: 1, count: Limits.messageBytes)
    #expect(
      big.withUnsafeBytes {
        SkytaleFrame.make(
          org: "o", namespace: "n", service: "s", messageType: 1, payloadType: "", payload: $0)
      } == nil)
  }
}
