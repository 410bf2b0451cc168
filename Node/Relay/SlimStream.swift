import Base
import Codec
import Crypto
import Digest
import Engine
import Grpc
import Http
import Loop
import Report
import Settings
import Slim

/// One SLIM app's stream, of family A or B, on the loop of its connection.
///
/// Family B signs each hop: what the app sends is verified with the link's key, what it gets is signed
/// with it (`SLIM-DP-inter-node-hmac-v1`). An app mostly repeats its header, so the last one is kept
/// with all that was found out about it.
final class SlimStream {
  /// The session holds its stream.
  @safe unowned(unsafe) let session: Session
  let family: Family
  private let id: SessionID
  var rights: SlimRights
  /// Messages to groups are taken from their subscribers only.
  let membersOnly: Bool
  /// Of the link; nil before its negotiation, and in family A.
  var linkMac: LinkMac?
  var last: SlimKnownHeader? {
    didSet { known = last.map { Borrowed($0) } }
  }
  /// The same: `last` holds it.
  private var known: Borrowed<SlimKnownHeader>?
  private var macs = SlimMacCache()
  private var metered: (messages: UInt64, bytes: UInt64) = (0, 0)
  /// Bytes of the call's queue, as the hub has counted them.
  private(set) var queuedBytes = 0
  /// What had left for the socket, and since when nothing more has: looked at while the hub is crowded.
  var lastLeft = (bytes: -1, at: Instant.zero)
  /// Archived publishes not yet written, and what came after them: it must not overtake them.
  var unwritten = 0
  var held: [Outgoing] = []
  var heldBytes = 0
  /// Archived channels this stream reads with a cursor of its own.
  var cursors: [ChannelID: Cursor] = [:]
  var lastToken: UInt64 = 0
  var isClosed = false
  var isReleasing = false
  /// It is being found out whether the tenant has a grant; nothing is read meanwhile.
  var isAsking = false
  var lastDelivered: SlimHeaderRecord?
  /// What every message needs. The session holds its call, the shard its hub, and both outlive this.
  private let call: Borrowed<GrpcCall>
  let hubAtHand: Borrowed<SlimHub>

  /// `linkMac`: when the link was negotiated already.
  init(_ session: Session, _ family: Family, linkMac: LinkMac? = nil) {
    self.session = session
    id = session.id
    self.family = family
    call = Borrowed(session.call)
    hubAtHand = Borrowed(session.shard.slim)
    self.linkMac = linkMac
    rights = SlimRights(session.principal)
    let strict = session.shard.node.settings.slimMembersOnly
    membersOnly =
      !strict.isEmpty && (strict.contains("*") || strict.contains(session.principal.org))
  }

