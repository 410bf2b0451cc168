import Base
import Engine

/// What an engine reads back from the store: state rows of a channel it loads, records for a cursor, a
/// producer's row. Whatever stands there, the engine answers, and hands out no sequence twice or out of
/// order.
struct EngineTarget: FuzzTarget {
  static let name = "engine-rows"
  static let wantedShare = 50_000
  private static let ref = ChannelRef(
    id: RecordTarget.channel, family: .skytale, name: "acme/ns/c1", org: "acme",
    tenant: TenantID(1),
    archived: true)
  private static let principal = Principal(tenant: TenantID(1), org: "acme", key: RecordID(2))
  private static let session = SessionID(loop: 0, generation: 1, index: 0)
  private let records = RecordTarget().corpus
  /// Rows, each: bytes of key u8, bytes of value u8, key, value.
  let corpus: [[UInt8]]

  init() {
    let id = EngineTarget.ref.id
    let name = Row(
      key: StateKind.prefix(StateKind.name, id),
      value: [Family.skytale.rawValue] + Array("acme/ns/c1".utf8))
    let grant = Row(key: GrantRow.key(channel: id, tenant: TenantID(7)), value: Array("b".utf8))
    let lasts: [UInt64] = [0, 1, 3, 9, 103, 1 << 40]
    corpus = lasts.map { last in
      var head = HeadRow()
      (head.last, head.bytesKept, head.bytesEver, head.generation) = (last, last * 40, last * 50, 1)
      if last > 8 { head.oldest = last - 8 }
      var rows = [Row(key: HeadRow.key(id), value: head.encoded), name, grant]
      for epoch in 0..<min(last, 4) {
        let commit = CommitRow(
          generation: 1, epoch: epoch, sequence: last - epoch, digest: (epoch, 1),
          wall: Instant(nanoseconds: TokenSeeds.wall.nanoseconds - 1_000_000_000))
        rows.append(Row(key: CommitRow.key(id, generation: 1, epoch: epoch), value: commit.value))
      }
      return rows.flatMap { [UInt8($0.key.count), UInt8($0.value.count)] + $0.key + $0.value }
    }
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let ref = EngineTarget.ref
    var engine = NodeEngine(shard: 0, shards: 1, writer: 1)
    var host = EngineHost(rows: rows(input), records: records)
    if random.oneIn(4) {
      engine.setRetention(
        Retention(bytes: UInt64(random.below(200)), messages: UInt64(random.below(4))))
    }
    let start: Start = [.replay, .live, .sequence(random.oneIn(2) ? 1 : random.next())][
      random.below(3)]
    engine.receiveSubscribe(
      EngineTarget.session, kind: .service, principal: EngineTarget.principal, channel: ref,
      start: start,
      follow: random.oneIn(2), at: host.now)
    try host.serve(&engine, &random)
    for i in 0..<1 + random.below(3) {
      engine.receivePublish(
        EngineTarget.session, kind: .service, principal: EngineTarget.principal, channel: ref,
        publication(i, &random), at: host.now)
    }
    try host.serve(&engine, &random)
    engine.receiveRetention(ref, at: host.now)
    engine.receiveCredit(EngineTarget.session, bytes: 1 << 20, at: host.now)
    try host.serve(&engine, &random)
    engine.receiveTick(at: host.now)
    try host.serve(&engine, &random)
    // Sessions and channels name each other until the stream is gone.
    engine.receiveClose(EngineTarget.session, at: host.now)
    try host.serve(&engine, &random)
    return host.subscribed
  }

  private func publication(_ i: Int, _ random: inout FuzzRandom) -> Publication {
    let isCommit = random.oneIn(3)
    return Publication(
      frame: Bytes([0, 0, 0, 0, 20] + [UInt8](repeating: 5, count: 20)), hasSuffix: true, type: 1,
      mls: isCommit ? .commit : .application, epoch: UInt64(random.below(5)),
      digest: (UInt64(random.below(5)), 1), producer: random.oneIn(2) ? 77 : 0,
      producerSequence: UInt64(1 + random.below(9)), token: UInt64(i + 1))
  }

  private func rows(_ input: UnsafeRawBufferPointer) -> [Row] {
    var r = ByteReader(input)
    var rows: [Row] = []
    while rows.count < 64, let k = try? r.byte(), let v = try? r.byte() {
      guard let key = try? r.array(min(Int(k), r.remaining)),
        let value = try? r.array(min(Int(v), r.remaining))
      else { break }
      rows.append(Row(key: key, value: value))
    }
    return rows
  }
}

/// Carries out effects with what the fuzzer has.
private struct EngineHost {
  let rows: [Row]
  let records: [[UInt8]]
  var now = Now(monotonic: Instant(nanoseconds: 1_000_000_000), wall: TokenSeeds.wall)
  var subscribed = false
  private var delivered: UInt64 = 0

  init(rows: [Row], records: [[UInt8]]) {
    self.rows = rows
    self.records = records
  }

  mutating func serve(_ engine: inout NodeEngine, _ random: inout FuzzRandom) throws(Finding) {
    // Bounded: a store that answers anything may keep an engine asking.
    for _ in 0..<24 {
      engine.endTurn(at: now)
      var effects: [Effect] = []
      engine.drainEffects(into: &effects)
      if effects.isEmpty { return }
      for effect in effects { try carryOut(effect, &engine, &random) }
      now.monotonic = now.monotonic + .milliseconds(20)
    }
  }

  private mutating func carryOut(
    _ effect: Effect, _ engine: inout NodeEngine, _ random: inout FuzzRandom
  ) throws(Finding) {
    switch effect {
    case .load(let ref): engine.receiveLoaded(ref, rows: rows, at: now)
    case .write(let ticket, let set, _):
      guard !set.isEmpty else { throw Finding("an empty write set") }
      engine.receiveWritten(ticket: ticket, at: now)
    case .read(let ticket, _, let from, _):
      if random.oneIn(16) {
        return engine.receiveReadFailed(ticket: ticket, Fault(.internal), at: now)
      }
      engine.receiveRecords(ticket: ticket, rows: recordRows(from, &random), at: now)
    case .seekBefore(let ticket, let key, _):
      let value = random.bytes(20 * random.below(3) + (random.oneIn(8) ? 1 : 0))
      engine.receiveRow(
        ticket: ticket, row: random.oneIn(3) ? nil : Row(key: key, value: value), at: now)
    case .deliver(_, _, let delivery), .deliverFar(_, _, let delivery):
      guard delivered == 0 || delivery.sequence > delivered else {
        throw Finding("sequence \(delivery.sequence) after \(delivered)")
      }
      delivered = delivery.sequence
    case .subscribed(_, _, _, _, let fault): subscribed = subscribed || fault == nil
    case .wake(let at): if at < .distantFuture, now.monotonic < at { now.monotonic = at }
    default: break
    }
  }

  /// A few records, some in their place, some not.
  private func recordRows(_ from: UInt64, _ random: inout FuzzRandom) -> [Row] {
    (0..<random.below(4)).map { _ in
      var value = records[random.below(records.count)]
      if random.oneIn(3) {
        value = RecordTarget.sealed(
          Array(value[..<2]) + bigEndianBytes(from) + Array(value[10..<(value.count - 4)]))
      }
      let first = UInt64(bigEndianBytes: value[2..<10])
      return Row(key: RecordKey.key(RecordTarget.channel, first), value: value)
    }
  }
}
