import Base
import Codec
import Engine
import Link
import LinkMail
import Loop
import Slim

/// SLIM between this node and the others, on loop 0: tells them what names this node has subscribers for, hears the same
/// of them, and carries messages both ways, each once to a node, whoever there is to get it.
final class LinkSlim: @unchecked Sendable {
  @safe private unowned(unsafe) let links: LinkHost
  private var node: NodeHost { links.node }
  private var loop: EventLoop { links.loop }
  /// Loop 0's: it has heard of all loops.
  private var hub: SlimHub { links.node.shards[0].slim }
  /// By the index of their link.
  private var peers: [Peer?] = []
  /// Who waits until the other nodes have heard of what this turn changed: loops, with tokens of theirs.
  private var waiters: [Waiter] = []
  private var syncs: [UInt64: Sync] = [:]
  private var nextSync: UInt64 = 1
  private var isTimed = false

  private struct Waiter {
    var loop: Int
    var token: UInt64
  }

  private struct Sync {
    var waiters: [Waiter]
    /// Links that have not answered.
    var left: Set<Int>
    var until: Instant
  }

  /// One other node.
  private final class Peer {
    let link: NodeLink
    var isUp = false
    /// It has been told everything, or `untold` holds what is left.
    var isTold = false
    /// Names it must still hear of, each once.
    var untold = UntoldNames()
    /// Its answers are asked for when it has heard all.
    var syncsDue: [UInt64] = []
    /// Bytes the link has taken from each loop while it was crowded.
    var taken: [Int]
    /// Its own questions, and how many loops have not heard yet.
    var asked: [UInt64: Int] = [:]
    /// Its messages for loops but this one, in this turn; and bytes those have not dealt with.
    var arrived: [[SlimMessage]]
    var onTheWay: [Int]
    var courses = CourseCache()

    init(_ link: NodeLink, loops: Int) {
      self.link = link
      taken = [Int](repeating: 0, count: loops)
      arrived = [[SlimMessage]](repeating: [], count: loops)
      onTheWay = taken
    }
  }

  init(_ links: LinkHost) { self.links = links }

  /// On loop 0, once its shard knows of the links.
  func open() {
    hub.nodes = self
    hub.router.tellNodes()
  }

  private func peer(_ link: NodeLink) -> Peer {
    while peers.count <= link.index { peers.append(nil) }
    if let known = peers[link.index] { return known }
    let made = Peer(link, loops: node.shardCount)
    peers[link.index] = made
    return made
  }

  private func number(_ link: NodeLink) -> Int { SlimRouter.firstLink + link.index }

  // MARK: the link

  func receive(_ event: LinkHost.PeerEvent, on link: NodeLink) {
    let peer = peer(link)
    switch event {
    case .up:
      peer.isUp = true
      if !peer.isTold {
        peer.isTold = true
        peer.untold = UntoldNames()
        for one in hub.router.toldNames() { peer.untold.add(one) }
      }
      tellOn(peer)
    case .down:
      peer.isUp = false
      waitNoMore(for: peer)
      release(peer)
    case .forgotten, .unreachable:
      forget(peer)
    case .congested(let isCongested):
      if isCongested { break }
      release(peer)
      tellOn(peer)
    }
  }

  /// Nothing holds that was said: it has no subscribers, and hears everything anew when it is there.
  private func forget(_ peer: Peer) {
    peer.isTold = false
    peer.untold = UntoldNames()
    peer.asked = [:]
    waitNoMore(for: peer)
    release(peer)
    let number = number(peer.link)
    hub.router.receiveGone(number)
    eachOther { $0.slim.router.receiveGone(number) }
  }

  /// Messages that came back from a link, and may have arrived: apps ask again for what they miss.
  func lost(_ items: [LinkMail]) {
    for case .live in items { hub.counts.unreachable &+= 1 }
  }

  // MARK: interest

  /// What has changed, to all nodes.
  func tell(_ interest: [SlimInterest]) {
    if interest.isEmpty { return }
    for peer in peers {
      guard let peer, peer.isTold else { continue }
      for one in interest { peer.untold.add(one) }
      tellOn(peer)
    }
  }

