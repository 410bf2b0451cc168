import Base
import Engine

/// Messages for the sessions of one other node, until what a shard said in a turn has been gone through: one that several
/// of them get leaves once. Engines tell it session by session, each in the order of the channel; so within a channel what
/// leaves is in the order of sequences.
struct LinkGather {
  struct Ready {
    var sessions: [SessionID]
    let channel: UInt32
    let delivery: Delivery

    /// One that was read from the archive tells less than one that is just written.
    func hasRoom(for other: Delivery) -> Bool {
      sessions.count < Limits.linkDeliverSessions && delivery.producer == other.producer
        && (delivery.publisher == nil) == (other.publisher == nil)
    }
  }

  /// By the channels' numbers in `places`; in each, by sequence.
  private var channels: [[Ready]] = []
  private var places: [UInt32: Int] = [:]
  /// Where the last one went: the next of its session mostly goes right behind.
  private var last = (channel: UInt32.max, place: 0, at: 0)

  var isEmpty: Bool { channels.isEmpty }

  mutating func add(_ session: SessionID, _ channel: UInt32, _ delivery: Delivery) {
    let place = place(of: channel)
    let sequence = delivery.sequence
    var at = last.channel == channel ? last.at + 1 : 0
    let count = channels[place].count
    if at >= count || channels[place][at].delivery.sequence != sequence {
      at = firstNot(before: sequence, in: channels[place])
    }
    while at < count, channels[place][at].delivery.sequence == sequence {
      if channels[place][at].hasRoom(for: delivery) {
        channels[place][at].sessions.append(session)
        last = (channel, place, at)
        return
      }
      at += 1
    }
    channels[place].insert(
      Ready(sessions: [session], channel: channel, delivery: delivery), at: at)
    last = (channel, place, at)
  }

  private mutating func place(of channel: UInt32) -> Int {
    if last.channel == channel { return last.place }
    if let known = places[channel] { return known }
    channels.append([])
    places[channel] = channels.count - 1
    return channels.count - 1
  }

  private func firstNot(before sequence: UInt64, in list: [Ready]) -> Int {
    guard let end = list.last, end.delivery.sequence >= sequence else { return list.count }
    var (low, high) = (0, list.count)
    while low < high {
      let middle = (low + high) / 2
      if list[middle].delivery.sequence < sequence { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// All of it, in the order in which it is to leave; it is empty then.
  mutating func take() -> [Ready] {
    defer { self = LinkGather() }
    return channels.count == 1 ? channels[0] : Array(channels.joined())
  }
}
