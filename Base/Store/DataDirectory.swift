internal import Base
internal import Glibc
internal import Report

/// The directory a store lives in, locked for one process: `db/` (RocksDB), the mark files, `LOCK`.
final class DataDirectory: @unchecked Sendable {
  let path: String
  var database: String { path + "/db" }
  var headMark: String { path + "/" + HeadMark.headFile }
  var syncMark: String { path + "/" + HeadMark.syncFile }
  let device: UInt64
  private let lock: Int32

  /// Makes the directory when asked, and takes the lock. The kernel drops it with the process. `whenHeld` comes before
  /// the first write, which may wait for a disk that is busy with what the process before left.
  init(
    _ path: String, create: Bool, whenInUse: (@Sendable (String) -> Bool)? = nil,
    whenHeld: (@Sendable () -> Void)? = nil
  ) throws(Fault) {
    self.path = path
    if create {
      guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
        let parent = path.split(separator: "/").dropLast().joined(separator: "/")
        if errno == ENOENT {
          throw Fault(
            .badSetting,
            "data = \(path): the directory it should be in, "
              + "\(path.hasPrefix("/") ? "/" : "")\(parent), is not there")
        }
        throw systemFault("create", path)
      }
    }
    var facts = stat()
    guard stat(path, &facts) == 0 else {
      if errno == ENOENT { throw Fault(.notFound, "there is no data directory \(path)") }
      throw systemFault("examine", path)
    }
    guard facts.st_mode & S_IFMT == S_IFDIR else {
      throw Fault(.badSetting, "data = \(path) is a file, not a directory")
    }
    device = UInt64(facts.st_dev)
    let name = path + "/LOCK"
    lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard lock >= 0 else { throw systemFault("open", name) }
    if flock(lock, LOCK_EX | LOCK_NB) != 0 {
      let busy = errno == EWOULDBLOCK
      let fault = systemFault("lock", name)
      guard busy, let whenInUse, DataDirectory.wait(for: lock, whenInUse) else {
        let holder = DataDirectory.holder(lock)
        close(lock)
        guard busy else { throw fault }
        throw Fault(
          .conflict, "\(path) is in use by another process\(holder); a data directory has one node")
      }
    }
    whenHeld?()
    run = String(UInt64.random(in: 0...UInt64.max), radix: 16)
    note("")
  }

  /// Whether files here can be written past the page cache (O_DIRECT, open(2)): tmpfs and some network file systems
  /// cannot.
  func takesDirectWrites() -> Bool {
    let name = path + "/.direct"
    let file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | DataDirectory.direct, 0o600)
    if file < 0 { return false }
    defer {
      close(file)
      unlink(name)
    }
    let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
    defer { page.deallocate() }
    page.initializeMemory(as: UInt8.self, repeating: 0)
    return write(file, page.baseAddress, page.count) == page.count
  }

  /// The header hides it behind _GNU_SOURCE; the value differs between architectures.
  private static var direct: Int32 {
    #if arch(arm64)
      0o200000
    #else
      0o40000
    #endif
  }

  /// Has the lock when it returns true. The kernel wakes a thread that waits for it the moment it is free, which
  /// polling would find out milliseconds later; apps that connect anew are waiting by then. When nobody wants to
  /// wait any more that thread stays behind until the lock is free, and lets go of it: the file is closed.
  private static func wait(
    for lock: Int32, _ goOn: @escaping @Sendable (String) -> Bool
  ) -> Bool {
    let signal = Signal()
    _ = WorkerThread(named: "lock") {
      // Signals go to other threads: nothing interrupts it.
      if flock(lock, LOCK_EX) == 0 { signal.raise() }
    }
    while !signal.wait(milliseconds: 5) {
      if !goOn(holder(lock)) { return false }
    }
    return true
  }

  /// Tells this opening of the directory from every other.
  private let run: String

  /// What the lock file says: `PID RUN`, and ` serving` once that is so.
  private func note(_ more: String) {
    let text = Array("\(getpid()) \(run)\(more)\n".utf8)
    _ = ftruncate(lock, 0)
    _ = text.withUnsafeBytes { pwrite(lock, $0.baseAddress, $0.count, 0) }
  }

  /// For who had the directory before and waits for the next.
  func noteServing() { note(" serving") }

  /// Who has the directory now, if it is not this one: nil, or whether it serves yet. After `release`.
  func successorServes() -> Bool? {
    guard let bytes = try? readWhole(path + "/LOCK", limit: 256) else { return nil }
    let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
    guard words.count >= 2, words[1] != run else { return nil }
    return words.count > 2
  }

  deinit { release() }

  private let released = Lock(false)

  /// Frees the directory for another process.
  func release() {
    let first = released.withLock { was in
      defer { was = true }
      return !was
    }
    if first { close(lock) }
  }

  private static func holder(_ fd: Int32) -> String {
    var text = [UInt8](repeating: 0, count: 16)
    let n = text.withUnsafeMutableBytes { pread(fd, $0.baseAddress, $0.count, 0) }
    let digits = text.prefix(max(n, 0)).prefix { (0x30...0x39).contains($0) }
    return digits.isEmpty ? "" : " (pid \(String(decoding: digits, as: UTF8.self)))"
  }

  func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  func sync() throws(Fault) { try syncDirectory(path) }
}

func syncDirectory(_ path: String) throws(Fault) {
  let fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard fd >= 0 else { throw systemFault("open", path) }
  defer { close(fd) }
  guard fsync(fd) == 0 else { throw systemFault("sync", path) }
}

/// Names of a directory's entries, without the dotted ones.
func listDirectory(_ path: String) -> [String] {
  guard let handle = opendir(path) else { return [] }
  defer { closedir(handle) }
  var names: [String] = []
  while let entry = readdir(handle) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if !name.hasPrefix(".") { names.append(name) }
  }
  return names
}

/// The whole of a file, nil when it is missing. `limit` in bytes.
func readWhole(_ path: String, limit: Int) throws(Fault) -> [UInt8]? {
  let fd = open(path, O_RDONLY | O_CLOEXEC)
  guard fd >= 0 else {
    if errno == ENOENT { return nil }
    throw systemFault("open", path)
  }
  defer { close(fd) }
  var facts = stat()
  guard fstat(fd, &facts) == 0 else { throw systemFault("examine", path) }
  guard facts.st_size <= limit else {
    throw Fault(.damaged, "\(path) has \(facts.st_size) bytes, more than \(limit)")
  }
  var bytes = [UInt8](repeating: 0, count: Int(facts.st_size))
  var done = 0
  while done < bytes.count {
    let n = bytes.withUnsafeMutableBytes { read(fd, $0.baseAddress! + done, $0.count - done) }
    if n < 0 && errno == EINTR { continue }
    guard n > 0 else { throw systemFault("read", path) }
    done += n
  }
  return bytes
}
