public import Base

/// What a `MetadataEngine` asks of its host, in order.
public enum MetadataEffect: Sendable {
  case answer(token: UInt64, MetadataAnswer)
  /// Write and sync as one batch; then `receiveWritten`, or `receiveWriteFailed`. At most one is under way.
  case write(WriteSet)
  /// Call `receiveTick` at this time at the latest.
  case wake(Instant)
}

/// The embedded metadata store: one node's disk, etcd's semantics. Nothing is answered, told to a watch or read before it
/// is on disk, so what a crash takes was never seen. One write at a time, so requests are carried out in the order they
/// came; reads do not wait.
///
/// Changes are remembered for watches in memory, up to `Limits.metadataHistory`; a restart forgets them: a watch from
/// before is told `forgotten`, gets anew, and watches from there.
public struct MetadataEngine: Sendable {
  enum Pending {
    case request(token: UInt64, MetadataRequest)
    case expire(UInt64)
  }
  /// What is being written, and what happens when it is.
  struct Flight {
    var changes: [MetadataChange]
    var state: [StateChange]
    var revision: UInt64
    var answer: (token: UInt64, MetadataAnswer)?
  }
  enum StateChange {
    case put(MetadataEntry)
    case delete([UInt8])
    case grant(UInt64, seconds: Int)
    case end(UInt64)
  }
  struct Watch {
    var range: MetadataRange
    /// Revisions before this one are not told.
    var from: UInt64
  }

  var state: MetadataState
  var deadlines: [UInt64: Instant] = [:]
  var watches: [UInt64: Watch] = [:]
  private var queue: [Pending] = []
  private var flight: Flight?
  /// Whole revisions, ascending; every one from `firstKnown` on that changed something.
  private var history: [(revision: UInt64, changes: [MetadataChange])] = []
  private var historyChanges = 0
  private var historyBytes = 0
  private(set) var firstKnown: UInt64

  /// `rows`: every row of table `meta` whose key begins with `m`. Leases last their whole time again: who held one when
  /// this node stopped could not renew it. nil when rows are damaged.
  public init?(rows: [Row], at now: Instant, into effects: inout [MetadataEffect]) {
    guard let state = MetadataState(rows: rows) else { return nil }
    self.state = state
    firstKnown = state.revision + 1
    for (lease, seconds) in state.leases { deadlines[lease] = now + .seconds(Int64(seconds)) }
    wake(&effects)
  }

  /// The revision of what is on disk.
  public var revision: UInt64 { state.revision }
  public var keyCount: Int { state.entries.count }
  public var leaseCount: Int { state.leases.count }

  // MARK: inputs

  public mutating func receive(
    _ request: MetadataRequest, token: UInt64, at now: Instant,
    into effects: inout [MetadataEffect]
  ) {
    switch request {
    case .get(let range, let limit):
      let found = state.get(range, limit: limit)
      effects.append(
        .answer(token: token, .got(found.entries, more: found.more, revision: revision)))
    case .keepAlive(let lease): keep(lease, token, at: now, &effects)
    case .watch(let range, let from): watch(range, from, token, &effects)
    case .compact(let to): compact(to, token, &effects)
    case .transact, .grant, .revoke:
      if queue.count >= Limits.metadataQueue {
        effects.append(.answer(token: token, .failed(.unavailable)))
        return
      }
      queue.append(.request(token: token, request))
      advance(at: now, &effects)
    }
  }

  /// Ends a watch, and forgets whom to answer.
  public mutating func receiveCancel(token: UInt64) {
    watches[token] = nil
    if flight?.answer?.token == token { flight?.answer = nil }
    // What waits is dropped: nobody was told anything about it.
    queue.removeAll { if case .request(token, _) = $0 { true } else { false } }
  }

  /// The write is on disk.
  public mutating func receiveWritten(at now: Instant, into effects: inout [MetadataEffect]) {
    guard let done = flight else { return }
    flight = nil
    state.revision = done.revision
    for change in done.state { apply(change, at: now) }
    tell(done, &effects)
    if let answer = done.answer {
      effects.append(.answer(token: answer.token, answer.1))
    }
    wake(&effects)
    advance(at: now, &effects)
  }

  /// The write is surely not on disk, and never will be. What waits fails with it.
  public mutating func receiveWriteFailed(at now: Instant, into effects: inout [MetadataEffect]) {
    guard let failed = flight else { return }
    flight = nil
    if let answer = failed.answer {
      effects.append(.answer(token: answer.token, .failed(.unavailable)))
    }
    for case .request(let token, _) in queue {
      effects.append(.answer(token: token, .failed(.unavailable)))
    }
    queue = []
    // Leases that ran out are tried again at the next tick.
    effects.append(.wake(now + .milliseconds(Limits.metadataRetryMilliseconds)))
  }

