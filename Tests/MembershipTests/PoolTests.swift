import Base
import Testing

@testable import Membership

@Suite("A pool of members", .timeLimit(.minutes(20)))
struct PoolTests {
  @Test("All find each other by two seeds", arguments: [3, 10, 50])
  func join(_ count: Int) {
    var pool = Pool(count, seed: UInt64(count))
    pool.run(milliseconds: 30_000) { $0.allSee(alive: Array(0..<count)) }
    #expect(pool.allSee(alive: Array(0..<count)), "after \(pool.now) ms")
    #expect(pool.now < 10_000 && pool.deaths == 0 && pool.troubles == [])
  }

  @Test("One that crashes is dead to all within seconds, and comes back with a higher incarnation")
  func crash() {
    for (count, seed) in [(3, 1), (10, 2), (25, 3)] as [(Int, UInt64)] {
      var pool = Pool(count, seed: seed)
      pool.run(milliseconds: 5_000)
      pool.stop(2)
      let others = (0..<count).filter { $0 != 2 }
      pool.run(milliseconds: 60_000) { $0.allSee(2, .dead) }
      #expect(pool.allSee(2, .dead) && pool.allSee(alive: others), "\(count)")
      pool.start(2)
      pool.run(milliseconds: 20_000) { $0.allSee(alive: Array(0..<count)) }
      #expect(pool.allSee(alive: Array(0..<count)), "\(count)")
      let incarnation = pool.nodes[0].engine?.member(Pool.id(2))?.incarnation ?? 0
      #expect(incarnation > 1 && pool.nodes[2].engine?.me.incarnation == incarnation)
      // Nobody else was ever taken for dead.
      #expect(pool.nodes.allSatisfy { $0.deaths.keys.allSatisfy { $0 == Pool.id(2) } })
    }
  }

  @Test("A tenth of all packets lost: nobody is declared dead in ten minutes")
  func loss() {
    var pool = Pool(12, seed: 5)
    pool.lossPercent = 10
    pool.run(milliseconds: 600_000)
    #expect(pool.deaths == 0)
  }

  @Test("Under heavy loss what was believed wrongly is contradicted and heals")
  func heavyLoss() {
    var contradicted = 0
    for seed in 0..<UInt64(4) {
      var pool = Pool(10, seed: seed)
      pool.run(milliseconds: 5_000)
      pool.lossPercent = 45
      pool.run(milliseconds: 180_000)
      pool.lossPercent = 0
      pool.run(milliseconds: 60_000) { $0.allSee(alive: Array(0..<10)) }
      #expect(pool.allSee(alive: Array(0..<10)), "seed \(seed)")
      contradicted += pool.nodes.count { $0.engine?.me.incarnation ?? 1 > 1 }
    }
    #expect(contradicted > 0, "nothing was ever believed wrongly: the test shows nothing")
  }

  @Test("A link that works one way only, or between two members not at all, kills nobody")
  func oneWay() {
    for seed in 0..<UInt64(3) {
      var pool = Pool(8, seed: seed)
      pool.run(milliseconds: 5_000)
      pool.cut = [[2, 3], [4, 5], [5, 4]]
      pool.run(milliseconds: 300_000)
      #expect(pool.deaths == 0 && pool.allSee(alive: Array(0..<8)), "seed \(seed)")
    }
  }

