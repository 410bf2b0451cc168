internal import Registry

/// Follows the tombstones of a net from step to step. A relay that has more of them than it may keep forgets the oldest
/// early; then the agent begins anew, maybe by a slower clock and so with a smaller version than that of its forgotten
/// end. Nothing else may take a tombstone away but a record that wins over it.
struct GraveWatch {
  /// The records that a relay has forgotten: of the tombstones that went, and of all that it had held before them.
  private(set) var forgotten: Set<Stamp> = []
  /// The first thing that must not happen.
  private(set) var wrong: String?
  /// The tombstones of each relay, by agent.
  private var held: [[String: Record]]
  /// Every record that each relay has held, by agent, since it last forgot one.
  private var known: [[String: Set<Stamp>]]
  /// `Registry.changes` of each relay as of the last look.
  private var seen: [UInt64]

  init(_ relays: Int) {
    held = Array(repeating: [:], count: relays)
    known = Array(repeating: [:], count: relays)
    seen = Array(repeating: 0, count: relays)
  }

  /// Looks at relay `i` after each step of it: a step is one input.
  mutating func look(
    _ i: Int, _ registry: Registry, _ agents: some Sequence<String>, isTick: Bool
  ) {
    if seen[i] == registry.changes { return }
    seen[i] = registry.changes
    for (agent, before) in held[i].sorted(by: { $0.key < $1.key }) {
      let record = registry.record(of: agent)
      if let record {
        if before.wins(over: record) {
          say("relay \(i) put \(record.stamp) over the end of \(agent) at \(before.stamp)")
        }
      } else if let why = refusal(before, registry, isTick) {
        say("relay \(i) forgot the end of \(agent) at \(before.stamp): \(why)")
      } else {
        forgotten.formUnion(known[i].removeValue(forKey: agent) ?? [])
      }
    }
    held[i] = [:]
    for agent in agents {
      guard let record = registry.record(of: agent) else { continue }
      known[i][agent, default: []].insert(record.stamp)
      if record.isTombstone { held[i][agent] = record }
    }
  }

  private mutating func say(_ what: String) {
    if wrong == nil { wrong = what }
  }

  /// Why a tombstone may not be forgotten; nil: it may.
  private func refusal(_ tombstone: Record, _ registry: Registry, _ isTick: Bool) -> String? {
    if !isTick { return "not by age or number" }
    if registry.tombstoneCount < registry.settings.tombstoneCapacity { return "there was room" }
    // Who has merged less than the floor may hold what was ended.
    let origin = registry.vector.first { $0.origin == tombstone.stamp.origin }
    if origin?.floor ?? 0 < tombstone.stamp.sequence { return "the floor of its origin is below" }
    return nil
  }
}
