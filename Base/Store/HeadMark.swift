internal import Base
internal import Digest
internal import Glibc

/// How far the database had come, kept outside of it.
///
/// A write-ahead log that ends early looks the same whether its tail was never written or was damaged
/// later. The mark tells: `HEADMARK` is written after every commit and before anyone is answered, and
/// counts while the machine has not gone down since (the page cache survives kill -9); `SYNCMARK` is
/// fsync'ed after the log was, and counts always.
package struct HeadMark: Equatable {
  /// RocksDB's latest sequence number.
  package var sequence: UInt64
  /// Names the run of the kernel: pages not synced live until it ends.
  package var boot: BootID
  /// `st_dev` of the directory: another device cannot have this machine's unsynced pages.
  package var device: UInt64

  static let headFile = "HEADMARK"
  static let syncFile = "SYNCMARK"

  /// Two copies, a page apart so that no write tears both.
  static let copyAt: [off_t] = [0, 4096]
  static let copyBytes = 52
  private static let magic: UInt32 = 0x5048_4d4b  // PHMK
  private static let version: UInt32 = 1

  /// magic u32, version u32, sequence u64, boot (16), device u64, reserved u64, CRC-32C u32: big-endian.
  package var encoded: [UInt8] {
    var out = bigEndianBytes(HeadMark.magic) + bigEndianBytes(HeadMark.version)
    out += bigEndianBytes(sequence) + bigEndianBytes(boot.high) + bigEndianBytes(boot.low)
    out += bigEndianBytes(device) + bigEndianBytes(UInt64(0))
    return out + bigEndianBytes(crc32c(out))
  }

  /// nil when the copy is not whole.
  package init?(_ bytes: [UInt8]) {
    guard bytes.count == HeadMark.copyBytes else { return nil }
    let end = bytes.count - 4
    let sum = Array(bytes[end...])
    guard bigEndianBytes(crc32c(Array(bytes[..<end]))) == sum else { return nil }
    func word(_ at: Int) -> UInt64 { UInt64(bigEndianBytes: bytes[at..<at + 8]) }
    guard word(0) == UInt64(HeadMark.magic) << 32 | UInt64(HeadMark.version) else { return nil }
    self.init(sequence: word(8), boot: BootID(high: word(16), low: word(24)), device: word(32))
  }

  package init(sequence: UInt64, boot: BootID, device: UInt64) {
    self.sequence = sequence
    self.boot = boot
    self.device = device
  }
}

/// The kernel's boot id, hashed to 16 bytes.
package struct BootID: Equatable {
  package var high: UInt64
  package var low: UInt64

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Where the kernel tells none, every start counts as a boot of its own: only the synced mark counts.
  static func current() -> BootID {
    let fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return unknown() }
    defer { close(fd) }
    var text = [UInt8](repeating: 0, count: 64)
    let n = text.withUnsafeMutableBytes { read(fd, $0.baseAddress, $0.count) }
    guard n > 0 else { return unknown() }
    let hash = xxh3_128(Array(text[..<n]))
    return BootID(high: hash.high, low: hash.low)
  }

  private static func unknown() -> BootID {
    var t = timespec()
    clock_gettime(CLOCK_REALTIME, &t)
    return BootID(
      high: UInt64(bitPattern: Int64(t.tv_sec)), low: UInt64(bitPattern: Int64(t.tv_nsec)))
  }
}

/// What stands in a mark file.
enum MarkFinding: Equatable {
  case missing
  case damaged
  case found(HeadMark)

  /// The good copy with the larger sequence.
  static func read(_ path: String) throws(Fault) -> MarkFinding {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else {
      if errno == ENOENT { return .missing }
      throw systemFault("open", path)
    }
    defer { close(fd) }
    var best: HeadMark?
    for at in HeadMark.copyAt {
      var bytes = [UInt8](repeating: 0, count: HeadMark.copyBytes)
      let n = bytes.withUnsafeMutableBytes { pread(fd, $0.baseAddress, $0.count, at) }
      guard n == HeadMark.copyBytes, let mark = HeadMark(bytes) else { continue }
      if best == nil || best!.sequence < mark.sequence { best = mark }
    }
    return best.map { .found($0) } ?? .damaged
  }
}

/// A mark file open for writing. Overwrites in place: it needs no room on a full disk.
final class MarkFile: @unchecked Sendable {
  private let fd: Int32
  let path: String

  /// Makes the file when there is none, writes `mark`, and syncs it.
  init(_ path: String, _ mark: HeadMark) throws(Fault) {
    self.path = path
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard fd >= 0 else { throw systemFault("open", path) }
    guard write(mark), sync() else { throw systemFault("write", path) }
  }

  deinit { close(fd) }

  /// Both copies, into the page cache. False with errno set when it failed.
  func write(_ mark: HeadMark) -> Bool {
    mark.encoded.withUnsafeBytes { bytes in
      HeadMark.copyAt.allSatisfy { at in
        var n = pwrite(fd, bytes.baseAddress, bytes.count, at)
        while n < 0 && errno == EINTR { n = pwrite(fd, bytes.baseAddress, bytes.count, at) }
        return n == bytes.count
      }
    }
  }

  func sync() -> Bool { fdatasync(fd) == 0 }
}

/// A failed system call, with errno's text.
func systemFault(_ act: String, _ path: String) -> Fault {
  let code = errno
  let text = String(cString: strerror(code))
  return Fault(code == ENOSPC ? .diskFull : .internal, "cannot \(act) \(path): \(text)")
}
