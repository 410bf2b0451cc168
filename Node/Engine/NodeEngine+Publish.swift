public import Base

// A publish: right, retry?, commit order, sequence. What it becomes is settled by its write.
extension NodeEngine {
  public mutating func receivePublish(
    _ id: SessionID, kind: SessionKind, principal: Principal, channel ref: ChannelRef,
    _ publication: Publication, at now: Now
  ) {
    let session = session(id) ?? open(id, kind: kind, at: now)
    let item = Item(
      publication: publication, session: session,
      author: Author(
        tenant: principal.anonymous ? ref.tenant : principal.tenant,
        key: principal.anonymous ? RecordID(0) : principal.key, anonymous: principal.anonymous))
    let least = RecordHeader.framePrefix + (publication.hasSuffix ? Limits.suffixBytes : 0)
    guard publication.frame.count >= least else {
      answer(item, ref, .refused(Fault(.badRequest, "frame without payload"), winner: 0))
      return
    }
    guard publication.frame.count <= Limits.messageBytes + RecordHeader.framePrefix else {
      answer(item, ref, .refused(Fault(.tooLarge), winner: 0))
      return
    }
    if publication.producer != 0,
      publication.producerSequence == 0 || publication.producerSequence >= UInt64.max >> 1
    {
      answer(item, ref, .refused(Fault(.badRequest, "producer_sequence"), winner: 0))
      return
    }
    guard let c = touch(ref) else {
      answer(item, ref, .refused(Fault(.nameCollision), winner: 0))
      return
    }
    if ref.archived { enter(item) }
    // The usual case without the queue.
    if case .ready = c.phase, !c.blocked, c.waiting.isEmpty {
      admit(item, principal, c, at: now)
    } else {
      perform(.publish(item, principal), on: c, at: now)
    }
  }

  // MARK: what is in hand

  /// Counts a publish as in hand, and pauses its session when that is too much.
  private mutating func enter(_ item: Item) {
    let s = item.session
    s.pendingBytes &+= item.bytes
    counters.pendingBytes &+= item.bytes
    guard !s.paused, !s.closed,
      s.pendingBytes > settings.sessionPendingBytes
        || counters.pendingBytes > settings.shardPendingBytes
    else { return }
    s.paused = true
    pausedSessions.append(s)
    effects.append(.pause(s.id))
  }

  /// A publish is no longer in hand.
  mutating func leave(_ item: Item, _ c: Channel) {
    guard c.ref.archived else { return }
    item.session.pendingBytes &-= item.bytes
    counters.pendingBytes &-= item.bytes
  }

  /// Lets paused sessions go on, once per call of an input that settled publishes.
  mutating func resumePaused() {
    guard !pausedSessions.isEmpty, counters.pendingBytes <= settings.shardPendingBytes else {
      return
    }
    // Paused for the whole shard: not before it is half empty.
    let room = counters.pendingBytes <= settings.shardPendingBytes / 2
    var kept: [Session] = []
    for s in pausedSessions {
      if room, s.pendingBytes <= settings.sessionPendingBytes / 2 {
        s.paused = false
        effects.append(.resume(s.id))
      } else {
        kept.append(s)
      }
    }
    pausedSessions = kept
  }

  mutating func answer(_ item: Item, _ ref: ChannelRef, _ outcome: PublishOutcome) {
    switch outcome {
    case .accepted(_, let duplicate): if duplicate { counters.duplicates += 1 }
    case .refused: counters.refused += 1
    }
    guard item.publication.token != 0 || item.publication.mls == .commit, !item.session.closed
    else {
      return
    }
    effects.append(
      .answer(
        item.session.id, ref, token: item.publication.token, mls: item.publication.mls, outcome))
  }

  mutating func refuse(_ item: Item, _ c: Channel, _ fault: Fault, winner: UInt64 = 0) {
    leave(item, c)
    answer(item, c.ref, .refused(fault, winner: winner))
  }

  /// Trouble with the disk: nothing new is ordered.
  var inTrouble: Fault? {
    if diskFull { return Fault(.diskFull) }
    return failing || failure != nil ? Fault(.unavailable, "a write failed") : nil
  }

  // MARK: order

  /// Asks for the right, then goes on.
  mutating func admit(_ item: Item, _ principal: Principal, _ c: Channel, at now: Now) {
    if case .broken(let fault) = c.phase {
      refuse(item, c, fault)
      return
    }
    guard mayUse(principal, c) else {
      effects.append(.note(.publishWithoutRight(c.ref, item.session.id)))
      refuse(item, c, Fault(.forbidden))
      return
    }
    accept(item, c, at: now)
  }

  /// A publish by right: ordered now, or held, or refused, by the state of the disk.
  mutating func accept(_ item: Item, _ c: Channel, at now: Now) {
    if c.ref.archived, !c.held.isEmpty || diskFull || failing || failure != nil {
      if item.session.kind == .skytale {
        hold(item, c, at: now)
      } else if !isRetry(item, c, at: now) {
        // Only what is surely not in the channel is refused.
        refuse(item, c, inTrouble ?? Fault(.unavailable))
      }
      return
    }
    order(item, c, at: now)
  }

