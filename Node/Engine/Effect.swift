public import Base

/// What became of a publish.
public enum PublishOutcome: Sendable {
  /// Ordered, and as durable as was asked. `duplicate`: a retry, answered as the first time.
  case accepted(sequence: UInt64, duplicate: Bool)
  /// Not in the channel, never will be. `winner`: for commits, the sequence of the commit that won.
  case refused(Fault, winner: UInt64)
}

/// What an engine asks its host to do, in order.
public enum Effect: Sendable {
  /// Hand one message to a session. Costs the session `frame.count` bytes of credit.
  case deliver(SessionID, ChannelRef, Delivery)
  /// The same to each of several sessions behind one link, so that the message crosses once.
  case deliverFar([SessionID], ChannelRef, Delivery)
  /// Answer a publish. Answers of one session may come in another order than its publishes: match
  /// them by token.
  case answer(SessionID, ChannelRef, token: UInt64, mls: MLSKind, PublishOutcome)
  /// So many of a session's publishes with the token `counted` are written.
  case written(SessionID, count: Int)
  /// A subscribe was refused (no right) or took effect, when `head` was the last sequence written.
  case subscribed(SessionID, ChannelRef, token: UInt64, head: UInt64, Fault?)
  /// A reader without `follow` reached the head, or its limit.
  case readEnded(SessionID, ChannelRef)
  /// Write as one batch; then `receiveWritten(ticket)` or `receiveWriteFailed(ticket)`. Tickets of a
  /// shard complete in order, and when one fails, those issued before the failure was reported fail
  /// with it, untried.
  case write(ticket: UInt64, WriteSet, synced: Bool)
  /// Read every row of table `state` whose key is a kind of `StateKind.loaded`, then the channel id,
  /// then anything; then `receiveLoaded`, or `receiveLoadFailed`.
  case load(ChannelRef)
  /// Read records of a channel holding `from` and later, about `limitBytes` of them; then
  /// `receiveRecords(ticket, rows)` (rows of table `records`, empty at the end). The first row may
  /// begin before `from`: it is the last one whose key is not after `from`.
  case read(ticket: UInt64, ChannelRef, from: UInt64, limitBytes: Int)
  /// Read the last row of table `state` at or before `key` with the first `prefix` bytes equal; then
  /// `receiveRow(ticket, row)`.
  case seekBefore(ticket: UInt64, key: [UInt8], prefix: Int)
  /// End a session's stream with this fault. The engine has forgotten the session already;
  /// `receiveClose` for it is harmless.
  case end(SessionID, Fault)
  /// Stop or go on reading from a publisher.
  case pause(SessionID)
  case resume(SessionID)
  /// A delete is done, or failed.
  case deleted(ChannelRef, token: UInt64, Fault?)
  /// Call `receiveTick` at this (monotonic) time at the latest.
  case wake(Instant)
  /// Something worth counting or logging.
  case note(EngineNote)
}

/// Facts for metrics, logs and audit.
public enum EngineNote: Sendable {
  case generationOpened(ChannelRef, generation: UInt32, sequence: UInt64)
  case commitRefused(ChannelRef, epoch: UInt64, winner: UInt64)
  case publishWithoutRight(ChannelRef, SessionID)
  case subscribeWithoutRight(ChannelRef, SessionID)
  case nameCollision(ChannelRef)
  case damagedRecord(ChannelRef, sequence: UInt64)
  /// A row of table `state` that does not decode.
  case damagedState(ChannelRef, kind: UInt8)
  case slowSubscriber(ChannelRef, SessionID, behind: UInt64)
  case subscriberDropped(ChannelRef, SessionID)
  case accepted(messages: Int, bytes: Int)
  /// Retention dropped everything before `oldest`.
  case retained(ChannelRef, oldest: UInt64, records: Int)
  /// A write failed; what it held was rolled back, and held or refused.
  case writeFailed(Fault, messages: Int)
}
