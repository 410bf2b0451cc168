/// One growing buffer of bytes, written front to back. Big-endian for our own formats (keys sort),
/// little-endian helpers are named so.
public struct ByteWriter: ~Copyable {
  @usableFromInline var base: UnsafeMutableRawPointer
  @usableFromInline var capacity: Int
  public private(set) var count: Int = 0

  public init(capacity: Int = 256) {
    self.capacity = max(capacity, 16)
    base = .allocate(byteCount: self.capacity, alignment: 16)
  }

  deinit { base.deallocate() }

  /// Room for `n` more bytes; returns where they go. Follow with `advance`.
  public mutating func reserve(_ n: Int) -> UnsafeMutableRawPointer {
    if count &+ n > capacity { grow(n) }
    return base + count
  }

  public mutating func advance(_ n: Int) {
    precondition(n >= 0 && count &+ n <= capacity, "advanced past the reserved room")
    count &+= n
  }

  private mutating func grow(_ n: Int) {
    let wanted = max(capacity * 2, count + n)
    let next = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
    next.copyMemory(from: base, byteCount: count)
    base.deallocate()
    base = next
    capacity = wanted
  }

  public mutating func append(_ byte: UInt8) {
    reserve(1).storeBytes(of: byte, as: UInt8.self)
    count &+= 1
  }

  public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count > 0, let from = bytes.baseAddress else { return }
    reserve(bytes.count).copyMemory(from: from, byteCount: bytes.count)
    count &+= bytes.count
  }

  public mutating func append(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { append($0) }
  }

  public mutating func append(_ bytes: Bytes) {
    bytes.withUnsafeBytes { append($0) }
  }

  public mutating func append(utf8 text: String) {
    for byte in text.utf8 { append(byte) }
  }

  /// Big-endian.
  public mutating func append<T: FixedWidthInteger>(bigEndian value: T) {
    let size = MemoryLayout<T>.size
    reserve(size).storeBytes(of: value.bigEndian, as: T.self)
    count &+= size
  }

  public mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
    let size = MemoryLayout<T>.size
    reserve(size).storeBytes(of: value.littleEndian, as: T.self)
    count &+= size
  }

  /// Overwrites an integer written earlier, big-endian.
  public mutating func patch<T: FixedWidthInteger>(bigEndian value: T, at offset: Int) {
    precondition(
      offset >= 0 && offset + MemoryLayout<T>.size <= count, "patch outside what is written")
    base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: T.self)
  }

  public mutating func removeAll() { count = 0 }

  /// Keeps the first `n` bytes.
  public mutating func truncate(to n: Int) {
    precondition(n >= 0 && n <= count, "truncated past the end")
    count = n
  }

  public func withUnsafeBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try body(UnsafeRawBufferPointer(start: base, count: count))
  }

  public var array: [UInt8] { withUnsafeBytes { [UInt8]($0) } }
  public var bytes: Bytes { withUnsafeBytes { Bytes($0) } }
}
