public import Base

/// Tables of the store. The raw value is part of the format.
public enum Table: UInt8, Sendable, CaseIterable {
  /// Format version, node identity, slot state.
  case meta = 0
  /// channel id (16) + first sequence (8, big-endian) -> record.
  case records = 1
  /// slot (2) + log index (8) -> channel id + first sequence.
  case slots = 2
  /// One-byte kind + channel id (16) + ... -> heads, names, commits, producers, grants.
  case state = 3
  /// Tenants, keys, invites, join requests, usage.
  case tokens = 4
}

/// Puts and deletes to be made as one, in a flat form that hosts can walk without allocation:
/// op (1: put, 2: delete, 3: delete range [key, value)), table, key length u32, value length u32, key, value.
public struct WriteSet: Sendable {
  public var bytes: [UInt8] = []
  public private(set) var operations = 0
  public init() {}
  public var isEmpty: Bool { operations == 0 }

  public mutating func put(_ table: Table, key: [UInt8], value: [UInt8]) {
    key.withUnsafeBytes { k in value.withUnsafeBytes { v in operation(1, table, k, v) } }
  }
  public mutating func put(_ table: Table, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
    operation(1, table, key, value)
  }
  public mutating func delete(_ table: Table, key: [UInt8]) {
    key.withUnsafeBytes { k in
      operation(2, table, k, UnsafeRawBufferPointer(start: nil, count: 0))
    }
  }
  /// Deletes every key in `from ..< to`.
  public mutating func deleteRange(_ table: Table, from: [UInt8], to: [UInt8]) {
    from.withUnsafeBytes { k in to.withUnsafeBytes { v in operation(3, table, k, v) } }
  }

  private mutating func operation(
    _ op: UInt8, _ table: Table, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) {
    bytes.append(op)
    bytes.append(table.rawValue)
    withUnsafeBytes(of: UInt32(key.count).bigEndian) { bytes.append(contentsOf: $0) }
    withUnsafeBytes(of: UInt32(value.count).bigEndian) { bytes.append(contentsOf: $0) }
    bytes.append(contentsOf: key)
    bytes.append(contentsOf: value)
    operations += 1
  }

  /// Walks the operations in order: (op, table, key, value).
  public func forEach(
    _ body: (UInt8, Table, UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void
  ) {
    bytes.withUnsafeBytes { all in
      var r = ByteReader(all)
      while !r.atEnd {
        guard let op = try? r.byte(), let t = try? r.byte(), let table = Table(rawValue: t),
          let k = try? r.bigEndian(UInt32.self), let v = try? r.bigEndian(UInt32.self),
          let key = try? r.take(Int(k)), let value = try? r.take(Int(v))
        else { preconditionFailure("a write set is only made by its own methods") }
        body(op, table, key, value)
      }
    }
  }
}

/// A row as it was read: key and value.
public struct Row: Sendable {
  public var key: [UInt8]
  public var value: [UInt8]
  public init(key: [UInt8], value: [UInt8]) {
    self.key = key
    self.value = value
  }
}

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
  /// Answer a publish.
  case answer(SessionID, ChannelRef, token: UInt64, mls: MLSKind, PublishOutcome)
  /// A subscribe was refused (no right) or took effect.
  case subscribed(SessionID, ChannelRef, token: UInt64, Fault?)
  /// A reader without `follow` reached the head, or its limit.
  case readEnded(SessionID, ChannelRef)
  /// Write as one batch; then `receiveWritten(ticket)` or `receiveWriteFailed(ticket)`. Tickets of a
  /// shard complete in order.
  case write(ticket: UInt64, WriteSet, synced: Bool)
  /// Read every row of table `state` whose key has the channel id after its first byte, for each of
  /// `StateKind`; then `receiveLoaded`.
  case load(ChannelRef)
  /// Read records of a channel holding `from` and later, about `limitBytes` of them; then
  /// `receiveRecords(ticket, rows)` (rows of table `records`, empty at the end).
  case read(ticket: UInt64, ChannelRef, from: UInt64, limitBytes: Int)
  /// Read the last row of table `state` at or before `key` with the first `prefix` bytes equal; then
  /// `receiveRow(ticket, row)`.
  case seekBefore(ticket: UInt64, key: [UInt8], prefix: Int)
  /// End a session's stream with this fault.
  case end(SessionID, Fault)
  /// Stop or go on reading from a publisher.
  case pause(SessionID)
  case resume(SessionID)
  /// Call `receiveTick` at this time at the latest.
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
  case slowSubscriber(ChannelRef, SessionID, behind: UInt64)
  case subscriberDropped(ChannelRef, SessionID)
  case accepted(messages: Int, bytes: Int)
}
