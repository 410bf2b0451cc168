import Base
import Digest
import Engine
import Loop
import Ring
import Testing
import Token

@testable import Relay

@Suite("What loops go by while slots are handed over", .timeLimit(.minutes(3)), .serialized)
struct SlotGateTests {
  @Test("What is held of a slot that is held once more goes on waiting, and is answered")
  func heldTwice() throws {
    let cluster = try MovingCluster(2)
    let node = cluster.nodes[1]
    let channel = cluster.channel(at: 1, "held")
    let slot = cluster.slot(channel)
    let gate = try #require(node.cluster?.moves?.gate)
    let publishers = try cluster.nodes.map { try MovingPublisher($0, channel, "it") }
    try cluster.until("they publish") { publishers.allSatisfy { $0.count >= 8 } }
    func holding() -> (serials: Set<UInt64>, asked: Int) {
      node.shards.reduce(into: ([], 0)) { sum, shard in
        let held = shard.loop.call { shard.far?.held[slot].map { ($0.serial, $0.items.count) } }
        guard case (let serial, let asked)?? = held else { return }
        sum.0.insert(serial)
        sum.1 += asked
      }
    }
    gate.seal(slot, serial: 1_000_001) {}
    try cluster.until("something is held") { holding().asked > 0 }
    gate.seal(slot, serial: 1_000_002) {}
    try cluster.until("it is held anew") { holding().serials == [1_000_002] }
    #expect(holding().asked > 0)
    gate.open(slot)
    let before = publishers.map(\.count)
    try cluster.until("they go on") { zip(publishers, before).allSatisfy { $0.count >= $1 + 8 } }
    for publisher in publishers {
      let (places, refusals, open, _) = publisher.finish()
      #expect(refusals.isEmpty && open == 0)
      #expect(zip(places, places.dropFirst()).allSatisfy { $0 < $1 })
    }
  }

  @Test(
    "A node that serves nothing does not begin to when a hand-over goes on, until it is told to")
  func withheld() throws {
    let cluster = try MovingCluster(2)
    let node = cluster.nodes[1]
    let own = NodeID(2)
    let gate = try #require(node.cluster?.moves?.gate)
    let links = try #require(node.links)
    let tokens = try #require(node.authority.cluster)
    let tenant = (0...).lazy.map { TenantID(org: "org\($0)") }.first {
      cluster.place(of: $0.slot) == 1
    }!
    let slot = tenant.slot
    /// Whether links, tokens and each shard go by this node as the owner.
    func served() -> [Bool] {
      let atLinks = links.loop.call {
        [
          links.map.map { links.owner(of: slot, byMap: $0.owner(of: slot)) } == own,
          tokens.owns(tenant),
        ]
      }
      return (atLinks ?? [])
        + node.shards.map { shard in
          shard.loop.call {
            guard let far = shard.far, let map = far.map else { return false }
            return far.owner(of: slot, in: map) == own
          } ?? false
        }
    }
    #expect(served() == [true, true, true, true])
    gate.withhold(why: "it is tested")
    try cluster.until("nothing is served") { !served().contains(true) }
    let isSet = Handoff<Void>()
    gate.set(own, of: slot) { isSet.put(()) }
    guard case .element = isSet.take(timeout: .seconds(10)) else { throw Fault(.deadlineExceeded) }
    #expect(served() == [false, false, false, false])
    gate.clear(slot)
    #expect(served() == [false, false, false, false])
    // A later map changes nothing either.
    let revision = cluster.map.revision
    try cluster.ask([])
    try cluster.until("a map") { (node.cluster?.map.value.revision ?? 0) > revision }
    #expect(served() == [false, false, false, false])
    let map = cluster.map
    gate.restore { map.owner(of: $0) == own }
    try cluster.until("all is served") { !served().contains(false) }
    let publisher = try MovingPublisher(cluster.nodes[0], cluster.channel(at: 1, "after"), "it")
    try cluster.until("it is published to") { publisher.count >= 8 }
    #expect(publisher.finish().refusals.isEmpty)
  }
}
