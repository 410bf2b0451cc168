public import Base
internal import CRocksDB
internal import Glibc
internal import Report

/// Numbers of a store, for metrics and `status`.
public struct StoreFigures: Sendable {
  public var batches: UInt64 = 0
  public var sets: UInt64 = 0
  public var operations: UInt64 = 0
  public var bytes: UInt64 = 0
  /// Batches that were synced before they were answered.
  public var syncs: UInt64 = 0
  public var refusedSets: UInt64 = 0
  /// RocksDB sequence numbers: last written, and last known to be on disk.
  public var writtenSequence: UInt64 = 0
  public var syncedSequence: UInt64 = 0
  public var memtableBytes = 0
  public var tableBytes = 0
  public var cacheBytes = 0
  public var pendingCompactionBytes = 0
  public var runningCompactions = 0
  public var runningFlushes = 0
  public var backgroundErrors = 0
  /// RocksDB holds writes back because compaction is behind.
  public var writesStopped = false
  public var diskFree = 0
  public var diskTotal = 0
  /// Why writes are refused now, nil when they are not.
  public var trouble: Fault?
}

extension Store {
  /// Free bytes of the volume; 0 when the kernel does not say.
  public func diskFree() -> Int { Volume(path)?.free ?? 0 }

  /// Why a write would be refused now: the disk is below `disk.min_free` or writing has failed. For
  /// `/readyz`.
  public func writeTrouble() -> Fault? {
    let figures = committer.figures.withLock { $0 }
    if let fault = figures.failed ?? figures.trouble { return fault }
    guard options.minFreeBytes > 0 else { return nil }
    let free = diskFree()
    guard free < options.minFreeBytes else { return nil }
    return Fault(
      .diskFull, "\(path): \(free) bytes free, less than disk.min_free (\(options.minFreeBytes))")
  }

  /// Bytes of all files of the store. Walks the directory.
  public func diskUsed() -> Int {
    var sum = 0
    for name in listDirectory(directory.database) {
      var facts = stat()
      if stat(directory.database + "/" + name, &facts) == 0 { sum += Int(facts.st_blocks) * 512 }
    }
    return sum
  }

  public func figures() -> StoreFigures {
    let counted = committer.figures.withLock { $0 }
    var out = StoreFigures()
    out.batches = counted.batches
    out.sets = counted.sets
    out.operations = counted.operations
    out.bytes = counted.bytes
    out.syncs = counted.syncs
    out.refusedSets = counted.refused
    out.writtenSequence = counted.written
    out.syncedSequence = counted.synced
    out.memtableBytes = sum("rocksdb.cur-size-all-mem-tables")
    out.tableBytes = sum("rocksdb.live-sst-files-size")
    out.pendingCompactionBytes = sum("rocksdb.estimate-pending-compaction-bytes")
    out.cacheBytes = figure("rocksdb.block-cache-usage", .records)
    out.runningCompactions = figure("rocksdb.num-running-compactions", .meta)
    out.runningFlushes = figure("rocksdb.num-running-flushes", .meta)
    out.backgroundErrors = figure("rocksdb.background-errors", .meta)
    out.writesStopped = figure("rocksdb.is-write-stopped", .meta) != 0
    if let volume = Volume(path) {
      out.diskFree = volume.free
      out.diskTotal = volume.total
    }
    out.trouble = writeTrouble()
    return out
  }

  private func sum(_ name: String) -> Int {
    Table.allCases.reduce(0) { $0 + figure(name, $1) }
  }

  private func figure(_ name: String, _ table: Table) -> Int {
    var value: UInt64 = 0
    let failed = rocksdb_property_int_cf(database.handle, database.family(table), name, &value)
    return failed == 0 ? Int(clamping: value) : 0
  }