  public mutating func receiveTick(at now: Instant, into effects: inout [MetadataEffect]) {
    let due = deadlines.filter { $0.value <= now }.keys.sorted()
    for lease in due where !isExpiring(lease) { queue.append(.expire(lease)) }
    advance(at: now, &effects)
    wake(&effects, after: now)
  }

  // MARK: writing

  private func isExpiring(_ lease: UInt64) -> Bool {
    for case .expire(lease) in queue { return true }
    guard let flight else { return false }
    return flight.state.contains { if case .end(lease) = $0 { true } else { false } }
  }

  /// Carries out what waits until something has to be written.
  private mutating func advance(at now: Instant, _ effects: inout [MetadataEffect]) {
    while flight == nil, !queue.isEmpty {
      switch queue.removeFirst() {
      case .request(let token, .transact(let transaction)): transact(transaction, token, &effects)
      case .request(let token, .grant(let lease, let seconds)):
        grant(lease, seconds, token, &effects)
      case .request(let token, .revoke(let lease)):
        if state.leases[lease] == nil {
          effects.append(.answer(token: token, .failed(.noLease)))
        } else {
          end(lease, token, &effects)
        }
      case .request: continue
      case .expire(let lease):
        // It may have been renewed since, or have ended.
        if let deadline = deadlines[lease], deadline <= now { end(lease, nil, &effects) }
      }
    }
  }

  private mutating func transact(
    _ transaction: MetadataTransaction, _ token: UInt64, _ effects: inout [MetadataEffect]
  ) {
    do {
      let outcome = try evaluate(transaction)
      if outcome.state.isEmpty {
        effects.append(
          .answer(
            token: token,
            .transacted(
              succeeded: outcome.succeeded, outcome.results, revision: state.revision)))
        return
      }
      let revision = state.revision + 1
      start(
        Flight(
          changes: outcome.changes, state: outcome.state, revision: revision,
          answer: (
            token,
            .transacted(succeeded: outcome.succeeded, outcome.results, revision: revision)
          )), &effects)
    } catch {
      effects.append(.answer(token: token, .failed(error)))
    }
  }

  private mutating func grant(
    _ lease: UInt64, _ seconds: Int, _ token: UInt64, _ effects: inout [MetadataEffect]
  ) {
    var chosen = lease
    if chosen == 0 {
      chosen = state.lastLease + 1
      while state.leases[chosen] != nil { chosen += 1 }
    }
    var fault: MetadataFault?
    if !(1...Limits.leaseSeconds).contains(seconds) || chosen > UInt64(Int64.max) {
      fault = .outOfBounds("a lease of \(seconds) seconds, number \(chosen)")
    }
    if state.leases[chosen] != nil { fault = .leaseExists }
    if state.leases.count >= Limits.metadataLeases { fault = .full }
    if let fault {
      effects.append(.answer(token: token, .failed(fault)))
      return
    }
    start(
      Flight(
        changes: [], state: [.grant(chosen, seconds: seconds)], revision: state.revision,
        answer: (
          token, .granted(lease: chosen, seconds: seconds, revision: state.revision)
        )), &effects)
  }

  /// Ends a lease and deletes its keys, at one revision.
  private mutating func end(
    _ lease: UInt64, _ token: UInt64?, _ effects: inout [MetadataEffect]
  ) {
    let keys = state.entries.filter { $0.lease == lease }.map(\.key)
    let revision = keys.isEmpty ? state.revision : state.revision + 1
    start(
      Flight(
        changes: keys.map { .deleted(key: $0, revision: revision) },
        state: keys.map { .delete($0) } + [.end(lease)], revision: revision,
        answer: token.map { ($0, .revoked(revision: revision)) }), &effects)
  }

  private mutating func start(_ next: Flight, _ effects: inout [MetadataEffect]) {
    flight = next
    var set = WriteSet()
    var lastLease = state.lastLease
    func put(_ kind: UInt8, _ name: [UInt8], _ value: [UInt8]) {
      let key = MetadataRow.key(kind, name)
      set.put(.meta, key: key, value: MetadataRow.sealed(key, value))
    }
    for change in next.state {
      switch change {
      case .put(let entry): put(MetadataRow.entry, entry.key, MetadataRow.value(entry))
      case .delete(let key): set.delete(.meta, key: MetadataRow.key(MetadataRow.entry, key))
      case .grant(let lease, let seconds):
        lastLease = max(lastLease, lease)
        put(MetadataRow.lease, bigEndianBytes(lease), bigEndianBytes(UInt32(seconds)))
      case .end(let lease):
        set.delete(.meta, key: MetadataRow.key(MetadataRow.lease, bigEndianBytes(lease)))
      }
    }
    put(MetadataRow.numbers, [], bigEndianBytes(next.revision) + bigEndianBytes(lastLease))
    effects.append(.write(set))
  }

