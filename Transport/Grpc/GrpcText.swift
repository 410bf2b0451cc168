public import Base

/// Text forms of the gRPC wire: percent-encoded messages, timeouts, status.
public enum GrpcText {
  private static let hex = Array("0123456789ABCDEF".utf8)

  /// `grpc-message`: printable ASCII but `%` stands for itself, every other byte of UTF-8 is `%XX`.
  public static func percentEncode(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 >= 0x20 && $0 <= 0x7e && $0 != 0x25 }) { return text }
    var out: [UInt8] = []
    for byte in text.utf8 {
      if byte >= 0x20, byte <= 0x7e, byte != 0x25 {
        out.append(byte)
      } else {
        out += [0x25, hex[Int(byte >> 4)], hex[Int(byte & 15)]]
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// As much of a message as `grpc-message` carries: `Limits.grpcMessageBytes` of UTF-8, whole characters, and three dots
  /// where something was cut off.
  static func cut(_ text: String) -> String {
    if text.utf8.count <= Limits.grpcMessageBytes { return text }
    let dots = "..."
    var left = Limits.grpcMessageBytes - dots.utf8.count
    var scalars = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      left -= UTF8.width(scalar)
      if left < 0 { break }
      scalars.append(scalar)
    }
    return String(scalars) + dots
  }

  /// Leaves what is no valid escape as it is.
  public static func percentDecode(_ text: String) -> String {
    let bytes = Array(text.utf8)
    guard bytes.contains(0x25) else { return text }
    var out: [UInt8] = []
    var i = 0
    while i < bytes.count {
      if bytes[i] == 0x25, i + 2 < bytes.count, let high = nibble(bytes[i + 1]),
        let low = nibble(bytes[i + 2])
      {
        out.append(high << 4 | low)
        i += 3
      } else {
        out.append(bytes[i])
        i += 1
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  private static func nibble(_ c: UInt8) -> UInt8? {
    switch c {
    case 0x30...0x39: c - 0x30
    case 0x41...0x46: c - 0x41 + 10
    case 0x61...0x66: c - 0x61 + 10
    default: nil
    }
  }

  /// `grpc-timeout`: one to eight digits and a unit of `HMSmun`. nil when it is anything else.
  public static func timeout(_ text: UnsafeRawBufferPointer) -> Interval? {
    guard (2...9).contains(text.count), let unit = unsafe text.last else { return nil }
    var n: Int64 = 0
    for i in 0..<text.count - 1 {
      let c = unsafe text[i]
      guard (0x30...0x39).contains(c) else { return nil }
      n = n * 10 + Int64(c - 0x30)
    }
    let each: Int64
    switch unit {
    case UInt8(ascii: "H"): each = 3_600_000_000_000
    case UInt8(ascii: "M"): each = 60_000_000_000
    case UInt8(ascii: "S"): each = 1_000_000_000
    case UInt8(ascii: "m"): each = 1_000_000
    case UInt8(ascii: "u"): each = 1_000
    case UInt8(ascii: "n"): each = 1
    default: return nil
    }
    let (total, over) = n.multipliedReportingOverflow(by: each)
    return Interval(nanoseconds: over ? .max : total)
  }

  /// The shortest form that does not shorten the time.
  public static func timeoutText(_ interval: Interval) -> String {
    let n = max(interval.nanoseconds, 1)
    for (unit, each) in [
      ("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000),
    ] as [(String, Int64)] {
      let count = n / each + (n % each == 0 ? 0 : 1)
      if count <= 99_999_999 { return "\(count)\(unit)" }
    }
    return "99999999H"
  }
}
