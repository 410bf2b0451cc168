public import Base

/// What the asked node answers. Its own refusals are answers too, and reach the caller unchanged.
public enum TokenAnswer: Sendable {
  case done(Result<TokenReply, Fault>)
  /// By its map the tenant is another node's; that map's revision.
  case notOwner(revision: UInt64)

  public var encoded: [UInt8] {
    var w = ByteWriter()
    w.append(TokenForward.version)
    switch self {
    case .done(.success(let reply)):
      w.append(UInt8(1))
      reply.write(&w)
    case .done(.failure(let fault)):
      w.append(UInt8(2))
      w.append(countedUTF8: fault.code.rawValue)
      w.append(countedUTF8: fault.detail)
    case .notOwner(let revision):
      w.append(UInt8(3))
      w.append(bigEndian: revision)
    }
    return w.array
  }

  public init(decoding bytes: [UInt8]) throws(ReadError) {
    self = try readWhole(bytes) { (r) throws(ReadError) in
      guard try r.byte() == TokenForward.version else { throw .malformed }
      let made: TokenAnswer
      switch try r.byte() {
      case 1: made = .done(.success(try TokenReply(&r)))
      case 2:
        guard let code = FaultCode(rawValue: try r.word()) else { throw .malformed }
        made = .done(.failure(Fault(code, try r.word())))
      case 3: made = .notOwner(revision: try r.bigEndian())
      default: throw .malformed
      }
      guard r.atEnd else { throw .malformed }
      return made
    }
  }
}

extension TokenReply {
  fileprivate func write(_ w: inout ByteWriter) {
    switch self {
    case .tenant(let tenant):
      w.append(UInt8(1))
      w.append(tenant)
    case .tenantCreated(let tenant, let key, let apiKey):
      w.append(UInt8(2))
      w.append(tenant)
      w.append(optional: key)
      w.append(optional: apiKey)
    case .tenants(let tenants, let next):
      w.append(UInt8(3))
      w.append(varint: UInt64(tenants.count))
      for tenant in tenants { w.append(tenant) }
      w.append(countedUTF8: next)
    case .account(let tenant, let key):
      w.append(UInt8(4))
      w.append(tenant)
      w.append(optional: key)
    case .keyCreated(let key, let apiKey):
      w.append(UInt8(5))
      w.append(key)
      w.append(countedUTF8: apiKey)
    case .keys(let keys):
      w.append(UInt8(6))
      w.append(varint: UInt64(keys.count))
      for key in keys { w.append(key) }
    case .key(let key):
      w.append(UInt8(7))
      w.append(key)
    case .principal(let principal, let scopes):
      w.append(UInt8(8))
      w.append(principal)
      w.append(scopes.rawValue)
    case .token(let text, let expiresAt, let scopes):
      w.append(UInt8(9))
      w.append(countedUTF8: text)
      w.append(bigEndian: expiresAt.nanoseconds)
      w.append(scopes.rawValue)
    case .proven(let proven):
      w.append(UInt8(20))
      proven.write(&w)
    default: writeChannel(&w)
    }
  }

  private func writeChannel(_ w: inout ByteWriter) {
    switch self {
    case .channel(let channel, let created):
      w.append(UInt8(10))
      w.append(channel)
      w.append(mark: created)
    case .channels(let channels, let next):
      w.append(UInt8(11))
      w.append(varint: UInt64(channels.count))
      for channel in channels { w.append(channel) }
      w.append(countedUTF8: next)
    case .grants(let grants):
      w.append(UInt8(12))
      w.append(varint: UInt64(grants.count))
      for grant in grants { w.append(grant) }
    case .grant(let grant):
      w.append(UInt8(13))
      w.append(grant)
    case .inviteCreated(let invite, let token):
      w.append(UInt8(14))
      w.append(invite)
      w.append(countedUTF8: token)
    case .invites(let invites):
      w.append(UInt8(15))
      w.append(varint: UInt64(invites.count))
      for invite in invites { w.append(invite) }
    case .invite(let invite):
      w.append(UInt8(16))
      w.append(invite)
    case .grantsDropped(let count):
      w.append(UInt8(21))
      w.append(bigEndian: Int64(count))
    default: writeJoin(&w)
    }
  }

