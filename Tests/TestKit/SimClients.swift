internal import Base
internal import Engine

/// Publishes through `ChannelService`: producer id and sequence, a window in flight, retries.
final class SimPublisher {
  private struct Message {
    var id: UInt64
    var producerSequence: UInt64
    var size: Int
    var synced: Bool
  }
  private unowned let world: Simulation
  private let ref: ChannelRef
  private let principal: Principal
  private let producer: UInt64
  private var nextSequence: UInt64 = 1
  private var waiting: [Message] = []
  /// To be sent again: they are in `left`.
  private var refused: [Message] = []
  private var left: Int
  private let window: Int
  private var stream: SimStream?
  private var connecting = false

  init(_ world: Simulation, _ ref: ChannelRef, principal: Principal, messages: Int) {
    self.world = world
    self.ref = ref
    self.principal = principal
    producer = world.random.next() | 1
    left = messages
    window = world.random.within(1...16)
  }

  var isDone: Bool { left == 0 && waiting.isEmpty }
  var place: String { "\(ref.name), \(left) left, \(waiting.count) unanswered" }

  func start() { connect() }

  private func connect() {
    guard !connecting else { return }
    connecting = true
    world.connect(kind: .service, receive: { [weak self] in self?.receive($0, $1) }) {
      [weak self] stream in
      guard let self else { return }
      self.connecting = false
      self.stream = stream
      // What is unanswered is asked again, under the same numbers.
      for m in self.waiting { self.send(m) }
      self.fill()
    }
  }

  private func fill() {
    guard stream?.open == true else { return }
    while waiting.count < window, left > 0 {
      left -= 1
      var m = Message(
        id: 0, producerSequence: nextSequence, size: world.messageSize(),
        synced: world.random.oneIn(4))
      if refused.isEmpty {
        m.id = world.nextID()
      } else {
        let old = refused.removeFirst()
        (m.id, m.size) = (old.id, old.size)
      }
      nextSequence += 1
      waiting.append(m)
      send(m)
    }
  }

  private func send(_ m: Message) {
    guard let stream else { return }
    let (ref, principal, producer) = (ref, principal, producer)
    world.model.sent(m.id, by: stream.id)
    world.send(stream, shardOf: ref) { engine, now in
      engine.receivePublish(
        stream.id, kind: .service, principal: principal, channel: ref,
        Publication(
          frame: SimFrame.make(id: m.id, size: m.size), hasSuffix: true, type: 1,
          producer: producer, producerSequence: m.producerSequence,
          durability: m.synced ? .synced : .written, token: m.id << 1 | (m.synced ? 1 : 0)), at: now
      )
    }
  }

  private func receive(_ s: SimStream, _ reply: SimReply) {
    guard s === stream else { return }
    switch reply {
    case .answer(_, let token, let outcome):
      guard let at = waiting.firstIndex(where: { $0.id == token >> 1 }) else { return }
      switch outcome {
      case .accepted: waiting.remove(at: at)
      case .refused(let fault, _):
        // Surely not in the channel: it goes again under a new number. A stale one may be.
        let m = waiting.remove(at: at)
        if fault.code != .producerStale { again(m) } else { world.stale += 1 }
      }
      var pause = Int64(world.random.below(world.config.think))
      if case .refused = outcome { pause += 50_000_000 }
      world.clock.after(pause) { [weak self] in self?.fill() }
    case .closed:
      stream = nil
      connect()
    default: break
    }
  }

  private func again(_ m: Message) {
    refused.append(m)
    left += 1
  }
}

/// A Skytale stream: publishes without answers, subscribes with replay, several channels at once. When its
/// stream ends it begins anew, and what it had sent is not repeated.
final class SimAgent {
  private unowned let world: Simulation
  private let refs: [ChannelRef]
  private let principal: Principal
  private var left: Int
  private var stream: SimStream?
  private let commits: Bool
  private var epoch: [ChannelID: UInt64] = [:]
  /// Plain messages sent on the present stream.
  private var sent: [ChannelID: [UInt64]] = [:]
  private var lastCommit: [ChannelID: (id: UInt64, epoch: UInt64)] = [:]

  init(
    _ world: Simulation, _ refs: [ChannelRef], principal: Principal, messages: Int, commits: Bool
  ) {
    self.world = world
    self.refs = refs
    self.principal = principal
    self.left = messages
    self.commits = commits
  }

  var isDone: Bool { left == 0 }

  func check() {
    guard stream?.open == true else { return }
    for ref in refs { world.model.complete(ref, sent[ref.id] ?? []) }
  }

  func start() { connect() }

  private func connect() {
    world.connect(kind: .skytale, receive: { [weak self] in self?.receive($0, $1) }) {
      [weak self] stream in
      guard let self else { return }
      self.stream = stream
      // A restarted agent begins its groups anew.
      self.epoch.removeAll()
      self.sent.removeAll()
      for ref in self.refs {
        self.world.subscribe(stream, ref, self.principal, start: .replay, next: 0)
      }
      self.think()
    }
  }

