public import Base
internal import Codec
internal import Digest

/// Who issued a record, and which of its changes it is. A relay counts on its own: `version` decides
/// between records of one agent, `sequence` tells peers what they have not seen. Both are hybrid counters
/// in the range of nanoseconds since 1970, issued only by the relay that is the agent's home.
public struct Stamp: Equatable, Hashable, Sendable {
  public var version: UInt64
  /// Relay id of the home.
  public var origin: String
  /// A life of that relay's data. A higher one ends every record of the lower ones.
  public var incarnation: UInt64
  public var sequence: UInt64

  public init(version: UInt64, origin: String, incarnation: UInt64, sequence: UInt64) {
    self.version = version
    self.origin = origin
    self.incarnation = incarnation
    self.sequence = sequence
  }
}

/// The unit of merging: everything known of one agent, under its home's stamp.
public struct Record: Equatable, Sendable {
  public var stamp: Stamp
  /// The agent is gone. The body then holds its peer_id and nothing else.
  public var isTombstone: Bool
  /// The agent has proved with a signature that the peer_id is its own.
  public var isProved: Bool
  /// Wall nanoseconds at its home; shown, decides nothing.
  public var registeredAt: Int64
  /// The upstream relay whose entry its home adopted; "" for an agent of the home's own.
  public var source: String
  /// `Registration.encoded()`.
  public var body: Bytes

  public init(
    stamp: Stamp, isTombstone: Bool = false, isProved: Bool = false, registeredAt: Int64,
    source: String = "", body: Bytes
  ) {
    self.stamp = stamp
    self.isTombstone = isTombstone
    self.isProved = isProved
    self.registeredAt = registeredAt
    self.source = source
    self.body = body
  }

  /// The end of an agent's entry.
  public static func tombstone(
    _ peerID: String, _ stamp: Stamp, registeredAt: Int64, isProved: Bool = false,
    source: String = ""
  ) -> Record {
    Record(
      stamp: stamp, isTombstone: true, isProved: isProved, registeredAt: registeredAt,
      source: source, body: Registration(peerID: peerID, skills: []).encoded())
  }

  /// "" when the body does not begin with one.
  public var peerID: String {
    unsafe body.withUnsafeBytes { bytes in
      unsafe String(decoding: Record.peerID(in: bytes), as: UTF8.self)
    }
  }

  /// The bytes of field 1 at the front of a canonical body.
  static func peerID(in body: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    var r = unsafe WireReader(body)
    guard let tag = try? r.nextTag(), tag == 10, let range = try? r.delimited() else {
      return unsafe UnsafeRawBufferPointer(rebasing: body[0..<0])
    }
    return unsafe UnsafeRawBufferPointer(rebasing: body[range])
  }

  public func registration() throws(Fault) -> Registration {
    try unsafe body.withUnsafeBytes { part throws(Fault) in
      try unsafe Registration(decoding: part)
    }
  }

  /// Over everything that peers must agree on. XXH64: finds damage and differences, proves nothing
  /// against who wants a collision, which would only make peers differ about that agent's own entry.
  public var digest: UInt64 {
    unsafe body.withUnsafeBytes { bytes in
      unsafe Record.digest(
        version: stamp.version, incarnation: stamp.incarnation, sequence: stamp.sequence,
        flags: flags, registeredAt: registeredAt, origin: stamp.origin, source: source, body: bytes)
    }
  }

  var flags: UInt8 { (isTombstone ? 1 : 0) | (isProved ? 2 : 0) }

  static func digest(
    version: UInt64, incarnation: UInt64, sequence: UInt64, flags: UInt8, registeredAt: Int64,
    origin: String, source: String, body: UnsafeRawBufferPointer
  ) -> UInt64 {
    let head = [
      version, incarnation, sequence, UInt64(flags), UInt64(bitPattern: registeredAt),
      xxh64(utf8: origin), xxh64(utf8: source),
    ].map(\.bigEndian)
    return unsafe head.withUnsafeBytes { unsafe xxh64(body, seed: xxh64($0)) }
  }

  // MARK: the merge

  /// Whether this record replaces `other` of the same agent: the higher version; of equal ones the
  /// tombstone; then the larger digest; then the larger bytes. A total order without clock or place, so
  /// that merging is commutative, associative and idempotent.
  public func wins(over other: Record, _ faults: RegistryFaults = []) -> Bool {
    if faults.contains(.wallClock), registeredAt != other.registeredAt {
      return registeredAt > other.registeredAt
    }
    if faults.contains(.arrivalOrder), stamp.version == other.stamp.version { return self != other }
    if stamp.version != other.stamp.version { return stamp.version > other.stamp.version }
    if isTombstone != other.isTombstone { return isTombstone }
    let (mine, its) = (digest, other.digest)
    if mine != its { return mine > its }
    return row.lexicographicallyPrecedes(other.row) == false && self != other
  }

  /// The one that stays.
  public static func merged(_ a: Record, _ b: Record) -> Record { b.wins(over: a) ? b : a }

  // MARK: bounds

