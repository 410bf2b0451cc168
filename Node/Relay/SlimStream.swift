import Base
import Codec
import Crypto
import Digest
import Engine
import Grpc
import Http
import Report
import Settings
import Slim

/// One SLIM app's stream, of family A or B, on the loop of its connection.
///
/// Family B signs each hop: what the app sends is verified with the link's key, what it gets is signed
/// with it (`SLIM-DP-inter-node-hmac-v1`). An app mostly repeats its header, so the last one is kept
/// with all that was found out about it.
final class SlimStream {
  unowned let session: Session
  let family: Family
  /// component_0 of every name this stream may use; nil: all of them (no credential under `--auth open`).
  private let org: UInt64?
  private var link: Link?
  private var last: KnownHeader?
  private var macs = MacCache()
  private var metered: (messages: UInt64, bytes: UInt64) = (0, 0)

  private struct Link {
    let mac: LinkMac
  }

  init(_ session: Session, _ family: Family) {
    self.session = session
    self.family = family
    let principal = session.principal
    org = principal.anonymous ? nil : componentHash(principal.org)
  }

  private static var nothing: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: nil, count: 0)
  }

  private var hub: SlimHub { session.shard.slim }

  // MARK: from the app

  /// - Returns: false when the bytes are no message of this family; the stream must end.
  func receive(_ bytes: UnsafeRawBufferPointer) {
    let envelope: SlimEnvelope
    do throws(WireError) {
      if let last {
        envelope = try unsafe SlimEnvelope(bytes, family: family, knownHeader: last.record)
      } else {
        envelope = try unsafe SlimEnvelope(bytes, family: family, knownHeader: SlimStream.nothing)
      }
    } catch {
      session.end(
        Fault(.badRequest, "not a message of SLIM family \(family == .slimA ? "A" : "B"): \(error)")
      )
      return
    }
    switch envelope.kind {
    case .publish: unsafe receivePublish(bytes, envelope)
    case .subscribe, .unsubscribe: unsafe receiveSubscription(bytes, envelope)
    case .link: unsafe receiveLink(bytes, envelope)
    case .subscriptionAck, .none: break
    }
  }

  private func receivePublish(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) {
    let header = unsafe header(bytes, envelope)
    guard header.isAllowed, let destination = header.destination else {
      count(header.refusal)
      return
    }
    guard
      let (frame, mac) = unsafe SlimForward.frame(
        bytes, envelope, header: header.header, family: family)
    else {
      session.end(Fault(.tooLarge))
      return
    }
    if mac > 0 { frame.makeHole(at: mac) }
    if metered.messages == 0 { hub.note(self) }
    metered.messages &+= 1
    metered.bytes &+= UInt64(bytes.count)
    guard let route = route(header, destination) else {
      hub.counts.unrouted &+= 1
      return
    }
    hub.publish(
      SlimMessage(
        family: family, destination: destination, isAnycast: header.header.fanout == 1,
        frame: frame, hop: header.hop, repeats: header.isRepeated),
      on: route, from: session)
  }

  @inline(__always)
  private func route(_ header: KnownHeader, _ destination: SlimName) -> SlimRoute? {
    if let route = header.route, route.isCurrent { return route }
    let version = hub.router.version
    if header.route == nil, header.routeVersion == version { return nil }
    header.route = hub.router.route(family, destination)
    header.routeVersion = version
    return header.route
  }

  @inline(__always)
  private func header(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) -> KnownHeader {
    if envelope.headerIsKnown, let last {
      last.isRepeated = true
      return last
    }
    let made = unsafe examine(bytes, envelope)
    last = made
    return made
  }

  /// All that decides whether and where a publish goes, found out once per header.
  private func examine(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) -> KnownHeader {
    let header = envelope.header
    let record = unsafe UnsafeRawBufferPointer(rebasing: bytes[envelope.headerRecord])
    let made = unsafe KnownHeader(record, header)
    made.refusal = unsafe refusal(bytes, envelope)
    if family == .slimB, made.refusal == .none {
      made.hop = unsafe SlimHop(SlimMac.rest(bytes, envelope, header: header, forNextHop: true))
    }
    return made
  }

  private func refusal(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) -> Refusal {
    let header = envelope.header
    guard let source = header.source, let destination = header.destination else {
      return .noRight
    }
    if family == .slimB {
      guard let mac = header.mac else { return .badMac }
      let record = unsafe UnsafeRawBufferPointer(rebasing: bytes[envelope.headerRecord])
      let rest = unsafe SlimMac.rest(bytes, envelope, header: header, forNextHop: false)
      guard unsafe link?.mac.verify(rest, UnsafeRawBufferPointer(rebasing: record[mac])) == true
      else {
        return .badMac
      }
    }
    if let org, source.c0 != org || destination.c0 != org { return .noRight }
    let record = unsafe UnsafeRawBufferPointer(rebasing: bytes[envelope.headerRecord])
    guard unsafe agrees(source, header.sourceText, record),
      unsafe agrees(destination, header.destinationText, record)
    else { return .noRight }
    return SlimForward.hasHopLeft(header, family) ? .none : .expired
  }

  /// A `str_name` beside the EncodedName must say the same, whoever may use which.
  private func agrees(
    _ name: SlimName, _ text: Range<Int>?, _ record: UnsafeRawBufferPointer
  ) -> Bool {
    guard let text else { return true }
    guard let parts = unsafe SlimNameText(record, body: text) else { return false }
    func hash(_ range: Range<Int>) -> UInt64 {
      unsafe componentHash(UnsafeRawBufferPointer(rebasing: record[range]))
    }
    return hash(parts.org) == name.c0 && hash(parts.namespace) == name.c1
      && hash(parts.service) == name.c2
  }

  private func receiveSubscription(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) {
    let header = unsafe header(bytes, envelope)
    // A Subscribe stays on this hop: its ttl does not matter.
    guard header.isAllowed || header.refusal == .expired, let name = header.destination else {
      count(header.refusal)
      if header.refusal == .noRight {
        hub.acknowledge(
          session.id, id: envelope.subscriptionID,
          Fault(.forbidden, "this stream may use names of its own org only"))
      }
      return
    }
    if envelope.kind == .subscribe {
      hub.subscribe(session.id, family, name, id: envelope.subscriptionID)
    } else {
      hub.unsubscribe(session.id, family, name, id: envelope.subscriptionID)
    }
  }

  private func count(_ refusal: Refusal) {
    switch refusal {
    case .none: break
    case .noRight: hub.counts.withoutRight &+= 1
    case .badMac: hub.counts.badMacs &+= 1
    case .expired: hub.counts.expired &+= 1
    }
  }

  // MARK: the link

  /// Answers a negotiation with our half. A second one on the same stream changes nothing: a replayed
  /// Link must not put another key in place.
  private func receiveLink(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) {
    guard link == nil, !envelope.link.isReply else { return }
    let id = unsafe [UInt8](UnsafeRawBufferPointer(rebasing: bytes[envelope.link.linkID]))
    var ours: [UInt8]?
    if family == .slimB, let range = envelope.link.publicKey {
      let theirs = unsafe [UInt8](UnsafeRawBufferPointer(rebasing: bytes[range]))
      do {
        let pair = LinkKeyPair()
        link = Link(
          mac: LinkMac(
            linkID: id, shared: try pair.shared(with: theirs), start: SlimMac.start(linkID: id)))
        ours = pair.publicKey
      } catch {
        session.end(Fault(.badRequest, "the Link's public key is no X25519 key"))
        return
      }
    }
    session.call.send(
      SlimAnswer.linkReply(
        linkID: id, version: SlimStream.version, publicKey: ours,
        nodeID: session.shard.node.settings.nodeName, connectionType: 0))
  }

  /// The SLIM core version we present: apps want one they can parse.
  static let version = "2.3.0"

  // MARK: to the app

  func forward(_ message: SlimMessage) {
    let call = session.call
    let size = message.frame.count
    if call.queuedBytes &+ size > Limits.slimQueueBytes {
      overflow()
      return
    }
    if message.frame.hole > 0 {
      guard let link, let hop = message.hop else { return }
      let mac = message.repeats ? macs.tag(hop, link.mac) : link.mac.tag(hop.rest)
      call.send(message.frame, HoleFilling(mac))
    } else {
      call.send(message.frame)
    }
    session.shard.counts.delivered &+= 1
    session.shard.counts.deliveredBytes &+= size
  }

  /// The app does not keep up: it delays nobody, so it must go.
  private func overflow() {
    guard session.call.isOpen, !session.call.isFinished else { return }
    hub.counts.overflows &+= 1
    session.shard.node.log.warn(
      "SLIM stream disconnected: its queue ran over",
      ["org": .of(session.principal.org), "queued": .of(session.call.queuedBytes)])
    let fault = Fault(.stalled, "more than \(Limits.slimQueueBytes) bytes wait for this stream")
    session.call.finish(
      fault.code.grpc, "\(fault.code.rawValue): \(fault)", discarding: true)
  }

  // MARK: usage

  func takeUsage() -> (messages: UInt64, bytes: UInt64) {
    defer { metered = (0, 0) }
    return metered
  }
}

