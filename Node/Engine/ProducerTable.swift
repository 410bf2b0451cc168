internal import Base

/// What a channel remembers of its producers: for each the last producer sequence, and where recent ones
/// stand. Older answers are on disk (`ProducerRow`).
struct ProducerTable {
  struct Producer {
    /// Last producer sequence taken, pending ones included.
    var last: UInt64
    /// The last whose write was confirmed.
    var written: UInt64
    /// Ascending. Runs after the channel's written sequence are pending.
    var runs = Ring<ProducerRun>()
    /// For forgetting the one that was quiet longest.
    var used: UInt64
  }
  enum Verdict {
    case append
    /// It stands at this sequence already (which may still be pending).
    case same(sequence: UInt64)
    /// Taken long ago, or never and now too late: the rows know.
    case lookUp
    /// The producer's last row must be read first.
    case unknown
  }

  private var producers: [UInt64: Producer] = [:]
  private var runs = 0
  private var clock: UInt64 = 0
  /// True while every producer the channel ever had is here.
  private var complete: Bool

  init(complete: Bool) { self.complete = complete }

  var count: Int { producers.count }

  mutating func judge(_ producer: UInt64, _ p: UInt64) -> Verdict {
    guard let known = producers[producer] else { return complete ? .append : .unknown }
    if p > known.last { return .append }
    var i = known.runs.count - 1
    while i >= 0 {
      let run = known.runs[i]
      if let place = run.place(p) { return .same(sequence: place) }
      if run.lastProducerSequence < p { break }
      i -= 1
    }
    return .lookUp
  }

  /// The last row of a producer, as read: empty when it has none.
  mutating func learn(_ producer: UInt64, _ row: [ProducerRun]) {
    guard producers[producer] == nil else { return }
    clock += 1
    let last = row.last?.lastProducerSequence ?? 0
    var known = Producer(last: last, written: last, used: clock)
    for run in row { known.runs.append(run) }
    runs += row.count
    producers[producer] = known
  }

  mutating func take(
    _ producer: UInt64, _ p: UInt64, at sequence: UInt64, window: Int, written: UInt64
  ) {
    clock += 1
    var known = producers.removeValue(forKey: producer) ?? Producer(last: 0, written: 0, used: 0)
    known.last = p
    known.used = clock
    if let run = known.runs.last, run.count < .max, run.lastProducerSequence + 1 == p,
      run.lastSequence + 1 == sequence
    {
      known.runs[known.runs.count - 1].count += 1
    } else {
      known.runs.append(ProducerRun(producerSequence: p, sequence: sequence, count: 1))
      runs += 1
    }
    let bound = runs > Limits.producerRunsPerChannel ? 16 : window
    // What is pending stays: no row could answer for it.
    while known.runs.count > bound, let first = known.runs.first, first.lastSequence <= written {
      known.runs.removeFirst()
      runs -= 1
    }
    producers[producer] = known
  }

  mutating func settle(_ producer: UInt64, _ p: UInt64) { producers[producer]?.written = p }

  /// Takes back what a producer has after `sequence`.
  mutating func rollBack(_ producer: UInt64, to sequence: UInt64) {
    guard var known = producers.removeValue(forKey: producer) else { return }
    while let run = known.runs.last, run.lastSequence > sequence {
      known.runs.removeLast()
      if run.sequence <= sequence {
        var kept = run
        kept.count = UInt32(sequence - run.sequence + 1)
        known.runs.append(kept)
        break
      }
      runs -= 1
    }
    known.last = known.written
    producers[producer] = known
  }

  /// Forgets the producers quiet longest, down to nine tenths of the bound; those with pending
  /// sequences stay.
  mutating func trim(to bound: Int) {
    guard producers.count > bound else { return }
    // Sorted: the order of a dictionary differs from run to run.
    let idle = producers.filter { $0.value.last == $0.value.written }
      .map { ($0.value.used, $0.key) }.sorted { $0.0 < $1.0 }
    for (_, producer) in idle.prefix(producers.count - bound * 9 / 10) {
      runs -= producers[producer]?.runs.count ?? 0
      producers[producer] = nil
    }
    complete = false
  }

  mutating func reset() { self = ProducerTable(complete: true) }
}
