import Base
import Digest
import Testing

@testable import Membership

@Suite("Packets and beliefs of membership", .timeLimit(.minutes(5)))
struct PacketTests {
  static let me = Member(id: NodeID(1), address: "a:1")

  static func engine(_ effects: inout [MembershipEffect]) -> MembershipEngine {
    MembershipEngine(
      me: me, profile: .lan, seeds: [], random: 1, at: .zero, into: &effects)
  }

  static let packets: [MemberPacket] = [
    MemberPacket(sender: me, message: .ping(sequence: 7, target: NodeID(2))),
    MemberPacket(sender: me, message: .ack(sequence: .max)),
    MemberPacket(sender: me, message: .nack(sequence: 0)),
    MemberPacket(
      sender: me, message: .pingRequest(sequence: 3, target: NodeID(9), address: "h.example:7000")),
    MemberPacket(
      sender: me, message: .gossip,
      updates: [
        MemberUpdate(
          Member(id: NodeID(5), address: "b:2", incarnation: 300, state: .suspect), by: NodeID(6))
      ]),
    MemberPacket(sender: me, message: .sync(answer: true)),
    MemberPacket(sender: me, message: .sync(answer: false)),
  ]

  @Test("A packet reads back as it was written", arguments: packets)
  func roundTrip(_ packet: MemberPacket) {
    #expect(MemberPacket(packet.encoded) == packet)
  }

