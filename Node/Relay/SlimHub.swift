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
  @safe unowned(unsafe) let shard: Shard
  /// The same.
  private let home: Borrowed<Shard>
  var router: SlimRouter
  var counts = SlimCounters()
  /// What streams of this loop were sent in this turn.
  var delivered = (messages: 0, bytes: 0)
  /// Messages of groups are archived; no more once the shard is sealed.
  private(set) var archives: Bool
  /// What is on its way to each loop; and to each other node, by link.
  private var ways: [Way]
  private var nodeWays: [Way] = []
  /// For other nodes, until the turn ends.
  var nodeMessages: [(link: Int, message: SlimMessage)] = []
  /// Of the loop that has the links, once there are any.
  var nodes: LinkSlim?
  /// Sessions of this node that use channels which have come home to it: their proxies' ids, and their own.
  var proxies: [SessionID: SessionID] = [:]
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
  private var lastRoutes = SlimRouteCache()
  /// Rises whenever a grant is made or taken back.
  var grantVersion: UInt64 = 1
  /// Closed streams that hold publishes which must wait for others to be written.
  var parting = 0
  /// Bytes in the queues of this loop's SLIM streams. Buffers that many queues share count in each.
  private(set) var queuedBytes = 0
  var lookAt = Instant.zero
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
    /// It was another node's since it was attached: the engine may not follow it any more.
    var isForeign = false
    init(_ channel: ChannelRef, _ name: SlimName, at now: Instant) {
      self.channel = channel
      self.name = name
      used = now
    }
  }

  /// A closure that comes back to the loop it was made on.
  final class Reply: @unchecked Sendable {
    let answer: (Bool, UInt64) -> Void
    init(_ answer: @escaping (Bool, UInt64) -> Void) { self.answer = answer }
  }

  private struct Ack {
    var session: SessionID
    var frame: Bytes
  }

  private struct Way {
    /// Sent and not dealt with there yet.
    var bytes = 0
    /// Sessions that wait until it has caught up.
    var waiting: [SessionID] = []

    /// - Returns: false: it waits already.
    mutating func add(_ sender: SessionID) -> Bool {
      if waiting.last == sender { return false }
      waiting.append(sender)
      return true
    }

    mutating func takeWaiting() -> [SessionID] {
      let all = waiting
      waiting = []
      return all
    }
  }

  init(shard: Shard, loops: Int) {
    self.shard = shard
    home = Borrowed(shard)
    router = SlimRouter(loop: shard.index, loops: loops)
    archives = shard.node.settings.slimArchive
    ways = [Way](repeating: Way(), count: loops)
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
    if let node = shard.far?.owner(of: channel.id, for: session.id) {
      return askReplay(session.id, channel, of: node)
    }
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
    if !isCrowded { return Limits.slimQueueBytes }
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
      if route.linkTotal > 0 {
        for link in route.links.indices where route.links[link] > 0 {
          send(message, over: link, sender)
        }
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
    if loop >= SlimRouter.firstLink {
      return send(message, over: loop - SlimRouter.firstLink, sender)
    }
    home.with { $0.post(message, to: loop) }
    ways[loop].bytes &+= message.frame.count
    if ways[loop].bytes > Limits.slimMailBytes, let sender, ways[loop].add(sender) { slow(sender) }
  }

  /// To another node.
  private func send(_ message: borrowing SlimMessage, over link: Int, _ sender: SessionID?) {
    nodeMessages.append((link, copy message))
    while nodeWays.count <= link { nodeWays.append(Way()) }
    nodeWays[link].bytes &+= message.linkCost
    if nodeWays[link].bytes > Limits.slimLinkBytes / shard.node.shardCount, let sender,
      nodeWays[link].add(sender)
    {
      slow(sender)
    }
  }

  /// The sender may be on another loop, or node: what is archived is routed where its channel is.
  private func slow(_ sender: SessionID) {
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

  // MARK: archived channels of this shard

  /// Before a publish goes to the engine: what is written is handed on from now on.
  func attach(_ channel: ChannelRef) {
    let now = shard.loop.now
    if let known = following(channel.id), !known.isForeign {
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
    var sender = delivery.publisher
    if !proxies.isEmpty, let proxy = sender { sender = proxies[proxy] ?? proxy }
    let message = SlimMessage(
      course, record.holed(delivery.frame), repeats: repeats, channel: channel,
      sequence: delivery.sequence, sender: sender)
    publish(message, on: route, from: sender)
  }

  /// Channels may have other owners now.
  func receiveMap() {
    for known in attached.values where !isOwn(known.channel) { known.isForeign = true }
  }

  /// The engine ended the hub's own session: it follows on at once, for what is written next.
  func receiveEnd(_ fault: Fault) {
    shard.node.log.error("SLIM archive trouble", ["why": .of(fault)])
    let channels = attached.values.map(\.channel)
    attached.removeAll()
    for channel in channels where isOwn(channel) { attach(channel) }
  }

  /// The channels have gone to another node, and the engine's cursors with them.
  func forget(_ channels: [ChannelRef]) { for channel in channels { attached[channel.id] = nil } }

  /// The engine does not follow a channel it was asked to: the next publish asks again.
  func receiveNotFollowed(_ channel: ChannelRef) { attached[channel.id] = nil }

  /// Asks a session that just subscribed to read the last messages of a channel, when there are some. It may have
  /// ended, or unsubscribed, before that is known: only its own loop can tell.
  func receiveReplay(_ session: SessionID, _ channel: ChannelRef) {
    whenReplayable(channel) { [self] in
      if session.loop == shard.index {
        receiveReplayable(session, channel)
      } else {
        shard.post(.slimReplayable(session, channel), to: session.loop)
      }
    }
  }

  /// Calls back on this loop if the channel, of this shard, has messages.
  func whenReplayable(_ channel: ChannelRef, _ yes: @escaping () -> Void) {
    if attached[channel.id] != nil { return yes() }
    let reply = Reply { isThere, _ in if isThere { yes() } }
    let loop = shard.loop
    shard.node.store.read { store in
      let row = try? store.get(.state, key: HeadRow.key(channel.id))
      if row != nil { loop.post { reply.answer(true, 0) } }
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

  /// A message of another node, on the loop that has the links: to its subscribers here. `other`: a loop that must
  /// get it too.
  func receiveFromNode(_ message: SlimMessage, _ other: (Int) -> Void) {
    guard let route = lastRoutes.find(message, router), route.nodeTotal > 0 else {
      counts.unrouted &+= 1
      return
    }
    if message.isAnycast {
      switch route.pick(from: message.sender, of: .node) {
      case .none: counts.unrouted &+= 1
      case .local(let id): hand(message, to: id)
      case .loop(let loop): other(loop)
      }
      return
    }
    for id in route.members where id != message.sender { hand(message, to: id) }
    for loop in route.remote.indices where route.remote[loop] > 0 { other(loop) }
  }

  func receiveTaken(_ bytes: Int, by loop: Int) {
    ways[loop].bytes &-= bytes
    if ways[loop].bytes <= Limits.slimMailBytes / 2 { resume(ways[loop].takeWaiting()) }
  }

  /// The same for another node. Not while a turn ends: who is resumed may send at once.
  func receiveTaken(_ bytes: Int, over link: Int) {
    nodeWays[link].bytes &-= bytes
    if nodeWays[link].bytes <= Limits.slimLinkBytes / shard.node.shardCount / 2 {
      resume(nodeWays[link].takeWaiting())
    }
  }

  private func resume(_ waiting: [SessionID]) {
    for id in waiting {
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

  /// Tells the other loops, and nodes, what changed, and acknowledges it when they have heard.
  func endTurn() {
    shard.counts.delivered &+= delivered.messages
    shard.counts.deliveredBytes &+= delivered.bytes
    delivered = (0, 0)
    for stream in unmetered { meter(stream) }
    unmetered.removeAll(keepingCapacity: true)
    if !attached.isEmpty { sweep() }
    if isCrowded { makeRoom() }
    let interest = router.takeInterest()
    let others = shard.node.shardCount - 1
    if !interest.isEmpty {
      forEachOther { shard.post(.slimInterest(interest), to: $0) }
    }
    nodes?.tell(router.takeNodeInterest())
    defer { nodes?.endTurn() }
    guard !acks.isEmpty else { return }
    let due = acks
    acks = []
    if others == 0, nodes == nil { return send(due) }
    let token = nextSync
    nextSync &+= 1
    syncs[token] = (nodes == nil ? others : others + 1, due)
    forEachOther { shard.post(.slimSync(token), to: $0) }
    nodes?.sync(token, from: shard.index)
  }

  /// Another loop wants to know when all that it said so far has been heard here: and by the other nodes, where the
  /// links are.
  func receiveSync(_ token: UInt64, from loop: Int) {
    if let nodes { nodes.sync(token, from: loop) } else { shard.post(.slimSynced(token), to: loop) }
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
