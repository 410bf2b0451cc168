internal import Base

/// Looks at the framing of RocksDB's manifest before RocksDB does.
///
/// RocksDB takes a last record that claims to go on after the end of the file for one whose writer died,
/// and drops it without a word: one flipped bit of a length field would forget a whole table. A real tear
/// ends where a page ends, because the kernel takes a write page by page; anything else is damage.
enum Manifest {
  private static let blockBytes = 32 << 10
  private static let headBytes = 7
  private static let pageBytes = 4 << 10
  /// Bytes of a manifest at most; the store sets a far smaller bound for rolling it.
  private static let fileBytes = 1 << 30

  /// `database` is RocksDB's directory.
  static func check(_ database: String) throws(Fault) {
    guard let current = try readWhole(database + "/CURRENT", limit: 4096) else { return }
    guard current.last == 0x0a, current.starts(with: Array("MANIFEST-".utf8)) else {
      throw Fault(.damaged, "file CURRENT is damaged: it names no manifest")
    }
    let name = String(decoding: current.dropLast(), as: UTF8.self)
    guard let bytes = try readWhole(database + "/" + name, limit: fileBytes) else {
      throw Fault(.damaged, "file CURRENT is damaged or \(name) is missing")
    }
    guard isTorn(bytes), bytes.count % pageBytes != 0 || bytes.isEmpty else { return }
    throw Fault(
      .damaged,
      "file \(name) is damaged: its last record ends before the length it claims, and not where a torn "
        + "write would end")
  }

  /// True when the last record is not whole.
  static func isTorn(_ bytes: [UInt8]) -> Bool {
    var at = 0
    var inside = false
    while at < bytes.count {
      let left = blockBytes - at % blockBytes
      if left < headBytes {
        at += left
        continue
      }
      guard bytes.count - at >= headBytes else { return true }
      let length = Int(bytes[at + 4]) | Int(bytes[at + 5]) << 8
      let type = bytes[at + 6]
      if type == 0 && length == 0 {
        // Filler: the rest of the block is skipped.
        at += left
        continue
      }
      // A length over the block is reported by RocksDB itself, unless the file ends first.
      guard at + headBytes + length <= bytes.count else { return true }
      // 1 whole, 2 first, 3 middle, 4 last.
      inside = type == 2 || type == 3
      at += headBytes + length
    }
    return inside
  }
}
