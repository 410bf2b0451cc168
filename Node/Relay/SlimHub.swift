import Base
import Codec
import Engine
import Grpc
import Loop
import Report
import Settings
import Slim
import Store

/// One loop's part of SLIM: routes publishes to sessions here and to the loops that have others, and
/// acknowledges subscriptions when every loop knows of them.
final class SlimHub {
  /// The shard holds its hub.
  @safe private unowned(unsafe) let shard: Shard
  /// The same.
  private let home: Borrowed<Shard>
  private(set) var router: SlimRouter
  var counts = SlimCounters()
  /// What streams of this loop were sent in this turn.
  var delivered = (messages: 0, bytes: 0)
  /// Messages of groups are archived; no more once the shard is sealed.
  private(set) var archives: Bool
  /// Bytes sent to each loop and not dealt with there yet.
  private var onTheWay: [Int]
  /// Sessions that wait until a loop has caught up.
  private var waiting: [[SessionID]]
  /// Acknowledgements of this turn, and those that wait for the other loops.
  private var acks: [Ack] = []
  private var syncs: [UInt64: (left: Int, acks: [Ack])] = [:]
  private var nextSync: UInt64 = 1
  /// Streams with publishes not yet metered.
  private var unmetered: [SlimStream] = []
  /// Archived channels that this loop's streams publish to.
  private var channels: [[SlimName: ChannelRef]] = [[:], [:]]
  /// Archived channels of this shard that are published to: this hub follows them and hands on what is written.
  private var attached: [ChannelID: Attached] = [:] {
    didSet { lastAttached = nil }
  }
  /// The one of them found last: most messages are of the channel of the one before.
  private var lastAttached: Attached?
  private var sweepAt = Instant.zero
  private var lastRoutes = RouteCache()
  /// Rises whenever a grant is made or taken back.
  private(set) var grantVersion: UInt64 = 1
  /// Closed streams that hold publishes which must wait for others to be written.
  var parting = 0
  /// Bytes in the queues of this loop's SLIM streams. Buffers that many queues share count in each.
  private(set) var queuedBytes = 0
  private var unclaimed = SlimUnclaimed()

  /// What follows archived channels inside the engine. No loop has that number.
  static let session = SessionID(loop: 255, generation: 0, index: 0)

  private final class Attached {
    let channel: ChannelRef
    let name: SlimName
    var used: Instant
    /// The header of the last message handed on.
    var last: SlimHeaderRecord?
    var course: SlimCourse?
    /// Where its last message went.
    var route: SlimRoute?
    init(_ channel: ChannelRef, _ name: SlimName, at now: Instant) {
      self.channel = channel
      self.name = name
      used = now
    }
  }

  private struct Ack {
    var session: SessionID
    var frame: Bytes
  }

  init(shard: Shard, loops: Int) {
    self.shard = shard
    home = Borrowed(shard)
    router = SlimRouter(loop: shard.index, loops: loops)
    archives = shard.node.settings.slimArchive
    onTheWay = [Int](repeating: 0, count: loops)
    waiting = [[SessionID]](repeating: [], count: loops)
  }

  // MARK: subscribing

  func subscribe(_ stream: SlimStream, _ name: SlimName, id: UInt64) {
    let session = stream.session
    let fault = router.receiveSubscribe(session.id, stream.family, name, id: id)
    acknowledge(session.id, id: id, fault)
    if !unclaimed.isEmpty { claim(stream.family, name) }
    let settings = shard.node.settings
    guard fault == nil, settings.slimArchive, settings.slimReplay > 0, !shard.isSealed else {
      return
    }
    let channel = SlimChannel.ref(stream.family, name)
    let owner = shard.owner(of: channel.id)
    if owner == shard.index {
      receiveReplay(session.id, channel)
    } else {
      shard.post(.slimReplay(session.id, channel), to: owner)
    }
  }

