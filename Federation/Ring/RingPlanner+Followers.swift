internal import Base

extension RingPlanner {
  /// Enters or takes out (-1) a copy in the tables.
  mutating func mark(_ slot: Int, _ node: Int, _ change: Int) {
    has[slot * ids.count + node] = change > 0
    inZone[slot * shares.zoneNames.count + shares.zones[node]] += change
  }

  /// Whether `node` may follow `slot`, in place of `other` (-1: beside all it has).
  func fits(_ slot: Int, _ node: Int, for other: Int) -> Bool {
    if has[slot * ids.count + node] { return false }
    let zone = shares.zones[node]
    let freed = other >= 0 && shares.zones[other] == zone ? 1 : 0
    return inZone[slot * shares.zoneNames.count + zone] - freed < shares.perZone
  }

  func follows(_ slot: Int, _ node: Int) -> Bool {
    has[slot * ids.count + node] && owner[slot] != node
  }

  mutating func put(_ slot: Int, _ node: Int) -> Bool {
    for i in slot * wide..<(slot + 1) * wide where followers[i] < 0 {
      followers[i] = node
      followed[node] += 1
      mark(slot, node, 1)
      return true
    }
    return false
  }

  mutating func replace(_ slot: Int, _ old: Int, by node: Int) {
    for i in slot * wide..<(slot + 1) * wide where followers[i] == old {
      followers[i] = node
      followed[old] -= 1
      followed[node] += 1
      mark(slot, old, -1)
      mark(slot, node, 1)
      return
    }
  }

  func open(_ slot: Int) -> Bool {
    for i in slot * wide..<(slot + 1) * wide where followers[i] < 0 { return true }
    return false
  }

  /// Who holds a copy keeps it, unless it became the owner, the zone has enough, or there are too many; then the one
  /// that has most beyond its room goes.
  mutating func keepFollowers() {
    func kept(_ slot: Int) -> [Int] {
      (slot * heldWide..<(slot + 1) * heldWide).map { held[$0] }
        .filter { $0 >= 0 && $0 != owner[slot] }
    }
    var excess = room.map { -$0 }
    for slot in 0..<slots {
      for node in kept(slot) { excess[node] += 1 }
    }
    for slot in 0..<slots {
      let ordered = kept(slot).enumerated().sorted { a, b in
        (excess[a.element], a.offset) < (excess[b.element], b.offset)
      }
      for (_, node) in ordered where !(fits(slot, node, for: -1) && put(slot, node)) {
        excess[node] -= 1
      }
    }
  }

  /// Gives open places to nodes with room.
  mutating func fillFollowers() {
    for slot in 0..<slots {
      while open(slot) {
        var best = -1
        for node in ids.indices where followed[node] < room[node] && fits(slot, node, for: -1) {
          if best < 0
            || rendezvous(slot: slot, node: ids[node]) > rendezvous(slot: slot, node: ids[best])
          {
            best = node
          }
        }
        if best < 0 { break }
        _ = put(slot, best)
      }
    }
  }

  /// Takes copies from nodes that have too many and gives them to nodes with room, where that goes directly.
  mutating func evenFollowers() {
    for node in ids.indices {
      while followed[node] > room[node] {
        let takers = ids.indices.filter { followed[$0] < room[$0] }
        var wishes: [(rank: UInt64, slot: Int, to: Int)] = []
        for slot in 0..<slots where follows(slot, node) {
          var best: (rank: UInt64, slot: Int, to: Int)?
          for to in takers where fits(slot, to, for: node) {
            // First what costs no new copy: the one given up is only planned, or the taker has one.
            let free = !holds(slot, node) || holds(slot, to)
            let rank = rendezvous(slot: slot, node: ids[to]) >> 1 | (free ? 1 << 63 : 0)
            if rank > best?.rank ?? 0 { best = (rank, slot, to) }
          }
          if let best { wishes.append(best) }
        }
        if wishes.isEmpty { break }
        wishes.sort { ($0.rank, $0.slot) > ($1.rank, $1.slot) }
        for wish in wishes {
          if followed[node] <= room[node] { break }
          if followed[wish.to] < room[wish.to] { replace(wish.slot, node, by: wish.to) }
        }
      }
    }
  }

  /// What evenness leaves open, distinct zones do not: the node with the most room, or the least too much.
  mutating func forceFollowers() {
    for slot in 0..<slots {
      while open(slot) {
        var best = -1
        for node in ids.indices where fits(slot, node, for: -1) {
          if best < 0 || room[node] - followed[node] > room[best] - followed[best] { best = node }
        }
        if best < 0 { break }
        _ = put(slot, best)
      }
    }
  }

  /// The followers of a slot: those that were, in their order, then the new ones.
  func followersInOrder(_ slot: Int) -> [Int] {
    let mine = followers[slot * wide..<(slot + 1) * wide].filter { $0 >= 0 }
    let before = held[slot * heldWide..<(slot + 1) * heldWide].filter { mine.contains($0) }
    return before + mine.filter { !before.contains($0) }
  }
}
