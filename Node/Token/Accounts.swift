internal import Base

/// A registered channel as its tenant sees it.
struct ChannelState {
  var record: ChannelRecord
  var grants: [TenantID: GrantRecord] = [:]
}

/// One tenant and everything that is its own.
struct Account {
  struct Day {
    /// Summed from rows of other writers, or told by the host.
    var others = UsageCount()
    /// Tokens issued in this run.
    var tokens: UInt64 = 0
    var sum: UsageCount {
      UsageCount(messages: others.messages, bytes: others.bytes, tokens: others.tokens &+ tokens)
    }
  }

  var record: TenantRecord
  var keys: [RecordID: KeyRecord] = [:]
  var channels: [ChannelID: ChannelState] = [:]
  var names = SortedNames()
  var invites: [RecordID: InviteRecord] = [:]
  var joins: [RecordID: JoinRecord] = [:]
  /// Pending joins by channel, oldest first.
  var waiting: [ChannelID: [RecordID]] = [:]
  /// Bytes that `joins` keep in memory.
  var joinBytes = 0
  var usage: [UInt32: Day] = [:]

  func used(_ day: UInt32) -> UsageCount { usage[day]?.sum ?? UsageCount() }

  /// Over its messages or bytes of the day.
  func isOverQuota(_ day: UInt32) -> Bool {
    let used = used(day)
    let quota = record.quota
    return (quota.messagesPerDay > 0 && used.messages >= quota.messagesPerDay)
      || (quota.bytesPerDay > 0 && used.bytes >= quota.bytesPerDay)
  }
}

/// All accounts: changed by mutations only, so that memory is what the rows say. (Leases, polls and rate
/// buckets are memory of their own.)
struct Accounts {
  private(set) var byID: [TenantID: Account] = [:]
  private(set) var orgs = SortedNames()
  /// Grants by who has them: channel -> tenant that owns it.
  private(set) var granted: [TenantID: [ChannelID: TenantID]] = [:]
  /// Due times of keys, invites and joins. One entry per record, pushed when it is first seen.
  var due = DueQueue()

  /// Reads and changes memory-only fields in place.
  subscript(_ tenant: TenantID) -> Account? {
    get { byID[tenant] }
    _modify { yield &byID[tenant] }
  }

  /// Loads rows in any order. Returns how many were refused.
  mutating func load(_ rows: [Row], writer: UInt64, at now: Now) -> Int {
    var damaged = 0
    var later: [Mutation] = []
    var grants: [Mutation] = []
    var usage: [UsageTotal] = []
    var loaded: Set<TenantID> = []
    for row in rows {
      if row.key.first == UsageRow.kind {
        if let total = UsageTotal(row) { usage.append(total) } else { damaged += 1 }
        continue
      }
      guard let mutation = Mutation(row) else {
        damaged += 1
        continue
      }
      switch mutation {
      case .putTenant(let record):
        loaded.insert(record.id)
        apply(mutation, at: now, loading: true)
      case .putGrant: grants.append(mutation)
      default: later.append(mutation)
      }
    }
    for mutation in later { apply(mutation, at: now, loading: true) }
    for mutation in grants { apply(mutation, at: now, loading: true) }
    orgs.settle()
    let first = UsageRow.day(now.wall) &- UInt32(Limits.usageDays)
    for total in usage where total.day >= first { add(total, writer: writer) }
    for id in loaded { settle(id) }
    return damaged
  }

  private mutating func add(_ total: UsageTotal, writer: UInt64) {
    guard byID[total.tenant] != nil else { return }
    var day = byID[total.tenant]!.usage[total.day] ?? Account.Day()
    day.others.messages &+= total.count.messages
    day.others.bytes &+= total.count.bytes
    if total.writer == writer {
      day.tokens &+= total.count.tokens
    } else {
      day.others.tokens &+= total.count.tokens
    }
    byID[total.tenant]!.usage[total.day] = day
  }

  private mutating func settle(_ id: TenantID) {
    byID[id]!.names.settle()
    for channel in Array(byID[id]!.waiting.keys) {
      let joins = byID[id]!.joins
      byID[id]!.waiting[channel]!.sort { a, b in
        let x = joins[a]!.created
        let y = joins[b]!.created
        return x == y ? a < b : x < y
      }
    }
  }

