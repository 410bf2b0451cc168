public import Base

/// Why a plan is not as even, or its copies not as far apart, as one would like.
public enum RingNote: Hashable, Sendable {
  /// Fewer copies than wanted: there are not so many nodes.
  case fewNodes(nodes: Int, replicas: Int)
  /// Some zone holds several copies of a slot: there are not zones enough, or they have too few nodes.
  case fewZones(zones: Int, replicas: Int, perZone: Int)
  /// A zone holds as many copies as it may, fewer than its weight asks for; the others hold the rest.
  case zoneFull(zone: String, copies: Int, share: Int)
  /// A node is so heavy that it has a copy of every slot, and would hold more by its weight.
  case nodeFull(node: String, copies: Int, share: Int)
  /// So many nodes hold copies that differ from their share by more than one and 2 %, as an effect of the notes before;
  /// `most` differs most. Slots owned always are even.
  case uneven(nodes: Int, most: String, copies: Int, share: Int)
  /// A node is gone, and these slots' archive was only there.
  case abandoned(node: String, slots: Int)
  /// A node that drains keeps slots, since no other takes any.
  case stays(node: String, slots: Int)
}

/// One slot that a plan moves.
public struct PlannedMove: Hashable, Sendable {
  public var slot: UInt16
  public var from: NodeID
  public var to: NodeID
}

/// A proposed layout: what `ring plan` shows and `ring apply` makes the map. Made by `RingMap.plan`.
public struct RingPlan: Hashable, Sendable {
  /// The map it was made from.
  public let base: RingMap
  /// The nodes as they are to be, by id.
  public let nodes: [RingNode]
  public let replicas: Int
  /// Where each slot is to be.
  public let placements: [Placement]
  /// Slots to hand over that are not on their way there already, by slot.
  public internal(set) var moves: [PlannedMove] = []
  /// Slots that stop moving, and slots that go on moving to where they are going.
  public internal(set) var cancelled = 0
  public internal(set) var continued = 0
  /// Slots whose owner is gone: they get a new one at once, with an empty archive.
  public internal(set) var abandoned: [PlannedMove] = []
  /// Slots that get their first owner.
  public internal(set) var founded = 0
  /// Copies that followers do not hold yet. Nothing copies them until followers replicate.
  public internal(set) var newCopies = 0
  public internal(set) var notes: [RingNote] = []

  /// Whether applying it would change anything.
  public var isEmpty: Bool {
    moves.isEmpty && cancelled == 0 && abandoned.isEmpty && founded == 0 && nodes == base.nodes
      && replicas == base.replicas
      && placements.indices.allSatisfy { placements[$0] == base.intended(UInt16($0)) }
  }

  /// Slots owned and copies held (those counted) of a node under this plan.
  public func load(of node: NodeID) -> (owned: Int, copies: Int) {
    var (owned, copies) = (0, 0)
    for placement in placements {
      if placement.owner == node { owned += 1 }
      if placement.owner == node || placement.followers.contains(node) { copies += 1 }
    }
    return (owned, copies)
  }

  /// The map that applying the plan makes: owners stay until their slots are handed over, moves begin, joining nodes
  /// serve. nil when `current` is not the map the plan was made from.
  public func applied(to current: RingMap) -> RingMap? {
    guard current == base else { return nil }
    var next = base
    next.version += 1
    next.revision += 1
    next.widen(to: replicas)
    for (slot, target) in placements.enumerated() { next.head(for: target, slot, gone: isGone) }
    var named = Set(next.owners)
    named.formUnion(next.followers)
    for move in next.moves.values { named.formUnion([move.target.owner] + move.target.followers) }
    var kept = nodes.filter { $0.state != .gone || named.contains($0.id) }
    for i in kept.indices where kept[i].state == .joining { kept[i].state = .serving }
    next.nodes = kept
    return next
  }

  private func isGone(_ id: NodeID) -> Bool {
    nodes.first { $0.id == id }.map { $0.state == .gone } ?? true
  }
}

extension RingMap {
  /// Where a slot is, or is going.
  func intended(_ slot: UInt16) -> Placement { moves[slot]?.target ?? placement(of: slot) }

