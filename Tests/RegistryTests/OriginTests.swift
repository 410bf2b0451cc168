import Base
import Registry
import Testing

/// Which relays have a place in a registry, when somebody names more of them than it holds.
@Suite("Origins", .timeLimit(.minutes(5)))
struct OriginTests {
  static let counter = UInt64(RegistryRig.start)

  /// Elements of relays that nobody else has heard of.
  static func madeUp(
    _ count: Int, _ prefix: String = "made-up", sequence: UInt64 = 0, floor: UInt64 = 0
  ) -> [VectorElement] {
    (0..<count).map {
      VectorElement(
        origin: "\(prefix)-\($0)", incarnation: counter, sequence: sequence, floor: floor,
        beat: counter)
    }
  }

  /// Changes of theirs without a record.
  static func covering(_ vector: [VectorElement]) -> Delta {
    var delta = Delta()
    delta.coverage = vector.map {
      Coverage(origin: $0.origin, incarnation: $0.incarnation, from: 0, through: $0.sequence)
    }
    return delta
  }

  @Test("A relay that is only named takes no place and is not passed on")
  func named() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    _ = a.registry.receive(
      Delta(), from: Self.madeUp(4_096) + Self.madeUp(4_096, "more", sequence: 7), at: a.now)
    #expect(a.registry.origins.count == 1 && a.registry.vector.count == 1)
    b.pull(&a)
    #expect(b.registry.origins.count == 1)
  }

  @Test("Relays without records give way to those with records, the longest silent first")
  func giveWay() throws {
    var a = RegistryRig("a") { $0.originCapacity = 8 }
    var (b, c) = (RegistryRig("b"), RegistryRig("c"))
    try b.register("p")
    a.pull(&b)
    let old = Self.madeUp(3, "old", sequence: 7)
    _ = a.registry.receive(Self.covering(old), from: old, at: a.now)
    a.pass(1)
    let new = Self.madeUp(3, "new", sequence: 7)
    _ = a.registry.receive(Self.covering(new), from: new, at: a.now)
    #expect(a.registry.origins.count == 8)
    try c.register("q")
    a.pull(&c)
    #expect(
      a.registry.origins.map(\.id).sorted() == [
        "a", "b", "c", "new-0", "new-1", "new-2", "old-1", "old-2",
      ])
    #expect(a.registry.counts.evicted == 1 && a.registry.counts.originless == 0)
    #expect(Set(a.discover()) == ["p", "q"])
    // What took the place is one among others: it is told, ended, and survives a restart.
    var rows: [[UInt8]: [UInt8]] = [:]
    a.store(into: &rows)
    a.restart(rows, downSeconds: 1)
    #expect(Set(a.discover()) == ["p", "q"])
    var d = RegistryRig("d")
    d.pull(&a)
    #expect(Set(d.discover()) == ["p", "q"])
    try c.unregister("q")
    a.pull(&c)
    #expect(a.discover() == ["p"])
  }

  @Test("When every place is taken by records, further relays are refused and counted")
  func full() throws {
    var a = RegistryRig("a") { $0.originCapacity = 3 }
    for name in ["b", "c"] {
      var one = RegistryRig(name)
      try one.register("of-\(name)")
      a.pull(&one)
    }
    var d = RegistryRig("d")
    try d.register("of-d")
    let page = d.registry.delta(beyond: a.registry.vector)
    let (accepted, refused) = a.registry.receive(page, from: d.registry.vector, at: a.now)
    #expect(accepted == 0 && refused == 1)
    #expect(a.registry.counts.originless == 1 && a.registry.counts.evicted == 0)
    #expect(Set(a.discover()) == ["of-b", "of-c"])
    // Purged, one gives way.
    _ = try a.registry.purge("b", at: a.now)
    a.pull(&d)
    #expect(Set(a.discover()) == ["of-c", "of-d"])
  }

  @Test("Claims of forgotten deletes fill three quarters at most, and stop nobody's records")
  func claims() throws {
    var relays = ["a", "b", "c"].map { RegistryRig($0) { $0.originCapacity = 16 } }
    for i in 0..<2 { try relays[i].register("p\(i)") }
    // Different ones to each of two relays.
    for (i, prefix) in ["x", "y"].enumerated() {
      let lies = Self.madeUp(40, prefix, sequence: 7, floor: 7)
      _ = relays[i].registry.receive(Delta(), from: lies, at: relays[i].now)
      #expect(relays[i].registry.origins.count <= 14)
      #expect(relays[i].registry.counts.refused > 0)
    }
    try relays[2].register("p2")
    for _ in 0..<4 {
      for i in 0..<3 {
        for k in 0..<3 where k != i {
          var other = relays[k]
          relays[i].pull(&other)
          relays[k] = other
        }
      }
    }
    for i in 0..<3 { #expect(Set(relays[i].discover()) == ["p0", "p1", "p2"], "relay \(i)") }
    let rebuilt = relays.map(\.registry.counts.rebuilt)
    for i in 0..<3 {
      var other = relays[(i + 1) % 3]
      relays[i].pull(&other)
    }
    #expect(relays.map(\.registry.counts.rebuilt) == rebuilt)
  }

  @Test(
    "A place of which nothing has to be known is free again once it is silent, also after a restart"
  )
  func silence() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    try b.register("p")
    a.pull(&b)
    // They are said to have changes, and so take places.
    let lies = Self.madeUp(50)
    _ = a.registry.receive(Self.covering(lies), from: lies, at: a.now)
    #expect(a.registry.origins.count == 52)
    var rows: [[UInt8]: [UInt8]] = [:]
    a.store(into: &rows)
    var restarted = a
    restarted.restart(rows, downSeconds: 1)
    #expect(restarted.registry.origins.map(\.id) == ["a", "b"])
    a.pass(91)
    #expect(a.registry.origins.map(\.id) == ["a", "b"])
    a.pull(&b)
    #expect(a.registry.origins.map(\.id) == ["a", "b"])
  }
}
