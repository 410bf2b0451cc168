internal import Base
internal import Digest

/// Rows of table `meta`: `m`, a kind, the name. Every value ends in a CRC-32C of key and value.
///
///     m e KEY       created, modified, version, lease as u64 · value
///     m l LEASE     u64 in the key; u32 seconds
///     m r           u64 revision · u64 last lease number
enum MetadataRow {
  static let prefix = UInt8(ascii: "m")
  static let entry = UInt8(ascii: "e")
  static let lease = UInt8(ascii: "l")
  static let numbers = UInt8(ascii: "r")

  static func key(_ kind: UInt8, _ name: [UInt8]) -> [UInt8] { [prefix, kind] + name }

  static func sealed(_ key: [UInt8], _ value: [UInt8]) -> [UInt8] {
    value + bigEndianBytes(crc32c(value, continuing: crc32c(key)))
  }

  static func opened(_ row: Row) -> [UInt8]? {
    guard row.value.count >= 4 else { return nil }
    let value = Array(row.value.dropLast(4))
    return sealed(row.key, value) == row.value ? value : nil
  }

  static func value(_ entry: MetadataEntry) -> [UInt8] {
    [entry.created, entry.modified, entry.version, entry.lease].flatMap(bigEndianBytes)
      + entry.value
  }

  static func word(_ bytes: [UInt8], _ at: Int) -> UInt64 {
    UInt64(bigEndianBytes: bytes[at..<at + 8])
  }
}

extension MetadataState {
  /// What rows of an earlier run say; nil when one is damaged, or they do not fit together.
  init?(rows: [Row]) {
    self.init()
    for row in rows where row.key.count >= 2 && row.key[0] == MetadataRow.prefix {
      guard let value = MetadataRow.opened(row) else { return nil }
      let name = Array(row.key.dropFirst(2))
      switch row.key[1] {
      case MetadataRow.entry where value.count >= 32:
        put(
          MetadataEntry(
            key: name, value: Array(value.dropFirst(32)), created: MetadataRow.word(value, 0),
            modified: MetadataRow.word(value, 8), version: MetadataRow.word(value, 16),
            lease: MetadataRow.word(value, 24)))
      case MetadataRow.lease where value.count == 4 && name.count == 8:
        leases[MetadataRow.word(name, 0)] = Int(UInt32(bigEndianBytes: value))
      case MetadataRow.numbers where value.count == 16 && name.isEmpty:
        revision = MetadataRow.word(value, 0)
        lastLease = MetadataRow.word(value, 8)
      default: return nil
      }
    }
    let isWhole = entries.allSatisfy { entry in
      entry.modified <= revision && entry.created <= entry.modified
        && (entry.lease == 0 || leases[entry.lease] != nil)
    }
    if !isWhole { return nil }
  }
}
