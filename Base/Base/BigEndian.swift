/// The bytes of a number, the most significant first: how numbers stand in rows, keys and packets.
public func bigEndianBytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
  unsafe withUnsafeBytes(of: value.bigEndian) { unsafe [UInt8]($0) }
}

extension FixedWidthInteger {
  /// The number that `bigEndianBytes` made these bytes of. Fewer than it has are its last ones; of more only the last count.
  @inlinable public init(bigEndianBytes bytes: some Sequence<UInt8>) {
    self = bytes.reduce(0) { $0 << 8 | Self(truncatingIfNeeded: $1) }
  }
}
