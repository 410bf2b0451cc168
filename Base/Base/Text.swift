/// Text forms of bytes: lower-case hex, base32 (RFC 4648 section 6, lower case, no padding) and
/// base64url (RFC 4648 section 5, no padding). Decoders refuse every non-canonical form.
public enum Text {
  private static let hexDigits = Array("0123456789abcdef".utf8)
  private static let base32Digits = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)
  private static let base64Digits = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

  public static func hex(_ bytes: some Sequence<UInt8>) -> String {
    var out: [UInt8] = []
    for b in bytes {
      out.append(hexDigits[Int(b >> 4)])
      out.append(hexDigits[Int(b & 15)])
    }
    return String(decoding: out, as: UTF8.self)
  }

  public static func hexDecode(_ text: String) -> [UInt8]? {
    let utf8 = Array(text.utf8)
    guard utf8.count % 2 == 0 else { return nil }
    var out: [UInt8] = []
    for i in stride(from: 0, to: utf8.count, by: 2) {
      guard let h = nibble(utf8[i]), let l = nibble(utf8[i + 1]) else { return nil }
      out.append(h << 4 | l)
    }
    return out
  }

  private static func nibble(_ c: UInt8) -> UInt8? {
    switch c {
    case 0x30...0x39: c - 0x30
    case 0x61...0x66: c - 0x61 + 10
    case 0x41...0x46: c - 0x41 + 10
    default: nil
    }
  }

  public static func base32(_ bytes: some Sequence<UInt8>) -> String {
    String(decoding: pack(bytes, bits: 5, digits: base32Digits), as: UTF8.self)
  }

  public static func base32Decode(_ text: String) -> [UInt8]? {
    unpack(text, bits: 5) { c in
      switch c {
      case 0x61...0x7a: c - 0x61
      case 0x32...0x37: c - 0x32 + 26
      default: nil
      }
    }
  }

  public static func base64url(_ bytes: some Sequence<UInt8>) -> String {
    String(decoding: pack(bytes, bits: 6, digits: base64Digits), as: UTF8.self)
  }

  public static func base64urlDecode(_ text: String) -> [UInt8]? {
    unpack(text, bits: 6) { c in
      switch c {
      case 0x41...0x5a: c - 0x41
      case 0x61...0x7a: c - 0x61 + 26
      case 0x30...0x39: c - 0x30 + 52
      case 0x2d: 62
      case 0x5f: 63
      default: nil
      }
    }
  }

  private static func pack(_ bytes: some Sequence<UInt8>, bits: Int, digits: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    var held: UInt32 = 0
    var have = 0
    let mask = UInt32(1) << UInt32(bits) - 1
    for b in bytes {
      held = held << 8 | UInt32(b)
      have += 8
      while have >= bits {
        have -= bits
        out.append(digits[Int(held >> UInt32(have) & mask)])
      }
      held &= UInt32(1) << UInt32(have) - 1
    }
    if have > 0 { out.append(digits[Int(held << UInt32(bits - have) & mask)]) }
    return out
  }

  private static func unpack(
    _ text: String, bits: Int, _ digit: (UInt8) -> UInt8?
  ) -> [UInt8]? {
    var out: [UInt8] = []
    var held: UInt32 = 0
    var have = 0
    for c in text.utf8 {
      guard let d = digit(c) else { return nil }
      held = held << UInt32(bits) | UInt32(d)
      have += bits
      if have >= 8 {
        have -= 8
        out.append(UInt8(truncatingIfNeeded: held >> UInt32(have)))
      }
      held &= UInt32(1) << UInt32(have) - 1
    }
    // Leftover bits must be zero and fewer than a digit: one text form per value.
    return have < bits && held == 0 ? out : nil
  }
}
