public import Base
internal import Digest

/// XXH3-128 of a whole record: the next record of the channel names it. All zero before the first.
public struct RecordHash: Sendable, Equatable {
  public var high: UInt64
  public var low: UInt64
  public init(high: UInt64 = 0, low: UInt64 = 0) {
    self.high = high
    self.low = low
  }
  /// Of a record's bytes.
  public init(of bytes: UnsafeRawBufferPointer) {
    let h = unsafe xxh3_128(bytes)
    self.init(high: h.high, low: h.low)
  }
}

/// Why a record is not served.
public enum RecordError: Error, Equatable, Sendable {
  /// The bytes end inside the record, or go on after it.
  case truncated
  /// A format version this program does not know.
  case version(UInt8)
  /// The checksum over channel id and record differs.
  case checksum
  /// It stands under another key than its first sequence, or the key is none.
  case misplaced
  /// Counts, kinds or lengths that no writer makes.
  case malformed
}

/// One message of a record, as it is stored.
public struct RecordMessage: Sendable, Equatable {
  public var type: UInt8
  public var mls: MLSKind
  public var hasSuffix: Bool
  public var generation: UInt32
  public var epoch: UInt64
  public var producer: UInt64
  public var producerSequence: UInt64
  public var tenant: TenantID
  /// The frame as it is delivered: gRPC prefix and message. Stored without the prefix.
  public var frame: Bytes
}

/// A record: 1..n consecutive messages of one channel, written as one value under channel id and first
/// sequence.
///
///     0  u8   format version, 1
///     1  u8   flags, 0
///     2  u64  first sequence
///    10  u32  messages
///    14  u64  ownership epoch
///    22  u64  slot log index
///    30  i64  wall clock of the commit window, nanoseconds since 1970
///    38  16   hash of the channel's previous record (high, low)
///    54       messages, each:
///               0  u8   session message type
///               1  u8   MLS kind
///               2  u8   flags: 1 the payload ends in an 8-byte suffix that holds the sequence
///               3  u32  generation
///               7  u64  MLS epoch
///              15  u64  producer
///              23  u64  producer sequence
///              31  u64  tenant of the publisher
///              39  u32  length
///              43       bytes (the frame without its gRPC prefix)
///   end  u32  CRC-32C over the channel id (16) and everything before
///
/// All integers big-endian.
public struct RecordHeader: Sendable, Equatable {
  public static let size = 54
  public static let messageHead = 43
  public static let version: UInt8 = 1
  /// Bytes of the gRPC prefix that a frame has and a record leaves out.
  public static let framePrefix = 5
  public var first: UInt64
  public var count: UInt32
  public var ownership: UInt64
  public var slotIndex: UInt64
  public var wall: Instant
  public var previous: RecordHash

  public var last: UInt64 { first &+ UInt64(count) &- 1 }
}

/// Builds records in one buffer that is used again and again.
struct RecordWriter: ~Copyable {
  private var out: ByteWriter

  init() { out = ByteWriter(capacity: 64 << 10) }

  mutating func begin(_ header: RecordHeader) {
    out.removeAll()
    out.append(RecordHeader.version)
    out.append(0)
    out.append(bigEndian: header.first)
    out.append(bigEndian: header.count)
    out.append(bigEndian: header.ownership)
    out.append(bigEndian: header.slotIndex)
    out.append(bigEndian: header.wall.nanoseconds)
    out.append(bigEndian: header.previous.high)
    out.append(bigEndian: header.previous.low)
  }

  mutating func append(_ p: borrowing Publication, generation: UInt32, tenant: TenantID) {
    let length = p.frame.count - RecordHeader.framePrefix
    let at = unsafe out.reserve(RecordHeader.messageHead + length)
    unsafe at.storeBytes(of: p.type, toByteOffset: 0, as: UInt8.self)
    unsafe at.storeBytes(of: p.mls.rawValue, toByteOffset: 1, as: UInt8.self)
    unsafe at.storeBytes(of: p.hasSuffix ? 1 : 0, toByteOffset: 2, as: UInt8.self)
    unsafe at.storeBytes(of: generation.bigEndian, toByteOffset: 3, as: UInt32.self)
    unsafe at.storeBytes(of: p.epoch.bigEndian, toByteOffset: 7, as: UInt64.self)
    unsafe at.storeBytes(of: p.producer.bigEndian, toByteOffset: 15, as: UInt64.self)
    unsafe at.storeBytes(of: p.producerSequence.bigEndian, toByteOffset: 23, as: UInt64.self)
    unsafe at.storeBytes(of: tenant.value.bigEndian, toByteOffset: 31, as: UInt64.self)
    unsafe at.storeBytes(of: UInt32(length).bigEndian, toByteOffset: 39, as: UInt32.self)
    unsafe (at + RecordHeader.messageHead).copyMemory(
      from: p.frame.base + RecordHeader.framePrefix, byteCount: length)
    out.advance(RecordHeader.messageHead + length)
  }

  /// Closes the record with its checksum, hands out its bytes and returns its hash.
  mutating func finish(
    _ channel: ChannelID, _ body: (UnsafeRawBufferPointer) -> Void
  ) -> RecordHash {
    let crc = unsafe out.withUnsafeBytes { unsafe RecordReader.checksum(channel, $0) }
    out.append(bigEndian: crc)
    return unsafe out.withUnsafeBytes { (b) in
      unsafe body(b)
      return unsafe RecordHash(of: b)
    }
  }
}

