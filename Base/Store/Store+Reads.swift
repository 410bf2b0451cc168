public import Base
internal import CRocksDB

extension Store {
  /// The value under a key, nil when there is none.
  public func get(_ table: Table, key: [UInt8]) throws(Fault) -> [UInt8]? {
    do throws(RocksError) {
      return try database.value(table, key: key)
    } catch {
      throw error.fault
    }
  }

  /// Calls `body` with every row of `from ..< to` in key order (`reverse`: from the last down) until it
  /// returns false or keys and values passed `limitBytes` (at least one row is given). `to` nil: the end
  /// of the table. The pointers die with each call. `bulk`: for long scans, reads ahead and leaves the
  /// cache alone. A damaged block ends the scan with a fault, after the rows before it.
  public func scan(
    _ table: Table, from: [UInt8] = [], to: [UInt8]? = nil, limitBytes: Int = .max,
    reverse: Bool = false, bulk: Bool = false,
    _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Bool
  ) throws(Fault) {
    // Within one channel the prefix filter spares files that do not hold it.
    let onePrefix =
      !reverse && table == .records && from.count >= 16
      && (to.map { to in
        to.count >= 16 && to[..<16] == from[..<16]
      } ?? false)
    let cursor = Cursor(
      database, table, lower: from, upper: to, bulk: bulk, onePrefix: onePrefix)
    if reverse { cursor.seekToLast() } else { cursor.seek(from) }
    var bytes = 0
    while cursor.isValid {
      let key = cursor.key
      let value = cursor.value
      bytes += key.count + value.count
      guard body(key, value), bytes < limitBytes else { return }
      if reverse { cursor.previous() } else { cursor.next() }
    }
    try cursor.check()
  }

  /// As `scan`, copied.
  public func rows(
    _ table: Table, from: [UInt8] = [], to: [UInt8]? = nil, limitBytes: Int = .max,
    reverse: Bool = false
  ) throws(Fault) -> [Row] {
    var rows: [Row] = []
    try scan(table, from: from, to: to, limitBytes: limitBytes, reverse: reverse) { key, value in
      rows.append(Row(key: [UInt8](key), value: [UInt8](value)))
      return true
    }
    return rows
  }

  /// Every row whose key begins with `prefix`.
  public func rows(
    _ table: Table, prefix: [UInt8], limitBytes: Int = .max
  ) throws(Fault) -> [Row] {
    try rows(table, from: prefix, to: Store.after(prefix: prefix), limitBytes: limitBytes)
  }

  /// The last row at or before `key` whose key has the first `prefix` bytes of `key`.
  public func lastRow(
    _ table: Table, atOrBefore key: [UInt8], prefix: Int
  ) throws(Fault) -> Row? {
    precondition(prefix >= 0 && prefix <= key.count, "prefix of \(prefix) in a key of \(key.count)")
    let cursor = Cursor(
      database, table, lower: Array(key[..<prefix]), upper: nil, bulk: false, onePrefix: false)
    cursor.seekBackwards(key)
    guard cursor.isValid else {
      try cursor.check()
      return nil
    }
    return Row(key: [UInt8](cursor.key), value: [UInt8](cursor.value))
  }

  /// Rows of table `records` of one channel, from the record that holds sequence `from` (or, when `from`
  /// is behind the last record, that one), about `limitBytes` of them; empty when there are none.
  public func records(
    of channel: ChannelID, from: UInt64, limitBytes: Int
  ) throws(Fault) -> [Row] {
    let wanted = channel.bytes + bigEndianBytes(from)
    let end = channel.bytes + bigEndianBytes(UInt64.max)
    // A record stands under its first sequence, and a cursor mostly asks for just that. Going forwards
    // touches no block of the neighbours, so that their damage is not ours.
    let rows = try rows(.records, from: wanted, to: end, limitBytes: limitBytes)
    if from <= 1 || rows.first?.key == wanted { return rows }
    // Else the record holding `from` is before it.
    guard let holder = try lastRow(.records, atOrBefore: wanted, prefix: 16) else { return rows }
    let size = holder.key.count + holder.value.count
    if size >= limitBytes { return [holder] }
    var left = limitBytes - size
    return [holder]
      + rows.prefix { row in
        defer { left -= row.key.count + row.value.count }
        return left > 0
      }
  }