  func unsubscribe(_ stream: SlimStream, _ name: SlimName, id: UInt64) {
    router.receiveUnsubscribe(stream.session.id, stream.family, name, id: id)
    acknowledge(stream.session.id, id: id, nil)
    if router.isSubscribed(stream.session.id, name) { return }
    stream.cursorEnds(SlimChannel.ref(stream.family, name))
  }

  /// An id of 0 wants no answer.
  func acknowledge(_ session: SessionID, id: UInt64, _ fault: Fault?) {
    guard id != 0 else { return }
    acks.append(
      Ack(session: session, frame: SlimAnswer.subscriptionAck(id: id, error: fault?.description)))
  }

  /// The stream takes nothing more: nothing is routed to it.
  func leave(_ stream: SlimStream) { router.receiveClose(stream.session.id) }

  func closed(_ stream: SlimStream) {
    leave(stream)
    meter(stream)
    queue(grew: -stream.queuedBytes)
  }

  // MARK: memory

  func queue(grew bytes: Int) { queuedBytes &+= bytes }

  /// Bytes one stream's queue may hold: less when many queues are long.
  var queueLimit: Int {
    if queuedBytes < Limits.slimQueuesBytes / 2 { return Limits.slimQueueBytes }
    return queuedBytes < Limits.slimQueuesBytes
      ? Limits.slimQueueBytes / 8 : Limits.slimQueueBytes / 128
  }

  // MARK: publishing

  /// `route`: what the sender's stream knows, looked up for this destination.
  /// The sender's stream is paused when a loop that gets this is behind.
  func publish(_ message: borrowing SlimMessage, on route: SlimRoute, from sender: SessionID?) {
    if message.isAnycast {
      switch route.pick(from: sender) {
      case .none: counts.unrouted &+= 1
      case .local(let id): hand(message, to: id)
      case .loop(let loop): send(message, to: loop, sender)
      }
      return
    }
    for id in route.members where id != sender { hand(message, to: id) }
    if route.remoteTotal > 0 {
      for loop in route.remote.indices where route.remote[loop] > 0 {
        send(message, to: loop, sender)
      }
    }
  }

  /// Nobody has subscribed to where it goes.
  func receiveUnrouted(_ message: SlimMessage, from sender: SessionID) {
    if !unclaimed.keep(message, from: sender) { counts.unrouted &+= 1 }
  }

  /// This node has just followed another: apps are coming back to it.
  func expectReturns() {
    unclaimed.open()
    shard.loop.schedule(after: .milliseconds(Limits.slimReturnMilliseconds)) { [self] in
      counts.unrouted &+= unclaimed.close()
    }
  }

  /// A name may have its subscriber now.
  private func claim(_ family: Family, _ name: SlimName) {
    for place in name.isAny ? [name] : [name, name.any] {
      guard let route = router.route(family, place) else { continue }
      for one in unclaimed.take(family, place) {
        publish(one.message, on: route, from: one.sender)
      }
    }
  }

  @inline(__always) private func hand(_ message: borrowing SlimMessage, to id: SessionID) {
    guard let stream = home.with({ $0.sessions.stream(id) }) else { return }
    stream.with { $0.forward(message) }
  }

  private func send(_ message: borrowing SlimMessage, to loop: Int, _ sender: SessionID?) {
    home.with { $0.post(message, to: loop) }
    onTheWay[loop] &+= message.frame.count
    if onTheWay[loop] > Limits.slimMailBytes, let sender { slow(sender, until: loop) }
  }

  /// The sender may be on another loop: what is archived is routed where its channel is.
  private func slow(_ sender: SessionID, until loop: Int) {
    if waiting[loop].last == sender { return }
    waiting[loop].append(sender)
    if sender.loop == shard.index {
      shard.sessions.find(sender)?.pause(by: Session.mailPause)
    } else {
      shard.post(.pause(sender, by: Session.mailPause), to: sender.loop)
    }
  }

