import Foundation

/// Rows of text, printed aligned or as markdown.
struct Table {
  let title: String
  let columns: [String]
  var rows: [[String]] = []

  func render(_ form: OutputForm) -> String {
    form == .markdown ? markdown : aligned
  }

  private var markdown: String {
    var lines = ["### \(title)", "", line(columns)]
    lines.append(line(columns.indices.map { $0 == 0 ? "---" : "--:" }))
    lines += rows.map(line)
    return lines.joined(separator: "\n") + "\n"
  }

  private func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }

  private var aligned: String {
    let widths = columns.indices.map { i in ([columns] + rows).map { $0[i].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
      cells.enumerated().map { i, cell in
        let space = String(repeating: " ", count: widths[i] - cell.count)
        return i == 0 ? cell + space : space + cell
      }.joined(separator: "  ")
    }
    return ([title, line(columns)] + rows.map(line)).joined(separator: "\n") + "\n"
  }
}

/// Numbers as the tables show them.
enum Show {
  static func count(_ value: Double?) -> String {
    guard let value else { return "-" }
    var digits = Array(String(Int(value.rounded())))
    var place = digits.count - 3
    while place > 0 {
      digits.insert(" ", at: place)
      place -= 3
    }
    return String(digits)
  }

  static func fixed(_ value: Double?, _ digits: Int) -> String {
    guard let value, value.isFinite else { return "-" }
    return String(format: "%.\(digits)f", value)
  }

  static func ratio(_ value: Double?, to limit: Double?) -> String {
    guard let value, let limit, limit > 0 else { return "-" }
    return fixed(value / limit, 2)
  }

  /// "p50 / p99" in microseconds.
  static func latency(_ result: LoadResult?) -> String {
    guard let result else { return "-" }
    return "\(fixed(result.p50Us, 0)) / \(fixed(result.p99Us, 0))"
  }

  /// The mean of what the yardstick did before and after, and both.
  static func mean(_ first: Double?, _ second: Double?) -> Double? {
    guard let first, let second else { return first ?? second }
    return (first + second) / 2
  }
}

/// Progress goes to standard error, so that standard output holds results only.
func say(_ text: String) {
  FileHandle.standardError.write(Data((text + "\n").utf8))
}
