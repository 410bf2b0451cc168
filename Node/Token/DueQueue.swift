internal import Base

/// What to look at again at a time: a binary heap. An entry is a hint; whoever takes it checks the record.
struct DueQueue {
  enum Kind {
    case key
    case invite
    case join
  }

  struct Entry {
    var at: Instant
    var tenant: TenantID
    var record: RecordID
    var kind: Kind
  }

  private var heap: [Entry] = []

  var count: Int { heap.count }

  mutating func push(_ entry: Entry) {
    heap.append(entry)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      if heap[parent].at <= heap[child].at { break }
      heap.swapAt(parent, child)
      child = parent
    }
  }

  /// The earliest entry that is due, removed.
  mutating func pop(at now: Instant) -> Entry? {
    guard let first = heap.first, first.at <= now else { return nil }
    let last = heap.removeLast()
    if heap.isEmpty { return first }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
        if heap[child].at < heap[least].at { least = child }
      }
      if least == parent { return first }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}