  /// The archived channel of a name, made once.
  func channel(_ family: Family, _ name: SlimName) -> ChannelRef {
    let table = family == .slimB ? 1 : 0
    if let known = channels[table][name] { return known }
    if channels[table].count >= NodeLimits.channelRefs { channels[table].removeAll() }
    let made = SlimChannel.ref(family, name)
    channels[table][name] = made
    return made
  }

  /// The same, if a stream of this loop has published to it lately.
  func knownChannel(_ family: Family, _ name: SlimName) -> ChannelRef? {
    channels[family == .slimB ? 1 : 0][name]
  }

  // MARK: rights

  /// Does the tenant have a grant for that channel? `answer` is called on this loop, with the version it holds for.
  func askGrant(
    _ channel: ChannelID, _ tenant: TenantID, _ answer: @escaping (Bool, UInt64) -> Void
  ) {
    let (loop, version) = (shard.loop, grantVersion)
    let reply = Reply(answer)
    shard.node.store.read { store in
      let row = try? store.get(.state, key: GrantRow.key(channel: channel, tenant: tenant))
      loop.post { reply.answer(row != nil, version) }
    }
  }

  /// A closure that comes back to the loop it was made on.
  private final class Reply: @unchecked Sendable {
    let answer: (Bool, UInt64) -> Void
    init(_ answer: @escaping (Bool, UInt64) -> Void) { self.answer = answer }
  }

  /// A grant was made or taken back. Streams that live by one that is gone end.
  func receiveGrant(_ channel: ChannelID, _ tenant: TenantID, granted: Bool) {
    grantVersion &+= 1
    guard !granted else { return }
    var ending: [Session] = []
    shard.sessions.forEach { session in
      if session.principal.tenant == tenant, session.slim?.uses(channel) == true {
        ending.append(session)
      }
    }
    for session in ending { session.end(Fault(.revoked)) }
  }

  // MARK: archived channels of this shard

  /// Before a publish goes to the engine: what is written is handed on from now on.
  func attach(_ channel: ChannelRef) {
    let now = shard.loop.now
    if let known = following(channel.id) {
      known.used = now.monotonic
      return
    }
    guard let (_, name) = SlimChannel.parse(channel.name) else { return }
    attached[channel.id] = Attached(channel, name, at: now.monotonic)
    shard.engine.receiveSubscribe(
      SlimHub.session, kind: .router, principal: StreamGate.anyone, channel: channel, start: .live,
      follow: true, limit: 0, token: 0, at: now)
  }

  @inline(__always) private func following(_ id: ChannelID) -> Attached? {
    if let last = lastAttached, last.channel.id == id { return last }
    let found = attached[id]
    lastAttached = found
    return found
  }

  private func route(_ known: Attached) -> SlimRoute? {
    if let route = known.route, route.isCurrent { return route }
    known.route = router.route(known.channel.family, known.name)
    return known.route
  }

  /// A message of an archived channel is written: to its subscribers, on every loop.
  func receive(_ delivery: Delivery, of channel: ChannelRef) {
    guard let known = following(channel.id) else { return }
    guard let route = route(known) else {
      counts.unrouted &+= 1
      return
    }
    let (record, repeats) = SlimHeaderRecord.of(delivery.frame, channel.family, known.last)
    guard let record else { return }
    if !repeats || known.course == nil {
      known.last = record.isShort ? record : nil
      known.course = SlimCourse(
        channel.family, known.name, isAnycast: record.fanout == 1, record.hop)
    }
    guard let course = known.course else { return }
    let message = SlimMessage(
      course, record.holed(delivery.frame), repeats: repeats, channel: channel,
      sequence: delivery.sequence, sender: delivery.publisher)
    publish(message, on: route, from: delivery.publisher)
  }

