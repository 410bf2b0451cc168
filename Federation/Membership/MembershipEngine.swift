public import Base

/// What membership asks of its host, in order.
public enum MembershipEffect: Hashable, Sendable {
  /// Send it. A link to `address` may be used, or a datagram; nothing tells whether it arrived.
  case send(to: String, MemberPacket)
  /// What is believed of a member changed: it is new, or its state, incarnation or address is another. Forgotten
  /// members come a last time.
  case changed(Member)
  /// This node contradicted what was said of it, and has this incarnation now. Kept over a restart it saves a round of
  /// contradiction; nothing depends on it.
  case refuted(incarnation: UInt64)
  /// Another node has this member's id and incarnation at another address: one of them is a copy of the other's data.
  case twin(Member)
  /// Leaving is told; the node may go.
  case left
  /// An operator had this node forgotten: it is no member, sends nothing, and starts again only as a new engine, with
  /// an incarnation above the one that `me` has by then.
  case forgotten
  /// Call `receiveTick` at this time at the latest.
  case wake(Instant)
}

/// Who is there, and how far away: SWIM (Das et al., 2002) with suspicion, incarnations and Lifeguard's local health
/// (arXiv 1707.00788). It decides nothing about ownership.
///
/// In each interval one member is pinged; without an answer others are asked to ping it; without theirs it is suspected,
/// and, unless it contradicts by a higher incarnation, dead when the suspicion has lasted. Updates ride on packets, each
/// so often that everybody hears of it. The dead are tried now and then, so that a partition heals. What is believed of a
/// member only grows, by (incarnation, state), so everybody comes to believe the same.
public struct MembershipEngine: Sendable {
  public enum Phase: Hashable, Sendable {
    case member
    case leaving
    case ended
  }

  /// Somebody else.
  struct Peer: Sendable {
    var member: Member
    var since: Instant
    var roundTrip = RoundTrip()
    /// Who suspects it; the first of them has started the suspicion.
    var suspectors: [NodeID] = []
  }

  struct Probe: Sendable {
    var target: NodeID
    var sequence: UInt32
    var sentAt: Instant
    /// Others are asked then.
    var askAt: Instant
    var endsAt: Instant
    var asked = 0
    var nacks = 0
    var isAsked = false
  }

  /// A ping made for another.
  struct Errand: Sendable {
    var from: NodeID
    var address: String
    var theirs: UInt32
    /// When they are told that there is no answer yet.
    var nackAt: Instant
    var endsAt: Instant
    var isNacked = false
  }

  public private(set) var me: Member
  public let profile: MembershipProfile
  public private(set) var phase = Phase.member
  /// 0: healthy, to `Limits.memberHealth`: this node misses what others do not. Stretches its intervals.
  public internal(set) var localHealth = 0

  let seeds: [String]
  var peers: [NodeID: Peer] = [:]
  var gossip = GossipQueue()
  var random: MemberRandom
  var probe: Probe?
  var errands: [UInt32: Errand] = [:]
  var sequence: UInt32 = 0
  /// The members still to be pinged in this round.
  var round: [NodeID] = []
  var nextProbe: Instant
  var nextGossip: Instant
  var nextSync: Instant
  var nextReconnect: Instant
  private var leavesAt: Instant?
  private var expected: Instant

  /// `me`: alive, with the incarnation to begin with: above the last one kept (a node that was forgotten comes back by
  /// that alone), and above what others may remember of a life that the data directory does not know: the clock's
  /// milliseconds, say. `seeds`: addresses of members, at most `Limits.memberSeeds` are used. `random`: any number,
  /// another for each start.
  public init(
    me: Member, profile: MembershipProfile, seeds: [String], random: UInt64, at now: Instant,
    into effects: inout [MembershipEffect]
  ) {
    precondition(me.trouble == nil && me.state == .alive, "\(me) cannot be a member")
    self.me = me
    self.profile = profile
    self.seeds = Array(seeds.filter { $0 != me.address }.prefix(Limits.memberSeeds))
    self.random = MemberRandom(seed: random ^ me.id.value)
    nextProbe = now + profile.probeInterval
    nextGossip = now + profile.gossipInterval
    // The first exchange soon: with many who join at once some word does not reach all.
    nextSync = now + profile.probeInterval + profile.probeInterval
    nextReconnect = now + profile.reconnectInterval
    expected = now
    joinSeeds(&effects)
    wake(at: now, &effects)
  }

  // MARK: what is known

  /// All others by id, but the forgotten.
  public var members: [Member] {
    peers.values.map(\.member).filter { $0.state != .forgotten }.sorted { $0.id < $1.id }
  }
  public func member(_ id: NodeID) -> Member? {
    if id == me.id { return me }
    guard let member = peers[id]?.member, member.state != .forgotten else { return nil }
    return member
  }
  /// Since when a member has its state.
  public func since(_ id: NodeID) -> Instant? { peers[id]?.since }
  /// nil: never answered a ping.
  public func roundTrip(to id: NodeID) -> RoundTrip? {
    peers[id].flatMap { $0.roundTrip.count > 0 ? $0.roundTrip : nil }
  }

  /// Members that live or may, this one counted: the N of all formulas.
  var size: Int { peers.values.count { $0.member.state <= .suspect } + 1 }

  // MARK: inputs

