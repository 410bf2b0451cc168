/// One growing buffer of bytes, written front to back. Big-endian for our own formats (keys sort),
/// little-endian helpers are named so.
/// SAFETY: the buffer has this one owner and lives as long; `count` never passes `capacity`.
@safe public struct ByteWriter: ~Copyable {
  @usableFromInline var base: UnsafeMutableRawPointer
  @usableFromInline var capacity: Int
  @usableFromInline var used: Int = 0
  @inlinable public var count: Int { used }

  public init(capacity: Int = 256) {
    self.capacity = max(capacity, 16)
    unsafe base = .allocate(byteCount: self.capacity, alignment: 16)
  }

  deinit { unsafe base.deallocate() }

  /// Room for `n` more bytes; returns where they go. Follow with `advance`.
  @inlinable public mutating func reserve(_ n: Int) -> UnsafeMutableRawPointer {
    if count &+ n > capacity { grow(n) }
    return unsafe base + count
  }

  @inlinable public mutating func advance(_ n: Int) {
    precondition(n >= 0 && count &+ n <= capacity, "advanced past the reserved room")
    used &+= n
  }

  @usableFromInline mutating func grow(_ n: Int) {
    let wanted = max(capacity * 2, count + n)
    let next = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
    unsafe next.copyMemory(from: base, byteCount: count)
    unsafe base.deallocate()
    unsafe base = next
    capacity = wanted
  }

  @inlinable public mutating func append(_ byte: UInt8) {
    unsafe reserve(1).storeBytes(of: byte, as: UInt8.self)
    used &+= 1
  }

  @inlinable public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count > 0, let from = bytes.baseAddress else { return }
    unsafe reserve(bytes.count).copyMemory(from: from, byteCount: bytes.count)
    used &+= bytes.count
  }

  @inlinable public mutating func append(_ bytes: [UInt8]) {
    unsafe bytes.withUnsafeBytes { unsafe append($0) }
  }

  @inlinable public mutating func append(_ bytes: Bytes) {
    unsafe bytes.withUnsafeBytes { unsafe append($0) }
  }

  @inlinable public mutating func append(utf8 text: String) {
    for byte in text.utf8 { append(byte) }
  }

  /// Big-endian.
  @inlinable public mutating func append<T: FixedWidthInteger>(bigEndian value: T) {
    let size = MemoryLayout<T>.size
    unsafe reserve(size).storeBytes(of: value.bigEndian, as: T.self)
    used &+= size
  }

  @inlinable public mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
    let size = MemoryLayout<T>.size
    unsafe reserve(size).storeBytes(of: value.littleEndian, as: T.self)
    used &+= size
  }

  /// Overwrites an integer written earlier, big-endian.
  @inlinable public mutating func patch<T: FixedWidthInteger>(bigEndian value: T, at offset: Int) {
    precondition(
      offset >= 0 && offset + MemoryLayout<T>.size <= count, "patch outside what is written")
    unsafe base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: T.self)
  }

  public mutating func removeAll() { used = 0 }

  /// Keeps the first `n` bytes.
  public mutating func truncate(to n: Int) {
    precondition(n >= 0 && n <= count, "truncated past the end")
    used = n
  }

  public func withUnsafeBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try unsafe body(UnsafeRawBufferPointer(start: base, count: count))
  }

  public var array: [UInt8] { unsafe withUnsafeBytes { unsafe [UInt8]($0) } }
  public var bytes: Bytes { unsafe withUnsafeBytes { unsafe Bytes($0) } }
}
