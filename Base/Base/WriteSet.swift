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
  /// Agents and the relays they come from: see `Registry+Rows.swift`.
  case registry = 5
}

/// Puts and deletes to be made as one, in a flat form that hosts can walk without allocation:
/// op (1: put, 2: delete, 3: delete range [key, value)), table, key length u32, value length u32, key, value.
public struct WriteSet: Sendable {
  public var bytes: [UInt8] = []
  public private(set) var operations = 0
  public init() {}
  public var isEmpty: Bool { operations == 0 }

  public mutating func put(_ table: Table, key: [UInt8], value: [UInt8]) {
    unsafe key.withUnsafeBytes { k in
      unsafe value.withUnsafeBytes { v in unsafe operation(1, table, k, v) }
    }
  }
  public mutating func put(
    _ table: Table, key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer
  ) {
    unsafe operation(1, table, key, value)
  }
  public mutating func delete(_ table: Table, key: [UInt8]) {
    unsafe key.withUnsafeBytes { k in
      unsafe operation(2, table, k, UnsafeRawBufferPointer(start: nil, count: 0))
    }
  }
  /// Deletes every key in `from ..< to`.
  public mutating func deleteRange(_ table: Table, from: [UInt8], to: [UInt8]) {
    unsafe from.withUnsafeBytes { k in
      unsafe to.withUnsafeBytes { v in unsafe operation(3, table, k, v) }
    }
  }

  private mutating func operation(
    _ op: UInt8, _ table: Table, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) {
    bytes.append(op)
    bytes.append(table.rawValue)
    unsafe withUnsafeBytes(of: UInt32(key.count).bigEndian) { unsafe bytes.append(contentsOf: $0) }
    unsafe withUnsafeBytes(of: UInt32(value.count).bigEndian) {
      unsafe bytes.append(contentsOf: $0)
    }
    unsafe bytes.append(contentsOf: key)
    unsafe bytes.append(contentsOf: value)
    operations += 1
  }

  /// Walks the operations in order: (op, table, key, value).
  public func forEach(
    _ body: (UInt8, Table, UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void
  ) {
    unsafe bytes.withUnsafeBytes { all in
      var r = unsafe ByteReader(all)
      while !r.atEnd {
        guard let op = try? r.byte(), let t = try? r.byte(), let table = Table(rawValue: t),
          let k = try? r.bigEndian(UInt32.self), let v = try? r.bigEndian(UInt32.self),
          let key = try? unsafe r.take(Int(k)), let value = try? unsafe r.take(Int(v))
        else { preconditionFailure("a write set is only made by its own methods") }
        unsafe body(op, table, key, value)
      }
    }
  }
}

/// A row as it was read: key and value.
public struct Row: Sendable, Equatable {
  public var key: [UInt8]
  public var value: [UInt8]
  public init(key: [UInt8], value: [UInt8]) {
    self.key = key
    self.value = value
  }
}

/// Keys of usage rows in table `tokens`: `u`, tenant (8), day since 1970 (4), writer (8); the value is
/// messages, bytes and tokens as three big-endian u64. A writer is one shard in one run of the process,
/// so that a row has one author and totals are sums. Metering rows of messages stand in the same write
/// set as the records they count.
public enum UsageRow {
  public static let kind = UInt8(ascii: "u")
  public static func key(tenant: TenantID, day: UInt32, writer: UInt64) -> [UInt8] {
    [kind] + bigEndianBytes(tenant.value) + bigEndianBytes(day) + bigEndianBytes(writer)
  }
  public static func value(messages: UInt64, bytes: UInt64, tokens: UInt64) -> [UInt8] {
    bigEndianBytes(messages) + bigEndianBytes(bytes) + bigEndianBytes(tokens)
  }
  public static func day(_ wall: Instant) -> UInt32 {
    UInt32(clamping: wall.nanoseconds / 86_400_000_000_000)
  }
}

/// Rows of table `state` that name who may use a channel of another org: `g`, channel id (16),
/// tenant (8); the value is the org name. Written by the token engine (join, grant), read by the channel's shard.
public enum GrantRow {
  public static let kind = UInt8(ascii: "g")
  public static func key(channel: ChannelID, tenant: TenantID) -> [UInt8] {
    [kind] + channel.bytes + bigEndianBytes(tenant.value)
  }
}
