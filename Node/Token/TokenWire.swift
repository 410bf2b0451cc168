public import Base

// Requests of the token API between nodes of a cluster: a version, a kind, then the case's values in their
// order. Integers big-endian, texts and bytes behind a varint count, what is optional behind a mark.
// Kinds are never used anew; what a node does not know it refuses as a whole.

/// A request as one node sends it to the one that decides.
public struct TokenForward: Sendable {
  public static let version: UInt8 = 1
  /// Of the map that the sender chose the node by.
  public var revision: UInt64
  public var request: TokenRequest
  public init(revision: UInt64, _ request: TokenRequest) {
    self.revision = revision
    self.request = request
  }

  public var encoded: [UInt8] {
    var w = ByteWriter()
    w.append(TokenForward.version)
    w.append(bigEndian: revision)
    request.caller.write(&w)
    request.action.write(&w)
    return w.array
  }

  public init(decoding bytes: [UInt8]) throws(ReadError) {
    self = try readWhole(bytes) { (r) throws(ReadError) in
      guard try r.byte() == TokenForward.version else { throw .malformed }
      let revision: UInt64 = try r.bigEndian()
      let caller = try TokenCaller(&r)
      let made = TokenForward(revision: revision, TokenRequest(caller, try TokenAction(&r)))
      guard r.atEnd else { throw .malformed }
      return made
    }
  }
}

extension TokenCaller {
  fileprivate func write(_ w: inout ByteWriter) {
    switch self {
    case .bearer(let text, let peer):
      w.append(UInt8(1))
      w.append(countedUTF8: text)
      w.append(countedUTF8: peer)
    case .redacted(let peer):
      w.append(UInt8(2))
      w.append(countedUTF8: peer)
    case .admin(let actor):
      w.append(UInt8(3))
      w.append(countedUTF8: actor)
    case .proven(let proven):
      w.append(UInt8(4))
      proven.write(&w)
    }
  }

  fileprivate init(_ r: inout ByteReader) throws(ReadError) {
    switch try r.byte() {
    case 1: self = .bearer(try r.word(), peer: try r.word())
    case 2: self = .redacted(peer: try r.word())
    case 3: self = .admin(actor: try r.word())
    case 4: self = .proven(try ProvenCaller(&r))
    default: throw .malformed
    }
  }
}

extension ProvenCaller {
  func write(_ w: inout ByteWriter) {
    w.append(principal)
    w.append(scopes.rawValue)
    w.append(UInt8((viaToken ? 1 : 0) | (isOverQuota ? 2 : 0)))
  }

  init(_ r: inout ByteReader) throws(ReadError) {
    let principal = try r.principal()
    let scopes = Scopes(rawValue: try r.byte())
    let marks = try r.byte()
    guard marks < 4 else { throw .malformed }
    self.init(
      principal: principal, scopes: scopes, viaToken: marks & 1 != 0, isOverQuota: marks & 2 != 0)
  }
}

extension TokenAction {
  fileprivate func write(_ w: inout ByteWriter) {
    switch self {
    case .createTenant(let org, let withKey):
      w.append(1, org)
      w.append(mark: withKey)
    case .listTenants(let after, let limit):
      w.append(2, after)
      w.append(bigEndian: Int64(limit))
    case .suspendTenant(let org): w.append(3, org)
    case .resumeTenant(let org): w.append(4, org)
    case .deleteTenant(let org): w.append(5, org)
    case .setQuota(let org, let quota):
      w.append(6, org)
      w.append(quota)
    case .grant(let channel, let org): w.append(7, channel, org)
    case .account(let org):
      w.append(UInt8(8))
      w.append(optional: org)
    case .createKey(let org, let label, let scopes, let ttl):
      w.append(UInt8(9))
      w.append(optional: org)
      w.append(countedUTF8: label)
      w.append(varint: UInt64(scopes.count))
      for scope in scopes { w.append(countedUTF8: scope) }
      w.append(optional: ttl)
    case .listKeys(let org):
      w.append(UInt8(10))
      w.append(optional: org)
    case .revokeKey(let id): w.append(11, id)
    case .authenticate: w.append(UInt8(12))
    case .prove(let polling):
      w.append(UInt8(13))
      w.append(mark: polling)
    case .issueToken(let ttl, let scope):
      w.append(UInt8(14))
      w.append(optional: ttl)
      w.append(optional: scope)
    case .checkPrincipal(let principal):
      w.append(UInt8(15))
      w.append(principal)
    default: writeChannel(&w)
    }
  }

