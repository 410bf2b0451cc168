public import Base

// What gathered in a turn becomes one write: records, slot index, heads, commits, producers, usage.
extension NodeEngine {
  /// The end of a batch of inputs: hands out a write if something gathered and fewer than
  /// `commitsInFlight` are under way, and says when to wake.
  public mutating func endTurn(at now: Now) {
    while inFlight.count < settings.commitsInFlight, failure == nil, !failing,
      !dirty.isEmpty || !undoHeads.isEmpty || (!usage.touched.isEmpty && !usageTimer)
    {
      writeNext(at: now)
    }
    resumePaused()
    if !retentionTimer {
      retentionTimer = true
      timers.set(now.monotonic + settings.retentionInterval, .retention)
    }
    if let next = timers.next, next < wakeAt {
      wakeAt = next
      effects.append(.wake(next))
    }
  }

  private mutating func writeNext(at now: Now) {
    var set = WriteSet()
    putUndo(into: &set)
    // Most of it is what is in hand; the rest is heads and indexes.
    set.bytes.reserveCapacity(min(counters.pendingBytes, Limits.writeSetBytes) + 1_024)
    var write = WriteInFlight(ticket: ticket(), parts: [], usage: [], set: WriteSet())
    var synced = false
    var taken = 0
    for c in dirty {
      if set.bytes.count > Limits.writeSetBytes { break }
      taken += 1
      c.inDirty = false
      if c.deleteToken != nil, c.pending.isEmpty {
        if c.partsInFlight == 0 { write.parts.append(sealDelete(c, into: &set, at: now)) }
        continue
      }
      for at in c.pending.indices where c.pending[at].publication.durability == .synced {
        synced = true
      }
      write.parts.append(seal(c, into: &set, charges: &write.usage, at: now))
    }
    dirty.removeFirst(taken)
    if !usage.touched.isEmpty { usage.put(into: &set, writer: writer, scratch) }
    guard !set.isEmpty else { return }
    write.set = set
    inFlight.append(write)
    counters.writes += 1
    counters.writesInFlight = inFlight.count
    effects.append(.write(ticket: write.ticket, set, synced: synced))
    if settings.faults.contains(.deliverBeforeAppend) {
      for part in write.parts where !part.deletes { publish(part, at: now) }
    }
  }

  /// Seals everything that is pending in a channel.
  private mutating func seal(
    _ c: Channel, into set: inout WriteSet, charges: inout [UsageCharge], at now: Now
  ) -> Part {
    let items = c.pending
    c.pending = []
    var part = Part(
      channel: c, items: items, mark: c.sealed, wall: now.wall, appended: UInt64(items.count),
      trim: nil, deletes: false)
    c.partsInFlight += 1
    if let trim = c.trim { putTrim(trim, c, &part, into: &set) }
    if !items.isEmpty, !part.mark.named {
      set.put(.state, key: NameRow.key(c.ref.id), value: NameRow.value(c.ref))
      part.mark.named = true
    }
    let charged = charges.count
    var from = 0
    while from < items.count {
      var to = from
      var bytes = 0
      while to < items.count, to - from < settings.recordMessages {
        bytes += items[to].bytes
        if to > from, bytes > settings.recordBytes { break }
        to += 1
      }
      putRecord(items[from..<to], c, &part, into: &set)
      putProducers(items[from..<to], c, into: &set)
      from = to
    }
    for at in items.indices {
      count(items[at], c, &part, charges: &charges, after: charged, into: &set)
    }
    for charge in charges[charged...] {
      usage.add(charge.key, messages: charge.messages, bytes: charge.bytes)
    }
    while let place = c.gate.trim(to: settings.commitsPerChannel, written: c.written.last) {
      set.delete(
        .state, key: CommitRow.key(c.ref.id, generation: place.generation, epoch: place.epoch))
    }
    scratch.put(.state, into: &set) { key, value in
      key.append(StateKind.head)
      key.append(bigEndian: c.ref.id.high)
      key.append(bigEndian: c.ref.id.low)
      c.head(part.mark).encode(into: &value)
    }
    c.sealed = part.mark
    return part
  }

