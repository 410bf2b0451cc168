internal import Base
internal import Digest

// The join handshake: a joiner spends an invite and leaves its key package; the owner polls, adds it and
// leaves a welcome; the joiner polls for that.

extension TokenEngine {
  /// MLSMessage, version mls10, wire format mls_key_package (RFC 9420 section 6).
  private static let keyPackageHead: [UInt8] = [0, 1, 0, 5]

  func join(
    _ channel: String, _ token: String, _ keyPackage: [UInt8], _ identity: String,
    _ caller: Caller, entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    try require(.channels, caller)
    guard let joiner = caller.principal else {
      throw Fault(.badRequest, "an operator joins nothing")
    }
    let (name, id) = try channelID(channel)
    guard keyPackage.count <= Limits.keyPackageBytes else {
      throw Fault(.tooLarge, "a key package has at most \(Limits.keyPackageBytes) bytes")
    }
    guard keyPackage.starts(with: Self.keyPackageHead) else {
      throw Fault(.badRequest, "key_package is not an MLS key package message")
    }
    guard identity.utf8.count <= Limits.identityBytes else {
      throw Fault(.badRequest, "identity has at most \(Limits.identityBytes) bytes")
    }
    // What is wrong with a token is told only to those who hold it.
    guard let credential = Credential(.invite, token),
      let account = accounts[credential.address.tenant], account.record.state == .active,
      var invite = account.invites[credential.address.record], credential.matches(invite.digest),
      invite.channel == id, account.record.org == name.org
    else { throw Fault(.notFound, "no such invite for this channel") }
    if invite.expires <= now.wall { throw Fault(.notFound, "the invite has expired") }
    if invite.uses >= invite.maxUses { throw Fault(.notFound, "the invite is used up") }
    try requireQuota(caller, at: now)
    guard (account.waiting[id]?.count ?? 0) < Limits.pendingPerChannel else {
      throw Fault(.conflict, "too many joins of this channel are waiting")
    }
    let record = JoinRecord(
      id: recordID(entropy, at: 0), channel: id, joiner: joiner.tenant, status: .pending,
      created: now.wall, identity: identity, keyPackage: keyPackage, welcome: [])
    guard account.joinBytes + record.bytes <= Limits.joinBytesPerTenant else {
      throw Fault(.conflict, "too many joins of this tenant's channels are waiting")
    }
    if account.joins[record.id] != nil { throw Fault(.unavailable, "an id was drawn twice") }
    invite.uses += 1
    let owner = account.record.id
    var change = Change(mutations: [.putInvite(owner, invite), .putJoin(owner, record)])
    if joiner.tenant != owner, account.channels[id]?.grants[joiner.tenant] == nil {
      change.mutations.append(
        .putGrant(
          owner,
          GrantRecord(
            channel: id, tenant: joiner.tenant, org: joiner.org, created: now.wall, joined: true)))
      change.effects.append(.granted(id, joiner.tenant, org: joiner.org))
      change.effects.append(audit("channel.grant", caller, "\(name) to \(joiner.org)"))
    }
    change.reply = .joinRequested(
      id: JoinText.write(RecordAddress(tenant: owner, record: record.id)))
    return .change(change)
  }

  private func lapsed(_ join: JoinRecord, at now: Now) -> Bool {
    join.lastPoll + .seconds(Int64(Limits.pendingExpirySeconds)) <= now.monotonic
  }

  /// One waiting request, the least served and then the oldest: an owner that fails on one comes to the
  /// others, and one that serves a whole list is never stopped by its first entry. What was served stays
  /// hidden for the lease, so that two owners do not add the same member.
  mutating func pending(
    _ channel: String, _ caller: Caller, at now: Now
  ) throws(Fault) -> TokenReply {
    try require(.channels, caller)
    let (name, id) = try channelID(channel)
    if let own = caller.principal, own.org != name.org {
      // Agents poll for what they have joined, too: they have nothing to serve.
      _ = try visible(channel, caller)
      return .pending([])
    }
    let owner = TenantID(org: name.org)
    guard let account = accounts[owner], let waiting = account.waiting[id] else {
      return .pending([])
    }
    var chosen: JoinRecord?
    for request in waiting {
      guard let join = account.joins[request], join.leasedUntil <= now.monotonic,
        !lapsed(join, at: now)
      else { continue }
      if chosen == nil || join.served < chosen!.served { chosen = join }
    }
    guard let chosen else { return .pending([]) }
    accounts[owner]!.joins[chosen.id]!.served += 1
    accounts[owner]!.joins[chosen.id]!.leasedUntil =
      now.monotonic + .seconds(Int64(Limits.pendingLeaseSeconds))
    return .pending([
      PendingView(
        id: JoinText.write(RecordAddress(tenant: owner, record: chosen.id)),
        keyPackage: chosen.keyPackage, identity: chosen.identity, created: chosen.created)
    ])
  }