  private static var nothing: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: nil, count: 0)
  }

  var hub: SlimHub { session.shard.slim }

  // MARK: from the app

  /// One message; bytes that are none of this family end the stream.
  func receive(_ bytes: UnsafeRawBufferPointer) {
    if let known, let glance = unsafe glance(bytes, known) {
      if unsafe relayAgain(
        bytes, known, headerAt: glance.headerAt, ofGroup: glance.isMulticast)
      {
        return
      }
      if glance.isToGroup, unsafe archiveAgain(bytes, known, glance) { return }
    }
    let envelope: SlimEnvelope
    do throws(WireError) {
      let record = unsafe known?.with { unsafe $0.record } ?? SlimStream.nothing
      envelope = try unsafe SlimEnvelope(bytes, family: family, knownHeader: record)
    } catch {
      session.end(
        Fault(.badRequest, "not a message of SLIM family \(family == .slimA ? "A" : "B"): \(error)")
      )
      return
    }
    if envelope.headerIsKnown, envelope.kind == .publish, let known,
      unsafe relayAgain(
        bytes, known, headerAt: envelope.headerRecord.lowerBound, ofGroup: envelope.isMulticast)
    {
      return
    }
    switch envelope.kind {
    case .publish: unsafe receivePublish(bytes, envelope)
    case .subscribe, .unsubscribe: unsafe receiveSubscription(bytes, envelope)
    case .link: unsafe receiveLink(bytes, envelope)
    case .subscriptionAck, .none: break
    }
  }

  @inline(__always)
  private func glance(
    _ bytes: UnsafeRawBufferPointer, _ known: Borrowed<SlimKnownHeader>
  ) -> SlimGlance? {
    known.with { unsafe SlimGlance(bytes, knownHeader: $0.record) }
  }

  /// A publish under the same header as the one before it, with nothing left to find out: most are. Nothing is counted
  /// or copied on its way but its bytes, once.
  /// - Returns: false: it needs a closer look.
  @inline(__always)
  private func relayAgain(
    _ bytes: UnsafeRawBufferPointer, _ known: Borrowed<SlimKnownHeader>, headerAt: Int,
    ofGroup: Bool
  ) -> Bool {
    guard bytes.count <= Limits.messageBytes, !membersOnly, unwritten == 0, held.isEmpty,
      !(ofGroup && archives)
    else { return false }
    return known.with { header in
      guard header.isAllowed, let patch = header.patch, let course = header.course,
        let route = header.borrowedRoute, route.with({ $0.isCurrent })
      else { return false }
      header.isRepeated = true
      let (frame, mac) = unsafe SlimForward.again(
        bytes, headerAt: headerAt, patch)
      if mac > 0 { frame.makeHole(at: mac) }
      meter(bytes.count)
      let message = SlimMessage(course, frame, repeats: true)
      hubAtHand.with { hub in route.with { hub.publish(message, on: $0, from: id) } }
      return true
    }
  }

  @inline(__always) private func meter(_ bytes: Int) {
    if metered.messages == 0 { hub.note(self) }
    metered.messages &+= 1
    metered.bytes &+= UInt64(bytes)
  }

  private func receivePublish(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) {
    let header = unsafe header(bytes, envelope)
    guard header.isAllowed, let destination = header.destination else {
      if case .ask(let channel) = header.refusal { return unsafe ask(channel, bytes) }
      count(header.refusal, header.destination)
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
    if membersOnly, envelope.isToGroup, !hub.router.isSubscribed(session.id, destination) {
      hub.counts.withoutRight &+= 1
      note("a publish to a group it has not subscribed to (slim.members_only)", destination)
      return
    }
    if archives, let channel = channel(envelope, header, destination) {
      return archive(frame, channel, type: envelope.messageType)
    }
    meter(bytes.count)
    guard let course = header.course else { return }
    let message = SlimMessage(course, frame, repeats: header.isRepeated)
    if unwritten > 0 || !held.isEmpty {
      hold(.direct(message))
      return
    }
    guard let route = route(header, destination) else {
      hub.receiveUnrouted(message, from: session.id)
      return
    }
    hub.publish(message, on: route, from: session.id)
  }

  @inline(__always)
  private func route(_ header: SlimKnownHeader, _ destination: SlimName) -> SlimRoute? {
    if let route = header.route, route.isCurrent { return route }
    let version = hub.router.version
    if header.route == nil, header.routeVersion == version { return nil }
    header.route = hub.router.route(family, destination)
    header.routeVersion = version
    return header.route
  }

  private func receiveSubscription(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) {
    let header = unsafe header(bytes, envelope)
    // A Subscribe stays on this hop: its ttl does not matter.
    guard header.isAllowed || header.refusal == .expired, let name = header.destination else {
      if case .ask(let channel) = header.refusal { return unsafe ask(channel, bytes) }
      count(header.refusal, header.destination)
      if header.refusal == .noRight {
        hub.acknowledge(
          session.id, id: envelope.subscriptionID,
          Fault(.forbidden, "a name of another org, and no grant for it"))
      }
      return
    }
    if envelope.kind == .subscribe {
      hub.subscribe(self, name, id: envelope.subscriptionID)
    } else {
      hub.unsubscribe(self, name, id: envelope.subscriptionID)
    }
  }

  // MARK: the link

  /// B signs with the key in its Link; A has none.
  static func family(ofLink bytes: UnsafeRawBufferPointer) -> Family {
    let none = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    let envelope = unsafe try? SlimEnvelope(bytes, family: .slimB, knownHeader: none)
    return envelope?.link.publicKey == nil ? .slimA : .slimB
  }

  /// Answers a negotiation with our half. A second one on the same stream changes nothing: a replayed
  /// Link must not put another key in place.
  private func receiveLink(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) {
    guard linkMac == nil, !envelope.link.isReply else { return }
    do {
      let answer = try unsafe SlimLinkAnswer(
        bytes, envelope, family, nodeName: session.shard.node.settings.nodeName)
      linkMac = answer.mac
      session.reply(answer.frame)
    } catch {
      session.end(error)
    }
  }

  // MARK: to the app

  func forward(_ message: borrowing SlimMessage) {
    if isClosed { return }
    if !cursors.isEmpty, let channel = message.channel, cursors[channel.id]?.isAlone == true {
      return
    }
    let size = message.frame.count
    let isFull = hubAtHand.with { hub in
      call.with { $0.queuedBytes &+ size > hub.queueLimit }
    }
    if isFull { return overflow(message) }
    send(message)
    hubAtHand.with { hub in
      hub.delivered.messages &+= 1
      hub.delivered.bytes &+= size
    }
  }

  @inline(__always) func send(_ message: borrowing SlimMessage) {
    guard message.frame.hole > 0 else {
      call.with { $0.send(message.frame) }
      return noteQueue()
    }
    send(message.frame, message.course.hop, repeats: message.repeats)
  }

  @inline(__always)
  func send(_ frame: Bytes, _ hop: SlimHop?, repeats: Bool) {
    let call = session.call
    if frame.hole > 0 {
      guard let linkMac, let hop else { return }
      let mac = repeats ? macs.tag(hop, linkMac) : linkMac.tag(hop.rest)
      call.send(frame, HoleFilling(mac))
    } else {
      call.send(frame)
    }
    noteQueue()
  }

  /// Tells the hub how long the queue is now.
  @inline(__always) func noteQueue() {
    let now = call.with { $0.queuedBytes }
    let grown = now &- queuedBytes
    hubAtHand.with { $0.queue(grew: grown) }
    queuedBytes = now
  }

  // MARK: usage

  func takeUsage() -> (messages: UInt64, bytes: UInt64) {
    defer { metered = (0, 0) }
    return metered
  }
}