  /// Tells a node what it has not heard, up to what its link takes without being crowded.
  private func tellOn(_ peer: Peer) {
    while !peer.untold.isEmpty, peer.isUp, !peer.link.isCongested {
      let names = peer.untold.take(Limits.slimInterestNames)
      let list = names.map { name in
        let told = hub.router.toldNodes(name.family, name.name)
        return LinkInterest(family: told.family, name: told.name, count: told.count)
      }
      guard links.enqueue(.interest(list), on: peer.link) == .taken else { return }
    }
    guard peer.untold.isEmpty, peer.isUp else { return }
    let due = peer.syncsDue
    peer.syncsDue = []
    for token in due { _ = links.enqueue(.sync(token), on: peer.link) }
  }

  private func receive(_ interest: [LinkInterest], from peer: Peer) {
    let list = interest.map { SlimInterest(family: $0.family, name: $0.name, count: $0.count) }
    let number = number(peer.link)
    hub.receive(list, from: number)
    eachOther { $0.slim.receive(list, from: number) }
  }

  private func eachOther(_ body: @escaping @Sendable (Shard) -> Void) {
    for shard in node.shards where shard.index != 0 { shard.loop.post { body(shard) } }
  }

  // MARK: confirmations

  /// A loop's subscriptions are acknowledged when the other nodes have heard of them.
  func sync(_ token: UInt64, from loop: Int) {
    waiters.append(Waiter(loop: loop, token: token))
  }

  /// After `tell`: asks every node that can answer.
  func endTurn() {
    if waiters.isEmpty { return }
    let due = waiters
    waiters = []
    let asked = peers.compactMap { $0 }.filter { $0.isUp && $0.isTold }
    if asked.isEmpty { return answer(due) }
    let token = nextSync
    nextSync &+= 1
    syncs[token] = Sync(
      waiters: due, left: Set(asked.map(\.link.index)),
      until: loop.now.monotonic + .milliseconds(Limits.slimSyncMilliseconds))
    for peer in asked {
      peer.syncsDue.append(token)
      tellOn(peer)
    }
    watch()
  }

  private func answer(_ waiters: [Waiter]) {
    for waiter in waiters {
      if waiter.loop == 0 {
        hub.receiveSynced(waiter.token)
      } else {
        let (shard, token) = (node.shards[waiter.loop], waiter.token)
        shard.loop.post { shard.slim.receiveSynced(token) }
      }
    }
  }

  private func receiveSynced(_ token: UInt64, from link: Int) {
    guard syncs[token]?.left.remove(link) != nil, let sync = syncs[token], sync.left.isEmpty
    else { return }
    syncs[token] = nil
    answer(sync.waiters)
  }

  /// It is down: who waits for its word has waited enough.
  private func waitNoMore(for peer: Peer) {
    peer.syncsDue = []
    for token in syncs.keys.sorted() { receiveSynced(token, from: peer.link.index) }
  }

  /// A node that is up and does not answer in time is not waited for.
  private func watch() {
    guard !isTimed, let next = syncs.values.map(\.until).min() else { return }
    isTimed = true
    let now = loop.now.monotonic
    loop.schedule(after: next > now ? next - now : Interval(nanoseconds: 0)) { [self] in
      isTimed = false
      let now = loop.now.monotonic
      for (token, sync) in syncs where sync.until <= now {
        syncs[token] = nil
        answer(sync.waiters)
      }
      watch()
    }
  }

  /// The node asks to be told when all loops have heard what it said so far.
  private func receiveSync(_ token: UInt64, from peer: Peer) {
    if node.shardCount == 1 {
      _ = links.enqueue(.synced(token), on: peer.link)
      return
    }
    peer.asked[token] = node.shardCount - 1
    let (loop, index) = (loop, peer.link.index)
    eachOther { _ in loop.post { [self] in heard(token, of: index) } }
  }

  private func heard(_ token: UInt64, of link: Int) {
    guard let peer = peers[link], let left = peer.asked[token] else { return }
    peer.asked[token] = left > 1 ? left - 1 : nil
    if left == 1 { _ = links.enqueue(.synced(token), on: peer.link) }
  }

