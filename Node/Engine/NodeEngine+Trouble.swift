public import Base

// When the disk is full or a write failed: Skytale streams wait in order, callers are refused.
extension NodeEngine {
  /// The volume is below its minimum, or has room again.
  public mutating func receiveDisk(full: Bool, at now: Now) {
    guard full != diskFull else { return }
    diskFull = full
    if !full { releaseHeld(at: now) }
  }

  mutating func hold(_ item: Item, _ c: Channel, at now: Now) {
    var item = item
    let since = item.heldSince ?? now.monotonic
    item.heldSince = since
    item.role = .fresh
    counters.heldMessages += 1
    if !c.inHeld {
      c.inHeld = true
      heldChannels.append(c)
      timers.set(since + settings.holdTime, .hold(c))
    }
    c.held.append(item)
  }

  /// Orders what was held, channel by channel.
  mutating func releaseHeld(at now: Now) {
    guard inTrouble == nil else { return }
    let list = heldChannels
    heldChannels.removeAll()
    for c in list {
      if c.blocked {
        // What it is blocked on came later than what is held.
        heldChannels.append(c)
        continue
      }
      c.inHeld = false
      var held = c.held
      c.held.removeAll()
      counters.heldMessages -= held.count
      while !held.isEmpty {
        let item = held.removeFirst()
        if item.session.dropsHeld {
          leave(item, c)
        } else if c.blocked || !c.waiting.isEmpty {
          c.waiting.append(.admitted(item))
        } else {
          accept(item, c, at: now)
        }
      }
    }
  }

  /// The oldest held publish of a channel may have waited long enough: then its stream ends.
  mutating func expireHeld(_ c: Channel, at now: Now) {
    guard c.inHeld, !c.held.isEmpty else { return }
    var rest = c.held
    var kept = Ring<Item>()
    while !rest.isEmpty {
      let item = rest.removeFirst()
      if item.session.dropsHeld {
        leave(item, c)
      } else if let since = item.heldSince, since + settings.holdTime <= now.monotonic {
        item.session.dropsHeld = true
        leave(item, c)
        end(item.session, Fault(.unavailable))
      } else {
        kept.append(item)
      }
    }
    counters.heldMessages -= c.held.count - kept.count
    c.held = kept
    if let first = kept.first {
      timers.set((first.heldSince ?? now.monotonic) + settings.holdTime, .hold(c))
    } else {
      c.inHeld = false
      heldChannels.removeAll { $0 === c }
    }
  }

  // MARK: failed writes

  /// A write failed. Nothing of it is in the store; if it is after all, the next write takes it back.
  public mutating func receiveWriteFailed(ticket: UInt64, _ fault: Fault, at now: Now) {
    guard let first = inFlight.first, first.ticket == ticket else {
      preconditionFailure("write \(ticket) reported out of order")
    }
    counters.failedWrites += 1
    failed.append(inFlight.removeFirst())
    counters.writesInFlight = inFlight.count
    if failure == nil { failure = fault }
    if inFlight.isEmpty { rollBack(at: now) }
  }

  /// Takes every channel of the failed writes back to what is written, and holds or refuses what was lost.
  private mutating func rollBack(at now: Now) {
    let fault = failure ?? Fault(.unavailable)
    failure = nil
    failing = true
    var affected: [Channel] = []
    var lost: [ObjectIdentifier: [Item]] = [:]
    for write in failed {
      unsafe write.set.forEach { op, table, key, _ in
        if table == .tokens, let row = unsafe UsageTable.key(of: key) { usage.touch(row) }
        // Heads are put anew and records go as a range.
        guard op == 1, table == .slots || table == .state,
          unsafe key.first != StateKind.head || table == .slots
        else { return }
        unsafe undo.delete(table, key: [UInt8](key))
      }
      for charge in write.usage {
        usage.subtract(charge.key, messages: charge.messages, bytes: charge.bytes)
      }
      for part in write.parts {
        part.channel.partsInFlight -= 1
        if lost[ObjectIdentifier(part.channel)] == nil { affected.append(part.channel) }
        lost[ObjectIdentifier(part.channel), default: []] += part.items
        if part.trim != nil {
          part.channel.retentionBusy = false
          part.channel.oldestRecord = nil
        }
        if part.deletes { failDelete(part.channel, fault) }
      }
    }
    failed.removeAll()
    var count = 0
    for c in affected {
      var items = lost[ObjectIdentifier(c)] ?? []
      items += c.pending
      count += items.count
      rollBack(c, items)
      items += c.latecomers
      c.latecomers.removeAll()
      // What is held already came later.
      var after = c.held
      c.held.removeAll()
      counters.heldMessages -= after.count
      for item in items { putAside(item, c, fault, at: now) }
      counters.heldMessages += after.count
      while !after.isEmpty { c.held.append(after.removeFirst()) }
      undoHeads.append((c, c.head(c.written).encoded))
    }
    effects.append(.note(.writeFailed(fault, messages: count)))
    timers.set(
      now.monotonic + .milliseconds(Int64(Limits.writeRetryMilliseconds)), .retryWrites)
    for c in affected { drain(c, at: now) }
  }

  private mutating func rollBack(_ c: Channel, _ items: [Item]) {
    for item in items where item.publication.producer != 0 {
      c.producers.rollBack(item.publication.producer, to: c.written.last)
    }
    c.gate.rollBack(to: c.written.last)
    c.pending.removeAll()
    c.last = c.written.last
    c.sealed = c.written
    if c.trim != nil {
      c.trim = nil
      c.retentionBusy = false
      c.oldestRecord = nil
    }
    if c.sealed.last < c.sealed.oldest { c.oldestRecord = nil }
  }

  private mutating func putAside(_ item: Item, _ c: Channel, _ fault: Fault, at now: Now) {
    if item.session.kind == .skytale {
      hold(item, c, at: now)
    } else {
      refuse(item, c, fault.code == .diskFull ? fault : Fault(.unavailable, "a write failed"))
    }
  }

  /// Puts in front of a write set what takes back the failed ones.
  mutating func putUndo(into set: inout WriteSet) {
    guard !undo.isEmpty || !undoHeads.isEmpty else { return }
    set = undo
    undo = WriteSet()
    for (c, head) in undoHeads {
      set.deleteRange(
        .records, from: RecordKey.key(c.ref.id, c.written.last + 1),
        to: RecordKey.key(c.ref.id, .max))
      set.put(.state, key: HeadRow.key(c.ref.id), value: head)
    }
    undoHeads.removeAll()
  }

  /// Time to try writing again.
  mutating func retryWrites(at now: Now) {
    failing = false
    releaseHeld(at: now)
  }
}