  /// What must hold of a record from anywhere. `wall`: now, by this node's clock, against counters from
  /// a far future, which nobody could ever outbid.
  public func check(wall: Instant) throws(Fault) {
    if stamp.origin.isEmpty || stamp.origin.utf8.count > Limits.relayIDBytes
      || source.utf8.count > Limits.relayIDBytes
    {
      throw Fault(.badRequest, "a relay id is empty or over \(Limits.relayIDBytes) bytes")
    }
    let last = Record.lastCounter(wall: wall)
    if stamp.version == 0 || stamp.version > last || stamp.sequence == 0 || stamp.sequence > last
      || stamp.incarnation == 0 || stamp.incarnation > last
    {
      throw Fault(.badRequest, "the stamp of a record is out of range")
    }
    if body.count > Limits.registryRecordBytes {
      throw Fault(.tooLarge, "a registration is over \(Limits.registryRecordBytes) bytes")
    }
    let registration = try registration()
    try registration.checkBounds()
    if registration.peerID.isEmpty { throw Fault(.badRequest, "peer_id is required") }
    if isTombstone != registration.skills.isEmpty {
      throw Fault(.badRequest, "a live record has skills, a tombstone has none")
    }
    // What peers compare are canonical bytes.
    if registration.encoded() != body { throw Fault(.badRequest, "the record is not canonical") }
  }

  /// The highest counter believed at this time.
  public static func lastCounter(wall: Instant) -> UInt64 {
    UInt64(clamping: (wall + .seconds(Int64(Limits.registryLeadSeconds))).nanoseconds)
  }

  // MARK: rows

  private static let format: UInt8 = 1

  /// As it stands in the store: format, flags, counters, names, body, and a CRC-32C over all of it.
  public var row: [UInt8] {
    var w = ByteWriter(capacity: body.count + 64 + stamp.origin.utf8.count + source.utf8.count)
    w.append(Record.format)
    w.append(flags)
    w.append(bigEndian: stamp.version)
    w.append(bigEndian: stamp.incarnation)
    w.append(bigEndian: stamp.sequence)
    w.append(bigEndian: registeredAt)
    w.append(bigEndian: UInt16(stamp.origin.utf8.count))
    w.append(utf8: stamp.origin)
    w.append(bigEndian: UInt16(source.utf8.count))
    w.append(utf8: source)
    w.append(bigEndian: UInt32(body.count))
    w.append(body)
    let crc = unsafe w.withUnsafeBytes { unsafe crc32c($0) }
    w.append(bigEndian: crc)
    return w.array
  }

  /// CRC-32C of the row without its own.
  public var checksum: UInt32 {
    unsafe row.withUnsafeBytes {
      unsafe UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: $0.count - 4, as: UInt32.self))
    }
  }

  /// Throws `damaged` unless the bytes are a whole row with the right CRC.
  public init(row bytes: UnsafeRawBufferPointer) throws(Fault) {
    guard let read = try? unsafe Record(reading: bytes) else {
      throw Fault(.damaged, "a registry row is not what was written")
    }
    self = read
  }

  public init(row bytes: [UInt8]) throws(Fault) {
    self = try unsafe bytes.withUnsafeBufferPointer { part throws(Fault) in
      try unsafe Record(row: UnsafeRawBufferPointer(part))
    }
  }

  private init(reading bytes: UnsafeRawBufferPointer) throws {
    guard bytes.count >= 4 else { throw ReadError.truncated }
    let whole = unsafe UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count - 4)])
    var tail = unsafe ByteReader(UnsafeRawBufferPointer(rebasing: bytes[(bytes.count - 4)...]))
    let crc = unsafe crc32c(whole)
    guard try tail.bigEndian(UInt32.self) == crc else { throw ReadError.malformed }
    var r = unsafe ByteReader(whole)
    guard try r.byte() == Record.format else { throw ReadError.malformed }
    let flags = try r.byte()
    guard flags < 4 else { throw ReadError.malformed }
    let version: UInt64 = try r.bigEndian()
    let incarnation: UInt64 = try r.bigEndian()
    let sequence: UInt64 = try r.bigEndian()
    registeredAt = try r.bigEndian()
    let origin = try Record.text(&r)
    source = try Record.text(&r)
    let count: UInt32 = try r.bigEndian()
    guard Int(count) <= Limits.registryRecordBytes else { throw ReadError.malformed }
    body = unsafe Bytes(try r.take(Int(count)))
    guard r.atEnd else { throw ReadError.malformed }
    stamp = Stamp(
      version: version, origin: origin, incarnation: incarnation, sequence: sequence)
    isTombstone = flags & 1 != 0
    isProved = flags & 2 != 0
    // The checksum vouches for the rest: it was canonical when it was written.
    guard !peerID.isEmpty else { throw ReadError.malformed }
  }

  private static func text(_ r: inout ByteReader) throws -> String {
    let count: UInt16 = try r.bigEndian()
    guard Int(count) <= Limits.relayIDBytes,
      let text = String(validating: try r.array(Int(count)), as: UTF8.self)
    else { throw ReadError.malformed }
    return text
  }
}
