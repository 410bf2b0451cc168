/// Why bytes could not be read.
public enum ReadError: Error, Equatable, Sendable {
  /// The bytes end inside a value.
  case truncated
  /// The bytes are there but break the format.
  case malformed
}

/// Reads a borrowed run of bytes front to back, every access checked. Valid only while the bytes are.
/// SAFETY: who makes a reader marks that the bytes outlive it; no access leaves them.
@safe public struct ByteReader {
  @usableFromInline let whole: UnsafeRawBufferPointer
  @usableFromInline var at: Int = 0
  @inlinable public var position: Int { at }

  @inlinable public init(_ bytes: UnsafeRawBufferPointer) { unsafe whole = bytes }

  @inlinable public var remaining: Int { unsafe whole.count &- at }
  @inlinable public var atEnd: Bool { remaining == 0 }

  @inlinable public mutating func take(_ n: Int) throws(ReadError) -> UnsafeRawBufferPointer {
    if n < 0 || n > remaining { throw .truncated }
    let part = unsafe UnsafeRawBufferPointer(rebasing: whole[at..<at &+ n])
    at &+= n
    return unsafe part
  }

  @inlinable public mutating func skip(_ n: Int) throws(ReadError) { _ = try unsafe take(n) }

  @inlinable public mutating func bigEndian<T: FixedWidthInteger>(
    _: T.Type = T.self
  ) throws(ReadError) -> T {
    let part = try unsafe take(MemoryLayout<T>.size)
    return unsafe T(bigEndian: part.loadUnaligned(as: T.self))
  }

  @inlinable public mutating func littleEndian<T: FixedWidthInteger>(
    _: T.Type = T.self
  ) throws(ReadError) -> T {
    let part = try unsafe take(MemoryLayout<T>.size)
    return unsafe T(littleEndian: part.loadUnaligned(as: T.self))
  }

  @inlinable public mutating func byte() throws(ReadError) -> UInt8 { try bigEndian(UInt8.self) }

  @inlinable public mutating func array(_ n: Int) throws(ReadError) -> [UInt8] {
    try unsafe [UInt8](take(n))
  }

  @inlinable public mutating func rest() -> UnsafeRawBufferPointer {
    let part = unsafe UnsafeRawBufferPointer(rebasing: whole[at...])
    at = unsafe whole.count
    return unsafe part
  }
}