  private func writeChannel(_ w: inout ByteWriter) {
    switch self {
    case .registerChannel(let name): w.append(16, name)
    case .listChannels(let prefix, let after, let limit):
      w.append(17, prefix, after)
      w.append(bigEndian: Int64(limit))
    case .getChannel(let name): w.append(18, name)
    case .endChannel(let name): w.append(19, name)
    case .listGrants(let channel): w.append(20, channel)
    case .revokeGrant(let channel, let org): w.append(21, channel, org)
    case .createInvite(let channel, let uses, let ttl):
      w.append(22, channel)
      w.append(bigEndian: Int64(uses))
      w.append(bigEndian: ttl)
    case .listInvites(let channel): w.append(23, channel)
    case .revokeInvite(let id): w.append(24, id)
    case .join(let channel, let token, let keyPackage, let identity):
      w.append(25, channel, token, identity)
      w.append(counted: keyPackage)
    case .pending(let channel): w.append(26, channel)
    case .putWelcome(let request, let welcome):
      w.append(27, request)
      w.append(counted: welcome)
    case .getWelcome(let request): w.append(28, request)
    case .usage(let org, let from, let to):
      w.append(UInt8(29))
      w.append(optional: org)
      w.append(optional: from)
      w.append(optional: to)
    case .grantKnown(let channel, let org): w.append(30, channel, org)
    case .dropGrantee(let tenant, let before):
      w.append(UInt8(31))
      w.append(bigEndian: tenant.value)
      w.append(optional: before?.nanoseconds)
    default: preconditionFailure("an action without a number")
    }
  }

  fileprivate init(_ r: inout ByteReader) throws(ReadError) {
    let kind = try r.byte()
    switch kind {
    case 1: self = .createTenant(org: try r.word(), withKey: try r.mark())
    case 2: self = .listTenants(after: try r.word(), limit: try r.whole())
    case 3: self = .suspendTenant(org: try r.word())
    case 4: self = .resumeTenant(org: try r.word())
    case 5: self = .deleteTenant(org: try r.word())
    case 6: self = .setQuota(org: try r.word(), try r.quota())
    case 7: self = .grant(channel: try r.word(), org: try r.word())
    case 8: self = .account(org: try r.optionalWord())
    case 9:
      let org = try r.optionalWord()
      let label = try r.word()
      var scopes: [String] = []
      for _ in 0..<(try r.varint(atMost: tokenWireBytes)) { scopes.append(try r.word()) }
      self = .createKey(
        org: org, label: label, scopes: scopes, ttlSeconds: try r.optionalInteger())
    case 10: self = .listKeys(org: try r.optionalWord())
    case 11: self = .revokeKey(id: try r.word())
    case 12: self = .authenticate
    case 13: self = .prove(polling: try r.mark())
    case 14:
      self = .issueToken(ttlSeconds: try r.optionalInteger(), scope: try r.optionalWord())
    case 15: self = .checkPrincipal(try r.principal())
    default: self = try TokenAction.channelAction(kind, &r)
    }
  }

