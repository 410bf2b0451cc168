public import Base

// Channels come into memory when they are first touched, and leave it when they were idle long enough.
extension NodeEngine {
  /// The channel, loading it if need be; nil when its name collides with the one that is loaded.
  mutating func touch(_ ref: ChannelRef) -> Channel? {
    if let known = lastTouched, known.ref === ref {
      known.used = true
      known.tailUsed = true
      return known
    }
    if let known = channels[ref.id] {
      lastTouched = known
      known.used = true
      known.tailUsed = true
      if known.ref === ref { return known }
      guard known.ref.family == ref.family, known.ref.name == ref.name else {
        effects.append(.note(.nameCollision(ref)))
        return nil
      }
      return known
    }
    precondition(
      Int(ref.id.slot) % shards == shard, "channel of slot \(ref.id.slot) in shard \(shard)")
    let made = Channel(ref)
    channels[ref.id] = made
    made.indexInLoaded = loaded.count
    loaded.append(made)
    counters.loadedChannels += 1
    forgetIdle()
    effects.append(.load(ref))
    return made
  }

  /// Keeps the number of loaded channels in its bound, as far as idle ones allow. A few steps per call.
  mutating func forgetIdle() {
    var steps = 64
    while loaded.count > settings.loadedChannels, steps > 0 {
      steps -= 1
      if sweepHand >= loaded.count { sweepHand = 0 }
      let c = loaded[sweepHand]
      if c.used || !c.isIdle {
        c.used = false
        sweepHand += 1
      } else {
        forget(c)
      }
    }
  }

  mutating func forget(_ c: Channel) {
    dropTail(c)
    channels[c.ref.id] = nil
    let moved = loaded.removeLast()
    if moved !== c {
      loaded[c.indexInLoaded] = moved
      moved.indexInLoaded = c.indexInLoaded
    }
    counters.loadedChannels -= 1
  }

  mutating func dropTail(_ c: Channel) {
    counters.tailBytes -= c.tailBytes
    c.tailBytes = 0
    c.tail.removeAll()
  }

  /// The rows of a channel that `.load` asked for, in any order.
  public mutating func receiveLoaded(_ ref: ChannelRef, rows: [Row], at now: Now) {
    guard let c = channels[ref.id], case .loading = c.phase else { return }
    c.phase = .ready
    take(rows, into: c)
    drain(c, at: now)
  }

  private mutating func take(_ rows: [Row], into c: Channel) {
    var head = HeadRow()
    var commits: [CommitRow] = []
    for row in rows {
      guard let kind = row.key.first else { continue }
      switch kind {
      case StateKind.head:
        guard let read = try? HeadRow(decoding: row.value) else {
          effects.append(.note(.damagedState(c.ref, kind: kind)))
          c.phase = .broken(Fault(.damaged, "head of \(c.ref.name)"))
          return
        }
        head = read
      case StateKind.name:
        if row.value != NameRow.value(c.ref) {
          effects.append(.note(.nameCollision(c.ref)))
          c.phase = .broken(Fault(.nameCollision))
          return
        }
        c.written.named = true
      case StateKind.commit:
        if let read = try? CommitRow(row) {
          commits.append(read)
        } else {
          effects.append(.note(.damagedState(c.ref, kind: kind)))
        }
      case StateKind.grant:
        guard row.key.count == 25 else { continue }
        c.grants.insert(TenantID(UInt64(bigEndianBytes: row.key[17...])))
      default: continue
      }
    }
    c.written.last = head.last
    c.written.hash = head.hash
    c.written.oldest = head.oldest
    c.written.bytesKept = head.bytesKept
    c.written.bytesEver = head.bytesEver
    c.written.deleted = head.deleted
    c.sealed = c.written
    c.last = head.last
    c.gate = EpochGate(head: head, commits: commits)
    c.producers = ProducerTable(complete: head.last == 0 || !c.ref.archived)
  }

  /// A channel could not be loaded: what waits for it is refused.
  public mutating func receiveLoadFailed(_ ref: ChannelRef, _ fault: Fault, at now: Now) {
    guard let c = channels[ref.id], case .loading = c.phase else { return }
    c.phase = .broken(fault)
    let waiting = c.waiting
    drain(c, at: now)
    // A Skytale stream cannot be told that its publish was lost, other than by its end.
    for i in 0..<waiting.count {
      if case .publish(let item, _) = waiting[i], item.session.kind == .skytale {
        end(item.session, Fault(.unavailable))
      }
    }
    // The next touch tries again.
    forget(c)
  }

  /// A grant row was written or deleted.
  public mutating func receiveGrant(
    _ channel: ChannelID, tenant: TenantID, granted: Bool, at now: Now
  ) {
    // Not loaded: the row is read when it is.
    guard let c = channels[channel] else { return }
    perform(.grant(tenant, granted: granted), on: c, at: now)
  }

  /// Runs an operation, or queues it behind what the channel waits for.
  mutating func perform(_ operation: Operation, on c: Channel, at now: Now) {
    if case .loading = c.phase {
      c.waiting.append(operation)
    } else if c.blocked || !c.waiting.isEmpty {
      c.waiting.append(operation)
    } else {
      run(operation, on: c, at: now)
    }
  }

  /// Runs what waited, until the channel is blocked again.
  mutating func drain(_ c: Channel, at now: Now) {
    while !c.blocked, !c.waiting.isEmpty {
      run(c.waiting.removeFirst(), on: c, at: now)
    }
  }

  private mutating func run(_ operation: Operation, on c: Channel, at now: Now) {
    switch operation {
    case .subscribe(let session, let principal, let start, let follow, let limit, let token):
      subscribe(
        session, principal, c, start: start, follow: follow, limit: limit, token: token, at: now)
    case .unsubscribe(let session):
      if let subscription = session.byChannel[c.ref.id] { remove(subscription) }
    case .publish(let item, let principal): admit(item, principal, c, at: now)
    case .admitted(let item): accept(item, c, at: now)
    case .grant(let tenant, let granted): grant(tenant, granted, c)
    case .delete(let token): delete(c, token: token)
    case .retention: examine(c, at: now)
    }
  }

  private mutating func grant(_ tenant: TenantID, _ granted: Bool, _ c: Channel) {
    if granted {
      c.grants.insert(tenant)
      return
    }
    guard c.grants.remove(tenant) != nil else { return }
    for s in c.subscriptions where s.byGrant && s.tenant == tenant {
      end(s.session, Fault(.revoked))
    }
  }

  /// Anonymous, of the channel's org, or by a grant.
  func mayUse(_ p: Principal, _ c: Channel) -> Bool {
    // SLIM: decided by the host, name by name, before it comes here.
    if p.anonymous || c.ref.family != .skytale { return true }
    if p.tenant == c.ref.tenant, p.org == c.ref.org { return true }
    return !c.grants.isEmpty && c.grants.contains(p.tenant)
  }
}
