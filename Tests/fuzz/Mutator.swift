/// Changes valid inputs in the ways that break decoders, in one buffer without allocation.
struct Mutator {
  /// Bytes that an input may grow to.
  static let limit = 64 << 10

  private let base: UnsafeMutableRawPointer
  private(set) var count = 0
  private let corpus: [[UInt8]]
  private let words: [[UInt8]]

  /// `words`: what the format is made of, put in whole.
  init(corpus: [[UInt8]], words: [[UInt8]]) {
    precondition(corpus.allSatisfy { $0.count <= Mutator.limit }, "a seed is over the limit")
    self.corpus = corpus
    self.words = words
    base = .allocate(byteCount: Mutator.limit, alignment: 16)
  }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// A seed, changed once to a few times; once in 32 as it is.
  mutating func make(from seed: Int, _ random: inout FuzzRandom) {
    load(corpus[seed])
    if random.oneIn(32) { return }
    repeat { change(&random) } while random.below(5) < 2
  }

  private mutating func load(_ seed: [UInt8]) {
    seed.withUnsafeBytes {
      if let from = $0.baseAddress { base.copyMemory(from: from, byteCount: $0.count) }
    }
    count = seed.count
  }

  private mutating func change(_ random: inout FuzzRandom) {
    guard count > 0 else { return insertNoise(&random) }
    let at = random.below(count)
    switch random.below(16) {
    case 0, 1: byte(at) { $0 ^ 1 << UInt8(random.below(8)) }
    case 2: byte(at) { _ in random.byte() }
    case 3: byte(at) { _ in Self.oddBytes[random.below(Self.oddBytes.count)] }
    case 4: byte(at) { $0 &+ UInt8(truncatingIfNeeded: random.below(9) - 4) }
    case 5: putInteger(at, Self.oddIntegers[random.below(Self.oddIntegers.count)], &random)
    case 6: shiftInteger(at, &random)
    case 7: putVarint(at, &random)
    case 8: remove(at, min(chunk(&random), count - at))
    case 9: insertNoise(&random)
    case 10: repeatChunk(at, &random)
    case 11: splice(at, &random)
    case 12: if random.oneIn(2) { count = at } else { remove(0, at) }
    case 13: swapChunks(at, &random)
    case 14 where !words.isEmpty: putWord(at, &random)
    case 15 where random.oneIn(4): concatenate(&random)
    default: byte(at) { $0 ^ 0x80 }
    }
  }

  // MARK: single values

  private func byte(_ at: Int, _ change: (UInt8) -> UInt8) {
    let old = base.load(fromByteOffset: at, as: UInt8.self)
    base.storeBytes(of: change(old), toByteOffset: at, as: UInt8.self)
  }

  private func putInteger(_ at: Int, _ value: UInt64, _ random: inout FuzzRandom) {
    let size = min(1 << (1 + random.below(3)), count - at)
    let big = random.oneIn(2)
    for i in 0..<size {
      let shift = UInt64(8 * (big ? size - 1 - i : i))
      base.storeBytes(
        of: UInt8(truncatingIfNeeded: value >> shift), toByteOffset: at + i, as: UInt8.self)
    }
  }

  /// A length field, or what may be one, becomes a little longer or shorter.
  private func shiftInteger(_ at: Int, _ random: inout FuzzRandom) {
    let size = min(1 << random.below(4), count - at)
    let big = random.oneIn(2)
    var value: UInt64 = 0
    for i in 0..<size {
      let shift = UInt64(8 * (big ? size - 1 - i : i))
      value |= UInt64(base.load(fromByteOffset: at + i, as: UInt8.self)) << shift
    }
    value = value &+ UInt64(bitPattern: Int64(random.below(17) - 8))
    for i in 0..<size {
      let shift = UInt64(8 * (big ? size - 1 - i : i))
      base.storeBytes(
        of: UInt8(truncatingIfNeeded: value >> shift), toByteOffset: at + i, as: UInt8.self)
    }
  }

