internal import Base
internal import Engine

/// What a client sees of its stream.
enum SimReply {
  case deliver(ChannelRef, Delivery)
  case answer(ChannelRef, token: UInt64, PublishOutcome)
  case subscribed(ChannelRef, Fault?)
  case readEnded(ChannelRef)
  case closed
}

/// One stream between a client and the node. In order both ways; what is under way when it breaks is lost.
final class SimStream {
  let id: SessionID
  let kind: SessionKind
  var open = true
  var upAt: Int64 = 0
  var downAt: Int64 = 0
  /// Bytes that left the socket while the client does not read.
  var owed = 0
  var reading = true
  /// Bytes the engine handed out and did not get back.
  var outstanding = 0
  var cursors: [ChannelID: SimCursor] = [:]
  let receive: (SimStream, SimReply) -> Void

  init(id: SessionID, kind: SessionKind, receive: @escaping (SimStream, SimReply) -> Void) {
    self.id = id
    self.kind = kind
    self.receive = receive
  }
}

/// What a subscription must get next, as the checker sees it.
final class SimCursor {
  let ref: ChannelRef
  /// 0: not known before the first delivery.
  var next: UInt64
  var confirmed = false
  /// Messages with a greater id were sent after the subscribe.
  var sinceID: UInt64
  init(_ ref: ChannelRef, next: UInt64, sinceID: UInt64) {
    self.ref = ref
    self.next = next
    self.sinceID = sinceID
  }
}

/// The host of the simulated node: real engines, a commit queue over the disk, streams.
final class SimNode {
  unowned let world: Simulation
  var engines: [NodeEngine]
  private var effects: [Effect] = []
  private var streams: [SessionID: SimStream] = [:]
  private var order: [SessionID] = []
  private var wakes: [Int64]
  var alive = true
  private(set) var paused: Set<SessionID> = []

  private struct Write {
    var shard: Int
    var ticket: UInt64
    var set: WriteSet
    var synced: Bool
    /// Handed out before the shard knew that an earlier write failed.
    var doomed: Bool
  }
  private var queue: [Write] = []
  private var committing = false
  private var toldAt: Int64 = 0
  /// Failed writes that a shard does not know of yet.
  private var unreported: [Int]

  init(_ world: Simulation) {
    self.world = world
    let shards = world.config.shards
    let heads = world.disk.slotHeads
    engines = (0..<shards).map {
      NodeEngine(
        shard: $0, shards: shards, writer: world.random.next(), settings: world.config.settings,
        slotHeads: heads)
    }
    wakes = [Int64](repeating: .max, count: shards)
    unreported = [Int](repeating: 0, count: shards)
    if world.diskFull {
      for shard in 0..<shards {
        input(shard) { $0.receiveDisk(full: true, at: $1) }
      }
    }
  }

  func shard(_ ref: ChannelRef) -> Int { Int(ref.id.slot) % engines.count }

  // MARK: streams

  func attach(_ s: SimStream) {
    streams[s.id] = s
    order.append(s.id)
  }

  /// The node notices that a stream is gone.
  func closed(_ s: SimStream) {
    guard alive, streams.removeValue(forKey: s.id) != nil else { return }
    order.removeAll { $0 == s.id }
    for shard in engines.indices { input(shard) { $0.receiveClose(s.id, at: $1) } }
  }

  /// The process dies: every stream breaks, what is queued for the disk is lost (or, the first of it,
  /// perhaps not).
  func die() {
    alive = false
    if let first = queue.first, world.random.oneIn(2) { apply(first) }
    queue.removeAll()
    for id in order {
      if let s = streams[id] { world.break(s, notifyNode: false) }
    }
    streams.removeAll()
    order.removeAll()
  }

  // MARK: engine turns

  func input(_ shard: Int, _ body: (inout NodeEngine, Now) -> Void) {
    guard alive else { return }
    let now = world.clock.now
    body(&engines[shard], now)
    // Sometimes more inputs come in the same turn.
    if world.random.oneIn(3) {
      world.clock.after(Int64(world.random.below(2_000_000))) { [weak self] in
        guard let self, self.alive else { return }
        self.endTurn(shard)
      }
    } else {
      endTurn(shard)
    }
    carryOut(shard)
  }

  private func endTurn(_ shard: Int) {
    engines[shard].endTurn(at: world.clock.now)
    carryOut(shard)
  }