  /// The engine ended the hub's own session: it follows on at once, for what is written next.
  func receiveEnd(_ fault: Fault) {
    shard.node.log.error("SLIM archive trouble", ["why": .of(fault)])
    let channels = attached.values.map(\.channel)
    attached.removeAll()
    for channel in channels { attach(channel) }
  }

  /// The engine does not follow a channel it was asked to: the next publish asks again.
  func receiveNotFollowed(_ channel: ChannelRef) { attached[channel.id] = nil }

  /// Asks a session that just subscribed to read the last messages of a channel, when there are some. It may have
  /// ended, or unsubscribed, before that is known: only its own loop can tell.
  func receiveReplay(_ session: SessionID, _ channel: ChannelRef) {
    if attached[channel.id] != nil { return tellReplayable(session, channel) }
    let shard = shard
    shard.node.store.read { store in
      guard (try? store.get(.state, key: HeadRow.key(channel.id))) != nil else { return }
      shard.loop.post { shard.slim.tellReplayable(session, channel) }
    }
  }

  private func tellReplayable(_ session: SessionID, _ channel: ChannelRef) {
    if session.loop == shard.index {
      receiveReplayable(session, channel)
    } else {
      shard.post(.slimReplayable(session, channel), to: session.loop)
    }
  }

  func receiveReplayable(_ session: SessionID, _ channel: ChannelRef) {
    guard let stream = shard.sessions.find(session)?.slim,
      let (_, name) = SlimChannel.parse(channel.name), router.isSubscribed(session, name)
    else { return }
    stream.replay(channel)
  }

  /// Lets go what nobody publishes to any more; sooner when it is much, since the engine keeps what is followed.
  private func sweep() {
    let now = shard.loop.now.monotonic
    guard now >= sweepAt else { return }
    let isCrowded = attached.count > Limits.slimFollowed
    sweepAt = now + .seconds(1)
    let idle = Interval.seconds(isCrowded ? 1 : Int64(Limits.slimIdleSeconds))
    for (id, known) in attached where now - known.used > idle && isSettled(id) { detach(id) }
  }

  /// Nothing is on its way into the channel that would have to be handed on.
  private func isSettled(_ id: ChannelID) -> Bool {
    guard let state = shard.engine.channelState(id) else { return false }
    return state.pending == 0 && state.held == 0
  }

  /// Stops following a channel, until something is published to it again.
  func detach(_ id: ChannelID) {
    guard let known = attached.removeValue(forKey: id) else { return }
    shard.engine.receiveUnsubscribe(SlimHub.session, channel: known.channel, at: shard.loop.now)
  }

  // MARK: mail

  /// Messages from another loop. Returns their bytes.
  func receive(_ messages: [SlimMessage]) -> Int {
    var bytes = 0
    unsafe messages.withUnsafeBufferPointer { all in
      for index in all.indices {
        bytes &+= unsafe all[index].frame.count
        unsafe receive(all[index])
      }
    }
    return bytes
  }

  @inline(__always) private func receive(_ message: borrowing SlimMessage) {
    guard let route = lastRoutes.find(message, router) else { return }
    if message.isAnycast {
      if case .local(let id) = route.pick(from: message.sender, of: .loop) {
        hand(message, to: id)
      }
    } else {
      for id in route.members where id != message.sender { hand(message, to: id) }
    }
  }

  func receiveTaken(_ bytes: Int, by loop: Int) {
    onTheWay[loop] &-= bytes
    guard onTheWay[loop] <= Limits.slimMailBytes / 2, !waiting[loop].isEmpty else { return }
    let resumed = waiting[loop]
    waiting[loop] = []
    for id in resumed {
      if id.loop == shard.index {
        shard.sessions.find(id)?.resume(by: Session.mailPause)
      } else {
        shard.post(.resume(id, by: Session.mailPause), to: id.loop)
      }
    }
  }

  func receive(_ interest: [SlimInterest], from loop: Int) {
    for change in interest {
      router.receiveInterest(change, from: loop)
      if !unclaimed.isEmpty { claim(change.family, change.name) }
    }
  }

