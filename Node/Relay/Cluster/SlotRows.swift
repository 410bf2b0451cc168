package import Base
import Engine
package import Ring
package import Store
import Token

/// Which rows belong to a slot, how they are read at its source and written at its target.
///
/// Records go by the slot's log, index by index. What answers retries follows from records; only what tells of records
/// that retention dropped is sent. All other rows are sent when the slot is sealed and nothing changes any more.
/// Channels' grants are on every node already. Usage is counted on any node: of two rows the larger stays.
package enum SlotRows {
  private static let stateKinds = [StateKind.head, StateKind.name, StateKind.commit]

  /// What is sent whole once the slot is sealed.
  static func sealed(_ slot: UInt16) -> [SlotRange] {
    stateKinds.map { SlotRange(.state, prefix: [$0], slot: slot) } + accounts(slot)
  }

  /// What tenants of the slot have, with their usage.
  static func accounts(_ slot: UInt16) -> [SlotRange] {
    TokenRows.ranges(slot).map { range in
      var made = SlotRange(.tokens, slot: slot)
      (made.from, made.to) = (range.from, range.to)
      return made
    }
  }

  static func producers(_ slot: UInt16) -> SlotRange {
    SlotRange(.state, prefix: [StateKind.producer], slot: slot)
  }

  /// What goes as rows.
  package static func ranges(_ slot: UInt16) -> [SlotRange] { sealed(slot) + [producers(slot)] }

  /// Everything.
  static func all(_ slot: UInt16) -> [SlotRange] {
    ranges(slot) + [SlotRange(.records, slot: slot), SlotRange(logOf: slot)]
  }

  /// What a node has of a slot only when it owns it, or gets it: all but what it counted itself.
  static func copied(_ slot: UInt16) -> [SlotRange] { all(slot).filter { !isUsage($0) } }

  private static func isUsage(_ range: SlotRange) -> Bool {
    range.table == .tokens && range.from.first == UsageRow.kind
  }

  // MARK: source

  /// The oldest sequence kept of every channel of the slot. Blocks on the disk.
  static func oldest(_ slot: UInt16, in store: Store) throws(Fault) -> [ChannelID: UInt64] {
    var found: [ChannelID: UInt64] = [:]
    try eachHead(slot, in: store) { found[$0] = $1.oldest }
    return found
  }

  /// Bytes of records kept in the slot. Blocks on the disk.
  static func bytes(_ slot: UInt16, in store: Store) throws(Fault) -> UInt64 {
    var sum: UInt64 = 0
    try eachHead(slot, in: store) { sum &+= $1.bytesKept }
    return sum
  }

  /// How far the log goes, and how much of it a target lacks that has it up to `copied`. Blocks on the disk.
  static func look(
    _ slot: UInt16, after copied: UInt64, in store: Store
  ) throws(Fault) -> SlotLook {
    let head = try store.slotHead(slot)
    if head <= copied { return SlotLook(head: head, behind: 0) }
    let most = Limits.moveSealLag << Limits.moveLagDoublings
    if head - copied > most { return SlotLook(head: head, behind: .max) }
    let bytes = try store.slotLogBytes(
      slot, from: copied + 1, through: head,
      limitBytes: Limits.moveSealBytes << Limits.moveLagDoublings)
    return SlotLook(head: head, behind: bytes ?? .max)
  }

  private static func eachHead(
    _ slot: UInt16, in store: Store, _ body: (ChannelID, HeadRow) -> Void
  ) throws(Fault) {
    let range = SlotRange(.state, prefix: [StateKind.head], slot: slot)
    var after: [UInt8]?
    while true {
      let rows = try store.rows(in: range, after: after, limitBytes: 1 << 20)
      guard let last = rows.last else { return }
      after = last.key
      for row in rows where row.key.count == 17 {
        if let head = try? HeadRow(decoding: row.value) { body(channel(row.key), head) }
      }
    }
  }

  static func channel(_ key: [UInt8]) -> ChannelID {
    ChannelID(
      high: UInt64(bigEndianBytes: key[1..<9]), low: UInt64(bigEndianBytes: key[9..<17]))
  }

  /// Rows of producers of a channel that tell of records before `oldest` only. Blocks on the disk.
  static func leftovers(
    of channel: ChannelID, before oldest: UInt64, in store: Store
  ) throws(Fault) -> [Row] {
    let prefix = StateKind.prefix(StateKind.producer, channel)
    var found: [Row] = []
    try unsafe store.scan(.state, from: prefix, to: Store.after(prefix: prefix), bulk: true) {
      key, value in
      let value = unsafe [UInt8](value)
      if let last = SlotRecord.lastSequence(ofProducerRow: value), last < oldest {
        found.append(Row(key: unsafe [UInt8](key), value: value))
      }
      return true
    }
    return found
  }

  /// The channel whose deletion an entry of the log tells of.
  static func deletion(_ entry: SlotMoveCall.LogRow) -> ChannelID? {
    guard let key = RecordKey.parse(entry.key), key.first == 0 else { return nil }
    return key.channel
  }

  // MARK: target

  /// Writes entries of the log with their records and what follows from them.
  package static func put(
    _ slot: UInt16, _ rows: [SlotMoveCall.LogRow], into set: inout WriteSet
  ) {
    for entry in rows {
      set.put(.slots, key: SlotRow.key(slot, entry.index), value: entry.key)
      if let deleted = deletion(entry) {
        set.deleteRange(
          .records, from: RecordKey.key(deleted, 0), to: RecordKey.key(deleted, .max))
        let prefix = StateKind.prefix(StateKind.producer, deleted)
        set.deleteRange(.state, from: prefix, to: prefix + [UInt8](repeating: 0xff, count: 17))
      }
      guard let record = entry.record else { continue }
      set.put(.records, key: entry.key, value: record)
      // A damaged record goes as it is: its channel's verification names it here too.
      for row in SlotRecord.producerRows(Row(key: entry.key, value: record)) ?? [] {
        set.put(.state, key: row.key, value: row.value)
      }
    }
  }

  /// Writes a page of rows. The first as of a seal replaces all there were. True: a large part is deleted.
  static func put(
    _ slot: UInt16, _ rows: [SlotMoveCall.TableRow], isFirst: Bool, in store: Store,
    into set: inout WriteSet
  ) throws(Fault) -> Bool {
    var dropped: [SlotRange] = []
    var isWhole = false
    if isFirst { isWhole = store.delete(sealed(slot).filter { !isUsage($0) }, into: &set) }
    for one in rows {
      if one.table == .tokens, one.row.key.first == UsageRow.kind,
        let old = try store.get(.tokens, key: one.row.key),
        let here = UsageReport(row: one.row.key, old),
        let there = UsageReport(row: one.row.key, one.row.value), here.messages > there.messages
      {
        continue
      }
      set.put(one.table, key: one.row.key, value: one.row.value)
      guard one.table == .state, one.row.key.first == StateKind.head, one.row.key.count == 17,
        let head = try? HeadRow(decoding: one.row.value)
      else { continue }
      // Copied before retention, or a delete, dropped them there; or taken back after a failed write.
      let id = channel(one.row.key)
      dropped.append(
        SlotRange(.records, from: RecordKey.key(id, 0), to: RecordKey.key(id, head.oldest)))
      if head.last < .max {
        dropped.append(
          SlotRange(
            .records, from: RecordKey.key(id, head.last + 1), to: RecordKey.key(id, .max)))
      }
    }
    return store.delete(dropped, into: &set) || isWhole
  }
}

