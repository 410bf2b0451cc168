internal import Codec

/// Cuts gRPC messages out of a byte stream. Whole messages inside a chunk are handed out without a copy;
/// only what a chunk's end cuts is kept. Memory grows with what arrived, not with what was declared.
/// SAFETY: the buffer has this one owner and lives as long; 0 <= `head` <= `tail` <= `capacity`.
@safe public struct Deframer: ~Copyable {
  @safe public enum Step {
    case needsMore
    /// Valid until the next call.
    case message(UnsafeRawBufferPointer)
    case tooLarge(length: Int)
    case compressed
    case malformed
  }

  private var base: UnsafeMutableRawPointer?
  private var capacity = 0
  private var head = 0
  private var tail = 0
  /// Bytes of the message handed out from the kept bytes, dropped by the next call.
  private var handedOut = 0

  public init() {}
  deinit { unsafe base?.deallocate() }

  /// Bytes kept.
  public var kept: Int { tail - head - handedOut }

  /// The next message of the kept bytes and `input`, of which it takes what it needs.
  public mutating func next(_ input: inout UnsafeRawBufferPointer, limit: Int) -> Step {
    if handedOut > 0 { drop() }
    if tail == head { return unsafe direct(&input, limit) }
    while true {
      let have = tail &- head
      let view = unsafe UnsafeRawBufferPointer(start: base.unsafelyUnwrapped + head, count: have)
      let wanted: Int
      switch unsafe GrpcFrame.prefix(view, limit: limit) {
      case .incomplete: wanted = GrpcFrame.prefixBytes
      case .tooLarge(let length): return .tooLarge(length: length)
      case .malformed: return .malformed
      case .message(let length, let compressed):
        if compressed { return .compressed }
        wanted = GrpcFrame.prefixBytes &+ length
        if have >= wanted {
          handedOut = wanted
          return unsafe .message(
            UnsafeRawBufferPointer(rebasing: view[GrpcFrame.prefixBytes..<wanted]))
        }
      }
      if unsafe input.isEmpty { return .needsMore }
      let part = min(wanted &- have, input.count)
      unsafe keep(UnsafeRawBufferPointer(rebasing: input[..<part]), roomFor: wanted)
      unsafe input = UnsafeRawBufferPointer(rebasing: input[part...])
    }
  }

  private mutating func direct(_ input: inout UnsafeRawBufferPointer, _ limit: Int) -> Step {
    switch unsafe GrpcFrame.prefix(input, limit: limit) {
    case .tooLarge(let length): return .tooLarge(length: length)
    case .malformed: return .malformed
    case .message(let length, let compressed):
      if compressed { return .compressed }
      let whole = GrpcFrame.prefixBytes &+ length
      if input.count >= whole {
        let message = unsafe UnsafeRawBufferPointer(rebasing: input[GrpcFrame.prefixBytes..<whole])
        unsafe input = UnsafeRawBufferPointer(rebasing: input[whole...])
        return unsafe .message(message)
      }
      unsafe keep(input, roomFor: whole)
    case .incomplete:
      if unsafe input.isEmpty { return .needsMore }
      unsafe keep(input, roomFor: 64)
    }
    unsafe input = UnsafeRawBufferPointer(start: nil, count: 0)
    return .needsMore
  }

  /// Keeps bytes without looking at them: the reader has paused.
  public mutating func stash(_ input: UnsafeRawBufferPointer) {
    if handedOut > 0 { drop() }
    unsafe keep(input, roomFor: 0)
  }

  private mutating func drop() {
    head += handedOut
    handedOut = 0
    if head == tail {
      head = 0
      tail = 0
      if capacity > 4096 { release() }
    }
  }

  private mutating func release() {
    unsafe base?.deallocate()
    unsafe base = nil
    capacity = 0
  }

  private mutating func keep(_ bytes: UnsafeRawBufferPointer, roomFor whole: Int) {
    guard let from = bytes.baseAddress, bytes.count > 0 else { return }
    let have = tail - head
    let needed = have + bytes.count
    if tail + bytes.count > capacity {
      if needed <= capacity, let base = unsafe base {
        unsafe base.copyMemory(from: base + head, byteCount: have)
      } else {
        // The whole message if it is small or nearly here, else doubling.
        let wanted = whole <= max(4096, 2 * needed) ? max(whole, needed) : 2 * needed
        let next = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
        if let base = unsafe base {
          unsafe next.copyMemory(from: base + head, byteCount: have)
          unsafe base.deallocate()
        }
        unsafe base = next
        capacity = wanted
      }
      head = 0
      tail = have
    }
    unsafe (base.unsafelyUnwrapped + tail).copyMemory(from: from, byteCount: bytes.count)
    tail += bytes.count
  }

  /// Forgets everything.
  public mutating func removeAll() {
    release()
    head = 0
    tail = 0
    handedOut = 0
  }
}