  private func think() {
    world.clock.after(Int64(world.random.within(1...world.config.think * 2))) { [weak self] in
      guard let self, let stream = self.stream, stream.open else { return }
      if self.left > 0 {
        self.left -= 1
        self.publish(stream)
      }
      if self.world.random.oneIn(80), !self.world.quiet {
        stream.reading = false
        self.world.clock.after(Int64(self.world.random.below(4_000_000_000))) { [weak self] in
          stream.reading = true
          self?.world.node?.resumeReading(stream)
        }
      }
      if self.left > 0 { self.think() }
    }
  }

  private func publish(_ stream: SimStream) {
    guard world.node?.paused.contains(stream.id) != true else { return }
    let ref = world.random.pick(refs)
    let principal = principal
    if commits, world.random.oneIn(3) { return commit(stream, ref) }
    let id = world.nextID()
    let size = world.messageSize()
    world.model.sent(id, by: stream.id)
    sent[ref.id, default: []].append(id)
    world.send(stream, shardOf: ref) { engine, now in
      engine.receivePublish(
        stream.id, kind: .skytale, principal: principal, channel: ref,
        Publication(
          frame: SimFrame.make(id: id, size: size), hasSuffix: true, type: 1, mls: .application,
          epoch: 1), at: now)
    }
  }

  private func commit(_ stream: SimStream, _ ref: ChannelRef) {
    let principal = principal
    var e = epoch[ref.id] ?? 0
    var id = world.nextID()
    // Sometimes the same bytes again, sometimes an old epoch.
    if let last = lastCommit[ref.id], world.random.oneIn(6) {
      (id, e) = last
    } else if e > 0, world.random.oneIn(10) {
      e -= 1
    }
    lastCommit[ref.id] = (id, e)
    world.epochOf[id] = e
    world.model.sent(id, by: stream.id)
    let sent = id
    world.send(stream, shardOf: ref) { engine, now in
      engine.receivePublish(
        stream.id, kind: .skytale, principal: principal, channel: ref,
        Publication(
          frame: SimFrame.make(id: sent, size: 40), hasSuffix: true, type: 11, mls: .commit,
          epoch: e,
          digest: (sent, ~sent), token: sent << 1), at: now)
    }
  }

  private func receive(_ s: SimStream, _ reply: SimReply) {
    guard s === stream else { return }
    switch reply {
    case .deliver(let ref, let d):
      if d.mls == .commit { epoch[ref.id] = d.epoch + 1 }
    case .answer(let ref, let token, .accepted):
      if let e = world.epochOf[token >> 1] { epoch[ref.id] = max(epoch[ref.id] ?? 0, e + 1) }
    case .closed:
      stream = nil
      connect()
    default: break
    }
  }
}

/// Reads a channel from a cursor and never loses its place.
final class SimReader {
  private unowned let world: Simulation
  private let ref: ChannelRef
  private let principal: Principal
  private(set) var next: UInt64
  private var stream: SimStream?
  private var passed = false

  init(_ world: Simulation, _ ref: ChannelRef, principal: Principal, from: UInt64) {
    self.world = world
    self.ref = ref
    self.principal = principal
    next = from
  }

  func start() { connect() }

  /// Has everything that is in the channel.
  var isCaughtUp: Bool {
    guard let c = world.model[ref.id] else { return true }
    let end = UInt64(c.entries.count) + 1
    return next == end || (next == 0 && c.oldest == end)
  }
  var channel: ChannelID { ref.id }
  var place: String { "reader of \(ref.name) at \(next)" }

  /// After a power cut the channel may end before the cursor.
  func shorten(to last: UInt64) { next = min(next, last + 1) }

  private func connect() {
    world.connect(kind: .service, receive: { [weak self] in self?.receive($0, $1) }) {
      [weak self] stream in
      guard let self else { return }
      self.stream = stream
      // What retention dropped it cannot have.
      if self.passed { self.next = 0 }
      self.passed = false
      self.world.subscribe(
        stream, self.ref, self.principal, start: .sequence(self.next), next: self.next)
      self.moods(stream)
    }
  }

  /// Reads in fits and starts, and sometimes goes away.
  private func moods(_ stream: SimStream) {
    world.clock.after(Int64(world.random.below(3_000_000_000))) { [weak self] in
      guard let self, stream.open, !self.world.quiet else { return }
      if stream.reading, self.world.random.oneIn(2) {
        stream.reading = false
        self.world.clock.after(Int64(self.world.random.below(2_000_000_000))) { [weak self] in
          stream.reading = true
          self?.world.node?.resumeReading(stream)
          self?.moods(stream)
        }
      } else {
        if self.world.random.oneIn(8) { self.world.break(stream, notifyNode: true) }
        self.moods(stream)
      }
    }
  }

  private func receive(_ s: SimStream, _ reply: SimReply) {
    guard s === stream else { return }
    switch reply {
    case .deliver(_, let d): next = d.sequence + 1
    case .subscribed(_, let fault?):
      if fault.code == .retentionPassed { passed = true }
      world.break(s, notifyNode: true)
    case .closed:
      stream = nil
      world.clock.after(Int64(world.random.within(1_000_000...200_000_000))) { [weak self] in
        self?.connect()
      }
    default: break
    }
  }
}
