public import Base

/// Who holds a slot: the owner orders it, followers hold copies of it.
public struct Placement: Hashable, Sendable {
  public var owner: NodeID
  /// Distinct, without the owner; the first is the most wanted.
  public var followers: [NodeID]
  public init(owner: NodeID, followers: [NodeID]) {
    self.owner = owner
    self.followers = followers
  }
}

/// A hand-over that the map asks for and that is not done.
public struct RingMove: Hashable, Sendable {
  /// Who is to own the slot, and the followers it will have then.
  public var target: Placement
  /// The revision that began it: tells it from earlier tries at the same move.
  public var attempt: UInt64
  public init(target: Placement, attempt: UInt64) {
    self.target = target
    self.attempt = attempt
  }
}

/// One slot as the map has it. `move` nil: stable.
public struct RingSlot: Hashable, Sendable {
  public var placement: Placement
  /// Rises each time the owner changes: stamped into records, and what fences an old owner.
  public var epoch: UInt64
  public var move: RingMove?
  public init(placement: Placement, epoch: UInt64, move: RingMove? = nil) {
    self.placement = placement
    self.epoch = epoch
    self.move = move
  }
  public var owner: NodeID { placement.owner }
}

/// Which node owns which slot: a value, the same on every node that has the same revision.
///
/// Two numbers tell maps apart. `version` counts layouts that operators applied. `revision` rises with every
/// change, also when a hand-over ends: of two maps the larger revision is the newer.
public struct RingMap: Hashable, Sendable {
  /// The map has `1 << slotBits` slots.
  public let slotBits: Int
  /// Copies wanted of each slot, its owner's counted. Fewer nodes: fewer copies.
  public internal(set) var replicas: Int
  public internal(set) var version: UInt64 = 0
  public internal(set) var revision: UInt64 = 0
  /// By id, ascending.
  public internal(set) var nodes: [RingNode] = []
  var owners: [NodeID]
  var epochs: [UInt64]
  /// `replicas - 1` for each slot, `none` where there is none.
  var followers: [NodeID]
  var moves: [UInt16: RingMove] = [:]

  /// A map in which nobody owns anything: version and revision 0. The bounds are the caller's to keep.
  public init(slotBits: Int = Limits.slotBits, replicas: Int = 3) {
    precondition(Limits.ringSlotBits.contains(slotBits), "a ring of 2^\(slotBits) slots")
    precondition((1...Limits.ringReplicas).contains(replicas), "\(replicas) copies")
    self.slotBits = slotBits
    self.replicas = replicas
    owners = Array(repeating: .none, count: 1 << slotBits)
    epochs = Array(repeating: 0, count: 1 << slotBits)
    followers = Array(repeating: .none, count: (replicas - 1) << slotBits)
  }

  public var slotCount: Int { 1 << slotBits }

  /// The slot of a channel: the top bits of its id.
  public func slot(of channel: ChannelID) -> UInt16 { slot(ofHash: channel.high) }
  /// The slot of a tenant's accounts: the top bits of XXH64 of its org.
  public func slot(of tenant: TenantID) -> UInt16 { slot(ofHash: tenant.value) }
  /// The slot of a hash: its top bits.
  public func slot(ofHash hash: UInt64) -> UInt16 {
    UInt16(truncatingIfNeeded: hash >> UInt64(64 - slotBits))
  }

  /// Who orders a slot now, also while it is handed over. `none` in a map that was never planned.
  public func owner(of slot: UInt16) -> NodeID { owners[Int(slot)] }
  public func epoch(of slot: UInt16) -> UInt64 { epochs[Int(slot)] }
  public func move(of slot: UInt16) -> RingMove? { moves[slot] }
  public func placement(of slot: UInt16) -> Placement {
    Placement(owner: owners[Int(slot)], followers: followers(of: Int(slot)))
  }
  public subscript(slot: UInt16) -> RingSlot {
    RingSlot(
      placement: placement(of: slot), epoch: epochs[Int(slot)], move: moves[slot])
  }

