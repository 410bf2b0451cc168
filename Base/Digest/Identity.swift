public import Base

// How names become ids. Part of the format: never changed.

extension ChannelID {
  /// `name` in its canonical form. High: XXH64 of its UTF-8 (the top bits are the slot). Low: the first
  /// 8 bytes of SHA-256(family byte, name, high as big-endian), so that a made-up XXH64 collision is
  /// still another channel.
  public init(family: Family, name: String) {
    let utf8 = Array(name.utf8)
    let high = xxh64(utf8)
    let digest = sha256([family.rawValue] + utf8 + bigEndianBytes(high))
    self.init(high: high, low: UInt64(bigEndianBytes: digest[..<8]))
  }
}

extension TenantID {
  /// XXH64 of the UTF-8 of the org name.
  public init(org: String) { self.init(xxh64(utf8: org)) }
}
