/// Strict reader of one flat JSON object (RFC 8259): strings, integers, booleans and null, no nesting, no
/// duplicate member, at most 32 members. Made for JWT parts, which strangers send.
package enum FlatJSON {
  package enum Value: Equatable {
    case string(String)
    case integer(Int64)
    case boolean(Bool)
    case null
  }

  static let maxMembers = 32

  /// nil when the bytes are anything but one such object.
  package static func parse(_ bytes: [UInt8]) -> [String: Value]? {
    var reader = Reader(bytes: bytes)
    return reader.object()
  }

  /// JSON text of a string, quotes included.
  package static func quote(_ text: String) -> [UInt8] {
    var out: [UInt8] = [0x22]
    for byte in text.utf8 {
      switch byte {
      case 0x22, 0x5c: out += [0x5c, byte]
      case 0..<0x20: out += Array("\\u00".utf8) + hex(byte)
      default: out.append(byte)
      }
    }
    return out + [0x22]
  }

  private static func hex(_ byte: UInt8) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    return [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
  }

  private struct Reader {
    let bytes: [UInt8]
    var at = 0

    var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    mutating func skipSpace() {
      while let c = next, c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d { at += 1 }
    }

    mutating func take(_ byte: UInt8) -> Bool {
      guard next == byte else { return false }
      at += 1
      return true
    }

    mutating func object() -> [String: Value]? {
      skipSpace()
      guard take(0x7b) else { return nil }
      var members: [String: Value] = [:]
      skipSpace()
      if !take(0x7d) {
        repeat {
          skipSpace()
          guard let name = string() else { return nil }
          skipSpace()
          guard take(0x3a) else { return nil }
          skipSpace()
          guard let value = value(), members[name] == nil, members.count < maxMembers else {
            return nil
          }
          members[name] = value
          skipSpace()
        } while take(0x2c)
        guard take(0x7d) else { return nil }
      }
      skipSpace()
      return at == bytes.count ? members : nil
    }

    mutating func value() -> Value? {
      switch next {
      case 0x22: string().map { .string($0) }
      case 0x74: word("true") ? .boolean(true) : nil
      case 0x66: word("false") ? .boolean(false) : nil
      case 0x6e: word("null") ? .null : nil
      default: integer().map { .integer($0) }
      }
    }

    mutating func word(_ text: String) -> Bool {
      for byte in text.utf8 where !take(byte) { return false }
      return true
    }

    /// An integer without fraction or exponent, within Int64.
    mutating func integer() -> Int64? {
      let negative = take(0x2d)
      guard let first = next, (0x30...0x39).contains(first) else { return nil }
      var value: Int64 = 0
      var digits = 0
      while let c = next, (0x30...0x39).contains(c) {
        at += 1
        digits += 1
        let digit = Int64(c - 0x30)
        let (shifted, over) = value.multipliedReportingOverflow(by: 10)
        let (sum, overToo) =
          negative
          ? shifted.subtractingReportingOverflow(digit) : shifted.addingReportingOverflow(digit)
        if over || overToo { return nil }
        value = sum
      }
      if first == 0x30 && digits > 1 { return nil }
      if let c = next, c == 0x2e || c == 0x65 || c == 0x45 { return nil }
      return value
    }

    mutating func string() -> String? {
      guard take(0x22) else { return nil }
      var out: [UInt8] = []
      while let c = next {
        at += 1
        switch c {
        case 0x22: return String(validating: out, as: UTF8.self)
        case 0x5c:
          guard let scalar = escape() else { return nil }
          out += Array(String(Character(scalar)).utf8)
        case 0..<0x20: return nil
        default: out.append(c)
        }
      }
      return nil
    }

    mutating func escape() -> Unicode.Scalar? {
      guard let c = next else { return nil }
      at += 1
      switch c {
      case 0x22, 0x5c, 0x2f: return Unicode.Scalar(c)
      case 0x62: return Unicode.Scalar(8 as UInt8)
      case 0x66: return Unicode.Scalar(12 as UInt8)
      case 0x6e: return Unicode.Scalar(10 as UInt8)
      case 0x72: return Unicode.Scalar(13 as UInt8)
      case 0x74: return Unicode.Scalar(9 as UInt8)
      case 0x75:
        guard let first = unit() else { return nil }
        if (0xd800..<0xdc00).contains(first) {
          guard take(0x5c), take(0x75), let second = unit(), (0xdc00..<0xe000).contains(second)
          else {
            return nil
          }
          return Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
        }
        return Unicode.Scalar(first)
      default: return nil
      }
    }

    mutating func unit() -> UInt32? {
      var value: UInt32 = 0
      for _ in 0..<4 {
        guard let c = next else { return nil }
        at += 1
        switch c {
        case 0x30...0x39: value = value << 4 | UInt32(c - 0x30)
        case 0x61...0x66: value = value << 4 | UInt32(c - 0x61 + 10)
        case 0x41...0x46: value = value << 4 | UInt32(c - 0x41 + 10)
        default: return nil
        }
      }
      return value
    }
  }
}
