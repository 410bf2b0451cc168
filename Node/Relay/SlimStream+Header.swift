import Base
import Codec
import Crypto
import Grpc
import Http
import Loop
import Slim

// What a header says about its message: whether it may go, and where.
extension SlimStream {
  /// What follows from a message's header: known, or found out now. A right by grant is looked at anew when grants
  /// have changed.
  @inline(__always)
  func header(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) -> SlimKnownHeader {
    if envelope.headerIsKnown, let last {
      if last.refusal == .none || last.version == hub.grantVersion {
        last.isRepeated = true
        return last
      }
    }
    let header = envelope.headerIsKnown ? last?.header ?? envelope.header : envelope.header
    let made = unsafe examine(bytes, envelope, header)
    last = made.isShort ? made : nil
    return made
  }

  /// All that decides whether and where a publish goes, found out once per header.
  private func examine(
    _ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope, _ header: SlimHeader
  ) -> SlimKnownHeader {
    let record = unsafe UnsafeRawBufferPointer(rebasing: bytes[envelope.headerRecord])
    let made = unsafe SlimKnownHeader(record, header, family)
    made.version = hub.grantVersion
    made.refusal = unsafe refusal(record, header)
    if family == .slimB, made.refusal == .none {
      made.hop = unsafe SlimHop(SlimMac.rest(record: record, header: header, forNextHop: true))
    }
    if made.refusal == .none, let destination = header.destination {
      made.course = SlimCourse(family, destination, isAnycast: header.fanout == 1, made.hop)
    }
    return made
  }

  private func refusal(_ record: UnsafeRawBufferPointer, _ header: SlimHeader) -> SlimRefusal {
    if family == .slimB {
      guard let mac = header.mac else { return .badMac }
      let rest = unsafe SlimMac.rest(record: record, header: header, forNextHop: false)
      guard unsafe linkMac?.verify(rest, UnsafeRawBufferPointer(rebasing: record[mac])) == true
      else { return .badMac }
    }
    let now = session.shard.loop.now.monotonic
    switch unsafe rights.judge(header, record, version: hub.grantVersion, at: now) {
    case .yes: return SlimForward.hasHopLeft(header, family) ? .none : .expired
    case .no: return .noRight
    case .ask(let channel): return .ask(channel)
    }
  }

  /// Reads nothing more until it is known whether the tenant has a grant; then looks at the message again.
  func ask(_ channel: ChannelID, _ bytes: UnsafeRawBufferPointer) {
    let copy = unsafe Bytes(bytes)
    isAsking = true
    session.pause(by: Session.grantPause)
    hub.askGrant(channel, session.principal.tenant) { [weak self] granted, version in
      // Once closed the session may be gone, though something still holds this object.
      guard let self, !isClosed, session.call.isOpen, !session.call.isFinished else { return }
      rights.learn(
        channel, granted: granted, version: version, at: session.shard.loop.now.monotonic)
      last = nil
      isAsking = false
      unsafe copy.withUnsafeBytes { unsafe self.receive($0) }
      // Grants changed meanwhile, and it asks again: what comes after must wait on.
      if !isAsking { session.resume(by: Session.grantPause) }
    }
  }

  /// Has this stream used that channel by a grant?
  func uses(_ channel: ChannelID) -> Bool { rights.uses(channel) }

  func count(_ refusal: SlimRefusal, _ destination: SlimName?) {
    switch refusal {
    case .none, .ask: break
    case .noRight:
      hub.counts.withoutRight &+= 1
      note("source or destination of another org, or a str_name that is not the name", destination)
    case .badMac:
      hub.counts.badMacs &+= 1
      note("a header MAC that is missing or wrong", destination)
    case .expired: hub.counts.expired &+= 1
    }
  }

  /// Tells the operator, now and then.
  func note(_ why: String, _ destination: SlimName?) {
    session.shard.node.refusals.note(
      "name", from: session.call.peer.text, org: session.principal.org,
      name: destination.map { SlimChannel.text(family, $0) } ?? "", why,
      at: session.shard.loop.now.monotonic)
  }
}
