internal import Base
internal import Glibc

/// IP addresses as certificates hold them: 4 or 16 bytes.
enum HostAddress {
  /// nil when the text is no address.
  static func bytes(_ text: String) -> [UInt8]? {
    var v4 = in_addr()
    if inet_pton(AF_INET, text, &v4) == 1 { return withUnsafeBytes(of: v4) { [UInt8]($0) } }
    var v6 = in6_addr()
    if inet_pton(AF_INET6, text, &v6) == 1 { return withUnsafeBytes(of: v6) { [UInt8]($0) } }
    return nil
  }

  /// nil for another number of bytes.
  static func text(_ bytes: [UInt8]) -> String? {
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    var out = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    guard
      inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, bytes, &out, socklen_t(out.count)) != nil
    else { return nil }
    return String(decoding: out.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Labels of letters, digits, `-` and `_` (RFC 1123, and what people use); a first one may be `*`.
  static func isName(_ text: String) -> Bool {
    guard (1...Limits.certificateHostBytes).contains(text.utf8.count) else { return false }
    let labels = text.utf8.split(separator: 0x2e, omittingEmptySubsequences: false)
    for (at, label) in labels.enumerated() {
      if at == 0, labels.count > 1, label.elementsEqual("*".utf8) { continue }
      guard (1...63).contains(label.count), label.first != 0x2d, label.last != 0x2d,
        label.allSatisfy({ c in
          (0x61...0x7a).contains(c | 0x20) || (0x30...0x39).contains(c) || c == 0x2d || c == 0x5f
        })
      else { return false }
    }
    return true
  }
}
