import Base
import Glibc
import Report
import Store
import Testing

/// A directory of a test's own, removed with everything in it.
struct Scratch: ~Copyable {
  let path: String

  init(in parent: String = "/tmp") throws {
    var template = Array("\(parent)/posthouse-store-XXXXXX".utf8CString)
    let made = mkdtemp(&template).map { String(cString: $0) }
    path = try #require(made, "no scratch directory in \(parent)")
  }

  deinit { removeTree(path) }

  /// Where a test's store lives.
  var data: String { path + "/data" }
}

func entries(_ path: String) -> [String] {
  guard let handle = opendir(path) else { return [] }
  defer { closedir(handle) }
  var names: [String] = []
  while let entry = readdir(handle) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if name != "." && name != ".." { names.append(name) }
  }
  return names.sorted()
}

func isDirectory(_ path: String) -> Bool {
  var facts = stat()
  return lstat(path, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR
}

func removeTree(_ path: String) {
  if isDirectory(path) {
    for name in entries(path) { removeTree(path + "/" + name) }
    rmdir(path)
  } else {
    unlink(path)
  }
}

func readFile(_ path: String) throws -> [UInt8] { try #require(contents(path), "\(path)") }

/// nil: there is no such file, or it cannot be read.
func contents(_ path: String) -> [UInt8]? {
  let fd = open(path, O_RDONLY)
  guard fd >= 0 else { return nil }
  defer { close(fd) }
  var out: [UInt8] = []
  var part = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let n = part.withUnsafeMutableBytes { read(fd, $0.baseAddress, $0.count) }
    if n <= 0 { return n == 0 ? out : nil }
    out += part[..<n]
  }
}

func writeFile(_ path: String, _ bytes: [UInt8]) throws {
  let fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
  try #require(fd >= 0, "\(path)")
  defer { close(fd) }
  var done = 0
  while done < bytes.count {
    let n = bytes.withUnsafeBytes { write(fd, $0.baseAddress! + done, $0.count - done) }
    try #require(n > 0)
    done += n
  }
}

/// Copies a directory as it lies.
func copyTree(_ from: String, _ to: String) throws {
  if isDirectory(from) {
    try #require(mkdir(to, 0o700) == 0, "\(to)")
    for name in entries(from) { try copyTree(from + "/" + name, to + "/" + name) }
  } else {
    try writeFile(to, try readFile(from))
  }
}

/// Copies the directory of an open store that nobody writes to, as kill -9 at one moment would leave
/// it. RocksDB still makes and removes files by itself, so it is read until two readings in a row
/// agree: between them everything stood there at once.
func copyLiveTree(_ from: String, _ to: String) throws {
  var image: [String: [UInt8]] = [:]
  let still = eventually {
    let before = image
    image = [:]
    for file in files(from) {
      image[file] = contents(from + file)
      if image[file] == nil { return false }
    }
    return image == before
  }
  try #require(still, "\(from) keeps changing")
  try #require(mkdir(to, 0o700) == 0, "\(to)")
  for (file, bytes) in image {
    for (at, byte) in file.utf8.enumerated() where byte == UInt8(ascii: "/") && at > 0 {
      mkdir(to + String(file.utf8.prefix(at))!, 0o700)
    }
    try writeFile(to + file, bytes)
  }
}

/// All files under a directory, as paths below it.
func files(_ path: String, _ below: String = "") -> [String] {
  entries(path + below).flatMap { name -> [String] in
    let here = below + "/" + name
    return isDirectory(path + here) ? files(path, here) : [here]
  }
}

func key(_ n: Int) -> [UInt8] { bigEndianBytes(UInt64(n)) }

/// A value that tells where it belongs: a wrong one can be recognised.
func value(_ n: Int, bytes: Int = 100) -> [UInt8] {
  (0..<bytes).map { UInt8(truncatingIfNeeded: n &* 131 &+ $0 &* 7) }
}

func set(_ n: Int, _ table: Table = .state, bytes: Int = 100) -> WriteSet {
  var set = WriteSet()
  set.put(table, key: key(n), value: value(n, bytes: bytes))
  return set
}

/// Options for tests: no check of free space, little memory.
func small(_ change: (inout StoreOptions) -> Void = { _ in }) -> StoreOptions {
  var options = StoreOptions()
  options.minFreeBytes = 0
  options.blockCacheBytes = 4 << 20
  options.memtableBytes = 1 << 20
  change(&options)
  return options
}

/// Waits for `ready`, at most `seconds`.
func eventually(seconds: Int = 20, _ ready: () throws -> Bool) rethrows -> Bool {
  for _ in 0..<(seconds * 100) {
    if try ready() { return true }
    usleep(10_000)
  }
  return try ready()
}
