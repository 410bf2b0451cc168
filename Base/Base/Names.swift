/// A channel's name, `org/namespace/service`: split at the first two `/`, at most
/// `Limits.channelNameBytes` of UTF-8 in all; the service may itself hold `/`.
public struct ChannelName: Hashable, Sendable, CustomStringConvertible {
  public let org: String
  public let namespace: String
  public let service: String

  /// nil when a part is empty or the whole is too long.
  public init?(org: String, namespace: String, service: String) {
    guard !org.isEmpty, !namespace.isEmpty, !service.isEmpty,
      !org.utf8.contains(0x2f), !namespace.utf8.contains(0x2f),
      org.utf8.count + namespace.utf8.count + service.utf8.count + 2 <= Limits.channelNameBytes
    else { return nil }
    self.org = org
    self.namespace = namespace
    self.service = service
  }

  public init?(_ text: String) {
    // By bytes: a mark that joins the slash before it to one character makes no other name. And nothing
    // long is looked at.
    guard text.utf8.count <= Limits.channelNameBytes else { return nil }
    let parts = text.utf8.split(separator: 0x2f, maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3 else { return nil }
    self.init(
      org: String(decoding: parts[0], as: UTF8.self),
      namespace: String(decoding: parts[1], as: UTF8.self),
      service: String(decoding: parts[2], as: UTF8.self))
  }

  /// The canonical form: what is hashed, stored and shown.
  public var description: String { "\(org)/\(namespace)/\(service)" }
}

/// Org names: `[a-z0-9-]{1,63}`.
public func isOrgName(_ text: String) -> Bool {
  let utf8 = text.utf8
  guard (1...63).contains(utf8.count) else { return false }
  return utf8.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d }
}

/// Which wire family a channel belongs to. Families never share a channel.
public enum Family: UInt8, Sendable, CaseIterable {
  case skytale = 1
  case slimA = 2
  case slimB = 3
}

/// 16 bytes: XXH64 of the canonical name, big-endian (its top bits are the slot), then the first
/// 8 bytes of SHA-256(family, name, id). `Digest` makes it.
public struct ChannelID: Hashable, Sendable, Comparable {
  public var high: UInt64
  public var low: UInt64
  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(high ^ low) }
  public static func < (a: ChannelID, b: ChannelID) -> Bool { (a.high, a.low) < (b.high, b.low) }
  /// The slot in a ring of `1 << Limits.slotBits` slots.
  public var slot: UInt16 { UInt16(truncatingIfNeeded: high >> UInt64(64 - Limits.slotBits)) }
  public var bytes: [UInt8] { bigEndianBytes(high) + bigEndianBytes(low) }
}

/// 8 bytes: XXH64 of the org name; its top bits are the tenant's slot.
public struct TenantID: Hashable, Sendable, Comparable {
  public var value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public static func < (a: TenantID, b: TenantID) -> Bool { a.value < b.value }
  public static let none = TenantID(0)
}

/// 8 random bytes naming a node for life, made when its data directory is. `none` (0) is no node's.
public struct NodeID: Hashable, Sendable, Comparable, CustomStringConvertible {
  public var value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public static func < (a: NodeID, b: NodeID) -> Bool { a.value < b.value }
  public static let none = NodeID(0)
  /// 16 hex digits.
  public var description: String { Text.hex(bigEndianBytes(value)) }
}

/// 8 random bytes naming a key, invite or join request within its tenant.
public struct RecordID: Hashable, Sendable, Comparable {
  public var value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public static func < (a: RecordID, b: RecordID) -> Bool { a.value < b.value }
}

/// One agent's stream on this node: loop index (top 8 bits), generation, slot in that loop's table.
public struct SessionID: Hashable, Sendable {
  public var value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public init(loop: Int, generation: UInt32, index: Int) {
    value = UInt64(loop & 0xff) << 56 | UInt64(generation & 0xff_ffff) << 32 | UInt64(UInt32(index))
  }
  public var loop: Int { Int(value >> 56) }
  public var index: Int { Int(value & 0xffff_ffff) }

  /// Loops from here to the one before the last stand for links: their sessions are another node's.
  public static let firstLinkLoop = 128
  public var isBehindLink: Bool { (SessionID.firstLinkLoop..<255).contains(loop) }
}

/// Who a stream acts for. Bound when the stream opens; rights are looked up at each use.
public struct Principal: Hashable, Sendable {
  public var tenant: TenantID
  public var org: String
  public var key: RecordID
  /// True under `--auth open` for a stream that presented nothing: it may use every channel.
  public var anonymous: Bool
  public init(tenant: TenantID, org: String, key: RecordID, anonymous: Bool = false) {
    self.tenant = tenant
    self.org = org
    self.key = key
    self.anonymous = anonymous
  }
}