  private func carryOut(_ shard: Int) {
    var out: [Effect] = []
    swap(&out, &effects)
    engines[shard].drainEffects(into: &out)
    for effect in out { carryOut(effect, shard) }
    out.removeAll(keepingCapacity: true)
    effects = out
  }

  private func carryOut(_ effect: Effect, _ shard: Int) {
    switch effect {
    case .deliver(let id, let ref, let d): deliver(id, ref, d)
    case .deliverFar(let ids, let ref, let d): for id in ids { deliver(id, ref, d) }
    case .answer(let id, let ref, let token, _, let outcome):
      world.note(2, token)
      answered(ref, token, outcome)
      if let s = streams[id] { reply(s, .answer(ref, token: token, outcome)) }
    case .written: break
    case .subscribed(let id, let ref, _, _, let fault):
      world.note(3, id.value)
      if let s = streams[id] {
        if fault != nil { s.cursors[ref.id] = nil } else { s.cursors[ref.id]?.confirmed = true }
        reply(s, .subscribed(ref, fault))
      }
    case .readEnded(let id, let ref):
      world.note(4, id.value)
      if let s = streams[id] { reply(s, .readEnded(ref)) }
    case .write(let ticket, let set, let synced):
      world.note(5, ticket &+ UInt64(set.bytes.count) << 20)
      queue.append(
        Write(shard: shard, ticket: ticket, set: set, synced: synced, doomed: unreported[shard] > 0)
      )
      commit()
    case .load(let ref): load(ref, shard)
    case .read(let ticket, let ref, let from, let limit):
      later { node in
        let rows = node.world.disk.records(ref.id, from: from, limit: limit)
        node.input(shard) { $0.receiveRecords(ticket: ticket, rows: rows, at: $1) }
      }
    case .seekBefore(let ticket, let key, let prefix):
      later { node in
        let row = node.world.disk.seekBefore(.state, key, prefix: prefix)
        node.input(shard) { $0.receiveRow(ticket: ticket, row: row, at: $1) }
      }
    case .end(let id, let fault):
      world.note(6, id.value)
      world.ended(fault)
      if let s = streams[id] {
        closed(s)
        world.break(s, notifyNode: false)
      }
    case .pause(let id): paused.insert(id)
    case .resume(let id): paused.remove(id)
    case .deleted(let ref, _, let fault): world.deleted(ref, fault)
    case .wake(let at): wake(shard, at.nanoseconds)
    case .note(let note): world.noted(note)
    }
  }

  private func later(_ body: @escaping (SimNode) -> Void) {
    world.clock.after(Int64(world.random.within(20_000...world.config.readDelay))) { [weak self] in
      if let self, self.alive { body(self) }
    }
  }

  private func load(_ ref: ChannelRef, _ shard: Int) {
    later { node in
      var rows: [Row] = []
      for kind in StateKind.loaded {
        rows += node.world.disk.rows(.state, prefix: StateKind.prefix(kind, ref.id))
      }
      node.input(shard) { $0.receiveLoaded(ref, rows: rows, at: $1) }
    }
  }

  private func wake(_ shard: Int, _ at: Int64) {
    wakes[shard] = at
    world.clock.at(at) { [weak self] in
      guard let self, self.alive, self.wakes[shard] == at else { return }
      self.wakes[shard] = .max
      self.input(shard) { $0.receiveTick(at: $1) }
    }
  }

  // MARK: disk

  /// One commit at a time, in order.
  private func commit() {
    guard !committing, let first = queue.first else { return }
    committing = true
    let range = first.synced ? world.config.syncDelay : world.config.writeDelay
    world.clock.after(Int64(world.random.within(range))) { [weak self] in
      guard let self, self.alive else { return }
      self.committing = false
      if self.world.writesFail {
        // Everything handed out so far fails with it, untried.
        let failed = self.queue
        self.queue.removeAll()
        for w in failed { self.failed(w) }
        return
      }
      if first.doomed {
        self.failed(self.queue.removeFirst())
        self.commit()
        return
      }
      let write = self.queue.removeFirst()
      self.apply(write)
      self.tell(write) { $0.receiveWritten(ticket: write.ticket, at: $1) }
      self.commit()
    }
  }

  private func failed(_ write: Write) {
    unreported[write.shard] += 1
    tell(write) { [weak self] engine, now in
      self?.unreported[write.shard] -= 1
      engine.receiveWriteFailed(ticket: write.ticket, Fault(.diskFull), at: now)
    }
  }