  // MARK: messages out

  /// What a loop has for other nodes.
  func receive(_ messages: [(link: Int, message: SlimMessage)], from loop: Int) {
    for (index, message) in messages {
      guard index < links.links.count else { continue }
      let peer = peer(links.links[index])
      peer.taken[loop] &+= message.linkCost
      if !send(message, to: peer) { hub.counts.unreachable &+= 1 }
    }
    for peer in peers {
      guard let peer, peer.taken[loop] > 0, !(peer.isUp && peer.link.isCongested) else { continue }
      release(peer, loop)
    }
  }

  /// - Returns: false: it is lost. A link that is down and crowded takes nothing more: publishers do not wait for it.
  private func send(_ message: SlimMessage, to peer: Peer) -> Bool {
    guard peer.isUp || !peer.link.isCongested, let course = sendable(message) else { return false }
    var sender: SessionID?
    if let id = message.sender, id.loop == number(peer.link) {
      sender = peer.link.near.origin(id)?.session
    }
    let live = LinkMessage(
      family: course.family, destination: course.destination, isAnycast: message.isAnycast,
      repeats: message.repeats, hole: UInt32(message.frame.hole), hop: course.hop?.rest ?? [],
      frame: message.frame, sequence: message.channel == nil ? 0 : message.sequence,
      sender: sender)
    return links.enqueue(.live(live), on: peer.link) == .taken
  }

  /// The other node must be able to read it.
  private func sendable(_ message: SlimMessage) -> SlimCourse? {
    let (course, frame) = (message.course, message.frame)
    let isSigned = course.hop != nil && frame.hole >= GrpcFrame.prefixBytes
    guard course.family == .slimB ? isSigned : frame.hole == 0,
      frame.count - GrpcFrame.prefixBytes <= Limits.messageBytes,
      (course.hop?.rest.count ?? 0) <= Limits.linkHeadBytes / 2
    else { return nil }
    return course
  }

  /// The loops hear that their messages are no longer under way.
  private func release(_ peer: Peer) {
    for loop in peer.taken.indices where peer.taken[loop] > 0 { release(peer, loop) }
  }

  private func release(_ peer: Peer, _ loop: Int) {
    let (shard, bytes, link) = (node.shards[loop], peer.taken[loop], peer.link.index)
    peer.taken[loop] = 0
    // On this loop too: a turn may be ending, and who is resumed may send at once.
    shard.loop.post { shard.slim.receiveTaken(bytes, over: link) }
  }

  // MARK: mail of a peer

  func receive(_ mail: LinkMail, on link: NodeLink) {
    let peer = peer(link)
    switch mail {
    case .live(let message): receive(message, from: peer)
    case .interest(let list): receive(list, from: peer)
    case .sync(let token): receiveSync(token, from: peer)
    case .synced(let token): receiveSynced(token, from: link.index)
    case .slimReplay(let session, let family, let name):
      receiveReplay(session, family, name, from: peer)
    case .slimReplayable(let session, let family, let name):
      receiveReplayable(session, SlimChannel.ref(family, name))
    default: break
    }
  }

  private func receive(_ message: LinkMessage, from peer: Peer) {
    let course = peer.courses.find(message)
    let frame = message.frame
    if message.hole > 0 { frame.makeHole(at: Int(message.hole)) }
    let arrived = SlimMessage(
      course, frame, repeats: message.repeats,
      channel: message.sequence == 0 ? nil : hub.channel(message.family, message.destination),
      sequence: message.sequence, sender: message.sender)
    hub.receiveFromNode(arrived) { peer.arrived[$0].append(arrived) }
  }

  /// The end of the turn: what came for other loops goes there.
  func handOut() {
    for peer in peers {
      guard let peer else { continue }
      for loop in peer.arrived.indices where !peer.arrived[loop].isEmpty { hand(peer, to: loop) }
    }
  }

  private func hand(_ peer: Peer, to loop: Int) {
    let (messages, shard, home) = (peer.arrived[loop], node.shards[loop], self.loop)
    peer.arrived[loop] = []
    peer.onTheWay[loop] &+= messages.reduce(0) { $0 &+ $1.frame.count }
    judge(peer)
    let link = peer.link.index
    shard.loop.post { [self] in
      let bytes = shard.slim.receiveHanded(messages)
      home.post { [self] in taken(bytes, by: loop, of: link) }
    }
  }