  private func writeJoin(_ w: inout ByteWriter) {
    switch self {
    case .joinRequested(let id):
      w.append(UInt8(17))
      w.append(countedUTF8: id)
    case .pending(let list):
      w.append(UInt8(18))
      w.append(varint: UInt64(list.count))
      for one in list { w.append(one) }
    case .welcomeStored(let id):
      w.append(UInt8(19))
      w.append(countedUTF8: id)
    case .welcome(let id, let status, let welcome):
      w.append(UInt8(22))
      w.append(countedUTF8: id)
      w.append(status.rawValue)
      w.append(counted: welcome)
    case .usage(let org, let days):
      w.append(UInt8(23))
      w.append(countedUTF8: org)
      w.append(varint: UInt64(days.count))
      for day in days {
        w.append(bigEndian: day.day)
        w.append(day.count)
      }
    default: preconditionFailure("a reply without a number")
    }
  }

  fileprivate init(_ r: inout ByteReader) throws(ReadError) {
    let kind = try r.byte()
    switch kind {
    case 1: self = .tenant(try r.tenant())
    case 2: self = .tenantCreated(try r.tenant(), try r.optionalKey(), apiKey: try r.optionalWord())
    case 3:
      let tenants = try r.list { (r) throws(ReadError) in try r.tenant() }
      self = .tenants(tenants, next: try r.word())
    case 4: self = .account(try r.tenant(), try r.optionalKey())
    case 5: self = .keyCreated(try r.key(), apiKey: try r.word())
    case 6: self = .keys(try r.list { (r) throws(ReadError) in try r.key() })
    case 7: self = .key(try r.key())
    case 8: self = .principal(try r.principal(), Scopes(rawValue: try r.byte()))
    case 9:
      self = .token(
        try r.word(), expiresAt: Instant(nanoseconds: try r.bigEndian()),
        Scopes(rawValue: try r.byte()))
    case 10: self = .channel(try r.channel(), created: try r.mark())
    case 11:
      let channels = try r.list { (r) throws(ReadError) in try r.channel() }
      self = .channels(channels, next: try r.word())
    case 12: self = .grants(try r.list { (r) throws(ReadError) in try r.grant() })
    case 13: self = .grant(try r.grant())
    case 14: self = .inviteCreated(try r.invite(), token: try r.word())
    case 15: self = .invites(try r.list { (r) throws(ReadError) in try r.invite() })
    case 16: self = .invite(try r.invite())
    default: self = try TokenReply.joinReply(kind, &r)
    }
  }

  private static func joinReply(
    _ kind: UInt8, _ r: inout ByteReader
  ) throws(ReadError) -> TokenReply {
    switch kind {
    case 17: return .joinRequested(id: try r.word())
    case 18: return .pending(try r.list { (r) throws(ReadError) in try r.pending() })
    case 19: return .welcomeStored(id: try r.word())
    case 20: return .proven(try ProvenCaller(&r))
    case 21: return .grantsDropped(try r.whole())
    case 22:
      let id = try r.word()
      guard let status = JoinStatus(rawValue: try r.byte()) else { throw .malformed }
      return .welcome(id: id, status, try r.counted(atMost: tokenWireBytes))
    case 23:
      let org = try r.word()
      let days = try r.list { (r) throws(ReadError) in
        UsageView(day: try r.bigEndian(), count: try r.usage())
      }
      return .usage(org: org, days)
    default: throw .malformed
    }
  }
}

