import Base
import Registry
import Testing

@Suite("A relay's own agents", .timeLimit(.minutes(1)))
struct LocalTests {
  @Test("What upstream refuses is refused in its words")
  func refusals() throws {
    var rig = RegistryRig()
    func fault(_ registration: Registration) -> Fault? {
      do {
        _ = try rig.registry.receiveRegister(registration, at: rig.now)
        return nil
      } catch { return error }
    }
    #expect(
      fault(Registration(peerID: "", skills: [Skill(id: "x")]))
        == Fault(.badRequest, "peer_id is required"))
    #expect(
      fault(Registration(peerID: "p", skills: []))
        == Fault(.badRequest, "at least one skill is required"))
    #expect(
      fault(Registration(peerID: "p", skills: [Skill(id: "a"), Skill(id: "")]))
        == Fault(.badRequest, "skill_id is required for all skills"))
    #expect(throws: Fault(.notFound, "peer nobody not found in registry")) {
      try rig.heartbeat("nobody")
    }
    #expect(throws: Fault(.badRequest, "peer_id is required")) { try rig.heartbeat("") }
    #expect(throws: Fault(.badRequest, "peer_id is required")) { try rig.unregister("") }
    try rig.unregister("nobody")
  }

  @Test("Every field has a bound")
  func bounds() {
    let long = String(repeating: "x", count: 5_000)
    let cases: [Registration] = [
      Registration(peerID: long, skills: [Skill(id: "a")]),
      Registration(peerID: "p", skills: [Skill(id: long)]),
      Registration(peerID: "p", skills: [Skill(id: "a", description: long)]),
      Registration(peerID: "p", skills: [Skill(id: "a")], name: long),
      Registration(peerID: "p", skills: [Skill(id: "a")], description: long),
      Registration(peerID: "p", skills: [Skill(id: "a", tags: [.init(long, "v")])]),
      Registration(peerID: "p", skills: [Skill(id: "a", tags: [.init("k", long)])]),
      Registration(peerID: "p", skills: (0...Limits.registrySkills).map { Skill(id: "\($0)") }),
      Registration(
        peerID: "p",
        skills: [Skill(id: "a", tags: (0...Limits.registryTags).map { .init("\($0)", "v") })]),
      Registration(
        peerID: "p",
        skills: (0..<20).map { Skill(id: "\($0)", description: String(long.prefix(4_000))) }),
    ]
    for registration in cases {
      var rig = RegistryRig()
      #expect(throws: Fault.self) {
        try rig.registry.receiveRegister(registration, at: rig.now)
      }
      #expect(rig.registry.localCount == 0)
      // The same over the wire: lists are not even kept.
      let bytes = registration.encoded().array()
      #expect(throws: Fault.self) { try Registration(decoding: bytes).check() }
    }
  }

  @Test("One record per agent: registering again replaces the whole set of skills")
  func replaces() throws {
    var rig = RegistryRig()
    try rig.register("p1", ["echo", "sum"])
    try rig.register("p1", ["sum", "mul"])
    #expect(rig.discover("echo") == [])
    #expect(rig.discover("sum") == ["p1"])
    #expect(rig.discover("mul") == ["p1"])
    #expect(rig.registry.localCount == 1)
    #expect(rig.registry.skillCount == 2)
  }

  @Test("Unregister takes named skills, or everything; the rest stays")
  func unregisters() throws {
    var rig = RegistryRig()
    try rig.register("p1", ["a", "b", "c"])
    try rig.unregister("p1", ["b", "nothing"])
    #expect(rig.discover("a") == ["p1"])
    #expect(rig.discover("b") == [])
    try rig.unregister("p1", ["a", "c"])
    #expect(rig.registry.localCount == 0)
    #expect(rig.registry.tombstoneCount == 1)
    try rig.register("p1", ["a"])
    try rig.unregister("p1")
    #expect(rig.discover("a") == [])
    #expect(throws: Fault.self) { try rig.heartbeat("p1") }
    #expect(rig.registry.skillCount == 0)
  }

  @Test("An agent lives for the TTL after its last heartbeat, and taking a skill away is none")
  func expires() throws {
    var rig = RegistryRig()
    try rig.register("p1", ["a", "b"])
    try rig.register("p2", ["a"])
    rig.pass(20)
    try rig.heartbeat("p1")
    try rig.unregister("p2", ["nothing"])
    rig.pass(10)
    #expect(rig.discover("a") == ["p1"])
    try rig.unregister("p1", ["b"])
    rig.pass(19)
    #expect(rig.discover("a") == ["p1"])
    // Over, though no step of the clock has swept it yet.
    rig.monotonic += 1_000_000_000
    #expect(rig.discover("a") == [])
    #expect(throws: Fault.self) { try rig.heartbeat("p1") }
    rig.pass(0)
    #expect(rig.registry.localCount == 0)
    #expect(rig.registry.counts.expired == 2)
  }

  @Test("A full registry takes no new agent, but refreshes and replaces those it has")
  func capacity() throws {
    var rig = RegistryRig { $0.capacity = 2 }
    try rig.register("p1")
    try rig.register("p2")
    #expect(throws: Fault(.registryFull)) { try rig.register("p3") }
    #expect(Fault(.registryFull).description == "registry is at maximum capacity")
    try rig.register("p2", ["other"])
    try rig.unregister("p1")
    try rig.register("p3")
    // Those whose time is over count no more.
    rig.pass(31)
    try rig.register("p4")
    try rig.register("p5")
  }

  @Test("Tags: all must match within one skill, a missing one counts as empty")
  func tags() throws {
    var rig = RegistryRig()
    try rig.register("de-gpu", tags: [.init("lang", "de"), .init("hw", "gpu")])
    try rig.register("de", tags: [.init("lang", "de")])
    try rig.register("en", tags: [.init("lang", "en"), .init("hw", "gpu")])
    try rig.registry.receiveRegisterTwice(
      "split", ("echo", [.init("lang", "de")]), ("echo", [.init("hw", "gpu")]), at: rig.now)
    #expect(Set(rig.discover(tags: [.init("lang", "de")])) == ["de-gpu", "de", "split"])
    #expect(rig.discover(tags: [.init("lang", "de"), .init("hw", "gpu")]) == ["de-gpu"])
    #expect(Set(rig.discover(tags: [.init("lang", "de"), .init("hw", "")])) == ["de", "split"])
    #expect(rig.discover(tags: [.init("lang", "fr")]) == [])
    #expect(Set(rig.discover(tags: [.init("none", "")])).count == 4)
    try rig.unregister("de-gpu")
    #expect(rig.discover(tags: [.init("lang", "de"), .init("hw", "gpu")]) == [])
  }

  @Test("Limits are upstream's: 100 by default, 1,000 at most")
  func limits() throws {
    var rig = RegistryRig()
    for i in 0..<1_500 { try rig.register("p\(i)") }
    for (limit, count) in [(0, 100), (-7, 100), (1, 1), (999, 999), (5_000, 1_000)] {
      #expect(rig.discover(limit: limit).count == count)
    }
  }

  @Test("Equals take turns, in the same way each time")
  func fairness() throws {
    func run() throws -> [[String]] {
      var rig = RegistryRig()
      for i in 0..<7 { try rig.register("p\(i)") }
      return (0..<70).map { _ in rig.discover(limit: 3) }
    }
    let answers = try run()
    #expect(answers == (try run()))
    var shown: [String: Int] = [:]
    for answer in answers {
      #expect(Set(answer).count == 3)
      for peer in answer { shown[peer, default: 0] += 1 }
    }
    #expect(shown.values.allSatisfy { $0 == 30 })
    // When all fit, the first place goes round.
    var rig = RegistryRig()
    for i in 0..<7 { try rig.register("p\(i)") }
    let first = (0..<14).map { _ in rig.discover()[0] }
    #expect(Set(first[..<7]).count == 7)
    #expect(first[..<7] == first[7...])
  }

  @Test("Names are told apart by their bytes, as on the wire: an accent of its own is another name")
  func names() throws {
    let (one, two) = ("caf\u{e9}", "cafe\u{301}")
    var rig = RegistryRig()
    try rig.register("p1", [one], tags: [Skill.Tag("lang", two)])
    try rig.register("p2", [two], tags: [Skill.Tag("lang", one)])
    try rig.register("p3", [one, two])
    #expect(Set(rig.discover(one)) == ["p1", "p3"])
    #expect(Set(rig.discover(two)) == ["p2", "p3"])
    #expect(rig.discover(one, tags: [Skill.Tag("lang", two)]) == ["p1"])
    #expect(rig.discover(one, tags: [Skill.Tag("lang", one)]) == [])
    try rig.register("p4", ["echo"], tags: [Skill.Tag(one, "1"), Skill.Tag(two, "2")])
    #expect(rig.discover("echo", tags: [Skill.Tag(one, "1"), Skill.Tag(two, "2")]) == ["p4"])
    try rig.unregister("p3", [one])
    #expect(rig.discover(one) == ["p1"])
    #expect(Set(rig.discover(two)) == ["p2", "p3"])
  }

  @Test("A proved peer_id takes no unsigned call")
  func proof() throws {
    var rig = RegistryRig()
    let mine = Registration(peerID: "p", skills: [Skill(id: "a")])
    _ = try rig.registry.receiveRegister(mine, proved: true, at: rig.now)
    #expect(throws: Fault.self) { try rig.register("p", ["b"]) }
    #expect(throws: Fault.self) { try rig.heartbeat("p") }
    #expect(throws: Fault.self) { try rig.unregister("p") }
    #expect(rig.discover("a") == ["p"])
    try rig.registry.receiveUnregister("p", skills: [], proved: true, at: rig.now)
    // Its tombstone remembers.
    #expect(throws: Fault.self) { try rig.register("p", ["b"]) }
  }

  @Test("Ten thousand random steps agree with a plain model")
  func model() throws {
    var dice = Dice(7)
    var rig = RegistryRig()
    var model: [String: (skills: Set<String>, until: Int64)] = [:]
    for _ in 0..<10_000 {
      let peer = "p\(Int.random(in: 0..<40, using: &dice))"
      let skills = (0..<6).filter { _ in Bool.random(using: &dice) }.map { "s\($0)" }
      let life = rig.registry.settings.ttl.nanoseconds
      switch Int.random(in: 0..<10, using: &dice) {
      case 0..<4 where !skills.isEmpty:
        try rig.register(peer, skills)
        model[peer] = (Set(skills), rig.monotonic + life)
      case 4..<6:
        try rig.unregister(peer, skills)
        if let known = model[peer], known.until > rig.monotonic {
          let left = skills.isEmpty ? [] : known.skills.subtracting(skills)
          model[peer] = left.isEmpty ? nil : (left, known.until)
        }
      case 6..<8:
        let lives = (model[peer]?.until ?? 0) > rig.monotonic
        if lives {
          try rig.heartbeat(peer)
          model[peer]!.until = rig.monotonic + life
        } else {
          #expect(throws: Fault.self) { try rig.heartbeat(peer) }
        }
      default: rig.pass(Int64.random(in: 0..<8, using: &dice))
      }
      let wanted = "s\(Int.random(in: 0..<6, using: &dice))"
      let expected = model.filter {
        $0.value.skills.contains(wanted) && $0.value.until > rig.monotonic
      }
      #expect(Set(rig.discover(wanted)) == Set(expected.keys))
    }
  }
}

extension Registry {
  /// Two skills with the same id.
  fileprivate mutating func receiveRegisterTwice(
    _ peer: String, _ a: (String, [Skill.Tag]), _ b: (String, [Skill.Tag]), at now: Now
  ) throws(Fault) {
    _ = try receiveRegister(
      Registration(
        peerID: peer, skills: [Skill(id: a.0, tags: a.1), Skill(id: b.0, tags: b.1)]), at: now)
  }
}
