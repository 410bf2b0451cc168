import Base
import Testing

@Suite("The documents", .timeLimit(.minutes(1)))
struct Documents {
  @Test(
    "Every top folder has a card of at most 40 lines",
    arguments: ["Base", "Proto", "Transport", "Federation", "Node", "Admin", "Tests"])
  func cards(folder: String) throws {
    let card = try Repository.text(folder + "/README.md")
    #expect(card.split(separator: "\n", omittingEmptySubsequences: false).count <= 41)
    for room in Repository.folders(in: folder) where folder != "Tests" {
      let name = room.split(separator: "/").last ?? ""
      if name == "schema" || name == "openapi" { continue }
      #expect(card.contains("`\(name)`"), "\(folder)/README.md does not name \(name)")
    }
  }

  @Test("Every fault code is explained on the errors page", arguments: FaultCode.allCases)
  func errors(code: FaultCode) throws {
    let page = try Repository.text("docs/reference/errors.md")
    let row = page.split(separator: "\n").first { $0.hasPrefix("| `\(code.rawValue)` |") }
    let cells = try #require(row, "\(code.rawValue) has no row")
    #expect(cells.contains("| \(code.http) |"))
  }

  @Test("The licence is the whole Apache License 2.0")
  func licence() throws {
    let text = try Repository.text("LICENSE")
    #expect(text.contains("Apache License"))
    #expect(text.contains("END OF TERMS AND CONDITIONS"))
  }

  @Test("The README names the two commands and shows what does not work yet")
  func readme() throws {
    let text = try Repository.text("README.md")
    #expect(text.contains("make demo"))
    #expect(text.contains("make test"))
    #expect(text.contains("not yet"))
  }

  @Test("Every setting is on the settings page")
  func settings() throws {
    let page = try Repository.text("docs/reference/settings.md")
    let schema = try Repository.text("Base/Settings/SettingSchema.swift")
    let names = schema.matches(of: #/SettingKey\(\s*"([a-z_.]+)"/#).map { String($0.1) }
    #expect(names.count > 20)
    for name in names { #expect(page.contains("`\(name)`"), "\(name) is missing") }
  }
}
