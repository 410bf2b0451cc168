public import Base

/// What came of a request. All instants are wall clock.
public enum TokenReply: Sendable {
  case tenant(TenantView)
  /// `apiKey` is shown this once.
  case tenantCreated(TenantView, KeyView?, apiKey: String?)
  /// `next` goes into `after` of the next call; empty at the end.
  case tenants([TenantView], next: String)
  case account(TenantView, KeyView?)
  case keyCreated(KeyView, apiKey: String)
  case keys([KeyView])
  case key(KeyView)
  case principal(Principal, Scopes)
  case proven(ProvenCaller)
  /// Of that many grants.
  case grantsDropped(Int)
  case token(String, expiresAt: Instant, Scopes)
  case channel(ChannelView, created: Bool)
  case channels([ChannelView], next: String)
  case grants([GrantView])
  case grant(GrantView)
  /// `token` is shown this once.
  case inviteCreated(InviteView, token: String)
  case invites([InviteView])
  case invite(InviteView)
  case joinRequested(id: String)
  case pending([PendingView])
  case welcomeStored(id: String)
  case welcome(id: String, JoinStatus, [UInt8])
  case usage(org: String, [UsageView])
}

public enum TenantState: UInt8, Sendable {
  case active = 1
  case suspended = 2
  case deleted = 3
  public var name: String {
    switch self {
    case .active: "active"
    case .suspended: "suspended"
    case .deleted: "deleted"
    }
  }
}

public struct TenantView: Sendable {
  public var org: String
  public var id: TenantID
  public var state: TenantState
  /// 1, and one more for each time the name was deleted and made again.
  public var generation: UInt32
  public var created: Instant
  public var quota: TokenQuota
  /// Keys that are neither revoked nor expired.
  public var keys: Int
  public var channels: Int
  public var today: UsageCount
  /// base32 of the tenant id.
  public var idText: String { Text.base32(bigEndianBytes(id.value)) }
}

public struct KeyView: Sendable {
  public var id: String
  public var org: String
  public var label: String
  public var scopes: Scopes
  public var created: Instant
  public var expires: Instant?
  public var revoked: Instant?
  /// To the hour after a restart.
  public var lastUsed: Instant?
}

public struct ChannelView: Sendable {
  public var id: ChannelID
  public var name: String
  public var org: String
  public var created: Instant
  /// True when the caller's tenant owns it, or an operator asks.
  public var owned: Bool
  /// Orgs with a grant, sorted; empty unless `owned`.
  public var grants: [String]
  public var idText: String { Text.hex(id.bytes) }
}

public struct GrantView: Sendable {
  public var channel: String
  public var org: String
  public var created: Instant
  /// True: written by a join; false: by an operator.
  public var joined: Bool
}

public struct InviteView: Sendable {
  public var id: String
  public var channel: String
  public var maxUses: Int
  public var uses: Int
  public var created: Instant
  public var expires: Instant
}

public struct PendingView: Sendable {
  public var id: String
  public var keyPackage: [UInt8]
  public var identity: String
  public var created: Instant
}

public enum JoinStatus: UInt8, Sendable {
  case pending = 1
  case completed = 2
  case expired = 3
  public var name: String {
    switch self {
    case .pending: "pending"
    case .completed: "completed"
    case .expired: "expired"
    }
  }
}

public struct UsageCount: Hashable, Sendable {
  public var messages: UInt64
  public var bytes: UInt64
  public var tokens: UInt64
  public init(messages: UInt64 = 0, bytes: UInt64 = 0, tokens: UInt64 = 0) {
    self.messages = messages
    self.bytes = bytes
    self.tokens = tokens
  }
}

public struct UsageView: Sendable {
  /// Days since 1970, UTC.
  public var day: UInt32
  public var count: UsageCount
}

/// What the token engine asks its host to do, in order.
public enum TokenEffect: Sendable {
  /// Write as one batch, then `receiveWritten` or `receiveWriteFailed` with the ticket. Any order.
  case write(ticket: UInt64, WriteSet)
  case reply(token: UInt64, Result<TokenReply, Fault>)
  /// A tenant may use a channel of another org from now on.
  case granted(ChannelID, TenantID, org: String)
  case grantRevoked(ChannelID, TenantID)
  /// End the streams that were opened with this key: revoked or expired.
  case keyEnded(TenantID, RecordID)
  /// End all streams of this tenant: suspended or deleted.
  case tenantEnded(TenantID)
  case audit(action: String, actor: String, subject: String)
}
