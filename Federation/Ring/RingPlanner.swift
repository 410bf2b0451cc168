internal import Base

/// Finds a placement: owners exactly even by weight with the least movement there can be, then followers in distinct
/// zones, even, with few new copies. Works on indexes of the nodes that take slots; -1 is nobody.
struct RingPlanner {
  let shares: RingShares
  let ids: [UInt64]
  let slots: Int
  let wide: Int
  /// Where slots are now, or are already going: what moving is counted from. `wide` copies each, owner first.
  let held: [Int]
  let heldWide: Int
  /// Who holds what in `held`, as a table of slots by nodes.
  private var holding: [Bool]
  var owner: [Int]
  var owned: [Int]
  var followers: [Int]
  var followed: [Int]
  /// Who has a copy under the plan, owner or follower: a table of slots by nodes.
  var has: [Bool] = []
  /// Copies under the plan: a table of slots by zones.
  var inZone: [Int] = []
  /// Followers a node should have.
  var room: [Int] = []

  /// `held` has `heldWide` nodes a slot, owner first.
  init(shares: RingShares, ids: [UInt64], slots: Int, held: [Int], heldWide: Int) {
    self.shares = shares
    self.ids = ids
    self.slots = slots
    self.held = held
    self.heldWide = heldWide
    wide = shares.copies - 1
    owner = (0..<slots).map { held[$0 * heldWide] }
    owned = Array(repeating: 0, count: ids.count)
    followers = Array(repeating: -1, count: slots * (shares.copies - 1))
    followed = Array(repeating: 0, count: ids.count)
    holding = Array(repeating: false, count: slots * ids.count)
    for node in owner where node >= 0 { owned[node] += 1 }
    for (i, node) in held.enumerated() where node >= 0 {
      holding[i / heldWide * ids.count + node] = true
    }
  }

  mutating func run() {
    placeOwners()
    if wide == 0 { return }
    var copies = Array(repeating: 0, count: ids.count)
    for node in held where node >= 0 { copies[node] += 1 }
    let targets = shares.copyTargets(now: copies, owned: owned)
    room = targets.indices.map { targets[$0] - owned[$0] }
    has = Array(repeating: false, count: slots * ids.count)
    inZone = Array(repeating: 0, count: slots * shares.zoneNames.count)
    for slot in 0..<slots { mark(slot, owner[slot], 1) }
    keepFollowers()
    fillFollowers()
    evenFollowers()
    chainFollowers()
    forceFollowers()
    regainFollowers()
  }

  func holds(_ slot: Int, _ node: Int) -> Bool { holding[slot * ids.count + node] }

  // MARK: owners

  private mutating func placeOwners() {
    let targets = shares.ownerTargets(now: owned)
    var open = (0..<slots).filter { owner[$0] < 0 }
    // A follower becomes owner where it can: it has the copy.
    open = promote(open, targets)
    var given: [Int] = []
    for node in ids.indices where owned[node] > targets[node] {
      let surplus = owned[node] - targets[node]
      let mine = (0..<slots).filter { owner[$0] == node }
      let chosen = surrender(mine, surplus, targets)
      for slot in chosen {
        owner[slot] = -1
        owned[node] -= 1
      }
      given += chosen
    }
    given = promote(given, targets)
    assign((open + given).sorted(), targets)
  }

  /// Which of a node's slots go: first those that another holder with room can take over, then those that nodes with
  /// room want most.
  private func surrender(_ mine: [Int], _ surplus: Int, _ targets: [Int]) -> [Int] {
    var spare = targets.indices.map { max(0, targets[$0] - owned[$0]) }
    var ranked: [(score: UInt64, slot: Int, by: Int)] = []
    for slot in mine {
      for i in slot * heldWide + 1..<(slot + 1) * heldWide where held[i] >= 0 && spare[held[i]] > 0
      {
        ranked.append((rendezvous(slot: slot, node: ids[held[i]]), slot, held[i]))
      }
    }
    ranked.sort { ($0.score, $0.slot) > ($1.score, $1.slot) }
    var chosen: [Int] = []
    var taken: Set<Int> = []
    for next in ranked where chosen.count < surplus && spare[next.by] > 0 {
      guard taken.insert(next.slot).inserted else { continue }
      spare[next.by] -= 1
      chosen.append(next.slot)
    }
    if chosen.count == surplus { return chosen }
    let takers = spare.indices.filter { spare[$0] > 0 }
    let rest = mine.filter { !taken.contains($0) }.map { slot in
      (score: takers.map { rendezvous(slot: slot, node: ids[$0]) }.max() ?? 0, slot: slot)
    }
    let wanted = rest.sorted { ($0.score, $0.slot) > ($1.score, $1.slot) }
    return chosen + wanted.prefix(surplus - chosen.count).map(\.slot)
  }

  /// Gives open slots to one of their other holders with room, and where these have none, makes room by giving a slot
  /// that was just placed to another of its holders. Returns the slots that found none.
  private mutating func promote(_ open: [Int], _ targets: [Int]) -> [Int] {
    var placed: [Int: [Int]] = [:]
    func holders(_ slot: Int) -> [Int] {
      (slot * heldWide..<(slot + 1) * heldWide).map { held[$0] }.filter { $0 >= 0 }
        .sorted { rendezvous(slot: slot, node: ids[$0]) > rendezvous(slot: slot, node: ids[$1]) }
    }
    /// Makes `node` the owner of `slot`, or who stands aside for it; false when nobody can.
    func seat(_ slot: Int, _ seen: inout Set<Int>) -> Bool {
      for node in holders(slot) where owned[node] < targets[node] {
        owner[slot] = node
        owned[node] += 1
        placed[node, default: []].append(slot)
        return true
      }
      for node in holders(slot) where seen.insert(node).inserted {
        // `node` stays full while another owner is sought for one of its new slots, so it is not found again.
        for other in placed[node] ?? [] where seat(other, &seen) {
          placed[node]?.removeAll { $0 == other }
          placed[node]?.append(slot)
          owner[slot] = node
          return true
        }
      }
      return false
    }
    var left: [Int] = []
    for slot in open {
      var seen: Set<Int> = []
      if owned.indices.allSatisfy({ owned[$0] >= targets[$0] }) || !seat(slot, &seen) {
        left.append(slot)
      }
    }
    return left
  }

  /// Gives open slots to nodes with room, each to the one it prefers, the strongest wishes first.
  private mutating func assign(_ open: [Int], _ targets: [Int]) {
    var open = open
    while !open.isEmpty {
      let takers = ids.indices.filter { owned[$0] < targets[$0] }
      var wishes: [(score: UInt64, slot: Int, node: Int)] = []
      for slot in open {
        var best = takers[0]
        for node in takers.dropFirst()
        where rendezvous(slot: slot, node: ids[node]) > rendezvous(slot: slot, node: ids[best]) {
          best = node
        }
        wishes.append((rendezvous(slot: slot, node: ids[best]), slot, best))
      }
      wishes.sort { ($0.score, $0.slot) > ($1.score, $1.slot) }
      open = []
      for wish in wishes {
        if owned[wish.node] < targets[wish.node] {
          owner[wish.slot] = wish.node
          owned[wish.node] += 1
        } else {
          open.append(wish.slot)
        }
      }
    }
  }
}