  /// Even an expired request takes its welcome: the owner's commit cannot be undone.
  func putWelcome(
    _ id: String, _ welcome: [UInt8], _ caller: Caller, at now: Now
  ) throws(Fault) -> Decision {
    try require(.channels, caller)
    guard let address = JoinText.read(id), let account = accounts[address.tenant],
      caller.isAdmin || caller.principal?.tenant == address.tenant,
      var join = account.joins[address.record]
    else { throw Fault(.notFound, "no such join request") }
    guard !welcome.isEmpty else { throw Fault(.badRequest, "welcome is empty") }
    guard welcome.count <= Limits.welcomeBytes else {
      throw Fault(.tooLarge, "a welcome has at most \(Limits.welcomeBytes) bytes")
    }
    if join.status == .completed {
      guard join.welcome == welcome else {
        throw Fault(.conflict, "the request has another welcome already")
      }
      return .answer(.welcomeStored(id: id))
    }
    guard account.joinBytes + welcome.count <= 2 * Limits.joinBytesPerTenant else {
      throw Fault(.conflict, "too many welcomes of this tenant are waiting")
    }
    join.status = .completed
    join.keyPackage = []
    join.welcome = welcome
    return .change(
      Change(mutations: [.putJoin(address.tenant, join)], reply: .welcomeStored(id: id)))
  }

  mutating func getWelcome(
    _ id: String, _ caller: Caller, at now: Now
  ) throws(Fault) -> TokenReply {
    try require(.channels, caller)
    guard let address = JoinText.read(id),
      let join = accounts[address.tenant]?.joins[address.record],
      caller.isAdmin || caller.principal?.tenant == join.joiner
    else { throw Fault(.notFound, "no such join request") }
    switch join.status {
    case .pending:
      if lapsed(join, at: now) { return .welcome(id: id, .expired, []) }
      accounts[address.tenant]!.joins[join.id]!.lastPoll = now.monotonic
    case .completed:
      if !join.fetched {
        accounts[address.tenant]!.joins[join.id]!.fetched = true
        accounts[address.tenant]!.joins[join.id]!.keptUntil =
          now.monotonic + .seconds(Int64(Limits.joinKeptSeconds))
      }
    case .expired: break
    }
    return .welcome(id: id, join.status, join.welcome)
  }

  /// What became of invites and joins whose time may have come.
  mutating func sweep(_ tenant: TenantID, _ entries: [DueQueue.Entry], at now: Now) -> Sweep {
    var sweep = Sweep()
    for entry in entries {
      var again = entry
      again.at = now.monotonic + .seconds(5)
      let outcome =
        entry.kind == .invite
        ? sweepInvite(tenant, entry.record, at: now) : sweepJoin(tenant, entry.record, at: now)
      guard let outcome else { continue }
      if let mutation = outcome.mutation {
        sweep.mutations.append(mutation)
        sweep.retries.append(again)
      }
      guard let next = outcome.next else { continue }
      again.at = next
      if outcome.mutation == nil { accounts.due.push(again) } else { sweep.next.append(again) }
    }
    return sweep
  }

  private func sweepInvite(
    _ tenant: TenantID, _ id: RecordID, at now: Now
  ) -> (mutation: Mutation?, next: Instant?)? {
    guard let invite = accounts[tenant]?.invites[id] else { return nil }
    // Kept a while, so that its holder is told that it has expired.
    let end = invite.expires + .seconds(Int64(Limits.joinKeptSeconds))
    if end <= now.wall { return (.dropInvite(tenant, id), nil) }
    return (nil, now.monotonic + max(end - now.wall, .seconds(1)))
  }

  private func sweepJoin(
    _ tenant: TenantID, _ id: RecordID, at now: Now
  ) -> (mutation: Mutation?, next: Instant?)? {
    guard let join = accounts[tenant]?.joins[id] else { return nil }
    switch join.status {
    case .pending:
      guard lapsed(join, at: now) else {
        return (nil, join.lastPoll + .seconds(Int64(Limits.pendingExpirySeconds)))
      }
      var expired = join
      expired.status = .expired
      expired.keyPackage = []
      return (
        .putJoin(tenant, expired), now.monotonic + .seconds(Int64(Limits.joinKeptSeconds))
      )
    case .completed, .expired:
      return join.keptUntil <= now.monotonic
        ? (.dropJoin(tenant, id), nil) : (nil, join.keptUntil)
    }
  }
}
