internal import Base

extension TokenEngine {
  func view(_ account: Account, _ key: KeyRecord) -> KeyView {
    KeyView(
      id: "\(RecordAddress(tenant: account.record.id, record: key.id))", org: account.record.org,
      label: key.label, scopes: key.scopes, created: key.created, expires: key.expires,
      revoked: key.revoked, lastUsed: key.lastUsed)
  }

  /// Eight bytes of `entropy` from `offset` as an id.
  func recordID(_ entropy: [UInt8], at offset: Int) -> RecordID {
    RecordID(UInt64(bigEndianBytes: entropy[offset..<offset + 8]))
  }

  func makeKey(
    _ tenant: TenantRecord, label: String, scopes: Scopes, expires: Instant?, _ entropy: [UInt8],
    at now: Now
  ) -> (key: KeyRecord, text: String) {
    let id = recordID(entropy, at: 32)
    let credential = Credential(
      address: RecordAddress(tenant: tenant.id, record: id), secret: Array(entropy[..<32]))
    let key = KeyRecord(
      id: id, digest: credential.digest, label: label, scopes: scopes, created: now.wall,
      expires: expires)
    return (key, credential.text(.apiKey))
  }

  func createKey(
    _ org: String?, label: String, scopes: [String], ttlSeconds: Int64?, _ caller: Caller,
    entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    try require(.keys, caller)
    if caller.viaToken { throw Fault(.forbidden, "a JWT makes no keys: present the API key") }
    let account = try subject(org, caller)
    guard label.utf8.count <= Limits.keyLabelBytes,
      label.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f })
    else { throw Fault(.badRequest, "a label has at most \(Limits.keyLabelBytes) bytes of text") }
    guard var wanted = Scopes(names: scopes) else {
      throw Fault(.badRequest, "scopes are \(Scopes.all.claim)")
    }
    if scopes.isEmpty { wanted = caller.scopes }
    guard caller.scopes.isSuperset(of: wanted) else {
      throw Fault(.forbidden, "a key cannot give scopes it has not")
    }
    // Ten years: beyond that, say never.
    guard ttlSeconds.map({ (1...315_360_000).contains($0) }) ?? true else {
      throw Fault(.badRequest, "ttl_seconds is 1 to 315360000, or absent for a key without end")
    }
    try requireQuota(caller, at: now)
    var change = Change(mutations: [])
    if account.keys.count >= Limits.keysPerTenant {
      // A dead key is dead without its row too.
      let dead = account.keys.values.filter { !$0.isActive(now.wall) }
      guard let oldest = dead.min(by: { ($0.created, $0.id) < ($1.created, $1.id) }) else {
        throw Fault(.conflict, "the tenant has \(Limits.keysPerTenant) keys: revoke one")
      }
      change.mutations.append(.dropKey(account.record.id, oldest.id))
    }
    let made = makeKey(
      account.record, label: label, scopes: wanted,
      expires: ttlSeconds.map { now.wall + .seconds($0) }, entropy, at: now)
    if account.keys[made.key.id] != nil { throw Fault(.unavailable, "an id was drawn twice") }
    change.mutations.append(.putKey(account.record.id, made.key))
    let key = view(account, made.key)
    change.reply = .keyCreated(key, apiKey: made.text)
    change.effects.append(audit("key.create", caller, key.id))
    return .change(change)
  }

  func revokeKey(_ id: String, _ caller: Caller, at now: Now) throws(Fault) -> Decision {
    try require(.keys, caller)
    guard let address = RecordAddress(id), let account = accounts[address.tenant],
      caller.isAdmin || caller.principal?.tenant == address.tenant,
      var key = account.keys[address.record]
    else { throw Fault(.notFound, "no such key") }
    if key.revoked != nil { return .answer(.key(view(account, key))) }
    key.revoked = now.wall
    return .change(
      Change(
        mutations: [.putKey(address.tenant, key)], reply: .key(view(account, key)),
        effects: [.keyEnded(address.tenant, address.record), audit("key.revoke", caller, id)]))
  }

  func issueToken(
    ttlSeconds: Int64?, scope: String?, _ caller: Caller, at now: Now
  ) throws(Fault) -> Decision {
    guard let own = caller.principal else { throw Fault(.badRequest, "an operator has no key") }
    try require(.tokens, caller)
    if caller.viaToken { throw Fault(.forbidden, "a JWT makes no JWT: present the API key") }
    let account = try account(own.tenant)
    guard var key = account.keys[own.key] else { throw Fault(.unauthorized) }
    let most = max(1, min(settings.tokenMaxSeconds, Int64(Limits.jwtMaxSeconds)))
    let ttl = ttlSeconds ?? max(1, min(settings.tokenSeconds, most))
    guard (1...most).contains(ttl) else {
      throw Fault(.badRequest, "ttl_seconds is 1 to \(most)")
    }
    guard var scopes = Scopes(claim: scope ?? "") else {
      throw Fault(.badRequest, "scope is some of: \(Scopes.all.claim)")
    }
    if scope?.isEmpty ?? true { scopes = caller.scopes }
    guard caller.scopes.isSuperset(of: scopes) else {
      throw Fault(.forbidden, "the key has not all of these scopes")
    }
    let day = UsageRow.day(now.wall)
    let quota = account.record.quota.tokensPerDay
    if account.isOverQuota(day) || (quota > 0 && account.used(day).tokens >= quota) {
      throw Fault(.quotaExceeded)
    }
    let issued = now.wall.nanoseconds / 1_000_000_000
    var expires = issued + ttl
    if let end = key.expires { expires = min(expires, end.nanoseconds / 1_000_000_000) }
    // A key in its last second.
    expires = max(expires, issued + 1)
    let claims = TokenClaims(
      tenant: own.tenant, org: own.org, key: own.key, scopes: scopes, issuedAt: issued,
      expiresAt: expires)
    let issuedToday = account.usage[day]?.tokens ?? 0
    var change = Change(mutations: [
      .putTokens(own.tenant, day: day, writer: settings.writer, issuedToday + 1)
    ])
    if isHourOld(key, now.wall) {
      key.lastUsedWritten = now.wall
      change.mutations.append(.putKey(own.tenant, key))
    }
    change.reply = .token(
      JWT.sign(claims, with: signingKeys), expiresAt: Instant(nanoseconds: expires * 1_000_000_000),
      scopes)
    return .change(change)
  }

  /// The written time of use is brought up to date when a token is issued, once an hour.
  private func isHourOld(_ key: KeyRecord, _ wall: Instant) -> Bool {
    guard let written = key.lastUsedWritten else { return true }
    return wall - written >= .minutes(60)
  }

  /// A key's time has come: its streams end as if it were revoked.
  mutating func expireKey(
    _ entry: DueQueue.Entry, at now: Now, into effects: inout [TokenEffect]
  ) {
    guard let key = accounts[entry.tenant]?.keys[entry.record], key.revoked == nil,
      let expires = key.expires
    else { return }
    if now.wall < expires {
      // The wall clock went back, or the entry is early.
      var later = entry
      later.at = now.monotonic + max(expires - now.wall, .seconds(1))
      accounts.due.push(later)
      return
    }
    effects.append(.keyEnded(entry.tenant, entry.record))
    effects.append(
      .audit(
        action: "key.expire", actor: "node",
        subject: "\(RecordAddress(tenant: entry.tenant, record: entry.record))"))
  }
}
