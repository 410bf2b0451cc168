public import Base

/// Who asks.
public enum TokenCaller: Sendable {
  /// An `authorization: Bearer` text as it was presented: an API key or a JWT of ours. `peer` is the
  /// address it came from, without port: failures are counted by it.
  case bearer(String, peer: String)
  /// Development only: a client that hides its key. Acts with the oldest key of the node's only tenant, and
  /// is refused when there is not exactly one.
  case redacted(peer: String)
  /// An operator, whom the host has authenticated; `actor` goes to the audit log. No rate limit.
  case admin(actor: String)
  /// Found good, and counted, by the node that has its tenant. Never from outside the cluster.
  case proven(ProvenCaller)
}

/// One call of the token API, or of an operator.
public struct TokenRequest: Sendable {
  public var caller: TokenCaller
  public var action: TokenAction
  public init(_ caller: TokenCaller, _ action: TokenAction) {
    self.caller = caller
    self.action = action
  }
}

/// Where `org` is optional: a bearer leaves it nil and means its own tenant, an operator names it.
public enum TokenAction: Sendable {
  // For operators only.
  case createTenant(org: String, withKey: Bool)
  /// In the order of their names, those after `after` (all when empty).
  case listTenants(after: String, limit: Int)
  case suspendTenant(org: String)
  case resumeTenant(org: String)
  case deleteTenant(org: String)
  case setQuota(org: String, TokenQuota)
  /// Registers the channel when it is not.
  case grant(channel: String, org: String)
  /// The same for a tenant of another node, which has said that it is there.
  case grantKnown(channel: String, org: String)
  /// Ends the grants to a tenant that was deleted on another node; of one that was made anew, those from before.
  case dropGrantee(TenantID, before: Instant?)

  /// The tenant, and the key when a bearer asks.
  case account(org: String?)
  /// `ttlSeconds` nil: never expires. No scopes: all rights.
  case createKey(org: String?, label: String, scopes: [String], ttlSeconds: Int64?)
  case listKeys(org: String?)
  case revokeKey(id: String)

  /// Who is behind the bearer text, and whether it still may. For gRPC stream opens, and keyless HTTP use.
  case authenticate
  /// The same for a call that another node decides: counts it, and says what that node must know.
  case prove(polling: Bool)
  /// A JWT for the caller's key. nil: `Limits.jwtSeconds`, all scopes of the key.
  case issueToken(ttlSeconds: Int64?, scope: String?)
  /// Are tenant and key still active? For streams and cached JWTs; needs no credential text.
  case checkPrincipal(Principal)

  /// Idempotent.
  case registerChannel(name: String)
  /// The caller's own and those granted to it; for an operator all with the prefix.
  case listChannels(prefix: String, after: String, limit: Int)
  case getChannel(name: String)
  /// Ends registration, invites, waiting joins and grants; the archive is another matter.
  case endChannel(name: String)
  case listGrants(channel: String)
  case revokeGrant(channel: String, org: String)

  case createInvite(channel: String, maxUses: Int, ttlSeconds: Int64)
  /// Of one channel, or (empty) of all channels of the tenant.
  case listInvites(channel: String)
  case revokeInvite(id: String)

  case join(channel: String, token: String, keyPackage: [UInt8], identity: String)
  case pending(channel: String)
  case putWelcome(request: String, welcome: [UInt8])
  case getWelcome(request: String)

  /// Days since 1970 (UTC), both included; nil: today.
  case usage(org: String?, from: UInt32?, to: UInt32?)
}

/// What a tenant may use in a day (UTC). 0: no limit.
public struct TokenQuota: Hashable, Sendable {
  public var messagesPerDay: UInt64
  public var bytesPerDay: UInt64
  public var tokensPerDay: UInt64
  public init(messagesPerDay: UInt64 = 0, bytesPerDay: UInt64 = 0, tokensPerDay: UInt64 = 0) {
    self.messagesPerDay = messagesPerDay
    self.bytesPerDay = bytesPerDay
    self.tokensPerDay = tokensPerDay
  }
  public static let unlimited = TokenQuota()
}

/// How the token engine is run.
public struct TokenSettings: Sendable {
  /// Author of the token counts in usage rows: unique to this run of the process (`UsageRow`).
  public var writer: UInt64
  /// Seconds that clocks of nodes may differ when a JWT is checked.
  public var clockAllowanceSeconds: Int64 = 5
  /// Seconds a JWT lives when nothing is asked, and at most (never over `Limits.jwtMaxSeconds`).
  public var tokenSeconds = Int64(Limits.jwtSeconds)
  public var tokenMaxSeconds = Int64(Limits.jwtMaxSeconds)
  /// HTTP calls of one key.
  public var callsPerSecond = Limits.callsPerSecond
  public var callsBurst = Limits.callsBurst
  /// Polls of one key (pending, welcome): a budget of their own.
  public var pollsPerSecond = Limits.pollsPerSecond
  public var pollsBurst = Limits.pollsBurst
  /// What a new tenant may use in a day.
  public var quota = TokenQuota.unlimited

  public init(writer: UInt64) { self.writer = writer }
}