  private mutating func putVarint(_ at: Int, _ random: inout FuzzRandom) {
    var value = Self.oddIntegers[random.below(Self.oddIntegers.count)]
    var text: [UInt8] = []
    while value >= 0x80 {
      text.append(UInt8(truncatingIfNeeded: value) | 0x80)
      value >>= 7
    }
    text.append(UInt8(value))
    // Overlong now and then.
    if random.oneIn(8) {
      text[text.count - 1] |= 0x80
      text.append(0)
    }
    put(at, text, over: random.oneIn(2))
  }

  private mutating func putWord(_ at: Int, _ random: inout FuzzRandom) {
    put(at, words[random.below(words.count)], over: random.oneIn(2))
  }

  private mutating func put(_ at: Int, _ text: [UInt8], over: Bool) {
    if !over { guard open(at, text.count) else { return } }
    let n = min(text.count, count - at)
    text.withUnsafeBytes { (base + at).copyMemory(from: $0.baseAddress!, byteCount: n) }
  }

  // MARK: chunks

  /// Mostly short.
  private func chunk(_ random: inout FuzzRandom) -> Int {
    switch random.below(8) {
    case 0...4: 1 + random.below(8)
    case 5, 6: 1 + random.below(64)
    default: 1 + random.below(512)
    }
  }

  /// Makes room for `n` bytes; false when the input would be too large.
  private mutating func open(_ at: Int, _ n: Int) -> Bool {
    guard count + n <= Mutator.limit else { return false }
    (base + at + n).copyMemory(from: base + at, byteCount: count - at)
    count += n
    return true
  }

  private mutating func remove(_ at: Int, _ n: Int) {
    (base + at).copyMemory(from: base + at + n, byteCount: count - at - n)
    count -= n
  }

  private mutating func insertNoise(_ random: inout FuzzRandom) {
    let n = chunk(&random)
    let at = random.below(count + 1)
    guard open(at, n) else { return }
    let same: UInt8? = random.oneIn(2) ? random.byte() : nil
    for i in at..<at + n {
      base.storeBytes(of: same ?? random.byte(), toByteOffset: i, as: UInt8.self)
    }
  }

  /// A chunk once more behind itself, now and then many times: nesting and long lists.
  private mutating func repeatChunk(_ at: Int, _ random: inout FuzzRandom) {
    let n = min(chunk(&random), count - at)
    let times = random.oneIn(32) ? 1 + random.below(min(300, 8192 / n + 1)) : 1
    for _ in 0..<times {
      guard open(at, n) else { return }
      (base + at).copyMemory(from: base + at + n, byteCount: n)
    }
  }

  private mutating func splice(_ at: Int, _ random: inout FuzzRandom) {
    let other = corpus[random.below(corpus.count)]
    guard !other.isEmpty else { return }
    let from = random.below(other.count)
    let n = min(chunk(&random), other.count - from)
    put(at, Array(other[from..<from + n]), over: random.oneIn(2))
  }

  private mutating func concatenate(_ random: inout FuzzRandom) {
    let other = corpus[random.below(corpus.count)]
    guard !other.isEmpty, open(count, other.count) else { return }
    other.withUnsafeBytes {
      (base + count - other.count).copyMemory(from: $0.baseAddress!, byteCount: other.count)
    }
  }

  private func swapChunks(_ at: Int, _ random: inout FuzzRandom) {
    let other = random.below(count)
    let n = min(chunk(&random), count - max(at, other))
    for i in 0..<n {
      let a = base.load(fromByteOffset: at + i, as: UInt8.self)
      let b = base.load(fromByteOffset: other + i, as: UInt8.self)
      base.storeBytes(of: b, toByteOffset: at + i, as: UInt8.self)
      base.storeBytes(of: a, toByteOffset: other + i, as: UInt8.self)
    }
  }

  private static let oddBytes: [UInt8] = [
    0, 1, 0x7f, 0x80, 0xff, 0xfe, 0xc0, 0x40, 0x3f, 0x0a, 0x0d, 0x20, 0x22, 0x2e, 0x30, 0x39, 0x5c,
    0x7b,
    0xed, 0xf4,
  ]
  private static let oddIntegers: [UInt64] = [
    0, 1, 2, 7, 8, 0x10, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0x100, 0x3fff, 0x4000, 0x7fff, 0x8000,
    0xffff,
    0x1_0000, 0x3f_ffff, 0x40_0000, 0x40_0001, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000,
    0x7fff_ffff_ffff_fffe, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, 0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
  ]
}
