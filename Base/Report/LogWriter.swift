internal import Glibc

/// A bounded queue of lines and the thread that writes them. A full queue drops the newest line and
/// counts it; the count is written as a line of its own as soon as there is room.
public final class LogWriter: Sendable {
  /// Bytes waiting at most: about ten thousand lines. More: the line is dropped and counted.
  public static let queueBytes = 2 << 20

  private struct State {
    var waiting: [UInt8] = []
    var dropped = 0
    var droppedAnnounced = 0
    var accepted: UInt64 = 0
    var written: UInt64 = 0
    var stopped = false
  }
  private let state = Lock(State())
  private let wake = Signal()
  private let sink: @Sendable (UnsafeRawBufferPointer) -> Void
  private let thread = Lock<WorkerThread?>(nil)

  /// Writes to a descriptor (2: stderr) that stays open as long as this lives.
  public convenience init(descriptor: Int32) {
    self.init { bytes in
      var done = 0
      while done < bytes.count {
        let n = writeSome(descriptor, bytes, done)
        if n > 0 {
          done += n
        } else if errno == EAGAIN {
          // A terminal shared with a program that made it non-blocking.
          var writable = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
          if poll(&writable, 1, 1_000) <= 0 { return }
        } else if errno != EINTR {
          return
        }
      }
    }
  }

  /// Writes to a function, called on the writer's thread with whole lines.
  public init(_ sink: @escaping @Sendable (UnsafeRawBufferPointer) -> Void) {
    self.sink = sink
  }

  public var droppedLines: Int { state.withLock { $0.dropped } }

  func submit(_ line: [UInt8]) {
    let start = state.withLock { state -> Bool in
      if state.stopped || state.waiting.count + line.count > LogWriter.queueBytes {
        state.dropped += 1
        return false
      }
      state.waiting.append(contentsOf: line)
      state.accepted += 1
      return true
    }
    guard start else { return }
    startIfNeeded()
    wake.raise()
  }

  /// The thread starts with the first line, so that a logger that never speaks costs none.
  private func startIfNeeded() {
    thread.withLock { thread in
      if thread == nil { thread = WorkerThread(named: "log") { [self] in run() } }
    }
  }

  func flush(milliseconds: Int) -> Bool {
    let target = state.withLock { $0.accepted }
    var waited = 0
    while state.withLock({ $0.written < target }) {
      if waited >= milliseconds { return false }
      usleep(1_000)
      waited += 1
    }
    return true
  }

  /// Writes what is waiting and ends the thread. Later lines are dropped and counted.
  public func stop() {
    state.withLock { $0.stopped = true }
    wake.raise()
    let running = thread.withLock { thread -> WorkerThread? in
      defer { thread = nil }
      return thread
    }
    running?.join()
  }

  private func run() {
    while true {
      wake.wait()
      let (bytes, upTo, lost, stopped) = state.withLock {
        state -> ([UInt8], UInt64, Int, Bool) in
        let bytes = state.waiting
        state.waiting = []
        let lost = state.dropped - state.droppedAnnounced
        state.droppedAnnounced = state.dropped
        return (bytes, state.accepted, lost, state.stopped)
      }
      if !bytes.isEmpty { bytes.withUnsafeBytes { sink($0) } }
      if lost > 0 {
        var line = Array(
          "{\"time\":\"\(Timestamp.text(Timestamp.now()))\",\"level\":\"warn\",".utf8)
        line += Array(
          "\"message\":\"log lines dropped, the queue was full\",\"lines\":\(lost)}\n".utf8)
        line.withUnsafeBytes { sink($0) }
      }
      state.withLock { $0.written = upTo }
      if stopped { return }
    }
  }
}

private func writeSome(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, _ from: Int) -> Int {
  guard let base = bytes.baseAddress else { return 0 }
  return write(descriptor, base + from, bytes.count - from)
}

extension LogFormat {
  /// Text on a terminal, JSON elsewhere; colour unless `NO_COLOR` is set (no-color.org).
  public static func automatic(descriptor: Int32 = 2) -> LogFormat {
    guard isatty(descriptor) == 1 else { return .json }
    let noColor = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
    return .text(color: !noColor)
  }
}