  /// A packet came, from whoever has the cluster's key.
  public mutating func receive(
    _ packet: MemberPacket, at now: Instant, into effects: inout [MembershipEffect]
  ) {
    if phase == .ended { return }
    if packet.sender.id == me.id {
      if packet.sender.address != me.address { effects.append(.twin(packet.sender)) }
      return
    }
    forgive(at: now)
    let believed = peers[packet.sender.id]?.member
    take(MemberUpdate(packet.sender, by: packet.sender.id), at: now, &effects)
    for update in packet.updates where phase != .ended { take(update, at: now, &effects) }
    if phase == .ended { return }
    answer(packet, at: now, &effects)
    // Who does not know what is said of him hears it from whom he talks to. Most answers have it; gossip gets none, or
    // two would not stop.
    let isAnswered =
      switch packet.message {
      case .ping, .gossip, .sync(answer: true): true
      default: false
      }
    if !isAnswered, let believed, isContradiction(believed, to: packet.sender) {
      send(.gossip, to: packet.sender, &effects)
    }
    wake(at: now, &effects)
  }

  public mutating func receiveTick(at now: Instant, into effects: inout [MembershipEffect]) {
    if phase == .ended { return }
    if let leavesAt, now >= leavesAt {
      phase = .ended
      effects.append(.left)
      return
    }
    forgive(at: now)
    probeTick(at: now, &effects)
    expireSuspicions(at: now, &effects)
    gossipTick(at: now, &effects)
    syncTick(at: now, &effects)
    wake(at: now, &effects)
  }

  /// Says good-bye: `left` follows when that was said often enough.
  public mutating func leave(at now: Instant, into effects: inout [MembershipEffect]) {
    guard phase == .member else { return }
    phase = .leaving
    me.state = .left
    probe = nil
    gossip.put(MemberUpdate(me, by: me.id))
    for peer in reachable().prefix(Limits.memberUpdates) {
      send(.gossip, to: peer, &effects)
    }
    let rounds = retransmitLimit(members: size)
    leavesAt = now + Interval(nanoseconds: profile.gossipInterval.nanoseconds * Int64(rounds))
    wake(at: now, &effects)
  }

  /// An operator's word that a member will not come back. It is told to all; only a higher incarnation brings the
  /// member in again. False: there is no such member, or it is this one.
  public mutating func forget(
    _ id: NodeID, at now: Instant, into effects: inout [MembershipEffect]
  ) -> Bool {
    guard phase == .member, var member = self.member(id), id != me.id else { return false }
    member.state = .forgotten
    // The member itself should hear it, too, if it can.
    let update = MemberUpdate(member, by: me.id)
    effects.append(
      .send(to: member.address, MemberPacket(sender: me, message: .gossip, updates: [update])))
    take(update, at: now, &effects)
    wake(at: now, &effects)
    return true
  }

  // MARK: inside

  /// This node was not run for a while: what it did not hear meanwhile says nothing about others.
  private mutating func forgive(at now: Instant) {
    let late = now - expected
    guard late > profile.probeTimeout else { return }
    worsen(1)
    probe = nil
    errands = [:]
    for (id, peer) in peers where peer.member.state == .suspect {
      peers[id]?.since = peer.since + late
    }
  }

  mutating func worsen(_ by: Int) {
    localHealth = min(max(0, localHealth + by), Limits.memberHealth)
  }

  /// Raises the own incarnation above `incarnation` and tells so.
  mutating func refute(_ incarnation: UInt64, _ effects: inout [MembershipEffect]) {
    guard incarnation < Limits.memberIncarnation else { return }
    me.incarnation = incarnation + 1
    gossip.put(MemberUpdate(me, by: me.id))
    effects.append(.refuted(incarnation: me.incarnation))
  }

  mutating func end(_ incarnation: UInt64, _ effects: inout [MembershipEffect]) {
    phase = .ended
    me.incarnation = incarnation
    effects.append(.forgotten)
  }

  private mutating func wake(at now: Instant, _ effects: inout [MembershipEffect]) {
    var next = min(nextProbe, nextGossip, nextSync, nextReconnect)
    if let probe { next = min(next, probe.isAsked ? probe.endsAt : probe.askAt) }
    for errand in errands.values {
      next = min(next, errand.isNacked ? errand.endsAt : errand.nackAt)
    }
    for peer in peers.values where peer.member.state == .suspect {
      next = min(next, suspicionEnds(peer))
    }
    if let leavesAt { next = min(next, leavesAt) }
    expected = max(next, now)
    effects.append(.wake(expected))
  }
}

/// Seeded (splitmix64).
struct MemberRandom: Sendable {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func below(_ n: Int) -> Int { n <= 1 ? 0 : Int(next() % UInt64(n)) }

  mutating func shuffle<T>(_ list: inout [T]) {
    for i in list.indices.reversed() where i > 0 { list.swapAt(i, below(i + 1)) }
  }
}

/// Updates to be sent on, one a member, those sent least often first.
struct GossipQueue: Sendable {
  private struct Item: Sendable {
    var update: MemberUpdate
    var sent = 0
    var serial: UInt64
  }
  private var items: [NodeID: Item] = [:]
  private var serial: UInt64 = 0

  var isEmpty: Bool { items.isEmpty }
  var count: Int { items.count }

  /// Replaces what was queued of that member.
  mutating func put(_ update: MemberUpdate) {
    serial += 1
    items[update.member.id] = Item(update: update, serial: serial)
  }

  mutating func remove(_ id: NodeID) { items[id] = nil }

  /// The updates for one packet of at most `bytes`, without those of `not`; each counts as sent, and goes when that was
  /// `limit` times.
  mutating func take(bytes: Int, count: Int, limit: Int, not: NodeID) -> [MemberUpdate] {
    var left = bytes
    var out: [MemberUpdate] = []
    let order = items.sorted { ($0.value.sent, $1.value.serial) < ($1.value.sent, $0.value.serial) }
    for (id, item) in order where id != not && out.count < count {
      let size = item.update.member.updateBytes
      if size > left { continue }
      left -= size
      out.append(item.update)
      if item.sent + 1 >= limit { items[id] = nil } else { items[id]?.sent += 1 }
    }
    return out
  }
}
