import Base
import Gossip
import Messages
import Registry
import TestKit
import Testing

@Suite("Gossip between relays", .timeLimit(.minutes(10)))
struct GossipTests {
  /// Reduced counts; `simulate gossip` runs the full ones.
  @Test(
    "What gossip promises holds over random histories",
    arguments: [
      (GossipCheck.convergence, UInt64(60)), (.merge, 20), (.storms, 20), (.restarts, 21),
      (.partition, 4),
    ])
  func promises(_ check: GossipCheck, _ seeds: UInt64) {
    let outcome = check.run(seeds: 1...seeds)
    #expect(
      outcome.violation == nil,
      "replay: swift run simulate gossip --check \(check) --seed \(outcome.seed)")
  }

  @Test(
    "A planted bug is found",
    arguments: [
      (RegistryFaults.tombstoneDropped, GossipCheck.storms), (.wallClock, .storms),
      (.wallClock, .merge), (.arrivalOrder, .merge),
    ])
  func plants(_ fault: RegistryFaults, _ check: GossipCheck) {
    #expect(check.run(seeds: 1...20, faults: fault).violation != nil)
  }

  @Test("20,000 registrations cross in pages; a quiet cluster sends no records")
  func many() throws {
    var rig = GossipRig(2)
    for i in 0..<20_000 { try rig.register(0, "p\(i)", ["s\(i % 100)"]) }
    rig.round()
    let isConverged = rig.isConverged
    #expect(isConverged && rig.relays[1].registry.foreignCount == 20_000)
    let sent = rig.relays.map { $0.gossip.peers[0].counts.sent }
    for _ in 0..<5 { rig.round() }
    #expect(rig.relays.map { $0.gossip.peers[0].counts.sent } == sent)
  }

  @Test("Relays that speak for themselves only converge too, and take nobody else's records")
  func ownOnly() throws {
    var rig = GossipRig(3, own: true)
    for i in 0..<3 { for k in 0..<10 { try rig.register(i, "p\(i)-\(k)") } }
    for _ in 0..<3 { rig.round() }
    for i in 0..<3 { #expect(rig.discover(i).count == 30) }
    try rig.unregister(1, "p1-3")
    rig.round()
    for i in 0..<3 { #expect(rig.discover(i).count == 29) }
    // 0 hears of 1 only through 2, which may not tell.
    rig.cut = [[0, 1], [1, 0]]
    try rig.register(1, "new")
    for _ in 0..<5 { rig.round() }
    #expect(rig.discover(2).contains("new") && !rig.discover(0).contains("new"))
    // An agent that moved from 1 to 0 is gone from 2's view of 1 after the next full pull.
    rig.cut = []
    try rig.register(0, "new")
    for _ in 0..<3 { rig.round() }
    for i in 0..<3 { #expect(rig.discover(i).filter { $0 == "new" }.count == 1) }
  }

  @Test("Records lost behind a vector are found by digest and repaired, both ways")
  func repairs() throws {
    var rig = GossipRig(2)
    for i in 0..<500 { try rig.register(i % 2, "p\(i)") }
    let rounds = rig.rounds(most: 10)
    #expect(rounds != nil)
    // Both pretend to have merged what they never got.
    try rig.register(1, "lost-1")
    try rig.register(0, "lost-0")
    let vectors = [rig.relays[0].registry.vector, rig.relays[1].registry.vector]
    for i in 0..<2 {
      let mine = vectors[i].first { $0.origin == "relay-\(1 - i)" }!
      let full = vectors[1 - i].first { $0.origin == "relay-\(1 - i)" }!
      var delta = Delta()
      delta.coverage = [
        Coverage(
          origin: full.origin, incarnation: full.incarnation, from: mine.sequence,
          through: full.sequence)
      ]
      let now = rig.now(i)
      _ = rig.relays[i].registry.receive(delta, from: vectors[1 - i], at: now)
    }
    let wasConverged = rig.isConverged
    #expect(!wasConverged)
    for _ in 0..<3 { rig.round() }
    let isConverged = rig.isConverged
    #expect(isConverged)
    #expect(rig.discover(0).contains("lost-1") && rig.discover(1).contains("lost-0"))
  }

  @Test(
    "An agent whose forgotten end came from a fast clock registers at a slow one and is found everywhere",
    arguments: [Set(["relay-1"]), ["relay-0", "relay-1", "relay-2"]])
  func forgottenEnd(_ forgetful: Set<String>) throws {
    var rig = GossipRig(
      3, fanout: 2, skewSeconds: { $0 == 0 ? 3_600 : 0 },
      settings: { if forgetful.contains($0.relayID) { $0.tombstoneCapacity = 1 } })
    for peer in ["p", "q"] {
      try rig.register(0, peer)
      rig.round()
      try rig.unregister(0, peer)
      for _ in 0..<3 { rig.round() }
    }
    let holders = rig.relays.filter { $0.registry.record(of: "p") != nil }.map(
      \.gossip.settings.relayID)
    #expect(Set(holders) == Set(["relay-0", "relay-1", "relay-2"]).subtracting(forgetful))
    let end = rig.issued["p"]
    try rig.register(1, "p")
    let begun = rig.relays[1].registry.record(of: "p")
    #expect(try #require(end).wins(over: try #require(begun)))
    // Where the end is still known it wins, comes back by a repair, and is outbid when the agent speaks up.
    for _ in 0..<40 {
      try rig.live(["p": 1])
      rig.round()
    }
    let isConverged = rig.isConverged
    #expect(isConverged)
    for i in 0..<3 { #expect(rig.discover(i, "s0") + rig.discover(i) == ["p"]) }
  }

  @Test("A killed relay's agents are hidden after the timeout everywhere, and return with it")
  func killed() throws {
    var rig = GossipRig(4, fanout: 2)
    for i in 0..<4 { try rig.register(i, "p\(i)") }
    let rounds = rig.rounds(most: 20)
    #expect(rounds != nil)
    rig.cut = Set((1..<4).flatMap { [[0, $0], [$0, 0]] })
    for _ in 0..<25 {
      for i in 0..<4 { try rig.heartbeat(i, "p\(i)") }
      rig.round(afterSeconds: 5)
    }
    for i in 1..<4 { #expect(Set(rig.discover(i)) == ["p1", "p2", "p3"]) }
    rig.cut = []
    for _ in 0..<3 {
      for i in 0..<4 { try rig.heartbeat(i, "p\(i)") }
      rig.round(afterSeconds: 5)
    }
    for i in 0..<4 { #expect(rig.discover(i).count == 4) }
  }

  @Test("A relay that starts again with its clock set back is heard of as before")
  func clockSetBack() throws {
    var rig = GossipRig(3, fanout: 2, skewSeconds: { $0 == 0 ? 3_600 : 0 })
    for i in 0..<3 { try rig.register(i, "p\(i)") }
    let rounds = rig.rounds(most: 20)
    #expect(rounds != nil)
    rig.write(0)
    // Away for longer than others show its agents.
    rig.cut = [[0, 1], [1, 0], [0, 2], [2, 0]]
    for _ in 0..<25 {
      for i in 1..<3 { try rig.heartbeat(i, "p\(i)") }
      rig.round(afterSeconds: 5)
    }
    for i in 1..<3 { #expect(Set(rig.discover(i)) == ["p1", "p2"]) }
    rig.cut = []
    rig.relays[0].skew = 0
    rig.restart(0, .older)
    for _ in 0..<5 {
      for i in 0..<3 {
        do { try rig.heartbeat(i, "p\(i)") } catch { try rig.register(i, "p\(i)") }
      }
      rig.round(afterSeconds: 5)
    }
    for i in 0..<3 { #expect(Set(rig.discover(i)) == ["p0", "p1", "p2"]) }
  }

  @Test("Strangers read and may not push; two relays of one name are refused")
  func strangers() throws {
    var rig = GossipRig(2)
    try rig.register(0, "p")
    let now = rig.now(0)
    var sync = AnycastSyncRegistrationsRequest()
    #expect(throws: Fault(.badRequest, "relay_id is required")) {
      try rig.relays[0].sync(sync, .nothing, at: now)
    }
    sync.relayID = "stranger"
    let answer = try rig.relays[0].sync(
      sync, .nothing, at: now)
    // In upstream's form.
    #expect(answer.registrations.map(\.peerID) == ["p"] && answer.protocol == 0)
    #expect(answer.registrations[0].expiresAt != nil && answer.syncTimestamp != nil)
    var push = AnycastPushRegistrationsRequest()
    push.relayID = "stranger"
    push.registrations = answer.registrations
    #expect(throws: Fault.self) {
      try rig.relays[0].push(push, .nothing, at: now)
    }
    sync.relayID = "relay-0"
    #expect(throws: Fault.self) {
      try rig.relays[0].sync(sync, .everything, at: now)
    }
  }

  @Test("A record whose bytes changed on the way is refused, and its page asked for again")
  func checksums() throws {
    var rig = GossipRig(2)
    for i in 0..<5 { try rig.register(1, "p\(i)") }
    var request = AnycastSyncRegistrationsRequest()
    request.relayID = "relay-0"
    request.protocol = 1
    let now = rig.now(1)
    var answer = try rig.relays[1].sync(
      request, .everything, at: now)
    answer.registrations[2].agentName = "other"
    let here = rig.now(0)
    let call = rig.relays[0].tick(at: here)[0]
    _ = rig.relays[0].receive(answer, to: call, at: here)
    #expect(rig.discover(0).count == 4)
    #expect(rig.relays[0].registry.vector.map(\.sequence) == [0, 0])
    #expect(rig.relays[0].gossip.peers[0].counts.refused == 1)
    rig.relays[0].gossip.receiveFailure("over", to: call, at: here)
    rig.round()
    #expect(rig.discover(0).count == 5)
  }

  @Test("An upstream relay's entries are adopted and ended; it is pushed what is visible here")
  func upstream() throws {
    var registry = Registry(
      settings: RegistrySettings(relayID: "here"), at: GossipRig(1).now(0))
    let rig = GossipRig(1)
    registry.finishLoading(at: rig.now(0))
    var gossip = Gossip(
      settings: GossipSettings(relayID: "here", seed: 3),
      peers: [GossipPeer(name: "up", trust: .own("up"))])
    _ = try registry.receiveRegister(
      Registration(peerID: "local", skills: [Skill(id: "echo")]), at: rig.now(0))
    func shown(_ peer: String, origin: String = "") -> AnycastFederatedRegistration {
      var one = AnycastFederatedRegistration()
      one.peerID = peer
      one.originRelayID = origin
      one.skills = [AnycastSkillInfo(skillID: "echo")]
      one.registeredAt = ProtoTimestamp(seconds: 1_800_000_000)
      one.expiresAt = ProtoTimestamp(seconds: 1_800_000_030)
      one.version = UInt64(GossipRig.start)
      return one
    }
    var call = gossip.receiveTick(&registry, forced: true, at: rig.now(0))[0]
    guard case .sync(let request) = call.request else { return }
    #expect(request.since == nil && request.limit == 5_000 && request.relayID == "here")
    var answer = AnycastSyncRegistrationsResponse()
    answer.registrations = [
      shown("a"), shown("b", origin: "up"), shown("c", origin: "third"), shown(""),
    ]
    let next = gossip.receive(answer, to: call, &registry, at: rig.now(0))
    let push = try #require(next)
    guard case .push(let pushed) = push.request else { return }
    #expect(pushed.registrations.map(\.peerID) == ["local"] && pushed.protocol == 0)
    #expect(registry.localCount == 3)
    #expect(gossip.peers[0].counts.refused == 2)
    gossip.receiveFailure("unimplemented", refusesPush: true, to: push, at: rig.now(0))
    #expect(gossip.peers[0].phase == .idle && gossip.peers[0].failing == 0)
    call = gossip.receiveTick(&registry, forced: true, at: rig.now(0))[0]
    answer.registrations = [shown("a")]
    _ = gossip.receive(answer, to: call, &registry, at: rig.now(0))
    #expect(
      Set(registry.discover(Discovery(skill: "echo"), at: rig.now(0))) == ["local", "a"])
  }

  @Test("A vector that names too many relays is refused and counted, and so is what comes with it")
  func longVectors() throws {
    var rig = GossipRig(2)
    var request = AnycastSyncRegistrationsRequest()
    request.relayID = "relay-1"
    request.protocol = Gossip.protocolVersion
    request.vector = (0...Limits.registryOrigins).map {
      AnycastVectorElement(originRelayID: "made-up-\($0)", incarnation: 1, beat: 1)
    }
    let now = rig.now(0)
    var (gossip, registry) = (rig.relays[0].gossip, rig.relays[0].registry)
    let refused = #expect(throws: Fault.self) {
      try gossip.receiveSync(request, .everything, &registry, at: now)
    }
    #expect(refused?.code == .tooLarge && gossip.longVectors == 1)
    request.vector.removeLast()
    _ = try gossip.receiveSync(request, .everything, &registry, at: now)
    #expect(gossip.longVectors == 1 && registry.origins.count == 1)
    // The answer of a relay that does the same ends the exchange.
    let call = try #require(gossip.receiveTick(&registry, forced: true, at: now).first)
    var answer = AnycastSyncRegistrationsResponse()
    answer.protocol = Gossip.protocolVersion
    answer.vector = request.vector + request.vector
    let next = gossip.receive(answer, to: call, &registry, at: now)
    #expect(next == nil && gossip.longVectors == 2 && gossip.peers[0].failing == 1)
    // The next exchange goes as if nothing had been.
    (rig.relays[0].gossip, rig.relays[0].registry) = (gossip, registry)
    try rig.register(1, "p")
    rig.round()
    #expect(rig.discover(0) == ["p"])
  }
}
