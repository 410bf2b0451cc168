internal import Base

// The rows of table `tokens` as bytes. Version 1 of every value; integers big-endian, instants as wall
// nanoseconds (0: none), texts and bytes with a u32 length before them.

private let version: UInt8 = 1

extension Mutation {
  /// Appends the row, or its removal.
  func write(into set: inout WriteSet) {
    switch self {
    case .putTenant(let t):
      set.put(.tokens, key: key(RowKind.tenant, t.id), value: value(t))
    case .putKey(let tenant, let k):
      set.put(.tokens, key: key(RowKind.key, tenant, k.id.value), value: value(k))
    case .dropKey(let tenant, let id):
      set.delete(.tokens, key: key(RowKind.key, tenant, id.value))
    case .putChannel(let tenant, let c):
      set.put(.tokens, key: key(RowKind.channel, tenant) + c.id.bytes, value: value(c))
    case .dropChannel(let tenant, let id):
      set.delete(.tokens, key: key(RowKind.channel, tenant) + id.bytes)
    case .putGrant(let owner, let g):
      set.put(
        .tokens, key: key(RowKind.grant, owner) + g.channel.bytes + bigEndianBytes(g.tenant.value),
        value: value(g))
      set.put(
        .state, key: GrantRow.key(channel: g.channel, tenant: g.tenant), value: Array(g.org.utf8))
    case .dropGrant(let owner, let channel, let tenant):
      set.delete(
        .tokens, key: key(RowKind.grant, owner) + channel.bytes + bigEndianBytes(tenant.value))
      set.delete(.state, key: GrantRow.key(channel: channel, tenant: tenant))
    case .putInvite(let tenant, let i):
      set.put(.tokens, key: key(RowKind.invite, tenant, i.id.value), value: value(i))
    case .dropInvite(let tenant, let id):
      set.delete(.tokens, key: key(RowKind.invite, tenant, id.value))
    case .putJoin(let tenant, let j):
      set.put(.tokens, key: key(RowKind.join, tenant, j.id.value), value: value(j))
    case .dropJoin(let tenant, let id):
      set.delete(.tokens, key: key(RowKind.join, tenant, id.value))
    case .clear(let tenant):
      for kind in RowKind.ofTenant {
        let end = tenant.value == .max ? [kind + 1] : key(kind, TenantID(tenant.value + 1))
        set.deleteRange(.tokens, from: key(kind, tenant), to: end)
      }
    case .putTokens(let tenant, let day, let writer, let tokens):
      set.put(
        .tokens, key: UsageRow.key(tenant: tenant, day: day, writer: writer),
        value: UsageRow.value(messages: 0, bytes: 0, tokens: tokens))
    }
  }

  private func key(_ kind: UInt8, _ tenant: TenantID, _ record: UInt64? = nil) -> [UInt8] {
    [kind] + bigEndianBytes(tenant.value) + (record.map { bigEndianBytes($0) } ?? [])
  }

  private func value(_ t: TenantRecord) -> [UInt8] {
    var w = ByteWriter()
    w.append(version)
    w.append(t.state.rawValue)
    w.append(bigEndian: t.generation)
    w.append(bigEndian: t.created.nanoseconds)
    w.append(bigEndian: t.quota.messagesPerDay)
    w.append(bigEndian: t.quota.bytesPerDay)
    w.append(bigEndian: t.quota.tokensPerDay)
    w.append(counted: Array(t.org.utf8))
    return w.array
  }

  private func value(_ k: KeyRecord) -> [UInt8] {
    var w = ByteWriter()
    w.append(version)
    w.append(k.digest)
    w.append(k.scopes.rawValue)
    w.append(bigEndian: k.created.nanoseconds)
    w.append(instant: k.expires)
    w.append(instant: k.revoked)
    w.append(instant: k.lastUsedWritten)
    w.append(counted: Array(k.label.utf8))
    return w.array
  }

  private func value(_ c: ChannelRecord) -> [UInt8] {
    var w = ByteWriter()
    w.append(version)
    w.append(bigEndian: c.created.nanoseconds)
    w.append(counted: Array(c.name.utf8))
    return w.array
  }

  private func value(_ g: GrantRecord) -> [UInt8] {
    var w = ByteWriter()
    w.append(version)
    w.append(g.joined ? 1 : 0)
    w.append(bigEndian: g.created.nanoseconds)
    w.append(counted: Array(g.org.utf8))
    return w.array
  }

  private func value(_ i: InviteRecord) -> [UInt8] {
    var w = ByteWriter()
    w.append(version)
    w.append(i.digest)
    w.append(i.channel.bytes)
    w.append(bigEndian: i.maxUses)
    w.append(bigEndian: i.uses)
    w.append(bigEndian: i.created.nanoseconds)
    w.append(bigEndian: i.expires.nanoseconds)
    return w.array
  }

  private func value(_ j: JoinRecord) -> [UInt8] {
    var w = ByteWriter(capacity: 64 + j.bytes)
    w.append(version)
    w.append(j.status.rawValue)
    w.append(j.channel.bytes)
    w.append(bigEndian: j.joiner.value)
    w.append(bigEndian: j.created.nanoseconds)
    w.append(counted: Array(j.identity.utf8))
    w.append(counted: j.keyPackage)
    w.append(counted: j.welcome)
    return w.array
  }
}

