internal import Base
internal import Registry

/// What gossip costs: rounds until all relays are equal, and bytes on the network, in a simulated net without loss.
public struct GossipCost: Sendable {
  public var nodes: Int
  public var registrations: Int
  public var fanout: Int
  /// From all registrations at their homes to equality.
  public var coldRounds: [Int] = []
  public var coldBytes: [Int] = []
  /// From one new registration among the others to equality.
  public var oneRounds: [Int] = []
  public var oneBytes: [Int] = []
  /// In a round in which nothing changes.
  public var idleBytes = 0
  /// In a round in which one agent of a thousand has changed.
  public var churnBytes = 0

  /// Makes a net of `nodes` relays for each of `seeds`, and spreads `registrations` agents over them.
  /// - Returns: nil when relays did not become equal within 60 rounds.
  public static func measure(
    nodes: Int, registrations: Int, fanout: Int, seeds: UInt64
  ) -> GossipCost? {
    var cost = GossipCost(nodes: nodes, registrations: registrations, fanout: fanout)
    for seed in 1...max(seeds, 1) {
      // Agents need not speak up while this runs.
      var rig = GossipRig(nodes, seed: seed, fanout: fanout, settings: { $0.ttl = .minutes(600) })
      guard rig.rounds(most: 60) != nil, cost.cold(&rig), cost.one(&rig, seed) else { return nil }
      if seed == 1, !cost.steady(&rig) { return nil }
    }
    return cost
  }

  private mutating func cold(_ rig: inout GossipRig) -> Bool {
    for i in 0..<registrations {
      guard (try? rig.register(i % nodes, GossipCost.peer(i), ["skill-\(i % 100)"])) != nil else {
        return false
      }
    }
    rig.traffic = GossipRig.Traffic()
    guard let rounds = rig.rounds(most: 60) else { return false }
    coldRounds.append(rounds)
    coldBytes.append(rig.traffic.bytes)
    return true
  }

  private mutating func one(_ rig: inout GossipRig, _ seed: UInt64) -> Bool {
    rig.traffic = GossipRig.Traffic()
    guard (try? rig.register(Int(seed) % nodes, "12D3KooW-one-\(seed)")) != nil,
      let rounds = rig.rounds(most: 60)
    else { return false }
    oneRounds.append(rounds)
    oneBytes.append(rig.traffic.bytes)
    return true
  }

  private mutating func steady(_ rig: inout GossipRig) -> Bool {
    let rounds = 10
    rig.traffic = GossipRig.Traffic()
    for _ in 0..<rounds { rig.round() }
    idleBytes = rig.traffic.bytes / rounds
    rig.traffic = GossipRig.Traffic()
    for n in 0..<rounds {
      for k in 0..<max(1, registrations / 1_000) {
        let i = (n * 7_919 + k * 104_729) % registrations
        guard
          (try? rig.register(i % nodes, GossipCost.peer(i), ["skill-\(i % 100)", "new-\(n)"]))
            != nil
        else { return false }
      }
      rig.round()
    }
    churnBytes = rig.traffic.bytes / rounds
    return rig.rounds(most: 60) != nil
  }

  /// As long as a libp2p peer id.
  private static func peer(_ i: Int) -> String {
    let digits = String(i)
    return "12D3KooW" + String(repeating: "x", count: max(0, 44 - digits.count)) + digits
  }
}
