import Base
import Codec
import Crypto
import Grpc
import Loop
import Messages
import Testing

/// One SLIM app of either family.
final class SlimApp: @unchecked Sendable {
  let family: Family
  let name: SlimName
  private let client: GrpcBlockingClient
  private let stream: GrpcBlockingStream
  private var mac: LinkMac?

  init(_ endpoint: Endpoint, _ family: Family, _ number: UInt64) throws {
    self.family = family
    name = SlimName(c0: 1, c1: 2, c2: 900, idHigh: family == .slimA ? 0 : number, idLow: number)
    client = try GrpcBlockingClient(endpoint)
    stream = client.bidi(DataPlaneService.openChannel.path)
    if family == .slimB { try negotiate("link-\(number)") }
  }

  private func negotiate(_ linkID: String) throws {
    let pair = LinkKeyPair()
    stream.send(
      SlimBMessage(
        messageType: .link(
          SlimBLink(
            negotiation: SlimBLinkNegotiation(
              linkID: linkID, slimVersion: "2.0.0", publicKey: pair.publicKey)))))
    let answer = try #require(try stream.next(SlimBMessage.self, timeout: .seconds(20)))
    guard case .link(let link) = answer.messageType, let key = link.negotiation?.publicKey else {
      throw Fault(.internal, "\(answer)")
    }
    let id = Array(linkID.utf8)
    mac = LinkMac(
      linkID: id, shared: try pair.shared(with: key), start: SlimMac.start(linkID: id))
  }

  func end() {
    stream.halfClose()
    while (try? stream.next(timeout: .seconds(5))) ?? nil != nil {}
  }

  // MARK: out

  private func nameA(_ name: SlimName) -> SlimAName {
    SlimAName(
      name: SlimAEncodedName(
        component0: name.c0, component1: name.c1, component2: name.c2, component3: name.idLow))
  }
  private func nameB(_ name: SlimName) -> SlimBName {
    SlimBName(
      name: SlimBEncodedName(
        component0: name.c0, component1: name.c1, component2: name.c2,
        nameID: SlimBNameId(high: name.idHigh, low: name.idLow)))
  }
  private func headerB(_ to: SlimName, fanout: UInt32 = 0) -> SlimBHeader {
    SlimBHeader(
      source: nameB(name), destination: nameB(to), identity: "id", fanout: fanout, ttl: 8,
      headerMac: [UInt8](repeating: 0, count: 32))
  }

  /// Signs and sends.
  private func send(_ message: SlimBMessage) throws {
    var bytes = message.encoded()
    let envelope = try bytes.withUnsafeBytes {
      try SlimEnvelope(
        $0, family: .slimB, knownHeader: UnsafeRawBufferPointer(start: nil, count: 0))
    }
    let place = try #require(envelope.header.mac)
    let rest = bytes.withUnsafeBytes {
      SlimMac.rest($0, envelope, header: envelope.header, forNextHop: false)
    }
    let tag = try #require(mac).tag(rest)
    for at in tag.indices {
      bytes[envelope.headerRecord.lowerBound + place.lowerBound + at] = tag[at]
    }
    stream.send(bytes)
  }

  func subscribe(_ to: SlimName, id: UInt64) throws {
    switch family {
    case .slimB:
      try send(
        SlimBMessage(
          messageType: .subscribe(SlimBSubscribe(header: headerB(to), subscriptionID: id))))
    default:
      stream.send(
        SlimAMessage(
          messageType: .subscribe(
            SlimASubscribe(
              header: SlimAHeader(source: nameA(name), destination: nameA(to)), subscriptionID: id))
        ))
    }
  }

  /// Subscribes and waits for the answer; what else comes first is returned by `next` later.
  func join(_ to: SlimName, id: UInt64 = 7) throws {
    try subscribe(to, id: id)
    while true {
      let bytes = try #require(try stream.next(timeout: .seconds(20)))
      if try isAcknowledgement(bytes, id) { return }
      early.append(bytes)
    }
  }
  private var early: [[UInt8]] = []

  private func isAcknowledgement(_ bytes: [UInt8], _ id: UInt64) throws -> Bool {
    switch family {
    case .slimB:
      guard case .subscriptionAck(let ack) = try SlimBMessage(decoding: bytes).messageType else {
        return false
      }
      #expect(ack.success && ack.subscriptionID == id)
    default:
      guard case .subscriptionAck(let ack) = try SlimAMessage(decoding: bytes).messageType else {
        return false
      }
      #expect(ack.success && ack.subscriptionID == id)
    }
    return true
  }

  /// `group`: archived.
  func publish(_ to: SlimName, _ payload: [UInt8], group: Bool = false, fanout: UInt32 = 256) throws
  {
    switch family {
    case .slimB:
      try send(
        SlimBMessage(
          messageType: .publish(
            SlimBPublish(
              header: headerB(to, fanout: fanout),
              session: SlimBSessionHeader(
                sessionType: group ? .multicast : .pointToPoint, sessionMessageType: .msg,
                sessionID: 1, messageID: 1),
              msg: SlimBContent(
                contentType: .appPayload(
                  SlimBApplicationPayload(payloadType: "msg", blob: payload)))))))
    default:
      stream.send(
        SlimAMessage(
          messageType: .publish(
            SlimAPublish(
              header: SlimAHeader(source: nameA(name), destination: nameA(to), fanout: fanout),
              session: SlimASessionHeader(
                sessionType: group ? .multicast : .pointToPoint, sessionMessageType: .msg,
                sessionID: 1, messageID: 1),
              msg: SlimAContent(
                contentType: .appPayload(
                  SlimAApplicationPayload(payloadType: "msg", blob: payload)))))))
    }
  }

  // MARK: in

  /// The payload of the next message, its MAC checked. nil: nothing came in time.
  func next(within timeout: Interval = .seconds(20)) throws -> [UInt8]? {
    let bytes: [UInt8]
    if !early.isEmpty {
      bytes = early.removeFirst()
    } else {
      do {
        guard let found = try stream.next(timeout: timeout) else {
          throw Fault(.unavailable, "over")
        }
        bytes = found
      } catch let error as GrpcError {
        if error.status == .deadlineExceeded { return nil }
        throw error
      }
    }
    guard family == .slimB else {
      guard case .publish(let publish) = try SlimAMessage(decoding: bytes).messageType,
        case .appPayload(let payload) = publish.msg?.contentType
      else { throw Fault(.internal, "no message") }
      return payload.blob
    }
    let envelope = try bytes.withUnsafeBytes {
      try SlimEnvelope(
        $0, family: .slimB, knownHeader: UnsafeRawBufferPointer(start: nil, count: 0))
    }
    let place = try #require(envelope.header.mac)
    let rest = bytes.withUnsafeBytes {
      SlimMac.rest($0, envelope, header: envelope.header, forNextHop: false)
    }
    let at = envelope.headerRecord.lowerBound + place.lowerBound
    #expect(try #require(mac).verify(rest, Array(bytes[at..<at + 32])), "the MAC of this hop")
    guard case .publish(let publish) = try SlimBMessage(decoding: bytes).messageType,
      case .appPayload(let payload) = publish.msg?.contentType
    else { throw Fault(.internal, "no message") }
    return payload.blob
  }

  /// All that comes until nothing does for a while.
  func drain(_ count: Int, quiet: Interval = .milliseconds(300)) throws -> [[UInt8]] {
    var all: [[UInt8]] = []
    while all.count < count, let one = try next() { all.append(one) }
    while let more = try next(within: quiet) { all.append(more) }
    return all
  }
}
