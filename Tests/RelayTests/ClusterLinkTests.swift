import Base
import Codec
import Engine
import Grpc
import Link
import Loop
import Messages
import Settings
import TestKit
import Testing

@testable import Relay

/// What crosses between real nodes: here the last one owns every channel.
@Suite("Links between nodes", .timeLimit(.minutes(3)), .serialized)
struct ClusterLinkTests {
  private func texts(_ range: Range<Int>) -> [String] { range.map { "message \($0)" } }

  /// Publishes so many at the first node, and reads them at each.
  private func publishAndRead(_ cluster: LinkedNodes, _ count: Int) throws -> TestPublisher {
    let publisher = try TestPublisher(cluster.nodes[0], "acme/t/a")
    #expect(try publisher.publish(texts(0..<count)) == Array(1...UInt64(count)))
    for node in cluster.nodes {
      let reader = try TestReader(node, "acme/t/a")
      try reader.read(count)
      #expect(reader.texts == texts(0..<count))
    }
    return publisher
  }

  @Test("Publishes get their place at the owner, and readers on any node get them in order")
  func service() throws {
    let cluster = try LinkedNodes(3)
    #expect(cluster.waitUntilUp())
    let publisher = try publishAndRead(cluster, 50)
    for node in cluster.nodes {
      let ended = try TestReader(node, "acme/t/a", from: 11, follow: false)
      while try ended.next() {}
      #expect(ended.sequences == Array(11...50))
    }
    // Live, to a reader that stands at the head on the third node.
    let live = try TestReader(cluster.nodes[1], "acme/t/a", from: 51)
    #expect(try publisher.publish(texts(50..<60)) == Array(51...60))
    try live.read(10)
    #expect(live.texts == texts(50..<60))
  }

  @Test("A node of the previous version and the others serve each other", arguments: [0, 1, 2])
  func older(which: Int) throws {
    let cluster = try LinkedNodes(3, older: which)
    #expect(cluster.waitUntilUp())
    for (at, node) in cluster.nodes.enumerated() {
      let last = LinkHost.linkSettings.versions.upperBound
      let spoken = node.facts().map { at == which || $0.name == "n\(which + 1)" ? last - 1 : last }
      #expect(node.facts().map(\.version) == spoken)
    }
    _ = try publishAndRead(cluster, 300)
  }

  @Test("A message goes once to a node, however many of its sessions get it") func once() throws {
    let cluster = try LinkedNodes(2)
    #expect(cluster.waitUntilUp())
    let readers = try (0..<8).map { _ in try TestReader(cluster.nodes[0], "acme/t/many") }
    let publisher = try TestPublisher(cluster.nodes[1], "acme/t/many")
    #expect(cluster.subscriptions(are: 8))
    for start in stride(from: 0, to: 400, by: 100) {
      #expect(try publisher.publish(texts(start..<(start + 100))).last == UInt64(start + 100))
    }
    for reader in readers {
      try reader.read(400)
      #expect(reader.sequences == Array(1...400))
      #expect(reader.texts == texts(0..<400))
    }
    let traffic = try #require(cluster.nodes[1].facts().first).traffic
    #expect(traffic.deliveriesSent == 3_200)
    // A reader that was behind for a moment may have got some apart from the others.
    #expect(traffic.messagesSent <= 800, "\(traffic.messagesSent)")
  }

  @Test("What is gathered leaves in order, each message once, in parts when it is for very many")
  func gather() {
    func delivery(_ sequence: UInt64) -> Delivery {
      Delivery(
        sequence: sequence, frame: Bytes([1, 2, 3]), type: 0, mls: .none, epoch: 0, generation: 0,
        producer: 0, producerSequence: 0, wall: .zero, hasSuffix: false)
    }
    func session(_ index: Int) -> SessionID { SessionID(loop: 0, generation: 0, index: index) }
    let (seven, nine) = (EngineRig.channel("acme/ns/7"), EngineRig.channel("acme/ns/9"))
    var gather = LinkGather()
    #expect(gather.isEmpty)
    // The second one comes from further back, the third has a hole, another channel comes between.
    for sequence in 3...6 as ClosedRange<UInt64> {
      gather.add([session(1)], seven, delivery(sequence))
    }
    for sequence in 1...5 as ClosedRange<UInt64> {
      gather.add([session(2)], seven, delivery(sequence))
    }
    gather.add([session(2)], nine, delivery(1))
    for sequence in [2, 4, 8] as [UInt64] { gather.add([session(3)], seven, delivery(sequence)) }
    let ready = gather.take()
    #expect(gather.isEmpty)
    #expect(ready.map(\.channel.name) == Array(repeating: seven.name, count: 7) + [nine.name])
    #expect(ready.map(\.delivery.sequence) == [1, 2, 3, 4, 5, 6, 8, 1])
    #expect(
      ready.map { $0.sessions.map(\.index) } == [
        [2], [2, 3], [1, 2], [1, 2, 3], [1, 2], [1], [3], [2],
      ])
    let many = Limits.linkDeliverSessions + 5
    for index in 0..<many {
      for sequence in 1...3 as ClosedRange<UInt64> {
        gather.add([session(index)], seven, delivery(sequence))
      }
    }
    // The same, each message for all of them at once.
    for sequence in 4...5 as ClosedRange<UInt64> {
      gather.add((0..<many).map(session), seven, delivery(sequence))
    }
    gather.add([session(many), session(many + 1)], seven, delivery(5))
    let all = gather.take()
    #expect(all.map(\.delivery.sequence) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    #expect(all.last?.sessions.count == 7)
    let parts = all.filter { $0.delivery.sequence <= 3 }
    #expect(parts.allSatisfy { $0.sessions.count <= Limits.linkDeliverSessions })
    #expect(Set(parts.filter { $0.delivery.sequence == 2 }.flatMap(\.sessions)).count == many)
  }

  @Test("Skytale agents on two nodes hear each other, in order, and not themselves")
  func skytale() throws {
    let cluster = try LinkedNodes(3)
    #expect(cluster.waitUntilUp())
    let (alice, bob) = (try TestAgent(cluster.nodes[0]), try TestAgent(cluster.nodes[1]))
    let carol = try TestAgent(cluster.nodes[2])
    for agent in [alice, bob, carol] { try agent.subscribe("acme/t/pair") }
    #expect(cluster.subscriptions(are: 3))
    for i in 0..<20 { try alice.publish("acme/t/pair", "a\(i)") }
    for agent in [bob, carol] {
      for i in 0..<20 { #expect(try agent.next() == "a\(i)") }
    }
    for i in 0..<20 { try bob.publish("acme/t/pair", "b\(i)") }
    for agent in [alice, carol] {
      for i in 0..<20 { #expect(try agent.next() == "b\(i)") }
    }
  }
}

extension LinkedNodes {
  /// The engines of all nodes have so many subscriptions, before the deadline.
  func subscriptions(are count: Int) -> Bool {
    eventually {
      let found = nodes.reduce(0) { sum, node in
        node.isStopped
          ? sum
          : sum
            + node.host.shards.reduce(0) { sum, shard in
              sum + (shard.loop.call { shard.engine.counters.subscriptions } ?? 0)
            }
      }
      return found == count
    }
  }
}
