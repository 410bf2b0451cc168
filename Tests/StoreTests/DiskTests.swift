import Base
import Glibc
import Report
import Store
import Testing

/// A disk that is full or fails. Needs root for a small file system; says so where it is not.
@Suite(.timeLimit(.minutes(3)), .serialized) struct DiskTests {
  static let isRoot = geteuid() == 0

  /// Mounts a tmpfs of so many megabytes over `path` for the time of `body`.
  private func withVolume(_ path: String, megabytes: Int, _ body: () throws -> Void) throws {
    try #require(mkdir(path, 0o700) == 0)
    try #require(
      mount("posthouse-test", path, "tmpfs", 0, "size=\(megabytes)m") == 0, "tmpfs not mounted")
    defer { umount2(path, Int32(MNT_DETACH)) }
    try body()
  }

  private func fill(_ path: String, leaving bytes: Int) throws {
    var facts = statvfs()
    try #require(statvfs(path, &facts) == 0)
    let free = Int(facts.f_bavail) * Int(facts.f_frsize)
    let fd = open(path + "/ballast", O_WRONLY | O_CREAT, 0o600)
    try #require(fd >= 0)
    defer { close(fd) }
    try #require(posix_fallocate(fd, 0, off_t(max(free - bytes, 1))) == 0)
  }

  /// nil: written.
  private func outcome(_ store: Store, _ set: WriteSet, synced: Bool = false) -> Fault? {
    do throws(Fault) {
      try store.write(set, synced: synced)
      return nil
    } catch {
      return error
    }
  }

  @Test(
    "Below disk.min_free writes are refused, reads and reclaiming go on, and it recovers by itself",
    .enabled(if: isRoot, "SKIPPED: needs root to mount a small file system"))
  func minFree() throws {
    let scratch = try Scratch()
    let volume = scratch.path + "/volume"
    try withVolume(volume, megabytes: 64) {
      let store = try Store(path: volume + "/data", options: small { $0.minFreeBytes = 16 << 20 })
      for n in 0..<100 { try store.write(set(n), synced: false) }
      #expect(store.writeTrouble() == nil)
      try fill(volume, leaving: 8 << 20)
      let fault = outcome(store, set(100))
      #expect(fault?.code == .diskFull && fault?.detail.contains("disk.min_free") == true)
      #expect(store.writeTrouble()?.code == .diskFull)
      for n in 0..<100 { #expect(try store.get(.state, key: key(n)) == value(n)) }
      #expect(try store.get(.state, key: key(100)) == nil)
      let reclaimed = Lock<CommitResult?>(nil)
      var less = WriteSet()
      less.delete(.state, key: key(0))
      store.submit(less, synced: false, reclaims: true) { result in
        reclaimed.withLock { $0 = result }
      }
      #expect(eventually { reclaimed.withLock { $0 } != nil })
      #expect(try store.get(.state, key: key(0)) == nil)
      unlink(volume + "/ballast")
      #expect(outcome(store, set(100)) == nil)
      #expect(store.writeTrouble() == nil)
      try store.close()
    }
  }

  @Test(
    "Behind a refused write of its chain nothing is written, not even what frees space, until it is mended",
    .enabled(if: isRoot, "SKIPPED: needs root to mount a small file system"))
  func chains() throws {
    let scratch = try Scratch()
    let volume = scratch.path + "/volume"
    try withVolume(volume, megabytes: 64) {
      let store = try Store(path: volume + "/data", options: small { $0.minFreeBytes = 16 << 20 })
      try fill(volume, leaving: 8 << 20)
      let chain = WriteChain()
      let answers = Lock<[FaultCode?]>([])
      func submit(_ n: Int, reclaims: Bool, _ chain: WriteChain?) {
        store.submit(set(n), synced: false, reclaims: reclaims, chain: chain) { result in
          var code: FaultCode?
          if case .failure(let fault) = result { code = fault.code }
          answers.withLock { $0.append(code) }
        }
      }
      submit(1, reclaims: true, chain)
      submit(2, reclaims: false, chain)
      submit(3, reclaims: true, chain)
      submit(4, reclaims: true, nil)
      #expect(eventually { answers.withLock { $0.count } == 4 })
      #expect(answers.withLock { $0 } == [nil, .diskFull, .unavailable, nil])
      for n in 1...4 {
        #expect(try store.get(.state, key: key(n)) == (n == 1 || n == 4 ? value(n) : nil))
      }
      unlink(volume + "/ballast")
      submit(5, reclaims: false, chain)
      #expect(eventually { answers.withLock { $0.count } == 5 })
      #expect(answers.withLock { $0.last } == .unavailable)
      chain.mend()
      submit(6, reclaims: false, chain)
      #expect(eventually { answers.withLock { $0.count } == 6 })
      #expect(try store.get(.state, key: key(6)) == value(6))
      try store.close()
    }
  }

  @Test(
    "When the disk is full all the same, nothing answered is lost and writing recovers",
    .enabled(if: isRoot, "SKIPPED: needs root to mount a small file system"))
  func noSpace() throws {
    let scratch = try Scratch()
    let volume = scratch.path + "/volume"
    try withVolume(volume, megabytes: 48) {
      // Syncing all the time: it must not trip over a log whose last write failed.
      let options = small {
        $0.onFatal = { line in Issue.record("fatal: \(line)") }
        $0.syncEveryMilliseconds = 1
      }
      var answered: [Int] = []
      var next = 0
      do {
        let store = try Store(path: volume + "/data", options: options)
        try fill(volume, leaving: 8 << 20)
        var refused: Fault?
        while refused == nil, next < 5_000 {
          refused = outcome(store, set(next, bytes: 8_000), synced: next % 50 == 0)
          if refused == nil { answered.append(next) }
          next += 1
        }
        #expect(refused?.code == .diskFull, "\(String(describing: refused))")
        #expect(store.writeTrouble()?.code == .diskFull)
        for n in answered { #expect(try store.get(.state, key: key(n)) == value(n, bytes: 8_000)) }
        unlink(volume + "/ballast")
        // RocksDB looks for room every few seconds.
        let recovered = eventually(seconds: 60) {
          let result = outcome(store, set(next, bytes: 8_000))
          if result == nil { answered.append(next) }
          next += 1
          return result == nil
        }
        #expect(recovered)
        #expect(store.writeTrouble() == nil)
        for _ in 0..<100 {
          #expect(outcome(store, set(next, bytes: 8_000), synced: true) == nil)
          answered.append(next)
          next += 1
        }
        // As kill -9 would leave it.
        try copyLiveTree(volume + "/data", scratch.path + "/killed")
        try store.close()
      }
      for path in [volume + "/data", scratch.path + "/killed"] {
        let store = try Store(path: path, options: options)
        for n in answered {
          #expect(try store.get(.state, key: key(n)) == value(n, bytes: 8_000), "\(path): row \(n)")
        }
        try store.close()
      }
    }
  }

  @Test(
    "A kill while the disk is full loses nothing that was answered",
    .enabled(if: isRoot, "SKIPPED: needs root to mount a small file system"))
  func killedWhenFull() throws {
    let scratch = try Scratch()
    let volume = scratch.path + "/volume"
    try withVolume(volume, megabytes: 48) {
      // Syncing all the time: it must not trip over a log whose last write failed.
      let options = small {
        $0.onFatal = { line in Issue.record("fatal: \(line)") }
        $0.syncEveryMilliseconds = 1
      }
      let store = try Store(path: volume + "/data", options: options)
      try fill(volume, leaving: 6 << 20)
      var answered = 0
      while answered < 5_000, outcome(store, set(answered, bytes: 8_000)) == nil { answered += 1 }
      #expect(answered < 5_000)
      try copyLiveTree(volume + "/data", scratch.path + "/killed")
      let copy = try Store(path: scratch.path + "/killed", options: options)
      for n in 0..<answered {
        #expect(try copy.get(.state, key: key(n)) == value(n, bytes: 8_000), "row \(n)")
      }
      try copy.close()
      unlink(volume + "/ballast")
    }
  }

  @Test("A write that fails for another reason ends the process with a clear line, never retried")
  func fatal() async throws {
    let scratch = try Scratch()
    let data = scratch.data
    let result = await #expect(
      processExitsWith: .exitCode(74), observing: [\.standardErrorContent]
    ) { [data = data as String] in
      let store = try Store(path: data, options: small())
      try store.write(set(0), synced: true)
      // A file may not grow any more: write(2) fails with EFBIG, which is neither space nor damage.
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 64 << 10, rlim_max: 64 << 10)
      setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
      for n in 0..<100 { try? store.write(set(n, bytes: 8_000), synced: true) }
      exit(1)
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("what is on disk is unknown; not retried"), "\(text)")
  }

  @Test("With a handler that returns, every later write is refused")
  func fatalHandler() async throws {
    let scratch = try Scratch()
    let data = scratch.data
    await #expect(processExitsWith: .success) { [data = data as String] in
      let lines = Lock<[String]>([])
      let options = small { $0.onFatal = { line in lines.withLock { $0.append(line) } } }
      let store = try Store(path: data, options: options)
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 64 << 10, rlim_max: 64 << 10)
      setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
      var refused = 0
      for n in 0..<100 {
        do throws(Fault) {
          try store.write(set(n, bytes: 8_000), synced: false)
          if refused > 0 { exit(2) }
        } catch {
          if error.code != .internal { exit(3) }
          refused += 1
        }
      }
      guard refused > 80, lines.withLock({ $0.count }) == 1 else { exit(4) }
      guard store.writeTrouble()?.code == .internal else { exit(5) }
    }
  }
}
