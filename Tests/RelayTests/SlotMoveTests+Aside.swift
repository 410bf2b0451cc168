import Base
import Messages
import Ring
import Store
import Testing

@testable import Relay

extension SlotMoveTests {
  @Test(
    "A slot that comes to a node by a map it skipped is served there, whatever it had copied of it")
  func skipped() throws {
    let cluster = try MovingCluster()
    let channel = try filled(cluster, at: 1, 500)
    cluster.slow(1)
    let slot = cluster.slot(channel)
    try cluster.ask([(slot, 2)])
    try cluster.until("pages are sent") { cluster.facts(1).bytesSent > 600_000 }
    #expect(cluster.facts(1).seals == 0)
    try cluster.skip(slot, to: 2)
    try cluster.moved([(slot, 2)])
    for number in 1...3 as ClosedRange<UInt64> {
      let answer = try publish(cluster.nodes[0], channel, producer: 78, number: number)
      #expect(answer.sequence == number && !answer.duplicate)
    }
    #expect(try cluster.nodes[2].store.get(.meta, key: SlotMoveRow.copyKey(slot)) == nil)
  }

  @Test("A node that does not answer keeps no empty slot from going to another")
  func dead() throws {
    let cluster = try MovingCluster()
    let used = cluster.slot(try filled(cluster, at: 1, 3))
    let empty = (0..<UInt16(cluster.map.slotCount)).filter {
      cluster.place(of: $0) == 1 && $0 != used
    }.prefix(5)
    cluster.stop(2)
    try cluster.ask([(used, 2)] + empty.map { ($0, 0) })
    try cluster.until("the others went", seconds: 40) {
      empty.allSatisfy { cluster.place(of: $0) == 0 }
    }
    #expect(cluster.place(of: used) == 1)
  }
}