extension ByteWriter {
  fileprivate mutating func append(_ t: TenantView) {
    append(countedUTF8: t.org)
    append(bigEndian: t.id.value)
    append(t.state.rawValue)
    append(bigEndian: t.generation)
    append(bigEndian: t.created.nanoseconds)
    append(t.quota)
    append(varint: UInt64(max(0, t.keys)))
    append(varint: UInt64(max(0, t.channels)))
    append(t.today)
  }
  fileprivate mutating func append(_ count: UsageCount) {
    append(bigEndian: count.messages)
    append(bigEndian: count.bytes)
    append(bigEndian: count.tokens)
  }
  fileprivate mutating func append(optional key: KeyView?) {
    append(mark: key != nil)
    if let key { append(key) }
  }
  fileprivate mutating func append(_ k: KeyView) {
    append(countedUTF8: k.id)
    append(countedUTF8: k.org)
    append(countedUTF8: k.label)
    append(k.scopes.rawValue)
    append(bigEndian: k.created.nanoseconds)
    append(optional: k.expires?.nanoseconds)
    append(optional: k.revoked?.nanoseconds)
    append(optional: k.lastUsed?.nanoseconds)
  }
  fileprivate mutating func append(_ c: ChannelView) {
    append(bigEndian: c.id.high)
    append(bigEndian: c.id.low)
    append(countedUTF8: c.name)
    append(countedUTF8: c.org)
    append(bigEndian: c.created.nanoseconds)
    append(mark: c.owned)
    append(varint: UInt64(c.grants.count))
    for org in c.grants { append(countedUTF8: org) }
  }
  fileprivate mutating func append(_ g: GrantView) {
    append(countedUTF8: g.channel)
    append(countedUTF8: g.org)
    append(bigEndian: g.created.nanoseconds)
    append(mark: g.joined)
  }
  fileprivate mutating func append(_ i: InviteView) {
    append(countedUTF8: i.id)
    append(countedUTF8: i.channel)
    append(bigEndian: Int64(i.maxUses))
    append(bigEndian: Int64(i.uses))
    append(bigEndian: i.created.nanoseconds)
    append(bigEndian: i.expires.nanoseconds)
  }
  fileprivate mutating func append(_ p: PendingView) {
    append(countedUTF8: p.id)
    append(counted: p.keyPackage)
    append(countedUTF8: p.identity)
    append(bigEndian: p.created.nanoseconds)
  }
}

extension ByteReader {
  /// Items behind their count; each is at least one byte.
  fileprivate mutating func list<T>(
    _ item: (inout ByteReader) throws(ReadError) -> T
  ) throws(ReadError) -> [T] {
    let count = try varint(atMost: remaining)
    var out: [T] = []
    for _ in 0..<count { out.append(try item(&self)) }
    return out
  }
  fileprivate mutating func instant() throws(ReadError) -> Instant {
    Instant(nanoseconds: try bigEndian())
  }
  fileprivate mutating func optionalInstant() throws(ReadError) -> Instant? {
    try mark() ? try instant() : nil
  }
  fileprivate mutating func tenant() throws(ReadError) -> TenantView {
    let org = try word()
    let id = TenantID(try bigEndian())
    guard let state = TenantState(rawValue: try byte()) else { throw .malformed }
    let generation: UInt32 = try bigEndian()
    let created = try instant()
    let quota = try quota()
    return TenantView(
      org: org, id: id, state: state, generation: generation, created: created, quota: quota,
      keys: try varint(atMost: .max), channels: try varint(atMost: .max), today: try usage())
  }
  fileprivate mutating func usage() throws(ReadError) -> UsageCount {
    UsageCount(messages: try bigEndian(), bytes: try bigEndian(), tokens: try bigEndian())
  }
  fileprivate mutating func optionalKey() throws(ReadError) -> KeyView? {
    try mark() ? try key() : nil
  }
  fileprivate mutating func key() throws(ReadError) -> KeyView {
    KeyView(
      id: try word(), org: try word(), label: try word(), scopes: Scopes(rawValue: try byte()),
      created: try instant(), expires: try optionalInstant(), revoked: try optionalInstant(),
      lastUsed: try optionalInstant())
  }
  fileprivate mutating func channel() throws(ReadError) -> ChannelView {
    let id = ChannelID(high: try bigEndian(), low: try bigEndian())
    let (name, org) = (try word(), try word())
    let created = try instant()
    let owned = try mark()
    return ChannelView(
      id: id, name: name, org: org, created: created, owned: owned,
      grants: try list { (r) throws(ReadError) in try r.word() })
  }
  fileprivate mutating func grant() throws(ReadError) -> GrantView {
    GrantView(channel: try word(), org: try word(), created: try instant(), joined: try mark())
  }
  fileprivate mutating func invite() throws(ReadError) -> InviteView {
    InviteView(
      id: try word(), channel: try word(), maxUses: try whole(), uses: try whole(),
      created: try instant(), expires: try instant())
  }
  fileprivate mutating func pending() throws(ReadError) -> PendingView {
    PendingView(
      id: try word(), keyPackage: try counted(atMost: tokenWireBytes), identity: try word(),
      created: try instant())
  }
}
