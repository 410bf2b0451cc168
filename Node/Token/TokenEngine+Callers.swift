internal import Base
internal import Digest

/// Who a request acts for, once that is known.
struct Caller {
  /// nil: an operator.
  var principal: Principal?
  var scopes: Scopes
  /// It came with a JWT, not with the API key itself.
  var viaToken = false
  /// For the audit log.
  var actor: String
  /// Of another node's tenant: what that node said of its quota. nil: the accounts here say it.
  var isOverQuota: Bool?

  var isAdmin: Bool { principal == nil }
}

extension TokenEngine {
  /// The tenant a bearer text speaks of; nothing is checked.
  func bearerTenant(_ text: String) -> TenantID {
    Credential(.apiKey, text)?.address.tenant ?? .none
  }

  /// Refuses at the door: who is not known, who asks too often. Counts the call.
  mutating func admit(_ request: TokenRequest, at now: Now) throws(Fault) {
    let peer: String
    switch request.caller {
    case .admin, .proven: return
    case .bearer(_, let from), .redacted(let from): peer = from
    }
    let principal: Principal
    do throws(Fault) {
      guard let known = try caller(request.caller, at: now).principal else { return }
      principal = known
    } catch {
      if !failures.count(peer, at: now.monotonic) {
        throw Fault(.rateLimited, "too many failed authentications")
      }
      throw error
    }
    guard accounts[principal.tenant]?.keys[principal.key] != nil else { return }
    accounts[principal.tenant]!.keys[principal.key]!.lastUsed = now.wall
    let admitted =
      request.action.isPoll
      ? accounts[principal.tenant]!.keys[principal.key]!.polls.take(
        at: now.monotonic, perSecond: settings.pollsPerSecond, burst: settings.pollsBurst)
      : accounts[principal.tenant]!.keys[principal.key]!.calls.take(
        at: now.monotonic, perSecond: settings.callsPerSecond, burst: settings.callsBurst)
    if !admitted { throw Fault(.rateLimited, "more calls of this key than its budget") }
  }

  func caller(_ caller: TokenCaller, at now: Now) throws(Fault) -> Caller {
    switch caller {
    case .admin(let actor): return Caller(principal: nil, scopes: .all, actor: actor)
    case .bearer(let text, _): return try identify(text, wall: now.wall)
    case .proven(let proven):
      let own = proven.principal
      return Caller(
        principal: own, scopes: proven.scopes, viaToken: proven.viaToken,
        actor: "key:\(RecordAddress(tenant: own.tenant, record: own.key))",
        isOverQuota: proven.isOverQuota)
    case .redacted:
      guard let (account, key) = onlyKey() else {
        throw Fault(.unauthorized, "a hidden key works on a node with one tenant only")
      }
      try check(account.record, key, wall: now.wall)
      return self.caller(account.record, key, scopes: key.scopes, viaToken: false)
    }
  }

  /// The oldest unrevoked key of the only tenant.
  func onlyKey() -> (account: Account, key: KeyRecord)? {
    let alive = accounts.byID.values.lazy.filter { $0.record.state != .deleted }.prefix(2)
    guard let account = alive.first, alive.count == 1 else { return nil }
    let keys = account.keys.values.filter { $0.revoked == nil }
    return keys.min { ($0.created, $0.id) < ($1.created, $1.id) }.map { (account, $0) }
  }

  /// An API key or a JWT of ours: who it is, and that key and tenant are active.
  func identify(_ text: String, wall: Instant) throws(Fault) -> Caller {
    if text.isEmpty { throw Fault(.unauthorized) }
    if text.utf8.starts(with: Credential.Kind.apiKey.rawValue.utf8) {
      guard let credential = Credential(.apiKey, text),
        let account = accounts[credential.address.tenant],
        let key = account.keys[credential.address.record], credential.matches(key.digest)
      else { throw Fault(.unauthorized, "unknown API key") }
      try check(account.record, key, wall: wall)
      return caller(account.record, key, scopes: key.scopes, viaToken: false)
    }
    let claims = try JWT.verify(
      text, keys: signingKeys, wall: wall, allowance: settings.clockAllowanceSeconds)
    guard let account = accounts[claims.tenant], account.record.org == claims.org,
      let key = account.keys[claims.key]
    else { throw Fault(.unauthorized, "the token's key is gone") }
    try check(account.record, key, wall: wall)
    return caller(
      account.record, key, scopes: claims.scopes.intersection(key.scopes), viaToken: true)
  }

  private func caller(
    _ tenant: TenantRecord, _ key: KeyRecord, scopes: Scopes, viaToken: Bool
  ) -> Caller {
    Caller(
      principal: Principal(tenant: tenant.id, org: tenant.org, key: key.id), scopes: scopes,
      viaToken: viaToken, actor: "key:\(RecordAddress(tenant: tenant.id, record: key.id))")
  }

  func check(_ tenant: TenantRecord, _ key: KeyRecord, wall: Instant) throws(Fault) {
    switch tenant.state {
    case .active: break
    case .suspended: throw Fault(.tenantSuspended)
    case .deleted: throw Fault(.unauthorized, "the tenant was deleted")
    }
    if !key.isActive(wall) { throw Fault(.keyRevoked) }
  }

  /// The account an action is about: the one an operator names, or the caller's own.
  func subject(_ org: String?, _ caller: Caller) throws(Fault) -> Account {
    if let own = caller.principal {
      guard org == nil || org == own.org else { throw Fault(.forbidden) }
      return try account(own.tenant)
    }
    guard let org else { throw Fault(.badRequest, "a tenant must be named") }
    return try account(named: org)
  }

  /// A tenant that is not deleted.
  func account(named org: String) throws(Fault) -> Account {
    guard let account = accounts[TenantID(org: org)], account.record.org == org,
      account.record.state != .deleted
    else { throw Fault(.notFound, "no tenant of that name") }
    return account
  }

  func account(_ id: TenantID) throws(Fault) -> Account {
    guard let account = accounts[id], account.record.state != .deleted else {
      throw Fault(.notFound, "no such tenant")
    }
    return account
  }

  /// Operators have every right.
  func require(_ scope: Scopes, _ caller: Caller) throws(Fault) {
    guard caller.scopes.contains(scope) else {
      throw Fault(.forbidden, "this needs the scope \(scope.claim)")
    }
  }

  func requireAdmin(_ caller: Caller) throws(Fault) {
    if !caller.isAdmin { throw Fault(.forbidden) }
  }

  /// What makes things is refused while the tenant is over its quota.
  func requireQuota(_ caller: Caller, at now: Now) throws(Fault) {
    if let over = caller.isOverQuota {
      if over { throw Fault(.quotaExceeded) }
      return
    }
    guard let own = caller.principal, let account = accounts[own.tenant] else { return }
    if account.isOverQuota(UsageRow.day(now.wall)) { throw Fault(.quotaExceeded) }
  }

  /// A channel name whose org could be a tenant, and its id.
  func channelID(_ text: String) throws(Fault) -> (ChannelName, ChannelID) {
    guard let name = ChannelName(text), isOrgName(name.org) else { throw Fault(.badChannelName) }
    return (name, ChannelID(family: .skytale, name: name.description))
  }
}
