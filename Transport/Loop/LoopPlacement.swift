internal import Base
internal import CSys

/// Which loop the next connection goes to.
///
/// Connections that come one after the other often belong together: the apps of one channel start at the same time. On
/// one loop what they send each other crosses no thread, which costs a quarter less. So `block` of them share a loop, while
/// it has time to spare; then the loop that has most of it takes the next block.
struct LoopPlacement {
  private let block: Int
  private var at = 0
  private var placed = 0
  private var isFirst = true
  private var looked: Int64 = 0
  /// Nanoseconds each loop had worked when we last looked, and the share of time it worked until then, in thousandths.
  private var worked: [Int64]
  private var busy: [Int]
  /// Under load so many thousandths of a loop's time are enough for it to take no more of a block.
  private static let enough = 500
  /// Loops that differ by less are taken in turn.
  private static let alike = 100
  private static let lookNanoseconds: Int64 = 20_000_000

  init(loops: Int, block: Int) {
    precondition(loops > 0 && block > 0, "\(loops) loops, blocks of \(block)")
    self.block = block
    worked = [Int64](repeating: 0, count: loops)
    busy = [Int](repeating: 0, count: loops)
  }

  /// - Parameters:
  ///   - now: nanoseconds of the monotonic clock.
  ///   - read: nanoseconds a loop has worked so far.
  mutating func next(at now: Int64, _ read: (Int) -> Int64) -> Int {
    if busy.count == 1 { return 0 }
    look(now, read)
    if isFirst || placed >= block || (block > 1 && busy[at] > Self.enough) {
      if !isFirst { at = idlest() }
      isFirst = false
      placed = 0
    }
    placed += 1
    return at
  }

  private mutating func look(_ now: Int64, _ read: (Int) -> Int64) {
    let passed = now - looked
    guard passed >= Self.lookNanoseconds else { return }
    for index in busy.indices {
      let sum = read(index)
      busy[index] = Int((sum - worked[index]) * 1_000 / passed)
      worked[index] = sum
    }
    looked = now
  }

  /// The loop after this one that is about as idle as any. Blocks of one go round, whatever the load.
  private func idlest() -> Int {
    let next = (at + 1) % busy.count
    guard block > 1, let least = busy.min() else { return next }
    for step in 1...busy.count {
      let index = (at + step) % busy.count
      if busy[index] <= least + Self.alike { return index }
    }
    return next
  }
}
