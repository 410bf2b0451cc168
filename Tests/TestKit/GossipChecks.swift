internal import Base
internal import Gossip
public import Registry

/// What a check found, over all of its seeds or up to the first that breaks a promise.
public struct CheckOutcome: Sendable {
  /// The seed that broke it; 0: all of them together.
  public var seed: UInt64 = 0
  /// nil: it holds.
  public var violation: String?
  public var figures = ""
}

/// What registry and gossip promise, each as a check that follows from a seed. `faults`: bugs to plant.
public enum GossipCheck: String, Sendable, CaseIterable {
  /// Ten relays, a fifth of all exchanges lost: equal within nine push-pull rounds at p99.9.
  case convergence
  /// Merging is commutative, associative and idempotent, alone and in a registry; 1,000 random triples a seed.
  case merge
  /// Registrations, moves and deletes under loss, one-way cuts and skewed clocks: all end with the largest stamp of each
  /// that was not forgotten. Ends are many more than a relay keeps, so that they are forgotten early (see `GraveWatch`).
  case storms
  /// Storms in which relays start again, by the seed with all that they wrote, with less, or with nothing: all end equal,
  /// nothing that was deleted comes back, nothing that is registered is missing.
  case restarts
  /// After a partition of twice a tombstone's life, clocks an hour off, nothing deleted comes back.
  case partition

  /// How many seeds are the full count.
  public var fullCount: UInt64 {
    switch self {
    case .convergence: 4_000
    case .merge: 1_000
    case .storms, .restarts: 1_000
    case .partition: 200
    }
  }

  public func run(
    seeds: ClosedRange<UInt64>, faults: RegistryFaults = []
  ) -> CheckOutcome {
    switch self {
    case .convergence: convergence(seeds, faults)
    case .merge: each(seeds, "triples", 1_000) { GossipCheck.merge($0, faults) }
    case .storms: each(seeds, "histories", 1) { GossipCheck.storm($0, faults) }
    case .restarts: each(seeds, "histories", 1) { GossipCheck.storm($0, faults, restarts: true) }
    case .partition: each(seeds, "partitions", 1) { GossipCheck.partition($0, faults) }
    }
  }

  private func each(
    _ seeds: ClosedRange<UInt64>, _ what: String, _ count: Int, _ body: (UInt64) -> String?
  ) -> CheckOutcome {
    for seed in seeds {
      if let violation = body(seed) { return CheckOutcome(seed: seed, violation: violation) }
    }
    return CheckOutcome(figures: "\(seeds.count * count) \(what)")
  }

  // MARK: convergence

  private func convergence(
    _ seeds: ClosedRange<UInt64>, _ faults: RegistryFaults
  ) -> CheckOutcome {
    var needed: [Int] = []
    for seed in seeds {
      var rig = GossipRig(10, seed: seed, settings: { $0.faults = faults })
      guard rig.rounds(most: 60) != nil else {
        return CheckOutcome(seed: seed, violation: "empty relays are not equal after 60 rounds")
      }
      // Either the request or the answer goes: half of the histories each.
      if seed % 2 == 0 { rig.lostRequests = 20 } else { rig.lostAnswers = 20 }
      do { for i in 0..<10 { try rig.register(i, "p\(i)") } } catch {
        return CheckOutcome(seed: seed, violation: "\(error)")
      }
      guard let rounds = rig.rounds(most: 60) else {
        return CheckOutcome(seed: seed, violation: "not equal after 60 rounds")
      }
      needed.append(rounds)
    }
    needed.sort()
    let p999 = needed[min(needed.count - 1, needed.count * 999 / 1_000)]
    let figures =
      "\(needed.count) histories, rounds: median \(needed[needed.count / 2]), p99.9 \(p999), most \(needed.last ?? 0)"
    return CheckOutcome(violation: p999 <= 9 ? nil : "p99.9 over 9: \(figures)", figures: figures)
  }

  // MARK: merging

