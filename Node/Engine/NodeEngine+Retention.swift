public import Base

// Retention drops whole records from the old end; a delete drops everything and keeps the place.
extension NodeEngine {
  /// Looks at one channel now, loading it if need be: for channels that nobody uses.
  public mutating func receiveRetention(_ ref: ChannelRef, at now: Now) {
    guard let c = touch(ref) else { return }
    perform(.retention, on: c, at: now)
  }

  /// Erases a channel: records, commits, producers, grants, name. Its head stays, so that no sequence is
  /// ever used again. Its subscribers end. Answered by `.deleted`.
  public mutating func receiveDelete(_ ref: ChannelRef, token: UInt64, at now: Now) {
    guard let c = touch(ref) else {
      effects.append(.deleted(ref, token: token, Fault(.nameCollision)))
      return
    }
    perform(.delete(token: token), on: c, at: now)
  }

  // MARK: retention

  private func policy(_ c: Channel) -> Retention { c.retention ?? settings.retention }

  /// Whether the oldest record may go.
  private func exceeds(
    _ p: Retention, _ record: OldestRecord, messages: UInt64, bytes: UInt64, at now: Now
  ) -> Bool {
    if p.age.nanoseconds > 0, record.wall.nanoseconds < now.wall.nanoseconds &- p.age.nanoseconds {
      return true
    }
    if p.messages > 0, messages >= p.messages &+ record.count { return true }
    return p.bytes > 0 && bytes >= p.bytes &+ record.bytes
  }

  /// Starts retention in a channel that has too much.
  mutating func examine(_ c: Channel, at now: Now) {
    let p = policy(c)
    guard case .ready = c.phase, c.ref.archived, !p.isUnlimited, !c.retentionBusy,
      c.deleteToken == nil, inTrouble == nil, c.written.last >= c.written.oldest,
      sealedSlots.isEmpty || !sealedSlots.contains(c.slot)
    else { return }
    let messages = c.written.last + 1 - c.written.oldest
    if let oldest = c.oldestRecord {
      guard exceeds(p, oldest, messages: messages, bytes: c.written.bytesKept, at: now) else {
        return
      }
    } else if p.age.nanoseconds <= 0, p.messages == 0 || messages <= p.messages,
      p.bytes == 0 || c.written.bytesKept <= p.bytes
    {
      return
    }
    c.retentionBusy = true
    let ticket = ticket()
    lookups[ticket] = .retention(c)
    c.lookups += 1
    counters.reads += 1
    effects.append(
      .read(ticket: ticket, c.ref, from: c.written.oldest, limitBytes: settings.readBytes))
  }

  /// What of the oldest records goes.
  mutating func decide(_ rows: [Row], _ c: Channel, at now: Now) {
    c.retentionBusy = false
    guard c.deleteToken == nil, inTrouble == nil, !sealedSlots.contains(c.slot) else { return }
    let p = policy(c)
    var trim = Trim(
      oldest: c.written.oldest, records: 0, bytes: 0, slotIndexes: [], producers: [], next: nil)
    var places: [UInt64: Int] = [:]
    for row in rows {
      var producers: [(UInt64, UInt64)] = []
      var bytes: UInt64 = 0
      let header: RecordHeader
      do throws(RecordError) {
        header = try RecordReader.read(row, channel: c.ref.id) { _, m in
          bytes += UInt64(m.frame.count - RecordHeader.framePrefix)
          if m.producer != 0, producers.last?.0 != m.producer {
            producers.append((m.producer, m.producerSequence))
          }
        }
      } catch {
        // A damaged record stays, and stays in the way: `verify` names it.
        effects.append(.note(.damagedRecord(c.ref, sequence: trim.oldest)))
        break
      }
      guard header.first == trim.oldest, header.last <= c.written.last else { break }
      let record = OldestRecord(count: UInt64(header.count), bytes: bytes, wall: header.wall)
      guard
        exceeds(
          p, record, messages: c.written.last + 1 - trim.oldest,
          bytes: c.written.bytesKept &- trim.bytes, at: now)
      else {
        trim.next = record
        break
      }
      trim.oldest = header.last + 1
      trim.records += 1
      trim.bytes += bytes
      trim.slotIndexes.append(header.slotIndex)
      // The row of a record is keyed by the producer's first sequence in it.
      var inRecord: Set<UInt64> = []
      for (producer, first) in producers where inRecord.insert(producer).inserted {
        if let at = places[producer] {
          trim.producers[at].first = first
        } else {
          places[producer] = trim.producers.count
          trim.producers.append((producer, first))
        }
      }
    }
    c.oldestRecord = trim.next
    guard trim.records > 0 else { return }
    c.retentionBusy = true
    c.trim = trim
    mark(c)
  }

