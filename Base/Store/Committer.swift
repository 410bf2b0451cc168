internal import Base
internal import CRocksDB
internal import CSys
internal import Glibc
internal import Report

struct Submission: Sendable {
  var set: WriteSet
  var synced: Bool
  var reclaims: Bool
  var chain: WriteChain?
  var done: @Sendable (CommitResult) -> Void
}

/// Writes that must not overtake a failed one: after a failure those behind it are refused untried,
/// until their author has heard of all and calls `mend`.
public final class WriteChain: Sendable {
  private let broken = Lock(false)
  public init() {}
  var isBroken: Bool { broken.withLock { $0 } }
  func fail() { broken.withLock { $0 = true } }
  /// Only while no write of the chain is under way.
  public func mend() { broken.withLock { $0 = false } }
}

/// The commit thread, and the one beside it that syncs what was only written.
///
/// Order of a commit: batch to the write-ahead log (synced when any in it asked), head mark to the page
/// cache, answers. So whatever was answered is behind the mark.
final class Committer: @unchecked Sendable {
  private struct Queue {
    var waiting: [Submission] = []
    /// The thread sleeps and must be woken.
    var idle = false
    var stopping = false
  }

  /// Counters, for metrics.
  struct Figures: Sendable {
    var batches: UInt64 = 0
    var sets: UInt64 = 0
    var operations: UInt64 = 0
    var bytes: UInt64 = 0
    var syncs: UInt64 = 0
    var refused: UInt64 = 0
    var written: UInt64 = 0
    var synced: UInt64 = 0
    /// What ended writing for good, or the last trouble while it lasts.
    var failed: Fault?
    var trouble: Fault?
  }

  let database: Database
  private let options: StoreOptions
  private let path: String
  private let mark: HeadMark
  private let headFile: MarkFile
  private let syncFile: MarkFile
  private let queue = Lock(Queue())
  private let wake = Signal()
  private let syncWake = Signal()
  private let syncStop = Lock(false)
  private let threads = Lock<[WorkerThread]>([])
  let figures: Lock<Figures>

  init(
    database: Database, options: StoreOptions, path: String, mark: HeadMark, headFile: MarkFile,
    syncFile: MarkFile
  ) {
    self.database = database
    self.options = options
    self.path = path
    self.mark = mark
    self.headFile = headFile
    self.syncFile = syncFile
    figures = Lock(Figures(written: mark.sequence, synced: mark.sequence))
  }

  func start() {
    threads.withLock { threads in
      threads.append(WorkerThread(named: "store-commit") { [self] in runCommits() })
      if options.syncEveryMilliseconds > 0 {
        threads.append(WorkerThread(named: "store-sync") { [self] in runSyncs() })
      }
    }
  }

  func submit(_ submission: Submission) {
    let (taken, sleeping) = queue.withLock { queue in
      guard !queue.stopping else { return (false, false) }
      queue.waiting.append(submission)
      defer { queue.idle = false }
      return (true, queue.idle)
    }
    if !taken {
      submission.done(.failure(Fault(.draining, "the store is closed")))
    } else if sleeping {
      wake.raise()
    }
  }

  // MARK: commit thread

  private func runCommits() {
    let batch = Batch()
    var group: [Submission] = []
    while true {
      group.removeAll(keepingCapacity: true)
      let ended = queue.withLock { queue -> Bool in
        if queue.waiting.isEmpty {
          queue.idle = true
          return queue.stopping
        }
        swap(&group, &queue.waiting)
        return false
      }
      if ended { return }
      if group.isEmpty {
        wake.wait()
      } else {
        commitAll(group, batch)
      }
    }
  }

  /// Cuts what was waiting into batches within the bounds.
  private func commitAll(_ waiting: [Submission], _ batch: Batch) {
    var start = 0
    while start < waiting.count {
      var end = start
      var bytes = 0
      while end < waiting.count, end - start < Limits.commitBatchSets {
        let next = waiting[end].set.bytes.count
        if end > start && bytes + next > Limits.commitBatchBytes { break }
        bytes += next
        end += 1
      }
      commit(waiting[start..<end], bytes, batch)
      start = end
    }
  }

  private func commit(_ group: ArraySlice<Submission>, _ bytes: Int, _ batch: Batch) {
    if let failed = figures.withLock({ $0.failed }) {
      figures.withLock { $0.refused += UInt64(group.count) }
      for submission in group { submission.done(.failure(failed)) }
      return
    }
    let room = roomFor(bytes)
    batch.clear()
    var synced = false
    // In order, so that a refusal breaks its chain before the next of the chain is looked at.
    let refusals = group.map { submission -> Fault? in
      if let refusal = refusal(of: submission, room) { return refusal }
      batch.add(submission.set, to: database)
      synced = synced || submission.synced
      return nil
    }
    var result = CommitResult.success(figures.withLock { $0.written })
    if batch.operations > 0 || synced { result = write(batch, synced: synced, bytes) }
    if case .failure = result {
      for submission in group { submission.chain?.fail() }
    }
    let answers = refusals.map { $0.map { .failure($0) } ?? result }
    // Counted before anyone is answered, so that who was answered finds it counted.
    figures.withLock { figures in
      for answer in answers {
        if case .failure = answer { figures.refused += 1 } else { figures.sets += 1 }
      }
    }
    for (submission, answer) in zip(group, answers) { submission.done(answer) }
  }

  /// Why a set is not even tried.
  private func refusal(of submission: Submission, _ room: Fault?) -> Fault? {
    if let chain = submission.chain, chain.isBroken {
      return Fault(.unavailable, "an earlier write of the same shard failed")
    }
    guard let room, !submission.reclaims else { return nil }
    submission.chain?.fail()
    return room
  }

