import Glibc

/// Starts a child for each decoder, watches it, and says how it went.
final class Parent {
  private struct Running {
    let type: any FuzzTarget.Type
    let pid: pid_t
    let progress: Progress
    let log: Int32
    let began: Double
    var last: (number: UInt64, since: Double)
    var hung = false
  }

  struct Verdict {
    var name: String
    var passed: Bool
    var line: String
  }

  private let options: Options
  private var waiting: [any FuzzTarget.Type]
  private var running: [Running] = []
  private(set) var verdicts: [Verdict] = []
  private var shown = monotonicSeconds()

  init(_ options: Options, _ targets: [any FuzzTarget.Type]) {
    self.options = options
    waiting = targets
  }

  /// Runs everything.
  func run() {
    while !waiting.isEmpty || !running.isEmpty {
      while running.count < options.jobs, !waiting.isEmpty { start(waiting.removeFirst()) }
      usleep(20_000)
      for i in running.indices.reversed() { look(i) }
      show()
    }
  }

  // MARK: one child

  private func start(_ type: any FuzzTarget.Type) {
    let page = Progress.file()
    let log = Progress.file()
    guard page >= 0, log >= 0, ftruncate(log, 0) == 0, let progress = Progress(page) else {
      return finish(type.name, false, "cannot be started: \(String(cString: strerror(errno)))")
    }
    defer { close(page) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, log, 1)
    posix_spawn_file_actions_adddup2(&actions, log, 2)
    posix_spawn_file_actions_adddup2(&actions, page, Progress.descriptor)
    let arguments = [
      "fuzz", "--child", "--decoder", type.name, "--count", "\(options.count)", "--seed",
      "\(options.seed)",
      "--seconds", "\(options.seconds)",
    ]
    var argv = arguments.map { strdup($0) } + [nil]
    defer { for case let text? in argv { free(text) } }
    // No backtrace: it takes seconds, and the replay shows one.
    setenv("SWIFT_BACKTRACE", "enable=no", 1)
    var pid: pid_t = 0
    let failed = posix_spawn(&pid, "/proc/self/exe", &actions, nil, &argv, environ)
    guard failed == 0 else {
      return finish(type.name, false, "cannot be started: \(String(cString: strerror(failed)))")
    }
    let now = monotonicSeconds()
    running.append(
      Running(type: type, pid: pid, progress: progress, log: log, began: now, last: (0, now)))
  }

  private func look(_ i: Int) {
    var status: Int32 = 0
    let now = monotonicSeconds()
    guard waitpid(running[i].pid, &status, WNOHANG) == running[i].pid else {
      let number = running[i].progress[.current]
      if number != running[i].last.number {
        running[i].last = (number, now)
      } else if now - running[i].last.since > Double(options.hangSeconds), !running[i].hung {
        running[i].hung = true
        kill(running[i].pid, SIGKILL)
      }
      return
    }
    let child = running.remove(at: i)
    defer {
      child.progress.close()
      close(child.log)
    }
    report(child, status, now - child.began)
  }

  private func report(_ child: Running, _ status: Int32, _ seconds: Double) {
    let name = child.type.name
    let done = child.progress[.done]
    let share = Double(child.progress[.accepted]) * 100 / Double(max(done, 1))
    let facts =
      "\(grouped(done)) inputs in \(tenths(seconds)) s (\(grouped(UInt64(Double(done) / max(seconds, 0.001))))/s), "
      + "\(tenths(share)) % accepted, peak \(child.progress[.peak] >> 10) MiB"
    let signal = status & 0x7f
    let code = (status >> 8) & 0xff
    if signal == 0, code == 0 {
      // Too few accepted inputs prove little: the seeds or the decoder are not what they were.
      let wanted = UInt64(child.type.wantedShare) * done / 1_000_000
      if done >= 10_000, child.progress[.accepted] < wanted {
        return finish(name, false, facts + ": too few accepted")
      }
      return finish(name, true, facts)
    }
    let why =
      child.hung
      ? "HANG: more than \(options.hangSeconds) s for one input"
      : signal != 0 ? "DIED of signal \(signal)" : code == Child.Exit.memory ? "MEMORY" : "WRONG"
    let number = child.progress[.current]
    let text = tail(child.log)
    finish(
      name, false,
      "\(why), input \(number) of seed \(options.seed)" + (text.isEmpty ? "" : ": " + text)
        + "\n     replay: ops/dev/fuzz --decoder \(name) --seed \(options.seed) --at \(number)")
  }

  /// The end of what a child wrote.
  private func tail(_ fd: Int32) -> String {
    let size = lseek(fd, 0, SEEK_END)
    var bytes = [UInt8](repeating: 0, count: 2000)
    let n = pread(fd, &bytes, bytes.count, max(0, size - 2000))
    var text = String(decoding: bytes.prefix(max(0, n)), as: UTF8.self)
    while text.last == "\n" { text.removeLast() }
    return text
  }

  // MARK: what is shown

  private func finish(_ name: String, _ passed: Bool, _ facts: String) {
    let line = "\(passed ? "PASS" : "FAIL") \(name): \(facts)"
    verdicts.append(Verdict(name: name, passed: passed, line: line))
    print(line)
    fflush(nil)
  }

  private func show() {
    let now = monotonicSeconds()
    guard now - shown >= 15 else { return }
    shown = now
    for child in running {
      let done = child.progress[.done]
      let speed = UInt64(Double(done) / max(now - child.began, 0.001))
      print(
        "     \(child.type.name): \(grouped(done)) of \(grouped(options.count)), \(grouped(speed))/s"
      )
    }
    fflush(nil)
  }

  private func tenths(_ value: Double) -> String {
    let n = Int((value * 10).rounded())
    return "\(n / 10).\(n % 10)"
  }

  private func grouped(_ n: UInt64) -> String {
    var out = ""
    for (i, digit) in String(n).reversed().enumerated() {
      if i > 0, i % 3 == 0 { out.append(",") }
      out.append(digit)
    }
    return String(out.reversed())
  }
}
