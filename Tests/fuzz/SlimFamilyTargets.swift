import Base
import Codec
import Messages

/// Seeds of family B: all commands, headers with and without what a node strips and patches.
enum SlimBSeeds {
  static let name = SlimBName(
    name: SlimBEncodedName(
      component0: 1, component1: .max, component2: 3, nameID: SlimBNameId(high: 4, low: .max)),
    strName: SlimBStringName(strComponent0: "org", strComponent1: "ns", strComponent2: "c1"))

  static let headers: [SlimBHeader] = {
    let mac = [UInt8](repeating: 0x5a, count: 32)
    let plain = SlimBHeader(
      source: name, destination: name, identity: "me:1:2", fanout: 256, version: "3.4.6", ttl: 8,
      headerMac: mac, e2eHeaderSig: [1, 2, 3])
    var routed = plain
    (routed.recvFrom, routed.forwardTo, routed.incomingConn) = (1, 300, .max)
    (routed.error, routed.ttl, routed.headerMac) = (true, 128, nil)
    return [plain, routed, SlimBHeader(destination: SlimBName(), ttl: 2, headerMac: [1])]
  }()

  static let commands: [SlimBCommandPayload.CommandPayloadType] = {
    let member = SlimBParticipant(
      name: name, settings: SlimBParticipantSettings(sendsData: true), status: .offline)
    let mls = SlimBMlsPayload(commitID: 3, mlsContent: [1, 2])
    return [
      .discoveryRequest(SlimBEmpty()), .heartbeat(SlimBHeartbeat(epoch: 2)),
      .joinRequest(
        SlimBJoinRequest(
          timerSettings: SlimBTimerSettings(timeout: 9), channel: name, control: name,
          mlsSettings: SlimBMlsSettings(headerIntegrityPercent: 1))),
      .joinReply(SlimBJoinReply(keyPackage: [4], participant: member)),
      .groupUpdate(
        SlimBGroupUpdate(op: .remove, participant: member, participants: [member], mls: mls)),
      .groupWelcome(SlimBGroupWelcome(participants: [member], mls: mls)),
      .groupClose(SlimBGroupClose(participants: [name, name])),
      .groupProposal(SlimBGroupProposal(source: name, mlsProposal: [6])),
      .updateParticipantState(SlimBUpdateParticipantState(participant: name, epoch: 2)),
      .rejoinRequest(SlimBRejoinRequest(participant: name, keyPackage: [7])),
      .rejoinReply(SlimBRejoinReply(commitID: 8, mlsContent: [8])),
    ]
  }()

  static let all: [[UInt8]] = {
    let application = SlimBContent(
      contentType: .appPayload(SlimBApplicationPayload(payloadType: "msg", blob: [1, 2, 3, 4])))
    var messages: [SlimBMessage.MessageType] = []
    func publish(_ header: SlimBHeader, _ content: SlimBContent) {
      let session = SlimBSessionHeader(
        sessionType: .multicast, sessionMessageType: .msg, sessionID: 1, messageID: 200)
      messages.append(.publish(SlimBPublish(header: header, session: session, msg: content)))
    }
    for header in headers { publish(header, application) }
    for command in commands {
      publish(
        headers[0],
        SlimBContent(contentType: .commandPayload(SlimBCommandPayload(commandPayloadType: command)))
      )
    }
    messages.append(.subscribe(SlimBSubscribe(header: headers[0], subscriptionID: 9)))
    messages.append(.unsubscribe(SlimBUnsubscribe(header: headers[1])))
    messages.append(
      .link(
        SlimBLink(
          negotiation: SlimBLinkNegotiation(
            linkID: "l", slimVersion: "3.4.6", publicKey: [UInt8](repeating: 2, count: 32),
            connectionType: .edge, nodeID: "n", kemPayload: [1]))))
    messages.append(.subscriptionAck(SlimBSubscriptionAck(subscriptionID: 3, success: true)))
    return messages.map { SlimBMessage(messageType: $0, metadata: ["k": "v"]).encoded() }
  }()
}

