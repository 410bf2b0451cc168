internal import Base
internal import CRocksDB
internal import Glibc

/// An open RocksDB with its column families. One column family per table; `meta` is RocksDB's "default".
final class Database: @unchecked Sendable {
  let handle: OpaquePointer
  /// RocksDB's directory.
  let path: String
  private let families: [OpaquePointer]
  /// By table; nil when a read-only look found no such column family.
  private let byTable: [OpaquePointer?]
  private let shared: SharedOptions

  static func familyName(_ table: Table) -> String { table == .meta ? "default" : "\(table)" }

  func family(_ table: Table) -> OpaquePointer {
    guard let found = byTable[Int(table.rawValue)] else {
      preconditionFailure("table \(table) is not open")
    }
    return found
  }

  func has(_ table: Table) -> Bool { byTable[Int(table.rawValue)] != nil }

  /// Reads the log without changing anything on disk, as far as it is whole.
  static func look(_ path: String, _ options: StoreOptions) throws(RocksError) -> Database {
    try Database(path, options, readOnly: true, names: try familyNames(path, options))
  }

  /// `directWrites`: the file system can write past the page cache.
  static func open(
    _ path: String, _ options: StoreOptions, directWrites: Bool
  ) throws(RocksError) -> Database {
    try Database(
      path, options, readOnly: false, directWrites: directWrites,
      names: Table.allCases.map { familyName($0) })
  }

  private static func familyNames(
    _ path: String, _ options: StoreOptions
  ) throws(RocksError) -> [String] {
    let shared = SharedOptions(options)
    var count = 0
    let list = try checked { rocksdb_list_column_families(shared.database, path, &count, $0) }
    guard let list else { return [] }
    defer { rocksdb_list_column_families_destroy(list, count) }
    return (0..<count).map { String(cString: list[$0]!) }
  }

  private init(
    _ path: String, _ options: StoreOptions, readOnly: Bool, directWrites: Bool = false,
    names: [String]
  ) throws(RocksError) {
    let shared = SharedOptions(options)
    // Tables are written once and seldom read: in the page cache they take the place of what is, and copying them
    // there cost as much as all else of a flush.
    if directWrites {
      rocksdb_options_set_use_direct_io_for_flush_and_compaction(shared.database, 1)
    }
    self.shared = shared
    var made = [OpaquePointer?](repeating: nil, count: names.count)
    var each: [OpaquePointer?] = names.map { $0 == "records" ? shared.records : shared.others }
    let texts = names.map { $0.withCString { strdup($0) } }
    defer { texts.forEach { free($0) } }
    var pointers = texts.map { UnsafePointer<CChar>($0) }
    let opened = try checked { error in
      readOnly
        ? rocksdb_open_for_read_only_column_families(
          shared.database, path, Int32(names.count), &pointers, &each, &made, 0, error)
        : rocksdb_open_column_families(
          shared.database, path, Int32(names.count), &pointers, &each, &made, error)
    }
    guard let opened else { throw RocksError(text: "RocksDB gave no database for \(path)") }
    handle = opened
    self.path = path
    families = made.compactMap { $0 }
    byTable = Table.allCases.map { table in
      names.firstIndex(of: Database.familyName(table)).flatMap { made[$0] }
    }
  }

  deinit { shut() }

  private var isShut = false

  /// Closes the database. Nothing may touch it afterwards.
  func shut() {
    if isShut { return }
    isShut = true
    for family in families { rocksdb_column_family_handle_destroy(family) }
    rocksdb_close(handle)
  }

  /// Sequence number of the last write.
  var sequence: UInt64 { rocksdb_get_latest_sequence_number(handle) }
}

/// RocksDB's option objects; they must outlive the database.
final class SharedOptions {
  let database: OpaquePointer
  let records: OpaquePointer
  let others: OpaquePointer
  private let cache: OpaquePointer
  private let limiter: OpaquePointer?