  /// One slot of `RingPlan.applied`.
  fileprivate mutating func head(for target: Placement, _ slot: Int, gone: (NodeID) -> Bool) {
    let owner = owners[slot]
    let key = UInt16(slot)
    if owner == .none || gone(owner) && owner != target.owner {
      moves[key] = nil
      set(target, of: slot)
      epochs[slot] += 1
    } else if owner == target.owner {
      moves[key] = nil
      set(target, of: slot)
    } else {
      let same = moves[key].flatMap { $0.target.owner == target.owner ? $0.attempt : nil }
      moves[key] = RingMove(target: target, attempt: same ?? revision)
      // Followers that are gone are no followers, also meanwhile.
      set(
        Placement(owner: owner, followers: followers(of: slot).filter { !gone($0) }), of: slot)
    }
  }

  /// Proposes where slots should be with these nodes: owners by weight, exactly even, moved as little as that takes;
  /// followers in distinct zones, even as far as zones allow, with few new copies. The same input gives the same plan
  /// on every machine. Cost: tens of milliseconds for 4,096 slots.
  ///
  /// `nodes` are all the nodes there are to be; one that is missing counts as gone. `like`: an earlier map whose
  /// placements are preferred to the present ones (a revert).
  public func plan(nodes wanted: [RingNode], replicas: Int? = nil, like: RingMap? = nil)
    throws(RingError) -> RingPlan
  {
    let replicas = replicas ?? self.replicas
    let nodes = wanted.sorted { $0.id < $1.id }
    try RingMap.check(nodes, replicas: replicas)
    let takers = nodes.filter(\.takesSlots)
    if takers.isEmpty { throw .noNode }
    let shares = RingShares(nodes: takers, slots: slotCount, replicas: replicas)
    let held = holders(takers, like: like.flatMap { $0.slotBits == slotBits ? $0 : nil })
    var planner = RingPlanner(
      shares: shares, ids: takers.map(\.id.value), slots: slotCount, held: held.nodes,
      heldWide: held.wide)
    planner.run()
    let placements = (0..<slotCount).map { slot in
      Placement(
        owner: takers[planner.owner[slot]].id,
        followers: planner.followersInOrder(slot).map { takers[$0].id })
    }
    var plan = RingPlan(base: self, nodes: nodes, replicas: replicas, placements: placements)
    plan.count()
    plan.explain(takers, shares)
    return plan
  }

  static func check(_ nodes: [RingNode], replicas: Int) throws(RingError) {
    guard (1...Limits.ringReplicas).contains(replicas) else {
      throw .badNodes("\(replicas) copies; 1 to \(Limits.ringReplicas) are possible")
    }
    if nodes.count > Limits.ringNodes { throw .badNodes("\(nodes.count) nodes") }
    var names: Set<String> = []
    for (i, node) in nodes.enumerated() {
      if let trouble = node.trouble { throw .badNodes(trouble) }
      if i > 0, nodes[i - 1].id == node.id { throw .badNodes("two nodes with id \(node.id)") }
      if !names.insert(node.name).inserted { throw .badNodes("two nodes named \(node.name)") }
    }
  }

  /// Who holds each slot, or is getting it, as indexes of `takers`: the owner, then the others; -1 where nobody.
  private func holders(_ takers: [RingNode], like: RingMap?) -> (nodes: [Int], wide: Int) {
    var index: [NodeID: Int] = [:]
    for (i, node) in takers.enumerated() { index[node.id] = i }
    let wide = max(replicas, like?.replicas ?? 0) + 1
    var out: [Int] = []
    out.reserveCapacity(wide * slotCount)
    for slot in 0..<slotCount {
      var row = Array(repeating: -1, count: wide)
      let intended = (like ?? self).intended(UInt16(slot))
      // A move whose target takes nothing any more is given up: the owner keeps the slot.
      row[0] = index[intended.owner] ?? index[owners[slot]] ?? -1
      var others = intended.followers
      if like == nil, owners[slot] != intended.owner { others.append(owners[slot]) }
      var next = 1
      for other in others {
        guard let node = index[other], !row.contains(node), next < wide else { continue }
        row[next] = node
        next += 1
      }
      out += row
    }
    return (out, wide)
  }
}
