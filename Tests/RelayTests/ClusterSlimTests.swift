import Base
import Codec
import Engine
import Foundation
import Grpc
import Link
import LinkMail
import Loop
import Settings
import Slim
import Testing

@testable import Relay

/// SLIM apps whose ends are on different nodes, both families, over real links.
@Suite("SLIM between nodes", .timeLimit(.minutes(3)), .serialized)
struct ClusterSlimTests {
  static let families: [Family] = [.slimA, .slimB]

  /// Channels belong to the last node.
  private func linked(
    _ count: Int, loops: Int = 2, patience: Interval = .seconds(10)
  ) throws -> LinkedNodes {
    var settings = LinkedNodes.LinkSettings()
    settings.patience = patience
    let cluster = try LinkedNodes(count, loops: loops, settings: settings)
    #expect(cluster.waitUntilUp())
    return cluster
  }

  private func app(
    _ cluster: LinkedNodes, _ node: Int, _ family: Family, _ number: UInt64
  ) throws -> SlimApp {
    try SlimApp(
      try #require(Endpoint(cluster.nodes[node].host.addresses.grpc)), family, number)
  }

  private static func group(_ family: Family) -> SlimName {
    family == .slimA
      ? SlimName(c0: 1, c1: 2, c2: 70) : SlimName(c0: 1, c1: 2, c2: 3, idHigh: 70, idLow: 77)
  }

  @Test(
    "A publish after the acknowledgement of a Subscribe on another node arrives",
    arguments: families)
  func noRace(family: Family) throws {
    let cluster = try linked(2)
    let writer = try app(cluster, 1, family, 1)
    let readers = try (0..<4 as Range<UInt64>).map { try app(cluster, 0, family, 10 + $0) }
    for round in 0..<60 as Range<UInt64> {
      let reader = readers[Int(round % 4)]
      let name = SlimName(c0: 1, c1: 2, c2: 50, idHigh: 0, idLow: 100 + round)
      try reader.join(name, id: 5 + round)
      try writer.publish(name, [UInt8(round)])
      #expect(try reader.next() == [UInt8(round)])
    }
    // And the other way, where both loops of a node must have heard.
    for round in 0..<60 as Range<UInt64> {
      let name = SlimName(c0: 1, c1: 2, c2: 51, idHigh: 0, idLow: 100 + round)
      try writer.join(name, id: 5 + round)
      try readers[Int(round % 4)].publish(name, [UInt8(round)])
      #expect(try writer.next() == [UInt8(round)])
    }
  }

  @Test(
    "Members of an archived group on two nodes, its owner a third: each message once, in order, none back",
    arguments: families)
  func group(family: Family) throws {
    let cluster = try linked(3)
    let group = Self.group(family)
    let members = try [(0, 1), (0, 2), (1, 3), (1, 4), (1, 5), (2, 6)].map {
      try app(cluster, $0.0, family, $0.1)
    }
    for member in members { try member.join(group) }
    for round in 0..<20 as Range<UInt8> {
      for (index, member) in members.enumerated() {
        try member.publish(group, [UInt8(index), round], group: true)
      }
    }
    for (index, member) in members.enumerated() {
      let got = try member.drain(100)
      #expect(got.count == 100)
      for other in members.indices {
        let from = got.filter { $0[0] == UInt8(other) }.map { $0[1] }
        #expect(from == (other == index ? [] : Array(0..<20)), "\(other) to \(index)")
      }
    }
  }

  @Test(
    "An anycast reaches one subscriber, all of them in turn, wherever they are", arguments: families
  )
  func anycast(family: Family) throws {
    let cluster = try linked(3)
    let name = SlimName(c0: 1, c1: 2, c2: 60)
    let readers = try [0, 0, 0, 1, 2].enumerated().map {
      try app(cluster, $0.element, family, UInt64(20 + $0.offset))
    }
    for reader in readers { try reader.join(name) }
    let writer = try app(cluster, 1, family, 1)
    for round in 0..<100 as Range<UInt8> { try writer.publish(name, [round], fanout: 1) }
    var all: [UInt8] = []
    for reader in readers {
      let got = try reader.drain(20).map { $0[0] }
      #expect(got.count == 20)
      all += got
    }
    #expect(all.sorted() == Array(0..<100))
  }

  @Test(
    "What is sent while a link is cut for a moment arrives when it is back, once",
    arguments: families)
  func cut(family: Family) throws {
    let cluster = try linked(2)
    let (reader, writer) = (try app(cluster, 0, family, 1), try app(cluster, 1, family, 2))
    try reader.join(reader.name)
    for round in 0..<50 as Range<UInt8> {
      if round % 10 == 5 { cluster.nodes[0].cut() }
      try writer.publish(reader.name, [round])
    }
    #expect(try reader.drain(50).map { $0[0] } == Array(0..<50))
  }

  @Test(
    "A node out of reach has no subscribers, is not waited for, and has them again when it is back")
  func unreachable() throws {
    let cluster = try linked(2, patience: .milliseconds(300))
    let (reader, writer) = (try app(cluster, 0, .slimA, 1), try app(cluster, 1, .slimA, 2))
    try reader.join(reader.name)
    try writer.publish(reader.name, [1])
    #expect(try reader.next() == [1])
    cluster.nodes[0].links.setPeer(
      cluster.nodes[1].id, name: "n2", endpoint: .tcp(host: "127.0.0.1", port: 1))
    cluster.nodes[0].cut()
    // Acknowledged at once by who is left.
    try writer.join(writer.name)
    func knows(_ name: SlimName, _ node: Int) -> Bool {
      let shard = cluster.nodes[node].host.shards[0]
      return shard.loop.call { shard.slim.router.route(.slimA, name)?.linkTotal ?? 0 } ?? 0 > 0
    }
    #expect(eventually { !knows(reader.name, 1) })
    try writer.publish(reader.name, [2])
    #expect(try reader.next(within: .milliseconds(200)) == nil)
    cluster.introduce()
    #expect(eventually { knows(reader.name, 1) })
    try writer.publish(reader.name, [3])
    #expect(try reader.next() == [3])
    #expect(eventually { knows(writer.name, 0) })
    try reader.publish(writer.name, [4])
    #expect(try writer.next() == [4])
  }

  @Test("A node that confirms nothing makes publishers wait, and loses nothing") func crowded()
    throws
  {
    let cluster = try linked(2, loops: 1)
    let (reader, writer) = (try app(cluster, 0, .slimA, 1), try app(cluster, 1, .slimA, 2))
    try reader.join(reader.name)
    let (here, there) = (cluster.nodes[0].links, cluster.nodes[1].links)
    let (hereID, thereID) = (cluster.nodes[0].id, cluster.nodes[1].id)
    here.loop.call { here.link(to: thereID)?.isHeld = true }
    let count = 1_400
    let (sent, read) = (Guarded(0), Guarded(0))
    let payload = [UInt8](repeating: 1, count: 64 << 10)
    let sender = Thread {
      for round in 0..<count {
        // Never so far ahead that the reader, on a machine that is busy, would be cut off for it.
        _ = eventually { round - read.value < 64 }
        try? writer.publish(reader.name, payload)
        sent.value = round + 1
      }
    }
    sender.start()
    var got = 0
    func next(within patience: Interval) throws -> Bool {
      guard try reader.next(within: patience) != nil else { return false }
      got += 1
      read.value = got
      return true
    }
    while try next(within: .milliseconds(1_500)) {}
    #expect(there.loop.call { there.link(to: hereID)?.isCongested == true } == true)
    #expect(got > 100 && got < count && sent.value < count, "\(got) of \(sent.value)")
    here.loop.call {
      here.link(to: thereID)?.isHeld = false
      here.link(to: thereID)?.hasHeard = true
    }
    while got < count, try next(within: .seconds(10)) {}
    #expect(got == count && sent.value == count)
    let shard = cluster.nodes[1].host.shards[0]
    #expect(shard.loop.call { shard.slim.counts.unreachable } == 0)
  }

  @Test("Members of a group whose owner is gone hear each other, without the archive")
  func ownerGone() throws {
    let cluster = try linked(3, patience: .milliseconds(300))
    let group = Self.group(.slimA)
    cluster.stop(2)
    let far = cluster.nodes.prefix(2).flatMap(\.host.shards)
    let id = SlimChannel.ref(.slimA, group).id
    #expect(
      eventually { far.allSatisfy { shard in shard.loop.call { shard.far?.isLost(id) } == true } })
    let (a, b) = (try app(cluster, 0, .slimA, 1), try app(cluster, 1, .slimA, 2))
    try a.join(group)
    try b.join(group)
    for round in 0..<10 as Range<UInt8> { try a.publish(group, [round], group: true) }
    #expect(try b.drain(10).map { $0[0] } == Array(0..<10))
  }

  @Test(
    "A member that was away gets what was said meanwhile, from an owner far away, and goes on",
    arguments: families)
  func absent(family: Family) throws {
    let cluster = try linked(3)
    let group = Self.group(family)
    let writer = try app(cluster, 1, family, 1)
    let member = try app(cluster, 0, family, 2)
    try writer.join(group)
    try member.join(group)
    try writer.publish(group, [0], group: true)
    #expect(try member.next() == [0])
    member.end()
    for round in 1..<6 as Range<UInt8> { try writer.publish(group, [round], group: true) }
    // They are written when another member has them.
    let witness = try app(cluster, 2, family, 3)
    try witness.join(group)
    var seen: [UInt8] = []
    while seen.last != 5 { seen.append(try #require(try witness.next())[0]) }
    let back = try app(cluster, 0, family, 2)
    try back.join(group)
    var got: [UInt8] = []
    while got.last != 5 { got.append(try #require(try back.next())[0]) }
    #expect(got == Array(0..<6))
    for round in 6..<12 as Range<UInt8> { try writer.publish(group, [round], group: true) }
    #expect(try back.drain(6).map { $0[0] } == Array(6..<12))
  }
}
