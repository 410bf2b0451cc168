public import Base
internal import COpenSSL
internal import Glibc

/// Small files for the owner's eyes: mode 0600, replaced as a whole, on disk before the call returns.
public enum PrivateFile {
  /// Writes beside the file, syncs, renames over it, syncs the directory.
  public static func write(_ path: String, _ bytes: [UInt8]) throws(Fault) {
    let beside = path + ".new"
    unlink(beside)
    let fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard fd >= 0 else { throw failure("create", beside) }
    var done = 0
    while done < bytes.count {
      let n = bytes.withUnsafeBytes { Glibc.write(fd, $0.baseAddress! + done, $0.count - done) }
      if n < 0 && errno == EINTR { continue }
      guard n > 0 else {
        let fault = failure("write", beside)
        close(fd)
        unlink(beside)
        throw fault
      }
      done += n
    }
    guard fsync(fd) == 0 else {
      let fault = failure("sync", beside)
      close(fd)
      unlink(beside)
      throw fault
    }
    close(fd)
    guard rename(beside, path) == 0 else { throw failure("replace", path) }
    try syncDirectory(of: path)
  }

  /// The same for what must not stay in memory: the copy that is written is wiped.
  public static func write(_ path: String, _ secret: Secret) throws(Fault) {
    var bytes = secret.withUnsafeBytes { [UInt8]($0) }
    defer { OPENSSL_cleanse(&bytes, bytes.count) }
    try write(path, bytes)
  }

  /// nil when there is no such file. Refuses a file that others can read, and one over `limit` bytes.
  public static func read(_ path: String, limit: Int) throws(Fault) -> [UInt8]? {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else {
      if errno == ENOENT { return nil }
      throw failure("open", path)
    }
    defer { close(fd) }
    var facts = stat()
    guard fstat(fd, &facts) == 0 else { throw failure("examine", path) }
    guard facts.st_mode & 0o077 == 0 else {
      throw Fault(.internal, "\(path) can be read by others; run: chmod 600 \(path)")
    }
    guard facts.st_size <= limit else {
      throw Fault(.damaged, "\(path) has \(facts.st_size) bytes, more than \(limit)")
    }
    var bytes = [UInt8](repeating: 0, count: Int(facts.st_size))
    var done = 0
    while done < bytes.count {
      let n = bytes.withUnsafeMutableBytes {
        Glibc.read(fd, $0.baseAddress! + done, $0.count - done)
      }
      if n < 0 && errno == EINTR { continue }
      guard n > 0 else { throw failure("read", path) }
      done += n
    }
    return bytes
  }

  static func syncDirectory(of path: String) throws(Fault) {
    let cut = path.lastIndex(of: "/")
    let directory = cut.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard fd >= 0 else { throw failure("open", directory) }
    defer { close(fd) }
    guard fsync(fd) == 0 else { throw failure("sync", directory) }
  }

  private static func failure(_ act: String, _ path: String) -> Fault {
    let code = errno
    let text = String(cString: strerror(code))
    return Fault(code == ENOSPC ? .diskFull : .internal, "cannot \(act) \(path): \(text)")
  }
}
