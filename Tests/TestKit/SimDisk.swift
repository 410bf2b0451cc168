public import Base

/// An ordered table of rows.
struct SimTable {
  private(set) var rows: [Row] = []

  /// The index of the first key not before `key`.
  func lowerBound(_ key: [UInt8]) -> Int {
    var low = 0
    var high = rows.count
    // Appends at the end are the usual case.
    if let last = rows.last, SimTable.isBefore(last.key, key) { return high }
    while low < high {
      let middle = (low + high) / 2
      if SimTable.isBefore(rows[middle].key, key) { low = middle + 1 } else { high = middle }
    }
    return low
  }

  static func isBefore(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    a.withUnsafeBytes { x in
      b.withUnsafeBytes { y in
        let n = min(x.count, y.count)
        var i = 0
        while i + 8 <= n {
          let p = UInt64(bigEndian: x.loadUnaligned(fromByteOffset: i, as: UInt64.self))
          let q = UInt64(bigEndian: y.loadUnaligned(fromByteOffset: i, as: UInt64.self))
          if p != q { return p < q }
          i += 8
        }
        while i < n {
          if x[i] != y[i] { return x[i] < y[i] }
          i += 1
        }
        return x.count < y.count
      }
    }
  }

  func get(_ key: [UInt8]) -> [UInt8]? {
    let at = lowerBound(key)
    return at < rows.count && rows[at].key == key ? rows[at].value : nil
  }

  /// - Returns: the value before.
  mutating func put(_ key: [UInt8], _ value: [UInt8]) -> [UInt8]? {
    let at = lowerBound(key)
    if at < rows.count, rows[at].key == key {
      defer { rows[at].value = value }
      return rows[at].value
    }
    rows.insert(Row(key: key, value: value), at: at)
    return nil
  }

  mutating func delete(_ key: [UInt8]) -> [UInt8]? {
    let at = lowerBound(key)
    guard at < rows.count, rows[at].key == key else { return nil }
    return rows.remove(at: at).value
  }

  mutating func deleteRange(_ from: [UInt8], _ to: [UInt8]) -> [Row] {
    let a = lowerBound(from)
    let b = lowerBound(to)
    guard a < b else { return [] }
    let gone = Array(rows[a..<b])
    rows.removeSubrange(a..<b)
    return gone
  }
}

/// A disk in memory with two planes: what was written and what was synced. A power cut loses write sets
/// from a point after the last sync on; a killed process loses nothing that was written.
public final class SimDisk {
  private var tables = [SimTable](repeating: SimTable(), count: Table.allCases.count)
  /// How to take back each write set since the last sync: the rows as they were.
  private var unsynced: [[(table: Table, key: [UInt8], before: [UInt8]?)]] = []
  public private(set) var writes = 0
  public private(set) var syncs = 0

  public init() {}

  /// Makes a write set visible; `synced` makes it and everything before it durable.
  public func apply(_ set: WriteSet, synced: Bool) {
    var undo: [(table: Table, key: [UInt8], before: [UInt8]?)] = []
    set.forEach { op, table, k, v in
      let key = [UInt8](k)
      let t = Int(table.rawValue)
      switch op {
      case 1: undo.append((table, key, tables[t].put(key, [UInt8](v))))
      case 2:
        if let before = tables[t].delete(key) { undo.append((table, key, before)) }
      default:
        for row in tables[t].deleteRange(key, [UInt8](v)) {
          undo.append((table, row.key, row.value))
        }
      }
    }
    writes += 1
    if synced {
      syncs += 1
      unsynced.removeAll()
    } else {
      unsynced.append(undo)
    }
  }

  public var unsyncedWrites: Int { unsynced.count }

  /// Loses the last write sets that were not synced, all but `keeping`.
  public func powerCut(keeping: Int) {
    while unsynced.count > keeping {
      for change in unsynced.removeLast().reversed() {
        let t = Int(change.table.rawValue)
        if let before = change.before {
          _ = tables[t].put(change.key, before)
        } else {
          _ = tables[t].delete(change.key)
        }
      }
    }
    unsynced.removeAll()
  }

  public func get(_ table: Table, _ key: [UInt8]) -> [UInt8]? {
    tables[Int(table.rawValue)].get(key)
  }

  /// Every row whose key begins with `prefix`, in order.
  public func rows(_ table: Table, prefix: [UInt8] = []) -> [Row] {
    let t = tables[Int(table.rawValue)]
    var at = t.lowerBound(prefix)
    var out: [Row] = []
    while at < t.rows.count, t.rows[at].key.starts(with: prefix) {
      out.append(t.rows[at])
      at += 1
    }
    return out
  }

  /// The last row at or before `key` whose first `prefix` bytes are the same.
  public func seekBefore(_ table: Table, _ key: [UInt8], prefix: Int) -> Row? {
    let t = tables[Int(table.rawValue)]
    var at = t.lowerBound(key)
    if at == t.rows.count || t.rows[at].key != key { at -= 1 }
    guard at >= 0, t.rows[at].key.starts(with: key.prefix(prefix)) else { return nil }
    return t.rows[at]
  }

  /// Rows from the one that holds `from` on, about `limit` bytes of them: `Effect.read`.
  public func records(_ channel: ChannelID, from: UInt64, limit: Int) -> [Row] {
    let t = tables[Int(Table.records.rawValue)]
    let prefix = channel.bytes
    let key = prefix + bigEndianBytes(from)
    var at = t.lowerBound(key)
    if at == t.rows.count || t.rows[at].key != key, at > 0,
      t.rows[at - 1].key.starts(with: prefix)
    {
      at -= 1
    }
    var out: [Row] = []
    var bytes = 0
    while at < t.rows.count, bytes < limit, t.rows[at].key.starts(with: prefix) {
      out.append(t.rows[at])
      bytes += t.rows[at].value.count
      at += 1
    }
    return out
  }

  /// Flips a bit of a stored value: damage.
  public func flip(_ table: Table, _ key: [UInt8], bit: Int) {
    let t = Int(table.rawValue)
    guard var value = tables[t].get(key), !value.isEmpty else { return }
    value[bit / 8 % value.count] ^= 1 << UInt8(bit % 8)
    _ = tables[t].put(key, value)
  }

  public func remove(_ table: Table, _ key: [UInt8]) { _ = tables[Int(table.rawValue)].delete(key) }

  /// The next free log index of each slot: what an engine begins with.
  public var slotHeads: [(slot: UInt16, next: UInt64)] {
    var heads: [(slot: UInt16, next: UInt64)] = []
    for row in tables[Int(Table.slots.rawValue)].rows where row.key.count == 10 {
      let (slot, index) = row.key.withUnsafeBytes {
        (
          UInt16(bigEndian: $0.loadUnaligned(as: UInt16.self)),
          UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt64.self))
        )
      }
      if heads.last?.slot == slot {
        heads[heads.count - 1].next = index + 1
      } else {
        heads.append((slot, index + 1))
      }
    }
    return heads
  }
}
