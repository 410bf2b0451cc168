internal import Base
internal import Digest

extension TokenEngine {
  func view(_ state: ChannelState, _ name: String, owned: Bool) -> ChannelView {
    ChannelView(
      id: state.record.id, name: state.record.name,
      org: ChannelName(state.record.name)?.org ?? "", created: state.record.created, owned: owned,
      grants: owned ? state.grants.values.map(\.org).sorted() : [])
  }

  /// The account a channel's name belongs to, if the caller may act as its owner.
  func owner(_ name: ChannelName, _ caller: Caller) throws(Fault) -> Account {
    if let own = caller.principal, own.org != name.org { throw Fault(.forbidden) }
    return try account(named: name.org)
  }

  /// A registered channel that is the caller's own or granted to it. Strangers do not learn whether it is there.
  func visible(
    _ text: String, _ caller: Caller
  ) throws(Fault) -> (state: ChannelState, owned: Bool) {
    let (name, id) = try channelID(text)
    let owned = caller.isAdmin || caller.principal?.org == name.org
    let state = accounts[TenantID(org: name.org)]?.channels[id]
    if !owned {
      guard let state, let tenant = caller.principal?.tenant, state.grants[tenant] != nil else {
        throw Fault(.forbidden)
      }
      return (state, false)
    }
    guard let state, sameName(state, name) else { throw Fault(.notFound, "no such channel") }
    return (state, true)
  }

  private func sameName(_ state: ChannelState, _ name: ChannelName) -> Bool {
    state.record.name.utf8.elementsEqual(name.description.utf8)
  }

  /// The change that registers a channel of `account`; nil when it is registered.
  func registration(
    _ name: ChannelName, _ id: ChannelID, _ account: Account, at now: Now
  ) throws(Fault) -> ChannelRecord? {
    if let old = account.channels[id] {
      guard sameName(old, name) else { throw Fault(.nameCollision) }
      return nil
    }
    guard account.channels.count < Limits.channelsPerTenant else {
      throw Fault(.conflict, "the tenant has \(Limits.channelsPerTenant) channels")
    }
    return ChannelRecord(id: id, name: name.description, created: now.wall)
  }

  func registerChannel(_ text: String, _ caller: Caller, at now: Now) throws(Fault) -> Decision {
    try require(.channels, caller)
    let (name, id) = try channelID(text)
    if let own = caller.principal, own.org != name.org {
      // Agents register what they have joined, too.
      let (state, owned) = try visible(text, caller)
      return .answer(.channel(view(state, text, owned: owned), created: false))
    }
    let account = try owner(name, caller)
    guard let record = try registration(name, id, account, at: now) else {
      return .answer(.channel(view(account.channels[id]!, text, owned: true), created: false))
    }
    try requireQuota(caller, at: now)
    return .change(
      Change(
        mutations: [.putChannel(account.record.id, record)],
        reply: .channel(view(ChannelState(record: record), text, owned: true), created: true),
        effects: [audit("channel.register", caller, record.name)]))
  }

  func endChannel(_ text: String, _ caller: Caller) throws(Fault) -> Decision {
    try require(.channels, caller)
    let (name, id) = try channelID(text)
    let account = try owner(name, caller)
    guard let state = account.channels[id] else { throw Fault(.notFound, "no such channel") }
    let tenant = account.record.id
    var change = Change(mutations: [])
    for invite in account.invites.values where invite.channel == id {
      change.mutations.append(.dropInvite(tenant, invite.id))
    }
    for join in account.joins.values where join.channel == id {
      change.mutations.append(.dropJoin(tenant, join.id))
    }
    for grantee in state.grants.keys.sorted() {
      change.mutations.append(.dropGrant(tenant, id, grantee))
      change.effects.append(.grantRevoked(id, grantee))
    }
    change.mutations.append(.dropChannel(tenant, id))
    change.effects.append(audit("channel.end", caller, state.record.name))
    change.reply = .channel(view(state, text, owned: true), created: false)
    return .change(change)
  }