  /// Rows of tenants that are gone say nothing.
  mutating func apply(_ mutation: Mutation, at now: Now, loading: Bool = false) {
    switch mutation {
    case .putTenant(let record): putTenant(record, loading: loading)
    case .putKey(let tenant, let record): putKey(tenant, record, at: now)
    case .dropKey(let tenant, let id): byID[tenant]?.keys[id] = nil
    case .putChannel(let tenant, let record):
      if byID[tenant] == nil { return }
      if byID[tenant]!.channels[record.id] != nil {
        byID[tenant]!.channels[record.id]!.record = record
      } else {
        byID[tenant]!.channels[record.id] = ChannelState(record: record)
        if loading {
          byID[tenant]!.names.append(record.name)
        } else {
          byID[tenant]!.names.insert(record.name)
        }
      }
    case .dropChannel(let tenant, let id):
      if let gone = byID[tenant]?.channels.removeValue(forKey: id) {
        byID[tenant]!.names.remove(gone.record.name)
      }
    case .putGrant(let owner, let record):
      guard byID[owner]?.channels[record.channel] != nil else { return }
      byID[owner]!.channels[record.channel]!.grants[record.tenant] = record
      granted[record.tenant, default: [:]][record.channel] = owner
    case .dropGrant(let owner, let channel, let tenant):
      byID[owner]?.channels[channel]?.grants[tenant] = nil
      granted[tenant]?[channel] = nil
      if granted[tenant]?.isEmpty == true { granted[tenant] = nil }
    case .putInvite(let tenant, let record):
      if byID[tenant] == nil { return }
      if byID[tenant]!.invites.updateValue(record, forKey: record.id) == nil {
        pushDue(record.expires, .invite, tenant, record.id, at: now)
      }
    case .dropInvite(let tenant, let id): byID[tenant]?.invites[id] = nil
    case .putJoin(let tenant, let record): putJoin(tenant, record, at: now)
    case .dropJoin(let tenant, let id): dropJoin(tenant, id)
    case .clear(let tenant): clear(tenant)
    case .putTokens(let tenant, let day, _, let tokens): putTokens(tenant, day, tokens)
    }
  }

  private mutating func putTenant(_ record: TenantRecord, loading: Bool) {
    if byID[record.id] != nil {
      byID[record.id]!.record = record
      return
    }
    byID[record.id] = Account(record: record)
    if loading { orgs.append(record.org) } else { orgs.insert(record.org) }
  }

  private mutating func putKey(_ tenant: TenantID, _ record: KeyRecord, at now: Now) {
    guard byID[tenant] != nil else { return }
    var record = record
    if let old = byID[tenant]!.keys[record.id] {
      record.calls = old.calls
      record.polls = old.polls
      record.lastUsed = old.lastUsed
    } else if let expires = record.expires, record.isActive(now.wall) {
      pushDue(expires, .key, tenant, record.id, at: now)
    }
    byID[tenant]!.keys[record.id] = record
  }

  private mutating func putJoin(_ tenant: TenantID, _ record: JoinRecord, at now: Now) {
    guard byID[tenant] != nil else { return }
    var record = record
    record.keptUntil = now.monotonic + .seconds(Int64(Limits.joinKeptSeconds))
    if let old = byID[tenant]!.joins[record.id] {
      record.served = old.served
      record.leasedUntil = old.leasedUntil
      record.lastPoll = old.lastPoll
      byID[tenant]!.joinBytes -= old.bytes
      if old.status == .pending, record.status != .pending { unlist(tenant, old) }
    } else {
      record.lastPoll = now.monotonic
      if record.status == .pending {
        byID[tenant]!.waiting[record.channel, default: []].append(record.id)
      }
      due.push(
        DueQueue.Entry(
          at: now.monotonic + .seconds(Int64(Limits.pendingExpirySeconds)), tenant: tenant,
          record: record.id, kind: .join))
    }
    byID[tenant]!.joinBytes += record.bytes
    byID[tenant]!.joins[record.id] = record
  }

  private mutating func dropJoin(_ tenant: TenantID, _ id: RecordID) {
    guard let old = byID[tenant]?.joins.removeValue(forKey: id) else { return }
    byID[tenant]!.joinBytes -= old.bytes
    if old.status == .pending { unlist(tenant, old) }
  }

  private mutating func unlist(_ tenant: TenantID, _ join: JoinRecord) {
    byID[tenant]!.waiting[join.channel]?.removeAll { $0 == join.id }
    if byID[tenant]!.waiting[join.channel]?.isEmpty == true {
      byID[tenant]!.waiting[join.channel] = nil
    }
  }

  /// Its slot is another node's now.
  mutating func forget(_ tenant: TenantID) {
    guard let gone = byID.removeValue(forKey: tenant) else { return }
    orgs.remove(gone.record.org)
    for state in gone.channels.values {
      for grantee in state.grants.keys {
        granted[grantee]?[state.record.id] = nil
        if granted[grantee]?.isEmpty == true { granted[grantee] = nil }
      }
    }
  }

  private mutating func clear(_ tenant: TenantID) {
    guard let old = byID[tenant] else { return }
    var fresh = Account(record: old.record)
    fresh.usage = old.usage
    byID[tenant] = fresh
  }

  private mutating func putTokens(_ tenant: TenantID, _ day: UInt32, _ tokens: UInt64) {
    guard byID[tenant] != nil else { return }
    byID[tenant]!.usage[day, default: Account.Day()].tokens = tokens
    forgetOldDays(tenant)
  }

  mutating func forgetOldDays(_ tenant: TenantID) {
    while byID[tenant]!.usage.count > Limits.usageDays + 1,
      let oldest = byID[tenant]!.usage.keys.min()
    {
      byID[tenant]!.usage[oldest] = nil
    }
  }

  /// `wall` on the monotonic clock, as the clocks stand now.
  private mutating func pushDue(
    _ wall: Instant, _ kind: DueQueue.Kind, _ tenant: TenantID, _ record: RecordID, at now: Now
  ) {
    let left = max(wall - now.wall, .seconds(0))
    due.push(DueQueue.Entry(at: now.monotonic + left, tenant: tenant, record: record, kind: kind))
  }
}
