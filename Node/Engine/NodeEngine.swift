public import Base
internal import Digest

/// What the engine counted since it began, and what it holds now.
public struct EngineCounters: Sendable, Equatable {
  public var messages: UInt64 = 0
  public var bytes: UInt64 = 0
  public var deliveries: UInt64 = 0
  public var deliveredBytes: UInt64 = 0
  public var duplicates: UInt64 = 0
  public var refused: UInt64 = 0
  public var writes: UInt64 = 0
  public var failedWrites: UInt64 = 0
  public var reads: UInt64 = 0
  public var generations: UInt64 = 0
  public var sessions = 0
  public var subscriptions = 0
  public var lagging = 0
  public var loadedChannels = 0
  public var pendingBytes = 0
  public var tailBytes = 0
  public var bufferBytes = 0
  public var heldMessages = 0
  public var writesInFlight = 0
  public init() {}
}

/// A loaded channel, as inspection shows it.
public struct ChannelState: Sendable, Equatable {
  /// Last written sequence.
  public var last: UInt64
  public var oldest: UInt64
  public var bytesKept: UInt64
  public var bytesEver: UInt64
  public var generation: UInt32
  public var commits: Int
  public var producers: Int
  public var subscribers: Int
  public var lagging: Int
  public var pending: Int
  public var held: Int
  public var tailMessages: Int
  public var tailBytes: Int
  public var hash: RecordHash
  public var deleted: Bool
}

/// The heart of a node: it orders the messages of the channels of one shard, has them written, and hands
/// them to their subscribers. No I/O, no clock, no randomness: the same inputs give the same effects.
///
/// A host gives it inputs (`receive...`), calls `endTurn` after each batch of them, and carries out
/// `effects` in order. A publish goes: right, retry?, commit order, sequence, gathered; at `endTurn` into
/// a record and a write; at `receiveWritten` answered, kept in the tail and delivered. Nothing is
/// delivered or acknowledged before its write is confirmed.
public struct NodeEngine {
  public let shard: Int
  public let shards: Int
  /// Names this run of this shard: author of usage rows, run of openers.
  public let writer: UInt64
  public internal(set) var settings: EngineSettings
  /// What the host is to do, in order.
  public var effects: [Effect] = []
  public internal(set) var counters = EngineCounters()

  var channels: [ChannelID: Channel] = [:] {
    didSet { lastTouched = nil }
  }
  /// The one of them that was last published to or subscribed: the next is often the same.
  var lastTouched: Channel?
  /// The same in an order that does not change from run to run.
  var loaded: [Channel] = []
  var sweepHand = 0
  var tailHand = 0
  /// Sessions by loop and index.
  var sessions: [[Session?]] = []
  /// Next slot log index, by slot.
  var slotNext: [UInt64]
  /// Ownership epochs that are not 1, and slots on their way to another node.
  var ownership: [UInt16: UInt64] = [:]
  var sealedSlots: Set<UInt16> = []

  var dirty: [Channel] = []
  var inFlight = Ring<WriteInFlight>()
  var nextTicket: UInt64 = 1
  /// Failed writes whose successors are not all reported yet.
  var failed: [WriteInFlight] = []
  var failure: Fault?
  /// Goes before the next write set: takes back what a failed one may have left.
  var undo = WriteSet()
  var undoHeads: [(Channel, [UInt8])] = []
  var usage = UsageTable()
  var usageTimer = false

  /// Reads and seeks in flight.
  var lookups: [UInt64: Lookup] = [:]

  var diskFull = false
  var failing = false
  var heldChannels: [Channel] = []
  var pausedSessions: [Session] = []

  var timers = Timers()
  var wakeAt = Instant.distantFuture
  var retentionHand = 0
  var retentionTimer = false
  let scratch = Scratch()

  /// A write handed to the host.
  struct WriteInFlight {
    var ticket: UInt64
    var parts: [Part]
    var usage: [UsageCharge]
    var set: WriteSet
    var doomed = false
  }
  struct UsageCharge {
    var key: UsageTable.Key
    var messages: UInt64
    var bytes: UInt64
  }
  enum Lookup {
    case cursor(Subscription)
    case retention(Channel)
    /// The last row of a producer, for the publish that the channel is blocked on.
    case producer(Channel)
    /// The row that may answer an old retry.
    case retry(Channel, Item)
  }
  /// Buffers used again and again.
  final class Scratch {
    var writer = RecordWriter()
    var key = ByteWriter(capacity: 64)
    var value = ByteWriter(capacity: 128)

