import Base
import Engine

/// Messages of a shard for the sessions of one other node, until its turn ends: one that several of them get leaves once.
/// Engines tell a live one for all that stand alike, and others session by session, each in the order of the channel; within
/// a channel what leaves is in the order of sequences.
struct LinkGather {
  /// A message and the proxies of those that get it.
  struct Ready: Sendable {
    var sessions: [SessionID]
    let channel: ChannelRef
    let delivery: Delivery

    /// One that was read from the archive tells less than one that is just written.
    func isLike(_ other: Delivery) -> Bool {
      delivery.producer == other.producer
        && (delivery.publisher == nil) == (other.publisher == nil)
    }
  }

  /// By the channels' ids in `places`; in each, by sequence.
  private var channels: [[Ready]] = []
  private var places: [ChannelID: Int] = [:]
  /// Where the last one went: the next of its session mostly goes right behind.
  private var last: (channel: ChannelID, place: Int, at: Int)?

  var isEmpty: Bool { channels.isEmpty }

  mutating func add(_ sessions: [SessionID], _ channel: ChannelRef, _ delivery: Delivery) {
    let place = place(of: channel.id)
    let sequence = delivery.sequence
    var at = 0
    if let last, last.channel == channel.id {
      // Mostly one after the other.
      at = channels[place][last.at].delivery.sequence == sequence ? last.at : last.at + 1
    }
    let count = channels[place].count
    if at >= count || channels[place][at].delivery.sequence != sequence {
      at = firstNot(before: sequence, in: channels[place])
    }
    var left = sessions[...]
    while at < count, channels[place][at].delivery.sequence == sequence {
      let room = Limits.linkDeliverSessions - channels[place][at].sessions.count
      if room > 0, channels[place][at].isLike(delivery) {
        channels[place][at].sessions += left.prefix(room)
        left = left.dropFirst(room)
        last = (channel.id, place, at)
        if left.isEmpty { return }
      }
      at += 1
    }
    repeat {
      let part = left.prefix(Limits.linkDeliverSessions)
      left = left.dropFirst(part.count)
      let all = part.count == sessions.count ? sessions : Array(part)
      channels[place].insert(
        Ready(sessions: all, channel: channel, delivery: delivery), at: at)
      last = (channel.id, place, at)
      at += 1
    } while !left.isEmpty
  }

  private mutating func place(of channel: ChannelID) -> Int {
    if let last, last.channel == channel { return last.place }
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
    let all = channels.count == 1 ? channels[0] : Array(channels.joined())
    channels.removeAll(keepingCapacity: channels.count <= 64)
    places.removeAll(keepingCapacity: places.count <= 64)
    last = nil
    return all
  }
}
