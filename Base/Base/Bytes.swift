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
      && a.withUnsafeBytes { x in unsafe b.withUnsafeBytes { y in unsafe x.elementsEqual(y) } }
  }
}

/// What one receiver gets in the hole of a shared buffer.
public struct HoleFilling: Sendable {
  public static let bytes = 32
  public var value: InlineArray<32, UInt8>
  @inlinable public init(_ value: InlineArray<32, UInt8>) { self.value = value }
}
