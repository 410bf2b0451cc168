internal import Base

/// What is due at a time.
enum Due {
  case pace(Subscription)
  case stall(Session)
  case hold(Channel)
  case retryWrites
  case retention
  case usage
}

/// A binary heap of what is due; equal times in the order in which they were set.
struct Timers {
  private struct Entry {
    var at: Instant
    var serial: UInt64
    var due: Due
    func isBefore(_ other: Entry) -> Bool { (at, serial) < (other.at, other.serial) }
  }
  private var heap: [Entry] = []
  private var serial: UInt64 = 0

  var next: Instant? { heap.first?.at }

  mutating func set(_ at: Instant, _ due: Due) {
    serial += 1
    heap.append(Entry(at: at, serial: serial, due: due))
    var i = heap.count - 1
    while i > 0 {
      let parent = (i - 1) / 2
      guard heap[i].isBefore(heap[parent]) else { break }
      heap.swapAt(i, parent)
      i = parent
    }
  }

  /// Takes the first entry if it is due.
  mutating func take(_ now: Instant) -> Due? {
    guard let first = heap.first, first.at <= now else { return nil }
    let last = heap.removeLast()
    guard !heap.isEmpty else { return first.due }
    heap[0] = last
    var i = 0
    while true {
      var least = i
      for child in [2 * i + 1, 2 * i + 2] where child < heap.count {
        if heap[child].isBefore(heap[least]) { least = child }
      }
      if least == i { break }
      heap.swapAt(i, least)
      i = least
    }
    return first.due
  }
}
