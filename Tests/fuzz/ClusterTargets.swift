import Base
import Digest
import Membership
import Ring

/// Ring maps and changes of them: what decodes keeps a map's rules and encodes to the same bytes.
struct RingTarget: FuzzTarget {
  static let name = "ring"
  static let wantedShare = 5_000
  let corpus: [[UInt8]]
  private let base: RingMap
  private let ours: Set<[UInt8]>

  init() {
    var ledger = RingLedger(current: RingMap(slotBits: 4, replicas: 3))
    var maps: [RingMap] = [ledger.current]
    for n in 1...6 {
      do {
        try ledger.stage(
          RingNode(id: NodeID(UInt64(n * 77)), name: "n\(n)", zone: "z\(n % 3)", region: "r"))
        try ledger.apply(version: ledger.current.version)
      } catch { preconditionFailure("\(error)") }
      maps.append(ledger.current)
      for slot in ledger.current.movingSlots.prefix(2) {
        let attempt = ledger.current.move(of: slot)?.attempt ?? 0
        if let next = try? ledger.current.finishing(slot, attempt: attempt) { ledger.receive(next) }
      }
    }
    base = maps[3]
    corpus =
      maps.map(\.encoded) + maps[4...].map { $0.encodedChanges(since: maps[3]) }
      + [RingNode.encode(ledger.current.nodes)]
    ours = Set(corpus)
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let (bytes, isSealed) = half(of: input, &random) { $0 + bigEndianBytes(crc32c($0)) }
    var accepted = false
    if let map = try? RingMap(bytes) {
      accepted = true
      try check(isSealed || ours.contains(bytes), "a damaged map passes its checksum")
      try check(map.encoded == bytes, "a second form of a map")
      for slot in map.movingSlots {
        try check(map.move(of: slot)?.target.owner != map.owner(of: slot), "moves to its owner")
      }
    }
    if let next = try? base.applying(bytes) {
      accepted = true
      try check((try? RingMap(next.encoded)) == next, "a change makes what is no map")
      try check(next.revision > base.revision, "a change goes back")
    }
    if let nodes = try? RingNode.decode(bytes) {
      accepted = true
      try check(RingNode.encode(nodes) == bytes, "a second form of nodes")
    }
    return accepted
  }
}

/// Membership packets: what decodes keeps its bounds, encodes to the same bytes, and an engine can take it.
struct MemberPacketTarget: FuzzTarget {
  static let name = "member-packet"
  static let wantedShare = 20_000
  let corpus: [[UInt8]]
  private let ours: Set<[UInt8]>
  private var engine: MembershipEngine
  private var milliseconds: Int64 = 0

  private static let me = Member(id: NodeID(1), address: "a:1")

  init() {
    let other = Member(id: NodeID(2), address: "10.0.0.2:7000", incarnation: 400)
    let said = MemberState.allCases.enumerated().map { i, state in
      MemberUpdate(
        Member(id: NodeID(UInt64(i + 1)), address: "h\(i):7000", incarnation: 3, state: state),
        by: NodeID(2))
    }
    let messages: [MemberMessage] = [
      .ping(sequence: 1, target: NodeID(1)), .ack(sequence: 1), .nack(sequence: 1),
      .pingRequest(sequence: 9, target: NodeID(4), address: "h3:7000"), .gossip,
      .sync(answer: true), .sync(answer: false),
    ]
    corpus = messages.enumerated().map { i, message in
      MemberPacket(sender: other, message: message, updates: Array(said.prefix(i))).encoded
    }
    ours = Set(corpus)
    var effects: [MembershipEffect] = []
    engine = MembershipEngine(
      me: Self.me, profile: .lan, seeds: ["s:1"], random: 1, at: .zero, into: &effects)
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let (bytes, isSealed) = half(of: input, &random) { $0 + bigEndianBytes(crc32c($0)) }
    guard let packet = MemberPacket(bytes) else {
      try check(!ours.contains(bytes), "a packet of ours was refused")
      return false
    }
    try check(isSealed || ours.contains(bytes), "a damaged packet passes its checksum")
    try check(packet.encoded == bytes, "a second form of a packet")
    var effects: [MembershipEffect] = []
    // Now and then a new engine: one that was forgotten, or has heard of all it may, takes nothing more.
    if random.oneIn(64) || engine.phase == .ended {
      engine = MembershipEngine(
        me: Self.me, profile: .lan, seeds: [], random: random.next(), at: .zero, into: &effects)
      milliseconds = 0
    }
    milliseconds += Int64(random.below(300))
    let now = Instant(nanoseconds: milliseconds * 1_000_000)
    engine.receive(packet, at: now, into: &effects)
    engine.receiveTick(at: now, into: &effects)
    for case .send(_, let packet) in effects {
      try check(MemberPacket(packet.encoded) == packet, "the engine sends what nobody takes")
    }
    try check(engine.members.count <= Limits.members, "\(engine.members.count) members")
    return true
  }
}