  /// Few values, so that ties of every kind are common.
  public static func record(_ dice: inout SimRandom, peer: String = "p") -> Record {
    let base = UInt64(GossipRig.start)
    let stamp = Stamp(
      version: base + UInt64(dice.below(3)), origin: "relay-\(dice.below(3))", incarnation: base,
      sequence: base + UInt64(dice.below(3)))
    let at = GossipRig.start + Int64(dice.below(2))
    if dice.oneIn(3) { return .tombstone(peer, stamp, registeredAt: at) }
    return Record(
      stamp: stamp, registeredAt: at,
      body: Registration(peerID: peer, skills: [Skill(id: "s\(dice.below(3))")]).encoded())
  }

  private static func merge(_ seed: UInt64, _ faults: RegistryFaults) -> String? {
    var dice = SimRandom(seed: seed)
    func merged(_ a: Record, _ b: Record) -> Record { b.wins(over: a, faults) ? b : a }
    for _ in 0..<1_000 {
      let (a, b, c) = (record(&dice), record(&dice), record(&dice))
      if merged(a, b) != merged(b, a) { return "not commutative: \(a), \(b)" }
      if merged(a, a) != a { return "not idempotent: \(a)" }
      if merged(merged(a, b), c) != merged(a, merged(b, c)) {
        return "not associative: \(a), \(b), \(c)"
      }
      if a != b, a.wins(over: b, faults) == b.wins(over: a, faults) {
        return "no order: \(a), \(b)"
      }
      // And it is the order that is promised.
      let winner = merged(a, b)
      if winner.stamp.version != max(a.stamp.version, b.stamp.version) {
        return "the smaller version won: \(a), \(b)"
      }
      if a.stamp.version == b.stamp.version, a.isTombstone != b.isTombstone, !winner.isTombstone {
        return "a tie without the tombstone: \(a), \(b)"
      }
    }
    // A registry ends in the same state whatever the order, doubles included.
    for _ in 0..<25 {
      var records = (0..<6).map { record(&dice, peer: "p\($0 % 2)") }
      var states: [[Record?]] = []
      for _ in 0..<3 {
        records.shuffle(using: &dice)
        var rig = GossipRig(
          1, seed: seed,
          settings: {
            $0 = RegistrySettings(relayID: "here", seed: seed)
            $0.faults = faults
          })
        let now = rig.now(0)
        for one in records + records.prefix(2) { _ = rig.relays[0].registry.receive(one, at: now) }
        states.append(["p0", "p1"].map { rig.relays[0].registry.record(of: $0) })
      }
      if states[0] != states[1] || states[1] != states[2] {
        return "a registry depends on the order: \(records)"
      }
    }
    return nil
  }

  // MARK: storms

  private static func storm(
    _ seed: UInt64, _ faults: RegistryFaults, restarts: Bool = false
  ) -> String? {
    do { return try storming(seed, faults, restarts) } catch { return "refused: \(error)" }
  }

  private static func storming(
    _ seed: UInt64, _ faults: RegistryFaults, _ restarts: Bool
  ) throws(Fault) -> String? {
    var rig = GossipRig(
      5, seed: seed, fanout: 2, skewSeconds: { [3_600, -3_600, 0, 60, -5][$0] },
      settings: {
        $0.tombstoneCapacity = 7
        $0.faults = faults
      })
    rig.lostRequests = 15
    rig.lostAnswers = 15
    // What a relay has lost may well be smaller than what was issued.
    if !restarts { rig.graves = GraveWatch(5) }
    var homes: [String: Int] = [:]
    for _ in 0..<60 {
      for _ in 0..<4 {
        let peer = "p\(rig.dice.below(30))"
        let at = homes[peer] ?? rig.dice.below(5)
        if rig.dice.oneIn(3) {
          try rig.unregister(at, peer)
          homes[peer] = nil
        } else {
          try rig.register(at, peer, ["s\(rig.dice.below(4))"])
          homes[peer] = at
        }
      }
      if restarts { restart(&rig, .allCases[Int(seed % 3)]) }
      let pair = [rig.dice.below(5), rig.dice.below(5)]
      if rig.cut.remove(pair) == nil { rig.cut.insert(pair) }
      try rig.live(homes)
      rig.round()
      if let wrong = rig.graves?.wrong { return wrong }
    }
    rig.cut = []
    (rig.lostRequests, rig.lostAnswers) = (0, 0)
    // An agent whose relay hears of a delete that outbids it registers again.
    for _ in 0..<40 {
      try rig.live(homes)
      rig.round()
      if let wrong = rig.graves?.wrong { return wrong }
    }
    if !rig.isConverged { return "the relays are not equal" }
    if let graves = rig.graves, let wrong = smaller(rig, graves) { return wrong }
    let live = Set((0..<4).flatMap { rig.discover(0, "s\($0)") })
    let back = live.subtracting(homes.keys)
    if !back.isEmpty { return "deleted and there: \(back.sorted())" }
    let lost = Set(homes.keys).subtracting(live)
    return lost.isEmpty ? nil : "registered and not there: \(lost.sorted())"
  }

