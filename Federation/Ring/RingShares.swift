internal import Base

/// How many slots, and how many copies, each node should have. Nodes are given and answered by index.
struct RingShares {
  /// Nodes that take slots, with their weights and the index of their zone.
  var weights: [Int]
  var zones: [Int]
  var zoneNames: [String]
  var slots: Int
  /// Copies wanted, and copies there can be: no more than nodes.
  var wanted: Int
  var copies: Int
  /// Copies of one slot in one zone at most.
  var perZone: Int

  init(nodes: [RingNode], slots: Int, replicas: Int) {
    let places = Set(nodes.map(\.place)).sorted()
    weights = nodes.map(\.weight)
    zones = nodes.map { node in places.firstIndex(of: node.place)! }
    zoneNames = places.map(\.text)
    self.slots = slots
    wanted = replicas
    copies = min(replicas, nodes.count)
    var nodesOfZone = Array(repeating: 0, count: places.count)
    for zone in zones { nodesOfZone[zone] += 1 }
    // As few in one zone as can be: 1 when there are zones enough.
    perZone = 1
    while nodesOfZone.reduce(0, { $0 + min($1, perZone) }) < copies { perZone += 1 }
  }

  var weightSum: Int { weights.reduce(0, +) }

  /// The weighted share of `n` copies, exactly: `whole + rest / weightSum`.
  func share(of n: Int, _ node: Int) -> (whole: Int, rest: Int) {
    let product = n * weights[node]
    return (product / weightSum, product % weightSum)
  }

  /// Whether a node with `held` of `n` copies is off its weighted share by more than one and more than 2 %.
  func isOff(_ held: Int, of n: Int, _ node: Int) -> Bool {
    let (fair, has) = (n * weights[node], held * weightSum)
    return abs(has - fair) > max(weightSum, fair / 50)
  }

  /// Slots to own: the weighted share, rounded up or down. Rounded up first where a node has so many already, then
  /// where more would be cut off; so nothing moves for the sake of rounding.
  func ownerTargets(now: [Int]) -> [Int] {
    let shares = weights.indices.map { share(of: slots, $0) }
    var targets = shares.map(\.whole)
    let left = slots - targets.reduce(0, +)
    let order = weights.indices.filter { shares[$0].rest > 0 }.sorted { a, b in
      let (hasA, hasB) = (now[a] > targets[a], now[b] > targets[b])
      return hasA != hasB ? hasA : (shares[a].rest, b) > (shares[b].rest, a)
    }
    for node in order.prefix(left) { targets[node] += 1 }
    return targets
  }

  /// Copies to hold, owned ones counted: the weighted share as far as a node (each slot once) and a zone (each slot
  /// `perZone` times) can hold so many; what they cannot goes to the others by weight.
  func copyTargets(now: [Int], owned: [Int]) -> [Int] {
    let (ideal, capped) = idealCopies()
    var targets = ideal.map { Int($0) }
    var groups: [[Int]] = capped.indices.filter { capped[$0] }.map { zone in
      weights.indices.filter { zones[$0] == zone }
    }
    groups.append(weights.indices.filter { !capped[zones[$0]] })
    for group in groups {
      let sum = Int(group.reduce(0.0) { $0 + ideal[$1] }.rounded())
      var left = sum - group.reduce(0) { $0 + targets[$1] }
      func rest(_ n: Int) -> Double { ideal[n] - Double(targets[n]) }
      let order = group.filter { targets[$0] < slots }.sorted { a, b in
        let (needA, needB) = (owned[a] > targets[a], owned[b] > targets[b])
        if needA != needB { return needA }
        let (hasA, hasB) = (now[a] > targets[a], now[b] > targets[b])
        if hasA != hasB, abs(rest(a) - rest(b)) < 1 { return hasA }
        return (rest(a), b) > (rest(b), a)
      }
      for node in order where left > 0 {
        targets[node] += 1
        left -= 1
      }
    }
    return targets.indices.map { max(targets[$0], owned[$0]) }
  }

  /// Copies of each node as real numbers, and the zones that are full.
  func idealCopies() -> (copies: [Double], full: [Bool]) {
    let room = zoneNames.indices.map { zone in
      let members = zones.reduce(0) { $0 + ($1 == zone ? 1 : 0) }
      return Double(min(perZone, members) * slots)
    }
    func filled(_ level: Double, _ zone: Int) -> Double {
      var sum = 0.0
      for node in weights.indices where zones[node] == zone {
        sum += min(Double(slots), level * Double(weights[node]))
      }
      return sum
    }
    let top = Double(slots) + 1
    let level = bisect(top) { level in
      zoneNames.indices.reduce(0.0) { $0 + min(room[$1], filled(level, $1)) }
        >= Double(copies * slots)
    }
    let full = zoneNames.indices.map { filled(level, $0) >= room[$0] - 1e-6 }
    let levels = zoneNames.indices.map { zone in
      full[zone] ? bisect(top) { filled($0, zone) >= room[zone] - 1e-6 } : level
    }
    let ideal = weights.indices.map { min(Double(slots), levels[zones[$0]] * Double(weights[$0])) }
    return (ideal.map { abs($0 - $0.rounded()) < 1e-6 ? $0.rounded() : $0 }, full)
  }

  /// The least level in `0...top` at which `enough` holds; it holds at `top`.
  private func bisect(_ top: Double, _ enough: (Double) -> Bool) -> Double {
    var low = 0.0
    var high = top
    for _ in 0..<100 {
      let middle = (low + high) / 2
      if enough(middle) { high = middle } else { low = middle }
    }
    return high
  }
}

/// Rendezvous hashing: every (slot, node) has a number that nobody chooses; the larger wins a tie. What a slot prefers
/// does not depend on which other nodes there are.
func rendezvous(slot: Int, node: UInt64) -> UInt64 {
  var z = node ^ (UInt64(slot) &+ 1) &* 0x9e37_79b9_7f4a_7c15
  z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
  z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
  return z ^ (z >> 31)
}
