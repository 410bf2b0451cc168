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
  private var rights: SlimRights
  /// Messages to groups are taken from their subscribers only.
  private let membersOnly: Bool
  /// Of the link; nil before its negotiation, and in family A.
  private var linkMac: LinkMac?
  private var last: SlimKnownHeader? {
    didSet { known = last.map { Borrowed($0) } }
  }
  /// The same: `last` holds it.
  private var known: Borrowed<SlimKnownHeader>?
  private var macs = SlimMacCache()
  private var metered: (messages: UInt64, bytes: UInt64) = (0, 0)
  /// Bytes of the call's queue, as the hub has counted them.
  private(set) var queuedBytes = 0
  /// Archived publishes not yet written, and what came after them: it must not overtake them.
  private var unwritten = 0
  private var held: [Outgoing] = []
  private var heldBytes = 0
  /// Archived channels this stream reads with a cursor of its own.
  private var cursors: [ChannelID: Cursor] = [:]
  private var lastToken: UInt64 = 0
  private var isClosed = false
  private var isReleasing = false
  /// It is being found out whether the tenant has a grant; nothing is read meanwhile.
  private var isAsking = false
  private var lastDelivered: SlimHeaderRecord?
  /// What every message needs. The session holds its call, the shard its hub, and both outlive this.
  private let call: Borrowed<GrpcCall>
  private let hubAtHand: Borrowed<SlimHub>

  /// A publish that waits for its turn.
  private enum Outgoing {
    case direct(SlimMessage)
    case archived(ChannelRef, Publication)
    var bytes: Int {
      switch self {
      case .direct(let message): message.frame.count
      case .archived(_, let publication): publication.frame.count
      }
    }
  }

  /// Asked of the engine under a token; it delivers once it has said yes.
  private struct Cursor {
    let token: UInt64
    /// Replaces what the hub hands out: at once when the queue ran over, else from the engine's yes on.
    var isAlone: Bool
    var hasBegun = false
    /// What was written until then, up to this sequence, is replayed.
    var head: UInt64 = 0
    var since = Instant.zero
  }

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

  private var hub: SlimHub { session.shard.slim }

  // MARK: from the app

  /// One message; bytes that are none of this family end the stream.
  func receive(_ bytes: UnsafeRawBufferPointer) {
    if let known, let glance = unsafe glance(bytes, known),
      unsafe relayAgain(bytes, known, headerAt: glance.headerAt, ofGroup: glance.isMulticast)
    {
      return
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
    if membersOnly, envelope.isToGroup, !hub.router.isSubscribed(session.id, destination) {
      hub.counts.withoutRight &+= 1
      return
    }
    if archives, let channel = channel(envelope, header, destination) {
      let publication = Publication(
        frame: frame, hasSuffix: false, type: UInt8(clamping: envelope.messageType),
        token: Publication.counted)
      if held.isEmpty {
        unwritten += 1
        session.shard.publish(session, channel, publication)
        session.shard.brake(session)
      } else {
        hold(.archived(channel, publication))
      }
      return
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

  // MARK: the archive's way

  private var archives: Bool { hubAtHand.with { $0.archives } }

  /// The archived channel a publish goes to; nil: it is relayed at once. Kept are the messages of groups; what
  /// changes a group (GROUP_ADD, GROUP_UPDATE, ...) goes the same way, since it must not change places with them.
  private func channel(
    _ envelope: SlimEnvelope, _ header: SlimKnownHeader, _ destination: SlimName
  ) -> ChannelRef? {
    if envelope.isToGroup {
      if let known = header.channel { return known }
      let made = hub.channel(family, destination)
      header.channel = made
      return made
    }
    return envelope.changesGroup(family) ? hub.knownChannel(family, destination) : nil
  }

  private func hold(_ outgoing: Outgoing) {
    held.append(outgoing)
    heldBytes += outgoing.bytes
    if heldBytes > Limits.slimHeldBytes { session.pause(by: Session.holdPause) }
  }

  /// An archived publish is refused for good.
  func receiveRefused() {
    hub.counts.refused &+= 1
    receiveWritten(1)
  }

  /// Archived publishes are written.
  func receiveWritten(_ count: Int) {
    unwritten = max(0, unwritten - count)
    if !held.isEmpty { releaseHeld() }
  }

  /// The engine has ended this session, and answers no more: what waits for answers is lost with the stream.
  func receiveEnd() {
    hub.counts.refused &+= held.count
    unwritten = 0
    let waited = !held.isEmpty
    held.removeAll()
    heldBytes = 0
    if isClosed, waited, !isReleasing {
      hub.parting -= 1
      session.shard.closed(session)
    }
  }

  /// Lets go what waited, up to the next that must be written first.
  private func releaseHeld() {
    // A publish may be refused at once, which leads back here.
    if isReleasing { return }
    isReleasing = true
    var taken = 0
    release: while taken < held.count {
      let next = held[taken]
      switch next {
      case .direct(let message):
        if unwritten > 0 { break release }
        if let route = hub.router.route(family, message.course.destination) {
          hub.publish(message, on: route, from: session.id)
        } else {
          hub.receiveUnrouted(message, from: session.id)
        }
      case .archived(let channel, let publication):
        unwritten += 1
        session.shard.publish(session, channel, publication)
      }
      heldBytes = max(0, heldBytes - next.bytes)
      taken += 1
    }
    // The engine may have ended the session at one of them: then nothing is left.
    held.removeFirst(min(taken, held.count))
    isReleasing = false
    if isClosed {
      guard held.isEmpty else { return }
      hub.parting -= 1
      session.shard.closed(session)
      return
    }
    if heldBytes <= Limits.slimHeldBytes / 2 { session.resume(by: Session.holdPause) }
  }

  /// The stream is closed. Publishes that wait for others to be written still do.
  func receiveClosed() {
    isClosed = true
    if held.isEmpty { session.shard.closed(session) } else { hub.parting += 1 }
  }

  // MARK: cursors of its own

  /// Reads the last messages of a channel it just subscribed to, and goes on from there.
  func replay(_ channel: ChannelRef) {
    guard cursors[channel.id] == nil, !isClosed else { return }
    read(channel, .last(UInt64(session.shard.node.settings.slimReplay)), alone: false)
  }

  private func read(_ channel: ChannelRef, _ start: Start, alone: Bool) {
    lastToken += 1
    cursors[channel.id] = Cursor(token: lastToken, isAlone: alone)
    session.shard.subscribe(
      session, channel, Subscription(start: start, follow: true, limit: 0, token: lastToken))
  }

  /// From here on the engine sends this channel to this stream alone.
  func cursorBegins(_ channel: ChannelRef, token: UInt64, head: UInt64, _ fault: Fault?) {
    guard var cursor = cursors[channel.id], cursor.token == token else { return }
    if let fault {
      cursors[channel.id] = nil
      // It would miss messages from here on.
      if cursor.isAlone { session.end(fault) }
      return
    }
    if !cursor.isAlone { (cursor.head, cursor.since) = (head, session.shard.loop.now.wall) }
    cursor.isAlone = true
    cursor.hasBegun = true
    cursors[channel.id] = cursor
  }

  func cursorEnds(_ channel: ChannelRef) {
    if cursors.removeValue(forKey: channel.id) != nil {
      session.shard.unsubscribe(session, channel)
    }
  }

  /// A message of a channel that this stream reads itself.
  func deliver(_ channel: ChannelRef, _ delivery: Delivery) {
    guard !isClosed else { return }
    guard let cursor = cursors[channel.id], cursor.hasBegun, !isStale(delivery, cursor) else {
      session.forgive(delivery.frame.count, from: session.shard.owner(of: channel.id))
      return
    }
    let (record, repeats) = SlimHeaderRecord.of(delivery.frame, family, lastDelivered)
    guard let record else { return }
    lastDelivered = record.isShort ? record : nil
    send(record.holed(delivery.frame), record.hop, repeats: repeats)
  }

  /// Replayed are messages, and only young ones: changes of the group were repeated by who made them.
  private func isStale(_ delivery: Delivery, _ cursor: Cursor) -> Bool {
    guard delivery.sequence <= cursor.head else { return false }
    return delivery.type != UInt8(SlimNames.message)
      || cursor.since - delivery.wall > session.shard.node.settings.slimReplayWindow
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

  /// What follows from a message's header: known, or found out now. A right by grant is looked at anew when grants
  /// have changed.
  @inline(__always)
  private func header(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) -> SlimKnownHeader
  {
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
  private func ask(_ channel: ChannelID, _ bytes: UnsafeRawBufferPointer) {
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

  private func receiveSubscription(_ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope) {
    let header = unsafe header(bytes, envelope)
    // A Subscribe stays on this hop: its ttl does not matter.
    guard header.isAllowed || header.refusal == .expired, let name = header.destination else {
      if case .ask(let channel) = header.refusal { return unsafe ask(channel, bytes) }
      count(header.refusal)
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

  private func count(_ refusal: SlimRefusal) {
    switch refusal {
    case .none, .ask: break
    case .noRight: hub.counts.withoutRight &+= 1
    case .badMac: hub.counts.badMacs &+= 1
    case .expired: hub.counts.expired &+= 1
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

  @inline(__always) private func send(_ message: borrowing SlimMessage) {
    guard message.frame.hole > 0 else {
      call.with { $0.send(message.frame) }
      return noteQueue()
    }
    send(message.frame, message.course.hop, repeats: message.repeats)
  }

  @inline(__always)
  private func send(_ frame: Bytes, _ hop: SlimHop?, repeats: Bool) {
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

  /// The app does not keep up, and must delay nobody: what is archived it reads on from there, else it must go.
  private func overflow(_ message: borrowing SlimMessage) {
    guard session.call.isOpen, !session.call.isFinished else { return }
    if let channel = message.channel, !message.isAnycast {
      cursorEnds(channel)
      hub.counts.lagging &+= 1
      read(channel, .sequence(message.sequence), alone: true)
      return
    }
    if message.isAnycast, session.shard.node.settings.slimDropsOldest {
      hub.counts.dropped &+= session.call.dropOldest(to: hub.queueLimit - message.frame.count)
      send(message)
      return
    }
    hub.counts.overflows &+= 1
    session.shard.node.log.warn(
      "SLIM stream disconnected: its queue ran over",
      ["org": .of(session.principal.org), "queued": .of(session.call.queuedBytes)])
    session.end(
      Fault(.stalled, "more than \(Limits.slimQueueBytes) bytes wait for this stream"),
      discarding: true)
  }

  // MARK: usage

  func takeUsage() -> (messages: UInt64, bytes: UInt64) {
    defer { metered = (0, 0) }
    return metered
  }
}
