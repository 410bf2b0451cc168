/// Why bytes could not be read.
public enum ReadError: Error, Equatable, Sendable {
  /// The bytes end inside a value.
  case truncated
  /// The bytes are there but break the format.
  case malformed
}

/// Reads a borrowed run of bytes front to back, every access checked. Valid only while the bytes are.
public struct ByteReader {
  @usableFromInline let whole: UnsafeRawBufferPointer
  public private(set) var position: Int = 0

  public init(_ bytes: UnsafeRawBufferPointer) { whole = bytes }

  public var remaining: Int { whole.count &- position }
  public var atEnd: Bool { remaining == 0 }

  public mutating func take(_ n: Int) throws(ReadError) -> UnsafeRawBufferPointer {
    if n < 0 || n > remaining { throw .truncated }
    let part = UnsafeRawBufferPointer(rebasing: whole[position..<position &+ n])
    position &+= n
    return part
  }

  public mutating func skip(_ n: Int) throws(ReadError) { _ = try take(n) }

  public mutating func bigEndian<T: FixedWidthInteger>(_: T.Type = T.self) throws(ReadError) -> T {
    let part = try take(MemoryLayout<T>.size)
    return T(bigEndian: part.loadUnaligned(as: T.self))
  }

  public mutating func littleEndian<T: FixedWidthInteger>(_: T.Type = T.self) throws(ReadError) -> T
  {
    let part = try take(MemoryLayout<T>.size)
    return T(littleEndian: part.loadUnaligned(as: T.self))
  }

  public mutating func byte() throws(ReadError) -> UInt8 { try bigEndian(UInt8.self) }

  public mutating func array(_ n: Int) throws(ReadError) -> [UInt8] {
    [UInt8](try take(n))
  }

  public mutating func rest() -> UnsafeRawBufferPointer {
    let part = UnsafeRawBufferPointer(rebasing: whole[position...])
    position = whole.count
    return part
  }
}