/// Reads records as stored: checks everything, never traps on what it is given.
public enum RecordReader {
  static func checksum(_ channel: ChannelID, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
    let seed = unsafe withUnsafeBytes(of: (channel.high.bigEndian, channel.low.bigEndian)) {
      unsafe crc32c($0)
    }
    return unsafe crc32c(bytes, continuing: seed)
  }

  /// Reads a row of table `records`.
  /// - Parameter body: called for each message in order, after all of the record was found right and
  ///   in its place; not at all when this throws.
  @discardableResult
  public static func read(
    _ row: Row, channel: ChannelID, _ body: (UInt64, RecordMessage) -> Void
  ) throws(RecordError) -> RecordHeader {
    guard let key = RecordKey.parse(row.key), key.channel == channel else { throw .misplaced }
    return try unsafe row.value.borrowBytes { (b) throws(RecordError) in
      try unsafe read(b, channel: channel, first: key.first, body)
    }
  }

  /// The hash that the next record of the channel names.
  public static func hash(_ row: Row) -> RecordHash {
    unsafe row.value.withUnsafeBytes { unsafe RecordHash(of: $0) }
  }

  /// Header only, checksum checked.
  public static func header(_ row: Row, channel: ChannelID) throws(RecordError) -> RecordHeader {
    guard let key = RecordKey.parse(row.key), key.channel == channel else { throw .misplaced }
    let header = try unsafe row.value.borrowBytes { (b) throws(RecordError) in
      try unsafe head(b, channel: channel)
    }
    guard header.first == key.first else { throw .misplaced }
    return header
  }

  private static func head(
    _ b: UnsafeRawBufferPointer, channel: ChannelID
  ) throws(RecordError) -> RecordHeader {
    guard b.count >= RecordHeader.size + 4 else { throw .truncated }
    guard unsafe b[0] == RecordHeader.version else { throw .version(unsafe b[0]) }
    let body = unsafe UnsafeRawBufferPointer(rebasing: b[0..<b.count - 4])
    let crc = unsafe UInt32(
      bigEndian: b.loadUnaligned(fromByteOffset: b.count - 4, as: UInt32.self))
    guard unsafe checksum(channel, body) == crc else { throw .checksum }
    func word(_ at: Int) -> UInt64 {
      unsafe UInt64(bigEndian: b.loadUnaligned(fromByteOffset: at, as: UInt64.self))
    }
    let count = unsafe UInt32(bigEndian: b.loadUnaligned(fromByteOffset: 10, as: UInt32.self))
    let first = word(2)
    guard unsafe b[1] == 0, count > 0, first > 0, first <= .max - UInt64(count),
      Int(count) <= body.count / RecordHeader.messageHead
    else { throw .malformed }
    return RecordHeader(
      first: first, count: count, ownership: word(14), slotIndex: word(22),
      wall: Instant(nanoseconds: Int64(bitPattern: word(30))),
      previous: RecordHash(high: word(38), low: word(46)))
  }

  private static func read(
    _ b: UnsafeRawBufferPointer, channel: ChannelID, first: UInt64,
    _ body: (UInt64, RecordMessage) -> Void
  ) throws(RecordError) -> RecordHeader {
    let header = try unsafe head(b, channel: channel)
    guard header.first == first else { throw .misplaced }
    let end = b.count - 4
    var at = RecordHeader.size
    // Lengths are walked before anything is handed out.
    for _ in 0..<header.count {
      guard end - at >= RecordHeader.messageHead else { throw .malformed }
      let length = unsafe Int(
        UInt32(bigEndian: b.loadUnaligned(fromByteOffset: at + 39, as: UInt32.self)))
      guard unsafe MLSKind(rawValue: b[at + 1]) != nil,
        end - at - RecordHeader.messageHead >= length
      else { throw .malformed }
      at += RecordHeader.messageHead + length
    }
    guard at == end else { throw .malformed }
    at = RecordHeader.size
    var sequence = header.first
    for _ in 0..<header.count {
      let length = unsafe Int(
        UInt32(bigEndian: b.loadUnaligned(fromByteOffset: at + 39, as: UInt32.self)))
      unsafe body(sequence, message(b, at, length))
      at += RecordHeader.messageHead + length
      sequence += 1
    }
    return header
  }

  private static func message(
    _ b: UnsafeRawBufferPointer, _ at: Int, _ length: Int
  ) -> RecordMessage {
    func word(_ offset: Int) -> UInt64 {
      unsafe UInt64(bigEndian: b.loadUnaligned(fromByteOffset: at + offset, as: UInt64.self))
    }
    let frame = unsafe Bytes(count: length + RecordHeader.framePrefix) { out in
      unsafe out[0] = 0
      unsafe out.storeBytes(
        of: UInt32(truncatingIfNeeded: length).bigEndian, toByteOffset: 1, as: UInt32.self)
      if length > 0 {
        unsafe (out.baseAddress! + RecordHeader.framePrefix).copyMemory(
          from: b.baseAddress! + at + RecordHeader.messageHead, byteCount: length)
      }
    }
    return unsafe RecordMessage(
      type: b[at], mls: MLSKind(rawValue: b[at + 1]) ?? .other, hasSuffix: b[at + 2] & 1 != 0,
      generation: UInt32(bigEndian: b.loadUnaligned(fromByteOffset: at + 3, as: UInt32.self)),
      epoch: word(7), producer: word(15), producerSequence: word(23), tenant: TenantID(word(31)),
      frame: frame)
  }
}