  /// Whether a publish repeats one that is taken already (or may be): it gets that one's answer.
  private mutating func isRetry(_ item: Item, _ c: Channel, at now: Now) -> Bool {
    let p = item.publication
    if p.producer != 0, !orderProducer(item, c, at: now) { return true }
    guard p.mls == .commit,
      case .same(let sequence) = c.gate.judge(epoch: p.epoch, digest: p.digest, mayOpen: false)
    else { return false }
    answerAgain(item, c, sequence)
    return true
  }

  /// The first answer again, once the first one's write is confirmed.
  private mutating func answerAgain(_ item: Item, _ c: Channel, _ sequence: UInt64) {
    if sequence <= c.written.last || !c.ref.archived {
      leave(item, c)
      answer(item, c.ref, .accepted(sequence: sequence, duplicate: true))
    } else {
      latecome(item, c, .duplicate(of: sequence))
    }
  }

  mutating func order(_ item: Item, _ c: Channel, at now: Now) {
    let p = item.publication
    if p.producer != 0, !orderProducer(item, c, at: now) { return }
    if p.mls == .commit {
      orderCommit(item, c, at: now)
    } else {
      place(item, c, generation: c.gate.generation, at: now)
    }
  }

  /// - Returns: true when the publish is new and goes on.
  private mutating func orderProducer(_ item: Item, _ c: Channel, at now: Now) -> Bool {
    let p = item.publication
    switch c.producers.judge(p.producer, p.producerSequence) {
    case .append: return true
    case .same(let sequence): answerAgain(item, c, sequence)
    case .lookUp:
      guard c.ref.archived else {
        refuse(item, c, Fault(.producerStale))
        return false
      }
      seek(c, p.producer, p.producerSequence, .retry(c, item))
    case .unknown:
      c.blocked = true
      c.blockedItem = item
      seek(c, p.producer, .max, .producer(c))
    }
    return false
  }

  private mutating func seek(
    _ c: Channel, _ producer: UInt64, _ sequence: UInt64, _ lookup: Lookup
  ) {
    let ticket = ticket()
    lookups[ticket] = lookup
    c.lookups += 1
    counters.reads += 1
    effects.append(
      .seekBefore(
        ticket: ticket, key: ProducerRow.key(c.ref.id, producer, sequence),
        prefix: ProducerRow.prefix))
  }

  mutating func ticket() -> UInt64 {
    defer { nextTicket += 1 }
    return nextTicket
  }

  private mutating func orderCommit(_ item: Item, _ c: Channel, at now: Now) {
    let p = item.publication
    if settings.faults.contains(.secondCommit) {
      place(item, c, generation: c.gate.generation, at: now)
      return
    }
    let verdict = c.gate.judge(
      epoch: p.epoch, digest: p.digest, mayOpen: p.epoch == 0 && mayOpen(item.author, c.gate))
    switch verdict {
    case .first(let generation, let opens):
      let sequence = c.last + 1
      c.gate.accept(
        epoch: p.epoch, digest: p.digest, sequence: sequence, generation: generation,
        by: HeadRow.Opener(
          tenant: item.author.anonymous ? .none : item.author.tenant, key: item.author.key,
          session: item.session.id, run: writer))
      if opens {
        counters.generations += 1
        effects.append(
          .note(.generationOpened(c.ref, generation: generation, sequence: sequence)))
      }
      place(item, c, generation: generation, at: now)
    case .same(let sequence): answerAgain(item, c, sequence)
    case .taken(let winner):
      if winner <= c.written.last || !c.ref.archived {
        lose(item, c, to: winner)
      } else {
        latecome(item, c, .loser(to: winner))
      }
    }
  }

  /// May this sender begin a new generation: whoever began the present one, or anyone once that one's
  /// stream has ended (a restart ends every stream).
  private func mayOpen(_ p: Author, _ gate: EpochGate) -> Bool {
    guard let opener = gate.opener else { return true }
    if !p.anonymous, opener.tenant != .none, opener.tenant == p.tenant, opener.key == p.key {
      return true
    }
    return opener.run != writer || session(opener.session) == nil
  }

  mutating func lose(_ item: Item, _ c: Channel, to winner: UInt64) {
    effects.append(
      .note(.commitRefused(c.ref, epoch: item.publication.epoch, winner: winner)))
    refuse(item, c, Fault(.epochTaken), winner: winner)
  }

  private mutating func latecome(_ item: Item, _ c: Channel, _ role: Item.Role) {
    var item = item
    item.role = role
    c.latecomers.append(item)
  }

  /// Gives the next sequence.
  private mutating func place(_ item: Item, _ c: Channel, generation: UInt32, at now: Now) {
    let sequence = c.last + 1
    c.last = sequence
    let p = item.publication
    if p.hasSuffix { p.frame.patch(sequence, at: p.frame.count - Limits.suffixBytes) }
    if p.producer != 0 {
      c.producers.take(
        p.producer, p.producerSequence, at: sequence, window: settings.producerWindow,
        written: c.written.last)
      if c.producers.count > settings.producersPerChannel {
        c.producers.trim(to: settings.producersPerChannel)
      }
    }
    guard c.ref.archived else {
      relay(item, c, sequence: sequence, generation: generation, at: now)
      return
    }
    var item = item
    item.role = .append(sequence: sequence, generation: generation)
    c.pending.append(item)
    if !c.inDirty {
      c.inDirty = true
      dirty.append(c)
    }
  }