  @Test("Every flipped bit and every cut of a packet is noticed", arguments: packets)
  func damage(_ packet: MemberPacket) {
    let bytes = packet.encoded
    for bit in 0..<bytes.count * 8 {
      var bad = bytes
      bad[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(MemberPacket(bad) == nil)
    }
    for n in 0..<bytes.count { #expect(MemberPacket(Array(bytes.prefix(n))) == nil) }
    #expect(MemberPacket(bytes + [0]) == nil)
  }

  @Test("What breaks a bound is refused also under a right checksum")
  func rules() {
    func refused(_ member: Member) -> Bool {
      let packet = MemberPacket(
        sender: Self.me, message: .gossip, updates: [MemberUpdate(member, by: NodeID(1))])
      return MemberPacket(packet.encoded) == nil
    }
    #expect(!refused(Member(id: NodeID(2), address: "a:1", incarnation: 1 << 48)))
    #expect(refused(Member(id: NodeID(2), address: "a:1", incarnation: 1 << 48 + 1)))
    #expect(refused(Member(id: .none, address: "a:1")))
    #expect(refused(Member(id: NodeID(2), address: "")))
    #expect(refused(Member(id: NodeID(2), address: String(repeating: "a", count: 256))))
    var dead = Self.me
    dead.state = .dead
    #expect(MemberPacket(MemberPacket(sender: dead, message: .gossip).encoded) == nil)
  }

  @Test("What is believed is the largest of (incarnation, state), in whatever order it is heard")
  func order() {
    var said: [Member] = []
    for incarnation in 1...3 as ClosedRange<UInt64> {
      for state in MemberState.allCases {
        said.append(
          Member(id: NodeID(2), address: "b:2", incarnation: incarnation, state: state))
      }
    }
    var random = MemberRandom(seed: 4)
    for _ in 0..<200 {
      random.shuffle(&said)
      let heard = Array(said.prefix(1 + random.below(said.count)))
      var effects: [MembershipEffect] = []
      var engine = Self.engine(&effects)
      for member in heard {
        engine.receive(
          MemberPacket(
            sender: Member(id: NodeID(3), address: "c:3"), message: .gossip,
            updates: [MemberUpdate(member, by: NodeID(3))]), at: .zero, into: &effects)
      }
      let wanted = heard.max { ($0.incarnation, $0.state) < ($1.incarnation, $1.state) }
      #expect(engine.peers[NodeID(2)]?.member == wanted)
    }
  }

  @Test("Only what is said of the present life or a later one is contradicted, by one more")
  func refutes() {
    var effects: [MembershipEffect] = []
    var engine = Self.engine(&effects)
    func say(_ state: MemberState, _ incarnation: UInt64) {
      var member = Self.me
      (member.state, member.incarnation) = (state, incarnation)
      engine.receive(
        MemberPacket(
          sender: Member(id: NodeID(3), address: "c:3"), message: .gossip,
          updates: [MemberUpdate(member, by: NodeID(3))]), at: .zero, into: &effects)
    }
    say(.suspect, 1)
    #expect(engine.me.incarnation == 2 && engine.localHealth == 1)
    say(.dead, 1)
    #expect(engine.me.incarnation == 2)
    say(.dead, 5)
    #expect(engine.me.incarnation == 6 && effects.contains(.refuted(incarnation: 6)))
    say(.alive, 8)
    #expect(engine.me.incarnation == 9)
    // At the end of all numbers there is no contradiction, and no endless talk.
    say(.dead, Limits.memberIncarnation)
    #expect(engine.me.incarnation == 9)
    say(.forgotten, 8)
    #expect(engine.phase == .member)
    say(.forgotten, 9)
    #expect(engine.phase == .ended && effects.last == .forgotten)
    #expect(engine.me.incarnation == 9)
  }

  @Test(
    "Who shows an earlier life than somebody told of hears that in the answer",
    arguments: [MemberState.alive, .suspect, .dead, .left, .forgotten])
  func contradiction(_ state: MemberState) {
    var effects: [MembershipEffect] = []
    var engine = Self.engine(&effects)
    let lie = Member(id: NodeID(2), address: "elsewhere:9", incarnation: 1 << 40, state: state)
    engine.receive(
      MemberPacket(
        sender: Member(id: NodeID(3), address: "c:3"), message: .gossip,
        updates: [MemberUpdate(lie, by: NodeID(3))]), at: .zero, into: &effects)
    effects = []
    engine.receive(
      MemberPacket(
        sender: Member(id: NodeID(2), address: "b:2", incarnation: 5),
        message: .ping(sequence: 1, target: Self.me.id)), at: .zero, into: &effects)
    let told = effects.contains {
      if case .send(to: "b:2", let packet) = $0 {
        packet.updates.contains { $0.member == lie }
      } else {
        false
      }
    }
    #expect(told)
  }

  @Test("A node that stood still gives suspicions the time it did not run")
  func stoodStill() {
    var effects: [MembershipEffect] = []
    var engine = Self.engine(&effects)
    let other = Member(id: NodeID(2), address: "b:2", state: .suspect)
    engine.receive(
      MemberPacket(
        sender: Member(id: NodeID(3), address: "c:3"), message: .gossip,
        updates: [MemberUpdate(other, by: NodeID(3))]), at: .zero, into: &effects)
    engine.receiveTick(at: .zero + .seconds(60), into: &effects)
    #expect(engine.member(NodeID(2))?.state == .suspect && engine.localHealth > 0)
    for tenth in 601...700 as ClosedRange<Int64> {
      engine.receiveTick(at: .zero + .milliseconds(tenth * 100), into: &effects)
    }
    #expect(engine.member(NodeID(2))?.state == .dead)
  }

  @Test("A second node with the same id is told of")
  func twins() {
    var effects: [MembershipEffect] = []
    var engine = Self.engine(&effects)
    let twin = Member(id: NodeID(1), address: "z:9")
    engine.receive(MemberPacket(sender: twin, message: .gossip), at: .zero, into: &effects)
    #expect(effects.contains(.twin(twin)))
    let other = Member(id: NodeID(2), address: "b:2")
    let copy = Member(id: NodeID(2), address: "b:3")
    engine.receive(MemberPacket(sender: other, message: .gossip), at: .zero, into: &effects)
    engine.receive(MemberPacket(sender: copy, message: .gossip), at: .zero, into: &effects)
    #expect(effects.contains(.twin(copy)) && engine.member(NodeID(2)) == other)
  }

  @Test("Bounds: members, errands, updates in a packet")
  func bounds() {
    var effects: [MembershipEffect] = []
    var engine = Self.engine(&effects)
    for n in 0..<1_200 {
      engine.receive(
        MemberPacket(
          sender: Member(id: NodeID(UInt64(n + 2)), address: "host-\(n).example:7000"),
          message: .pingRequest(sequence: 1, target: NodeID(9_999), address: "q:1")),
        at: .zero, into: &effects)
    }
    #expect(engine.members.count == Limits.members && engine.errands.count == Limits.memberErrands)
    effects = []
    engine.receive(
      MemberPacket(
        sender: Member(id: NodeID(2), address: "host-0.example:7000"), message: .sync(answer: true)),
      at: .zero, into: &effects)
    var sent: Set<NodeID> = []
    for case .send(_, let packet) in effects {
      #expect(packet.encoded.count <= Limits.memberPacketBytes)
      #expect(MemberPacket(packet.encoded) == packet)
      sent.formUnion(packet.updates.map(\.member.id))
    }
    #expect(sent.count == Limits.members)
  }

  @Test("Suspicions are as long as Lifeguard has them, updates are sent on 4 log10(n + 1) times")
  func formulas() {
    let lan = MembershipProfile.lan
    #expect(lan.suspicion(members: 10, confirmations: 0) == .seconds(24))
    #expect(lan.suspicion(members: 10, confirmations: 2) == .seconds(4))
    #expect(lan.suspicion(members: 3, confirmations: 0) == .seconds(4))
    let one = lan.suspicion(members: 10, confirmations: 1)
    #expect(one > .seconds(11) && one < .seconds(12))
    #expect([1, 2, 9, 10, 99, 100].map(retransmitLimit) == [2, 2, 4, 5, 8, 9])
    #expect(abs(log10(1_000) - 3) < 1e-8 && log10(1) == 0 && abs(log10(50) - 1.69897) < 1e-5)
  }
}
