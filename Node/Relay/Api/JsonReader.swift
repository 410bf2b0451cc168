/// Reads one JSON value front to back (RFC 8259). Strict: no duplicate member, no lone surrogate, nothing
/// after the value. Bounded, because strangers send it: what is deeper or has more parts is refused.
struct JsonReader {
  static let maxDepth = 16
  static let maxValues = 4_096

  private let bytes: [UInt8]
  private var at = 0
  private var values = 0

  static func read(_ bytes: [UInt8]) -> JsonValue? {
    var reader = JsonReader(bytes: bytes)
    reader.skipSpace()
    guard let value = reader.value(depth: 0) else { return nil }
    reader.skipSpace()
    return reader.at == bytes.count ? value : nil
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

  private mutating func skipSpace() {
    while let c = next, c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d { at += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard next == byte else { return false }
    at += 1
    return true
  }

  private mutating func value(depth: Int) -> JsonValue? {
    values += 1
    guard values <= Self.maxValues, depth <= Self.maxDepth else { return nil }
    switch next {
    case UInt8(ascii: "\""): return string().map { .string($0) }
    case UInt8(ascii: "{"): return object(depth: depth)
    case UInt8(ascii: "["): return array(depth: depth)
    case UInt8(ascii: "t"): return word("true") ? .bool(true) : nil
    case UInt8(ascii: "f"): return word("false") ? .bool(false) : nil
    case UInt8(ascii: "n"): return word("null") ? .null : nil
    default: return number()
    }
  }

  private mutating func word(_ text: StaticString) -> Bool {
    text.withUTF8Buffer { word in
      guard unsafe bytes[at...].starts(with: word) else { return false }
      at += word.count
      return true
    }
  }

  private mutating func object(depth: Int) -> JsonValue? {
    at += 1
    var members: [(name: String, value: JsonValue)] = []
    var names: Set<String> = []
    skipSpace()
    if take(UInt8(ascii: "}")) { return .object([]) }
    repeat {
      skipSpace()
      guard let name = string(), names.insert(name).inserted else { return nil }
      skipSpace()
      guard take(UInt8(ascii: ":")) else { return nil }
      skipSpace()
      guard let value = value(depth: depth + 1) else { return nil }
      members.append((name, value))
      skipSpace()
    } while take(UInt8(ascii: ","))
    return take(UInt8(ascii: "}")) ? .object(members) : nil
  }

  private mutating func array(depth: Int) -> JsonValue? {
    at += 1
    var items: [JsonValue] = []
    skipSpace()
    if take(UInt8(ascii: "]")) { return .array([]) }
    repeat {
      skipSpace()
      guard let item = value(depth: depth + 1) else { return nil }
      items.append(item)
      skipSpace()
    } while take(UInt8(ascii: ","))
    return take(UInt8(ascii: "]")) ? .array(items) : nil
  }

  /// An integer when it is written as one and fits, else the nearest number.
  private mutating func number() -> JsonValue? {
    let start = at
    _ = take(UInt8(ascii: "-"))
    let leading = next
    guard let digits = digits(), leading != UInt8(ascii: "0") || digits == 1 else { return nil }
    var whole = true
    if take(UInt8(ascii: ".")) {
      whole = false
      guard self.digits() != nil else { return nil }
    }
    if let c = next, c | 0x20 == UInt8(ascii: "e") {
      whole = false
      at += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { at += 1 }
      guard self.digits() != nil else { return nil }
    }
    // Longer ones say nothing more.
    guard at - start <= 64 else { return nil }
    let text = String(decoding: bytes[start..<at], as: UTF8.self)
    if whole, let integer = Int64(text) { return .integer(integer) }
    guard let number = Double(text), number.isFinite else { return nil }
    return .number(number)
  }

  /// How many there are; nil for none.
  private mutating func digits() -> Int? {
    let start = at
    while let c = next, (0x30...0x39).contains(c) { at += 1 }
    return at > start ? at - start : nil
  }

  private mutating func string() -> String? {
    guard take(UInt8(ascii: "\"")) else { return nil }
    var out: [UInt8] = []
    var start = at
    while let c = next {
      switch c {
      case UInt8(ascii: "\""):
        let text: String?
        if out.isEmpty {
          text = String(validating: bytes[start..<at], as: UTF8.self)
        } else {
          text = String(validating: out + bytes[start..<at], as: UTF8.self)
        }
        at += 1
        return text
      case UInt8(ascii: "\\"):
        out += bytes[start..<at]
        at += 1
        guard let scalar = escape() else { return nil }
        out += Array(String(scalar).utf8)
        start = at
      case 0..<0x20: return nil
      default: at += 1
      }
    }
    return nil
  }

  private mutating func escape() -> Unicode.Scalar? {
    guard let c = next else { return nil }
    at += 1
    switch c {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(c)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      guard let first = unit() else { return nil }
      guard (0xd800..<0xdc00).contains(first) else { return Unicode.Scalar(first) }
      guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")), let second = unit(),
        (0xdc00..<0xe000).contains(second)
      else { return nil }
      return Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
    default: return nil
    }
  }

  private mutating func unit() -> UInt32? {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let c = next, let digit = Character(Unicode.Scalar(c)).hexDigitValue else { return nil }
      at += 1
      value = value << 4 | UInt32(digit)
    }
    return value
  }
}