/// Family A: what a node reads and sends on.
struct SlimATarget: FuzzTarget {
  static let name = "slim-a"
  static let wantedShare = 100_000
  let corpus = SlimSeeds.all
  let words = slimWords

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let seen = try slimCheck(self, input, .slimA) else { return false }
    try check((try? SlimView(input)) != nil, "the envelope accepts what the view refuses")
    guard let before = try? SlimAMessage(decoding: input) else {
      throw Finding("the envelope accepts what the decoder refuses")
    }
    guard let message = seen.next, case .publish(var publish) = before.messageType else {
      return true
    }
    publish.header?.recvFrom = nil
    publish.header?.forwardTo = nil
    publish.header?.incomingConn = nil
    let wanted = SlimAMessage(messageType: .publish(publish), metadata: before.metadata)
    try check(
      (try? SlimAMessage(decoding: message)) == wanted, "what goes on says something else")
    return true
  }
}

/// Family B: the same, with ttl and MAC.
struct SlimBTarget: FuzzTarget {
  static let name = "slim-b"
  static let wantedShare = 100_000
  let corpus = SlimBSeeds.all
  let words = slimWords

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let seen = try slimCheck(self, input, .slimB) else { return false }
    guard let before = try? SlimBMessage(decoding: input) else {
      throw Finding("the envelope accepts what the decoder refuses")
    }
    guard let message = seen.next, case .publish(var publish) = before.messageType else {
      return true
    }
    publish.header?.recvFrom = nil
    publish.header?.forwardTo = nil
    publish.header?.incomingConn = nil
    publish.header?.headerMac = [UInt8](repeating: 0, count: 32)
    publish.header?.ttl -= 1
    let wanted = SlimBMessage(messageType: .publish(publish), metadata: before.metadata)
    try check(
      (try? SlimBMessage(decoding: message)) == wanted, "what goes on says something else")
    return true
  }
}

private let slimWords: [[UInt8]] = [
  [10, 0], [18, 0], [26, 0], [34, 0], [40, 1], [48, 2], [48, 0x80, 1], [56, 3], [64, 0x80, 1],
  [72, 4], [80, 1], [90, 32], [90, 0], [98, 1, 7], [0xfa, 0x3e, 1, 7], [0x9a, 0x80, 0],
]

/// What must hold in both families. nil: refused; `next` is the message that goes on, if one does.
private func slimCheck<T: FuzzTarget>(
  _ target: T, _ input: UnsafeRawBufferPointer, _ family: Family
) throws(Finding) -> (envelope: SlimEnvelope, next: [UInt8]?)? {
  let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
  try slimCheckGlance(target, input, family)
  guard let e = try? SlimEnvelope(input, family: family, knownHeader: nothing) else { return nil }
  let record = UnsafeRawBufferPointer(rebasing: input[e.headerRecord])
  let inMessage = [
    e.payload, e.payloadType, e.link.linkID, e.link.version, e.link.publicKey, e.link.nodeID,
    e.link.kemKey,
  ]
  for range in inMessage {
    guard let range else { continue }
    try target.check(range.lowerBound >= 0 && range.upperBound <= input.count, "\(range) outside")
  }
  let inRecord = [
    e.header.sourceText, e.header.destinationText, e.header.identity, e.header.mac,
    e.header.version,
  ]
  for range in inRecord {
    guard let range else { continue }
    try target.check(range.lowerBound >= 0 && range.upperBound <= record.count, "\(range) outside")
  }
  if let body = e.header.destinationText {
    guard let text = SlimNameText(record, body: body) else { throw Finding("a name is unreadable") }
    _ = text.channelName(in: record)
  }
  let made = SlimForward.frame(input, e, header: e.header, family: family)
  let passes =
    e.kind == .publish && !e.headerRecord.isEmpty && SlimForward.hasHopLeft(e.header, family)
  try target.check((made != nil) == passes, "a publish that does not go on, or another that does")
  try slimCheckKnown(target, input, e, made, family)
  let rest = SlimMac.rest(input, e, header: e.header, forNextHop: true)
  guard let made else { return (e, nil) }
  let frame = made.frame.array()
  let prefix = frame.withUnsafeBytes { GrpcFrame.prefix($0, limit: Limits.messageBytes) }
  try target.check(prefix == .message(length: frame.count - 5, compressed: false), "the prefix")
  try made.frame.withUnsafeBytes { all throws(Finding) in
    let next = UnsafeRawBufferPointer(rebasing: all[5...])
    try slimCheckNext(target, input, e, next, made.macOffset - 5, rest, family)
  }
  return (e, Array(frame[5...]))
}

