internal import Base

// What is kept of a tenant, one row each in table `tokens`: kind byte, tenant (8), then what the record
// is named by. A value begins with its format version. Fields marked `memory` are not written.

struct TenantRecord {
  var id: TenantID
  var org: String
  var state: TenantState
  var generation: UInt32
  var created: Instant
  var quota: TokenQuota
}

struct KeyRecord {
  var id: RecordID
  /// SHA-256 of the secret.
  var digest: [UInt8]
  var label: String
  var scopes: Scopes
  var created: Instant
  var expires: Instant?
  var revoked: Instant?
  /// Written to the hour.
  var lastUsedWritten: Instant?
  /// memory: exact
  var lastUsed: Instant?
  /// memory
  var calls = RateBucket()
  /// memory
  var polls = RateBucket()

  func isActive(_ wall: Instant) -> Bool {
    revoked == nil && (expires.map { wall < $0 } ?? true)
  }
}

struct ChannelRecord {
  var id: ChannelID
  var name: String
  var created: Instant
}

struct GrantRecord {
  var channel: ChannelID
  var tenant: TenantID
  var org: String
  var created: Instant
  var joined: Bool
}

struct InviteRecord {
  var id: RecordID
  var digest: [UInt8]
  var channel: ChannelID
  var maxUses: UInt32
  var uses: UInt32
  var created: Instant
  var expires: Instant
}

struct JoinRecord {
  var id: RecordID
  var channel: ChannelID
  var joiner: TenantID
  var status: JoinStatus
  var created: Instant
  var identity: String
  /// Empty once it is not pending.
  var keyPackage: [UInt8]
  /// Empty until it is completed.
  var welcome: [UInt8]
  /// memory: how often it was handed to the owner.
  var served = 0
  /// memory, monotonic: hidden from polls until then.
  var leasedUntil = Instant.zero
  /// memory, monotonic: when the joiner last asked for its welcome.
  var lastPoll = Instant.zero
  /// memory, monotonic: when a completed or expired one is forgotten.
  var keptUntil = Instant.zero
  /// memory
  var fetched = false

  var bytes: Int { keyPackage.count + welcome.count + identity.utf8.count }
}

/// One change of the accounts: a row to write and what it does in memory. Loading a row is the same change.
enum Mutation {
  case putTenant(TenantRecord)
  case putKey(TenantID, KeyRecord)
  case dropKey(TenantID, RecordID)
  case putChannel(TenantID, ChannelRecord)
  case dropChannel(TenantID, ChannelID)
  case putGrant(TenantID, GrantRecord)
  case dropGrant(TenantID, ChannelID, TenantID)
  case putInvite(TenantID, InviteRecord)
  case dropInvite(TenantID, RecordID)
  case putJoin(TenantID, JoinRecord)
  case dropJoin(TenantID, RecordID)
  /// Everything of the tenant but its own row, its usage and grants (those are dropped one by one).
  case clear(TenantID)
  /// Tokens issued in this run of the process.
  case putTokens(TenantID, day: UInt32, writer: UInt64, UInt64)
}

enum RowKind {
  static let tenant = UInt8(ascii: "t")
  static let key = UInt8(ascii: "k")
  static let channel = UInt8(ascii: "c")
  static let grant = UInt8(ascii: "g")
  static let invite = UInt8(ascii: "i")
  static let join = UInt8(ascii: "j")
  /// Those that end with their tenant.
  static let ofTenant = [key, channel, grant, invite, join]
}
