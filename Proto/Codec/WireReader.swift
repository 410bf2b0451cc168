public import Base

/// Why bytes are not a protobuf message.
public enum WireError: Error, Equatable, Sendable {
  /// The bytes end inside a value, or a length points past the end.
  case truncated
  /// A varint of more than 64 bits, or text that is not UTF-8.
  case malformed
  /// Field number 0 or above 2^29 - 1, a group, or an unknown wire type.
  case badTag
  /// Messages nested deeper than `Limits.protoDepth`.
  case tooDeep
}

/// The wire types of protobuf that are served. Groups (3 and 4) are refused with `badTag`.
public enum WireType {
  public static let varint: UInt32 = 0
  public static let fixed64: UInt32 = 1
  public static let delimited: UInt32 = 2
  public static let fixed32: UInt32 = 5
}

/// Reads the protobuf wire format from borrowed bytes, front to back, every access checked.
///
/// Offsets are counted from the first byte of the whole buffer, also inside embedded messages.
/// Valid only while the bytes are.
/// SAFETY: who makes a reader marks that the bytes outlive it; 0 <= `at` <= `limit` <= their count.
@safe @frozen public struct WireReader {
  @usableFromInline let whole: UnsafeRawBufferPointer
  @usableFromInline var at: Int
  @usableFromInline var limit: Int
  @usableFromInline var depth: Int

  @inlinable public init(_ bytes: UnsafeRawBufferPointer) {
    unsafe whole = bytes
    at = 0
    limit = bytes.count
    depth = Limits.protoDepth
  }