  func receiveSynced(_ token: UInt64) {
    guard var sync = syncs[token] else { return }
    sync.left -= 1
    if sync.left > 0 {
      syncs[token] = sync
    } else {
      syncs[token] = nil
      send(sync.acks)
    }
  }

  private func send(_ acks: [Ack]) {
    for ack in acks { shard.sessions.find(ack.session)?.reply(ack.frame) }
  }

  // MARK: the turn

  /// The store closes: what comes from now on is only relayed.
  func seal() { archives = false }

  /// Tells the other loops what changed, and acknowledges it when they have heard.
  func endTurn() {
    shard.counts.delivered &+= delivered.messages
    shard.counts.deliveredBytes &+= delivered.bytes
    delivered = (0, 0)
    for stream in unmetered { meter(stream) }
    unmetered.removeAll(keepingCapacity: true)
    if !attached.isEmpty { sweep() }
    let interest = router.takeInterest()
    let others = shard.node.shardCount - 1
    if !interest.isEmpty {
      forEachOther { shard.post(.slimInterest(interest), to: $0) }
    }
    guard !acks.isEmpty else { return }
    let due = acks
    acks = []
    if others == 0 { return send(due) }
    let token = nextSync
    nextSync &+= 1
    syncs[token] = (others, due)
    forEachOther { shard.post(.slimSync(token), to: $0) }
  }

  private func forEachOther(_ body: (Int) -> Void) {
    for loop in 0..<shard.node.shardCount where loop != shard.index { body(loop) }
  }

  // MARK: usage

  func note(_ stream: SlimStream) { unmetered.append(stream) }

  private func meter(_ stream: SlimStream) {
    let (messages, bytes) = stream.takeUsage()
    guard messages > 0 else { return }
    shard.counts.published &+= Int(messages)
    shard.counts.publishedBytes &+= Int(bytes)
    let tenant = stream.session.principal.tenant
    guard tenant != .none else { return }
    shard.meter(tenant)
    shard.engine.receiveUsage(tenant, messages: messages, bytes: bytes, at: shard.loop.now)
    shard.brake(stream.session)
  }
}

/// Counted on one loop.
struct SlimCounters: Sendable {
  /// Publishes nobody had subscribed to.
  var unrouted = 0
  /// Publishes and subscriptions under another org's name, or with names that contradict each other.
  var withoutRight = 0
  /// Messages with a missing or wrong header MAC.
  var badMacs = 0
  /// Messages whose ttl ran out.
  var expired = 0
  /// Archived publishes that could not be written.
  var refused = 0
  /// Streams that read an archived channel on by themselves, because their queue ran over.
  var lagging = 0
  /// Streams ended because their queue ran over, and messages dropped from such queues.
  var overflows = 0
  var dropped = 0

  static func + (a: SlimCounters, b: SlimCounters) -> SlimCounters {
    var sum = a
    sum.unrouted += b.unrouted
    sum.withoutRight += b.withoutRight
    sum.badMacs += b.badMacs
    sum.expired += b.expired
    sum.refused += b.refused
    sum.lagging += b.lagging
    sum.overflows += b.overflows
    sum.dropped += b.dropped
    return sum
  }
}

/// The routes that messages from other loops used last, by their name's hashes.
private struct RouteCache {
  private static let size = 256
  private var routes = [SlimRoute?](repeating: nil, count: size)

  @inline(__always)
  mutating func find(_ message: borrowing SlimMessage, _ router: borrowing SlimRouter) -> SlimRoute?
  {
    let name = message.course.destination
    let at = Int(truncatingIfNeeded: (name.c2 ^ name.idLow) & UInt64(Self.size - 1))
    if let known = routes[at], known.isCurrent, known.name == name,
      known.family == message.course.family
    {
      return known
    }
    let found = router.route(message.course.family, name)
    routes[at] = found
    return found
  }
}
