public import Base
internal import Glibc

/// How a store is opened.
public struct StoreOptions: Sendable {
  /// Make the database when the directory holds none.
  public var createIfMissing = true
  /// Open although the write-ahead log ends before the head mark (`--accept-torn-tail`): what is missing
  /// is given up, knowingly.
  public var acceptTornTail = false
  /// Free bytes on the volume below which write sets are refused (`disk.min_free`). 0: no check.
  public var minFreeBytes = Limits.diskMinFreeBytes
  public var blockCacheBytes = Limits.blockCacheBytes
  /// Bytes of a memtable of table `records`; the other tables have a quarter.
  public var memtableBytes = 64 << 20
  /// Bytes per second that flushes and compactions may write in all. 0: no limit.
  public var compactionBytesPerSecond = 0
  /// How often what was only written is synced in the background. 0: never.
  public var syncEveryMilliseconds = Limits.syncEveryMilliseconds
  /// Asked every few milliseconds while another process, named in the text if it said who it is, has the directory
  /// locked; true: wait on. It must not block. nil: that is an error at once.
  public var whenInUse: (@Sendable (String) -> Bool)?
  /// Called once when the directory is ours, before the database in it is opened.
  public var whenHeld: (@Sendable () -> Void)?
  /// Called once with one line when the disk failed in a way that must not be retried (a failed fsync
  /// leaves unknown what is on disk). It should end the process; should it return, every later write is
  /// refused.
  public var onFatal: @Sendable (String) -> Void = StoreOptions.endProcess

  public init() {}

  /// The line on stderr and exit code 74 (EX_IOERR), without running exit handlers.
  @Sendable public static func endProcess(_ line: String) {
    let text = Array((line + "\n").utf8)
    _ = text.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
    _exit(74)
  }
}

/// What became of a write set: the store's sequence number after it, or why nothing of it was written.
public typealias CommitResult = Result<UInt64, Fault>