  /// Results reach the engines a little later, in order.
  private func tell(_ write: Write, _ body: @escaping (inout NodeEngine, Now) -> Void) {
    toldAt = max(toldAt, world.clock.nanoseconds + Int64(world.random.within(1_000...100_000)))
    world.clock.at(toldAt) { [weak self] in
      guard let self, self.alive else { return }
      self.input(write.shard, body)
    }
  }

  private func apply(_ write: Write) {
    world.model.apply(write.set)
    world.disk.apply(write.set, synced: write.synced)
  }

  // MARK: replies

  private func reply(_ s: SimStream, _ reply: SimReply) {
    let at = max(
      s.downAt, world.clock.nanoseconds + Int64(world.random.within(world.config.latency)))
    s.downAt = at
    world.clock.at(at) { if s.open { s.receive(s, reply) } }
  }

  private func answered(_ ref: ChannelRef, _ token: UInt64, _ outcome: PublishOutcome) {
    if token >> 1 == world.model.traced, token > 1 {
      print("message \(token >> 1) at \(world.clock.nanoseconds): \(outcome)")
    }
    switch outcome {
    case .accepted(let sequence, _):
      world.model.accepted(ref, sequence, id: token >> 1, synced: token & 1 == 1)
    case .refused(let fault, let winner):
      world.refused(fault)
      if fault.code == .epochTaken, let c = world.epochOf[token >> 1] {
        world.model.lost(ref, epoch: c, winner: winner, id: token >> 1)
      }
    }
  }

  private func deliver(_ id: SessionID, _ ref: ChannelRef, _ d: Delivery) {
    world.note(1, id.value &+ d.sequence << 8 &+ UInt64(d.frame.count) << 40)
    world.model.delivered(ref, d)
    guard let s = streams[id] else { return }
    s.outstanding += d.frame.count
    if s.outstanding > max(world.config.settings.creditBytes, d.frame.count) {
      // Each shard has a credit of its own.
      if s.outstanding > (world.config.settings.creditBytes + world.config.maxFrame) * engines.count
      {
        world.model.fail("\(s.outstanding) bytes handed to a session beyond its credit")
      }
    }
    check(s, ref, d)
    let at = max(
      s.downAt, world.clock.nanoseconds + Int64(world.random.within(world.config.latency)))
    s.downAt = at
    let shard = self.shard(ref)
    world.clock.at(at) { [weak self] in
      guard s.open else { return }
      s.receive(s, .deliver(ref, d))
      self?.credit(s, shard, d.frame.count)
    }
  }

  private var owed: [SessionID: [Int]] = [:]

  private func credit(_ s: SimStream, _ shard: Int, _ bytes: Int) {
    guard alive, s.open else { return }
    if !s.reading {
      owed[s.id, default: [Int](repeating: 0, count: engines.count)][shard] += bytes
      return
    }
    s.outstanding -= bytes
    input(shard) { $0.receiveCredit(s.id, bytes: bytes, at: $1) }
  }

  /// The client reads again: what it left in the socket leaves it.
  func resumeReading(_ s: SimStream) {
    guard alive, s.open, let bytes = owed.removeValue(forKey: s.id) else { return }
    for shard in bytes.indices where bytes[shard] > 0 { credit(s, shard, bytes[shard]) }
  }

  /// Gapless, in order, no echo: each delivery follows the one before, save for what the session sent itself.
  private func check(_ s: SimStream, _ ref: ChannelRef, _ d: Delivery) {
    guard ref.archived else { return }
    guard let cursor = s.cursors[ref.id] else {
      return world.model.fail("\(ref.name) \(d.sequence) delivered without a subscription")
    }
    if cursor.next != 0 {
      if d.sequence < cursor.next {
        world.model.fail(
          "\(ref.name) \(d.sequence) delivered again or backwards, due \(cursor.next)")
      } else if let c = world.model[ref.id] {
        for skipped in cursor.next..<d.sequence {
          let id = c.entries[Int(skipped) - 1].id
          if !world.model.senders(id).contains(s.id) {
            world.model.fail("\(ref.name) \(skipped) skipped by \(s.id.value)")
          }
        }
      }
    }
    let id = SimFrame.id(d.frame)
    if world.model.senders(id) == [s.id], id > cursor.sinceID {
      world.model.fail("\(ref.name) \(d.sequence) echoed to its sender")
    }
    cursor.next = d.sequence + 1
  }
}
