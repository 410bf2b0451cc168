internal import Base

/// `-o`.
public enum OutputForm: String, Sendable, CaseIterable { case table, wide, json, jsonl, name }

/// The one place that prints. A command hands over a view, rows or a fault; what they look like is
/// decided here, so that no command can forget a form.
final class Renderer {
  let form: OutputForm
  let terminal: any Terminal
  private let color: Bool
  private let errorColor: Bool
  /// A table or list printed row by row.
  private var streamed: (columns: [Column], rows: Int)?
  private var progressShown = false
  private(set) var readerGone = false

  init(form: OutputForm, terminal: any Terminal, noColor: Bool) {
    self.form = form
    self.terminal = terminal
    color = terminal.isOutputTerminal && !noColor
    errorColor = terminal.isErrorTerminal && !noColor
  }

  private func out(_ text: String) {
    clearProgress()
    if !terminal.write(output: text) { readerGone = true }
  }

  // MARK: whole results

  func show(_ view: View) {
    switch view {
    case .list(let columns, let rows, let more):
      showList(columns, rows)
      if let more, form == .table || form == .wide { note(more) }
    case .record(let fields, let json, let name, let notes):
      switch form {
      case .json: out(json.pretty + "\n")
      case .jsonl: out(json.compact + "\n")
      case .name: out(Printable.text(name) + "\n")
      case .table, .wide: showRecord(fields, notes)
      }
    case .text(let text, let member):
      switch form {
      case .json, .jsonl: out(JsonValue.object([JsonMember(member, .string(text))]).compact + "\n")
      default: out(text.hasSuffix("\n") ? text : text + "\n")
      }
    }
  }

  private func showList(_ columns: [Column], _ rows: [ViewRow]) {
    switch form {
    case .json: out(JsonValue.array(rows.map(\.json)).pretty + "\n")
    case .jsonl: for row in rows { out(row.json.compact + "\n") }
    case .name: for row in rows { out(Printable.text(row.name) + "\n") }
    case .table, .wide:
      let shown = columns.indices.filter { form == .wide || !columns[$0].isWide }
      let cells = rows.map { row in shown.map { Printable.text(row.cells[$0]) } }
      let widths = shown.indices.map { at in
        max(columns[shown[at]].title.count, cells.map { $0[at].count }.max() ?? 0)
      }
      let kept = shown.map { columns[$0] }
      out(head(line(kept.map(\.title), kept, widths)))
      for row in cells { out(line(row, kept, widths)) }
    }
  }

  private func showRecord(_ fields: [Field], _ notes: [Note]) {
    let shown = fields.filter { form == .wide || !$0.isWide }
    let width = shown.map(\.label.count).max() ?? 0
    for field in shown {
      let label = field.label + ":" + String(repeating: " ", count: width - field.label.count + 1)
      out((color ? "\u{1b}[2m\(label)\u{1b}[0m" : label) + Printable.text(field.text) + "\n")
    }
    if !shown.isEmpty, !notes.isEmpty { out("\n") }
    for note in notes { out(tinted(Printable.text(note.text), note.tone) + "\n") }
  }

  private func tinted(_ text: String, _ tone: Note.Tone) -> String {
    guard color else { return text }
    switch tone {
    case .plain: return text
    case .good: return "\u{1b}[32m\(text)\u{1b}[0m"
    case .bad: return "\u{1b}[31m\(text)\u{1b}[0m"
    }
  }

  private func head(_ line: String) -> String {
    color ? "\u{1b}[1m\(line.dropLast())\u{1b}[0m\n" : line
  }

  private func line(_ cells: [String], _ columns: [Column], _ widths: [Int]) -> String {
    var text = ""
    for (at, cell) in cells.enumerated() {
      let fill = String(repeating: " ", count: max(0, widths[at] - cell.count))
      let last = at == cells.count - 1
      text += columns[at].isRight ? fill + cell : cell + (last ? "" : fill)
      if !last { text += "  " }
    }
    while text.last == " " { text.removeLast() }
    return text + "\n"
  }

  // MARK: row by row

  /// Begins a list whose rows come one at a time.
  func begin(_ columns: [Column]) {
    streamed = (columns, 0)
    switch form {
    case .table, .wide:
      let kept = columns.filter { form == .wide || !$0.isWide }
      out(head(line(kept.map(\.title), kept, kept.map { max($0.width, $0.title.count) })))
    case .json: out("[")
    case .jsonl, .name: break
    }
  }

  func row(_ row: ViewRow) {
    guard let current = streamed else { preconditionFailure("a row outside of a list") }
    streamed?.rows += 1
    switch form {
    case .table, .wide:
      let shown = current.columns.indices.filter { form == .wide || !current.columns[$0].isWide }
      let kept = shown.map { current.columns[$0] }
      out(
        line(
          shown.map { Printable.text(row.cells[$0]) }, kept,
          kept.map { max($0.width, $0.title.count) }))
    case .json: out((current.rows == 0 ? "\n  " : ",\n  ") + row.json.compact)
    case .jsonl: out(row.json.compact + "\n")
    case .name: out(Printable.text(row.name) + "\n")
    }
  }

  /// Ends the list; safe to call when none was begun, so that a fault in between leaves whole JSON.
  func end() {
    guard let current = streamed else { return }
    streamed = nil
    if form == .json { out(current.rows == 0 ? "]\n" : "\n]\n") }
  }

  // MARK: beside the results

  /// A line for people, on stderr: results stay clean.
  func note(_ text: String) {
    clearProgress()
    terminal.write(error: Printable.text(text) + "\n")
  }

  /// Shown in place, on a terminal only.
  func progress(_ text: String) {
    guard terminal.isErrorTerminal else { return }
    terminal.write(error: "\r\u{1b}[K" + Printable.text(text))
    progressShown = true
  }

  func clearProgress() {
    guard progressShown else { return }
    progressShown = false
    terminal.write(error: "\r\u{1b}[K")
  }

  /// A fault, on stderr: with -o json or jsonl as an object of one line.
  func show(_ fault: Fault) {
    end()
    clearProgress()
    switch form {
    case .json, .jsonl:
      let json = JsonValue.object([
        JsonMember(
          "error",
          .object([
            JsonMember("code", .string(fault.code.rawValue)),
            JsonMember("message", .string(fault.description)),
            JsonMember("advice", .string(fault.code.advice)),
            JsonMember("retriable", .boolean(fault.code.isRetriable)),
            JsonMember("exit", .integer(Int64(ExitCode(fault.code).rawValue))),
          ]))
      ])
      terminal.write(error: json.compact + "\n")
    case .table, .wide, .name:
      let word = errorColor ? "\u{1b}[31merror\u{1b}[0m" : "error"
      var text = "\(word): \(Printable.text(fault.description)) (\(fault.code.rawValue))\n"
      if fault.code != .usage || fault.detail.isEmpty { text += "  \(fault.code.advice)\n" }
      terminal.write(error: text)
    }
  }
}
