internal import Base
internal import Glibc

/// Copies plain files and directories, each synced; anything else (links, sockets) is refused, since no
/// backup of ours holds such.
struct DirectoryCopy {
  /// Names left out at the top.
  var skipped: Set<String>
  var progress: (UInt64) -> Void

  /// Bytes copied. `target` is made.
  func copy(_ source: String, to target: String) throws(Fault) -> UInt64 {
    var bytes: UInt64 = 0
    try directory(source, target, top: true, &bytes)
    return bytes
  }

  private func directory(
    _ source: String, _ target: String, top: Bool, _ bytes: inout UInt64
  ) throws(Fault) {
    guard unsafe mkdir(target, 0o700) == 0 else {
      throw DirectoryCopy.fault("cannot make \(target)")
    }
    for name in try DirectoryCopy.names(source) where !(top && skipped.contains(name)) {
      let from = source + "/" + name
      let to = target + "/" + name
      var facts = stat()
      guard unsafe lstat(from, &facts) == 0 else {
        throw DirectoryCopy.fault("cannot examine \(from)")
      }
      switch facts.st_mode & S_IFMT {
      case S_IFDIR: try directory(from, to, top: false, &bytes)
      case S_IFREG: try file(from, to, &bytes)
      default: throw Fault(.conflict, "\(from) is neither file nor directory")
      }
    }
    try DirectoryCopy.sync(target)
  }

  private func file(_ source: String, _ target: String, _ bytes: inout UInt64) throws(Fault) {
    let input = unsafe open(source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard input >= 0 else { throw DirectoryCopy.fault("cannot open \(source)") }
    defer { close(input) }
    let output = unsafe open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw DirectoryCopy.fault("cannot make \(target)") }
    defer { close(output) }
    var chunk = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let n = unsafe read(input, &chunk, chunk.count)
      if n < 0 {
        if errno == EINTR { continue }
        throw DirectoryCopy.fault("cannot read \(source)")
      }
      if n == 0 { break }
      var done = 0
      while done < n {
        let wrote = unsafe chunk.withUnsafeBytes {
          unsafe write(output, $0.baseAddress! + done, n - done)
        }
        if wrote < 0 && errno == EINTR { continue }
        guard wrote > 0 else { throw DirectoryCopy.fault("cannot write \(target)") }
        done += wrote
      }
      bytes += UInt64(n)
      progress(bytes)
    }
    guard fsync(output) == 0 else { throw DirectoryCopy.fault("cannot sync \(target)") }
  }

  // MARK: directories

  /// Names in a directory, sorted, without `.` and `..`.
  static func names(_ path: String) throws(Fault) -> [String] {
    guard let handle = unsafe opendir(path) else { throw fault("cannot read \(path)") }
    defer { unsafe closedir(handle) }
    var names: [String] = []
    while let entry = unsafe readdir(handle) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
        unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  static func sync(_ path: String) throws(Fault) {
    let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw fault("cannot open \(path)") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw fault("cannot sync \(path)") }
  }

  /// Removes what a copy made: files and directories below `path`.
  static func remove(_ path: String) {
    var facts = stat()
    guard unsafe lstat(path, &facts) == 0 else { return }
    guard facts.st_mode & S_IFMT == S_IFDIR else {
      unsafe unlink(path)
      return
    }
    for name in (try? names(path)) ?? [] { remove(path + "/" + name) }
    unsafe rmdir(path)
  }

  static func fault(_ what: String) -> Fault {
    let code: FaultCode = errno == ENOENT ? .notFound : errno == ENOSPC ? .diskFull : .internal
    return Fault(code, "\(what): \(unsafe String(cString: strerror(errno)))")
  }
}
