import Base
import Registry
import Testing

@Suite("Merging records", .timeLimit(.minutes(10)))
struct MergeTests {
  /// Few values, so that ties of every kind are common.
  static func record(_ dice: inout Dice, peer: String = "p") -> Record {
    let base = UInt64(RegistryRig.start)
    let stamp = Stamp(
      version: base + UInt64.random(in: 0..<3, using: &dice),
      origin: "relay-\(Int.random(in: 0..<3, using: &dice))", incarnation: base,
      sequence: base + UInt64.random(in: 0..<3, using: &dice))
    let at = RegistryRig.start + Int64.random(in: 0..<2, using: &dice)
    if Int.random(in: 0..<3, using: &dice) == 0 {
      return .tombstone(peer, stamp, registeredAt: at)
    }
    let skill = "s\(Int.random(in: 0..<3, using: &dice))"
    return Record(
      stamp: stamp, registeredAt: at,
      body: Registration(peerID: peer, skills: [Skill(id: skill)]).encoded())
  }

  @Test("Higher version, then tombstone, then larger digest")
  func order() {
    let base = UInt64(RegistryRig.start)
    func live(_ version: UInt64, _ skill: String) -> Record {
      Record(
        stamp: Stamp(version: version, origin: "r", incarnation: base, sequence: base),
        registeredAt: 1, body: Registration(peerID: "p", skills: [Skill(id: skill)]).encoded())
    }
    let dead = Record.tombstone(
      "p", Stamp(version: base + 1, origin: "r", incarnation: base, sequence: base),
      registeredAt: 1)
    #expect(live(base + 2, "a").wins(over: dead))
    for i in 0..<50 {
      let (alive, tie) = (live(base + 1, "s\(i)"), "a tie with s\(i)")
      #expect(dead.wins(over: alive) && !alive.wins(over: dead), "\(tie)")
      var rig = RegistryRig("here")
      for record in [alive, dead, alive] { _ = rig.registry.receive(record, at: rig.now) }
      #expect(rig.registry.record(of: "p")?.isTombstone == true, "\(tie)")
    }
    let (a, b) = (live(base, "a"), live(base, "b"))
    #expect(a.wins(over: b) == (a.digest > b.digest) && b.wins(over: a) == (b.digest > a.digest))
  }

  @Test("Counters from a far future, empty names and odd shapes are refused and counted")
  func hostile() {
    let base = UInt64(RegistryRig.start)
    let far = base + 2 * 86_400_000_000_000
    func stamp(
      _ version: UInt64 = base, _ incarnation: UInt64 = base, _ sequence: UInt64 = base,
      origin: String = "r"
    ) -> Stamp {
      Stamp(version: version, origin: origin, incarnation: incarnation, sequence: sequence)
    }
    let body = Registration(peerID: "p", skills: [Skill(id: "a")]).encoded()
    func live(_ stamp: Stamp, _ body: Bytes) -> Record {
      Record(stamp: stamp, registeredAt: 0, body: body)
    }
    let bad: [Record] = [
      live(stamp(far), body), live(stamp(.max), body), live(stamp(0), body),
      live(stamp(base, far), body), live(stamp(base, 0), body), live(stamp(base, base, far), body),
      live(stamp(base, base, 0), body), live(stamp(origin: ""), body),
      live(stamp(origin: String(repeating: "r", count: 300)), body),
      live(stamp(), Bytes([])), live(stamp(), Bytes([1, 2, 3])),
      live(stamp(), Registration(peerID: "", skills: [Skill(id: "a")]).encoded()),
      live(stamp(), Registration(peerID: "p", skills: []).encoded()),
      Record(stamp: stamp(), isTombstone: true, registeredAt: 0, body: body),
      // Field 4 before field 1.
      live(stamp(), Bytes([34, 1, 120] + body.array())),
    ]
    var rig = RegistryRig()
    for record in bad {
      guard case .refused = rig.registry.receive(record, at: rig.now) else {
        Issue.record("taken: \(record)")
        continue
      }
    }
    #expect(rig.registry.counts.refused == bad.count)
    #expect(rig.registry.foreignCount == 0)
    #expect(rig.registry.receive(live(stamp(), body), at: rig.now) == .applied)
  }

  @Test("A vector from a far future is refused, and nobody begins anew for it")
  func hostileVector() throws {
    let far = UInt64(RegistryRig.start) + 2 * 86_400_000_000_000
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    try a.register("pa")
    b.pull(&a)
    for origin in ["a", "b", "c"] {
      let lie = VectorElement(
        origin: origin, incarnation: far, sequence: far, horizon: far, floor: far, beat: far)
      var delta = Delta()
      delta.coverage = [Coverage(origin: origin, incarnation: far, from: 0, through: far)]
      _ = b.registry.receive(delta, from: [lie], at: b.now)
      _ = b.registry.receiveOwn(delta, of: origin, from: [lie], at: b.now)
    }
    #expect(b.registry.counts.rebuilt == 0 && b.registry.counts.refused >= 3)
    try a.register("pa2")
    b.pull(&a)
    #expect(Set(b.discover()) == ["pa", "pa2"])
  }

  @Test("Versions come from the home alone and outbid what it has seen, whatever the clocks say")
  func versions() throws {
    var ahead = RegistryRig("ahead", skewSeconds: 3_600)
    var behind = RegistryRig("behind", skewSeconds: -3_600)
    try ahead.register("p", ["old"])
    behind.pull(&ahead)
    try behind.register("p", ["new"])
    ahead.pull(&behind)
    #expect(ahead.discover("old") == [] && ahead.discover("new") == ["p"])
    #expect(ahead.registry.localCount == 0)
    try behind.unregister("p")
    ahead.pull(&behind)
    #expect(ahead.discover("new") == [])
    // The agent is back at the first relay; its heartbeat to the other is not for that one.
    try ahead.register("p", ["newer"])
    behind.pull(&ahead)
    #expect(behind.discover("newer") == ["p"])
    #expect(throws: Fault.self) { try behind.heartbeat("p") }
  }

  @Test("Rows come back as they were; any flipped bit is found")
  func rows() throws {
    var dice = Dice(3)
    for _ in 0..<200 {
      var record = Self.record(&dice)
      record.isProved = Bool.random(using: &dice)
      record.source = Bool.random(using: &dice) ? "upstream" : ""
      let row = record.row
      #expect(try Record(row: row) == record)
      var flipped = row
      flipped[Int.random(in: row.indices, using: &dice)] ^=
        1 << UInt8.random(in: 0..<8, using: &dice)
      #expect(throws: Fault.self) { try Record(row: flipped) }
      #expect(throws: Fault.self) { try Record(row: Array(row.dropLast())) }
    }
  }
}
