import Base
import Codec
import Crypto
import Grpc
import Loop
import Membership
import Messages
import Report
import Ring
import Settings
import Testing

@testable import Relay

@Suite(
  "Nodes of a cluster that were forgotten, restored or lied about", .timeLimit(.minutes(3)),
  .serialized)
struct ClusterExileTests {
  private func forget(_ name: String, undo: Bool = false, at node: NodeHost) throws {
    let _: AdminRingPlan = try ask(
      node, AdminService.forgetNode,
      AdminForgetNodeRequest(node: name, allowLoss: !undo, undo: undo))
  }

  /// A channel in a slot of that node.
  private func channel(of node: NodeHost) throws -> String {
    let map = node.cluster!.map.value
    for number in 0..<10_000 {
      let name = "acme/team/c\(number)"
      guard let (id, _, _) = ChannelInventory.identity(name) else { continue }
      if map.owner(of: map.slot(of: id)) == node.cluster!.own { return name }
    }
    throw Fault(.notFound)
  }

  private func message(_ channel: String) -> PublishRequest {
    var request = PublishRequest()
    request.channel = channel
    request.payload = [1, 2, 3]
    return request
  }

  /// The sequence, or what the stream ended with.
  private func publish(_ channel: String, at node: NodeHost) throws -> (UInt64, String) {
    let client = try GrpcBlockingClient(try #require(Endpoint(node.addresses.grpc)))
    let call = client.bidi(ChannelService.publish.path)
    call.send(message(channel))
    call.halfClose()
    do {
      return (try call.next(PublishResponse.self, timeout: .seconds(20))?.sequence ?? 0, "")
    } catch {
      let text = "\(error.status) \(error.message)"
      return (0, text)
    }
  }

  @Test(
    "A node forgotten while it runs serves nothing, also after a restart, and comes back when it may"
  )
  func forgottenAlive() throws {
    let cluster = try TestCluster()
    let open = ["--auth", "open"]
    let nodes = try cluster.three(open)
    let second = nodes[1]
    var (first, third) = (nodes[0], nodes[2])
    defer { for node in [first, second, third] { node.drain() } }
    let name = try channel(of: third)
    #expect(try publish(name, at: third).0 == 1)
    // A stream that was open before.
    let client = try GrpcBlockingClient(try #require(Endpoint(third.addresses.grpc)))
    let stream = client.bidi(ChannelService.publish.path)
    stream.send(message(name))
    #expect(try stream.next(PublishResponse.self, timeout: .seconds(20))?.sequence == 2)

    func isRefused(_ node: NodeHost) throws {
      let (sequence, why) = try publish(name, at: node)
      #expect(sequence == 0 && why.contains("posthouse node join n3"), "\(sequence) \(why)")
      #expect(node.readiness.reasons.contains { $0.contains("posthouse node join n3") })
    }
    func comesBack() throws {
      try cluster.agree([first, second, third])
      try awaitThat {
        [first, second].allSatisfy { $0.cluster!.standing.value.members[NodeID(3)] == .alive }
      }
    }
    try forget("n3", at: first)
    try awaitThat { third.readiness.forgotten != nil }
    #expect(throws: (any Error).self) {
      stream.send(message(name))
      _ = try stream.next(PublishResponse.self, timeout: .seconds(20))
    }
    try isRefused(third)
    // Others begin the slot anew.
    try awaitThat { try publish(name, at: second).0 > 0 }
    // The host of the metadata need not be there to say it once more.
    let place = first.addresses.cluster
    first.drain()
    third.drain()
    third = try cluster.start(3, open)
    try isRefused(third)
    first = try cluster.start(1, cluster: place, open)
    try isRefused(third)
    // While it runs, and without its doing.
    try forget("n3", undo: true, at: second)
    try awaitThat { third.readiness.reasons.isEmpty }
    try comesBack()
    let back = try channel(of: third)
    #expect(try publish(back, at: third).0 > 0)
    // Its link to the one that is back may need another moment.
    try awaitThat { try publish(back, at: second).0 > 0 }
    // And once more, with no restart in between.
    try forget("n3", at: second)
    try awaitThat { third.readiness.forgotten != nil }
    try forget("n3", undo: true, at: second)
    try comesBack()
    try awaitThat { try publish(try channel(of: third), at: third).0 > 0 }
  }

  @Test(
    "A node that was forgotten while it was away hears it of members when the host of the metadata is away"
  )
  func forgottenAway() throws {
    let cluster = try TestCluster()
    var nodes = try cluster.three()
    defer { for node in nodes { node.drain() } }
    let place = nodes[0].addresses.cluster
    nodes.removeLast().drain()
    try forget("n3", at: nodes[0])
    try awaitThat { nodes[1].cluster!.map.value.load(of: NodeID(3)).owned == 0 }
    nodes.removeFirst().drain()
    let third = try cluster.start(3)
    nodes.append(third)
    try awaitThat { third.readiness.forgotten != nil }
    let first = try cluster.start(1, cluster: place)
    nodes.insert(first, at: 0)
    try forget("n3", undo: true, at: first)
    try cluster.agree(nodes)
    try awaitThat { third.readiness.forgotten == nil }
  }

  @Test(
    "What a member says of an exile counts with the second sync that nobody answers, and not late")
  func word() {
    var exile = Exile()
    #expect(exile.receiveUnanswered() == nil)
    exile.receiveWord("n2", sentAfter: exile.timesTaken)
    #expect(exile.receiveUnanswered() == nil)
    // The host answers: the member lagged behind.
    exile.receiveTaken()
    #expect(exile.word == nil && exile.receiveUnanswered() == nil)
    // It was asked before that answer.
    exile.receiveWord("n2", sentAfter: exile.timesTaken - 1)
    #expect(exile.receiveUnanswered() == nil && exile.receiveUnanswered() == nil)
    exile.receiveWord("n2", sentAfter: exile.timesTaken)
    exile.receiveTaken()
    exile.receiveWord("n3", sentAfter: exile.timesTaken)
    #expect(exile.receiveUnanswered() == nil)
    #expect(exile.receiveUnanswered() == "n3")
    #expect(!exile.isOn)
  }

  @Test("What members say of another's address moves nobody's calls, and it contradicts")
  func lie() throws {
    let cluster = try TestCluster()
    let nodes = try cluster.three()
    defer { for node in nodes { node.drain() } }
    try awaitThat { nodes[0].cluster!.standing.value.members[NodeID(3)] == .alive }
    let lie = Member(id: NodeID(3), address: "127.0.0.1:9", incarnation: 1 << 46)
    try tell(nodes[0], lie, by: nodes[1])
    try awaitThat { seen(NodeID(3), by: nodes[0])?.incarnation ?? 0 >= 1 << 46 }
    #expect(place(of: NodeID(3), at: nodes[0]) == nodes[2].addresses.cluster)
    try awaitThat(60) {
      nodes.prefix(2).allSatisfy {
        let seen = seen(NodeID(3), by: $0)
        return seen?.state == .alive && seen?.incarnation ?? 0 > 1 << 46
          && seen?.address == nodes[2].addresses.cluster
      }
    }
  }

  @Test("A node that starts elsewhere is seen there, also when a later life of it is remembered")
  func restored() throws {
    let cluster = try TestCluster()
    var nodes = try cluster.three()
    defer { for node in nodes { node.drain() } }
    let old = nodes[2].addresses.cluster
    nodes.removeLast().drain()
    // As if its clock had been ahead in a life that the restored directory knows nothing of.
    let later = Member(id: NodeID(3), address: old, incarnation: 1 << 46, state: .dead)
    for node in nodes { try tell(node, later, by: nodes[node.cluster!.own == NodeID(1) ? 1 : 0]) }
    try awaitThat {
      nodes.allSatisfy { seen(NodeID(3), by: $0)?.incarnation ?? 0 == 1 << 46 }
    }
    let third = try cluster.start(3)
    nodes.append(third)
    #expect(third.addresses.cluster != old)
    try awaitThat(60) {
      nodes.prefix(2).allSatisfy {
        seen(NodeID(3), by: $0)?.state == .alive
          && place(of: NodeID(3), at: $0) == third.addresses.cluster
      }
    }
  }

  private func tell(_ node: NodeHost, _ member: Member, by other: NodeHost) throws {
    let from = other.cluster!
    let packet = MemberPacket(
      sender: Member(id: from.own, address: other.addresses.cluster, incarnation: from.incarnation),
      message: .gossip, updates: [MemberUpdate(member, by: from.own)])
    let isDone = Lock(false)
    from.calls.call(
      node.cluster!.own, "Packet", packet.encoded, timeout: .seconds(5), on: other.loops[0]
    ) { _ in isDone.withLock { $0 = true } }
    try awaitThat { isDone.withLock { $0 } }
  }

  private func seen(_ id: NodeID, by node: NodeHost) -> Member? {
    let cluster = node.cluster!
    return cluster.loop.call { cluster.membership?.member(id) } ?? nil
  }

  private func place(of id: NodeID, at node: NodeHost) -> String? {
    let cluster = node.cluster!
    return cluster.loop.call { cluster.linked[id]?.description } ?? nil
  }
}
