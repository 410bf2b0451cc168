import Base

/// A small seeded generator (splitmix64), so that a failing case can be run again.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
  mutating func below(_ n: Int) -> Int { Int(next() % UInt64(n)) }
  mutating func bytes(_ n: Int) -> [UInt8] {
    (0..<n).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}

/// Hex with spaces, as it stands in a table.
func hex(_ text: String) -> [UInt8] {
  guard let bytes = Text.hexDecode(text.filter { $0 != " " && $0 != "\n" }) else {
    preconditionFailure("not hex: \(text)")
  }
  return bytes
}

/// One change of a kind that breaks decoders.
func mutated(_ original: [UInt8], _ random: inout Seeded) -> [UInt8] {
  var bytes = original
  for _ in 0...random.below(3) {
    switch random.below(6) {
    case 0 where !bytes.isEmpty: bytes[random.below(bytes.count)] ^= 1 << UInt8(random.below(8))
    case 1 where !bytes.isEmpty: bytes[random.below(bytes.count)] = UInt8(random.below(256))
    case 2 where !bytes.isEmpty: bytes.removeLast(random.below(bytes.count) + 1)
    case 3:
      bytes.insert(contentsOf: random.bytes(1 + random.below(9)), at: random.below(bytes.count + 1))
    case 4 where !bytes.isEmpty:
      let at = random.below(bytes.count)
      bytes.replaceSubrange(at..., with: [UInt8](repeating: 0xff, count: 1 + random.below(12)))
    case 5 where !bytes.isEmpty:
      let from = random.below(bytes.count)
      let part = bytes[from..<min(bytes.count, from + 1 + random.below(20))]
      bytes.insert(contentsOf: Array(part), at: random.below(bytes.count))
    default: bytes.append(UInt8(random.below(256)))
    }
  }
  return bytes
}
