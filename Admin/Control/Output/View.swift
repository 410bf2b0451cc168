internal import Base
internal import Report
internal import Settings

/// A column of a table. `isWide`: shown by `-o wide` only.
struct Column: Sendable, Equatable {
  var title: String
  var isWide = false
  var isRight = false
  /// Least width in a table that is printed row by row.
  var width = 0
  static func wide(_ title: String, right: Bool = false, width: Int = 0) -> Column {
    Column(title: title, isWide: true, isRight: right, width: width)
  }
  static func right(_ title: String, width: Int = 0) -> Column {
    Column(title: title, isRight: true, width: width)
  }
  static func left(_ title: String, width: Int = 0) -> Column { Column(title: title, width: width) }
}

/// One thing: its cells (as many as the table has columns), its JSON, and the name `-o name` prints.
struct ViewRow: Sendable, Equatable {
  var cells: [String]
  var json: JsonValue
  var name: String
}

/// What a command found, free of any form. The renderer alone gives it one.
enum View: Sendable, Equatable {
  /// Several of a kind. `more`: there are others, and how to get them.
  case list([Column], [ViewRow], more: String? = nil)
  /// One thing as label and text; labels beginning with `+` are wide. `notes` are for people only.
  case record([Field], JsonValue, name: String, notes: [Note] = [])
  /// A text as it is: help, completion. In JSON: a string member of this name.
  case text(String, member: String)
}

struct Field: Sendable, Equatable {
  var label: String
  var text: String
  var isWide = false
  init(_ label: String, _ text: String, wide: Bool = false) {
    self.label = label
    self.text = text
    isWide = wide
  }
}

/// A line below a record: a verdict, a warning, the next command to type.
struct Note: Sendable, Equatable {
  enum Tone: Sendable { case plain, good, bad }
  var tone: Tone
  var text: String
  init(_ text: String, _ tone: Tone = .plain) {
    self.text = text
    self.tone = tone
  }
}

/// How values are written for people.
enum Shown {
  /// `2026-11-21T04:02:25Z`, or `-` for none.
  static func time(_ unixNanoseconds: Int64) -> String {
    if unixNanoseconds == 0 { return "-" }
    let text = Timestamp.text(Instant(nanoseconds: unixNanoseconds))
    return String(text.dropLast(5)) + "Z"
  }
  /// With milliseconds.
  static func exactTime(_ unixNanoseconds: Int64) -> String {
    unixNanoseconds == 0 ? "-" : Timestamp.text(Instant(nanoseconds: unixNanoseconds))
  }
  /// `1.5 GiB`: rounded, for people; JSON has the bytes.
  static func size(_ bytes: UInt64) -> String {
    for (unit, size) in [
      ("TiB", UInt64(1) << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
    ]
    where bytes >= size {
      let tenths = (Double(bytes) / Double(size) * 10).rounded() / 10
      return "\(tenths) \(unit)"
    }
    return "\(bytes) B"
  }
  static func limit(_ value: UInt64) -> String { value == 0 ? "no limit" : "\(value)" }
  static func limitSize(_ value: UInt64) -> String { value == 0 ? "no limit" : size(value) }
  static func list(_ texts: [String]) -> String {
    texts.isEmpty ? "-" : texts.joined(separator: ", ")
  }
  static func orDash(_ text: String) -> String { text.isEmpty ? "-" : text }

  /// JSON: RFC 3339 with milliseconds, null for none.
  static func timeJson(_ unixNanoseconds: Int64) -> JsonValue {
    unixNanoseconds == 0 ? .null : .string(exactTime(unixNanoseconds))
  }
}