  /// The fault to answer with when the volume has no room for so many bytes.
  private func roomFor(_ bytes: Int) -> Fault? {
    guard options.minFreeBytes > 0, let free = Volume(path)?.free else { return nil }
    guard free < options.minFreeBytes + bytes else { return nil }
    return Fault(
      .diskFull,
      "\(path): \(free) bytes free, less than disk.min_free (\(options.minFreeBytes)) and \(bytes) to write"
    )
  }

  private func write(_ batch: Batch, synced: Bool, _ bytes: Int) -> CommitResult {
    do throws(RocksError) {
      try batch.write(to: database, synced: synced)
    } catch {
      return .failure(receive(error))
    }
    var mark = mark
    mark.sequence = database.sequence
    if !headFile.write(mark) {
      return .failure(fail(systemFault("write", headFile.path).detail))
    }
    figures.withLock {
      $0.batches += 1
      $0.operations += UInt64(batch.operations)
      $0.bytes += UInt64(bytes)
      $0.written = mark.sequence
      $0.trouble = nil
      if synced {
        $0.syncs += 1
        $0.synced = mark.sequence
      }
    }
    return .success(mark.sequence)
  }

  /// What a failed write means. Only running out of room, and damage found in old tables, leave us
  /// knowing what is on disk; RocksDB refuses further writes itself until the room is back.
  private func receive(_ error: RocksError) -> Fault {
    let trouble = StorageTrouble(error.text)
    switch trouble {
    case .space, .damaged:
      figures.withLock { $0.trouble = trouble.fault }
      return trouble.fault
    case .fatal(let text):
      return fail(text)
    }
  }

  private func fail(_ text: String) -> Fault {
    let fault = Fault(.internal, "writing has ended: \(text)")
    let first = figures.withLock { figures in
      defer { figures.failed = figures.failed ?? fault }
      return figures.failed == nil
    }
    if first {
      options.onFatal(
        "posthouse: \(path): writing failed, and what is on disk is unknown; not retried: \(text)")
    }
    return fault
  }

  // MARK: sync thread

  /// Ends when told; syncs at most once per period, and only what is not yet synced.
  private func runSyncs() {
    while !syncStop.withLock({ $0 }) {
      if syncWake.wait(milliseconds: options.syncEveryMilliseconds) { continue }
      syncWritten()
    }
  }

  private var lastMarked = UInt64.max

  /// The log first, then the mark that vouches for it.
  private func syncWritten() {
    let now = figures.withLock { ($0.written, $0.synced, $0.failed) }
    guard now.2 == nil else { return }
    if now.0 > now.1 {
      do throws(Fault) {
        try syncLogs(database.path)
      } catch {
        _ = fail(error.detail)
        return
      }
      figures.withLock { $0.synced = max($0.synced, now.0) }
    }
    let synced = figures.withLock { $0.synced }
    guard synced != lastMarked else { return }
    var mark = mark
    mark.sequence = synced
    guard syncFile.write(mark), syncFile.sync() else {
      _ = fail(systemFault("sync", syncFile.path).detail)
      return
    }
    lastMarked = synced
  }

  // MARK: end

  private func join() {
    queue.withLock { $0.stopping = true }
    wake.raise()
    syncStop.withLock { $0 = true }
    syncWake.raise()
    let all = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    for thread in all { thread.join() }
  }

  /// Ends the threads after what is queued.
  func abandon() { join() }

  /// Ends the threads, flushes every table, syncs, and writes both marks.
  func stop() throws(Fault) {
    join()
    if let failed = figures.withLock({ $0.failed }) { throw failed }
    let flush = rocksdb_flushoptions_create()!
    defer { rocksdb_flushoptions_destroy(flush) }
    rocksdb_flushoptions_set_wait(flush, 1)
    try syncLogs(database.path)
    do throws(RocksError) {
      for table in Table.allCases {
        try checked { rocksdb_flush_cf(database.handle, flush, database.family(table), $0) }
      }
    } catch {
      throw error.fault
    }
    var mark = mark
    mark.sequence = database.sequence
    guard headFile.write(mark), headFile.sync(), syncFile.write(mark), syncFile.sync() else {
      throw systemFault("write", syncFile.path)
    }
  }
}

/// Syncs every write-ahead log in RocksDB's directory, and the directory.
///
/// Not by RocksDB's own call: that one aborts the process when a write to the log has just failed on the
/// commit thread (an assertion that Debian leaves on), and a full disk must not end the node.
func syncLogs(_ database: String) throws(Fault) {
  for name in listDirectory(database) where name.hasSuffix(".log") {
    let path = database + "/" + name
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else {
      // Deleted meanwhile: its rows are in tables, which are synced before that.
      if errno == ENOENT { continue }
      throw systemFault("open", path)
    }
    defer { close(fd) }
    guard fdatasync(fd) == 0 else { throw systemFault("sync", path) }
    // Nothing reads it again but the next start. Its pages in the cache are the next records' room: taking fresh ones
    // from the kernel costs more than all else of a write where a hypervisor must back them first.
    _ = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)
  }
  try syncDirectory(database)
}

/// Room on the volume of a path.
struct Volume {
  var free: Int
  var total: Int

  init?(_ path: String) {
    var facts = statvfs()
    guard statvfs(path, &facts) == 0 else { return nil }
    free = Int(clamping: UInt64(facts.f_bavail) * UInt64(facts.f_frsize))
    total = Int(clamping: UInt64(facts.f_blocks) * UInt64(facts.f_frsize))
  }
}
