public import Base

// A slot that is handed to another node, and one that comes from there. The host holds publishes before they come here;
// what came before is finished; then the channels are forgotten, and what their sessions had of them is told.

/// A cursor that ends here because its channel's slot has gone to another node: where it goes on there.
public struct MovedCursor: Sendable {
  public var session: SessionID
  public var ref: ChannelRef
  /// The next sequence it wants; meaningless for a channel that is not archived.
  public var next: UInt64
  public var follow: Bool
  /// Messages still wanted; 0: no limit.
  public var limit: UInt64
  /// Sequences from `next` on that the session published itself: not for it.
  public var own: [ClosedRange<UInt64>]

  public init(
    session: SessionID, ref: ChannelRef, next: UInt64, follow: Bool, limit: UInt64,
    own: [ClosedRange<UInt64>]
  ) {
    self.session = session
    self.ref = ref
    self.next = next
    self.follow = follow
    self.limit = limit
    self.own = own
  }
}

extension NodeEngine {
  /// The ownership epoch that records of a slot are stamped with from now on; 1 until told otherwise.
  public mutating func receiveOwnership(slot: UInt16, epoch: UInt64) {
    precondition(Int(slot) < slotNext.count, "slot \(slot)")
    ownership[slot] = epoch == 1 ? nil : epoch
  }

  /// From now on nothing of the slot changes by itself: no retention, no deletes. What was taken before goes on; the
  /// host hands in no more publishes, and waits for `slotIsQuiet`.
  public mutating func sealSlot(_ slot: UInt16) { sealedSlots.insert(slot) }

  /// The slot is served as ever.
  public mutating func unsealSlot(_ slot: UInt16) { sealedSlots.remove(slot) }

  public func isSealed(_ slot: UInt16) -> Bool { sealedSlots.contains(slot) }

  /// Whether all that was taken for a sealed slot is written (or refused) and answered.
  public func slotIsQuiet(_ slot: UInt16) -> Bool {
    // What takes back failed writes goes before all else.
    guard undo.isEmpty, undoHeads.isEmpty else { return false }
    return !loaded.contains { $0.slot == slot && !$0.isSettled }
      && !lookups.values.contains {
        switch $0 {
        case .retry(let c, _), .producer(let c), .retention(let c): c.slot == slot
        case .cursor: false
        }
      }
  }

  /// The slot is another node's: its channels are forgotten, their cursors end without a word to their sessions.
  /// - Returns: where the cursors go on, in an order that does not change from run to run.
  public mutating func releaseSlot(_ slot: UInt16, at now: Now) -> [MovedCursor] {
    sealedSlots.remove(slot)
    ownership[slot] = nil
    var moved: [MovedCursor] = []
    for c in loaded.filter({ $0.slot == slot }) {
      precondition(c.isSettled, "\(c.ref.name) is released with publishes in hand")
      for s in c.subscriptions { moved.append(move(s)) }
      while let s = c.subscriptions.last { remove(s) }
      c.phase = .broken(Fault(.unavailable, "the channel moved to another node"))
      forget(c)
    }
    slotNext[Int(slot)] = 1
    return moved.sorted {
      ($0.session.value, $0.ref.id) < ($1.session.value, $1.ref.id)
    }
  }

  /// The slot's rows came from another node: it is served here, its log goes on at `next`. A second word of the same
  /// ownership changes nothing: the log may have gone on since the first.
  public mutating func adoptSlot(_ slot: UInt16, next: UInt64, epoch: UInt64, at now: Now) {
    precondition(Int(slot) % shards == shard && next > 0, "slot \(slot) in shard \(shard)")
    if ownership[slot] == epoch, slotNext[Int(slot)] >= next { return }
    // Nobody used it here; what was loaded all the same is as old as the rows were then.
    for c in loaded.filter({ $0.slot == slot }) {
      for s in c.subscriptions { end(s.session, Fault(.unavailable)) }
      c.phase = .broken(Fault(.unavailable))
      forget(c)
    }
    slotNext[Int(slot)] = next
    receiveOwnership(slot: slot, epoch: epoch)
  }

