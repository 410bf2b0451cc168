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
  public private(set) var position: Int = 0

  public init(_ bytes: UnsafeRawBufferPointer) { unsafe whole = bytes }

  public var remaining: Int { unsafe whole.count &- position }
  public var atEnd: Bool { remaining == 0 }

  public mutating func take(_ n: Int) throws(ReadError) -> UnsafeRawBufferPointer {
    if n < 0 || n > remaining { throw .truncated }
    let part = unsafe UnsafeRawBufferPointer(rebasing: whole[position..<position &+ n])
    position &+= n
    return unsafe part
  }

  public mutating func skip(_ n: Int) throws(ReadError) { _ = try unsafe take(n) }

  public mutating func bigEndian<T: FixedWidthInteger>(_: T.Type = T.self) throws(ReadError) -> T {
    let part = try unsafe take(MemoryLayout<T>.size)
    return unsafe T(bigEndian: part.loadUnaligned(as: T.self))
  }

  public mutating func littleEndian<T: FixedWidthInteger>(_: T.Type = T.self) throws(ReadError) -> T
  {
    let part = try unsafe take(MemoryLayout<T>.size)
    return unsafe T(littleEndian: part.loadUnaligned(as: T.self))
  }

  public mutating func byte() throws(ReadError) -> UInt8 { try bigEndian(UInt8.self) }

  public mutating func array(_ n: Int) throws(ReadError) -> [UInt8] {
    try unsafe [UInt8](take(n))
  }

  public mutating func rest() -> UnsafeRawBufferPointer {
    let part = unsafe UnsafeRawBufferPointer(rebasing: whole[position...])
    position = unsafe whole.count
    return unsafe part
  }
}
