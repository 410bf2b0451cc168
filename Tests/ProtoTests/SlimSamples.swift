import Base
import Codec
import Messages

/// Reads `bytes` as a node would.
func envelope(
  _ bytes: [UInt8], _ family: Family, known: [UInt8] = []
) throws -> SlimEnvelope {
  try bytes.withUnsafeBytes { all in
    try known.withUnsafeBytes { try SlimEnvelope(all, family: family, knownHeader: $0) }
  }
}

/// The frame for the next hop.
func forwarded(
  _ bytes: [UInt8], _ family: Family
) throws -> (message: [UInt8], macOffset: Int)? {
  let e = try envelope(bytes, family)
  let made = bytes.withUnsafeBytes {
    SlimForward.frame($0, e, header: e.header, family: family)
  }
  guard let made else { return nil }
  let frame = made.frame.array()
  let prefix = frame.withUnsafeBytes { GrpcFrame.prefix($0, limit: Limits.messageBytes) }
  guard prefix == .message(length: frame.count - 5, compressed: false) else { return nil }
  return (Array(frame[5...]), made.macOffset < 0 ? -1 : made.macOffset - 5)
}

/// Messages of both families as SLIM applications send them.
enum SlimSamples {
  static let aliceB = SlimBName(
    name: SlimBEncodedName(
      component0: 0xf685_e3e0_3791_a023, component1: 2, component2: 3,
      nameID: SlimBNameId(high: 1, low: 2)),
    strName: SlimBStringName(strComponent0: "acme", strComponent1: "demo", strComponent2: "alice"))
  static let bobB = SlimBName(
    name: SlimBEncodedName(
      component0: 0xf685_e3e0_3791_a023, component1: 2, component2: 4,
      nameID: SlimBNameId(high: .max, low: .max)),
    strName: SlimBStringName(strComponent0: "acme", strComponent1: "demo", strComponent2: "bob"))

  static func headerB(ttl: UInt32 = 8, mac: [UInt8]? = [UInt8](repeating: 7, count: 32))
    -> SlimBHeader
  {
    SlimBHeader(
      source: aliceB, destination: bobB, identity: String(repeating: "i", count: 130), fanout: 256,
      version: "3.4.6", ttl: ttl, headerMac: mac, e2eHeaderSig: [UInt8](repeating: 9, count: 71))
  }

  static func publishB(
    _ header: SlimBHeader? = headerB(), _ content: SlimBContent? = messageB([1, 2, 3]),
    _ type: SlimBSessionMessageType = .msg, metadata: [String: String] = ["slim-payload-sig": "abc"]
  ) -> SlimBMessage {
    SlimBMessage(
      messageType: .publish(
        SlimBPublish(
          header: header,
          session: SlimBSessionHeader(
            sessionType: .multicast, sessionMessageType: type, sessionID: 5, messageID: 6),
          msg: content)),
      metadata: metadata)
  }

  static func messageB(_ payload: [UInt8]) -> SlimBContent {
    SlimBContent(
      contentType: .appPayload(SlimBApplicationPayload(payloadType: "msg", blob: payload)))
  }

  static func commandB(_ command: SlimBCommandPayload.CommandPayloadType) -> SlimBContent {
    SlimBContent(contentType: .commandPayload(SlimBCommandPayload(commandPayloadType: command)))
  }

  /// Every command of B, with everything it may hold.
  static let commandsB: [SlimBCommandPayload.CommandPayloadType] = {
    let member = SlimBParticipant(
      name: aliceB, settings: SlimBParticipantSettings(sendsData: true, receivesData: true),
      status: .offline)
    let mls = SlimBMlsPayload(commitID: 3, mlsContent: [1, 2, 3])
    return [
      .discoveryRequest(SlimBEmpty()), .discoveryReply(SlimBEmpty()),
      .joinRequest(
        SlimBJoinRequest(
          timerSettings: SlimBTimerSettings(timeout: 1000, maxRetries: 3), channel: aliceB,
          control: bobB, mlsSettings: SlimBMlsSettings(headerIntegrityPercent: 100))),
      .joinReply(SlimBJoinReply(keyPackage: [4, 5], participant: member)),
      .leaveRequest(SlimBEmpty()), .leaveReply(SlimBEmpty()),
      .groupUpdate(
        SlimBGroupUpdate(
          op: .rejoin, participant: member, participants: [member, member], mls: mls)),
      .groupWelcome(SlimBGroupWelcome(participants: [member, member], mls: mls)),
      .groupClose(SlimBGroupClose(participants: [aliceB, bobB])),
      .groupProposal(SlimBGroupProposal(source: aliceB, mlsProposal: [6])),
      .groupAck(SlimBEmpty()), .groupNack(SlimBEmpty()), .heartbeat(SlimBHeartbeat(epoch: 9)),
      .updateParticipantState(
        SlimBUpdateParticipantState(participant: bobB, newState: .offline, epoch: 2)),
      .rejoinRequest(SlimBRejoinRequest(participant: bobB, keyPackage: [7])),
      .rejoinReply(SlimBRejoinReply(commitID: 8, mlsContent: [8])),
    ]
  }()

  static func nameA(_ service: String, id: UInt64 = .max) -> SlimAName {
    SlimAName(
      name: SlimAEncodedName(component0: 1, component1: 2, component2: 3, component3: id),
      strName: SlimAStringName(
        strComponent0: "acme", strComponent1: "demo", strComponent2: service))
  }

  static func headerA() -> SlimAHeader {
    SlimAHeader(
      source: nameA("alice", id: 77), destination: nameA("room"), fanout: 256,
      identity: String(repeating: "i", count: 130))
  }

  static func publishA(
    _ header: SlimAHeader? = headerA(), _ type: SlimASessionMessageType = .msg,
    content: SlimAContent? = SlimAContent(
      contentType: .appPayload(SlimAApplicationPayload(payloadType: "msg", blob: [1, 2, 3])))
  ) -> SlimAMessage {
    SlimAMessage(
      messageType: .publish(
        SlimAPublish(
          header: header,
          session: SlimASessionHeader(
            sessionType: .multicast, sessionMessageType: type, sessionID: 5, messageID: 6),
          msg: content)),
      metadata: ["k": "v"])
  }
}
