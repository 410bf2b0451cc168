internal import CSys

/// Contiguous bytes on their way to a socket: written at the end, taken at the front. Holds no memory
/// when it is made empty by `release`.
public struct OutputBuffer: ~Copyable {
  @usableFromInline var base: UnsafeMutableRawPointer?
  @usableFromInline var capacity = 0
  @usableFromInline var head = 0
  @usableFromInline var tail = 0

  public init() {}
  deinit { base?.deallocate() }

  public var count: Int { tail &- head }
  public var isEmpty: Bool { head == tail }
  public var readable: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base.map { UnsafeRawPointer($0 + head) }, count: count)
  }

  /// Room for `n` more bytes. Follow with `advance`.
  @inlinable public mutating func reserve(_ n: Int) -> UnsafeMutableRawPointer {
    if tail &+ n > capacity { makeRoom(n) }
    return base.unsafelyUnwrapped + tail
  }

  @usableFromInline mutating func makeRoom(_ n: Int) {
    let held = count
    if held &+ n <= capacity, let base {
      base.copyMemory(from: base + head, byteCount: held)
    } else {
      let wanted = max(capacity &* 2, held &+ n, 4096)
      let next = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 64)
      if let base {
        next.copyMemory(from: base + head, byteCount: held)
        base.deallocate()
      }
      base = next
      capacity = wanted
    }
    head = 0
    tail = held
  }

  @inlinable public mutating func advance(_ n: Int) { tail &+= n }

  public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let from = bytes.baseAddress, bytes.count > 0 else { return }
    reserve(bytes.count).copyMemory(from: from, byteCount: bytes.count)
    tail &+= bytes.count
  }

  public mutating func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

  public mutating func append(utf8 text: String) {
    var copy = text
    copy.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  public mutating func consume(_ n: Int) {
    head &+= n
    if head == tail {
      head = 0
      tail = 0
    }
  }

  /// Takes the memory of `spare` when it has none of its own.
  mutating func borrow(from spare: inout OutputBuffer) {
    if capacity == 0 { trade(&spare) }
  }

  /// Gives its memory to `spare`, or frees it when `spare` has some. Only when empty.
  mutating func giveBack(to spare: inout OutputBuffer) {
    guard isEmpty, capacity > 0 else { return }
    if spare.capacity == 0, capacity <= 1 << 20 {
      trade(&spare)
    } else {
      base?.deallocate()
      base = nil
      capacity = 0
    }
  }

  private mutating func trade(_ other: inout OutputBuffer) {
    swap(&base, &other.base)
    swap(&capacity, &other.capacity)
    swap(&head, &other.head)
    swap(&tail, &other.tail)
  }
}
