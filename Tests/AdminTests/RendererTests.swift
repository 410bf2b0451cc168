import Base
import Testing

@testable import Control

private let columns: [Column] = [.left("NAME"), .right("N"), .wide("MORE")]
private let rows = [
  ViewRow(
    cells: ["a", "10", "x"],
    json: .object([JsonMember("name", .string("a")), JsonMember("n", .unsigned(10))]), name: "a"),
  ViewRow(
    cells: ["bb\u{1b}[2J", "9", ""],
    json: .object([JsonMember("name", .string("bb\u{1b}[2J")), JsonMember("n", .unsigned(9))]),
    name: "bb\u{1b}[2J"),
]
private let record = View.record(
  [Field("Name", "a"), Field("Longer label", "b"), Field("Hidden", "c", wide: true)],
  .object([
    JsonMember("name", .string("a")), JsonMember("list", .array([])), JsonMember("o", .null),
  ]),
  name: "a", notes: [Note("Fine.", .good)])

private func shown(
  _ form: OutputForm, terminal: Bool = false, noColor: Bool = false, _ body: (Renderer) -> Void
) -> (output: String, error: String) {
  let recorded = RecordedTerminal(terminal: terminal)
  body(Renderer(form: form, terminal: recorded, noColor: noColor))
  return (recorded.output, recorded.error)
}

@Suite(.timeLimit(.minutes(1))) struct RendererTests {
  @Test(
    "A list in every form",
    arguments: [
      (.table, "NAME          N\na            10\nbb\\u{1b}[2J   9\n"),
      (.wide, "NAME          N  MORE\na            10  x\nbb\\u{1b}[2J   9\n"),
      (.name, "a\nbb\\u{1b}[2J\n"),
      (.jsonl, "{\"name\":\"a\",\"n\":10}\n{\"name\":\"bb\\u001b[2J\",\"n\":9}\n"),
      (
        .json,
        "[\n  {\n    \"name\": \"a\",\n    \"n\": 10\n  },\n  {\n    \"name\": \"bb\\u001b[2J\",\n    \"n\": 9\n  }\n]\n"
      ),
    ] as [(OutputForm, String)])
  func list(_ form: OutputForm, _ expected: String) {
    #expect(shown(form) { $0.show(.list(columns, rows)) }.output == expected)
  }

  @Test(
    "A record in every form",
    arguments: [
      (.table, "Name:         a\nLonger label: b\n\nFine.\n"),
      (.wide, "Name:         a\nLonger label: b\nHidden:       c\n\nFine.\n"), (.name, "a\n"),
      (.jsonl, "{\"name\":\"a\",\"list\":[],\"o\":null}\n"),
      (.json, "{\n  \"name\": \"a\",\n  \"list\": [],\n  \"o\": null\n}\n"),
    ] as [(OutputForm, String)])
  func oneRecord(_ form: OutputForm, _ expected: String) {
    #expect(shown(form) { $0.show(record) }.output == expected)
  }

  @Test("An empty list is an empty array, a head alone, or nothing")
  func empty() {
    #expect(shown(.json) { $0.show(.list(columns, [])) }.output == "[]\n")
    #expect(shown(.jsonl) { $0.show(.list(columns, [])) }.output == "")
    #expect(shown(.table) { $0.show(.list(columns, [])) }.output == "NAME  N\n")
  }

  @Test(
    "Rows that come one at a time make the same whole",
    arguments: [
      (.json, "[\n  {\"name\":\"a\",\"n\":10},\n  {\"name\":\"bb\\u001b[2J\",\"n\":9}\n]\n"),
      (.jsonl, "{\"name\":\"a\",\"n\":10}\n{\"name\":\"bb\\u001b[2J\",\"n\":9}\n"),
      (.table, "NAME    N\na      10\nbb\\u{1b}[2J    9\n"), (.name, "a\nbb\\u{1b}[2J\n"),
    ] as [(OutputForm, String)])
  func streamed(_ form: OutputForm, _ expected: String) {
    let narrow: [Column] = [.left("NAME"), .right("N", width: 3), .wide("MORE")]
    let output = shown(form) { renderer in
      renderer.begin(narrow)
      for row in rows { renderer.row(row) }
      renderer.end()
      renderer.end()
    }.output
    #expect(output == expected)
  }

  @Test("A fault inside a streamed list leaves whole JSON behind")
  func faultInside() {
    let (output, error) = shown(.json) { renderer in
      renderer.begin(columns)
      renderer.row(rows[0])
      renderer.show(Fault(.unavailable, "gone"))
    }
    #expect(output == "[\n  {\"name\":\"a\",\"n\":10}\n]\n")
    #expect(error.contains("\"code\":\"unavailable\""))
  }

  @Test("A fault for people and for programs, always on stderr")
  func faults() {
    let fault = Fault(.notFound, "no tenant \u{1b}x")
    let people = shown(.table) { $0.show(fault) }
    #expect(people.output == "")
    #expect(
      people.error
        == "error: no tenant \\u{1b}x (not_found)\n  Check the name; ids are shown by the ls commands.\n"
    )
    let programs = shown(.jsonl) { $0.show(fault) }
    #expect(programs.output == "")
    #expect(
      programs.error == "{\"error\":{\"code\":\"not_found\",\"message\":\"no tenant \\u001bx\","
        + "\"advice\":\"Check the name; ids are shown by the ls commands.\",\"retriable\":false,\"exit\":3}}\n"
    )
  }

  @Test("Colour on a terminal only, and not with NO_COLOR")
  func color() {
    #expect(shown(.table, terminal: true) { $0.show(record) }.output.contains("\u{1b}[32mFine."))
    #expect(
      !shown(.table, terminal: true, noColor: true) { $0.show(record) }.output.contains("\u{1b}"))
    #expect(!shown(.table) { $0.show(record) }.output.contains("\u{1b}"))
    #expect(!shown(.json, terminal: true) { $0.show(record) }.output.contains("\u{1b}"))
  }

  @Test("Progress is shown in place on a terminal and nowhere else")
  func progress() {
    let terminal = shown(.table, terminal: true) { renderer in
      renderer.progress("half \u{7}")
      renderer.note("done")
    }
    #expect(terminal.error == "\r\u{1b}[Khalf \\u{7}\r\u{1b}[Kdone\n")
    #expect(shown(.table) { $0.progress("half") }.error == "")
  }

  @Test(
    "What could steer a terminal or a reader's eye is made visible",
    arguments: [
      ("plain ü 漢 👍", "plain ü 漢 👍"), ("\u{1b}]0;x\u{7}", "\\u{1b}]0;x\\u{7}"),
      ("a\u{9b}1m", "a\\u{9b}1m"),
      ("a\u{202e}b", "a\\u{202e}b"), ("a\nb\rc\u{2028}", "a\\u{a}b\\u{d}c\\u{2028}"),
      ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"), ("a\u{e0041}", "a\\u{e0041}"),
    ])
  func printable(_ text: String, _ expected: String) {
    #expect(Printable.text(text) == expected)
    let json = JsonValue.string(text).compact
    #expect(!json.unicodeScalars.contains(where: Printable.steers))
  }

  @Test("JSON keeps every code point, as pairs beyond the first plane")
  func json() {
    #expect(JsonValue.string("\u{e0041}\"\\\n").compact == "\"\\udb40\\udc41\\\"\\\\\\n\"")
    #expect(JsonValue.unsigned(.max).compact == "18446744073709551615")
  }

  @Test(
    "Sizes for people",
    arguments: [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
      as [(UInt64, String)])
  func sizes(_ bytes: UInt64, _ text: String) { #expect(Shown.size(bytes) == text) }
}