  private static func restart(_ rig: inout GossipRig, _ kept: GossipRig.Kept) {
    for i in rig.relays.indices {
      if kept == .everything || rig.dice.oneIn(3) { rig.write(i) }
      if rig.dice.oneIn(25) { rig.restart(i, kept) }
    }
  }

  /// A relay that holds less than the largest record of an agent that was not forgotten.
  private static func smaller(_ rig: GossipRig, _ graves: GraveWatch) -> String? {
    for (peer, largest) in rig.issued.sorted(by: { $0.key < $1.key }) {
      for i in rig.relays.indices {
        guard let kept = rig.relays[i].registry.record(of: peer) else { continue }
        if largest.wins(over: kept), !graves.forgotten.contains(largest.stamp) {
          return
            "\(peer) is at \(kept.stamp) on relay \(i), not at the largest stamp \(largest.stamp)"
        }
      }
    }
    return nil
  }

  // MARK: partitions

  private static func partition(_ seed: UInt64, _ faults: RegistryFaults) -> String? {
    do { return try parting(seed, faults) } catch { return "refused: \(error)" }
  }

  private static func parting(
    _ seed: UInt64, _ faults: RegistryFaults
  ) throws(Fault) -> String? {
    var rig = GossipRig(
      4, seed: seed, fanout: 2, skewSeconds: { [3_600, -3_600, 3_600, 0][$0] },
      settings: { $0.faults = faults })
    for i in 0..<40 { try rig.register(i % 4, "p\(i)") }
    if rig.rounds(most: 30) == nil { return "not equal after 30 rounds" }
    for i in [2, 3] {
      for j in [0, 1] { rig.cut.formUnion([[i, j], [j, i]]) }
    }
    // On one side agents end and move, on the other side nobody hears of it.
    var gone: Set<String> = []
    for i in stride(from: 0, to: 20, by: 4) {
      try rig.unregister(0, "p\(i)")
      gone.insert("p\(i)")
    }
    for i in stride(from: 2, to: 40, by: 8) {
      try rig.register(1, "p\(i)")
      rig.round()
      try rig.unregister(0, "p\(i)")
      gone.insert("p\(i)")
    }
    let kept = (0..<40).filter { !gone.contains("p\($0)") }
    // Twice the life of a tombstone, 24 h.
    for step in 0..<(2 * 86_400 / 25 + 1) {
      if step > 0 { rig.pass(seconds: 25) }
      for i in kept { try? rig.heartbeat(i % 4, "p\(i)") }
    }
    rig.round()
    rig.round()
    let left = rig.relays[0].registry.tombstoneCount
    if left > 0 { return "\(left) tombstones outlived their life" }
    rig.cut = []
    for _ in 0..<60 where !rig.isConverged {
      for i in kept { try? rig.heartbeat(i % 4, "p\(i)") }
      rig.round()
      for i in 0..<2 {
        let back = gone.intersection(rig.discover(i))
        if !back.isEmpty { return "relay \(i) shows what was deleted: \(back.sorted())" }
      }
    }
    if !rig.isConverged { return "not equal 60 rounds after the partition" }
    for i in 0..<4 where Set(rig.discover(i)) != Set(kept.map { "p\($0)" }) {
      return "relay \(i) does not show who is left"
    }
    return rig.relays[2].registry.counts.rebuilt > 0 ? nil : "nobody began anew: the check is blind"
  }
}
