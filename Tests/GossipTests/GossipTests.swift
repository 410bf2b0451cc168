import Base
import Foundation
import Gossip
import Messages
import Registry
import Testing

/// 60 in the suite, 4,000 in `make proof`.
private let histories =
  ProcessInfo.processInfo.environment["POSTHOUSE_TEST_GOSSIP"].flatMap { Int($0) } ?? 60

@Suite("Gossip between relays", .timeLimit(.minutes(40)))
struct GossipTests {
  @Test(
    "Ten relays at 20 % loss are equal within nine push-pull rounds, 999 times in a thousand",
    arguments: [(20, 0), (0, 20)])
  func convergence(lostRequests: Int, lostAnswers: Int) throws {
    var needed: [Int] = []
    for seed in 1...histories {
      var rig = GossipRig(10, seed: UInt64(seed))
      while rig.rounds(most: 60) != 0 {}
      rig.lostRequests = lostRequests
      rig.lostAnswers = lostAnswers
      for i in 0..<10 { try rig.register(i, "p\(i)") }
      let rounds = rig.rounds(most: 60)
      needed.append(try #require(rounds, "seed \(seed)"))
    }
    needed.sort()
    let p999 = needed[min(needed.count - 1, needed.count * 999 / 1_000)]
    print("rounds: median \(needed[needed.count / 2]), p99.9 \(p999), most \(needed.last!)")
    #expect(p999 <= 9)
  }

  @Test("Registrations, changes and deletes converge under loss, one-way cuts and skew")
  func storms() throws {
    for seed in 1...UInt64(max(20, histories / 20)) {
      var rig = GossipRig(
        5, seed: seed, fanout: 2, skewSeconds: { [3_600, -3_600, 0, 60, -5][$0] }
      ) { $0.tombstoneCapacity = 15 }
      rig.lostRequests = 15
      rig.lostAnswers = 15
      var homes: [String: Int] = [:]
      for _ in 0..<60 {
        for _ in 0..<4 {
          let peer = "p\(Int.random(in: 0..<30, using: &rig.dice))"
          let at = homes[peer] ?? Int.random(in: 0..<5, using: &rig.dice)
          if Int.random(in: 0..<3, using: &rig.dice) == 0 {
            try rig.unregister(at, peer)
            homes[peer] = nil
          } else {
            try rig.register(at, peer, ["s\(Int.random(in: 0..<4, using: &rig.dice))"])
            homes[peer] = at
          }
        }
        let (a, b) = (
          Int.random(in: 0..<5, using: &rig.dice), Int.random(in: 0..<5, using: &rig.dice)
        )
        if rig.cut.remove([a, b]) == nil { rig.cut.insert([a, b]) }
        try rig.live(homes)
        rig.round()
      }
      rig.cut = []
      (rig.lostRequests, rig.lostAnswers) = (0, 0)
      // An agent whose relay hears of a delete that outbids it registers again.
      for _ in 0..<40 {
        try rig.live(homes)
        rig.round()
      }
      let isConverged = rig.isConverged
      try #require(isConverged, "seed \(seed)")
      // An agent that had moved may have left a claim at its first home; nothing else may live.
      let live = Set((0..<4).flatMap { rig.discover(0, "s\($0)") })
      #expect(live.isSubset(of: Set(homes.keys)), "seed \(seed): \(live.subtracting(homes.keys))")
      #expect(Set(homes.keys).isSubset(of: live), "seed \(seed)")
    }
  }

  @Test(
    "After a partition of twice a tombstone's life, clocks an hour off, nothing deleted is back")
  func partition() throws {
    for seed in 1...UInt64(max(5, histories / 60)) {
      var rig = GossipRig(4, seed: seed, fanout: 2, skewSeconds: { [3_600, -3_600, 3_600, 0][$0] })
      for i in 0..<40 { try rig.register(i % 4, "p\(i)") }
      let rounds = rig.rounds(most: 30)
      #expect(rounds != nil)
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
      let kept = (0..<40).map { "p\($0)" }.filter { !gone.contains($0) }
      func beat() {
        for peer in kept { try? rig.heartbeat(Int(peer.dropFirst())! % 4, peer) }
      }
      beat()
      for _ in 0..<(2 * 86_400 / 25) {
        rig.monotonic += 25_000_000_000
        for i in rig.relays.indices { rig.relays[i].registry.receiveTick(at: rig.now(i)) }
        beat()
      }
      rig.round()
      rig.round()
      #expect(rig.relays[0].registry.tombstoneCount == 0)
      rig.cut = []
      for _ in 0..<60 where !rig.isConverged {
        beat()
        rig.round()
        for i in 0..<2 {
          let back = gone.intersection(rig.discover(i))
          #expect(back.isEmpty, "seed \(seed): relay \(i) shows \(back)")
        }
      }
      let isConverged = rig.isConverged
      try #require(isConverged, "seed \(seed)")
      for i in 0..<4 { #expect(Set(rig.discover(i)) == Set(kept), "seed \(seed)") }
      #expect(rig.relays[2].registry.counts.rebuilt > 0)
    }
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
}