/// Why a message goes no further.
private enum Refusal { case none, noRight, badMac, expired }

/// A header as it came last, and what follows from it.
private final class KnownHeader {
  /// The whole header record.
  private let bytes: Bytes
  let header: SlimHeader
  /// Checked last: ttl. With `expired` all else is right.
  var refusal = Refusal.none
  /// For the MACs of the next hop (family B).
  var hop: SlimHop?
  var isRepeated = false
  var route: SlimRoute?
  var routeVersion: UInt64 = .max

  init(_ record: UnsafeRawBufferPointer, _ header: SlimHeader) {
    bytes = unsafe Bytes(record)
    self.header = header
  }
  /// Lives as long as the object.
  var record: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: bytes.base, count: bytes.count)
  }
  var isAllowed: Bool { refusal == .none }
  var destination: SlimName? { header.destination }
}

/// The MACs of the last few headers that repeat, for one link.
private struct MacCache {
  private var entries: [(hop: SlimHop, tag: InlineArray<32, UInt8>)] = []
  private var next = 0

  mutating func tag(_ hop: SlimHop, _ mac: LinkMac) -> InlineArray<32, UInt8> {
    for entry in entries where entry.hop === hop { return entry.tag }
    let tag = mac.tag(hop.rest)
    if entries.count < Limits.slimKnownMacs {
      entries.append((hop, tag))
    } else {
      entries[next] = (hop, tag)
      next = (next + 1) % entries.count
    }
    return tag
  }
}
