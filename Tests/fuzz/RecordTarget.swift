import Base
import Digest
import Engine

/// Archive records, written here after their description in `RecordHeader`: a reader that drifts from it
/// fails as one that crashes does.
struct RecordTarget: FuzzTarget {
  static let name = "record"
  static let wantedShare = 10_000
  static let channel = ChannelID(high: 0x0123_4567_89ab_cdef, low: 0xfedc_ba98_7654_3210)
  let corpus: [[UInt8]]
  private let ours: Set<[UInt8]>

  init() {
    var made: [[UInt8]] = []
    for (first, frames) in [
      (1, [0]), (1, [40]), (7, [10, 0, 3]), (100, [200, 1, 1, 60]), (1 << 40, [1, 2]),
    ] {
      var out: [UInt8] =
        [1, 0] + bigEndianBytes(UInt64(first)) + bigEndianBytes(UInt32(frames.count))
      out += bigEndianBytes(UInt64(3)) + bigEndianBytes(UInt64(9)) + bigEndianBytes(Int64(1) << 60)
      out += bigEndianBytes(UInt64(11)) + bigEndianBytes(UInt64(12))
      for (i, count) in frames.enumerated() {
        out += RecordTarget.message(i == 0 ? .commit : .application, count: count, salt: UInt64(i))
      }
      made.append(RecordTarget.sealed(out))
    }
    corpus = made
    ours = Set(made)
  }

  private static func message(_ mls: MLSKind, count: Int, salt: UInt64) -> [UInt8] {
    var out: [UInt8] = [1, mls.rawValue, count >= 8 ? 1 : 0] + bigEndianBytes(UInt32(2))
    for value in [salt, 5, salt + 6, 7] { out += bigEndianBytes(value) }
    return out + bigEndianBytes(UInt32(count)) + [UInt8](repeating: 0xee, count: count)
  }

  /// With the checksum that belongs to the bytes.
  static func sealed(_ body: [UInt8]) -> [UInt8] {
    let seed = crc32c(channel.bytes)
    return body + bigEndianBytes(crc32c(body, continuing: seed))
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let channel = RecordTarget.channel
    let (value, isSealed) = half(of: input, &random) { RecordTarget.sealed($0) }
    // The key as the record's own first sequence has it, or another.
    var first = value.count >= 10 ? UInt64(bigEndianBytes: value[2..<10]) : 0
    if random.oneIn(16) { first = first &+ 1 }
    var key = RecordKey.key(channel, first)
    if random.oneIn(32) { key.removeLast(random.below(24) + 1) }
    let row = Row(key: key, value: value)
    let head = try? RecordReader.header(row, channel: channel)
    var messages: [(UInt64, RecordMessage)] = []
    guard let header = try? RecordReader.read(row, channel: channel, { messages.append(($0, $1)) })
    else {
      try check(messages.isEmpty, "messages of a refused record were handed out")
      return false
    }
    try check(isSealed || ours.contains(value), "a damaged record passes its checksum")
    try check(head == header, "two readers, two headers")
    try check(messages.count == Int(header.count) && header.first == first, "\(header)")
    for (i, (sequence, message)) in messages.enumerated() {
      try check(sequence == header.first + UInt64(i), "sequence \(sequence)")
      try check(
        message.frame.count >= RecordHeader.framePrefix, "a frame of \(message.frame.count)")
    }
    try check(
      written(header, messages.map(\.1), like: value) == value, "a record that reads as another")
    var verifier = ChannelVerifier(channel)
    _ = verifier.feed(row)
    _ = verifier.feed(row)
    return true
  }

  /// Flag bits without a meaning are taken over.
  private func written(
    _ header: RecordHeader, _ messages: [RecordMessage], like value: [UInt8]
  ) -> [UInt8] {
    var out: [UInt8] = [1, 0] + bigEndianBytes(header.first) + bigEndianBytes(header.count)
    out += bigEndianBytes(header.ownership) + bigEndianBytes(header.slotIndex)
    out += bigEndianBytes(header.wall.nanoseconds)
    out += bigEndianBytes(header.previous.high) + bigEndianBytes(header.previous.low)
    for m in messages {
      let flags = out.count + 2 < value.count ? value[out.count + 2] & 0xfe : 0
      out += [m.type, m.mls.rawValue, flags | (m.hasSuffix ? 1 : 0)] + bigEndianBytes(m.generation)
      for word in [m.epoch, m.producer, m.producerSequence, m.tenant.value] {
        out += bigEndianBytes(word)
      }
      out += bigEndianBytes(UInt32(m.frame.count - 5)) + m.frame.array(5..<m.frame.count)
    }
    return RecordTarget.sealed(out)
  }
}
