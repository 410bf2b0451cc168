internal import Base

extension RingPlan {
  /// Fills in what changes.
  mutating func count() {
    var gone: [NodeID: Int] = [:]
    var staying: [NodeID: Int] = [:]
    let state = Dictionary(uniqueKeysWithValues: nodes.map { ($0.id, $0.state) })
    for (number, target) in placements.enumerated() {
      let slot = UInt16(number)
      let owner = base.owner(of: slot)
      let move = base.move(of: slot)
      let change = PlannedMove(slot: slot, from: owner, to: target.owner)
      if owner == .none {
        founded += 1
      } else if owner == target.owner {
        if move != nil { cancelled += 1 }
        if state[owner] == .draining { staying[owner, default: 0] += 1 }
      } else if (state[owner] ?? .gone) == .gone {
        abandoned.append(change)
        gone[owner, default: 0] += 1
      } else if move?.target.owner == target.owner {
        continued += 1
      } else {
        moves.append(change)
      }
      let had = base.intended(slot)
      newCopies +=
        target.followers.count { $0 != had.owner && $0 != owner && !had.followers.contains($0) }
    }
    for (id, slots) in gone.sorted(by: { $0.key < $1.key }) {
      notes.append(.abandoned(node: name(id), slots: slots))
    }
    for (id, slots) in staying.sorted(by: { $0.key < $1.key }) {
      notes.append(.stays(node: name(id), slots: slots))
    }
  }

  /// Says what kept the plan from being even, or copies from being apart.
  mutating func explain(_ takers: [RingNode], _ shares: RingShares) {
    if shares.copies < shares.wanted {
      notes.append(.fewNodes(nodes: takers.count, replicas: shares.wanted))
    }
    if shares.perZone > 1 {
      notes.append(
        .fewZones(
          zones: shares.zoneNames.count, replicas: shares.copies, perZone: shares.perZone))
    }
    if shares.copies < 2 { return }
    let full = shares.idealCopies().full
    var holds = Array(repeating: 0, count: takers.count)
    let index = Dictionary(uniqueKeysWithValues: takers.enumerated().map { ($1.id, $0) })
    for placement in placements {
      for node in [placement.owner] + placement.followers {
        if let i = index[node] { holds[i] += 1 }
      }
    }
    let all = shares.copies * shares.slots
    let fair = takers.indices.map { shares.share(of: all, $0).whole }
    for zone in full.indices where full[zone] && full.count > 1 {
      let members = takers.indices.filter { shares.zones[$0] == zone }
      let share = members.reduce(0) { $0 + fair[$1] }
      let held = members.reduce(0) { $0 + holds[$1] }
      if share > held + 1 {
        notes.append(.zoneFull(zone: shares.zoneNames[zone], copies: held, share: share))
      }
    }
    var off = takers.indices.filter { shares.isOff(holds[$0], of: all, $0) }
    for i in off where holds[i] == shares.slots && fair[i] > holds[i] {
      notes.append(.nodeFull(node: takers[i].name, copies: holds[i], share: fair[i]))
    }
    off.removeAll { holds[$0] == shares.slots && fair[$0] > holds[$0] }
    let most = off.max { a, b in
      abs(holds[a] - fair[a]) * fair[b] < abs(holds[b] - fair[b]) * fair[a]
    }
    if let most {
      notes.append(
        .uneven(
          nodes: off.count, most: takers[most].name, copies: holds[most], share: fair[most]))
    }
  }

  private func name(_ id: NodeID) -> String {
    nodes.first { $0.id == id }?.name ?? base.node(id)?.name ?? id.description
  }
}

extension RingNote: CustomStringConvertible {
  /// A sentence for operators.
  public var description: String {
    switch self {
    case .fewNodes(let nodes, let replicas):
      "\(replicas) copies are wanted and \(nodes) nodes take slots: each slot has \(nodes)"
    case .fewZones(let zones, let replicas, let perZone):
      "\(zones) zones for \(replicas) copies: up to \(perZone) copies of a slot share a zone"
    case .zoneFull(let zone, let copies, let share):
      "zone \(zone) holds \(copies) copies, not the \(share) of its weight: copies of a slot are kept in "
        + "distinct zones, so other zones hold more"
    case .nodeFull(let node, let copies, let share):
      "node \(node) has a copy of each slot, \(copies), not the \(share) of its weight"
    case .uneven(let nodes, let most, let copies, let share):
      "\(nodes) nodes hold more or fewer copies than by weight, most of all \(most): \(copies), not \(share)"
    case .abandoned(let node, let slots):
      "the archive of \(slots) slots was on \(node) only, which is gone: they begin empty"
    case .stays(let node, let slots):
      "\(slots) slots stay on \(node): no other node takes them"
    }
  }
}
