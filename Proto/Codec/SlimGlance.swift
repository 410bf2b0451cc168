import Base

/// A publish of the form most have, read at a glance: a header that is known, a session and an application's payload,
/// one after the other, and nothing else. It takes a quarter of the time of `SlimEnvelope`, which reads everything that
/// has another form, and accepts with the same values whatever is accepted here.
public struct SlimGlance: Sendable, Equatable {
  /// Offset of the header's record.
  public let headerAt: Int
  public private(set) var sessionType: UInt32 = 0
  /// Names: `SlimNames`.
  public private(set) var messageType: UInt32 = 0
  public private(set) var messageID: UInt32 = 0

  /// Of a group's session.
  public var isMulticast: Bool { sessionType == 2 }
  /// As `SlimEnvelope` means it.
  public var isToGroup: Bool {
    isMulticast && messageType == SlimNames.message && messageID <= 0x7fff_ffff
  }

  /// - Parameter knownHeader: the header's record of an earlier message of the same family that was accepted.
  /// - Returns: nil when the message has another form, right or wrong.
  @inline(__always)
  public init?(_ bytes: UnsafeRawBufferPointer, knownHeader: UnsafeRawBufferPointer) {
    let count = bytes.count
    // Lengths of one byte each are the shortest a message can have.
    guard unsafe !knownHeader.isEmpty, count >= knownHeader.count &+ 6, unsafe bytes[0] == 26 else {
      return nil
    }
    var at = 1
    // The publish is all there is.
    guard let all = unsafe Self.varint(bytes, &at), all == UInt64(count &- at) else { return nil }
    headerAt = at
    guard count &- at > knownHeader.count,
      unsafe sameBytes(bytes, at: at, knownHeader, at: 0, count: knownHeader.count)
    else { return nil }
    at &+= knownHeader.count
    guard unsafe readSession(bytes, &at) else { return nil }
    // The content's one member, an application's payload, goes to the end: so do both records.
    guard unsafe Self.opens(26, bytes, &at), unsafe Self.opens(10, bytes, &at),
      unsafe Self.isApplication(bytes, at)
    else { return nil }
  }

  /// A delimited record with that tag, which goes on to the end, begins here.
  @inline(__always)
  private static func opens(
    _ tag: UInt8, _ bytes: UnsafeRawBufferPointer, _ at: inout Int
  ) -> Bool {
    guard at < bytes.count, unsafe bytes[at] == tag else { return false }
    at &+= 1
    guard let rest = unsafe varint(bytes, &at) else { return false }
    return rest == UInt64(bytes.count &- at)
  }

  /// The session header.
  @inline(__always)
  private mutating func readSession(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> Bool {
    guard at < bytes.count, unsafe bytes[at] == 18 else { return false }
    at &+= 1
    guard let length = unsafe Self.varint(bytes, &at), length <= UInt64(bytes.count &- at) else {
      return false
    }
    let end = at &+ Int(length)
    while at < end {
      let tag = unsafe bytes[at]
      // Fields 1 to 4, varints.
      guard tag & 7 == 0, tag >= 8, tag <= 32 else { return false }
      at &+= 1
      guard let value = unsafe Self.varint(bytes, &at), at <= end else { return false }
      switch tag {
      case 8: sessionType = UInt32(value)
      case 16: messageType = UInt32(value)
      case 32: messageID = UInt32(value)
      default: break
      }
    }
    return true
  }

  /// From `at` to the end: the payload's type, its bytes, or both in this order.
  @inline(__always)
  private static func isApplication(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Bool {
    var at = start
    if at < bytes.count, unsafe bytes[at] == 10 {
      at &+= 1
      guard let length = unsafe varint(bytes, &at), length <= UInt64(bytes.count &- at) else {
        return false
      }
      let end = at &+ Int(length)
      var high: UInt8 = 0
      while at < end {
        high |= unsafe bytes[at]
        at &+= 1
      }
      // Other text than ASCII is looked at more closely.
      guard high < 0x80 else { return false }
    }
    if at == bytes.count { return true }
    guard unsafe bytes[at] == 18 else { return false }
    at &+= 1
    guard let length = unsafe varint(bytes, &at) else { return false }
    return length == UInt64(bytes.count &- at)
  }

  /// A varint of at most 32 bits; nil when it is longer or not whole.
  @inline(__always)
  private static func varint(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> UInt64? {
    guard at < bytes.count else { return nil }
    let first = unsafe bytes[at]
    at &+= 1
    if first < 0x80 { return UInt64(first) }
    var value = UInt64(first & 0x7f)
    var shift: UInt64 = 7
    while shift < 35 {
      guard at < bytes.count else { return nil }
      let next = unsafe bytes[at]
      at &+= 1
      value |= UInt64(next & 0x7f) << shift
      if next < 0x80 { return value <= UInt64(UInt32.max) ? value : nil }
      shift &+= 7
    }
    return nil
  }
}