  /// Bytes in table files of the rows in `from ..< to`, about; what is still in memtables is not counted.
  public func approximateSize(_ table: Table, from: [UInt8], to: [UInt8]) -> Int {
    var size: UInt64 = 0
    let failed: Bool = from.withUnsafeBytes { low in
      to.withUnsafeBytes { high in
        var starts = [low.chars]
        var ends = [high.chars]
        var startCounts = [low.count]
        var endCounts = [high.count]
        return
          (try? checked { error in
            rocksdb_approximate_sizes_cf(
              database.handle, database.family(table), 1, &starts, &startCounts, &ends, &endCounts,
              &size, error)
          }) == nil
      }
    }
    return failed ? 0 : Int(clamping: size)
  }

  /// Gives back the room of deleted rows in `from ..< to` (nil: the ends of the table) by rewriting the
  /// files. Call after the deletion is committed, inside `upkeep`; `compactionBytesPerSecond` bounds its
  /// speed. (RocksDB compacts by itself too; this does it now.)
  public func compact(_ table: Table, from: [UInt8]? = nil, to: [UInt8]? = nil) {
    let low = from ?? []
    let high = to ?? []
    low.withUnsafeBytes { a in
      high.withUnsafeBytes { b in
        rocksdb_compact_range_cf(
          database.handle, database.family(table), from == nil ? nil : a.chars, a.count,
          to == nil ? nil : b.chars, b.count)
      }
    }
  }

  /// Writes memtables to tables. Blocks; inside `upkeep`.
  public func flush() throws(Fault) {
    let options = rocksdb_flushoptions_create()!
    defer { rocksdb_flushoptions_destroy(options) }
    do throws(RocksError) {
      for table in Table.allCases {
        try checked { rocksdb_flush_cf(database.handle, options, database.family(table), $0) }
      }
    } catch {
      throw error.fault
    }
  }

  /// A complete copy as of now in the new directory `target`, while serving: hard links where the file
  /// system allows, else copies. `alsoCopy`: small private files of the data directory that go with it,
  /// if they are there. On disk before it returns; `target` is removed again when it fails.
  public func checkpoint(
    to target: String, alsoCopy: [String] = ["signing-keys.json"]
  ) throws(Fault) {
    guard mkdir(target, 0o700) == 0 else {
      if errno == EEXIST { throw Fault(.conflict, "\(target) exists already") }
      throw systemFault("create", target)
    }
    do throws(Fault) {
      try fillCheckpoint(target, alsoCopy)
    } catch {
      for name in listDirectory(target + "/db") { unlink(target + "/db/" + name) }
      rmdir(target + "/db")
      for name in listDirectory(target) { unlink(target + "/" + name) }
      rmdir(target)
      throw error
    }
  }

  private func fillCheckpoint(_ target: String, _ alsoCopy: [String]) throws(Fault) {
    let sequence = committer.figures.withLock { $0.written }
    let copy = try DataDirectory(target, create: false)
    do throws(RocksError) {
      let maker = try checked { rocksdb_checkpoint_object_create(database.handle, $0) }
      defer { rocksdb_checkpoint_object_destroy(maker) }
      // 0: memtables are flushed, so that the copy holds no log to replay.
      try checked { rocksdb_checkpoint_create(maker, copy.database, 0, $0) }
    } catch {
      throw error.fault
    }
    let mark = HeadMark(sequence: sequence, boot: BootID.current(), device: copy.device)
    _ = try MarkFile(copy.headMark, mark)
    _ = try MarkFile(copy.syncMark, mark)
    for name in alsoCopy {
      guard let bytes = try readWhole(path + "/" + name, limit: 1 << 20) else { continue }
      try writeWhole(target + "/" + name, bytes)
    }
    try copy.sync()
  }
}

/// Writes a new private file and syncs it.
private func writeWhole(_ path: String, _ bytes: [UInt8]) throws(Fault) {
  let fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
  guard fd >= 0 else { throw systemFault("create", path) }
  defer { close(fd) }
  var done = 0
  while done < bytes.count {
    let n = bytes.withUnsafeBytes { write(fd, $0.baseAddress! + done, $0.count - done) }
    if n < 0 && errno == EINTR { continue }
    guard n > 0 else { throw systemFault("write", path) }
    done += n
  }
  guard fsync(fd) == 0 else { throw systemFault("sync", path) }
}
