import Base
import Registry
import Testing

@Suite("Records of other relays", .timeLimit(.minutes(2)))
struct FederatedTests {
  @Test("Local agents come first, others behind them, and only if asked for")
  func localFirst() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    for i in 0..<5 { try a.register("a\(i)") }
    for i in 0..<5 { try b.register("b\(i)") }
    a.pull(&b)
    for _ in 0..<12 {
      let found = a.discover()
      #expect(Set(found[..<5]) == ["a0", "a1", "a2", "a3", "a4"] && found.count == 10)
    }
    #expect(a.discover(limit: 7).count == 7)
    #expect(Set(a.discover(others: false)) == ["a0", "a1", "a2", "a3", "a4"])
    #expect(b.discover().count == 5)
  }

  @Test("Nothing is lost past a page, in any size of page")
  func pages() throws {
    for page in [1, 7, 100] {
      var (a, b) = (RegistryRig("a"), RegistryRig("b"))
      for i in 0..<500 { try b.register("b\(i)", ["s\(i % 3)"]) }
      for i in 0..<100 { try b.register("b\(i * 5)", ["s9"]) }
      for i in 0..<50 { try b.unregister("b\(i)") }
      a.pull(&b, page: page)
      #expect(a.registry.foreignCount == 450)
      #expect(a.registry.rootDigest == b.registry.rootDigest)
      #expect(a.registry.isLevel(with: b.registry.vector))
      // Nothing new: nothing is sent.
      #expect(b.registry.delta(beyond: a.registry.vector).records.isEmpty)
    }
  }

  @Test("Changes travel through a relay between two that never meet")
  func transit() throws {
    var (a, b, c) = (RegistryRig("a"), RegistryRig("b"), RegistryRig("c"))
    try a.register("p")
    b.pull(&a)
    c.pull(&b)
    #expect(c.discover() == ["p"])
    try a.unregister("p")
    b.pull(&a)
    c.pull(&b)
    #expect(c.discover() == [])
  }

  @Test("A heartbeat is not gossiped; the end of a lifetime is, by the home")
  func lifetimes() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    try a.register("p")
    b.pull(&a)
    for _ in 0..<10 {
      a.pass(20)
      b.pass(20)
      try a.heartbeat("p")
      #expect(a.registry.delta(beyond: b.registry.vector).records.isEmpty)
      b.pull(&a)
      #expect(b.discover() == ["p"])
    }
    a.pass(31)
    b.pass(31)
    #expect(b.discover() == ["p"])
    b.pull(&a)
    #expect(b.discover() == [])
  }

  @Test(
    "A silent origin is hidden, also when a third relay still tells of it, and comes back with it")
  func silence() throws {
    var (a, b, c) = (RegistryRig("a"), RegistryRig("b"), RegistryRig("c"))
    try a.register("p")
    b.pull(&a)
    c.pull(&b)
    // Heard of in transit only.
    for _ in 0..<5 {
      for rig in [0, 1, 2] {
        switch rig {
        case 0: a.pass(29); try a.heartbeat("p")
        case 1: b.pass(29)
        default: c.pass(29)
        }
      }
      b.pull(&a)
      c.pull(&b)
      #expect(c.discover() == ["p"])
    }
    // a is gone.
    for _ in 0..<4 {
      b.pass(29)
      c.pass(29)
      c.pull(&b)
      b.pull(&c)
    }
    #expect(b.discover() == [] && c.discover() == [])
    #expect(b.registry.foreignCount == 1)
    try a.heartbeat("p")
    b.pull(&a)
    c.pull(&b)
    #expect(c.discover() == ["p"])
  }

  @Test("Agents survive a restart, with a lifetime to speak up again")
  func restart() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    var rows: [[UInt8]: [UInt8]] = [:]
    for i in 0..<50 { try a.register("p\(i)", tags: [.init("n", "\(i)")]) }
    try a.unregister("p7")
    try b.register("q")
    a.pull(&b)
    a.pass(1)
    a.store(into: &rows)
    let (digest, vector) = (a.registry.rootDigest, a.registry.vector.map(\.sequence))
    a.restart(rows, downSeconds: 600)
    #expect(a.registry.rootDigest == digest)
    #expect(a.registry.vector.map(\.sequence) == vector)
    #expect(a.registry.localCount == 49 && a.registry.foreignCount == 1)
    #expect(a.discover(tags: [.init("n", "3")]) == ["p3"])
    try a.heartbeat("p3")
    a.pass(29)
    #expect(a.discover(limit: 100).count == 50)
    a.pass(2)
    #expect(a.discover(tags: [.init("n", "4")]) == [])
    // A damaged row is left out.
    let victim = rows.keys.first { $0 == [UInt8(ascii: "p")] + Array("p9".utf8) }!
    rows[victim]![20] ^= 4
    a.restart(rows, downSeconds: 1)
    #expect(a.registry.counts.damagedRows == 1 && a.registry.localCount == 48)
  }

  @Test("A relay whose newest agent moved away goes on in the same life after a restart")
  func restartAfterMove() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b", skewSeconds: 60))
    var rows: [[UInt8]: [UInt8]] = [:]
    try a.register("p")
    a.store(into: &rows)
    try a.register("mover")
    a.store(into: &rows)
    b.pull(&a)
    try b.register("mover")
    a.pull(&b)
    a.store(into: &rows)
    let own = a.registry.vector[0]
    a.restart(rows, downSeconds: 5)
    #expect(a.registry.vector[0].sequence == own.sequence)
    a.pull(&b)
    #expect(a.registry.vector[0].incarnation == own.incarnation)
  }

  @Test("A relay that lost its data begins a new life: the old one's agents go, the new one's stay")
  func lostData() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    for i in 0..<10 { try a.register("p\(i)") }
    b.pull(&a)
    a.restart([:], downSeconds: 5)
    try a.register("p3")
    b.pull(&a)
    #expect(b.discover() == ["p3"])
    // Also with a clock that went back far.
    a.wallAhead -= 7_200_000_000_000
    a.restart([:], downSeconds: 5)
    try a.register("p4")
    a.pull(&b)
    b.pull(&a)
    a.pull(&b)
    #expect(b.discover() == ["p4"])
    #expect(a.discover() == ["p4"])
  }

  @Test("What is deleted and forgotten does not come back from a relay that was away")
  func noResurrection() throws {
    var a = RegistryRig("a", skewSeconds: 3_600)
    var b = RegistryRig("b", skewSeconds: -3_600)
    var c = RegistryRig("c")
    for i in 0..<20 { try a.register("p\(i)") }
    try b.register("mover")
    b.pull(&a)
    c.pull(&b)
    a.pull(&b)
    // The mover goes from b to a and ends there; c hears none of it.
    try a.register("mover")
    b.pull(&a)
    try a.unregister("mover")
    for i in 0..<10 { try a.unregister("p\(i)") }
    b.pull(&a)
    func hours(_ n: Int) throws {
      for _ in 0..<n * 120 {
        a.pass(29)
        b.pass(29)
        c.pass(29)
        for i in 10..<20 { try a.heartbeat("p\(i)") }
      }
      b.pull(&a)
    }
    try hours(50)
    #expect(a.registry.tombstoneCount == 0 && b.registry.tombstoneCount == 0)
    #expect(c.registry.foreignCount == 21)
    // Back: c gives to b, b to a, then c takes.
    b.pull(&c)
    a.pull(&b)
    #expect(b.registry.foreignCount == 10 && a.registry.localCount == 10)
    c.pull(&a)
    #expect(c.registry.counts.rebuilt == 1)
    #expect(c.registry.foreignCount == 10)
    b.pull(&c)
    a.pull(&c)
    for digest in [b.registry.rootDigest, c.registry.rootDigest] {
      #expect(digest == a.registry.rootDigest)
    }
    #expect(Set(c.discover()) == Set((10..<20).map { "p\($0)" }))
  }

  @Test("A newcomer takes nothing from a relay that missed deletes which others have forgotten")
  func staleSource() throws {
    var a = RegistryRig("a") { $0.tombstoneCapacity = 0 }
    var (c, d) = (RegistryRig("c"), RegistryRig("d"))
    for i in 0..<4 { try a.register("p\(i)") }
    c.pull(&a)
    try a.unregister("p1")
    a.pass(1)
    #expect(a.registry.tombstoneCount == 0)
    // It knows of the floor before it has any record.
    let (vector, now) = (a.registry.nextVector(at: a.now), d.now)
    _ = d.registry.receive(Delta(), from: vector, at: now)
    let page = c.registry.delta(beyond: d.registry.vector)
    #expect(page.records.count == 4)
    let taken = d.registry.receive(page, from: c.registry.nextVector(at: c.now), at: d.now)
    #expect(taken.accepted == 0 && taken.refused == 4)
    #expect(d.discover() == [])
    d.pull(&a)
    #expect(d.discover().count == 3)
  }

  @Test("A vector moves only over what came without a gap")
  func gaps() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    for i in 0..<10 { try b.register("p\(i)") }
    var delta = b.registry.delta(beyond: [])
    let middle = delta.records[4].stamp.sequence
    delta.records.removeFirst(5)
    delta.coverage[0].from = middle
    _ = a.registry.receive(delta, from: b.registry.nextVector(at: b.now), at: a.now)
    #expect(a.registry.foreignCount == 5 && a.registry.vector[1].sequence == 0)
    a.pull(&b)
    #expect(a.registry.foreignCount == 10)
  }

  @Test("More tombstones than are kept: the oldest go early, and that resurrects nothing either")
  func manyTombstones() throws {
    var a = RegistryRig("a") { $0.tombstoneCapacity = 10 }
    var b = RegistryRig("b")
    for i in 0..<50 { try a.register("p\(i)") }
    b.pull(&a)
    for i in 0..<40 { try a.unregister("p\(i)") }
    a.pass(1)
    #expect(a.registry.tombstoneCount == 10)
    a.pull(&b)
    b.pull(&a)
    a.pull(&b)
    #expect(a.registry.localCount == 10 && b.registry.foreignCount == 10)
  }

  @Test("Purge takes an origin's agents away until it is heard of again")
  func purge() throws {
    var (a, b, c) = (RegistryRig("a"), RegistryRig("b"), RegistryRig("c"))
    for i in 0..<10 { try a.register("p\(i)") }
    c.pull(&a)
    b.pull(&a)
    let purged = try b.registry.purge("a", at: b.now)
    #expect(purged == 10 && b.discover() == [])
    #expect(throws: Fault.self) { try b.registry.purge("b", at: b.now) }
    #expect(throws: Fault.self) { try b.registry.purge("nobody", at: b.now) }
    // Others still have them.
    b.pull(&c)
    #expect(b.discover() == [])
    b.pull(&a)
    #expect(b.discover().count == 10)
  }

  @Test("What an upstream relay shows is adopted, refreshed, changed and ended here")
  func adopted() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    func show(_ skill: String, version: UInt64) throws {
      try a.registry.receiveAdopted(
        Registration(peerID: "u", skills: [Skill(id: skill)]), source: "upstream",
        version: version, registeredAt: 5, at: a.now)
    }
    let version = UInt64(RegistryRig.start) - 1_000
    try show("echo", version: version)
    b.pull(&a)
    #expect(b.discover() == ["u"])
    // Not a local agent.
    #expect(a.discover(others: false) == [])
    #expect(throws: Fault.self) { try a.heartbeat("u") }
    for _ in 0..<5 {
      a.pass(20)
      b.pass(20)
      try show("echo", version: version)
    }
    #expect(a.registry.delta(beyond: b.registry.vector).records.isEmpty)
    try show("sum", version: version + 5)
    b.pull(&a)
    #expect(b.discover("sum") == ["u"])
    a.registry.receiveAdoptedAll([], source: "upstream", at: a.now)
    b.pull(&a)
    #expect(b.discover("sum") == [] && a.discover("sum") == [])
    #expect(throws: Fault.self) { try show("sum", version: .max) }
  }

  @Test("An upstream relay is shown what is visible, with versions that rise, and deletes")
  func upstream() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    try a.register("p")
    try b.register("q")
    a.pull(&b)
    var versions: [String: UInt64] = [:]
    var since: Int64 = 0
    for _ in 0..<6 {
      let (page, next) = a.registry.upstreamPage(since: since, limit: 10, to: "u", at: a.now)
      since = next
      #expect(Set(page.map(\.record.peerID)) == ["p", "q"])
      for shown in page {
        #expect(shown.version > versions[shown.record.peerID] ?? 0)
        versions[shown.record.peerID] = shown.version
      }
      a.pass(12)
      try a.heartbeat("p")
      b.pass(12)
      try b.heartbeat("q")
      a.pull(&b)
    }
    try a.unregister("p")
    let (page, _) = a.registry.upstreamPage(since: since, limit: 10, to: "u", at: a.now)
    let ended = try #require(page.first { $0.record.peerID == "p" })
    #expect(ended.record.isTombstone && ended.version > versions["p"]!)
    // Not to the relay it came from.
    #expect(a.registry.upstreamPage(since: 0, limit: 10, to: "b", at: a.now).records.count == 1)
    // Pages of one lose nothing.
    for i in 0..<30 { try a.register("r\(i)") }
    var seen: Set<String> = []
    var from: Int64 = 0
    for _ in 0..<100 {
      let (page, next) = a.registry.upstreamPage(since: from, limit: 3, to: "u", at: a.now)
      seen.formUnion(page.map(\.record.peerID))
      from = next
    }
    #expect(seen.count == 32)
  }

  @Test("Digests find what vectors missed, and a look at the differing parts brings it")
  func digests() throws {
    var (a, b) = (RegistryRig("a"), RegistryRig("b"))
    for i in 0..<300 { try b.register("p\(i)") }
    a.pull(&b)
    // One that a never got, though its vector says so.
    var delta = Delta()
    try b.register("lost")
    let record = try #require(b.registry.record(of: "lost"))
    delta.coverage = [
      Coverage(
        origin: "b", incarnation: record.stamp.incarnation,
        from: a.registry.vector[1].sequence, through: record.stamp.sequence)
    ]
    _ = a.registry.receive(delta, from: b.registry.vector, at: a.now)
    #expect(a.registry.isLevel(with: b.registry.vector))
    #expect(a.registry.rootDigest != b.registry.rootDigest)
    let parts = a.registry.differingBuckets(b.registry.bucketDigests)
    #expect(parts.count == 1)
    var from: UInt32? = 0
    while let start = from {
      let (records, next) = b.registry.records(in: parts, from: start, limit: 1)
      for record in records { _ = a.registry.receive(record, at: a.now) }
      from = next
    }
    #expect(a.registry.rootDigest == b.registry.rootDigest)
  }

  @Test("Somebody who brings records in this relay's name is answered by it")
  func ownName() throws {
    var a = RegistryRig("a")
    try a.register("p", ["echo"])
    var forged = try #require(a.registry.record(of: "p"))
    forged.stamp.version += 1_000_000_000
    forged.body = Registration(peerID: "p", skills: [Skill(id: "evil")]).encoded()
    _ = a.registry.receive(forged, at: a.now)
    #expect(a.discover("echo") == ["p"] && a.discover("evil") == [])
    let answer = try #require(a.registry.record(of: "p"))
    #expect(answer.wins(over: forged))
    forged.body = Registration(peerID: "x", skills: [Skill(id: "evil")]).encoded()
    _ = a.registry.receive(forged, at: a.now)
    #expect(a.registry.record(of: "x")?.isTombstone == true)
    #expect(a.registry.counts.disowned == 2)
  }
}
