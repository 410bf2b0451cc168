/// Names come from the network. Before they reach a terminal, whatever could steer it is made visible.
enum Printable {
  /// Control characters (C0, DEL, C1), line and paragraph separators, and the marks that turn the
  /// direction of text, which make one name look like another.
  static func steers(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7f..<0xa0, 0x61c, 0x200b...0x200f, 0x2028...0x202e, 0x2060...0x206f, 0xfeff,
      0xfff9...0xfffb, 0xe0000...0xe007f:
      true
    default: false
    }
  }

  /// The text with `\u{1b}` and the like in place of what steers.
  static func text(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: steers) else { return text }
    var out = ""
    for scalar in text.unicodeScalars {
      if steers(scalar) {
        out += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    return out
  }
}
