/// A small seeded generator (splitmix64). Every input has one of its own, made from run seed, decoder and
/// number: any input can be made again without those before it.
struct FuzzRandom: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  /// The generator of input `number` of a decoder.
  init(seed: UInt64, decoder: String, number: UInt64) {
    var mixed = FuzzRandom(seed)
    for byte in decoder.utf8 { mixed = FuzzRandom(mixed.next() ^ UInt64(byte)) }
    state = mixed.next() &+ number &* 0xd134_2543_de82_ef95
    _ = next()
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// Evenly enough for fuzzing, without a division.
  mutating func below(_ n: Int) -> Int {
    Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(n)).high)
  }

  /// True once in `n`.
  mutating func oneIn(_ n: Int) -> Bool { below(n) == 0 }

  mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next()) }

  mutating func bytes(_ n: Int) -> [UInt8] { (0..<n).map { _ in byte() } }
}