  private mutating func putRecord(
    _ items: ArraySlice<Item>, _ c: Channel, _ part: inout Part, into set: inout WriteSet
  ) {
    let first = part.mark.last + 1
    let index = slotNext[Int(c.slot)]
    slotNext[Int(c.slot)] += 1
    scratch.writer.begin(
      RecordHeader(
        first: first, count: UInt32(items.count),
        ownership: ownership.isEmpty ? 1 : ownership[c.slot] ?? 1, slotIndex: index,
        wall: part.wall,
        previous: part.mark.hash))
    var bytes: UInt64 = 0
    // By index, here and below: each item taken out would be counted in and out.
    for at in items.indices {
      guard case .append(let sequence, let generation) = items[at].role else {
        preconditionFailure("sealed a publish without a place")
      }
      assert(sequence >= first)
      scratch.writer.append(
        items[at].publication, generation: generation, tenant: items[at].author.tenant)
      bytes += UInt64(items[at].bytes - RecordHeader.framePrefix)
    }
    let key = (c.ref.id.high.bigEndian, c.ref.id.low.bigEndian, first.bigEndian)
    unsafe withUnsafeBytes(of: key) { k in
      part.mark.hash = unsafe scratch.writer.finish(c.ref.id) {
        unsafe set.put(.records, key: k, value: $0)
      }
      scratch.put(.slots, into: &set) { key, value in
        key.append(bigEndian: c.slot)
        key.append(bigEndian: index)
        unsafe value.append(k)
      }
    }
    if part.mark.last < part.mark.oldest {
      c.oldestRecord = OldestRecord(count: UInt64(items.count), bytes: bytes, wall: part.wall)
    }
    part.mark.last += UInt64(items.count)
    part.mark.bytesKept += bytes
    part.mark.bytesEver += bytes
    part.mark.deleted = false
  }

  /// One row per producer in a record: what it has there.
  private func putProducers(_ items: ArraySlice<Item>, _ c: Channel, into set: inout WriteSet) {
    var gathering = ProducerRuns()
    for at in items.indices where items[at].publication.producer != 0 {
      guard case .append(let sequence, _) = items[at].role else { continue }
      let p = items[at].publication
      gathering.add(p.producer, p.producerSequence, at: sequence)
    }
    for (producer, has) in gathering.finish() {
      set.put(
        .state, key: ProducerRow.key(c.ref.id, producer, has[0].producerSequence),
        value: ProducerRow.value(has))
    }
  }

  /// Meters a message, and puts its commit row.
  private mutating func count(
    _ item: Item, _ c: Channel, _ part: inout Part, charges: inout [UsageCharge],
    after charged: Int,
    into set: inout WriteSet
  ) {
    let p = item.publication
    let bytes = UInt64(p.frame.count - RecordHeader.framePrefix)
    let key = UsageTable.Key(tenant: item.author.tenant, day: UsageRow.day(part.wall))
    if charges.count > charged, let last = charges.last, last.key == key {
      charges[charges.count - 1].messages += 1
      charges[charges.count - 1].bytes += bytes
    } else {
      charges.append(UsageCharge(key: key, messages: 1, bytes: bytes))
    }
    guard p.mls == .commit, case .append(let sequence, let generation) = item.role else { return }
    c.gate.stamp(epoch: p.epoch, generation: generation, wall: part.wall)
    let row = CommitRow(
      generation: generation, epoch: p.epoch, sequence: sequence, digest: p.digest, wall: part.wall)
    set.put(
      .state, key: CommitRow.key(c.ref.id, generation: generation, epoch: p.epoch), value: row.value
    )
  }

  // MARK: results

  /// A write is as durable as was asked.
  public mutating func receiveWritten(ticket: UInt64, at now: Now) {
    guard let first = inFlight.first, first.ticket == ticket else {
      preconditionFailure("write \(ticket) reported out of order")
    }
    if failure != nil {
      // It was handed out on top of one that failed: it counts as failed, and is taken back.
      receiveWriteFailed(ticket: ticket, failure ?? Fault(.unavailable), at: now)
      return
    }
    let write = inFlight.removeFirst()
    counters.writesInFlight = inFlight.count
    var messages = 0
    var bytes = 0
    for part in write.parts {
      part.channel.partsInFlight -= 1
      if part.deletes {
        finishDelete(part, at: now)
        continue
      }
      if !settings.faults.contains(.deliverBeforeAppend) { publish(part, at: now) }
      settle(part)
      messages += part.items.count
      for at in part.items.indices { bytes += part.items[at].bytes - RecordHeader.framePrefix }
      if part.trim != nil { finishTrim(part, at: now) }
      if part.channel.deleteToken != nil, part.channel.partsInFlight == 0 { mark(part.channel) }
    }
    if messages > 0 {
      counters.messages += UInt64(messages)
      counters.bytes += UInt64(bytes)
      effects.append(.note(.accepted(messages: messages, bytes: bytes)))
    }
  }

