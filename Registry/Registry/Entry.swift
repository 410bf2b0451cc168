internal import Base

/// One agent as it is held: the record without its names, and where it stands.
struct Entry: Sendable {
  // What an answer reads stands in front, together in a line of memory as a rule.
  var body = Bytes.empty
  var registeredAt: Int64 = 0
  /// Monotonic nanoseconds: of a local agent the last refresh, of a tombstone when it came.
  var time: Int64 = 0
  /// Number of the home in `origins`; its incarnation is that of the home.
  var home: UInt32 = 0
  /// Number in `sources`; 0: none.
  var source: UInt16 = 0
  /// Which of the 4,096 parts of the digest.
  var bucket: UInt16 = 0
  var flags: Flags = []
  var previous = Entry.none
  var next = Entry.none
  var places: [SkillIndex.Place] = []
  var version: UInt64 = 0
  var sequence: UInt64 = 0
  var digest: UInt64 = 0

  static let none = UInt32.max

  struct Flags: OptionSet, Sendable {
    let rawValue: UInt8
    static let tombstone = Flags(rawValue: 1)
    static let proved = Flags(rawValue: 2)
    /// From the store, and not refreshed since.
    static let unconfirmed = Flags(rawValue: 4)
    static let used = Flags(rawValue: 8)
  }

  var isTombstone: Bool { flags.contains(.tombstone) }
}

/// Entries by number. In chunks, so that growing copies nothing.
struct EntryStore: Sendable {
  private var chunks: [[Entry]] = []
  private var free: [UInt32] = []
  private(set) var end: UInt32 = 0
  private static let bits: UInt32 = 12

  subscript(_ number: UInt32) -> Entry {
    get { chunks[Int(number >> Self.bits)][Int(number & (1 << Self.bits - 1))] }
    _modify { yield &chunks[Int(number >> Self.bits)][Int(number & (1 << Self.bits - 1))] }
  }

  mutating func make() -> UInt32 {
    if let number = free.popLast() { return number }
    if end & (1 << Self.bits - 1) == 0 {
      chunks.append(Array(repeating: Entry(), count: 1 << Int(Self.bits)))
    }
    defer { end += 1 }
    return end
  }

  mutating func remove(_ number: UInt32) {
    self[number] = Entry()
    free.append(number)
  }
}

/// Ends of a list through `previous` and `next` of entries, oldest first.
struct EntryLine: Sendable {
  var first = Entry.none
  var last = Entry.none
  var count = 0

  mutating func append(_ number: UInt32, _ entries: inout EntryStore) {
    entries[number].previous = last
    entries[number].next = Entry.none
    if last == Entry.none { first = number } else { entries[last].next = number }
    last = number
    count += 1
  }

  /// `after` may be `Entry.none`: in front.
  mutating func insert(_ number: UInt32, after: UInt32, _ entries: inout EntryStore) {
    let next = after == Entry.none ? first : entries[after].next
    entries[number].previous = after
    entries[number].next = next
    if after == Entry.none { first = number } else { entries[after].next = number }
    if next == Entry.none { last = number } else { entries[next].previous = number }
    count += 1
  }

  mutating func remove(_ number: UInt32, _ entries: inout EntryStore) {
    let (before, after) = (entries[number].previous, entries[number].next)
    if before == Entry.none { first = after } else { entries[before].next = after }
    if after == Entry.none { last = before } else { entries[after].previous = before }
    entries[number].previous = Entry.none
    entries[number].next = Entry.none
    count -= 1
  }
}
