internal import Base
internal import Engine

/// A publish that its owner has not answered.
struct PendingPublish {
  /// With the far token and, where it had none, the far producer.
  var publication: Publication
  /// The session's own.
  var token: UInt64
}

/// Publishes of one session to one channel in the order they came, mostly answered in it.
struct PendingQueue {
  private var items: [PendingPublish] = []
  private var head = 0
  var isEmpty: Bool { head == items.count }
  var count: Int { items.count - head }

  mutating func append(_ one: PendingPublish) { items.append(one) }

  /// Numbers of publishes rise.
  private func place(_ token: UInt64) -> Int? {
    guard head < items.count else { return nil }
    if items[head].publication.token == token { return head }
    let wanted = token & ~FarSessions.awaited
    var (low, high) = (head, items.count)
    while low < high {
      let middle = (low + high) / 2
      if items[middle].publication.token & ~FarSessions.awaited < wanted {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low < items.count && items[low].publication.token == token ? low : nil
  }

  func find(_ token: UInt64) -> PendingPublish? { place(token).map { items[$0] } }

  mutating func take(_ token: UInt64) -> PendingPublish? {
    guard let at = place(token) else { return nil }
    let found = items[at]
    if at > head {
      items.remove(at: at)
      return found
    }
    head += 1
    // What is behind the head is let go when it is most of it.
    if head == items.count {
      items.removeAll(keepingCapacity: head <= 256)
      head = 0
    } else if head >= 64, head * 2 >= items.count {
      items.removeFirst(head)
      head = 0
    }
    return found
  }

  func forEach(_ body: (PendingPublish) -> Void) {
    for one in items[head...] { body(one) }
  }
}
