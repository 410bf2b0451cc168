public import Base

/// The time of a simulation and what is to happen in it: events at equal times run in the order in which
/// they were set.
public final class SimClock {
  private struct Entry {
    var at: Int64
    var serial: UInt64
    var body: () -> Void
    func isBefore(_ other: Entry) -> Bool {
      at != other.at ? at < other.at : serial < other.serial
    }
  }
  private var heap: [Entry] = []
  private var serial: UInt64 = 0
  /// Nanoseconds since the beginning.
  public private(set) var nanoseconds: Int64 = 0
  /// What the wall clock shows at the beginning; it may be set while the simulation runs.
  public var wallOffset: Int64 = 1_780_000_000_000_000_000
  public private(set) var events: UInt64 = 0

  public init() {}

  public var now: Now {
    Now(
      monotonic: Instant(nanoseconds: nanoseconds),
      wall: Instant(nanoseconds: nanoseconds + wallOffset))
  }

  public func at(_ time: Int64, _ body: @escaping () -> Void) {
    serial += 1
    heap.append(Entry(at: max(time, nanoseconds), serial: serial, body: body))
    var i = heap.count - 1
    while i > 0 {
      let parent = (i - 1) / 2
      guard heap[i].isBefore(heap[parent]) else { break }
      heap.swapAt(i, parent)
      i = parent
    }
  }

  public func after(_ nanoseconds: Int64, _ body: @escaping () -> Void) {
    at(self.nanoseconds + nanoseconds, body)
  }

  /// Runs what is due until `end`, or until nothing is left or `stop` says so.
  public func run(until end: Int64, stop: () -> Bool = { false }) {
    while let first = heap.first, first.at <= end, !stop() {
      let last = heap.removeLast()
      if !heap.isEmpty {
        heap[0] = last
        sink()
      }
      nanoseconds = first.at
      events += 1
      first.body()
    }
    if !stop() { nanoseconds = max(nanoseconds, end) }
  }

  private func sink() {
    var i = 0
    while true {
      var least = i
      let left = 2 * i + 1
      if left < heap.count, heap[left].isBefore(heap[least]) { least = left }
      if left + 1 < heap.count, heap[left + 1].isBefore(heap[least]) { least = left + 1 }
      if least == i { return }
      heap.swapAt(i, least)
      i = least
    }
  }
}