  private mutating func move(_ s: Subscription) -> MovedCursor {
    // What waits for credit of a channel that nobody keeps goes now, or never.
    while let delivery = s.queue.first {
      s.queue.removeFirst()
      s.session.queuedBytes -= delivery.frame.count
      if s.session.hasCredit { s.session.outstanding += delivery.frame.count }
      effects.append(.deliver(s.session.id, s.channel.ref, delivery))
    }
    return MovedCursor(
      session: s.session.id, ref: s.channel.ref, next: s.next, follow: s.until == .max,
      // What has no limit counts down from the largest number all the same.
      limit: s.left > .max / 2 ? 0 : s.left, own: ownRuns(s))
  }

  /// What of the session's own it would have passed over.
  private func ownRuns(_ s: Subscription) -> [ClosedRange<UInt64>] {
    var runs: [ClosedRange<UInt64>] = []
    func note(_ run: ClosedRange<UInt64>) {
      let low = max(run.lowerBound, s.next, (runs.last?.upperBound ?? 0) + 1)
      guard low <= run.upperBound else { return }
      if let last = runs.last, last.upperBound + 1 == low {
        runs[runs.count - 1] = last.lowerBound...run.upperBound
      } else {
        runs.append(low...run.upperBound)
      }
    }
    for at in 0..<s.own.count { note(s.own[at]) }
    let c = s.channel
    for at in 0..<c.tail.count where c.tail[at].publisher == s.session.id {
      let sequence = c.tail[at].delivery.sequence
      note(sequence...sequence)
    }
    return runs
  }
}

extension Channel {
  /// Nothing taken for it is on its way.
  var isSettled: Bool {
    if case .loading = phase { return false }
    return pending.isEmpty && latecomers.isEmpty && partsInFlight == 0 && held.isEmpty
      && waiting.isEmpty && !blocked && trim == nil && deleteToken == nil && !inDirty
  }
}

/// What of a slot's rows need not be sent: it follows from the records.
public enum SlotRecord {
  /// The rows that answer retries of a record's messages, as its writer made them; nil when the record is damaged: then it
  /// answers none.
  public static func producerRows(_ record: Row) -> [Row]? {
    guard let channel = RecordKey.parse(record.key)?.channel else { return nil }
    var gathering = ProducerRuns()
    do throws(RecordError) {
      try RecordReader.read(record, channel: channel) { sequence, message in
        gathering.add(message.producer, message.producerSequence, at: sequence)
      }
    } catch {
      return nil
    }
    return gathering.finish().map {
      Row(
        key: ProducerRow.key(channel, $0.producer, $0.runs[0].producerSequence),
        value: ProducerRow.value($0.runs))
    }
  }

  /// First sequence and the last one of what a producer's row tells of.
  public static func lastSequence(ofProducerRow value: [UInt8]) -> UInt64? {
    guard let runs = try? ProducerRow.runs(value) else { return nil }
    return runs.map(\.lastSequence).max()
  }
}

/// Gathers what each producer has in one record.
struct ProducerRuns {
  private var order: [UInt64] = []
  private var runs: [UInt64: [ProducerRun]] = [:]
  private var running: (producer: UInt64, run: ProducerRun)?

  mutating func add(_ producer: UInt64, _ producerSequence: UInt64, at sequence: UInt64) {
    guard producer != 0 else { return }
    if var r = running, r.producer == producer, r.run.lastSequence &+ 1 == sequence,
      r.run.lastProducerSequence &+ 1 == producerSequence
    {
      r.run.count += 1
      running = r
      return
    }
    if let r = running { note(r) }
    running = (
      producer, ProducerRun(producerSequence: producerSequence, sequence: sequence, count: 1)
    )
  }

  private mutating func note(_ r: (producer: UInt64, run: ProducerRun)) {
    if runs[r.producer] == nil { order.append(r.producer) }
    runs[r.producer, default: []].append(r.run)
  }

  /// In the order in which they were met; none is empty.
  mutating func finish() -> [(producer: UInt64, runs: [ProducerRun])] {
    if let r = running { note(r) }
    running = nil
    return order.map { ($0, runs[$0] ?? []) }
  }
}
