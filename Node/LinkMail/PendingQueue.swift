internal import Base
internal import Engine

/// A publish that its owner has not answered.
struct PendingPublish {
  var channel: ChannelID
  /// With the far token and, where it had none, the far producer.
  var publication: Publication
  /// The session's own.
  var token: UInt64
}

/// Publishes of one session in the order they came, mostly answered in it.
struct PendingQueue {
  private var items: [PendingPublish] = []
  private var head = 0
  /// Of their frames.
  private(set) var bytes = 0
  var isEmpty: Bool { head == items.count }

  mutating func append(_ one: PendingPublish) {
    items.append(one)
    bytes += one.publication.frame.count
  }

  private func place(_ number: UInt64) -> Int? {
    items[head...].firstIndex { $0.publication.token == number }
  }

  func find(_ number: UInt64) -> PendingPublish? { place(number).map { items[$0] } }

  mutating func take(_ number: UInt64) -> PendingPublish? {
    guard let at = place(number) else { return nil }
    let found = items[at]
    bytes -= found.publication.frame.count
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