  private static func channelAction(
    _ kind: UInt8, _ r: inout ByteReader
  ) throws(ReadError) -> TokenAction {
    switch kind {
    case 16: return .registerChannel(name: try r.word())
    case 17:
      return .listChannels(prefix: try r.word(), after: try r.word(), limit: try r.whole())
    case 18: return .getChannel(name: try r.word())
    case 19: return .endChannel(name: try r.word())
    case 20: return .listGrants(channel: try r.word())
    case 21: return .revokeGrant(channel: try r.word(), org: try r.word())
    case 22:
      return .createInvite(
        channel: try r.word(), maxUses: try r.whole(), ttlSeconds: try r.bigEndian())
    case 23: return .listInvites(channel: try r.word())
    case 24: return .revokeInvite(id: try r.word())
    case 25:
      let (channel, token, identity) = (try r.word(), try r.word(), try r.word())
      return .join(
        channel: channel, token: token, keyPackage: try r.counted(atMost: tokenWireBytes),
        identity: identity)
    case 26: return .pending(channel: try r.word())
    case 27:
      return .putWelcome(request: try r.word(), welcome: try r.counted(atMost: tokenWireBytes))
    case 28: return .getWelcome(request: try r.word())
    case 29:
      return .usage(
        org: try r.optionalWord(), from: try r.optionalInteger(), to: try r.optionalInteger())
    case 30: return .grantKnown(channel: try r.word(), org: try r.word())
    case 31:
      let tenant = TenantID(try r.bigEndian())
      let before: Int64? = try r.optionalInteger()
      return .dropGrantee(tenant, before: before.map { Instant(nanoseconds: $0) })
    default: throw .malformed
    }
  }
}

/// Reads what another node wrote.
func readWhole<T>(
  _ bytes: [UInt8], _ body: (inout ByteReader) throws(ReadError) -> T
) throws(ReadError) -> T {
  let read: Result<T, ReadError> = unsafe bytes.withUnsafeBytes { b in
    var r = unsafe ByteReader(b)
    return Result { () throws(ReadError) in try body(&r) }
  }
  return try read.get()
}

/// Bytes of one text and items of one list at most: a call has fewer in all.
let tokenWireBytes = 4 << 20

extension ByteWriter {
  mutating func append(mark: Bool) { append(UInt8(mark ? 1 : 0)) }
  /// A kind and its texts.
  fileprivate mutating func append(_ kind: UInt8, _ words: String...) {
    append(kind)
    for word in words { append(countedUTF8: word) }
  }
  mutating func append(optional text: String?) {
    append(mark: text != nil)
    if let text { append(countedUTF8: text) }
  }
  mutating func append<T: FixedWidthInteger>(optional value: T?) {
    append(mark: value != nil)
    if let value { append(bigEndian: value) }
  }
  mutating func append(_ quota: TokenQuota) {
    append(bigEndian: quota.messagesPerDay)
    append(bigEndian: quota.bytesPerDay)
    append(bigEndian: quota.tokensPerDay)
  }
  mutating func append(_ principal: Principal) {
    append(bigEndian: principal.tenant.value)
    append(bigEndian: principal.key.value)
    append(mark: principal.anonymous)
    append(countedUTF8: principal.org)
  }
}

extension ByteReader {
  mutating func word() throws(ReadError) -> String { try countedUTF8(atMost: tokenWireBytes) }
  mutating func optionalWord() throws(ReadError) -> String? { try mark() ? try word() : nil }
  mutating func mark() throws(ReadError) -> Bool {
    switch try byte() {
    case 0: return false
    case 1: return true
    default: throw .malformed
    }
  }
  mutating func optionalInteger<T: FixedWidthInteger>() throws(ReadError) -> T? {
    try mark() ? try bigEndian() : nil
  }
  /// A count or a limit.
  mutating func whole() throws(ReadError) -> Int {
    let value: Int64 = try bigEndian()
    return Int(clamping: value)
  }
  mutating func quota() throws(ReadError) -> TokenQuota {
    TokenQuota(
      messagesPerDay: try bigEndian(), bytesPerDay: try bigEndian(), tokensPerDay: try bigEndian())
  }
  mutating func principal() throws(ReadError) -> Principal {
    let tenant = TenantID(try bigEndian())
    let key = RecordID(try bigEndian())
    let anonymous = try mark()
    return Principal(tenant: tenant, org: try word(), key: key, anonymous: anonymous)
  }
}