  private func taken(_ bytes: Int, by loop: Int, of link: Int) {
    guard let peer = peers[link] else { return }
    peer.onTheWay[loop] &-= bytes
    judge(peer)
  }

  /// What a loop is far behind with is not confirmed: so the peer's queue fills, and its publishers wait.
  private func judge(_ peer: Peer) {
    let most = peer.onTheWay.max() ?? 0
    if most > Limits.slimMailBytes {
      peer.link.isHeld = true
    } else if peer.link.isHeld, most <= Limits.slimMailBytes / 2 {
      peer.link.isHeld = false
      peer.link.hasHeard = true
    }
  }

  // MARK: sessions whose channels came home

  /// A session of this node asks this node, by a proxy: what it sends must not come back to it. nil: it does no longer.
  func note(_ proxy: SessionID, is session: SessionID?) {
    hub.proxies[proxy] = session
    eachOther { $0.slim.proxies[proxy] = session }
  }

  // MARK: replays

  /// Asks the owner of a channel for a session of this node.
  func askReplay(_ session: SessionID, _ channel: ChannelRef, of node: NodeID) {
    guard let link = links.link(to: node), !link.isOwn,
      let (family, name) = SlimChannel.parse(channel.name)
    else { return }
    _ = links.enqueue(.slimReplay(session, family, name), on: link)
  }

  private func receiveReplay(
    _ session: SessionID, _ family: Family, _ name: SlimName, from peer: Peer
  ) {
    let channel = SlimChannel.ref(family, name)
    let (shard, links, index) = (node.shard(of: channel.id), links, peer.link.index)
    shard.loop.post {
      guard !shard.isSealed, shard.slim.isOwn(channel) else { return }
      shard.slim.whenReplayable(channel) {
        links.loop.post {
          _ = links.enqueue(.slimReplayable(session, family, name), on: links.links[index])
        }
      }
    }
  }

  private func receiveReplayable(_ session: SessionID, _ channel: ChannelRef) {
    guard session.loop < node.shardCount else { return }
    let shard = node.shards[session.loop]
    shard.loop.post { shard.slim.receiveReplayable(session, channel) }
  }
}

/// Names in the order in which they were noted, each once.
private struct UntoldNames {
  struct Name: Hashable {
    var family: Family
    var name: SlimName
  }
  private var order: [Name] = []
  private var head = 0
  private var all: Set<Name> = []

  var isEmpty: Bool { head == order.count }

  mutating func add(_ interest: SlimInterest) {
    let name = Name(family: interest.family, name: interest.name)
    if all.insert(name).inserted { order.append(name) }
  }

  mutating func take(_ most: Int) -> [Name] {
    let end = min(order.count, head + most)
    let taken = Array(order[head..<end])
    head = end
    for name in taken { all.remove(name) }
    if isEmpty {
      order.removeAll(keepingCapacity: order.count <= 1_024)
      head = 0
    }
    return taken
  }
}

/// What messages of one node have in common, for those that came last: receivers remember MACs by it.
private struct CourseCache {
  private static let size = 256
  private var courses = [SlimCourse?](repeating: nil, count: size)

  mutating func find(_ message: LinkMessage) -> SlimCourse {
    let name = message.destination
    var mix = name.c2 ^ name.idLow
    for byte in message.hop { mix = (mix ^ UInt64(byte)) &* 0x100_0000_01b3 }
    let at = Int(truncatingIfNeeded: (mix ^ mix >> 32) & UInt64(Self.size - 1))
    if let known = courses[at], known.family == message.family, known.destination == name,
      known.isAnycast == message.isAnycast, known.hop?.rest ?? [] == message.hop
    {
      return known
    }
    let hop = message.family == .slimB ? SlimHop(message.hop) : nil
    let made = SlimCourse(message.family, name, isAnycast: message.isAnycast, hop)
    courses[at] = made
    return made
  }
}