    /// Puts the row whose key and value the closure writes.
    @inline(__always)
    func put(
      _ table: Table, into set: inout WriteSet,
      _ fill: (_ key: inout ByteWriter, _ value: inout ByteWriter) -> Void
    ) {
      key.removeAll()
      value.removeAll()
      fill(&key, &value)
      unsafe key.withUnsafeBytes { k in
        unsafe value.withUnsafeBytes { v in unsafe set.put(table, key: k, value: v) }
      }
    }
  }

  /// - Parameters:
  ///   - writer: random, new in each run of the process.
  ///   - slotHeads: the next free log index of each slot that has rows in table `slots`.
  public init(
    shard: Int, shards: Int, writer: UInt64, settings: EngineSettings = EngineSettings(),
    slotHeads: [(slot: UInt16, next: UInt64)] = []
  ) {
    precondition(shards > 0 && (0..<shards).contains(shard), "shard \(shard) of \(shards)")
    self.shard = shard
    self.shards = shards
    self.writer = writer
    self.settings = settings
    slotNext = [UInt64](repeating: 1, count: 1 << Limits.slotBits)
    for head in slotHeads where Int(head.slot) < slotNext.count {
      slotNext[Int(head.slot)] = head.next
    }
  }

  /// Moves the effects out. No copy when `into` is empty.
  public mutating func drainEffects(into out: inout [Effect]) {
    if out.isEmpty {
      swap(&out, &effects)
    } else {
      out.append(contentsOf: effects)
      effects.removeAll(keepingCapacity: true)
    }
  }

  // MARK: sessions

  func session(_ id: SessionID) -> Session? {
    let loop = id.loop
    guard loop < sessions.count, id.index < sessions[loop].count,
      let found = sessions[loop][id.index], found.id == id
    else { return nil }
    return found
  }

  mutating func open(_ id: SessionID, kind: SessionKind, at now: Now) -> Session {
    if let known = session(id) { return known }
    while sessions.count <= id.loop { sessions.append([]) }
    precondition(id.index < 1 << 24, "session table index \(id.index)")
    while sessions[id.loop].count <= id.index { sessions[id.loop].append(nil) }
    // The host used the place again without a close: the old session is over.
    if let old = sessions[id.loop][id.index] { close(old) }
    let made = Session(id: id, kind: kind)
    made.quietSince = now.monotonic
    sessions[id.loop][id.index] = made
    counters.sessions += 1
    return made
  }

  /// The stream is gone. What it published goes on its way; its subscriptions end.
  public mutating func receiveClose(_ id: SessionID, at now: Now) {
    if let known = session(id) { close(known) }
  }

  mutating func close(_ s: Session) {
    guard !s.closed else { return }
    s.closed = true
    sessions[s.id.loop][s.id.index] = nil
    counters.sessions -= 1
    while let subscription = s.subscriptions.last { remove(subscription) }
    s.waiting.removeAll()
    if s.paused {
      s.paused = false
      pausedSessions.removeAll { $0 === s }
    }
  }

  /// Ends a session's stream.
  mutating func end(_ s: Session, _ fault: Fault) {
    guard !s.closed else { return }
    effects.append(.end(s.id, fault))
    close(s)
  }

  // MARK: inspection

  public func channelState(_ id: ChannelID) -> ChannelState? {
    guard let c = channels[id], case .ready = c.phase else { return nil }
    return ChannelState(
      last: c.written.last, oldest: c.written.oldest, bytesKept: c.written.bytesKept,
      bytesEver: c.written.bytesEver, generation: c.gate.generation, commits: c.gate.count,
      producers: c.producers.count, subscribers: c.subscriptions.count,
      lagging: c.subscriptions.count - c.live.count, pending: Int(c.last - c.written.last),
      held: c.held.count, tailMessages: c.tail.count, tailBytes: c.tailBytes, hash: c.written.hash,
      deleted: c.written.deleted)
  }

  /// What a tenant published today (UTC) through this shard in this run of the process.
  public func usageToday(_ tenant: TenantID, at now: Now) -> (messages: UInt64, bytes: UInt64) {
    usage[UsageTable.Key(tenant: tenant, day: UsageRow.day(now.wall))]
  }

  /// Sets what is kept: of one channel while it is loaded, or by default.
  public mutating func setRetention(_ retention: Retention, for channel: ChannelID? = nil) {
    if let channel {
      channels[channel]?.retention = retention
    } else {
      settings.retention = retention
    }
  }
}
