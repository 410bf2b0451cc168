internal import Base

/// Which slots each node could give to each other one, found once and checked again when used.
private struct Offers {
  let nodes: Int
  /// A table of nodes by nodes: slots whose passing on costs no new copy, and those where it costs one.
  var free: [[Int]]
  var dear: [[Int]]

  init(_ planner: borrowing RingPlanner) {
    nodes = planner.ids.count
    free = Array(repeating: [], count: nodes * nodes)
    dear = free
    for slot in (0..<planner.slots).reversed() {
      for i in slot * planner.wide..<(slot + 1) * planner.wide {
        let node = planner.followers[i]
        if node < 0 { continue }
        let lost = planner.holds(slot, node)
        for to in 0..<nodes where planner.fits(slot, to, for: node) {
          if lost && !planner.holds(slot, to) {
            dear[node * nodes + to].append(slot)
          } else {
            free[node * nodes + to].append(slot)
          }
        }
      }
    }
  }

  /// A slot that `node` can still give to `to`, and what that costs; the ones that it cannot any more are forgotten.
  mutating func best(_ node: Int, _ to: Int, _ planner: borrowing RingPlanner) -> (
    slot: Int, cost: Int
  )? {
    let at = node * nodes + to
    while let slot = free[at].last {
      if planner.follows(slot, node), planner.fits(slot, to, for: node) { return (slot, 1) }
      free[at].removeLast()
    }
    while let slot = dear[at].last {
      // A step costs a little, so that short chains win; a copy made anew costs much.
      if planner.follows(slot, node), planner.fits(slot, to, for: node) { return (slot, 17) }
      dear[at].removeLast()
    }
    return nil
  }
}

/// One step of a chain: `node` gives `slot` to the next one.
private struct Link {
  var node: Int
  var slot: Int
}

extension RingPlanner {
  /// Open places and surpluses that no node with room can take directly: a takes from b, b from c, until one has room.
  mutating func chainFollowers() {
    if !needsChains { return }
    var offers = Offers(self)
    // Steps that were made bring offers that the first list has not: looked for anew while that helps.
    for _ in 0..<8 {
      let moved = chainOnce(&offers)
      if !moved || !needsChains { return }
      offers = Offers(self)
    }
  }

  private var needsChains: Bool {
    for node in ids.indices where followed[node] > room[node] { return true }
    for node in followers where node < 0 { return true }
    return false
  }

  private mutating func chainOnce(_ offers: inout Offers) -> Bool {
    var moved = false
    for slot in 0..<slots {
      while open(slot) {
        var starts: [Int] = []
        for node in ids.indices where fits(slot, node, for: -1) { starts.append(node) }
        guard let path = chain(from: starts, &offers), run(path),
          fits(slot, path[0].node, for: -1)
        else { break }
        moved = put(slot, path[0].node)
      }
    }
    for node in ids.indices {
      while followed[node] > room[node] {
        guard let path = chain(from: [node], &offers), run(path) else { break }
        moved = true
      }
    }
    return moved
  }

  /// The cheapest way, in new copies, from one of `starts` to a node with room.
  private func chain(from starts: [Int], _ offers: inout Offers) -> [Link]? {
    let n = ids.count
    var cost = Array(repeating: Int.max, count: n)
    var from = Array(repeating: Link(node: -1, slot: -1), count: n)
    var done = Array(repeating: false, count: n)
    for start in starts { cost[start] = 0 }
    while true {
      var node = -1
      for next in 0..<n where !done[next] && cost[next] < Int.max {
        if node < 0 || cost[next] < cost[node] { node = next }
      }
      if node < 0 { return nil }
      done[node] = true
      if followed[node] < room[node] { return unwind(node, from) }
      for to in 0..<n where !done[to] && to != node {
        guard let offer = offers.best(node, to, self), cost[node] + offer.cost < cost[to] else {
          continue
        }
        cost[to] = cost[node] + offer.cost
        from[to] = Link(node: node, slot: offer.slot)
      }
    }
  }

  private func unwind(_ end: Int, _ from: [Link]) -> [Link] {
    var path = [Link(node: end, slot: -1)]
    while let first = path.first, from[first.node].node >= 0 {
      path.insert(from[first.node], at: 0)
    }
    return path
  }

  /// Carries a chain out from its end, so that no step needs what a later one makes; false when two of its steps
  /// exclude each other (what was done until then is whole).
  private mutating func run(_ path: [Link]) -> Bool {
    for i in path.indices.dropLast().reversed() {
      let (step, to) = (path[i], path[i + 1].node)
      guard follows(step.slot, step.node), fits(step.slot, to, for: step.node) else { return false }
      replace(step.slot, step.node, by: to)
    }
    return true
  }

  /// Saves copies: where a slot got a new follower though one that holds it was let go, the two nodes change places,
  /// if the one that is let go elsewhere holds nothing there. Loads stay as they are.
  mutating func regainFollowers() {
    var fresh: [[Int]] = Array(repeating: [], count: ids.count)
    for slot in 0..<slots {
      for i in slot * wide..<(slot + 1) * wide {
        let node = followers[i]
        if node >= 0, !holds(slot, node) { fresh[node].append(slot) }
      }
    }
    for slot in 0..<slots {
      for i in slot * wide..<(slot + 1) * wide {
        let node = followers[i]
        if node >= 0, !holds(slot, node) { regain(slot, node, &fresh) }
      }
    }
  }

  private mutating func regain(_ slot: Int, _ node: Int, _ fresh: inout [[Int]]) {
    for i in slot * heldWide..<(slot + 1) * heldWide {
      let other = held[i]
      guard other >= 0, fits(slot, other, for: node) else { continue }
      let exchange = fresh[other].firstIndex { there in
        there != slot && follows(there, other) && fits(there, node, for: other)
      }
      guard let exchange else { continue }
      let there = fresh[other].remove(at: exchange)
      replace(slot, node, by: other)
      replace(there, other, by: node)
      if !holds(there, node) { fresh[node].append(there) }
      return
    }
  }
}
