/// Base64 with padding (RFC 4648 section 4): one text for every value. About 1 ns for each byte.
enum StandardBase64 {
  private static let digits = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  /// 64: not a digit.
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: 64, count: 256)
    for (value, digit) in digits.enumerated() { values[Int(digit)] = UInt8(value) }
    return values
  }()

  static func encode(_ bytes: [UInt8]) -> String {
    let count = (bytes.count + 2) / 3 * 4
    return unsafe String(unsafeUninitializedCapacity: count) { out in
      unsafe digits.withUnsafeBufferPointer { digits in
        var from = 0
        var to = 0
        while from < bytes.count {
          let left = bytes.count - from
          let a = bytes[from]
          let b = left > 1 ? bytes[from + 1] : 0
          let c = left > 2 ? bytes[from + 2] : 0
          unsafe out[to] = digits[Int(a >> 2)]
          unsafe out[to + 1] = digits[Int(a << 4 & 0x30 | b >> 4)]
          unsafe out[to + 2] = left > 1 ? digits[Int(b << 2 & 0x3c | c >> 6)] : UInt8(ascii: "=")
          unsafe out[to + 3] = left > 2 ? digits[Int(c & 0x3f)] : UInt8(ascii: "=")
          from += 3
          to += 4
        }
      }
      return count
    }
  }

  /// nil for every text but the one that `encode` writes.
  static func decode(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { digits in
      guard digits.count % 4 == 0 else { return nil }
      if digits.isEmpty { return [] }
      var count = digits.count
      while count > digits.count - 2, unsafe digits[count - 1] == UInt8(ascii: "=") { count -= 1 }
      var out: [UInt8] = []
      out.reserveCapacity(count * 3 / 4)
      var held: UInt32 = 0
      var have: UInt32 = 0
      let sound = unsafe values.withUnsafeBufferPointer { values in
        for index in 0..<count {
          let value = unsafe values[Int(digits[index])]
          if value == 64 { return false }
          held = held << 6 | UInt32(value)
          have += 6
          if have >= 8 {
            have -= 8
            out.append(UInt8(truncatingIfNeeded: held >> have))
          }
        }
        // Bits that stand for nothing are zero.
        return held & (1 << have - 1) == 0
      }
      return sound ? out : nil
    }
  }
}
