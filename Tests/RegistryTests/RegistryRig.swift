import Base
import Registry
import Testing

/// A relay's registry with a clock that is moved by hand.
struct RegistryRig {
  var registry: Registry
  var monotonic: Int64 = 1_000
  /// Wall clock = monotonic + skew.
  var wallAhead: Int64

  static let start: Int64 = 1_800_000_000_000_000_000

  init(
    _ relay: String = "relay-a", skewSeconds: Int64 = 0,
    _ change: (inout RegistrySettings) -> Void = { _ in }
  ) {
    var settings = RegistrySettings(relayID: relay, seed: 42)
    change(&settings)
    wallAhead = Self.start + skewSeconds * 1_000_000_000
    registry = Registry(
      settings: settings,
      at: Now(
        monotonic: Instant(nanoseconds: 1_000), wall: Instant(nanoseconds: 1_000 + wallAhead)))
    registry.finishLoading(at: now)
  }

  var now: Now {
    Now(
      monotonic: Instant(nanoseconds: monotonic), wall: Instant(nanoseconds: monotonic + wallAhead))
  }

  mutating func pass(_ seconds: Int64) {
    monotonic += seconds * 1_000_000_000
    registry.receiveTick(at: now)
  }

  @discardableResult mutating func register(
    _ peer: String, _ skills: [String] = ["echo"], tags: [Skill.Tag] = [], name: String = ""
  ) throws -> Instant {
    monotonic += 1
    return try registry.receiveRegister(
      Registration(
        peerID: peer, skills: skills.map { Skill(id: $0, description: "does \($0)", tags: tags) },
        name: name), at: now)
  }

  mutating func heartbeat(_ peer: String) throws {
    _ = try registry.receiveHeartbeat(peer, at: now)
  }

  mutating func unregister(_ peer: String, _ skills: [String] = []) throws {
    monotonic += 1
    try registry.receiveUnregister(peer, skills: skills, at: now)
  }

  mutating func discover(
    _ skill: String = "echo", tags: [Skill.Tag] = [], limit: Int = 0, others: Bool = true
  ) -> [String] {
    registry.discover(
      Discovery(skill: skill, tags: tags, limit: limit, includesOthers: others), at: now)
  }

  /// Everything `other` has that this one lacks, page by page.
  mutating func pull(_ other: inout RegistryRig, page: Int = 1000) {
    for _ in 0..<10_000 {
      let mine = registry.nextVector(at: now)
      other.registry.receiveVector(mine, at: other.now)
      let delta =
        other.registry.isStale(mine)
        ? Delta() : other.registry.delta(beyond: mine, records: page)
      let theirs = other.registry.nextVector(at: other.now)
      let level = registry.vector.map(\.sequence)
      _ = registry.receive(delta, from: theirs, at: now)
      if !delta.hasMore, level == registry.vector.map(\.sequence) { return }
    }
    Issue.record("a pull that does not end")
  }

  /// The store's rows as a map, for a restart.
  mutating func store(into rows: inout [[UInt8]: [UInt8]]) {
    registry.takeWrites().forEach { op, _, key, value in
      let name = unsafe [UInt8](key)
      rows[name] = op == 1 ? unsafe [UInt8](value) : nil
    }
  }

  mutating func restart(_ rows: [[UInt8]: [UInt8]], downSeconds: Int64) {
    monotonic += downSeconds * 1_000_000_000
    registry = Registry(settings: registry.settings, at: now)
    for key in rows.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      registry.load(key: key, value: rows[key]!, at: now)
    }
    registry.finishLoading(at: now)
  }
}

/// Small deterministic randomness (SplitMix64).
struct Dice: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