  /// Puts the deletes of a trim. Of each producer the newest row of the dropped part stays, so that a
  /// retry still gets its answer.
  mutating func putTrim(_ trim: Trim, _ c: Channel, _ part: inout Part, into set: inout WriteSet) {
    c.trim = nil
    part.trim = trim
    part.mark.oldest = trim.oldest
    part.mark.bytesKept -= min(part.mark.bytesKept, trim.bytes)
    let id = c.ref.id
    set.deleteRange(
      .records, from: id.bytes + bigEndianBytes(UInt64(0)), to: RecordKey.key(id, trim.oldest))
    for index in trim.slotIndexes { set.delete(.slots, key: SlotRow.key(c.slot, index)) }
    for (producer, first) in trim.producers {
      set.deleteRange(
        .state, from: ProducerRow.key(id, producer, 0), to: ProducerRow.key(id, producer, first))
    }
    while let place = c.gate.dropFirst(before: trim.oldest) {
      set.delete(.state, key: CommitRow.key(id, generation: place.generation, epoch: place.epoch))
    }
    for s in c.subscriptions where s.next < trim.oldest && s.state != .live {
      effects.append(.note(.subscriberDropped(c.ref, s.session.id)))
      end(s.session, Fault(.retentionPassed))
    }
  }

  mutating func finishTrim(_ part: Part, at now: Now) {
    guard let trim = part.trim else { return }
    let c = part.channel
    while let first = c.tail.first, first.delivery.sequence < trim.oldest {
      let bytes = c.tail.removeFirst().delivery.frame.count
      c.tailBytes -= bytes
      counters.tailBytes -= bytes
    }
    c.retentionBusy = false
    effects.append(.note(.retained(c.ref, oldest: trim.oldest, records: trim.records)))
    // There may be more than one read showed.
    if trim.next == nil { examine(c, at: now) }
  }

  // MARK: delete

  mutating func delete(_ c: Channel, token: UInt64) {
    if case .broken(let fault) = c.phase {
      effects.append(.deleted(c.ref, token: token, fault))
      return
    }
    guard c.ref.archived, c.written.last > 0 || c.last > 0 || !c.grants.isEmpty else {
      effects.append(.deleted(c.ref, token: token, Fault(.notFound)))
      return
    }
    if sealedSlots.contains(c.slot) {
      effects.append(
        .deleted(
          c.ref, token: token, Fault(.unavailable, "the channel is on its way to another node")))
      return
    }
    if let trouble = inTrouble, failing || failure != nil {
      effects.append(.deleted(c.ref, token: token, trouble))
      return
    }
    // What was taken before goes in first; what comes after waits.
    c.blocked = true
    c.deleteToken = token
    if c.trim != nil {
      c.trim = nil
      c.retentionBusy = false
    }
    for s in c.subscriptions { end(s.session, Fault(.notFound, "the channel was deleted")) }
    mark(c)
  }

  mutating func sealDelete(_ c: Channel, into set: inout WriteSet, at now: Now) -> Part {
    let id = c.ref.id
    c.partsInFlight += 1
    set.deleteRange(
      .records, from: id.bytes + bigEndianBytes(UInt64(0)), to: RecordKey.key(id, .max))
    for kind in [StateKind.name, StateKind.commit, StateKind.producer, StateKind.grant] {
      // Longer than any key of the kind.
      set.deleteRange(
        .state, from: StateKind.prefix(kind, id),
        to: StateKind.prefix(kind, id) + [UInt8](repeating: 0xff, count: 17))
    }
    var mark = c.sealed
    mark.oldest = mark.last + 1
    mark.bytesKept = 0
    mark.deleted = true
    mark.named = false
    var row = c.head(mark)
    row.generation &+= 1
    row.opener = nil
    row.commitFloor = 0
    set.put(.state, key: HeadRow.key(id), value: row.encoded)
    // The slot's log says so too: first sequence 0 stands for the whole channel.
    let index = slotNext[Int(c.slot)]
    slotNext[Int(c.slot)] += 1
    set.put(.slots, key: SlotRow.key(c.slot, index), value: RecordKey.key(id, 0))
    c.sealed = mark
    return Part(
      channel: c, items: [], mark: mark, wall: now.wall, appended: 0, trim: nil, deletes: true)
  }

  mutating func finishDelete(_ part: Part, at now: Now) {
    let c = part.channel
    let token = c.deleteToken ?? 0
    c.written = part.mark
    c.gate.reset(generation: c.gate.generation &+ 1)
    c.producers.reset()
    c.grants.removeAll()
    c.oldestRecord = nil
    c.retentionBusy = false
    dropTail(c)
    effects.append(.deleted(c.ref, token: token, nil))
    c.deleteToken = nil
    c.blocked = false
    drain(c, at: now)
  }

  mutating func failDelete(_ c: Channel, _ fault: Fault) {
    effects.append(.deleted(c.ref, token: c.deleteToken ?? 0, fault))
    c.deleteToken = nil
    c.blocked = false
  }
}
