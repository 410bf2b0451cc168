import Base
import Digest
import Testing

@testable import Ring

@Suite("The ring's map", .timeLimit(.minutes(10)))
struct MapTests {
  static func node(_ n: UInt64, weight: Int = 100, zone: String = "") -> RingNode {
    RingNode(id: NodeID(n), name: "n\(n)", weight: weight, zone: zone, region: "r")
  }

  static func ledger(nodes: Int, bits: Int = 12, replicas: Int = 3) throws -> RingLedger {
    var ledger = RingLedger(current: RingMap(slotBits: bits, replicas: replicas))
    for n in 1...nodes { try ledger.stage(node(UInt64(n), zone: "z\(n % 4)")) }
    try ledger.apply(version: 0)
    return ledger
  }

  @Test("Slots are the top bits: of a channel's id, and of its org's hash")
  func slots() throws {
    let map = RingMap()
    #expect(map.slotCount == 4_096)
    for name in ["acme/ns/one", "acme/ns/two", "other/a/b"] {
      let id = ChannelID(family: .skytale, name: name)
      #expect(map.slot(of: id) == id.slot)
    }
    #expect(map.slot(of: TenantID(org: "acme")) == UInt16(xxh64(utf8: "acme") >> 52))
    #expect(RingMap(slotBits: 4).slot(ofHash: 0xf000_0000_0000_0000) == 15)
  }

  @Test("A map reads back as it was written, moves and all, in about four bytes a slot")
  func roundTrip() throws {
    var ledger = try Self.ledger(nodes: 10)
    try ledger.stage(Self.node(11, zone: "z1"))
    try ledger.apply(version: 1)
    let map = ledger.current
    let bytes = map.encoded
    #expect(try RingMap(bytes) == map)
    #expect(map.movingSlots.count == 372)
    #expect(bytes.count < 20_000, "\(bytes.count) bytes")
  }

  @Test("Every flipped bit and every cut of a map is noticed")
  func damage() throws {
    let bytes = try Self.ledger(nodes: 3, bits: 4).current.encoded
    for bit in 0..<bytes.count * 8 {
      var bad = bytes
      bad[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(throws: RingCodecError.self) { try RingMap(bad) }
    }
    for n in 0..<bytes.count {
      #expect(throws: RingCodecError.self) { try RingMap(Array(bytes.prefix(n))) }
    }
  }

  @Test("What breaks a rule is refused also under a right checksum")
  func rules() throws {
    let good = Array(try Self.ledger(nodes: 3, bits: 4).current.encoded.dropLast(4))
    func refused(_ change: (inout [UInt8]) -> Void) -> Bool {
      var bad = good
      change(&bad)
      return (try? RingMap(bad + bigEndianBytes(crc32c(bad)))) == nil
    }
    #expect(!refused { _ in })
    #expect(refused { $0[0] = 2 })
    #expect(refused { $0[1] = 3 })
    #expect(refused { $0[2] = 0 })
    #expect(refused { $0[2] = 8 })
    #expect(refused { $0.append(0) })
    // The last row: owner, two followers, epoch.
    #expect(refused { $0[$0.count - 2] = $0[$0.count - 3] })
    #expect(refused { $0[$0.count - 3] = $0[$0.count - 4] / 2 })
    #expect(refused { $0[$0.count - 4] = 9 })
    #expect(refused { $0[$0.count - 3] = 0 })
  }

  @Test("Changes carry a map from one node to another, and fit that map only")
  func changes() throws {
    var ledger = try Self.ledger(nodes: 5)
    let first = ledger.current
    try ledger.stage(Self.node(6, zone: "z9"))
    try ledger.apply(version: 1)
    let second = ledger.current
    let moving = try #require(second.movingSlots.first)
    let third = try second.finishing(moving, attempt: try #require(second.move(of: moving)).attempt)
    #expect(try first.applying(second.encodedChanges(since: first)) == second)
    #expect(try second.applying(third.encodedChanges(since: second)) == third)
    #expect(third.encodedChanges(since: second).count < 200)
    #expect(throws: RingCodecError.otherBase) {
      try first.applying(third.encodedChanges(since: second))
    }
    #expect(third.changes(since: second).slots.map(\.slot) == [moving])
    #expect(third.owner(of: moving) == NodeID(6) && third.epoch(of: moving) == 2)
    #expect(second.changes(since: second).isEmpty)
  }

  @Test("Only the try that the map asks for can end a move, once")
  func compareAndSwap() throws {
    var ledger = try Self.ledger(nodes: 2, bits: 4, replicas: 1)
    try ledger.stage(Self.node(3))
    try ledger.apply(version: 1)
    let map = ledger.current
    let slot = try #require(map.movingSlots.first)
    let attempt = try #require(map.move(of: slot)).attempt
    #expect(throws: RingError.noSuchMove) { try map.finishing(slot, attempt: attempt + 1) }
    let again = try map.retrying(slot, attempt: attempt)
    #expect(throws: RingError.noSuchMove) { try again.finishing(slot, attempt: attempt) }
    let done = try map.finishing(slot, attempt: attempt)
    #expect(throws: RingError.noSuchMove) { try done.finishing(slot, attempt: attempt) }
    #expect(try map.cancelling(slot, attempt: attempt).owner(of: slot) == map.owner(of: slot))
    #expect(done.revision == map.revision + 1 && done.version == map.version)
  }

  @Test("The same input gives the same plan, whatever the order of nodes")
  func deterministic() throws {
    let nodes = (1...17).map {
      Self.node(UInt64($0 * 7919), weight: 50 + $0 % 3, zone: "z\($0 % 5)")
    }
    let one = try RingMap().plan(nodes: nodes)
    let two = try RingMap().plan(nodes: nodes.reversed())
    #expect(one == two && one.founded == 4_096)
  }

  @Test("Slots on ten equal nodes are within 0.3 % of even, and a joining one takes its share")
  func measured() throws {
    var ledger = try Self.ledger(nodes: 10)
    for n in 1...10 {
      let load = ledger.current.load(of: NodeID(UInt64(n)))
      #expect((409...410).contains(load.owned) && (1_228...1_229).contains(load.copies))
    }
    try ledger.stage(Self.node(11, zone: "z1"))
    #expect(try ledger.plan().moves.count == 372)
  }

  @Test("Nodes and copies beyond their bounds are refused")
  func bounds() throws {
    var ledger = RingLedger()
    var long = Self.node(1)
    long.zone = String(repeating: "z", count: 64)
    for bad in [Self.node(0), Self.node(1, weight: -1), Self.node(1, weight: 10_001), long] {
      #expect(throws: RingError.self) { try ledger.stage(bad) }
    }
    let many = (1...1_025).map { Self.node(UInt64($0)) }
    #expect(throws: RingError.badNodes("1025 nodes")) { try ledger.stage(many) }
    #expect(throws: RingError.self) { try ledger.stage([Self.node(1)], replicas: 8) }
    var twin = Self.node(2)
    twin.name = "n1"
    #expect(throws: RingError.badNodes("two nodes named n1")) {
      try ledger.stage([Self.node(1), twin])
    }
    try ledger.stage(Self.node(1, weight: 0))
    #expect(throws: RingError.noNode) { try ledger.plan() }
  }

  @Test("A staged list of nodes reads back")
  func staged() throws {
    let nodes = (1...5).map { Self.node(UInt64($0), zone: "z\($0)") }
    #expect(try RingNode.decode(RingNode.encode(nodes)) == nodes)
    var bad = RingNode.encode(nodes)
    bad[5] ^= 1
    #expect(throws: RingCodecError.damaged) { try RingNode.decode(bad) }
  }
}
