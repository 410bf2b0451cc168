public import Base
internal import Digest

/// Accounts, API keys, invites, joins and quotas of this node's tenants: everything the token API and the
/// operators decide on. A value: no I/O, clock or randomness.
///
/// A request that changes something is decided on what is written, becomes a write, and is applied and
/// answered when the host says it is written; until then later changes of the same tenant wait, so nobody
/// sees what a crash could take back. Reads are answered at once.
public struct TokenEngine {
  var accounts = Accounts()
  let settings: TokenSettings
  var signingKeys: SigningKeySet
  var failures = FailureCounts()
  /// Rows that could not be read and stand for nothing: fewer rights, never more.
  public internal(set) var damagedRows = 0

  private var lastTicket: UInt64 = 0
  private var inFlight: [UInt64: InFlight] = [:]
  private(set) var busy: Set<TenantID> = []
  private(set) var exclusive = false
  private(set) var queues: [TenantID: [Job]] = [:]
  private(set) var exclusiveQueue: [Job] = []
  private var queued = 0

  /// `rows`: all of table `tokens`.
  public init(rows: [Row], settings: TokenSettings, keys: SigningKeySet, at now: Now) {
    self.settings = settings
    signingKeys = keys
    damagedRows = accounts.load(rows, writer: settings.writer, at: now)
  }

  // MARK: input

  /// One request. `token` comes back in the reply; `entropy`: 64 random bytes, used for what is made.
  public mutating func receive(
    _ request: TokenRequest, token: UInt64, entropy: [UInt8], at now: Now,
    into effects: inout [TokenEffect]
  ) {
    precondition(entropy.count >= 64, "a request came with \(entropy.count) random bytes")
    do throws(Fault) {
      try admit(request, at: now)
      let job = Job(work: .request(request, entropy), token: token)
      switch lock(for: request) {
      case nil: run(job, locked: nil, at: now, into: &effects)
      case let lock?: try submit(job, lock, at: now, into: &effects)
      }
    } catch {
      effects.append(.reply(token: token, .failure(error)))
    }
  }

  /// The write with this ticket is done.
  public mutating func receiveWritten(
    _ ticket: UInt64, at now: Now, into effects: inout [TokenEffect]
  ) {
    guard let done = inFlight.removeValue(forKey: ticket) else {
      preconditionFailure("ticket \(ticket) was not in flight")
    }
    for mutation in done.change.mutations { accounts.apply(mutation, at: now) }
    for entry in done.sweep.next { accounts.due.push(entry) }
    effects += done.change.effects
    if let token = done.token, let reply = done.change.reply {
      effects.append(.reply(token: token, .success(reply)))
    }
    release(done.lock, at: now, into: &effects)
  }

  /// The write with this ticket was refused and nothing of it stands.
  public mutating func receiveWriteFailed(
    _ ticket: UInt64, _ fault: Fault, at now: Now, into effects: inout [TokenEffect]
  ) {
    guard let failed = inFlight.removeValue(forKey: ticket) else {
      preconditionFailure("ticket \(ticket) was not in flight")
    }
    if let token = failed.token { effects.append(.reply(token: token, .failure(fault))) }
    for entry in failed.sweep.retries { accounts.due.push(entry) }
    release(failed.lock, at: now, into: &effects)
  }

  /// Call about once a second: expires keys, invites and join requests.
  public mutating func receiveTick(at now: Now, into effects: inout [TokenEffect]) {
    var due: [TenantID: [DueQueue.Entry]] = [:]
    var order: [TenantID] = []
    var taken = 0
    while taken < 1_024, let entry = accounts.due.pop(at: now.monotonic) {
      taken += 1
      if entry.kind == .key {
        expireKey(entry, at: now, into: &effects)
        continue
      }
      if due[entry.tenant] == nil { order.append(entry.tenant) }
      due[entry.tenant, default: []].append(entry)
    }
    for tenant in order {
      let job = Job(work: .sweep(tenant, due[tenant]!), token: nil)
      // Sweeps are few, bounded by the records: they wait without counting.
      enqueueOrRun(job, .tenant(tenant), at: now, into: &effects)
    }
  }

  /// After a rotation.
  public mutating func receiveSigningKeys(_ keys: SigningKeySet) { signingKeys = keys }

  /// What a tenant has published on a day since the last call.
  public mutating func receiveUsageAdded(
    _ tenant: TenantID, day: UInt32, messages: UInt64, bytes: UInt64
  ) {
    guard accounts[tenant] != nil else { return }
    accounts[tenant]!.usage[day, default: Account.Day()].others.messages &+= messages
    accounts[tenant]!.usage[day]!.others.bytes &+= bytes
    accounts.forgetOldDays(tenant)
  }

  /// True when the tenant has used its messages or bytes of the day: its streams are slowed.
  public func isOverQuota(_ tenant: TenantID, wall: Instant) -> Bool {
    accounts[tenant]?.isOverQuota(UsageRow.day(wall)) ?? false
  }

  /// Tenants that are not deleted.
  public var tenantCount: Int {
    accounts.byID.values.count { $0.record.state != .deleted }
  }

  /// False while a write or a waiting request is left: for tests and draining.
  public var isIdle: Bool { inFlight.isEmpty && queued == 0 && queues.isEmpty }

  // MARK: one change of a tenant at a time

  enum Lock: Hashable {
    case tenant(TenantID)
    /// Deleting a tenant touches others: it runs alone.
    case all
  }

  struct Job {
    enum Work {
      case request(TokenRequest, [UInt8])
      case sweep(TenantID, [DueQueue.Entry])
    }
    var work: Work
    var token: UInt64?
  }

  struct Change {
    var mutations: [Mutation]
    var reply: TokenReply?
    var effects: [TokenEffect] = []
  }

