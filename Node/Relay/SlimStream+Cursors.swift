import Base
import Codec
import Engine
import Grpc
import Http
import Loop
import Report
import Settings
import Slim

// Archived channels that this stream reads by itself: replays, and what its app was too slow for.
extension SlimStream {
  /// Asked of the engine under a token; it delivers once it has said yes.
  struct Cursor {
    let token: UInt64
    /// Replaces what the hub hands out: at once when the queue ran over, else from the engine's yes on.
    var isAlone: Bool
    var hasBegun = false
    /// What was written until then, up to this sequence, is replayed.
    var head: UInt64 = 0
    var since = Instant.zero
  }

  /// Reads the last messages of a channel it just subscribed to, and goes on from there.
  func replay(_ channel: ChannelRef) {
    guard cursors[channel.id] == nil, !isClosed else { return }
    read(channel, .last(UInt64(session.shard.node.settings.slimReplay)), alone: false)
  }

  private func read(_ channel: ChannelRef, _ start: Start, alone: Bool) {
    lastToken += 1
    cursors[channel.id] = Cursor(token: lastToken, isAlone: alone)
    session.shard.subscribe(
      session, channel, Subscription(start: start, follow: true, limit: 0, token: lastToken))
  }

  /// From here on the engine sends this channel to this stream alone.
  func cursorBegins(_ channel: ChannelRef, token: UInt64, head: UInt64, _ fault: Fault?) {
    guard var cursor = cursors[channel.id], cursor.token == token else { return }
    if let fault {
      cursors[channel.id] = nil
      // It would miss messages from here on.
      if cursor.isAlone { session.end(fault) }
      return
    }
    if !cursor.isAlone { (cursor.head, cursor.since) = (head, session.shard.loop.now.wall) }
    cursor.isAlone = true
    cursor.hasBegun = true
    cursors[channel.id] = cursor
  }

  func cursorEnds(_ channel: ChannelRef) {
    if cursors.removeValue(forKey: channel.id) != nil {
      session.shard.unsubscribe(session, channel)
    }
  }

  /// A message of a channel that this stream reads itself.
  func deliver(_ channel: ChannelRef, _ delivery: Delivery) {
    guard !isClosed else { return }
    guard let cursor = cursors[channel.id], cursor.hasBegun, !isStale(delivery, cursor) else {
      session.forgive(delivery.frame.count, of: channel.id)
      return
    }
    let (record, repeats) = SlimHeaderRecord.of(delivery.frame, family, lastDelivered)
    guard let record else { return }
    lastDelivered = record.isShort ? record : nil
    send(record.holed(delivery.frame), record.hop, repeats: repeats)
  }

  /// Replayed are messages, and only young ones: changes of the group were repeated by who made them.
  private func isStale(_ delivery: Delivery, _ cursor: Cursor) -> Bool {
    guard delivery.sequence <= cursor.head else { return false }
    return delivery.type != UInt8(SlimNames.message)
      || cursor.since - delivery.wall > session.shard.node.settings.slimReplayWindow
  }

  /// The app does not keep up, and must delay nobody: what is archived it reads on from there, else it must go.
  func overflow(_ message: borrowing SlimMessage) {
    guard session.call.isOpen, !session.call.isFinished else { return }
    if let channel = message.channel, !message.isAnycast {
      cursorEnds(channel)
      hub.counts.lagging &+= 1
      read(channel, .sequence(message.sequence), alone: true)
      return
    }
    if message.isAnycast, session.shard.node.settings.slimDropsOldest {
      hub.counts.dropped &+= session.call.dropOldest(to: hub.queueLimit - message.frame.count)
      send(message)
      return
    }
    hub.counts.overflows &+= 1
    session.shard.node.log.warn(
      "SLIM stream disconnected: its queue ran over",
      ["org": .of(session.principal.org), "queued": .of(session.call.queuedBytes)])
    session.end(
      Fault(.stalled, "more than \(Limits.slimQueueBytes) bytes wait for this stream"),
      discarding: true)
  }
}