extension Mutation {
  /// What a row says; nil when it is damaged or of a kind or version that is not known here. Usage rows
  /// are read by `UsageTotal`.
  init?(_ row: Row) {
    let made: Mutation? = unsafe row.key.withUnsafeBytes { key in
      unsafe row.value.withUnsafeBytes { value in
        var k = unsafe ByteReader(key)
        var v = unsafe ByteReader(value)
        guard let read = try? Mutation.read(&k, &v), k.atEnd, v.atEnd else { return nil }
        return read
      }
    }
    guard let made else { return nil }
    self = made
  }

  private static func read(
    _ k: inout ByteReader, _ v: inout ByteReader
  ) throws(ReadError) -> Mutation {
    let kind = try k.byte()
    let tenant = TenantID(try k.bigEndian())
    guard try v.byte() == version else { throw .malformed }
    switch kind {
    case RowKind.tenant:
      guard let state = TenantState(rawValue: try v.byte()) else { throw .malformed }
      let generation: UInt32 = try v.bigEndian()
      let created = Instant(nanoseconds: try v.bigEndian())
      let quota = TokenQuota(
        messagesPerDay: try v.bigEndian(), bytesPerDay: try v.bigEndian(),
        tokensPerDay: try v.bigEndian())
      return .putTenant(
        TenantRecord(
          id: tenant, org: try v.text(), state: state, generation: generation, created: created,
          quota: quota))
    case RowKind.key: return .putKey(tenant, try key(RecordID(try k.bigEndian()), &v))
    case RowKind.channel:
      let id = try k.channelID()
      let created = Instant(nanoseconds: try v.bigEndian())
      return .putChannel(tenant, ChannelRecord(id: id, name: try v.text(), created: created))
    case RowKind.grant:
      let channel = try k.channelID()
      let grantee = TenantID(try k.bigEndian())
      let joined = try v.byte() == 1
      let created = Instant(nanoseconds: try v.bigEndian())
      return .putGrant(
        tenant,
        GrantRecord(
          channel: channel, tenant: grantee, org: try v.text(), created: created, joined: joined))
    case RowKind.invite: return .putInvite(tenant, try invite(RecordID(try k.bigEndian()), &v))
    case RowKind.join: return .putJoin(tenant, try join(RecordID(try k.bigEndian()), &v))
    default: throw .malformed
    }
  }

  private static func key(
    _ id: RecordID, _ v: inout ByteReader
  ) throws(ReadError) -> KeyRecord {
    let digest = try v.array(32)
    let scopes = Scopes(rawValue: try v.byte())
    let created = Instant(nanoseconds: try v.bigEndian())
    let expires = try v.instant()
    let revoked = try v.instant()
    let lastUsed = try v.instant()
    return KeyRecord(
      id: id, digest: digest, label: try v.text(), scopes: scopes, created: created,
      expires: expires, revoked: revoked, lastUsedWritten: lastUsed, lastUsed: lastUsed)
  }

  private static func invite(
    _ id: RecordID, _ v: inout ByteReader
  ) throws(ReadError) -> InviteRecord {
    let digest = try v.array(32)
    let channel = try v.channelID()
    let maxUses: UInt32 = try v.bigEndian()
    let uses: UInt32 = try v.bigEndian()
    return InviteRecord(
      id: id, digest: digest, channel: channel, maxUses: maxUses, uses: uses,
      created: Instant(nanoseconds: try v.bigEndian()),
      expires: Instant(nanoseconds: try v.bigEndian()))
  }

  private static func join(
    _ id: RecordID, _ v: inout ByteReader
  ) throws(ReadError) -> JoinRecord {
    guard let status = JoinStatus(rawValue: try v.byte()) else { throw .malformed }
    let channel = try v.channelID()
    let joiner = TenantID(try v.bigEndian())
    let created = Instant(nanoseconds: try v.bigEndian())
    let identity = try v.text()
    let keyPackage = try v.counted()
    return JoinRecord(
      id: id, channel: channel, joiner: joiner, status: status, created: created,
      identity: identity, keyPackage: keyPackage, welcome: try v.counted())
  }
}

/// A usage row as it was read.
struct UsageTotal {
  var tenant: TenantID
  var day: UInt32
  var writer: UInt64
  var count: UsageCount

  init?(_ row: Row) {
    guard row.key.count == 21, row.value.count == 24 else { return nil }
    tenant = TenantID(UInt64(bigEndianBytes: row.key[1..<9]))
    day = UInt32(bigEndianBytes: row.key[9..<13])
    writer = UInt64(bigEndianBytes: row.key[13..<21])
    count = UsageCount(
      messages: UInt64(bigEndianBytes: row.value[0..<8]),
      bytes: UInt64(bigEndianBytes: row.value[8..<16]),
      tokens: UInt64(bigEndianBytes: row.value[16..<24]))
  }
}

extension ByteWriter {
  fileprivate mutating func append(counted bytes: [UInt8]) {
    append(bigEndian: UInt32(bytes.count))
    append(bytes)
  }
  fileprivate mutating func append(instant: Instant?) {
    append(bigEndian: instant?.nanoseconds ?? 0)
  }
}

extension ByteReader {
  fileprivate mutating func counted() throws(ReadError) -> [UInt8] {
    let count: UInt32 = try bigEndian()
    return try array(Int(count))
  }
  fileprivate mutating func text() throws(ReadError) -> String {
    guard let text = String(validating: try counted(), as: UTF8.self) else { throw .malformed }
    return text
  }
  fileprivate mutating func instant() throws(ReadError) -> Instant? {
    let nanoseconds: Int64 = try bigEndian()
    return nanoseconds == 0 ? nil : Instant(nanoseconds: nanoseconds)
  }
  fileprivate mutating func channelID() throws(ReadError) -> ChannelID {
    ChannelID(high: try bigEndian(), low: try bigEndian())
  }
}
