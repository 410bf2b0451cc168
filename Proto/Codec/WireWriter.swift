/// Writes the protobuf wire format into a buffer whose size was computed before. Overrunning it is
/// our own mistake and traps.
/// SAFETY: who makes a writer marks that the buffer outlives it; every write asks `room` first.
@safe @frozen public struct WireWriter {
  @usableFromInline let whole: UnsafeMutableRawBufferPointer
  @usableFromInline var at: Int

  @inlinable public init(_ buffer: UnsafeMutableRawBufferPointer) {
    unsafe whole = buffer
    at = 0
  }

  /// Offset of the next byte.
  @inlinable public var position: Int { at }

  @inlinable func room(_ n: Int) {
    unsafe precondition(
      n <= whole.count &- at, "an encoded message is larger than its computed size")
  }

  @inlinable public mutating func uint64(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      byte(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest &>>= 7
    }
    byte(UInt8(truncatingIfNeeded: rest))
  }

  @inlinable public mutating func byte(_ value: UInt8) {
    room(1)
    unsafe whole[at] = value
    at &+= 1
  }

  @inlinable public mutating func tag(_ value: UInt32) { uint64(UInt64(value)) }
  @inlinable public mutating func length(_ value: Int) { uint64(UInt64(value)) }
  @inlinable public mutating func uint32(_ value: UInt32) { uint64(UInt64(value)) }
  @inlinable public mutating func int64(_ value: Int64) { uint64(UInt64(bitPattern: value)) }
  @inlinable public mutating func int32(_ value: Int32) { int64(Int64(value)) }
  @inlinable public mutating func sint64(_ value: Int64) { uint64(WireSize.zigzag(value)) }
  @inlinable public mutating func sint32(_ value: Int32) { uint64(WireSize.zigzag(value)) }
  @inlinable public mutating func bool(_ value: Bool) { byte(value ? 1 : 0) }

  @inlinable public mutating func fixed64(_ value: UInt64) {
    room(8)
    unsafe whole.storeBytes(of: value.littleEndian, toByteOffset: at, as: UInt64.self)
    at &+= 8
  }
  @inlinable public mutating func fixed32(_ value: UInt32) {
    room(4)
    unsafe whole.storeBytes(of: value.littleEndian, toByteOffset: at, as: UInt32.self)
    at &+= 4
  }
  @inlinable public mutating func sfixed64(_ value: Int64) { fixed64(UInt64(bitPattern: value)) }
  @inlinable public mutating func sfixed32(_ value: Int32) { fixed32(UInt32(bitPattern: value)) }
  @inlinable public mutating func double(_ value: Double) { fixed64(value.bitPattern) }
  @inlinable public mutating func float(_ value: Float) { fixed32(value.bitPattern) }

  /// Bytes as they are, without a length.
  @inlinable public mutating func raw(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count > 0, let from = bytes.baseAddress, let to = unsafe whole.baseAddress else {
      return
    }
    room(bytes.count)
    unsafe (to + at).copyMemory(from: from, byteCount: bytes.count)
    at &+= bytes.count
  }

  /// `n` zero bytes.
  @inlinable public mutating func zeros(_ n: Int) {
    room(n)
    for i in 0..<n { unsafe whole[at &+ i] = 0 }
    at &+= n
  }

  @inlinable public mutating func bytes(_ value: [UInt8]) {
    length(value.count)
    unsafe value.withUnsafeBytes { unsafe raw($0) }
  }

  @inlinable public mutating func string(_ value: String) {
    length(value.utf8.count)
    text(value)
  }

  /// UTF-8 as it is, without a length.
  @inlinable public mutating func text(_ value: String) {
    let done: Void? = unsafe value.utf8.withContiguousStorageIfAvailable {
      unsafe raw(UnsafeRawBufferPointer($0))
    }
    if done == nil { for b in value.utf8 { byte(b) } }
  }

  @inlinable public mutating func message<M: ProtoMessage>(_ value: M) {
    length(value.encodedSize)
    value.encode(into: &self)
  }
}

/// Sizes on the wire, in bytes, of values without their tags.
public enum WireSize {
  @inlinable public static func uint64(_ value: UInt64) -> Int {
    // ceil(bits / 7), at least 1
    (70 &- (value | 1).leadingZeroBitCount) / 7
  }
  @inlinable public static func uint32(_ value: UInt32) -> Int { uint64(UInt64(value)) }
  @inlinable public static func int64(_ value: Int64) -> Int { uint64(UInt64(bitPattern: value)) }
  @inlinable public static func int32(_ value: Int32) -> Int { int64(Int64(value)) }
  @inlinable public static func sint64(_ value: Int64) -> Int { uint64(zigzag(value)) }
  @inlinable public static func sint32(_ value: Int32) -> Int { uint64(zigzag(value)) }
  @inlinable public static func bool(_: Bool) -> Int { 1 }
  @inlinable public static func fixed64(_: UInt64) -> Int { 8 }
  @inlinable public static func fixed32(_: UInt32) -> Int { 4 }
  @inlinable public static func sfixed64(_: Int64) -> Int { 8 }
  @inlinable public static func sfixed32(_: Int32) -> Int { 4 }
  @inlinable public static func double(_: Double) -> Int { 8 }
  @inlinable public static func float(_: Float) -> Int { 4 }
  /// A length-delimited value of `count` bytes, with its length.
  @inlinable public static func delimited(_ count: Int) -> Int { uint64(UInt64(count)) &+ count }
  @inlinable public static func string(_ value: String) -> Int { delimited(value.utf8.count) }
  @inlinable public static func bytes(_ value: [UInt8]) -> Int { delimited(value.count) }
  @inlinable public static func message<M: ProtoMessage>(_ value: M) -> Int {
    delimited(value.encodedSize)
  }
  /// The scalars of a packed field, without its length.
  @inlinable public static func packed<T>(_ values: [T], _ size: (T) -> Int) -> Int {
    var n = 0
    for v in values { n &+= size(v) }
    return n
  }

  @inlinable static func zigzag(_ value: Int64) -> UInt64 {
    UInt64(bitPattern: (value &<< 1) ^ (value &>> 63))
  }
  @inlinable static func zigzag(_ value: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: (value &<< 1) ^ (value &>> 31)))
  }
}