  mutating func mark(_ c: Channel) {
    guard !c.inDirty else { return }
    c.inDirty = true
    dirty.append(c)
  }

  private mutating func tell(_ run: (session: Session, count: Int)?) {
    guard let run, !run.session.closed else { return }
    effects.append(.written(run.session.id, count: run.count))
  }

  /// Answers what a confirmed part holds, and what waited for it.
  private mutating func settle(_ part: Part) {
    let c = part.channel
    var counting: (session: Session, count: Int)?
    for at in part.items.indices {
      guard case .append(let sequence, _) = part.items[at].role else { continue }
      leave(part.items[at], c)
      if part.items[at].publication.token == Publication.counted {
        if counting?.session === part.items[at].session {
          counting?.count += 1
        } else {
          tell(counting)
          counting = (part.items[at].session, 1)
        }
        continue
      }
      let item = part.items[at]
      if item.publication.producer != 0 {
        c.producers.settle(item.publication.producer, item.publication.producerSequence)
      }
      answer(item, c.ref, .accepted(sequence: sequence, duplicate: false))
    }
    tell(counting)
    c.gate.settle(through: part.mark.last)
    guard !c.latecomers.isEmpty else { return }
    let late = c.latecomers
    c.latecomers = []
    for item in late {
      switch item.role {
      case .duplicate(let of) where of <= part.mark.last:
        leave(item, c)
        answer(item, c.ref, .accepted(sequence: of, duplicate: true))
      case .loser(let to) where to <= part.mark.last: lose(item, c, to: to)
      default: c.latecomers.append(item)
      }
    }
  }

  /// Makes a confirmed part visible: the tail grows, live subscribers get it.
  private mutating func publish(_ part: Part, at now: Now) {
    let c = part.channel
    c.written = part.mark
    guard !part.items.isEmpty else { return }
    let before = c.tailBytes
    for at in part.items.indices {
      guard case .append(let sequence, let generation) = part.items[at].role else { continue }
      let p = part.items[at].publication
      let publisher = part.items[at].session.id
      c.tail.append(
        TailEntry(
          delivery: Delivery(
            sequence: sequence, frame: p.frame, type: p.type, mls: p.mls, epoch: p.epoch,
            generation: generation, producer: p.producer, producerSequence: p.producerSequence,
            wall: part.wall, hasSuffix: p.hasSuffix, publisher: publisher),
          publisher: publisher))
      c.tailBytes &+= p.frame.count
    }
    counters.tailBytes += c.tailBytes - before
    if c.live.count < c.subscriptions.count { noteOwn(part) }
    deliverLive(c, from: c.tail.count - part.items.count, at: now)
    trimTail(c)
  }

  /// Lagging subscribers must not get their own messages later, from the archive.
  private func noteOwn(_ part: Part) {
    for item in part.items where item.session.lagging > 0 {
      guard case .append(let sequence, _) = item.role,
        let s = item.session.byChannel[part.channel.ref.id], s.state != .live
      else { continue }
      s.publishedItself(sequence)
    }
  }

  private mutating func trimTail(_ c: Channel) {
    while c.tailBytes > settings.tailBytes, !c.tail.isEmpty {
      let bytes = c.tail.removeFirst().delivery.frame.count
      c.tailBytes -= bytes
      counters.tailBytes -= bytes
    }
    // Over the bound of the shard the tails not used lately go, a few steps per write.
    var steps = 64
    while counters.tailBytes > settings.shardTailBytes, steps > 0, !loaded.isEmpty {
      steps -= 1
      if tailHand >= loaded.count { tailHand = 0 }
      let other = loaded[tailHand]
      tailHand += 1
      if other.tailUsed { other.tailUsed = false } else { dropTail(other) }
    }
  }
}