  /// A reader of one part of `bytes`. Traps unless `range` lies inside: ranges come from a reader.
  @inlinable public init(_ bytes: UnsafeRawBufferPointer, range: Range<Int>) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= bytes.count, "range outside the bytes")
    unsafe whole = bytes
    at = range.lowerBound
    limit = range.upperBound
    depth = Limits.protoDepth
  }

  /// Offset of the next byte.
  @inlinable public var position: Int { at }
  /// Offset past the last byte of the message being read.
  @inlinable public var end: Int { limit }
  @inlinable public var atEnd: Bool { at == limit }

  /// The next field's tag (number << 3 | wire type), or 0 at the end of the message.
  @inlinable public mutating func nextTag() throws(WireError) -> UInt32 {
    if at == limit { return 0 }
    let first = unsafe whole[at]
    if first < 0x80 {
      at &+= 1
      return try Self.checkTag(UInt32(first))
    }
    let value = try uint64()
    guard value <= UInt64(UInt32.max) else { throw .badTag }
    return try Self.checkTag(UInt32(truncatingIfNeeded: value))
  }

  @inlinable static func checkTag(_ tag: UInt32) throws(WireError) -> UInt32 {
    let type = tag & 7
    if tag < 8 || !(type <= 2 || type == 5) { throw .badTag }
    return tag
  }

  /// A varint of at most ten bytes and 64 bits.
  @inlinable public mutating func uint64() throws(WireError) -> UInt64 {
    var next = at
    guard next < limit else { throw .truncated }
    let first = unsafe whole[next]
    next &+= 1
    if first < 0x80 {
      at = next
      return UInt64(first)
    }
    var value = UInt64(first & 0x7f)
    var shift: UInt64 = 7
    while true {
      guard next < limit else { throw .truncated }
      let byte = unsafe whole[next]
      next &+= 1
      // The tenth byte holds one bit.
      if shift == 63 && byte > 1 { throw .malformed }
      value |= UInt64(byte & 0x7f) &<< shift
      if byte < 0x80 { break }
      shift &+= 7
    }
    at = next
    return value
  }

  @inlinable public mutating func uint32() throws(WireError) -> UInt32 {
    UInt32(truncatingIfNeeded: try uint64())
  }
  @inlinable public mutating func int64() throws(WireError) -> Int64 {
    Int64(bitPattern: try uint64())
  }
  @inlinable public mutating func int32() throws(WireError) -> Int32 {
    Int32(truncatingIfNeeded: try uint64())
  }
  @inlinable public mutating func sint64() throws(WireError) -> Int64 {
    let v = try uint64()
    return Int64(bitPattern: v &>> 1) ^ -Int64(bitPattern: v & 1)
  }
  @inlinable public mutating func sint32() throws(WireError) -> Int32 {
    let v = try uint32()
    return Int32(bitPattern: v &>> 1) ^ -Int32(bitPattern: v & 1)
  }
  @inlinable public mutating func bool() throws(WireError) -> Bool { try uint64() != 0 }

  @inlinable public mutating func fixed64() throws(WireError) -> UInt64 {
    guard limit &- at >= 8 else { throw .truncated }
    defer { at &+= 8 }
    return unsafe UInt64(littleEndian: whole.loadUnaligned(fromByteOffset: at, as: UInt64.self))
  }
  @inlinable public mutating func fixed32() throws(WireError) -> UInt32 {
    guard limit &- at >= 4 else { throw .truncated }
    defer { at &+= 4 }
    return unsafe UInt32(littleEndian: whole.loadUnaligned(fromByteOffset: at, as: UInt32.self))
  }
  @inlinable public mutating func sfixed64() throws(WireError) -> Int64 {
    Int64(bitPattern: try fixed64())
  }
  @inlinable public mutating func sfixed32() throws(WireError) -> Int32 {
    Int32(bitPattern: try fixed32())
  }
  @inlinable public mutating func double() throws(WireError) -> Double {
    Double(bitPattern: try fixed64())
  }
  @inlinable public mutating func float() throws(WireError) -> Float {
    Float(bitPattern: try fixed32())
  }

  /// The offsets of a length-delimited value; the reader stands behind it afterwards.
  @inlinable public mutating func delimited() throws(WireError) -> Range<Int> {
    let length = try uint64()
    guard length <= UInt64(limit &- at) else { throw .truncated }
    let start = at
    at = start &+ Int(length)
    return start..<at
  }

  @inlinable public mutating func bytes() throws(WireError) -> [UInt8] {
    let range = try delimited()
    return unsafe [UInt8](UnsafeRawBufferPointer(rebasing: whole[range]))
  }

  /// Text, which must be UTF-8.
  @inlinable public mutating func string() throws(WireError) -> String {
    let range = try delimited()
    let part = unsafe UnsafeRawBufferPointer(rebasing: whole[range])
    // Checking needs several times as long as making the text.
    if unsafe Self.isASCII(part) { return unsafe String(decoding: part, as: UTF8.self) }
    guard let text = unsafe String(validating: part, as: UTF8.self) else { throw .malformed }
    return text
  }

  @usableFromInline static func isASCII(_ text: UnsafeRawBufferPointer) -> Bool {
    var seen: UInt64 = 0
    var at = 0
    while at &+ 8 <= text.count {
      seen |= unsafe text.loadUnaligned(fromByteOffset: at, as: UInt64.self)
      at &+= 8
    }
    while at < text.count {
      seen |= UInt64(unsafe text[at])
      at &+= 1
    }
    return seen & 0x8080_8080_8080_8080 == 0
  }

  /// Merges an embedded message into `message`, one level deeper.
  @inlinable public mutating func merge<M: WireDecodable>(into message: inout M) throws(WireError) {
    let range = try delimited()
    let (outer, outerDepth) = (limit, depth)
    guard depth > 0 else { throw .tooDeep }
    (at, limit, depth) = (range.lowerBound, range.upperBound, depth &- 1)
    try message.merge(from: &self)
    (at, limit, depth) = (range.upperBound, outer, outerDepth)
  }

  /// Reads an embedded map entry field by field: `body` gets each tag and consumes its value.
  @inlinable public mutating func entry(
    _ body: (inout WireReader, UInt32) throws(WireError) -> Void
  ) throws(WireError) {
    let range = try delimited()
    let (outer, outerDepth) = (limit, depth)
    guard depth > 0 else { throw .tooDeep }
    (at, limit, depth) = (range.lowerBound, range.upperBound, depth &- 1)
    while case let tag = try nextTag(), tag != 0 { try body(&self, tag) }
    (limit, depth) = (outer, outerDepth)
  }

  /// Calls `body` until a packed run of scalars is used up.
  @inlinable public mutating func packed(
    _ body: (inout WireReader) throws(WireError) -> Void
  ) throws(WireError) {
    let range = try delimited()
    let outer = limit
    (at, limit) = (range.lowerBound, range.upperBound)
    while at < limit { try body(&self) }
    limit = outer
  }

  /// Steps over the value of a field nobody asked for.
  @inlinable public mutating func skip(_ tag: UInt32) throws(WireError) {
    switch tag & 7 {
    case WireType.varint: _ = try uint64()
    case WireType.fixed64: _ = try fixed64()
    case WireType.delimited: _ = try delimited()
    case WireType.fixed32: _ = try fixed32()
    default: throw .badTag
    }
  }
}
