import Base
import Digest
import Engine
import Relay
import Ring
import Store

/// What source and target of a slot's hand-over send each other, and the rows they keep of it: what decodes names only
/// keys of its slot, encodes to the same bytes, and the machines can take it.
struct MoveTarget: FuzzTarget {
  static let name = "slot-move"
  static let wantedShare = 20_000
  let corpus: [[UInt8]]
  private let ours: Set<[UInt8]>
  private static let id = SlotMoveID(
    slot: ChannelID(family: .skytale, name: "acme/t/x").slot, attempt: 9, epoch: 3,
    source: NodeID(1), target: NodeID(2))

  init() {
    let channel = ChannelID(family: .skytale, name: "acme/t/x")
    let id = MoveTarget.id
    let seal = SlotSeal(run: 4, count: 2)
    let rows = (1...3).map {
      SlotMoveCall.LogRow(
        index: UInt64($0), key: RecordKey.key(channel, UInt64($0)),
        record: $0 == 2 ? nil : [UInt8](repeating: 7, count: 40))
    }
    let head = Row(key: HeadRow.key(channel), value: HeadRow().encoded)
    let producer = Row(
      key: ProducerRow.key(channel, 77, 4),
      value: bigEndianBytes(UInt64(4)) + bigEndianBytes(UInt64(90)) + bigEndianBytes(UInt32(12)))
    let messages: [SlotMoveMessage] = [
      .offer(head: 7), .ready(have: 3), .copied(upTo: 7), .sealed(at: 7, seal: seal),
      .complete(seal: seal), .handed(revision: 12), .opened, .stop,
    ]
    var bodies = messages.map { SlotMoveCall.Body.message($0) }
    bodies.append(.log(from: 1, through: 4, rows))
    bodies.append(
      .log(
        from: 5, through: 5,
        [SlotMoveCall.LogRow(index: 5, key: RecordKey.key(channel, 0), record: nil)]))
    bodies.append(
      .rows(
        seal, page: 1, isLast: true,
        [head, producer].map { SlotMoveCall.TableRow(table: .state, row: $0) }))
    corpus =
      bodies.map { SlotMoveCall(id: id, run: 5, $0).encoded }
      + [
        SlotMoveRow.value(SlotIntent(move: id, sealedAt: 7, seal: seal)),
        SlotMoveRow.value(SlotMoveRow.Copy(nothingOf: id, run: 5)),
      ]
    ours = Set(corpus)
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let (bytes, isSealed) = half(of: input, &random, sumBytes: 8) { body in
      body + bigEndianBytes(body.withUnsafeBytes { xxh3_128($0).low })
    }
    var accepted = false
    if let call = try? SlotMoveCall(bytes) {
      accepted = true
      try check(isSealed || ours.contains(bytes), "a damaged call passes its checksum")
      try check(call.encoded == bytes, "a second form of a call")
      try take(call)
    }
    if let intent = try? SlotMoveRow.intent(bytes) {
      accepted = true
      try check(SlotMoveRow.value(intent) == bytes, "a second form of an intent")
    }
    if let copy = try? SlotMoveRow.copy(bytes) {
      accepted = true
      let again = try? SlotMoveRow.copy(SlotMoveRow.value(copy))
      try check(again == copy, "a copy's row that changes")
    }
    return accepted
  }

  private func take(_ call: SlotMoveCall) throws(Finding) {
    try check(Int(call.id.slot) < 1 << Limits.slotBits, "slot \(call.id.slot)")
    switch call.body {
    case .message(let message): take(message, call)
    case .log(let from, let through, let rows):
      let range = SlotRange(.records, slot: call.id.slot)
      try check(rows.allSatisfy { range.holds($0.key) }, "a record of another slot")
      try check(rows.allSatisfy { $0.index >= from && $0.index <= through }, "an index outside")
      var set = WriteSet()
      SlotRows.put(call.id.slot, rows, into: &set)
      try check(set.operations >= rows.count, "entries that are not written")
    case .rows(_, _, _, let rows):
      let ranges = SlotRows.ranges(call.id.slot)
      for one in rows {
        try check(
          ranges.contains { $0.table == one.table && $0.holds(one.row.key) },
          "a row of another slot")
      }
    }
  }

  /// Machines in the middle of a hand-over hear it, whatever it is.
  private func take(_ message: SlotMoveMessage, _ call: SlotMoveCall) {
    var asked: [SlotSourceEffect] = []
    let now = Instant(nanoseconds: 1_000_000_000)
    var source = SlotSource(MoveTarget.id, head: 9, run: 5, at: .zero, into: &asked)
    source.receive(message, at: now, into: &asked)
    source.receive(.ready(have: 0), at: now, into: &asked)
    source.receive(message, at: now, into: &asked)
    source.receiveTick(at: now, into: &asked)
    var wanted: [SlotTargetEffect] = []
    var target = SlotTarget(MoveTarget.id, have: 7, at: .zero, into: &wanted)
    target.receive(message, at: now, into: &wanted)
    target.receiveStateWritten(seal: SlotSeal(run: 4, count: 2), at: now, into: &wanted)
    target.receive(message, at: now, into: &wanted)
    target.receiveTick(at: now, into: &wanted)
  }
}
