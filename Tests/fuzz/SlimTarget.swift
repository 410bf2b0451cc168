import Base
import Codec
import Messages

/// Seeds of the SLIM wire: a payload in each place a relay knows, and messages without one.
enum SlimSeeds {
  static func name(_ org: String, _ namespace: String, _ service: String) -> SlimAName {
    SlimAName(
      strName: SlimAStringName(strComponent0: org, strComponent1: namespace, strComponent2: service)
    )
  }

  static func publish(_ content: SlimAContent?, _ type: SlimASessionMessageType) -> [UInt8] {
    SlimAMessage(
      messageType: .publish(
        SlimAPublish(
          header: SlimAHeader(
            source: SlimAName(name: SlimAEncodedName(component0: 4, component3: .max)),
            destination: name("org", "ns", "c1"), fanout: 2, identity: "me", recvFrom: 1,
            forwardTo: 300, incomingConn: .max, error: true),
          session: SlimASessionHeader(sessionType: .multicast, sessionMessageType: type),
          msg: content)),
      metadata: ["k": "v", "a": "b"]
    ).encoded()
  }

  static func contents(_ payload: [UInt8]) -> [SlimAContent] {
    let mls = SlimAMlsPayload(commitID: 3, mlsContent: payload)
    let names = [name("o1", "n", "s"), name("o2", "n", "s")]
    let commands: [SlimACommandPayload.CommandPayloadType] = [
      .groupAdd(SlimAGroupAddPayload(newParticipant: names[0], participants: names, mls: mls)),
      .groupRemove(
        SlimAGroupRemovePayload(removedParticipant: names[0], participants: names, mls: mls)),
      .groupWelcome(SlimAGroupWelcomePayload(participants: names, mls: mls)),
      .groupProposal(SlimAGroupProposalPayload(source: names[1], mlsProposal: payload)),
      .joinReply(SlimAJoinReplyPayload(keyPackage: payload)), .ping(SlimAPingPayload()),
      .groupAck(SlimAGroupAckPayload()),
    ]
    let application = SlimAApplicationPayload(payloadType: "text/x", blob: payload)
    return [SlimAContent(contentType: .appPayload(application))]
      + commands.map {
        SlimAContent(contentType: .commandPayload(SlimACommandPayload(commandPayloadType: $0)))
      }
  }

  static let all: [[UInt8]] = {
    var made: [[UInt8]] = [[]]
    for payload in [
      [], [9], [UInt8](repeating: 0xab, count: 40), [UInt8](repeating: 1, count: 119),
    ] {
      made += contents(payload).map { publish($0, .msg) }
    }
    made.append(publish(nil, .ping))
    let header = SlimAHeader(destination: name("org", "ns", "c1"))
    made.append(SlimAMessage(messageType: .subscribe(SlimASubscribe(header: header))).encoded())
    made.append(
      SlimAMessage(messageType: .unsubscribe(SlimAUnsubscribe(header: header, subscriptionID: 77)))
        .encoded())
    made.append(
      SlimAMessage(messageType: .link(SlimALink(negotiation: SlimALinkNegotiation(linkID: "x"))))
        .encoded())
    made.append(
      SlimAMessage(messageType: .subscriptionAck(SlimASubscriptionAck(success: true))).encoded())
    return made
  }()
}

/// The view that relays read, and the frame they make of what it accepts.
struct SlimTarget: FuzzTarget {
  static let name = "slim"
  static let wantedShare = 100_000
  let corpus = SlimSeeds.all
  let words: [[UInt8]] = [
    [10, 0], [18, 0], [26, 0], [34, 0], [58, 0], [66, 0], [74, 0], [90, 0], [40, 1], [48, 0x80, 1],
    [56, 3],
    [0xfa, 0x3e, 1, 7], [0x9a, 0x80, 0], [0xf8, 0x3e, 0x80, 1],
  ]

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let view = try? SlimView(input) else { return false }
    // What passes goes to readers with other runtimes: a plain decoder must take it too.
    try check(
      (try? SlimAMessage(decoding: input)) != nil, "the view accepts what the decoder refuses")
    for range in [
      view.payload, view.payloadType, view.identity, view.destination.stringName,
      view.source.stringName,
      view.destination.org, view.destination.namespace, view.destination.service,
    ] {
      guard let range else { continue }
      try check(range.lowerBound >= 0 && range.upperBound <= input.count, "\(range) is outside")
    }
    if let name = view.destination.channelName(in: input) {
      try check(ChannelName(name.description) == name, "a channel name that reads back as another")
    }
    try checkFrame(input, view)
    return true
  }

  private func checkFrame(_ input: UnsafeRawBufferPointer, _ view: SlimView) throws(Finding) {
    guard let built = SkytaleFrame.build(from: input, view: view) else {
      try check(
        view.kind != .publish || input.count > Limits.messageBytes / 2,
        "a publish that was not built")
      return
    }
    try check(
      built.hasSuffix == (view.payload != nil), "a suffix without a payload, or none with one")
    let frame = built.frame.array()
    let prefix = frame.withUnsafeBytes { GrpcFrame.prefix($0, limit: Limits.messageBytes) }
    try check(prefix == .message(length: frame.count - 5, compressed: false), "the prefix is wrong")
    let message = Array(frame[5...])
    try check((try? SlimAMessage(decoding: message)) != nil, "the frame cannot be decoded")
    guard let again = message.withUnsafeBytes({ try? SlimView($0) }) else {
      throw Finding("the frame cannot be viewed")
    }
    try check(!again.hasRoutingCommand, "a routing command was not stripped")
    try check(
      again.sessionMessageType == view.sessionMessageType && again.place == view.place
        && again.command == view.command, "the frame says something else than the message")
    guard let payload = view.payload else { return }
    guard let found = SkytaleFrame.payload(of: built.frame) else {
      throw Finding("the payload is not found in its frame")
    }
    try check(frame[found.payload].elementsEqual(input[payload]), "the payload is another")
    try check(
      found.payload.upperBound == frame.count - 8 && frame.suffix(8).allSatisfy { $0 == 0 },
      "the payload and its suffix are not last")
  }
}

/// Frames as they lie in the archive.
struct FrameTarget: FuzzTarget {
  static let name = "skytale-frame"
  static let wantedShare = 50_000
  let corpus: [[UInt8]]

  init() {
    var made: [[UInt8]] = []
    for bytes in SlimSeeds.all {
      bytes.withUnsafeBytes { all in
        if let view = try? SlimView(all), let built = SkytaleFrame.build(from: all, view: view) {
          made.append(built.frame.array())
        }
      }
    }
    let payload = [UInt8](repeating: 0xab, count: 20)
    for type in [1, 8, 11, 12, 13, 15] as [UInt32] {
      let frame = payload.withUnsafeBytes {
        SkytaleFrame.make(
          org: "org", namespace: "ns", service: "c/1", messageType: type, payloadType: "t",
          payload: $0)
      }
      if let frame { made.append(frame.array()) }
    }
    made.append(SkytaleFrame.ack(org: "o", namespace: "n", service: "s").array())
    corpus = made
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let prefix = GrpcFrame.prefix(input, limit: Limits.messageBytes)
    if case .message(let length, _) = prefix {
      try check(length <= Limits.messageBytes, "a message of \(length) bytes passed the limit")
    }
    guard let found = SkytaleFrame.payload(of: Bytes(input)) else { return false }
    for range in [found.payload, found.payloadType] {
      try check(range.lowerBound >= 0 && range.upperBound <= input.count, "\(range) is outside")
    }
    return true
  }
}
