/// The few JSON forms a log line needs, written straight into bytes.
enum JsonText {
  private static let hex = Array("0123456789abcdef".utf8)

  /// A string with its quotes. Control characters are escaped, so a line stays a line.
  static func append(string text: String, to out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        out.append(UInt8(ascii: "\\"))
        out.append(byte)
      case 0x0a: out.append(contentsOf: Array("\\n".utf8))
      case 0x0d: out.append(contentsOf: Array("\\r".utf8))
      case 0x09: out.append(contentsOf: Array("\\t".utf8))
      case 0..<0x20, 0x7f:
        out.append(contentsOf: Array("\\u00".utf8))
        out.append(hex[Int(byte >> 4)])
        out.append(hex[Int(byte & 15)])
      default: out.append(byte)
      }
    }
    out.append(UInt8(ascii: "\""))
  }
}
