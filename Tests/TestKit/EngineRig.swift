public import Base
internal import Digest
public import Engine

/// One engine over a disk in memory, for tests: loads, reads and seeks are answered at once; writes at once
/// or when the test says so. What else the engine says is kept, in order.
public final class EngineRig {
  public var engine: NodeEngine
  public let disk: SimDisk
  public let clock = SimClock()
  /// Answer writes at once.
  public var writes = true
  /// Answer loads, reads and seeks at once.
  public var reads = true
  public private(set) var heldWrites: [(ticket: UInt64, set: WriteSet, synced: Bool)] = []
  public private(set) var heldLookups: [Effect] = []
  /// Everything but loads, reads, seeks, writes and wakes.
  public var said: [Effect] = []
  public private(set) var wake: Instant?
  public private(set) var readCount = 0
  private var run: UInt64 = 1

  public init(_ settings: EngineSettings = EngineSettings(), disk: SimDisk = SimDisk()) {
    self.disk = disk
    engine = NodeEngine(
      shard: 0, shards: 1, writer: 1, settings: settings, slotHeads: disk.slotHeads)
  }

  /// A new process on the same disk.
  public func restart() {
    run += 1
    engine = NodeEngine(
      shard: 0, shards: 1, writer: run, settings: engine.settings, slotHeads: disk.slotHeads)
    heldWrites.removeAll()
    heldLookups.removeAll()
    said.removeAll()
  }

  public var now: Now { clock.now }

  // MARK: turns

  /// One turn: inputs, then the end of the turn, then what the engine asked for.
  public func turn(_ body: (inout NodeEngine, Now) -> Void) {
    body(&engine, now)
    engine.endTurn(at: now)
    carryOut()
  }

  private func carryOut() {
    var effects: [Effect] = []
    repeat {
      effects.removeAll()
      engine.drainEffects(into: &effects)
      for effect in effects { carryOut(effect) }
      engine.endTurn(at: now)
    } while !engine.effects.isEmpty
  }

  private func carryOut(_ effect: Effect) {
    switch effect {
    case .write(let ticket, let set, let synced):
      if writes {
        disk.apply(set, synced: synced)
        engine.receiveWritten(ticket: ticket, at: now)
      } else {
        heldWrites.append((ticket, set, synced))
      }
    case .load, .read, .seekBefore:
      if case .read = effect { readCount += 1 }
      if reads { answer(effect) } else { heldLookups.append(effect) }
    case .wake(let at): wake = at
    default: said.append(effect)
    }
  }

  private func answer(_ effect: Effect) {
    switch effect {
    case .load(let ref):
      let rows = StateKind.loaded.flatMap {
        disk.rows(.state, prefix: StateKind.prefix($0, ref.id))
      }
      engine.receiveLoaded(ref, rows: rows, at: now)
    case .read(let ticket, let ref, let from, let limit):
      engine.receiveRecords(
        ticket: ticket, rows: disk.records(ref.id, from: from, limit: limit), at: now)
    case .seekBefore(let ticket, let key, let prefix):
      engine.receiveRow(
        ticket: ticket, row: disk.seekBefore(.state, key, prefix: prefix), at: now)
    default: break
    }
  }

  /// Answers the loads, reads and seeks held so far.
  public func answerLookups() {
    let held = heldLookups
    heldLookups.removeAll()
    for effect in held { answer(effect) }
    engine.endTurn(at: now)
    carryOut()
  }

  /// Makes the first `count` held writes.
  public func write(_ count: Int = .max) {
    for _ in 0..<min(count, heldWrites.count) {
      let w = heldWrites.removeFirst()
      disk.apply(w.set, synced: w.synced)
      engine.receiveWritten(ticket: w.ticket, at: now)
    }
    engine.endTurn(at: now)
    carryOut()
  }

  /// Fails every held write.
  public func failWrites(_ fault: Fault = Fault(.diskFull)) {
    let held = heldWrites
    heldWrites.removeAll()
    for w in held { engine.receiveWriteFailed(ticket: w.ticket, fault, at: now) }
    engine.endTurn(at: now)
    carryOut()
  }

  /// Lets time pass, waking the engine when it asked for it.
  public func pass(_ interval: Interval) {
    let end = clock.nanoseconds + interval.nanoseconds
    var turns = 0
    while let at = wake, at.nanoseconds <= end, turns < 100_000 {
      turns += 1
      wake = nil
      clock.run(until: max(at.nanoseconds, clock.nanoseconds))
      turn { $0.receiveTick(at: $1) }
    }
    clock.run(until: end)
  }

  // MARK: short words

