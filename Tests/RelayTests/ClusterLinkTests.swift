import Base
import Codec
import Engine
import Grpc
import Loop
import Messages
import Settings
import Testing

@testable import Relay

/// What crosses between real nodes: here the last one owns every channel.
@Suite("Links between nodes", .timeLimit(.minutes(3)), .serialized)
struct ClusterLinkTests {
  private func texts(_ range: Range<Int>) -> [String] { range.map { "message \($0)" } }

  @Test("Publishes get their place at the owner, and readers on any node get them in order")
  func service() throws {
    let cluster = try LinkedNodes(3)
    #expect(cluster.waitUntilUp())
    let publisher = try TestPublisher(cluster.nodes[0], "acme/t/a")
    #expect(try publisher.publish(texts(0..<50)) == Array(1...50))
    for node in cluster.nodes {
      let reader = try TestReader(node, "acme/t/a")
      try reader.read(50)
      #expect(reader.texts == texts(0..<50))
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

  @Test("Skytale agents on two nodes hear each other, in order, and not themselves")
  func skytale() throws {
    let cluster = try LinkedNodes(3)
    #expect(cluster.waitUntilUp())
    let (alice, bob) = (try TestAgent(cluster.nodes[0]), try TestAgent(cluster.nodes[1]))
    let carol = try TestAgent(cluster.nodes[2])
    for agent in [alice, bob, carol] { try agent.subscribe("acme/t/pair") }
    #expect(cluster.subscribers("acme/t/pair", are: 3))
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
  /// The owner's engines have so many subscriptions, before the deadline.
  func subscribers(_ channel: String, are count: Int) -> Bool {
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
