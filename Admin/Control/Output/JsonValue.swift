/// A JSON value whose members keep their order. Our own writer, because scripts compare and people
/// read: stable order, whole 64-bit numbers.
indirect enum JsonValue: Sendable, Equatable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case unsigned(UInt64)
  case string(String)
  case array([JsonValue])
  case object([JsonMember])

  static func strings(_ texts: [String]) -> JsonValue { .array(texts.map { .string($0) }) }

  /// One line.
  var compact: String {
    var out = ""
    write(&out, indent: nil, depth: 0)
    return out
  }

  /// Two spaces a level.
  var pretty: String {
    var out = ""
    write(&out, indent: 2, depth: 0)
    return out
  }

  private func write(_ out: inout String, indent: Int?, depth: Int) {
    switch self {
    case .null: out += "null"
    case .boolean(let flag): out += flag ? "true" : "false"
    case .integer(let number): out += "\(number)"
    case .unsigned(let number): out += "\(number)"
    case .string(let text): JsonValue.quote(text, &out)
    case .array(let elements):
      JsonValue.list("[", "]", elements.count, &out, indent, depth) { at, out in
        elements[at].write(&out, indent: indent, depth: depth + 1)
      }
    case .object(let members):
      JsonValue.list("{", "}", members.count, &out, indent, depth) { at, out in
        JsonValue.quote(members[at].name, &out)
        out += indent == nil ? ":" : ": "
        members[at].value.write(&out, indent: indent, depth: depth + 1)
      }
    }
  }

  private static func list(
    _ open: String, _ close: String, _ count: Int, _ out: inout String, _ indent: Int?,
    _ depth: Int,
    _ element: (Int, inout String) -> Void
  ) {
    out += open
    for at in 0..<count {
      if at > 0 { out += "," }
      if let indent { out += "\n" + String(repeating: " ", count: indent * (depth + 1)) }
      element(at, &out)
    }
    if let indent, count > 0 { out += "\n" + String(repeating: " ", count: indent * depth) }
    out += close
  }

  /// Whatever could steer a terminal is escaped as well: nothing is lost, nothing acts.
  private static func quote(_ text: String, _ out: inout String) {
    out += "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      default:
        if Printable.steers(scalar) {
          for unit in String(scalar).utf16 {
            let hex = String(unit, radix: 16)
            out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
          }
        } else {
          out.unicodeScalars.append(scalar)
        }
      }
    }
    out += "\""
  }
}

struct JsonMember: Sendable, Equatable {
  var name: String
  var value: JsonValue
  init(_ name: String, _ value: JsonValue) {
    self.name = name
    self.value = value
  }
}
