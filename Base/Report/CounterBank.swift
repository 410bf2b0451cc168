public import Synchronization

/// A counter's or gauge's place in every bank.
public struct CounterID: Sendable, Hashable {
  @usableFromInline let cell: Int
  init(cell: Int) { self.cell = cell }
}

/// A histogram's place in every bank, and the upper bounds of its buckets.
public struct HistogramID: @unchecked Sendable {
  /// Cells: one a bucket, one for what is above all bounds, one for the sum.
  @usableFromInline let cell: Int
  @usableFromInline let bounds: UnsafePointer<Int64>
  @usableFromInline let boundCount: Int
  init(cell: Int, bounds: UnsafePointer<Int64>, boundCount: Int) {
    self.cell = cell
    self.bounds = bounds
    self.boundCount = boundCount
  }
}

/// The cells of one thread. Only that thread writes, with plain relaxed loads and stores (no locked
/// instruction); a scrape reads them from elsewhere and may be one increment behind.
public struct CounterBank: @unchecked Sendable {
  /// Cells of a bank: registrations beyond are a mistake of ours and trap.
  public static let cells = 4_096

  @usableFromInline let base: UnsafeMutablePointer<Atomic<Int64>>

  /// Lives as long as the process: a bank is never given back, since a scrape may be reading it.
  init() {
    base = .allocate(capacity: CounterBank.cells)
    for i in 0..<CounterBank.cells { (base + i).initialize(to: Atomic<Int64>(0)) }
  }

  @inlinable public func add(_ id: CounterID, _ n: Int64 = 1) {
    bump(id.cell, n)
  }

  /// For gauges that one thread alone writes.
  @inlinable public func set(_ id: CounterID, _ value: Int64) {
    base[id.cell].store(value, ordering: .relaxed)
  }

  /// Counts `value`, in the histogram's own unit (nanoseconds, bytes).
  @inlinable public func observe(_ id: HistogramID, _ value: Int64) {
    var bucket = 0
    while bucket < id.boundCount && value > id.bounds[bucket] { bucket &+= 1 }
    bump(id.cell &+ bucket, 1)
    bump(id.cell &+ id.boundCount &+ 1, value)
  }

  public func value(_ id: CounterID) -> Int64 { read(id.cell) }

  @inlinable @inline(__always) func bump(_ cell: Int, _ n: Int64) {
    let now = base[cell].load(ordering: .relaxed)
    base[cell].store(now &+ n, ordering: .relaxed)
  }

  func read(_ cell: Int) -> Int64 { base[cell].load(ordering: .relaxed) }
}