  /// The least key above every key that begins with `prefix`; nil when there is none.
  public static func after(prefix: [UInt8]) -> [UInt8]? {
    var key = prefix
    while let last = key.popLast() {
      if last < 0xff {
        key.append(last + 1)
        return key
      }
    }
    return nil
  }
}

extension Database {
  func value(_ table: Table, key: [UInt8]) throws(RocksError) -> [UInt8]? {
    try look(table, key: key) { [UInt8]($0) }
  }

  /// Bytes of a value.
  func size(_ table: Table, key: [UInt8]) throws(RocksError) -> Int? {
    try look(table, key: key) { $0.count }
  }

  private func look<T>(
    _ table: Table, key: [UInt8], _ body: (UnsafeRawBufferPointer) -> T
  ) throws(RocksError) -> T? {
    guard has(table) else { return nil }
    let options = rocksdb_readoptions_create()!
    defer { rocksdb_readoptions_destroy(options) }
    let found = try checked { error in
      key.withUnsafeBytes {
        rocksdb_get_pinned_cf(handle, options, family(table), $0.chars, $0.count, error)
      }
    }
    guard let found else { return nil }
    defer { rocksdb_pinnableslice_destroy(found) }
    var count = 0
    let bytes = rocksdb_pinnableslice_value(found, &count)
    return body(UnsafeRawBufferPointer(start: bytes, count: count))
  }
}

/// A RocksDB iterator over one table at one point in time.
struct Cursor: ~Copyable {
  private let iterator: OpaquePointer
  private let options: OpaquePointer
  /// The bounds must stay where they are as long as the iterator lives.
  private let bounds: UnsafeMutableRawBufferPointer

  init(
    _ database: Database, _ table: Table, lower: [UInt8], upper: [UInt8]?, bulk: Bool,
    onePrefix: Bool
  ) {
    options = rocksdb_readoptions_create()!
    bounds = .allocate(byteCount: lower.count + (upper?.count ?? 0) + 1, alignment: 1)
    bounds.copyBytes(from: lower)
    let base = bounds.baseAddress!.assumingMemoryBound(to: CChar.self)
    if !lower.isEmpty { rocksdb_readoptions_set_iterate_lower_bound(options, base, lower.count) }
    if let upper {
      UnsafeMutableRawBufferPointer(rebasing: bounds[lower.count...]).copyBytes(from: upper)
      rocksdb_readoptions_set_iterate_upper_bound(options, base + lower.count, upper.count)
    }
    rocksdb_readoptions_set_verify_checksums(options, 1)
    if onePrefix {
      rocksdb_readoptions_set_prefix_same_as_start(options, 1)
    } else {
      rocksdb_readoptions_set_total_order_seek(options, 1)
    }
    if bulk {
      rocksdb_readoptions_set_fill_cache(options, 0)
      rocksdb_readoptions_set_readahead_size(options, 1 << 20)
    }
    iterator = rocksdb_create_iterator_cf(database.handle, options, database.family(table))!
  }

  deinit {
    rocksdb_iter_destroy(iterator)
    rocksdb_readoptions_destroy(options)
    bounds.deallocate()
  }

  var isValid: Bool { rocksdb_iter_valid(iterator) != 0 }
  func seek(_ key: [UInt8]) {
    key.withUnsafeBytes { rocksdb_iter_seek(iterator, $0.chars, $0.count) }
  }
  func seekBackwards(_ key: [UInt8]) {
    key.withUnsafeBytes { rocksdb_iter_seek_for_prev(iterator, $0.chars, $0.count) }
  }
  func seekToLast() { rocksdb_iter_seek_to_last(iterator) }
  func next() { rocksdb_iter_next(iterator) }
  func previous() { rocksdb_iter_prev(iterator) }

  var key: UnsafeRawBufferPointer {
    var count = 0
    let bytes = rocksdb_iter_key(iterator, &count)
    return UnsafeRawBufferPointer(start: bytes, count: count)
  }
  var value: UnsafeRawBufferPointer {
    var count = 0
    let bytes = rocksdb_iter_value(iterator, &count)
    return UnsafeRawBufferPointer(start: bytes, count: count)
  }

  /// Throws what ended the iterator, if it was not the end.
  func check() throws(Fault) {
    do throws(RocksError) {
      try checked { rocksdb_iter_get_error(iterator, $0) }
    } catch {
      throw error.fault
    }
  }
}
