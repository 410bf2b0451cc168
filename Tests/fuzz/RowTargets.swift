import Base
import Digest
import Engine
import Store
import Token

/// Head, commit and producer rows: what decodes means the same when it is written again.
struct StateRowTarget: FuzzTarget {
  static let name = "state-rows"
  static let wantedShare = 50_000
  private static let channel = ChannelID(high: 1, low: 2)
  /// A kind byte, the length of the key, key, value.
  let corpus: [[UInt8]]

  init() {
    let channel = StateRowTarget.channel
    var head = HeadRow()
    var rows = [Row(key: HeadRow.key(channel), value: head.encoded)]
    (head.last, head.oldest, head.generation, head.bytesKept) = (900, 5, 3, 70_000)
    // With an opener: the flag, and its tenant, key, session and run.
    var opened = head.encoded
    opened[1] |= 2
    for (i, at) in [37, 45, 53, 61].enumerated() { opened[at] = UInt8(9 - i) }
    rows.append(Row(key: HeadRow.key(channel), value: opened))
    let commit = CommitRow(
      generation: 1, epoch: 7, sequence: 44, digest: (5, 6), wall: Instant(nanoseconds: 1 << 60))
    rows.append(Row(key: CommitRow.key(channel, generation: 1, epoch: 7), value: commit.value))
    for count in 1...3 {
      let run: [UInt8] =
        bigEndianBytes(UInt64(4)) + bigEndianBytes(UInt64(90)) + bigEndianBytes(UInt32(12))
      let value = (0..<count).flatMap { _ in run }
      rows.append(Row(key: ProducerRow.key(channel, 77, 4), value: value))
    }
    rows.append(Row(key: RecordKey.key(channel, 900), value: []))
    corpus = rows.map { [UInt8($0.key.count)] + $0.key + $0.value }
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let length = input.first else { return false }
    let split = min(1 + Int(length), input.count)
    let row = Row(key: Array(input[1..<split]), value: Array(input[split...]))
    var accepted = false
    if let head = try? HeadRow(decoding: row.value) {
      accepted = true
      let again = try? HeadRow(decoding: head.encoded)
      try check(again == head && head.oldest <= head.last + 1, "a head that changes: \(head)")
    }
    if let commit = try? CommitRow(row) {
      accepted = true
      let key = CommitRow.key(
        StateRowTarget.channel, generation: commit.generation, epoch: commit.epoch)
      try check(
        commit.value == row.value && key.suffix(12) == row.key.suffix(12), "commit \(commit)")
    }
    if let runs = try? ProducerRow.runs(row.value) {
      accepted = true
      try check(ProducerRow.value(runs) == row.value, "producer runs that change")
      for run in runs {
        for asked in [run.producerSequence, run.lastProducerSequence, 0, .max, random.next()] {
          guard let place = run.place(asked) else { continue }
          try check(place >= run.sequence && place <= run.lastSequence, "place \(place) of \(run)")
        }
      }
    }
    if let key = RecordKey.parse(row.key) {
      accepted = true
      try check(RecordKey.key(key.channel, key.first) == row.key, "record key")
    }
    return accepted
  }
}

/// Rows of table `tokens`, written here after their description in `Rows.swift`: a damaged row stands for
/// nothing, and no set of rows brings the accounts down.
struct TokenRowTarget: FuzzTarget {
  static let name = "token-rows"
  static let wantedShare = 50_000
  let corpus: [[UInt8]]
  private static let tenant = TenantID(org: "acme")
  private static let now = Now(monotonic: .zero, wall: TokenSeeds.wall)
  private static let tenantRow = Row(
    key: [UInt8(ascii: "t")] + bigEndianBytes(tenant.value),
    value: [1, 1] + bigEndianBytes(UInt32(1)) + (0..<4).flatMap { bigEndianBytes(UInt64($0)) }
      + counted(Array("acme".utf8)))

  private static func counted(_ bytes: [UInt8]) -> [UInt8] {
    bigEndianBytes(UInt32(bytes.count)) + bytes
  }