  private mutating func apply(_ change: StateChange, at now: Instant) {
    switch change {
    case .put(let entry): state.put(entry)
    case .delete(let key): state.delete(key)
    case .grant(let lease, let seconds):
      state.leases[lease] = seconds
      state.lastLease = max(state.lastLease, lease)
      deadlines[lease] = now + .seconds(Int64(seconds))
    case .end(let lease):
      state.leases[lease] = nil
      deadlines[lease] = nil
    }
  }

  // MARK: watches

  private mutating func tell(_ done: Flight, _ effects: inout [MetadataEffect]) {
    if done.changes.isEmpty { return }
    history.append((done.revision, done.changes))
    historyChanges += done.changes.count
    historyBytes += MetadataEngine.bytes(done.changes)
    while historyChanges > Limits.metadataHistory || historyBytes > Limits.metadataHistoryBytes,
      history.count > 1
    {
      forgetFirst()
    }
    for (token, watch) in watches.sorted(by: { $0.key < $1.key })
    where watch.from <= done.revision {
      let mine = done.changes.filter { watch.range.contains($0.key) }
      if mine.isEmpty { continue }
      effects.append(.answer(token: token, .changed(mine, revision: done.revision)))
    }
  }

  private mutating func forgetFirst() {
    let first = history.removeFirst()
    historyChanges -= first.changes.count
    historyBytes -= MetadataEngine.bytes(first.changes)
    firstKnown = first.revision + 1
  }

  private static func bytes(_ changes: [MetadataChange]) -> Int {
    changes.reduce(0) { sum, change in
      switch change {
      case .put(let entry): sum + entry.key.count + entry.value.count + 64
      case .deleted(let key, _): sum + key.count + 64
      }
    }
  }

  private mutating func watch(
    _ range: MetadataRange, _ from: UInt64, _ token: UInt64, _ effects: inout [MetadataEffect]
  ) {
    if from > 0, from < firstKnown {
      effects.append(.answer(token: token, .failed(.forgotten(first: firstKnown))))
      return
    }
    if watches[token] == nil, watches.count >= Limits.metadataWatches {
      effects.append(.answer(token: token, .failed(.full)))
      return
    }
    watches[token] = Watch(range: range, from: from == 0 ? revision + 1 : from)
    if from == 0 { return }
    for past in history where past.revision >= from {
      let mine = past.changes.filter { range.contains($0.key) }
      if mine.isEmpty { continue }
      effects.append(.answer(token: token, .changed(mine, revision: past.revision)))
    }
  }

  private mutating func compact(
    _ to: UInt64, _ token: UInt64, _ effects: inout [MetadataEffect]
  ) {
    if to > revision {
      effects.append(.answer(token: token, .failed(.futureRevision)))
    } else if to < firstKnown {
      effects.append(.answer(token: token, .failed(.forgotten(first: firstKnown))))
    } else {
      while let first = history.first, first.revision < to { forgetFirst() }
      firstKnown = max(firstKnown, to)
      effects.append(.answer(token: token, .compacted(revision: revision)))
    }
  }

  // MARK: leases

  private mutating func keep(
    _ lease: UInt64, _ token: UInt64, at now: Instant, _ effects: inout [MetadataEffect]
  ) {
    var seconds = 0
    // A lease whose end is being written is over.
    if let whole = state.leases[lease], !isEnding(lease) {
      seconds = whole
      deadlines[lease] = now + .seconds(Int64(whole))
    }
    effects.append(.answer(token: token, .kept(lease: lease, seconds: seconds, revision: revision)))
    wake(&effects)
  }

  private func isEnding(_ lease: UInt64) -> Bool {
    guard let flight else { return false }
    return flight.state.contains { if case .end(lease) = $0 { true } else { false } }
  }

  private func wake(_ effects: inout [MetadataEffect], after now: Instant? = nil) {
    let next = deadlines.filter { now == nil || $0.value > now! && !isExpiring($0.key) }.values
      .min()
    if let next { effects.append(.wake(next)) }
  }
}

extension MetadataChange {
  public var key: [UInt8] {
    switch self {
    case .put(let entry): entry.key
    case .deleted(let key, _): key
    }
  }
}