  /// Unarchived: delivered at once.
  private mutating func relay(
    _ item: Item, _ c: Channel, sequence: UInt64, generation: UInt32, at now: Now
  ) {
    let p = item.publication
    c.written.last = sequence
    c.sealed.last = sequence
    if p.producer != 0 { c.producers.settle(p.producer, p.producerSequence) }
    if p.mls == .commit { c.gate.settle(through: sequence) }
    _ = c.gate.trim(to: settings.commitsPerChannel, written: sequence)
    let size = UInt64(p.frame.count - RecordHeader.framePrefix)
    meter(item, c, day: UsageRow.day(now.wall), messages: 1, bytes: size)
    if !usageTimer {
      usageTimer = true
      timers.set(now.monotonic + .seconds(1), .usage)
    }
    counters.messages += 1
    counters.bytes += size
    answer(item, c.ref, .accepted(sequence: sequence, duplicate: false))
    let delivery = Delivery(
      sequence: sequence, frame: p.frame, type: p.type, mls: p.mls, epoch: p.epoch,
      generation: generation, producer: p.producer, producerSequence: p.producerSequence,
      wall: now.wall, hasSuffix: p.hasSuffix)
    deliverUnarchived(delivery, from: item.session, c, at: now)
  }

  mutating func meter(_ item: Item, _ c: Channel, day: UInt32, messages: UInt64, bytes: UInt64) {
    if item.author.tenant == .none { return }
    usage.add(
      UsageTable.Key(tenant: item.author.tenant, day: day), messages: messages, bytes: bytes)
  }

  /// Counts what a tenant sent that this engine did not order.
  public mutating func receiveUsage(
    _ tenant: TenantID, messages: UInt64, bytes: UInt64, at now: Now
  ) {
    usage.add(
      UsageTable.Key(tenant: tenant, day: UsageRow.day(now.wall)), messages: messages, bytes: bytes)
    if !usageTimer {
      usageTimer = true
      timers.set(now.monotonic + .seconds(1), .usage)
    }
  }

  // MARK: old retries

  /// Answers `.seekBefore`.
  public mutating func receiveRow(ticket: UInt64, row: Row?, at now: Now) {
    guard let lookup = lookups.removeValue(forKey: ticket) else { return }
    var runs: [ProducerRun] = []
    var damaged = false
    if let row {
      if let read = try? ProducerRow.runs(row.value) { runs = read } else { damaged = true }
    }
    switch lookup {
    case .retry(let c, let item):
      c.lookups -= 1
      if damaged { effects.append(.note(.damagedState(c.ref, kind: StateKind.producer))) }
      let wanted = item.publication.producerSequence
      if let place = runs.lazy.compactMap({ $0.place(wanted) }).first {
        leave(item, c)
        answer(item, c.ref, .accepted(sequence: place, duplicate: true))
      } else {
        refuse(item, c, damaged ? Fault(.damaged) : Fault(.producerStale))
      }
    case .producer(let c):
      c.lookups -= 1
      unblock(c, at: now) { engine, item in
        if damaged {
          engine.effects.append(.note(.damagedState(c.ref, kind: StateKind.producer)))
          engine.refuse(item, c, Fault(.damaged))
        } else {
          c.producers.learn(item.publication.producer, runs)
          // Trouble may have come meanwhile: the whole way again.
          engine.accept(item, c, at: now)
        }
      }
    case .cursor, .retention: preconditionFailure("a row for a read of records")
    }
  }

  /// A read or seek failed.
  public mutating func receiveReadFailed(ticket: UInt64, _ fault: Fault, at now: Now) {
    guard let lookup = lookups.removeValue(forKey: ticket) else { return }
    switch lookup {
    case .retry(let c, let item):
      c.lookups -= 1
      failLookup(item, c, fault)
    case .producer(let c):
      c.lookups -= 1
      unblock(c, at: now) { engine, item in engine.failLookup(item, c, fault) }
    case .cursor(let s):
      s.channel.lookups -= 1
      if s.state != .ended { end(s.session, fault) }
    case .retention(let c):
      c.lookups -= 1
      c.retentionBusy = false
    }
  }

  /// The publish cannot be judged: a caller retries, a stream must end.
  private mutating func failLookup(_ item: Item, _ c: Channel, _ fault: Fault) {
    refuse(item, c, fault)
    if item.session.kind == .skytale { end(item.session, Fault(.unavailable)) }
  }

  private mutating func unblock(
    _ c: Channel, at now: Now, _ body: (inout NodeEngine, Item) -> Void
  ) {
    c.blocked = false
    if let item = c.blockedItem {
      c.blockedItem = nil
      body(&self, item)
    }
    drain(c, at: now)
    if c.inHeld { releaseHeld(at: now) }
  }
}
