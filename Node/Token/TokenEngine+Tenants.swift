internal import Base
internal import Digest

extension TokenEngine {
  func view(_ account: Account, at now: Now) -> TenantView {
    let tenant = account.record
    return TenantView(
      org: tenant.org, id: tenant.id, state: tenant.state, generation: tenant.generation,
      created: tenant.created, quota: tenant.quota,
      keys: account.keys.values.count { $0.isActive(now.wall) }, channels: account.channels.count,
      today: account.used(UsageRow.day(now.wall)))
  }

  private func view(_ tenant: TenantRecord, at now: Now) -> TenantView {
    var account = accounts[tenant.id] ?? Account(record: tenant)
    account.record = tenant
    return view(account, at: now)
  }

  func createTenant(
    _ org: String, withKey: Bool, _ caller: Caller, entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    guard isOrgName(org) else {
      throw Fault(.badRequest, "a tenant's name is 1 to 63 of a-z, 0-9 and -")
    }
    let id = TenantID(org: org)
    var tenant = TenantRecord(
      id: id, org: org, state: .active, generation: 1, created: now.wall, quota: settings.quota)
    if id == .none { throw Fault(.nameCollision, "this name cannot be a tenant's") }
    if let old = accounts[id]?.record {
      guard old.org == org else {
        throw Fault(.nameCollision, "another tenant has the same id; choose another name")
      }
      guard old.state == .deleted else { throw Fault(.conflict, "the tenant exists") }
      tenant.generation = old.generation &+ 1
    }
    var change = Change(mutations: [.putTenant(tenant)])
    change.effects.append(audit("tenant.create", caller, org))
    var key: KeyRecord?
    var text: String?
    if withKey {
      let made = makeKey(tenant, label: "first", scopes: .all, expires: nil, entropy, at: now)
      key = made.key
      text = made.text
      change.mutations.append(.putKey(id, made.key))
      change.effects.append(
        audit("key.create", caller, "\(RecordAddress(tenant: id, record: made.key.id))"))
    }
    // As it will be: its rows are written together.
    var account = Account(record: tenant)
    if let old = accounts[id] { account.usage = old.usage }
    if let key { account.keys[key.id] = key }
    change.reply = .tenantCreated(
      view(account, at: now), key.map { view(account, $0) }, apiKey: text)
    return .change(change)
  }

  func listTenants(_ after: String, _ limit: Int, at now: Now) -> TokenReply {
    let limit = rows(limit)
    let found = accounts.orgs.list(prefix: "", after: after, limit: limit + 1)
    let page = found.prefix(limit).compactMap { accounts[TenantID(org: $0)] }
    return .tenants(
      page.map { view($0, at: now) }, next: found.count > limit ? page.last!.record.org : "")
  }

  /// Rows of one answer: as asked, within the limit; 0 or less asks for the most.
  func rows(_ asked: Int) -> Int {
    asked <= 0 ? Limits.listRows : min(asked, Limits.listRows)
  }

  func setState(
    _ org: String, _ state: TenantState, _ caller: Caller, at now: Now
  ) throws(Fault) -> Decision {
    var tenant = try account(named: org).record
    if tenant.state == state { return .answer(.tenant(view(tenant, at: now))) }
    tenant.state = state
    var change = Change(mutations: [.putTenant(tenant)], reply: .tenant(view(tenant, at: now)))
    if state == .suspended { change.effects.append(.tenantEnded(tenant.id)) }
    change.effects.append(
      audit(state == .suspended ? "tenant.suspend" : "tenant.resume", caller, org))
    return .change(change)
  }

  func setQuota(
    _ org: String, _ quota: TokenQuota, _ caller: Caller, at now: Now
  ) throws(Fault) -> Decision {
    var tenant = try account(named: org).record
    tenant.quota = quota
    var change = Change(mutations: [.putTenant(tenant)], reply: .tenant(view(tenant, at: now)))
    change.effects.append(audit("tenant.quota", caller, org))
    return .change(change)
  }

  /// Its row stays and says deleted: whoever takes the name again begins with nothing of the old.
  func deleteTenant(_ org: String, _ caller: Caller, at now: Now) throws(Fault) -> Decision {
    let account = try account(named: org)
    let id = account.record.id
    var change = Change(mutations: [])
    for state in account.channels.values {
      for grantee in state.grants.keys.sorted() {
        change.mutations.append(.dropGrant(id, state.record.id, grantee))
        change.effects.append(.grantRevoked(state.record.id, grantee))
      }
    }
    for (channel, owner) in accounts.granted[id] ?? [:] {
      change.mutations.append(.dropGrant(owner, channel, id))
      change.effects.append(.grantRevoked(channel, id))
    }
    var tenant = account.record
    tenant.state = .deleted
    tenant.quota = .unlimited
    change.mutations += [.clear(id), .putTenant(tenant)]
    change.effects += [.tenantEnded(id), audit("tenant.delete", caller, org)]
    var left = Account(record: tenant)
    left.usage = account.usage
    change.reply = .tenant(view(left, at: now))
    return .change(change)
  }

  func audit(_ action: String, _ caller: Caller, _ subject: String) -> TokenEffect {
    .audit(action: action, actor: caller.actor, subject: subject)
  }

  func usage(
    _ org: String?, from: UInt32?, to: UInt32?, _ caller: Caller, at now: Now
  ) throws(Fault) -> TokenReply {
    try require(.usage, caller)
    let account = try subject(org, caller)
    let today = UsageRow.day(now.wall)
    let last = to ?? max(from ?? today, today)
    let first = from ?? last
    guard first <= last else { throw Fault(.badRequest, "`from` is after `to`") }
    guard last - first < UInt32(Limits.usageDays) else {
      throw Fault(.badRequest, "at most \(Limits.usageDays) days at once")
    }
    return .usage(
      org: account.record.org,
      (first...last).map { UsageView(day: $0, count: account.used($0)) })
  }
}
