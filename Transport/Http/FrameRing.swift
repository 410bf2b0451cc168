internal import Base

/// FIFO of shared buffers waiting for a stream's window: one slot each, nothing allocated per message.
struct FrameRing: ~Copyable {
  private var slots: UnsafeMutablePointer<Bytes>?
  private var mask = -1
  private var head = 0
  private var count = 0
  /// Bytes of the first buffer that are gone.
  private var offset = 0
  /// Bytes not yet taken.
  private(set) var bytes = 0
  /// What goes into the holes of the buffers that have one, in their order.
  private var fillings: UnsafeMutablePointer<HoleFilling>?
  private var fillingMask = -1
  private var fillingHead = 0
  private var fillingCount = 0

  init() {}

  deinit {
    for i in 0..<count { (slots.unsafelyUnwrapped + ((head &+ i) & mask)).deinitialize(count: 1) }
    slots?.deallocate()
    fillings?.deallocate()
  }

  /// A buffer with a hole, and what this stream's peer gets in it.
  mutating func push(_ frame: Bytes, _ filling: HoleFilling) {
    if fillingCount == fillingMask &+ 1 { growFillings() }
    (fillings.unsafelyUnwrapped + ((fillingHead &+ fillingCount) & fillingMask)).initialize(
      to: filling)
    fillingCount &+= 1
    append(frame)
  }

  private mutating func growFillings() {
    let room = fillingMask < 0 ? 4 : (fillingMask &+ 1) &* 2
    let next = UnsafeMutablePointer<HoleFilling>.allocate(capacity: room)
    if let fillings {
      let first = min(fillingCount, fillingMask &+ 1 &- fillingHead)
      next.update(from: fillings + fillingHead, count: first)
      (next + first).update(from: fillings, count: fillingCount &- first)
      fillings.deallocate()
    }
    fillings = next
    fillingMask = room &- 1
    fillingHead = 0
  }

  private mutating func freeFillings() {
    fillings?.deallocate()
    fillings = nil
    fillingMask = -1
    fillingHead = 0
    fillingCount = 0
  }

  /// Writes the part of the hole that lies in the bytes just copied: `size` from `offset`, at `to`.
  private func fill(_ hole: Int, _ to: UnsafeMutableRawPointer, from offset: Int, size: Int) {
    let from = max(hole, offset)
    let end = min(hole &+ HoleFilling.bytes, offset &+ size)
    guard from < end else { return }
    let filling = UnsafeRawPointer(fillings.unsafelyUnwrapped + fillingHead)
    (to + (from &- offset)).copyMemory(from: filling + (from &- hole), byteCount: end &- from)
  }

  mutating func push(_ frame: Bytes) {
    precondition(frame.hole == 0, "a buffer with a hole and nothing to fill it")
    append(frame)
  }

  @inline(__always) private mutating func append(_ frame: Bytes) {
    if count == mask &+ 1 { grow() }
    (slots.unsafelyUnwrapped + ((head &+ count) & mask)).initialize(to: frame)
    count &+= 1
    bytes &+= frame.count
  }

  private mutating func grow() {
    let room = mask < 0 ? 4 : (mask &+ 1) &* 2
    let next = UnsafeMutablePointer<Bytes>.allocate(capacity: room)
    if let slots {
      let first = min(count, mask &+ 1 &- head)
      next.moveInitialize(from: slots + head, count: first)
      (next + first).moveInitialize(from: slots, count: count &- first)
      slots.deallocate()
    }
    slots = next
    mask = room &- 1
    head = 0
  }

  /// Copies exactly `n` bytes to `target`. `n` is at most `bytes`.
  mutating func drain(_ n: Int, into target: UnsafeMutableRawPointer) {
    var left = n
    var to = target
    while left > 0 {
      let slot = slots.unsafelyUnwrapped + head
      let size = slot.pointee.count
      let part = min(left, size &- offset)
      to.copyMemory(from: slot.pointee.base + offset, byteCount: part)
      let hole = slot.pointee.hole
      if hole > 0 { fill(hole, to, from: offset, size: part) }
      to += part
      left &-= part
      offset &+= part
      if offset == size {
        if hole > 0 {
          fillingHead = (fillingHead &+ 1) & fillingMask
          fillingCount &-= 1
        }
        slot.deinitialize(count: 1)
        head = (head &+ 1) & mask
        count &-= 1
        offset = 0
      }
    }
    bytes &-= n
    // A burst's memory is not kept by a quiet stream.
    if count == 0, mask >= 255 {
      slots?.deallocate()
      slots = nil
      mask = -1
      head = 0
    }
    if fillingCount == 0, fillingMask >= 255 { freeFillings() }
  }

  /// Drops what is behind the first `n` bytes, but no part of a buffer that has begun to leave.
  mutating func truncate(keeping n: Int) {
    var kept = 0
    var sum = 0
    while kept < count, sum < n || (kept == 0 && offset > 0) {
      let size = (slots.unsafelyUnwrapped + ((head &+ kept) & mask)).pointee.count
      sum += kept == 0 ? size - offset : size
      kept += 1
    }
    for i in kept..<count {
      let slot = slots.unsafelyUnwrapped + ((head &+ i) & mask)
      if slot.pointee.hole > 0 { fillingCount &-= 1 }
      slot.deinitialize(count: 1)
    }
    count = kept
    bytes = sum
  }

  /// Drops whole buffers, the oldest first, until at most `most` bytes are left; but none that the first `sparing`
  /// bytes reach into, and none that has begun to leave.
  /// - Returns: how many buffers went.
  mutating func dropOldest(to most: Int, sparing: Int) -> Int {
    var kept = 0
    var sum = 0
    var keptHoles = 0
    func slot(_ i: Int) -> UnsafeMutablePointer<Bytes> {
      slots.unsafelyUnwrapped + ((head &+ i) & mask)
    }
    while kept < count, sum < sparing || (kept == 0 && offset > 0) {
      sum += kept == 0 ? slot(0).pointee.count - offset : slot(kept).pointee.count
      if slot(kept).pointee.hole > 0 { keptHoles += 1 }
      kept += 1
    }
    var dropped = 0
    var droppedHoles = 0
    while kept + dropped < count, bytes > most {
      let gone = slot(kept + dropped)
      bytes -= gone.pointee.count
      if gone.pointee.hole > 0 { droppedHoles += 1 }
      gone.deinitialize(count: 1)
      dropped += 1
    }
    if dropped == 0 { return 0 }
    // What stays in front moves up to what stays behind.
    for i in stride(from: kept - 1, through: 0, by: -1) {
      slot(i + dropped).moveInitialize(from: slot(i), count: 1)
    }
    head = (head &+ dropped) & mask
    count -= dropped
    if droppedHoles > 0, let fillings {
      for i in stride(from: keptHoles - 1, through: 0, by: -1) {
        fillings[(fillingHead &+ i &+ droppedHoles) & fillingMask] =
          fillings[(fillingHead &+ i) & fillingMask]
      }
      fillingHead = (fillingHead &+ droppedHoles) & fillingMask
      fillingCount -= droppedHoles
    }
    return dropped
  }

  mutating func removeAll() {
    for i in 0..<count { (slots.unsafelyUnwrapped + ((head &+ i) & mask)).deinitialize(count: 1) }
    count = 0
    head = 0
    offset = 0
    bytes = 0
    freeFillings()
  }
}