  public static func channel(_ name: String, archived: Bool = true) -> ChannelRef {
    let org = String(name.prefix { $0 != "/" })
    return ChannelRef(
      id: ChannelID(family: .skytale, name: name), family: .skytale, name: name, org: org,
      tenant: TenantID(org: org), archived: archived)
  }

  public static func session(_ index: Int) -> SessionID {
    SessionID(loop: 0, generation: 1, index: index)
  }

  public static func principal(_ org: String, key: UInt64 = 1) -> Principal {
    Principal(tenant: TenantID(org: org), org: org, key: RecordID(key))
  }

  /// A frame with this text before the suffix.
  public static func frame(_ text: String) -> Bytes {
    let body = Array(text.utf8)
    let length = body.count + Limits.suffixBytes
    return Bytes(
      [0] + bigEndianBytes(UInt32(length)) + body + [UInt8](repeating: 0, count: Limits.suffixBytes)
    )
  }

  public static func text(_ frame: Bytes) -> String {
    String(decoding: frame.array(5..<frame.count - Limits.suffixBytes), as: UTF8.self)
  }

  public func publish(
    _ index: Int, _ ref: ChannelRef, _ text: String, as principal: Principal? = nil,
    kind: SessionKind = .service, mls: MLSKind = .none, epoch: UInt64 = 0, producer: UInt64 = 0,
    producerSequence: UInt64 = 0, durability: Durability = .written, token: UInt64 = 1
  ) {
    let digest = sha256(utf8: text).withUnsafeBytes {
      ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
    let publication = Publication(
      frame: EngineRig.frame(text), hasSuffix: true, type: 1, mls: mls, epoch: epoch,
      digest: digest,
      producer: producer, producerSequence: producerSequence, durability: durability, token: token)
    turn {
      $0.receivePublish(
        EngineRig.session(index), kind: kind,
        principal: principal ?? EngineRig.principal(ref.org), channel: ref, publication, at: $1)
    }
  }

  public func subscribe(
    _ index: Int, _ ref: ChannelRef, start: Start = .live, as principal: Principal? = nil,
    follow: Bool = true, limit: UInt64 = 0, kind: SessionKind = .service
  ) {
    turn {
      $0.receiveSubscribe(
        EngineRig.session(index), kind: kind,
        principal: principal ?? EngineRig.principal(ref.org), channel: ref, start: start,
        follow: follow, limit: limit, token: 7, at: $1)
    }
  }

  public func close(_ index: Int) { turn { $0.receiveClose(EngineRig.session(index), at: $1) } }

  public func credit(_ index: Int, _ bytes: Int) {
    turn { $0.receiveCredit(EngineRig.session(index), bytes: bytes, at: $1) }
  }

  /// What was said since the last call, one short line each; notes left out.
  public func hear() -> [String] {
    defer { said.removeAll() }
    return said.compactMap(EngineRig.line)
  }

  /// The notes said since the last call to `hear`.
  public var notes: [EngineNote] {
    said.compactMap { if case .note(let note) = $0 { note } else { nil } }
  }

  /// An effect as a line of a transcript.
  public static func line(_ effect: Effect) -> String? {
    switch effect {
    case .deliver(let s, _, let d): "deliver \(s.index) \(d.sequence) \(text(d.frame))"
    case .deliverFar(let all, _, let d):
      "deliver \(all.map { "\($0.index)" }.joined(separator: ",")) \(d.sequence) \(text(d.frame))"
    case .answer(let s, _, let token, _, .accepted(let sequence, let duplicate)):
      "accepted \(s.index) #\(token) \(sequence)\(duplicate ? " again" : "")"
    case .answer(let s, _, let token, _, .refused(let fault, let winner)):
      "refused \(s.index) #\(token) \(fault.code.rawValue)\(winner > 0 ? " \(winner)" : "")"
    case .subscribed(let s, _, _, _, let fault):
      "subscribed \(s.index)\(fault.map { " \($0.code.rawValue)" } ?? "")"
    case .readEnded(let s, _): "ended \(s.index)"
    case .end(let s, let fault): "end \(s.index) \(fault.code.rawValue)"
    case .pause(let s): "pause \(s.index)"
    case .resume(let s): "resume \(s.index)"
    case .deleted(_, _, let fault): "deleted\(fault.map { " \($0.code.rawValue)" } ?? "")"
    default: nil
    }
  }

  /// Everything that the verifier finds in a channel.
  public func verify(_ ref: ChannelRef) -> [ChannelVerifier.Finding] {
    var verifier = ChannelVerifier(ref.id)
    var findings: [ChannelVerifier.Finding] = []
    for row in disk.rows(.records, prefix: ref.id.bytes) { findings += verifier.feed(row) }
    return findings + verifier.finish(head: disk.get(.state, HeadRow.key(ref.id)))
  }
}
