public import Base
internal import Glibc

/// What an audit entry says. Holds no secret: a key is named by its id.
public struct AuditEntry: Sendable, Equatable {
  /// Who: `socket uid=1000`, `admin-token a1b2`, `key 7abc`.
  public var actor: String
  /// What: `tenant.create`, `key.revoke`.
  public var action: String
  /// To what: an org, a key id, a channel name.
  public var subject: String
  /// `done`, or the code of the fault.
  public var outcome: String
  public init(actor: String, action: String, subject: String, outcome: String) {
    self.actor = actor
    self.action = action
    self.subject = subject
    self.outcome = outcome
  }
}

/// An append-only file of JSON lines (mode 0600), one entry a line, each synced to disk before it
/// counts as written, each holding the hash of the line before: a removed or altered line shows.
///
/// Writing happens on a thread of its own. The chain proves order and completeness to whoever keeps
/// a recent hash elsewhere; who can write the file can also forge all of it.
public final class AuditLog: Sendable {
  /// 32 bytes from any: SHA-256, handed in because hashing is another room's.
  public typealias Hash = @Sendable ([UInt8]) -> [UInt8]
  /// Told on the audit thread whether the entry is on disk.
  public typealias Done = @Sendable (Bool) -> Void

  /// Entries waiting at most; beyond, `record` refuses and the admin call should too.
  public static let waitingEntries = 4_096

  private struct Waiting {
    var time: Instant
    var entry: AuditEntry
    var done: Done?
  }
  private struct State {
    var waiting: [Waiting] = []
    var stopped = false
    var failures = 0
  }

  public let path: String
  private let descriptor: Int32
  private let hash: Hash
  private let state = Lock(State())
  private let wake = Signal()
  private let thread = Lock<WorkerThread?>(nil)
  /// Touched by the audit thread only, after `init`.
  private let chain: Lock<Chain>

  private struct Chain {
    var sequence: UInt64
    var previous: String
  }

  /// Opens or makes the file and takes up its chain. A torn last line is kept, ended, and named by an
  /// entry `audit.repair`.
  public init(path: String, hash: @escaping Hash) throws(Fault) {
    let descriptor = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw Fault(.internal, "audit log \(path): \(String(cString: strerror(errno)))")
    }
    self.path = path
    self.descriptor = descriptor
    self.hash = hash
    let end = AuditTail.read(descriptor)
    chain = Lock(Chain(sequence: end.sequence, previous: end.hash))
    if end.tornBytes > 0 {
      var newline = UInt8(ascii: "\n")
      _ = write(descriptor, &newline, 1)
      record(
        AuditEntry(
          actor: "node", action: AuditLog.repair, subject: "\(end.tornBytes) bytes", outcome: "done"
        ))
    }
  }

  deinit { close(descriptor) }

  static let repair = "audit.repair"
  /// The `previous` of the first entry.
  static let genesis = String(repeating: "0", count: 64)

  /// Queues an entry. False when the queue is full or the log is closed: then nothing was recorded.
  @discardableResult
  public func record(_ entry: AuditEntry, done: Done? = nil) -> Bool {
    let time = Timestamp.now()
    let accepted = state.withLock { state -> Bool in
      guard !state.stopped, state.waiting.count < AuditLog.waitingEntries else { return false }
      state.waiting.append(Waiting(time: time, entry: entry, done: done))
      return true
    }
    guard accepted else { return false }
    thread.withLock { thread in
      if thread == nil { thread = WorkerThread(named: "audit") { [self] in run() } }
    }
    wake.raise()
    return true
  }

  /// Entries that could not be written since the start.
  public var failures: Int { state.withLock { $0.failures } }

  /// Writes what is waiting and ends the thread.
  public func stop() {
    state.withLock { $0.stopped = true }
    let running = thread.withLock { thread -> WorkerThread? in
      defer { thread = nil }
      return thread
    }
    wake.raise()
    running?.join()
  }

  private func run() {
    while true {
      wake.wait()
      let (batch, stopped) = state.withLock { state -> ([Waiting], Bool) in
        defer { state.waiting = [] }
        return (state.waiting, state.stopped)
      }
      for waiting in batch {
        let written = append(waiting)
        if !written { state.withLock { $0.failures += 1 } }
        waiting.done?(written)
      }
      if stopped { return }
    }
  }

  private func append(_ waiting: Waiting) -> Bool {
    chain.withLock { chain in
      let body = AuditLine.body(
        sequence: chain.sequence + 1, time: Timestamp.text(waiting.time), waiting.entry,
        previous: chain.previous)
      let digest = Text.hex(hash(body))
      let line = AuditLine.line(body, digest)
      let n = line.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if n != line.count {
        // A short write must not run into the next line.
        if n > 0 {
          var newline = UInt8(ascii: "\n")
          _ = write(descriptor, &newline, 1)
        }
        return false
      }
      guard fdatasync(descriptor) == 0 else { return false }
      chain.sequence += 1
      chain.previous = digest
      return true
    }
  }

  /// Reads the whole file and checks every line: the line numbers that are wrong, and why. Lines
  /// before an `audit.repair` entry that names them as torn are not faults.
  public static func verify(_ file: [UInt8], hash: Hash) -> [String] {
    var problems: [String] = []
    var previous = genesis
    var sequence: UInt64 = 0
    var torn: [Int] = []
    var number = 0
    for raw in file.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      number += 1
      if raw.isEmpty { continue }
      guard let parts = AuditLine.parse(Array(raw)) else {
        torn.append(number)
        continue
      }
      if Text.hex(hash(parts.body)) != parts.hash {
        problems.append("line \(number): altered, its hash does not match")
      }
      if parts.previous != previous || parts.sequence != sequence + 1 {
        problems.append(
          "line \(number): entry \(parts.sequence) does not follow entry \(sequence)")
      }
      if !torn.isEmpty, parts.action != repair {
        for line in torn { problems.append("line \(line): not an audit entry") }
      }
      torn = []
      previous = parts.hash
      sequence = parts.sequence
    }
    for line in torn { problems.append("line \(line): not an audit entry") }
    return problems
  }
}
