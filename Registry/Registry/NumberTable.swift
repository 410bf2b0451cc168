internal import Base
internal import Digest

/// Finds a number (an agent's entry, a skill's list) by its name. Open addressing, one line of memory a look as a
/// rule; split so that growing stops nobody for long: 256 parts, each doubled by itself. The hash is seeded, so that
/// nobody can choose names that collide.
struct NumberTable: Sendable {
  /// Upper half: bits of the hash. Lower half: the number + 1; 0 is a free place.
  private var parts: [[UInt64]]
  private var counts: [Int]
  private(set) var count = 0
  private let seed: UInt64

  init(seed: UInt64) {
    self.seed = seed
    parts = Array(repeating: Array(repeating: 0, count: 16), count: 256)
    counts = Array(repeating: 0, count: 256)
  }

  func hash(_ name: UnsafeRawBufferPointer) -> UInt64 { unsafe xxh64(name, seed: seed) }

  func hash(_ name: String) -> UInt64 { xxh64(utf8: name, seed: seed) }

  /// `matches` says whether that number is the one.
  func find(_ hash: UInt64, _ matches: (UInt32) -> Bool) -> UInt32? {
    let part = Int(hash & 255)
    let tag = hash >> 32
    let mask = parts[part].count - 1
    var at = Int(tag) & mask
    while true {
      let place = parts[part][at]
      if place == 0 { return nil }
      if place >> 32 == tag {
        let number = UInt32(truncatingIfNeeded: place) &- 1
        if matches(number) { return number }
      }
      at = (at + 1) & mask
    }
  }

  /// The name must not be there.
  mutating func insert(_ hash: UInt64, _ number: UInt32) {
    let part = Int(hash & 255)
    // Three quarters full: twice as large.
    if (counts[part] + 1) * 4 > parts[part].count * 3 { grow(part) }
    place(part, (hash >> 32) << 32 | UInt64(number + 1))
    counts[part] += 1
    count += 1
  }

  private mutating func place(_ part: Int, _ value: UInt64) {
    let mask = parts[part].count - 1
    var at = Int(value >> 32) & mask
    while parts[part][at] != 0 { at = (at + 1) & mask }
    parts[part][at] = value
  }

  private mutating func grow(_ part: Int) {
    let old = parts[part]
    parts[part] = Array(repeating: 0, count: old.count * 2)
    for value in old where value != 0 { place(part, value) }
  }

  mutating func remove(_ hash: UInt64, _ number: UInt32) {
    let part = Int(hash & 255)
    let wanted = (hash >> 32) << 32 | UInt64(number + 1)
    let mask = parts[part].count - 1
    var at = Int(hash >> 32) & mask
    while parts[part][at] != wanted {
      precondition(parts[part][at] != 0, "a number that is removed stands in the table")
      at = (at + 1) & mask
    }
    // What follows moves up into the gap, unless it stands before its own first place.
    var next = (at + 1) & mask
    while parts[part][next] != 0 {
      let home = Int(parts[part][next] >> 32) & mask
      if (next - home) & mask >= (next - at) & mask {
        parts[part][at] = parts[part][next]
        at = next
      }
      next = (next + 1) & mask
    }
    parts[part][at] = 0
    counts[part] -= 1
    count -= 1
  }
}