  init(_ options: StoreOptions) {
    cache = rocksdb_cache_create_lru(options.blockCacheBytes)
    database = SharedOptions.base()
    rocksdb_options_set_create_if_missing(database, options.createIfMissing ? 1 : 0)
    rocksdb_options_set_create_missing_column_families(database, 1)
    // Every table is opened, so its footer and index are checked, before the store serves.
    rocksdb_options_set_max_open_files(database, -1)
    rocksdb_options_set_max_file_opening_threads(database, 4)
    // Replay stops at the first record that is not whole; the head mark then decides whether that was a
    // torn tail or damage. The stricter modes refuse after every power cut that tore unsynced pages, the
    // laxer one serves what follows a hole.
    rocksdb_options_set_wal_recovery_mode(database, Int32(rocksdb_point_in_time_recovery))
    rocksdb_options_set_max_total_wal_size(database, UInt64(Limits.walBytes))
    // The kernel starts writing early, so that a sync has little left to do.
    rocksdb_options_set_wal_bytes_per_sync(database, 1 << 20)
    rocksdb_options_set_bytes_per_sync(database, 1 << 20)
    rocksdb_options_set_max_background_jobs(database, 2)
    rocksdb_options_set_max_manifest_file_size(database, 64 << 20)
    // One writer: no need for a memtable that many may fill at once.
    rocksdb_options_set_allow_concurrent_memtable_write(database, 0)
    rocksdb_options_set_info_log_level(database, 2)
    rocksdb_options_set_keep_log_file_num(database, 4)
    rocksdb_options_set_max_log_file_size(database, 4 << 20)
    rocksdb_options_set_stats_dump_period_sec(database, 0)
    rocksdb_options_set_stats_persist_period_sec(database, 0)
    if options.compactionBytesPerSecond > 0 {
      limiter = rocksdb_ratelimiter_create(Int64(options.compactionBytesPerSecond), 100_000, 10)
      rocksdb_options_set_ratelimiter(database, limiter)
    } else {
      limiter = nil
    }
    // The index knows each block's first key: a read loads no block it needs nothing from.
    records = SharedOptions.family(memtable: options.memtableBytes, cache, index: 3)
    // One channel is one prefix: a filter over it spares a look into most files.
    rocksdb_options_set_prefix_extractor(records, rocksdb_slicetransform_create_fixed_prefix(16))
    others = SharedOptions.family(memtable: options.memtableBytes / 4, cache, index: 0)
  }

  private static func base() -> OpaquePointer {
    let options = rocksdb_options_create()!
    rocksdb_options_set_paranoid_checks(options, 1)
    rocksdb_options_set_skip_checking_sst_file_sizes_on_db_open(options, 0)
    return options
  }

  /// `index`: RocksDB's index type, 0 binary search, 3 binary search with first keys.
  private static func family(
    memtable: Int, _ cache: OpaquePointer, index: Int32
  ) -> OpaquePointer {
    let options = base()
    rocksdb_options_set_write_buffer_size(options, max(memtable, 64 << 10))
    rocksdb_options_set_max_write_buffer_number(options, 3)
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1)
    // Payloads are ciphertext: nothing to gain.
    rocksdb_options_set_compression(options, Int32(rocksdb_no_compression))
    let blocks = rocksdb_block_based_options_create()!
    rocksdb_block_based_options_set_block_size(blocks, 16 << 10)
    rocksdb_block_based_options_set_block_cache(blocks, cache)
    rocksdb_block_based_options_set_filter_policy(blocks, rocksdb_filterpolicy_create_ribbon(10))
    rocksdb_block_based_options_set_format_version(blocks, 5)
    rocksdb_block_based_options_set_index_type(blocks, index)
    // XXH3 over every block.
    rocksdb_block_based_options_set_checksum(blocks, 4)
    rocksdb_options_set_block_based_table_factory(options, blocks)
    rocksdb_block_based_options_destroy(blocks)
    return options
  }

  deinit {
    rocksdb_options_destroy(database)
    rocksdb_options_destroy(records)
    rocksdb_options_destroy(others)
    if let limiter { rocksdb_ratelimiter_destroy(limiter) }
    rocksdb_cache_destroy(cache)
  }
}
