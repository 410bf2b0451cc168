public import Base

// Everything that belongs to a slot stands in ranges of keys: records under channel ids that begin with the slot's number,
// the slot's log under the number itself, and rows with a kind before such an id.

/// Where rows of a slot stand: keys `from ..< to`.
public struct SlotRange: Sendable, Equatable {
  public var table: Table
  public var from: [UInt8]
  public var to: [UInt8]

  public init(_ table: Table, from: [UInt8], to: [UInt8]) {
    (self.table, self.from, self.to) = (table, from, to)
  }

  /// Keys that begin with `prefix` and then a 64-bit hash whose top bits are the slot.
  public init(_ table: Table, prefix: [UInt8] = [], slot: UInt16) {
    precondition(Int(slot) < 1 << Limits.slotBits, "slot \(slot)")
    let shift = UInt16(16 - Limits.slotBits)
    self.table = table
    from = prefix + bigEndianBytes(slot << shift)
    let (next, over) = ((slot << shift)).addingReportingOverflow(1 << shift)
    // Behind the last slot: longer than any key.
    to = over ? prefix + [UInt8](repeating: 0xff, count: 64) : prefix + bigEndianBytes(next)
  }

  /// The slot's log.
  public init(logOf slot: UInt16) {
    table = .slots
    from = bigEndianBytes(slot)
    to = bigEndianBytes(slot) + [UInt8](repeating: 0xff, count: 9)
  }
}

/// An entry of a slot's log with the record that it names.
public struct SlotLogRow: Sendable, Equatable {
  public var index: UInt64
  /// Key of a record: channel id (16), first sequence (8).
  public var key: [UInt8]
  /// nil: the record was deleted since, or the entry tells of a whole channel's deletion.
  public var record: [UInt8]?
  public init(index: UInt64, key: [UInt8], record: [UInt8]?) {
    self.index = index
    self.key = key
    self.record = record
  }
}

extension Store {
  /// The last index of a slot's log that is written; 0: none.
  public func slotHead(_ slot: UInt16) throws(Fault) -> UInt64 {
    let key = bigEndianBytes(slot) + bigEndianBytes(UInt64.max)
    guard let row = try lastRow(.slots, atOrBefore: key, prefix: 2) else { return 0 }
    return try Store.logIndex(row.key)
  }

  private static func logIndex(_ key: [UInt8]) throws(Fault) -> UInt64 {
    guard key.count == 10 else { throw Fault(.damaged, "a slot row of \(key.count) bytes") }
    return UInt64(bigEndianBytes: key[2...])
  }

  /// The entries `from ... through` of a slot's log with their records, as they are now, until about `limitBytes` (one at
  /// least). Indexes without an entry were dropped by retention. Blocks on the disk: inside `read`.
  /// - Returns: the entries, and the index that they reach: `through` when that is all.
  public func slotLog(
    _ slot: UInt16, from: UInt64, through: UInt64, limitBytes: Int
  ) throws(Fault) -> (rows: [SlotLogRow], through: UInt64) {
    precondition(from > 0 && from <= through, "log entries \(from) to \(through)")
    let end = through == .max ? nil : bigEndianBytes(slot) + bigEndianBytes(through + 1)
    var entries: [Row] = []
    // A key costs little: more of them than a page can hold are not read.
    try scan(
      .slots, from: bigEndianBytes(slot) + bigEndianBytes(from),
      to: end ?? SlotRange(logOf: slot).to, limitBytes: max(limitBytes, 1)
    ) { key, value in
      entries.append(Row(key: [UInt8](key), value: [UInt8](value)))
      return true
    }
    var rows: [SlotLogRow] = []
    var bytes = 0
    for entry in entries {
      let index = try Store.logIndex(entry.key)
      let record = entry.value.count == 24 ? try get(.records, key: entry.value) : nil
      rows.append(SlotLogRow(index: index, key: entry.value, record: record))
      bytes += 48 + (record?.count ?? 0)
      if bytes >= limitBytes, index < through { return (rows, index) }
    }
    // The scan may have ended at its own bound.
    var keys = 0
    for entry in entries { keys += entry.key.count + entry.value.count }
    if keys >= max(limitBytes, 1), let last = rows.last { return (rows, last.index) }
    return (rows, through)
  }

  /// Bytes of the records of entries `from ... through` of a slot's log; nil: more than `limitBytes`. Blocks on the disk:
  /// inside `read`.
  public func slotLogBytes(
    _ slot: UInt16, from: UInt64, through: UInt64, limitBytes: UInt64
  ) throws(Fault) -> UInt64? {
    precondition(from > 0 && from <= through && through < .max, "entries \(from) to \(through)")
    var keys: [[UInt8]] = []
    try scan(
      .slots, from: bigEndianBytes(slot) + bigEndianBytes(from),
      to: bigEndianBytes(slot) + bigEndianBytes(through + 1)
    ) { _, value in
      keys.append([UInt8](value))
      return true
    }
    var bytes: UInt64 = 0
    do throws(RocksError) {
      for key in keys where key.count == 24 {
        bytes += UInt64(try database.size(.records, key: key) ?? 0)
        if bytes > limitBytes { return nil }
      }
    } catch {
      throw error.fault
    }
    return bytes
  }

  /// Adds what deletes every row that these ranges have now. Blocks on the disk: inside `read`. Nobody may write there
  /// until it is written: what comes meanwhile may stay.
  ///
  /// A few rows are named one by one, and a range without any costs nothing: as long as the deletion of a whole range is
  /// in memory, RocksDB steps over each row under it in every read that comes near, whatever bounds the read has, and each
  /// such deletion makes reads of its table slower.
  /// - Returns: whether a range is deleted as a whole: then `flush` soon.
  @discardableResult
  public func delete(_ ranges: [SlotRange], into set: inout WriteSet) -> Bool {
    var isWhole = false
    for range in ranges {
      var keys: [[UInt8]] = []
      var bytes = 0
      // What cannot be read is deleted all the same.
      var isFew = true
      do throws(Fault) {
        try scan(range.table, from: range.from, to: range.to) { key, value in
          bytes += key.count + value.count
          isFew = keys.count < Limits.deleteRows && bytes <= Limits.deleteBytes
          if isFew { keys.append([UInt8](key)) }
          return isFew
        }
      } catch { isFew = false }
      if isFew {
        for key in keys { set.delete(range.table, key: key) }
      } else {
        set.deleteRange(range.table, from: range.from, to: range.to)
        isWhole = true
      }
    }
    return isWhole
  }

  /// Rows of a range behind `after` (nil: from its begin), about `limitBytes` of them; empty at its end.
  public func rows(
    in range: SlotRange, after: [UInt8]? = nil, limitBytes: Int
  ) throws(Fault) -> [Row] {
    // The least key behind another is that one with a zero.
    try rows(
      range.table, from: after.map { $0 + [0] } ?? range.from, to: range.to,
      limitBytes: limitBytes)
  }
}
