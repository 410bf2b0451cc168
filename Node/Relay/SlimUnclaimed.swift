import Base
import Codec
import Slim

/// Publishes to names nobody has subscribed to yet, on a node that has just followed another: apps come back within
/// milliseconds of each other, and who comes first publishes to who comes next. A node that starts afresh expects
/// nobody, and keeps nothing.
struct SlimUnclaimed {
  struct Message {
    let message: SlimMessage
    let sender: SessionID?
  }

  private struct Place: Hashable {
    let family: Family
    let name: SlimName
  }

  private var waiting: [Place: [Message]] = [:]
  private var bytes = 0
  /// Apps are still coming back.
  private(set) var isOpen = false

  var isEmpty: Bool { waiting.isEmpty }

  mutating func open() { isOpen = true }

  /// - Returns: false: it is not kept.
  mutating func keep(_ message: SlimMessage, from sender: SessionID?) -> Bool {
    let cost = message.frame.count + SlimUnclaimed.overhead
    guard isOpen, bytes + cost <= Limits.slimUnclaimedBytes else { return false }
    bytes += cost
    let place = Place(family: message.course.family, name: message.course.destination)
    waiting[place, default: []].append(Message(message: message, sender: sender))
    return true
  }

  /// What waited for a name, in order.
  mutating func take(_ family: Family, _ name: SlimName) -> [Message] {
    guard let found = waiting.removeValue(forKey: Place(family: family, name: name)) else {
      return []
    }
    for one in found { bytes -= one.message.frame.count + SlimUnclaimed.overhead }
    return found
  }

  /// Whoever is not back by now is not waited for.
  /// - Returns: how many messages had nobody.
  mutating func close() -> Int {
    let left = waiting.values.reduce(0) { $0 + $1.count }
    self = SlimUnclaimed()
    return left
  }

  /// Bytes a message costs beside its frame.
  private static let overhead = 256
}
