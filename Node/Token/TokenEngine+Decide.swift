internal import Base
internal import Digest

extension TokenEngine {
  /// What becomes of a request, by what is written now. Changes nothing but leases, polls and counts.
  mutating func decide(
    _ request: TokenRequest, entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    let caller = try caller(request.caller, at: now)
    switch request.action {
    case .createTenant, .listTenants, .suspendTenant, .resumeTenant, .deleteTenant, .setQuota,
      .account:
      return try decideTenant(request.action, caller, entropy: entropy, at: now)
    case .createKey, .listKeys, .revokeKey, .authenticate, .prove, .issueToken, .checkPrincipal:
      return try decideKey(request.action, caller, entropy: entropy, at: now)
    case .registerChannel, .listChannels, .getChannel, .endChannel, .grant, .grantKnown,
      .listGrants, .revokeGrant, .dropGrantee:
      return try decideChannel(request.action, caller, at: now)
    case .createInvite, .listInvites, .revokeInvite:
      return try decideInvite(request.action, caller, entropy: entropy, at: now)
    case .join(let channel, let token, let keyPackage, let identity):
      return try join(
        channel, token, keyPackage, identity, caller, entropy: entropy, at: now)
    case .pending(let channel): return .answer(try pending(channel, caller, at: now))
    case .putWelcome(let id, let welcome):
      return try putWelcome(id, welcome, caller, at: now)
    case .getWelcome(let id): return .answer(try getWelcome(id, caller, at: now))
    case .usage(let org, let from, let to):
      return .answer(try usage(org, from: from, to: to, caller, at: now))
    }
  }

  private func decideTenant(
    _ action: TokenAction, _ caller: Caller, entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    switch action {
    case .account(let org):
      let account = try subject(org, caller)
      let key = caller.principal.flatMap { account.keys[$0.key] }
      return .answer(.account(view(account, at: now), key.map { view(account, $0) }))
    default: try requireAdmin(caller)
    }
    switch action {
    case .createTenant(let org, let withKey):
      return try createTenant(org, withKey: withKey, caller, entropy: entropy, at: now)
    case .listTenants(let after, let limit): return .answer(listTenants(after, limit, at: now))
    case .suspendTenant(let org): return try setState(org, .suspended, caller, at: now)
    case .resumeTenant(let org): return try setState(org, .active, caller, at: now)
    case .deleteTenant(let org): return try deleteTenant(org, caller, at: now)
    case .setQuota(let org, let quota): return try setQuota(org, quota, caller, at: now)
    default: preconditionFailure("not an action on tenants")
    }
  }

  private func decideKey(
    _ action: TokenAction, _ caller: Caller, entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    switch action {
    case .createKey(let org, let label, let scopes, let ttl):
      return try createKey(
        org, label: label, scopes: scopes, ttlSeconds: ttl, caller, entropy: entropy, at: now)
    case .listKeys(let org):
      try require(.keys, caller)
      let account = try subject(org, caller)
      let keys = account.keys.values.sorted { ($0.created, $0.id) < ($1.created, $1.id) }
      return .answer(.keys(keys.map { view(account, $0) }))
    case .revokeKey(let id): return try revokeKey(id, caller, at: now)
    case .authenticate:
      guard let principal = caller.principal else {
        throw Fault(.badRequest, "an operator has no key")
      }
      return .answer(.principal(principal, caller.scopes))
    case .prove:
      guard let principal = caller.principal else {
        throw Fault(.badRequest, "an operator has no key")
      }
      return .answer(
        .proven(
          ProvenCaller(
            principal: principal, scopes: caller.scopes, viaToken: caller.viaToken,
            isOverQuota: isOverQuota(principal.tenant, wall: now.wall))))
    case .issueToken(let ttl, let scope):
      return try issueToken(ttlSeconds: ttl, scope: scope, caller, at: now)
    case .checkPrincipal(let principal):
      try requireAdmin(caller)
      guard let account = accounts[principal.tenant], account.record.org == principal.org,
        let key = account.keys[principal.key]
      else { throw Fault(.unauthorized, "the key is gone") }
      try check(account.record, key, wall: now.wall)
      return .answer(.principal(principal, key.scopes))
    default: preconditionFailure("not an action on keys")
    }
  }

  private func decideChannel(
    _ action: TokenAction, _ caller: Caller, at now: Now
  ) throws(Fault) -> Decision {
    switch action {
    case .registerChannel(let name): return try registerChannel(name, caller, at: now)
    case .listChannels(let prefix, let after, let limit):
      try require(.channels, caller)
      return .answer(try listChannels(prefix, after, limit, caller))
    case .getChannel(let name):
      try require(.channels, caller)
      let (state, owned) = try visible(name, caller)
      return .answer(.channel(view(state, name, owned: owned), created: false))
    case .endChannel(let name): return try endChannel(name, caller)
    case .grant(let name, let org):
      try requireAdmin(caller)
      _ = try account(named: channelID(name).0.org)
      return try grant(name, org, account(named: org).record.id, caller, at: now)
    case .grantKnown(let name, let org):
      try requireAdmin(caller)
      guard isOrgName(org) else { throw Fault(.notFound, "no tenant of that name") }
      return try grant(name, org, TenantID(org: org), caller, at: now)
    case .dropGrantee(let tenant, let before): return try dropGrantee(tenant, before, caller)
    case .listGrants(let name): return .answer(try listGrants(name, caller))
    case .revokeGrant(let name, let org): return try revokeGrant(name, org, caller)
    default: preconditionFailure("not an action on channels")
    }
  }

  private func decideInvite(
    _ action: TokenAction, _ caller: Caller, entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    switch action {
    case .createInvite(let channel, let maxUses, let ttl):
      return try createInvite(
        channel, maxUses: maxUses, ttlSeconds: ttl, caller, entropy: entropy, at: now)
    case .listInvites(let channel): return .answer(try listInvites(channel, caller, at: now))
    case .revokeInvite(let id): return try revokeInvite(id, caller)
    default: preconditionFailure("not an action on invites")
    }
  }
}