  /// The slots on their way, ascending.
  public var movingSlots: [UInt16] { moves.keys.sorted() }

  public func node(_ id: NodeID) -> RingNode? { place(of: id).map { nodes[$0] } }
  public func node(named name: String) -> RingNode? { nodes.first { $0.name == name } }

  /// Slots owned, and copies held (the owned ones counted), of a node.
  public func load(of node: NodeID) -> (owned: Int, copies: Int) {
    var owned = 0
    var copies = 0
    for owner in owners where owner == node { owned += 1 }
    for follower in followers where follower == node { copies += 1 }
    return (owned, owned + copies)
  }

  /// The map after `slot` was handed to the target of its move: the new owner's epoch is one higher.
  /// Throws `noSuchMove` unless exactly this try is what the map asks for: the compare of the compare-and-swap.
  public func finishing(_ slot: UInt16, attempt: UInt64) throws(RingError) -> RingMap {
    guard Int(slot) < slotCount, let move = moves[slot], move.attempt == attempt else {
      throw .noSuchMove
    }
    var next = self
    next.revision += 1
    next.moves[slot] = nil
    next.set(move.target, of: Int(slot))
    next.epochs[Int(slot)] += 1
    return next
  }

  /// The map after several slots were handed over at once; one revision for each. Throws `noSuchMove`, and nothing has
  /// changed, unless all of them are what the map asks for.
  public func finishing(
    _ tries: [(slot: UInt16, attempt: UInt64)]
  ) throws(RingError) -> RingMap {
    var next = self
    for (slot, attempt) in tries {
      guard Int(slot) < slotCount, let move = next.moves[slot], move.attempt == attempt else {
        throw .noSuchMove
      }
      next.revision += 1
      next.moves[slot] = nil
      next.set(move.target, of: Int(slot))
      next.epochs[Int(slot)] += 1
    }
    return next
  }

  /// The map after the source gave this try up and wants another: the target must begin anew.
  public func retrying(_ slot: UInt16, attempt: UInt64) throws(RingError) -> RingMap {
    guard Int(slot) < slotCount, var move = moves[slot], move.attempt == attempt else {
      throw .noSuchMove
    }
    var next = self
    next.revision += 1
    move.attempt = next.revision
    next.moves[slot] = move
    return next
  }

  /// The map without the move of `slot`: its owner stays.
  public func cancelling(_ slot: UInt16, attempt: UInt64) throws(RingError) -> RingMap {
    guard Int(slot) < slotCount, let move = moves[slot], move.attempt == attempt else {
      throw .noSuchMove
    }
    var next = self
    next.revision += 1
    next.moves[slot] = nil
    return next
  }

  // MARK: inside

  func place(of id: NodeID) -> Int? {
    var low = 0
    var high = nodes.count
    while low < high {
      let middle = (low + high) / 2
      if nodes[middle].id < id { low = middle + 1 } else { high = middle }
    }
    return low < nodes.count && nodes[low].id == id ? low : nil
  }

  func followers(of slot: Int) -> [NodeID] {
    let wide = replicas - 1
    return followers[slot * wide..<slot * wide + wide].filter { $0 != .none }
  }

  mutating func set(_ placement: Placement, of slot: Int) {
    owners[slot] = placement.owner
    let wide = replicas - 1
    for i in 0..<wide {
      followers[slot * wide + i] =
        i < placement.followers.count ? placement.followers[i] : .none
    }
  }

  /// Room for `count` copies of each slot; followers that have no more room are dropped.
  mutating func widen(to count: Int) {
    if count == replicas { return }
    var wider: [NodeID] = []
    for slot in 0..<slotCount {
      let kept = followers(of: slot).prefix(count - 1)
      wider += kept
      wider += Array(repeating: .none, count: count - 1 - kept.count)
    }
    replicas = count
    followers = wider
    for (slot, move) in moves {
      moves[slot]?.target.followers = Array(move.target.followers.prefix(count - 1))
    }
  }
}
