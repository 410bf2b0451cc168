public import Base

/// Kinds of rows in table `state`: the first byte of the key, the channel id (16) after it.
public enum StateKind {
  /// Head of the channel; the key ends after the channel id.
  public static let head = UInt8(ascii: "h")
  /// Name of the channel: family byte, canonical name in UTF-8. The key ends after the channel id.
  public static let name = UInt8(ascii: "n")
  /// A commit that won: generation u32, epoch u64.
  public static let commit = UInt8(ascii: "c")
  /// What one producer has in one record: producer u64, its first producer sequence there u64.
  public static let producer = UInt8(ascii: "p")
  /// Who of another org may use the channel (`GrantRow`).
  public static let grant = GrantRow.kind

  /// The kinds that `Effect.load` reads, in this order.
  public static let loaded: [UInt8] = [head, name, commit, grant]

  /// Kind and channel id.
  public static func prefix(_ kind: UInt8, _ channel: ChannelID) -> [UInt8] {
    [kind] + channel.bytes
  }
}

/// Keys of table `records`: channel id (16), first sequence (8).
public enum RecordKey {
  public static func key(_ channel: ChannelID, _ first: UInt64) -> [UInt8] {
    channel.bytes + bigEndianBytes(first)
  }
  /// nil when the key has another length.
  public static func parse(_ key: [UInt8]) -> (channel: ChannelID, first: UInt64)? {
    guard key.count == 24 else { return nil }
    return unsafe key.withUnsafeBytes { b in
      unsafe (
        ChannelID(
          high: UInt64(bigEndian: b.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
          low: UInt64(bigEndian: b.loadUnaligned(fromByteOffset: 8, as: UInt64.self))),
        UInt64(bigEndian: b.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
      )
    }
  }
}

/// Keys of table `slots`: slot (2), log index (8); the value is channel id (16), first sequence (8): the
/// key of a record. A row whose record is gone stands for one that was deleted.
public enum SlotRow {
  public static func key(_ slot: UInt16, _ index: UInt64) -> [UInt8] {
    bigEndianBytes(slot) + bigEndianBytes(index)
  }
}

/// The head row of a channel: where it stands, and what must outlive its records.
///
///     0  u8   format version, 1
///     1  u8   flags: 1 deleted, 2 there is an opener
///     2  u64  last sequence
///    10  16   hash of the last record (XXH3-128, high then low)
///    26  u32  generation
///    30  u64  opener: tenant       who sent the epoch-0 commit of this generation
///    38  u64  opener: key
///    46  u64  opener: session      in the run below
///    54  u64  opener: run          the writer id of the process that saw it
///    62  u64  oldest kept sequence (last + 1 when nothing is kept)
///    70  u64  commit floor: lower epochs of this generation are forgotten and refused
///    78  u64  payload bytes kept
///    86  u64  payload bytes ever
///
/// All integers big-endian; 94 bytes.
public struct HeadRow: Sendable, Equatable {
  public static let size = 94
  public var deleted = false
  public var last: UInt64 = 0
  public var hash = RecordHash()
  public var generation: UInt32 = 0
  public var opener: Opener?
  public var oldest: UInt64 = 1
  public var commitFloor: UInt64 = 0
  public var bytesKept: UInt64 = 0
  public var bytesEver: UInt64 = 0
  public init() {}

  /// Who opened a generation.
  public struct Opener: Sendable, Equatable {
    public var tenant: TenantID
    public var key: RecordID
    public var session: SessionID
    public var run: UInt64
  }

  public static func key(_ channel: ChannelID) -> [UInt8] {
    StateKind.prefix(StateKind.head, channel)
  }

  public var encoded: [UInt8] {
    var w = ByteWriter(capacity: HeadRow.size)
    encode(into: &w)
    return w.array
  }

  func encode(into w: inout ByteWriter) {
    w.append(1)
    w.append((deleted ? 1 : 0) | (opener != nil ? 2 : 0))
    w.append(bigEndian: last)
    w.append(bigEndian: hash.high)
    w.append(bigEndian: hash.low)
    w.append(bigEndian: generation)
    w.append(bigEndian: opener?.tenant.value ?? 0)
    w.append(bigEndian: opener?.key.value ?? 0)
    w.append(bigEndian: opener?.session.value ?? 0)
    w.append(bigEndian: opener?.run ?? 0)
    w.append(bigEndian: oldest)
    w.append(bigEndian: commitFloor)
    w.append(bigEndian: bytesKept)
    w.append(bigEndian: bytesEver)
  }

  public init(decoding bytes: [UInt8]) throws(ReadError) {
    var row = HeadRow()
    try unsafe bytes.borrowBytes { (b) throws(ReadError) in
      var r = unsafe ByteReader(b)
      guard try r.byte() == 1 else { throw .malformed }
      let flags = try r.byte()
      row.deleted = flags & 1 != 0
      row.last = try r.bigEndian()
      row.hash = RecordHash(high: try r.bigEndian(), low: try r.bigEndian())
      row.generation = try r.bigEndian()
      let opener = Opener(
        tenant: TenantID(try r.bigEndian()), key: RecordID(try r.bigEndian()),
        session: SessionID(try r.bigEndian()), run: try r.bigEndian())
      if flags & 2 != 0 { row.opener = opener }
      row.oldest = try r.bigEndian()
      row.commitFloor = try r.bigEndian()
      row.bytesKept = try r.bigEndian()
      row.bytesEver = try r.bigEndian()
      // Counts that no channel reaches: taken for real, the next message would overflow them.
      let bound: UInt64 = 1 << 62
      guard r.atEnd, row.oldest >= 1, row.last < bound, row.oldest <= row.last + 1,
        row.bytesKept < bound, row.bytesEver < bound
      else { throw .malformed }
    }
    self = row
  }
}

/// A row of kind `commit`: `c`, channel id (16), generation u32, epoch u64; the value is sequence u64,
/// digest (16), wall clock of its record in nanoseconds i64. All big-endian.
public struct CommitRow: Sendable, Equatable {
  public var generation: UInt32
  public var epoch: UInt64
  public var sequence: UInt64
  public var digest: (UInt64, UInt64)
  public var wall: Instant

  public static func == (a: CommitRow, b: CommitRow) -> Bool {
    a.generation == b.generation && a.epoch == b.epoch && a.sequence == b.sequence
      && a.digest == b.digest && a.wall == b.wall
  }

  public init(
    generation: UInt32, epoch: UInt64, sequence: UInt64, digest: (UInt64, UInt64), wall: Instant
  ) {
    self.generation = generation
    self.epoch = epoch
    self.sequence = sequence
    self.digest = digest
    self.wall = wall
  }

  public static func key(_ channel: ChannelID, generation: UInt32, epoch: UInt64) -> [UInt8] {
    StateKind.prefix(StateKind.commit, channel) + bigEndianBytes(generation) + bigEndianBytes(epoch)
  }

  public var value: [UInt8] {
    bigEndianBytes(sequence) + bigEndianBytes(digest.0) + bigEndianBytes(digest.1)
      + bigEndianBytes(wall.nanoseconds)
  }

  public init(_ row: Row) throws(ReadError) {
    guard row.key.count == 29, row.value.count == 32 else { throw .malformed }
    generation = UInt32(bigEndianBytes: row.key[17..<21])
    epoch = UInt64(bigEndianBytes: row.key[21...])
    sequence = UInt64(bigEndianBytes: row.value[..<8])
    digest = (
      UInt64(bigEndianBytes: row.value[8..<16]), UInt64(bigEndianBytes: row.value[16..<24])
    )
    wall = Instant(nanoseconds: Int64(bigEndianBytes: row.value[24...]))
  }
}

/// Consecutive producer sequences that stand at consecutive sequences of the channel.
public struct ProducerRun: Sendable, Equatable {
  public var producerSequence: UInt64
  public var sequence: UInt64
  public var count: UInt32

  /// Where a producer sequence stands, nil when it is not in this run.
  public func place(_ p: UInt64) -> UInt64? {
    p >= producerSequence && p - producerSequence < UInt64(count)
      ? sequence + (p - producerSequence) : nil
  }
  public var lastProducerSequence: UInt64 { producerSequence &+ UInt64(count) &- 1 }
  public var lastSequence: UInt64 { sequence &+ UInt64(count) &- 1 }
}

/// A row of kind `producer`: `p`, channel id (16), producer u64, first producer sequence u64; the value is
/// the producer's runs in one record, each producer sequence u64, sequence u64, count u32, big-endian.
/// It answers a retry without reading the record.
public enum ProducerRow {
  /// Bytes of the key that name channel and producer.
  public static let prefix = 25

  public static func key(_ channel: ChannelID, _ producer: UInt64, _ first: UInt64) -> [UInt8] {
    StateKind.prefix(StateKind.producer, channel) + bigEndianBytes(producer) + bigEndianBytes(first)
  }

  public static func value(_ runs: [ProducerRun]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(runs.count * 20)
    for run in runs {
      out +=
        bigEndianBytes(run.producerSequence) + bigEndianBytes(run.sequence)
        + bigEndianBytes(run.count)
    }
    return out
  }

  public static func runs(_ value: [UInt8]) throws(ReadError) -> [ProducerRun] {
    guard !value.isEmpty, value.count % 20 == 0 else { throw .malformed }
    return try unsafe value.borrowBytes { (b) throws(ReadError) in
      var r = unsafe ByteReader(b)
      var runs: [ProducerRun] = []
      while !r.atEnd {
        let run = ProducerRun(
          producerSequence: try r.bigEndian(), sequence: try r.bigEndian(), count: try r.bigEndian()
        )
        guard run.count > 0, run.producerSequence <= .max - UInt64(run.count),
          run.sequence <= .max - UInt64(run.count)
        else { throw .malformed }
        runs.append(run)
      }
      return runs
    }
  }
}

/// The value of a name row.
enum NameRow {
  static func key(_ channel: ChannelID) -> [UInt8] { StateKind.prefix(StateKind.name, channel) }
  static func value(_ ref: ChannelRef) -> [UInt8] { [ref.family.rawValue] + Array(ref.name.utf8) }
}
