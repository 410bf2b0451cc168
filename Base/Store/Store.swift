public import Base
internal import CRocksDB
internal import Digest
internal import Glibc
internal import Report

/// The node's database: RocksDB, one thread that commits, a few that read.
///
/// `submit` and `read` may be called from every thread. `get`, `scan` and the like block on the disk: call
/// them inside `read`, or where blocking is fine. No call may run during or after `close`.
public final class Store: Sendable {
  /// Raised when a change makes old programs misread the data.
  public static let format: UInt32 = 1
  /// In table `meta`; the value is the format as a big-endian u32.
  public static let formatKey = Array("format".utf8)

  public let path: String
  public let options: StoreOptions
  /// What opening found that an operator should know. Log it.
  public let openingNotes: [String]
  /// Sequence number that was recovered at open.
  public let recoveredSequence: UInt64

  let directory: DataDirectory
  let database: Database
  let committer: Committer
  private let readers: WorkQueue
  private let upkeepQueue: WorkQueue
  private let closed = Lock(false)

  /// Is a store's database in this directory? Says nothing of whether it opens.
  public static func exists(at path: String) -> Bool { access(path + "/db", F_OK) == 0 }

  /// Opens or makes the store in directory `path` and starts its threads.
  ///
  /// Refuses, with `.conflict`: a directory in use; `.unimplemented`: a newer format; `.damaged`: a
  /// database that does not hold all it should; `.notFound`: none there and none to be made.
  public init(path: String, options: StoreOptions = StoreOptions()) throws(Fault) {
    self.path = path
    self.options = options
    let directory = try DataDirectory(
      path, create: options.createIfMissing, whenInUse: options.whenInUse,
      whenHeld: options.whenHeld)
    self.directory = directory
    var opening = Opening(directory: directory, options: options)
    let database = try opening.run()
    self.database = database
    openingNotes = opening.notes
    recoveredSequence = database.sequence
    let mark = HeadMark(
      sequence: database.sequence, boot: BootID.current(), device: directory.device)
    committer = Committer(
      database: database, options: options, path: path, mark: mark,
      headFile: try MarkFile(directory.headMark, mark),
      syncFile: try MarkFile(directory.syncMark, mark))
    try directory.sync()
    readers = WorkQueue(named: "read", threads: Limits.readerThreads)
    upkeepQueue = WorkQueue(named: "upkeep", threads: 1)
    committer.start()
  }

  /// Queues a write set; everything waiting is written as one batch. `synced`: on disk before `done`.
  /// `reclaims`: it frees space, so the check of free space does not refuse it. `done` runs on the commit
  /// thread, in the order of submission, and must not block. `chain`: writes that must not overtake a
  /// failed one.
  public func submit(
    _ set: WriteSet, synced: Bool, reclaims: Bool = false, chain: WriteChain? = nil,
    on done: @escaping @Sendable (CommitResult) -> Void
  ) {
    committer.submit(
      Submission(set: set, synced: synced, reclaims: reclaims, chain: chain, done: done))
  }

  /// Writes and waits. For cold paths; never from the commit thread.
  public func write(_ set: WriteSet, synced: Bool) throws(Fault) {
    let signal = Signal()
    let answer = Lock<CommitResult?>(nil)
    submit(set, synced: synced) { result in
      answer.withLock { $0 = result }
      signal.raise()
    }
    signal.wait()
    if case .failure(let fault)? = answer.withLock({ $0 }) { throw fault }
  }

  /// Runs `work` on a reader thread. Jobs may run side by side and in any order.
  public func read(_ work: @escaping @Sendable (Store) -> Void) {
    readers.add { [self] in work(self) }
  }

  /// Runs `work` on the one thread for long jobs (compaction, checkpoint, verification), in order.
  public func upkeep(_ work: @escaping @Sendable (Store) -> Void) {
    upkeepQueue.add { [self] in work(self) }
  }

  /// Finishes what was submitted and queued, flushes, syncs, and marks a clean end. The second call does
  /// nothing. The directory is free again when this returns.
  public func close() throws(Fault) {
    let first = closed.withLock { was in
      defer { was = true }
      return !was
    }
    guard first else { return }
    upkeepQueue.stop()
    readers.stop()
    try committer.stop()
    database.shut()
    directory.release()
  }

  /// Says so in the lock file, for a node that hands over.
  public func noteServing() { directory.noteServing() }

  /// After `close`: whether another process has opened the directory since (nil: none) and serves.
  public func successorServes() -> Bool? { directory.successorServes() }

  deinit {
    // An owner that forgot to close: stop the threads, leave the rest to the next open's recovery.
    if !closed.withLock({ $0 }) {
      upkeepQueue.stop()
      readers.stop()
      committer.abandon()
    }
  }
}

/// The steps from a directory to an open database.
struct Opening {
  let directory: DataDirectory
  let options: StoreOptions
  var notes: [String] = []

  init(directory: DataDirectory, options: StoreOptions) {
    self.directory = directory
    self.options = options
  }

