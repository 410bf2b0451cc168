internal import Base

extension TokenEngine {
  private func view(_ invite: InviteRecord, _ channel: String, _ tenant: TenantID) -> InviteView {
    InviteView(
      id: "\(RecordAddress(tenant: tenant, record: invite.id))", channel: channel,
      maxUses: Int(invite.maxUses), uses: Int(invite.uses), created: invite.created,
      expires: invite.expires)
  }

  /// Only the owner invites. An unregistered channel is registered on the way: agents may have missed it.
  func createInvite(
    _ text: String, maxUses: Int, ttlSeconds: Int64, _ caller: Caller, entropy: [UInt8], at now: Now
  ) throws(Fault) -> Decision {
    try require(.invites, caller)
    let (name, id) = try channelID(text)
    let account = try owner(name, caller)
    guard (1...Limits.inviteMaxUses).contains(maxUses) else {
      throw Fault(.badRequest, "max_uses is 1 to \(Limits.inviteMaxUses)")
    }
    guard (1...Int64(Limits.inviteMaxSeconds)).contains(ttlSeconds) else {
      throw Fault(.badRequest, "ttl_seconds is 1 to \(Limits.inviteMaxSeconds)")
    }
    try requireQuota(caller, at: now)
    guard account.invites.count < Limits.invitesPerTenant else {
      throw Fault(.conflict, "the tenant has \(Limits.invitesPerTenant) open invites")
    }
    var change = Change(mutations: [])
    if let record = try registration(name, id, account, at: now) {
      change.mutations.append(.putChannel(account.record.id, record))
    }
    let record = recordID(entropy, at: 32)
    if account.invites[record] != nil { throw Fault(.unavailable, "an id was drawn twice") }
    let credential = Credential(
      address: RecordAddress(tenant: account.record.id, record: record),
      secret: Array(entropy[..<32]))
    let invite = InviteRecord(
      id: record, digest: credential.digest, channel: id, maxUses: UInt32(maxUses), uses: 0,
      created: now.wall, expires: now.wall + .seconds(ttlSeconds))
    change.mutations.append(.putInvite(account.record.id, invite))
    change.reply = .inviteCreated(
      view(invite, name.description, account.record.id), token: credential.text(.invite))
    change.effects.append(audit("invite.create", caller, name.description))
    return .change(change)
  }

  func listInvites(_ text: String, _ caller: Caller, at now: Now) throws(Fault) -> TokenReply {
    try require(.invites, caller)
    let account: Account
    var only: ChannelID?
    if text.isEmpty {
      account = try subject(nil, caller)
    } else {
      let (name, id) = try channelID(text)
      account = try owner(name, caller)
      only = id
    }
    let open = account.invites.values.filter {
      $0.uses < $0.maxUses && now.wall < $0.expires && (only == nil || $0.channel == only)
    }
    let sorted = open.sorted { ($0.created, $0.id) < ($1.created, $1.id) }
    return .invites(
      sorted.suffix(Limits.listRows).map {
        view($0, account.channels[$0.channel]?.record.name ?? "", account.record.id)
      })
  }

  func revokeInvite(_ id: String, _ caller: Caller) throws(Fault) -> Decision {
    try require(.invites, caller)
    guard let address = RecordAddress(id), let account = accounts[address.tenant],
      caller.isAdmin || caller.principal?.tenant == address.tenant,
      let invite = account.invites[address.record]
    else { throw Fault(.notFound, "no such invite") }
    let name = account.channels[invite.channel]?.record.name ?? ""
    return .change(
      Change(
        mutations: [.dropInvite(address.tenant, invite.id)],
        reply: .invite(view(invite, name, address.tenant)),
        effects: [audit("invite.revoke", caller, id)]))
  }
}
