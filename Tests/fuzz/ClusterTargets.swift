import Base
import Digest
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
    var bytes = Array(input)
    let isSealed = random.oneIn(2)
    if isSealed, bytes.count >= 4 {
      let body = Array(bytes.dropLast(4))
      bytes = body + bigEndianBytes(crc32c(body))
    }
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