  enum Decision {
    case answer(TokenReply)
    case change(Change)
  }

  private struct InFlight {
    var change: Change
    var lock: Lock
    var token: UInt64?
    var sweep: Sweep
  }

  /// What to look at again after a sweep is written, or when it could not be.
  struct Sweep {
    var mutations: [Mutation] = []
    var next: [DueQueue.Entry] = []
    var retries: [DueQueue.Entry] = []
  }

  private mutating func submit(
    _ job: Job, _ lock: Lock, at now: Now, into effects: inout [TokenEffect]
  ) throws(Fault) {
    if queued >= Limits.tokenQueue { throw Fault(.unavailable, "too many changes are waiting") }
    enqueueOrRun(job, lock, at: now, into: &effects)
  }

  private mutating func enqueueOrRun(
    _ job: Job, _ lock: Lock, at now: Now, into effects: inout [TokenEffect]
  ) {
    switch lock {
    case .all:
      if busy.isEmpty && !exclusive && exclusiveQueue.isEmpty {
        run(job, locked: lock, at: now, into: &effects)
      } else {
        exclusiveQueue.append(job)
        queued += 1
      }
    case .tenant(let tenant):
      if busy.contains(tenant) || exclusive || !exclusiveQueue.isEmpty {
        queues[tenant, default: []].append(job)
        queued += 1
      } else {
        run(job, locked: lock, at: now, into: &effects)
      }
    }
  }

  /// Decides a job whose lock is free; takes the lock when it writes.
  private mutating func run(
    _ job: Job, locked: Lock?, at now: Now, into effects: inout [TokenEffect]
  ) {
    do throws(Fault) {
      var sweep = Sweep()
      let decision: Decision
      switch job.work {
      case .request(let request, let entropy):
        decision = try decide(request, entropy: entropy, at: now)
      case .sweep(let tenant, let entries):
        sweep = self.sweep(tenant, entries, at: now)
        decision = .change(Change(mutations: sweep.mutations))
      }
      switch decision {
      case .answer(let reply):
        if let token = job.token { effects.append(.reply(token: token, .success(reply))) }
      case .change(let change):
        if change.mutations.isEmpty { return }
        guard let locked else { preconditionFailure("a change was decided without a lock") }
        lastTicket += 1
        switch locked {
        case .all: exclusive = true
        case .tenant(let tenant): busy.insert(tenant)
        }
        inFlight[lastTicket] = InFlight(
          change: change, lock: locked, token: job.token, sweep: sweep)
        var set = WriteSet()
        for mutation in change.mutations { mutation.write(into: &set) }
        effects.append(.write(ticket: lastTicket, set))
      }
    } catch {
      if let token = job.token { effects.append(.reply(token: token, .failure(error))) }
    }
  }

  private mutating func release(
    _ lock: Lock, at now: Now, into effects: inout [TokenEffect]
  ) {
    switch lock {
    case .all: exclusive = false
    case .tenant(let tenant): busy.remove(tenant)
    }
    while busy.isEmpty && !exclusive && !exclusiveQueue.isEmpty {
      let job = exclusiveQueue.removeFirst()
      queued -= 1
      run(job, locked: .all, at: now, into: &effects)
    }
    if exclusive || !exclusiveQueue.isEmpty { return }
    switch lock {
    case .all: for tenant in queues.keys.sorted() { drain(tenant, at: now, into: &effects) }
    case .tenant(let tenant): drain(tenant, at: now, into: &effects)
    }
  }

  private mutating func drain(
    _ tenant: TenantID, at now: Now, into effects: inout [TokenEffect]
  ) {
    guard var waiting = queues.removeValue(forKey: tenant) else { return }
    var first = 0
    while first < waiting.count && !busy.contains(tenant) {
      run(waiting[first], locked: .tenant(tenant), at: now, into: &effects)
      first += 1
      queued -= 1
    }
    waiting.removeFirst(first)
    if !waiting.isEmpty { queues[tenant] = waiting }
  }

  /// The accounts a request may change; nil for reads.
  private func lock(for request: TokenRequest) -> Lock? {
    var own: TenantID {
      switch request.caller {
      case .bearer(let text, _): bearerTenant(text)
      case .redacted: onlyKey()?.account.record.id ?? .none
      case .admin: .none
      case .proven(let proven): proven.principal.tenant
      }
    }
    func tenant(_ org: String?) -> Lock { .tenant(org.map { TenantID(org: $0) } ?? own) }
    func owner(_ channel: String) -> Lock {
      .tenant(ChannelName(channel).map { TenantID(org: $0.org) } ?? .none)
    }
    switch request.action {
    case .listTenants, .account, .listKeys, .authenticate, .prove, .checkPrincipal,
      .listChannels, .getChannel, .listGrants, .listInvites, .pending, .getWelcome, .usage:
      return nil
    case .deleteTenant, .dropGrantee: return .all
    case .createTenant(let org, _), .suspendTenant(let org), .resumeTenant(let org),
      .setQuota(let org, _):
      return tenant(org)
    case .createKey(let org, _, _, _): return tenant(org)
    case .revokeKey(let id), .revokeInvite(let id):
      return .tenant(RecordAddress(id)?.tenant ?? .none)
    case .issueToken: return .tenant(own)
    case .grant(let channel, _), .grantKnown(let channel, _), .registerChannel(let channel),
      .endChannel(let channel),
      .revokeGrant(let channel, _), .createInvite(let channel, _, _):
      return owner(channel)
    case .join(_, let token, _, _):
      return .tenant(Credential(.invite, token)?.address.tenant ?? .none)
    case .putWelcome(let id, _): return .tenant(JoinText.read(id)?.tenant ?? .none)
    }
  }
}