  @Test(
    "Who can hear and not speak is dead to the others, kills nobody, and comes back when it can")
  func mute() {
    var pool = Pool(8, seed: 7)
    pool.run(milliseconds: 5_000)
    pool.cut = Set((0..<8).map { [3, $0] })
    pool.run(milliseconds: 90_000) { $0.allSee(3, .dead) }
    #expect(pool.allSee(3, .dead))
    pool.run(milliseconds: 60_000)
    #expect(
      pool.nodes.indices.allSatisfy {
        $0 == 3 || pool.nodes[$0].deaths.keys.allSatisfy { $0 == Pool.id(3) }
      })
    pool.cut = []
    pool.run(milliseconds: 60_000) { $0.allSee(alive: Array(0..<8)) }
    #expect(pool.allSee(alive: Array(0..<8)))
  }

  @Test("Two halves that were cut apart find together again without a seed's help")
  func halves() {
    var pool = Pool(10, seed: 9)
    pool.run(milliseconds: 5_000)
    for a in 0..<5 {
      for b in 5..<10 { pool.cut.formUnion([[a, b], [b, a]]) }
    }
    pool.run(milliseconds: 180_000)
    #expect((5..<10).allSatisfy { pool.nodes[0].engine?.member(Pool.id($0))?.state == .dead })
    pool.cut = []
    let from = pool.now
    pool.run(milliseconds: 90_000) { $0.allSee(alive: Array(0..<10)) }
    #expect(pool.allSee(alive: Array(0..<10)), "after \(pool.now - from) ms")
  }

  @Test(
    "Who stands still for a minute kills nobody when it goes on, and contradicts what was said of it"
  )
  func pauses() {
    for seed in 0..<UInt64(3) {
      var pool = Pool(10, seed: seed)
      pool.run(milliseconds: 5_000)
      pool.pause(4, milliseconds: 60_000)
      pool.run(milliseconds: 59_000)
      #expect(pool.allSee(4, .dead))
      pool.run(milliseconds: 30_000)
      #expect(pool.nodes[4].deaths.isEmpty, "seed \(seed): \(pool.nodes[4].deaths)")
      #expect(pool.allSee(alive: Array(0..<10)), "seed \(seed)")
    }
  }

  @Test("Short stalls of a busy machine kill nobody")
  func stalls() {
    var pool = Pool(6, seed: 3)
    pool.run(milliseconds: 5_000)
    for i in 0..<150 {
      // Never twice in a row: a stall is shorter than any suspicion.
      pool.pause(i * 5 % 6, milliseconds: Int64(300 + pool.random.below(2_500)))
      pool.run(milliseconds: 2_000)
    }
    pool.run(milliseconds: 10_000)
    #expect(pool.deaths == 0 && pool.allSee(alive: Array(0..<6)))
  }

  @Test("Who leaves has left, is not dead, and can come again")
  func leave() {
    var pool = Pool(9, seed: 4)
    pool.run(milliseconds: 5_000)
    pool.act(6) { $0.leave(at: $1, into: &$2) }
    pool.run(milliseconds: 20_000)
    #expect(pool.nodes[6].left && pool.allSee(6, .left) && pool.deaths == 0)
    pool.start(6)
    pool.run(milliseconds: 20_000) { $0.allSee(alive: Array(0..<9)) }
    #expect(pool.allSee(alive: Array(0..<9)))
  }

  @Test("Who was forgotten is gone for all, old word of it does not bring it back, a new life does")
  func forget() {
    var pool = Pool(7, seed: 6)
    pool.run(milliseconds: 5_000)
    pool.stop(5)
    pool.run(milliseconds: 60_000) { $0.allSee(5, .dead) }
    var known = false
    pool.act(1) { known = $0.forget(Pool.id(5), at: $1, into: &$2) }
    #expect(known)
    pool.run(milliseconds: 20_000)
    #expect(pool.allSee(5, nil))
    let stale = MemberPacket(
      sender: Member(id: Pool.id(3), address: Pool.address(3)), message: .gossip,
      updates: [
        MemberUpdate(Member(id: Pool.id(5), address: Pool.address(5)), by: Pool.id(3))
      ])
    pool.act(2) { $0.receive(stale, at: $1, into: &$2) }
    pool.run(milliseconds: 20_000)
    #expect(pool.allSee(5, nil))
    // The same life again hears that it was forgotten, and ends.
    pool.start(5)
    pool.run(milliseconds: 20_000)
    #expect(pool.nodes[5].forgotten && pool.allSee(5, nil))
    pool.start(5, incarnation: 9)
    pool.run(milliseconds: 20_000)
    #expect(pool.allSee(alive: Array(0..<7)))
  }

  @Test("A living member that is forgotten hears it and ends")
  func forgetLiving() {
    var pool = Pool(5, seed: 8)
    pool.run(milliseconds: 5_000)
    pool.act(0) { _ = $0.forget(Pool.id(4), at: $1, into: &$2) }
    pool.run(milliseconds: 10_000)
    #expect(pool.nodes[4].forgotten && pool.allSee(4, nil))
  }

  @Test("A word of a life that never was is contradicted, and all see the member where it is")
  func lie() {
    var pool = Pool(5, seed: 9)
    pool.run(milliseconds: 5_000)
    let lie = Member(id: Pool.id(4), address: "127.0.0.1:9", incarnation: 1 << 40)
    let packet = MemberPacket(
      sender: Member(id: Pool.id(3), address: Pool.address(3)), message: .gossip,
      updates: [MemberUpdate(lie, by: Pool.id(3))])
    pool.act(0) { $0.receive(packet, at: $1, into: &$2) }
    func isTold(_ pool: Pool) -> Bool {
      (0..<4).allSatisfy {
        let seen = pool.nodes[$0].engine?.member(Pool.id(4))
        return seen?.state == .alive && seen?.address == Pool.address(4)
          && (seen?.incarnation ?? 0) > 1 << 40
      }
    }
    pool.run(milliseconds: 60_000, until: isTold)
    #expect(isTold(pool))
  }

  @Test("A member's load does not grow with the pool")
  func load() {
    var perNode: [Double] = []
    for count in [10, 50] {
      var pool = Pool(count, seed: 2)
      pool.run(milliseconds: 20_000)
      let before = pool.sent
      pool.run(milliseconds: 60_000)
      perNode.append(Double(pool.sent - before) / Double(count) / 60)
    }
    #expect(
      perNode[0] < 3 && perNode[1] < 3 && perNode[1] < perNode[0] * 1.3, "\(perNode) a second")
  }

  @Test("Round-trip times are those of the way")
  func roundTrips() throws {
    var pool = Pool(4, seed: 2)
    pool.delay = 20...30
    pool.run(milliseconds: 120_000)
    let trip = try #require(pool.nodes[0].engine?.roundTrip(to: Pool.id(2)))
    let (least, median) = (try #require(trip.least), try #require(trip.median))
    #expect(trip.count == Limits.roundTripSamples)
    #expect(least >= .milliseconds(40) && median <= .milliseconds(62) && least <= median)
  }

  @Test("The same seed gives the same run")
  func deterministic() {
    let runs = [UInt64(1), 1, 2].map { seed in
      var pool = Pool(8, seed: seed)
      pool.lossPercent = 20
      pool.run(milliseconds: 60_000)
      return pool.sentBytes
    }
    #expect(runs[0] == runs[1] && runs[0] != runs[2])
  }
}