/// A look at a slot's log.
struct SlotLook: Sendable {
  /// Its last index.
  var head: UInt64
  /// Bytes of the records that the target lacks; `.max`: more than are worth counting.
  var behind: UInt64
}

/// What a node keeps of hand-overs in table `meta`:
///
///     co, slot u16    the intent of a source: move, u64 sealed at, seal
///     ct, slot u16    the copy of a target: move, u64 run, u64 have, u8 complete, u64 at, seal
///
/// move: u16 slot, u64 attempt, u64 epoch, u64 source, u64 target. seal: u64 run, u32 count. All big-endian.
package enum SlotMoveRow {
  static let intents = Array("co".utf8)
  static let copies = Array("ct".utf8)

  package struct Copy: Equatable, Sendable {
    var id: SlotMoveID
    /// Of the source's process that it came from.
    var run: UInt64
    var have: UInt64
    var complete: Complete?

    init(id: SlotMoveID, run: UInt64, have: UInt64, complete: Complete?) {
      (self.id, self.run, self.have, self.complete) = (id, run, have, complete)
    }

    /// The slot begins empty: that is complete, and a run that finds it does not erase what was taken since.
    package init(nothingOf id: SlotMoveID, run: UInt64) {
      let nothing = Complete(at: 0, seal: SlotSeal(run: run, count: 0))
      self.init(id: id, run: run, have: 0, complete: nothing)
    }
  }
  struct Complete: Equatable, Sendable {
    var at: UInt64
    var seal: SlotSeal
  }

  static func intentKey(_ slot: UInt16) -> [UInt8] { intents + bigEndianBytes(slot) }
  static func copyKey(_ slot: UInt16) -> [UInt8] { copies + bigEndianBytes(slot) }

  package static func value(_ intent: SlotIntent) -> [UInt8] {
    var w = ByteWriter()
    write(intent.move, &w)
    w.append(bigEndian: intent.sealedAt)
    SlotMoveCall.write(intent.seal, &w)
    return w.array
  }

  package static func value(_ copy: Copy) -> [UInt8] {
    var w = ByteWriter()
    write(copy.id, &w)
    w.append(bigEndian: copy.run)
    w.append(bigEndian: copy.have)
    w.append(copy.complete == nil ? 0 : 1)
    w.append(bigEndian: copy.complete?.at ?? 0)
    SlotMoveCall.write(copy.complete?.seal ?? SlotSeal(run: 0, count: 0), &w)
    return w.array
  }

  package static func intent(_ value: [UInt8]) throws(ReadError) -> SlotIntent {
    try readAll(value) { (r) throws(ReadError) in
      SlotIntent(move: try move(&r), sealedAt: try r.bigEndian(), seal: try SlotMoveCall.seal(&r))
    }
  }

  package static func copy(_ value: [UInt8]) throws(ReadError) -> Copy {
    try readAll(value) { (r) throws(ReadError) in
      let id = try move(&r)
      let (run, have, mark) = (
        try r.bigEndian(UInt64.self), try r.bigEndian(UInt64.self), try r.byte()
      )
      let complete = Complete(at: try r.bigEndian(), seal: try SlotMoveCall.seal(&r))
      guard mark < 2 else { throw .malformed }
      return Copy(id: id, run: run, have: have, complete: mark == 1 ? complete : nil)
    }
  }

  private static func write(_ id: SlotMoveID, _ w: inout ByteWriter) {
    w.append(bigEndian: id.slot)
    for word in [id.attempt, id.epoch, id.source.value, id.target.value] {
      w.append(bigEndian: word)
    }
  }

  private static func move(_ r: inout ByteReader) throws(ReadError) -> SlotMoveID {
    let slot = try r.bigEndian(UInt16.self)
    guard Int(slot) < 1 << Limits.slotBits else { throw .malformed }
    return SlotMoveID(
      slot: slot, attempt: try r.bigEndian(), epoch: try r.bigEndian(),
      source: NodeID(try r.bigEndian()), target: NodeID(try r.bigEndian()))
  }
}
