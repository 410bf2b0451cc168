/// What an MLS message is, by its clear header.
public enum MLSContent: UInt8, Sendable {
  /// Not an MLS message.
  case none = 0
  case application = 1
  case proposal = 2
  case commit = 3
  /// Welcome, GroupInfo, KeyPackage.
  case other = 4
}

/// The clear header of an MLSMessage (RFC 9420 section 6): all a relay can and may read.
public struct MLSHeader: Sendable {
  public var content: MLSContent
  /// 0 when the format has none.
  public var epoch: UInt64
  /// Offsets of the group id; empty when the format has none.
  public var groupID: Range<Int>
  /// 1 PublicMessage, 2 PrivateMessage, 3 Welcome, 4 GroupInfo, 5 KeyPackage.
  public var wireFormat: UInt16
  /// PublicMessage sender: 1 member, 2 external, 3 new member's proposal, 4 new member's commit;
  /// else 0.
  public var sender: UInt8 = 0

  /// Reads the header at the start, or behind the eight bytes that newer Skytale agents put before
  /// a padded message (mask, length XOR mask, both little-endian). nil: no MLS message.
  public static func read(_ bytes: UnsafeRawBufferPointer) -> MLSHeader? {
    if let plain = unsafe parse(bytes, 0..<bytes.count) { return plain }
    guard bytes.count > 8 else { return nil }
    let mask = unsafe UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self))
    let masked = unsafe UInt32(
      littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
    let length = Int(mask ^ masked)
    guard length > 0, length <= bytes.count - 8, let inner = unsafe parse(bytes, 8..<8 + length),
      inner.content == .application
    else { return nil }
    return inner
  }

  private static func parse(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> MLSHeader? {
    var r = unsafe Cursor(bytes: bytes, at: range.lowerBound, end: range.upperBound)
    guard r.integer(UInt16.self) == 1, let format = r.integer(UInt16.self) else { return nil }
    switch format {
    case 1, 2: break
    case 3, 4, 5:
      return MLSHeader(content: .other, epoch: 0, groupID: 0..<0, wireFormat: format)
    default: return nil
    }
    guard let group = r.vector(), let epoch = r.integer(UInt64.self) else { return nil }
    var sender: UInt8 = 0
    var type: UInt8?
    if format == 1 {
      guard let s = r.integer(UInt8.self), (1...4).contains(s) else { return nil }
      // A member's leaf index or an external sender's index.
      if s <= 2, r.integer(UInt32.self) == nil { return nil }
      // Authenticated data stands before the content type here, behind it in a PrivateMessage.
      guard r.vector() != nil else { return nil }
      sender = s
      type = r.integer(UInt8.self)
    } else {
      type = r.integer(UInt8.self)
      guard r.vector() != nil, r.vector() != nil, r.vector() != nil else { return nil }
    }
    guard let type, (1...3).contains(type), let content = MLSContent(rawValue: type) else {
      return nil
    }
    return MLSHeader(
      content: content, epoch: epoch, groupID: group, wireFormat: format, sender: sender)
  }

  // SAFETY: lives inside `parse`, which borrows the bytes; `at` never passes `end`, `end` never them.
  @safe private struct Cursor {
    let bytes: UnsafeRawBufferPointer
    var at: Int
    let end: Int

    mutating func integer<T: FixedWidthInteger>(_: T.Type) -> T? {
      let size = MemoryLayout<T>.size
      guard end - at >= size else { return nil }
      defer { at += size }
      return unsafe T(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: T.self))
    }

    /// `opaque<V>`: a length of 1, 2 or 4 bytes in its shortest form (RFC 9420 section 2.1.2), then
    /// it.
    mutating func vector() -> Range<Int>? {
      guard let first = integer(UInt8.self) else { return nil }
      var length = Int(first & 0x3f)
      switch first >> 6 {
      case 0: break
      case 1:
        guard let low = integer(UInt8.self) else { return nil }
        length = length << 8 | Int(low)
        if length < 64 { return nil }
      case 2:
        guard let middle = integer(UInt8.self), let low = integer(UInt16.self) else { return nil }
        length = length << 24 | Int(middle) << 16 | Int(low)
        if length < 1 << 14 { return nil }
      default: return nil
      }
      guard length <= end - at else { return nil }
      defer { at += length }
      return at..<at + length
    }
  }
}
