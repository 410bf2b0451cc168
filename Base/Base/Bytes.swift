/// A counted, immutable run of bytes: one tail allocation, shared by every queue it stands in.
///
/// Written once while it is made (`init(count:_:)`), patched at most before it is shared, then only
/// read. Copying the value is a retain.
public struct Bytes: @unchecked Sendable {
  @usableFromInline struct Header {
    @usableFromInline var count: Int
    @usableFromInline var hole: Int
    @usableFromInline init(count: Int, hole: Int) {
      self.count = count
      self.hole = hole
    }
  }
  @usableFromInline final class Storage: ManagedBuffer<Header, UInt8> {}
  @usableFromInline let storage: Storage

  /// Allocates `count` bytes and lets `fill` write all of them.
  @inlinable public init(
    count: Int, _ fill: (UnsafeMutableRawBufferPointer) throws -> Void
  ) rethrows {
    let made = Storage.create(minimumCapacity: count) { _ in Header(count: count, hole: 0) }
    // SAFETY: `create` makes an instance of the class it is called on.
    storage = unsafe unsafeDowncast(made, to: Storage.self)
    try unsafe fill(UnsafeMutableRawBufferPointer(start: base, count: count))
  }

  @inlinable public init(_ bytes: UnsafeRawBufferPointer) {
    unsafe self.init(count: bytes.count) { unsafe $0.copyMemory(from: bytes) }
  }

  @inlinable public init(_ bytes: [UInt8]) {
    self = unsafe bytes.withUnsafeBytes { unsafe Bytes($0) }
  }

  public static let empty = Bytes([])

  @inlinable public var count: Int { storage.header.count }

  /// Offset of 32 bytes that each receiver gets its own of (a header MAC); 0: there are none.
  @inlinable public var hole: Int { storage.header.hole }

  /// Declares 32 bytes from `offset` a hole. Only before the value is shared.
  public func makeHole(at offset: Int) {
    precondition(offset > 0 && offset + HoleFilling.bytes <= count, "a hole outside the buffer")
    storage.header.hole = offset
  }

  @inlinable public var base: UnsafeMutableRawPointer {
    unsafe storage.withUnsafeMutablePointerToElements { UnsafeMutableRawPointer($0) }
  }

  /// Borrows the bytes. The pointer dies with the closure.
  @inlinable public func withUnsafeBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try unsafe body(UnsafeRawBufferPointer(start: base, count: count))
  }

  /// Overwrites eight bytes, big-endian. Only before the value is shared between threads.
  @inlinable public func patch(_ value: UInt64, at offset: Int) {
    precondition(offset >= 0 && offset &+ 8 <= count, "patch outside the buffer")
    unsafe base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
  }

  @inlinable public func array(_ range: Range<Int>? = nil) -> [UInt8] {
    let r = range ?? 0..<count
    precondition(r.lowerBound >= 0 && r.upperBound <= count, "range outside the buffer")
    return unsafe [UInt8](UnsafeRawBufferPointer(start: base + r.lowerBound, count: r.count))
  }
}

extension Bytes: Equatable {
  public static func == (a: Bytes, b: Bytes) -> Bool {
    unsafe a.count == b.count
      && a.withUnsafeBytes { x in unsafe b.withUnsafeBytes { y in unsafe sameBytes(x, y) } }
  }
}

/// What one receiver gets in the hole of a shared buffer.
public struct HoleFilling: Sendable {
  public static let bytes = 32
  public var value: InlineArray<32, UInt8>
  @inlinable public init(_ value: InlineArray<32, UInt8>) { self.value = value }
}

/// Whether `count` bytes at `i` of `a` are those at `j` of `b`. There must be as many. Not for secrets: it stops at
/// the first difference.
@inlinable public func sameBytes(
  _ a: UnsafeRawBufferPointer, at i: Int, _ b: UnsafeRawBufferPointer, at j: Int, count: Int
) -> Bool {
  precondition(
    i >= 0 && j >= 0 && count >= 0 && count <= a.count - i && count <= b.count - j,
    "bytes to compare are missing")
  if count == 0 { return true }
  let x = unsafe a.baseAddress.unsafelyUnwrapped + i
  let y = unsafe b.baseAddress.unsafelyUnwrapped + j
  @inline(__always) func differ(_ at: Int) -> UInt64 {
    unsafe x.loadUnaligned(fromByteOffset: at, as: UInt64.self)
      ^ y.loadUnaligned(fromByteOffset: at, as: UInt64.self)
  }
  var at = 0
  while count &- at >= 32 {
    if differ(at) | differ(at &+ 8) | differ(at &+ 16) | differ(at &+ 24) != 0 { return false }
    at &+= 32
  }
  while count &- at >= 8 {
    if differ(at) != 0 { return false }
    at &+= 8
  }
  // The last eight bytes, some of them for the second time.
  if at < count, count >= 8 { return differ(count &- 8) == 0 }
  while at < count {
    if unsafe x.load(fromByteOffset: at, as: UInt8.self)
      != y.load(fromByteOffset: at, as: UInt8.self)
    {
      return false
    }
    at &+= 1
  }
  return true
}

/// Whether two runs of bytes are the same.
@inlinable public func sameBytes(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
  unsafe a.count == b.count && sameBytes(a, at: 0, b, at: 0, count: a.count)
}