  mutating func run() throws(Fault) -> Database {
    let head = try MarkFinding.read(directory.headMark)
    let synced = try MarkFinding.read(directory.syncMark)
    if directory.exists(directory.database + "/CURRENT") {
      if !options.acceptTornTail { try Manifest.check(directory.database) }
      try TableFiles.check(directory.database)
      // A look first: opening for writing would throw away what follows the damage.
      let seen = try look()
      try compare(seen, head: head, synced: synced)
    } else {
      try refuseLostDatabase(head, synced)
    }
    if let free = Volume(directory.path)?.free, free < Limits.storeOpenBytes {
      throw Fault(
        .diskFull,
        "\(directory.path): \(free) bytes free, and opening needs \(Limits.storeOpenBytes)")
    }
    do throws(RocksError) {
      let database = try Database.open(
        directory.database, options, directWrites: directory.takesDirectWrites())
      try stampFormat(database)
      return database
    } catch {
      throw opened(error)
    }
  }

  /// Recovered sequence of the database as it lies on disk; checks the format.
  private func look() throws(Fault) -> UInt64 {
    do throws(RocksError) {
      let database = try Database.look(directory.database, options)
      if let found = try database.value(.meta, key: Store.formatKey) {
        guard found.count == 4 else {
          throw RocksError(text: "Corruption: the format row is malformed")
        }
        let format = UInt32(bigEndianBytes: found)
        if format > Store.format { throw RocksError(text: Opening.newer(format)) }
      }
      return database.sequence
    } catch {
      throw opened(error)
    }
  }

  private static let newerText = "made by a newer Posthouse"
  private static func newer(_ format: UInt32) -> String {
    "\(newerText): format \(format), this program knows \(Store.format)"
  }

  private func opened(_ error: RocksError) -> Fault {
    if error.text.hasPrefix(Opening.newerText) {
      return Fault(.unimplemented, "\(directory.path) was \(error.text)")
    }
    var fault = error.fault
    if fault.code == .internal, error.text.hasPrefix("Invalid argument") {
      fault.code = .damaged
    }
    fault.detail = "\(directory.path) cannot be opened: \(fault.detail)"
    return fault
  }

  private mutating func compare(
    _ seen: UInt64, head: MarkFinding, synced: MarkFinding
  ) throws(Fault) {
    try compare(seen, to: synced, file: HeadMark.syncFile, what: "was synced") { _ in true }
    let boot = BootID.current()
    let device = directory.device
    try compare(seen, to: head, file: HeadMark.headFile, what: "was acknowledged") {
      $0.boot == boot && $0.device == device
    }
  }

  private mutating func compare(
    _ seen: UInt64, to finding: MarkFinding, file: String, what: String,
    counts: (HeadMark) -> Bool
  ) throws(Fault) {
    switch finding {
    case .missing, .damaged:
      let state = finding == .missing ? "is missing" : "is damaged"
      try refuse(
        "\(file) \(state), so nothing tells whether the database (at sequence \(seen)) is complete")
    case .found(let mark):
      guard seen < mark.sequence, counts(mark) else { return }
      try refuse(
        "the write-ahead log ends at sequence \(seen), before what \(what) (\(mark.sequence)): damage, not "
          + "a torn tail")
    }
  }

  private mutating func refuse(_ text: String) throws(Fault) {
    if options.acceptTornTail {
      notes.append("\(directory.path): \(text); accepted by --accept-torn-tail")
      return
    }
    throw Fault(
      .damaged,
      "\(directory.path): \(text). Restore a backup, or start once with --accept-torn-tail to give up what "
        + "is missing")
  }

  /// There is no CURRENT. Nothing was ever here, or the database is gone.
  private mutating func refuseLostDatabase(
    _ head: MarkFinding, _ synced: MarkFinding
  ) throws(Fault) {
    var lost = listDirectory(directory.database).contains { $0.hasSuffix(".sst") }
    for finding in [head, synced] {
      if case .found(let mark) = finding, mark.sequence > 0 { lost = true }
      if case .damaged = finding { lost = true }
    }
    guard lost else {
      if !options.createIfMissing {
        throw Fault(.notFound, "\(directory.path) holds no database")
      }
      // The marks stand before the database does, so that a database without marks is always damage.
      let mark = HeadMark(sequence: 0, boot: BootID.current(), device: directory.device)
      _ = try MarkFile(directory.headMark, mark)
      _ = try MarkFile(directory.syncMark, mark)
      try directory.sync()
      return
    }
    throw Fault(
      .damaged,
      "\(directory.path): the marks tell of a database, but \(directory.database)/CURRENT is missing. "
        + "Restore a backup")
  }

  private func stampFormat(_ database: Database) throws(RocksError) {
    guard try database.value(.meta, key: Store.formatKey) == nil else { return }
    guard database.sequence == 0 || options.acceptTornTail else {
      throw RocksError(text: "Corruption: the format row is missing")
    }
    var set = WriteSet()
    set.put(.meta, key: Store.formatKey, value: bigEndianBytes(Store.format))
    let batch = Batch()
    batch.add(set, to: database)
    try batch.write(to: database, synced: true)
  }
}
