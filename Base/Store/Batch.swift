internal import Base
internal import CRocksDB

/// A RocksDB write batch that is filled, written and filled again.
final class Batch {
  private let batch = rocksdb_writebatch_create()!
  private let lazy = rocksdb_writeoptions_create()!
  private let eager = rocksdb_writeoptions_create()!
  private(set) var operations = 0

  init() { rocksdb_writeoptions_set_sync(eager, 1) }

  deinit {
    rocksdb_writebatch_destroy(batch)
    rocksdb_writeoptions_destroy(lazy)
    rocksdb_writeoptions_destroy(eager)
  }

  func clear() {
    rocksdb_writebatch_clear(batch)
    operations = 0
  }

  func add(_ set: WriteSet, to database: Database) {
    set.forEach { op, table, key, value in
      let family = database.family(table)
      switch op {
      case 1:
        rocksdb_writebatch_put_cf(batch, family, key.chars, key.count, value.chars, value.count)
      case 2:
        rocksdb_writebatch_delete_cf(batch, family, key.chars, key.count)
      case 3:
        rocksdb_writebatch_delete_range_cf(
          batch, family, key.chars, key.count, value.chars, value.count)
      default:
        preconditionFailure("write set with operation \(op)")
      }
    }
    operations += set.operations
  }

  func write(to database: Database, synced: Bool) throws(RocksError) {
    try checked { rocksdb_write(database.handle, synced ? eager : lazy, batch, $0) }
  }
}