  func listChannels(
    _ prefix: String, _ after: String, _ limit: Int, _ caller: Caller
  ) throws(Fault) -> TokenReply {
    let limit = rows(limit)
    var found: [(name: String, view: ChannelView)] = []
    func take(_ account: Account, after: String) {
      let names = account.names.list(prefix: prefix, after: after, limit: limit + 1 - found.count)
      for name in names {
        let id = ChannelID(family: .skytale, name: name)
        if let state = account.channels[id] { found.append((name, view(state, name, owned: true))) }
      }
    }
    if let own = caller.principal {
      // Another node's tenant: that node lists what is its own.
      if caller.isOverQuota == nil || accounts[own.tenant] != nil {
        take(try account(own.tenant), after: after)
      }
      for (id, owner) in accounts.granted[own.tenant] ?? [:] {
        guard let state = accounts[owner]?.channels[id] else { continue }
        let name = state.record.name
        guard name.utf8.starts(with: prefix.utf8),
          after.isEmpty || after.utf8.lexicographicallyPrecedes(name.utf8)
        else { continue }
        found.append((name, view(state, name, owned: false)))
      }
      found.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    } else if let slash = prefix.firstIndex(of: "/") {
      if let account = accounts[TenantID(org: String(prefix[..<slash]))] {
        take(account, after: after)
      }
    } else {
      // Tenant by tenant in the order of their names, from the one `after` stands in.
      let from = String(after.prefix { $0 != "/" })
      var last = ""
      while found.count <= limit {
        let orgs = accounts.orgs.list(prefix: prefix, after: last, limit: 256)
        for org in orgs where !org.utf8.lexicographicallyPrecedes(from.utf8) {
          if found.count > limit { break }
          guard let account = accounts[TenantID(org: org)] else { continue }
          take(account, after: org == from ? after : "")
        }
        guard let next = orgs.last, orgs.count == 256 else { break }
        last = next
      }
    }
    let page = found.prefix(limit)
    return .channels(page.map(\.view), next: found.count > limit ? page.last!.name : "")
  }

  func grant(
    _ text: String, _ org: String, _ grantee: TenantID, _ caller: Caller, at now: Now
  ) throws(Fault) -> Decision {
    let (name, id) = try channelID(text)
    let account = try account(named: name.org)
    if grantee == account.record.id { throw Fault(.badRequest, "the channel is its own") }
    var change = Change(mutations: [])
    if let old = account.channels[id]?.grants[grantee] {
      return .answer(
        .grant(
          GrantView(
            channel: name.description, org: org, created: old.created, joined: old.joined)))
    }
    if let record = try registration(name, id, account, at: now) {
      change.mutations.append(.putChannel(account.record.id, record))
    }
    let record = GrantRecord(
      channel: id, tenant: grantee, org: org, created: now.wall, joined: false)
    change.mutations.append(.putGrant(account.record.id, record))
    change.effects = [
      .granted(id, grantee, org: org), audit("channel.grant", caller, "\(name) to \(org)"),
    ]
    change.reply = .grant(
      GrantView(channel: name.description, org: org, created: now.wall, joined: false))
    return .change(change)
  }

  /// A tenant was deleted elsewhere: it may use nothing of the tenants here any more.
  func dropGrantee(
    _ tenant: TenantID, _ before: Instant?, _ caller: Caller
  ) throws(Fault) -> Decision {
    try requireAdmin(caller)
    let granted = (accounts.granted[tenant] ?? [:]).filter { channel, owner in
      guard let grant = accounts[owner]?.channels[channel]?.grants[tenant] else { return false }
      return before.map { grant.created < $0 } ?? true
    }.sorted { $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) }
    if granted.isEmpty { return .answer(.grantsDropped(0)) }
    var change = Change(mutations: [], reply: .grantsDropped(granted.count))
    for (channel, owner) in granted {
      change.mutations.append(.dropGrant(owner, channel, tenant))
      change.effects.append(.grantRevoked(channel, tenant))
    }
    let name = Text.hex(bigEndianBytes(tenant.value))
    change.effects.append(audit("channel.revoke", caller, "every channel from tenant \(name)"))
    return .change(change)
  }

  func listGrants(_ text: String, _ caller: Caller) throws(Fault) -> TokenReply {
    try require(.invites, caller)
    let (name, id) = try channelID(text)
    guard let state = try owner(name, caller).channels[id] else {
      throw Fault(.notFound, "no such channel")
    }
    let grants = state.grants.values.sorted { $0.org < $1.org }
    return .grants(
      grants.map {
        GrantView(channel: state.record.name, org: $0.org, created: $0.created, joined: $0.joined)
      })
  }

  func revokeGrant(
    _ text: String, _ org: String, _ caller: Caller
  ) throws(Fault) -> Decision {
    try require(.invites, caller)
    let (name, id) = try channelID(text)
    let account = try owner(name, caller)
    guard let old = account.channels[id]?.grants[TenantID(org: org)], old.org == org else {
      throw Fault(.notFound, "no such grant")
    }
    return .change(
      Change(
        mutations: [.dropGrant(account.record.id, id, old.tenant)],
        reply: .grant(
          GrantView(channel: name.description, org: org, created: old.created, joined: old.joined)),
        effects: [
          .grantRevoked(id, old.tenant), audit("channel.revoke", caller, "\(name) from \(org)"),
        ]))
  }
}