/// Header records that were accepted before.
private let slimKnownHeaders: [Family: [[UInt8]]] = {
  func records(_ messages: [[UInt8]], _ family: Family) -> [[UInt8]] {
    let found = messages.compactMap { message -> [UInt8]? in
      message.withUnsafeBytes { all in
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        guard let e = try? SlimEnvelope(all, family: family, knownHeader: nothing),
          e.kind == .publish, !e.headerRecord.isEmpty
        else { return nil }
        return Array(all[e.headerRecord])
      }
    }
    return Array(Set(found).sorted { $0.lexicographicallyPrecedes($1) }.prefix(4))
  }
  return [.slimA: records(SlimSeeds.all, .slimA), .slimB: records(SlimBSeeds.all, .slimB)]
}()

/// What is seen at a glance, the whole reading finds too.
private func slimCheckGlance<T: FuzzTarget>(
  _ target: T, _ input: UnsafeRawBufferPointer, _ family: Family
) throws(Finding) {
  for known in slimKnownHeaders[family] ?? [] {
    let (seen, whole) = known.withUnsafeBytes { record in
      (
        SlimGlance(input, knownHeader: record),
        try? SlimEnvelope(input, family: family, knownHeader: record)
      )
    }
    guard let seen else { continue }
    guard let whole else { throw Finding("seen at a glance and refused when read") }
    try target.check(
      whole.kind == .publish && whole.headerIsKnown
        && whole.headerRecord.lowerBound == seen.headerAt && whole.sessionType == seen.sessionType,
      "a glance sees something else")
  }
}

/// The same message once more with its own header as the known one.
private func slimCheckKnown<T: FuzzTarget>(
  _ target: T, _ input: UnsafeRawBufferPointer, _ e: SlimEnvelope,
  _ made: (frame: Bytes, macOffset: Int)?, _ family: Family
) throws(Finding) {
  guard !e.headerRecord.isEmpty else { return }
  let record = UnsafeRawBufferPointer(rebasing: input[e.headerRecord])
  guard let again = try? SlimEnvelope(input, family: family, knownHeader: record) else {
    throw Finding("refused once its header is known")
  }
  try target.check(
    again.headerIsKnown && again.headerRecord == e.headerRecord && again.payload == e.payload
      && again.command == e.command && again.messageType == e.messageType,
    "read differently once its header is known")
  let frame = SlimForward.frame(input, again, header: e.header, family: family)
  try target.check(
    frame?.frame == made?.frame && frame?.macOffset == made?.macOffset,
    "sent on differently once its header is known")
}

/// `next` is what goes on of `input`.
private func slimCheckNext<T: FuzzTarget>(
  _ target: T, _ input: UnsafeRawBufferPointer, _ e: SlimEnvelope, _ next: UnsafeRawBufferPointer,
  _ macOffset: Int, _ rest: [UInt8], _ family: Family
) throws(Finding) {
  let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
  guard let n = try? SlimEnvelope(next, family: family, knownHeader: nothing) else {
    throw Finding("what goes on is refused by the next hop")
  }
  try target.check(
    n.kind == e.kind && n.command == e.command && n.messageType == e.messageType
      && n.sessionType == e.sessionType && n.sessionID == e.sessionID
      && n.messageID == e.messageID, "what goes on says something else")
  try target.check(
    n.header.source == e.header.source && n.header.destination == e.header.destination
      && n.header.fanout == e.header.fanout && n.header.isError == e.header.isError,
    "what goes on has another header")
  try target.check(!n.header.hasRoutingCommand, "a routing command goes on")
  try target.check(
    input[e.headerRecord.upperBound...].elementsEqual(next[n.headerRecord.upperBound...]),
    "what stands behind the header has changed")
  if let payload = e.payload {
    try target.check(
      n.payload.map { next[$0].elementsEqual(input[payload]) } == true, "the payload has changed")
  }
  guard family == .slimB else {
    try target.check(macOffset == -6, "a MAC in family A")
    return
  }
  try target.check(n.header.ttl == e.header.ttl - 1, "the ttl is not one lower")
  try target.check(
    n.header.mac?.lowerBound == macOffset - n.headerRecord.lowerBound, "the MAC is elsewhere")
  try target.check(
    next[macOffset..<macOffset + 32].allSatisfy { $0 == 0 }, "the MAC's place is not empty")
  try target.check(
    SlimMac.rest(next, n, header: n.header, forNextHop: false) == rest,
    "what is signed is not what the next hop verifies")
}