  init() {
    func key(_ kind: String, _ rest: [UInt8]) -> [UInt8] {
      Array(kind.utf8) + bigEndianBytes(TokenRowTarget.tenant.value) + rest
    }
    let channel = [UInt8](repeating: 3, count: 16)
    let digest = [UInt8](repeating: 4, count: 32)
    let wall = bigEndianBytes(TokenSeeds.wall.nanoseconds)
    let later = bigEndianBytes(TokenSeeds.wall.nanoseconds + 1_000_000_000_000)
    let none = bigEndianBytes(Int64(0))
    let counted = TokenRowTarget.counted
    let rows = [
      TokenRowTarget.tenantRow,
      Row(
        key: key("k", bigEndianBytes(UInt64(7))),
        value: [1] + digest + [31] + wall + later + none + wall + counted(Array("label".utf8))),
      Row(key: key("c", channel), value: [1] + wall + counted(Array("acme/ns/c1".utf8))),
      Row(
        key: key("g", channel + bigEndianBytes(TenantID(org: "b").value)),
        value: [1, 1] + wall + counted([UInt8(ascii: "b")])),
      Row(
        key: key("i", bigEndianBytes(UInt64(8))),
        value: [1] + digest + channel + bigEndianBytes(UInt32(5)) + bigEndianBytes(UInt32(1)) + wall
          + later),
      Row(
        key: key("j", bigEndianBytes(UInt64(9))),
        value: [1, 1] + channel + bigEndianBytes(UInt64(5)) + wall + counted(Array("me".utf8))
          + counted([1, 2, 3]) + counted([])),
      Row(
        key: UsageRow.key(
          tenant: TokenRowTarget.tenant, day: UsageRow.day(TokenSeeds.wall), writer: 3),
        value: UsageRow.value(messages: 1, bytes: 2, tokens: 3)),
    ]
    corpus = rows.map { [UInt8($0.key.count)] + $0.key + $0.value }
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let length = input.first else { return false }
    let split = min(1 + Int(length), input.count)
    let row = Row(key: Array(input[1..<split]), value: Array(input[split...]))
    let rows = [TokenRowTarget.tenantRow, row]
    let engine = TokenEngine(
      rows: rows, settings: TokenSettings(writer: 3), keys: TokenSeeds.keys, at: TokenRowTarget.now)
    try check(
      engine.damagedRows <= rows.count, "\(engine.damagedRows) of \(rows.count) rows are damaged")
    try check(engine.tenantCount <= 2, "\(engine.tenantCount) tenants of two rows")
    return engine.damagedRows == 0
  }
}

/// The marks that tell a torn log from a damaged one.
struct HeadMarkTarget: FuzzTarget {
  static let name = "head-mark"
  static let wantedShare = 5_000
  let corpus: [[UInt8]] = [0, 1, 900, UInt64.max].map {
    HeadMark(sequence: $0, boot: BootID(high: 1, low: 2), device: 3).encoded
  }

  init() {}

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let bytes = Array(input)
    guard let mark = HeadMark(bytes) else {
      try check(!corpus.contains(bytes), "a mark of ours was refused")
      return false
    }
    try check(corpus.contains(bytes) && mark.encoded == bytes, "a damaged mark passes its checksum")
    return true
  }
}

/// base32, base64url, hex, durations, sizes, endpoints.
struct TextTarget: FuzzTarget {
  static let name = "text"
  static let wantedShare = 50_000
  let corpus: [[UInt8]]
  let words: [[UInt8]] = [
    "=", "-", "_", "+", "/", "0", "1", "A", "z", "Z", "ns", "KiB", "d", "h", ":", "unix:", "[",
  ]
  .map { Array($0.utf8) }

  init() {
    let sizes = [0, 1, 2, 3, 4, 5, 16, 33]
    let made = sizes.flatMap { n in
      let bytes = (0..<n).map { UInt8($0 * 37 & 255) }
      return [Text.hex(bytes), Text.base32(bytes), Text.base64url(bytes)]
    }
    let others = [
      "90s", "1h30m", "250ms", "0", "64KiB", "1GB", "4096", "127.0.0.1:5000", "[::1]:80",
      "unix:/a/b",
    ]
    corpus = (made + others).map { Array($0.utf8) }
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let text = String(decoding: input, as: UTF8.self)
    var accepted = false
    if let bytes = Text.hexDecode(text) {
      accepted = true
      try check(Text.hex(bytes) == text.lowercased(), "hex \(text)")
    }
    if let bytes = Text.base32Decode(text) {
      accepted = true
      try check(Text.base32(bytes) == text, "a second base32 form: \(text)")
    }
    if let bytes = Text.base64urlDecode(text) {
      accepted = true
      try check(Text.base64url(bytes) == text, "a second base64url form: \(text)")
    }
    return try TextForms.check(text) || accepted
  }
}
