internal import Base
internal import Settings

/// The settings `posthoused` would run with, given the same file, environment and flags.
enum ConfigShow: Command {
  static let form = CommandForm(
    "config show", "The settings posthoused would use: from its file, POSTHOUSE_* and flags.",
    options: [CommandOption("--origin", "Show where each value comes from.")]
      // The flags that every command has stand for the same keys here.
      + NodeStart.settingOptions.filter {
        !["--data", "--admin-socket", "--insecure"].contains($0.name)
      },
    examples: ["posthouse config show --origin", "posthouse config show --config ./posthouse.toml"])

  static func run(_ call: Call) throws(Fault) {
    let settings = try NodeStart.load(call.parsed, environment: call.environment)
    let origin = call.parsed.has("--origin")
    var columns: [Column] = [.left("KEY"), .left("VALUE")]
    columns.append(origin ? .left("ORIGIN") : .wide("ORIGIN"))
    columns += [.wide("ENVIRONMENT"), .wide("WHAT")]
    let rows = settings.all.map { setting in
      ViewRow(
        cells: [
          setting.key.name, Shown.orDash(setting.value.text), setting.origin.description,
          setting.key.environmentName, setting.key.help,
        ], json: json(setting), name: setting.key.name)
    }
    call.renderer.show(.list(columns, rows))
    for warning in settings.warnings { call.renderer.note("warning: \(warning)") }
    do throws(Fault) {
      _ = try NodeSettings(settings)
    } catch {
      call.renderer.note("posthoused would refuse this: \(error.description)")
      call.outcome = .usage
    }
  }

  private static func json(_ setting: Setting) -> JsonValue {
    let value: JsonValue =
      switch setting.value {
      case .integer(let n), .bytes(let n): .integer(n)
      case .boolean(let flag): .boolean(flag)
      case .list(let texts): .strings(texts)
      case .string, .duration: .string(setting.value.text)
      }
    return .object([
      JsonMember("key", .string(setting.key.name)), JsonMember("value", value),
      JsonMember("origin", .string(setting.origin.description)),
    ])
  }
}
