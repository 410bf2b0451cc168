public import Base

/// The written forms of durations and sizes: `90s`, `1h30m`, `250ms`; `64KiB`, `1GB`, `4096`.
public enum SettingText {
  private static let durationUnits: [(String, Int64)] = [
    ("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
    ("h", 3_600_000_000_000), ("d", 86_400_000_000_000),
  ]
  private static let sizeUnits: [(String, Int64)] = [
    ("b", 1), ("kb", 1_000), ("mb", 1_000_000), ("gb", 1_000_000_000), ("tb", 1_000_000_000_000),
    ("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30), ("tib", 1 << 40),
  ]

  /// Whole numbers, each with its unit, largest first not required; `0` needs none. nil when it is
  /// no duration or does not fit.
  public static func duration(_ text: String) -> Interval? {
    if text == "0" { return Interval(nanoseconds: 0) }
    var total: Int64 = 0
    var rest = Array(text.utf8)[...]
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let digits = rest.prefix { (0x30...0x39).contains($0) }
      rest = rest.dropFirst(digits.count)
      let unit = rest.prefix { !(0x30...0x39).contains($0) }
      rest = rest.dropFirst(unit.count)
      let name = String(decoding: unit, as: UTF8.self)
      guard let count = Int64(String(decoding: digits, as: UTF8.self)),
        let size = durationUnits.first(where: { $0.0 == name })?.1
      else { return nil }
      let (product, over) = count.multipliedReportingOverflow(by: size)
      let (sum, overSum) = total.addingReportingOverflow(product)
      if over || overSum { return nil }
      total = sum
    }
    return Interval(nanoseconds: total)
  }

  /// The shortest form that reads back as the same value: `10m`, `1h30m`, `250ms`.
  public static func text(_ duration: Interval) -> String {
    if duration.nanoseconds <= 0 { return "0" }
    var rest = duration.nanoseconds
    var out = ""
    for (name, size) in durationUnits.reversed() where rest >= size {
      out += "\(rest / size)\(name)"
      rest %= size
    }
    return out
  }

  public static func size(_ text: String) -> Int64? {
    let utf8 = Array(text.lowercased().utf8)
    let digits = utf8.prefix { (0x30...0x39).contains($0) }
    let unit = String(decoding: utf8.dropFirst(digits.count).drop { $0 == 0x20 }, as: UTF8.self)
    guard let count = Int64(String(decoding: digits, as: UTF8.self)) else { return nil }
    if unit.isEmpty { return count }
    guard let size = sizeUnits.first(where: { $0.0 == unit })?.1 else { return nil }
    let (product, over) = count.multipliedReportingOverflow(by: size)
    return over ? nil : product
  }

  /// Exact: the largest binary unit that divides it, else bytes.
  public static func sizeText(_ bytes: Int64) -> String {
    for (name, size) in [
      ("TiB", Int64(1) << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
    ]
    where bytes >= size && bytes % size == 0 { return "\(bytes / size)\(name)" }
    return "\(bytes)"
  }
}

/// "Did you mean": the candidate nearest to what was typed, when it is near enough to be one.
public enum Suggestion {
  public static func nearest(to typed: String, in candidates: some Sequence<String>) -> String? {
    var best: (String, Int)?
    for candidate in candidates {
      let distance = editDistance(typed, candidate)
      if best.map({ distance < $0.1 }) ?? true { best = (candidate, distance) }
    }
    if let best, best.1 <= max(1, min(3, typed.utf8.count / 3)) { return best.0 }
    // What was cut short, or made longer: `--datadir`, `chan`.
    let bare = typed.drop { $0 == "-" }
    guard bare.utf8.count >= 3 else { return nil }
    return candidates.filter { candidate in
      let other = candidate.drop { $0 == "-" }
      return other.utf8.count >= 3 && (other.hasPrefix(bare) || bare.hasPrefix(other))
    }.min { $0.utf8.count < $1.utf8.count }
  }

  /// Insertions, deletions, substitutions and swaps of neighbours that turn one into the other.
  static func editDistance(_ a: String, _ b: String) -> Int {
    // What is typed may be long; nothing near is.
    let x = Array(a.utf8.prefix(100))
    let y = Array(b.utf8.prefix(100))
    var before: [Int] = []
    var last = Array(0...y.count)
    for i in 0..<x.count {
      var row = [i + 1]
      for j in 0..<y.count {
        var cost = min(last[j] + (x[i] == y[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, x[i] == y[j - 1], x[i - 1] == y[j] { cost = min(cost, before[j - 1] + 1) }
        row.append(cost)
      }
      before = last
      last = row
    }
    return last[y.count]
  }
}
