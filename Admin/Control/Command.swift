internal import Base
internal import Settings

/// One command: how it is written, and what it does.
protocol Command: SendableMetatype {
  static var form: CommandForm { get }
  static func run(_ call: Call) throws(Fault)
}

/// What a command is given.
final class Call {
  let parsed: CommandSyntax.Parsed
  let environment: [String: String]
  let renderer: Renderer
  /// Set by commands whose finding is itself a failure: damage found, a node that is not ready.
  var outcome = ExitCode.done
  private let finder: NodeFinder
  private var opened: (any AdminLink)?

  init(
    parsed: CommandSyntax.Parsed, environment: [String: String], renderer: Renderer,
    finder: NodeFinder
  ) {
    self.parsed = parsed
    self.environment = environment
    self.renderer = renderer
    self.finder = finder
  }

  /// The node the command line names; connected at the first use.
  func link() throws(Fault) -> any AdminLink {
    if let opened { return opened }
    let link = try finder.link(try NodeTarget.find(parsed, environment))
    opened = link
    return link
  }

  func close() {
    opened?.close()
    opened = nil
  }

  /// A command for the same node, as it was named on this command line: for hints.
  func again(_ command: String) -> String {
    for option in ["--admin-socket", "--address", "--data", "--context"] {
      if let value = parsed.value(option) { return "\(command) \(option) \(value)" }
    }
    return command
  }

  /// A word the form requires, so it is there.
  func word(_ at: Int) -> String { parsed.argument(at) ?? "" }

  /// `--timeout`, 30 s by default.
  func timeout() throws(Fault) -> Interval {
    guard let text = parsed.value("--timeout") else { return .seconds(30) }
    guard let interval = SettingText.duration(text), interval.nanoseconds > 0 else {
      throw Fault(.usage, "--timeout wants a duration such as 30s, not \"\(text)\"")
    }
    return interval
  }

  func number(_ option: String) throws(Fault) -> UInt64? {
    guard let text = parsed.value(option) else { return nil }
    guard let number = UInt64(text) else {
      throw Fault(.usage, "\(option) wants a whole number, not \"\(text)\"")
    }
    return number
  }

  func number(_ option: String, in range: ClosedRange<Int>) throws(Fault) -> UInt32? {
    guard let number = try number(option) else { return nil }
    if number < range.lowerBound || number > range.upperBound {
      throw Fault(
        .usage, "\(option) is \(range.lowerBound) to \(range.upperBound), not \(number)")
    }
    return UInt32(number)
  }

  func size(_ option: String) throws(Fault) -> UInt64? {
    guard let text = parsed.value(option) else { return nil }
    guard let size = SettingText.size(text), size >= 0 else {
      throw Fault(.usage, "\(option) wants a size such as 64MiB, not \"\(text)\"")
    }
    return UInt64(size)
  }

  func seconds(_ option: String) throws(Fault) -> Int64? {
    guard let text = parsed.value(option) else { return nil }
    guard let interval = SettingText.duration(text), interval.wholeSeconds > 0 else {
      throw Fault(.usage, "\(option) wants a duration such as 30d or 12h, not \"\(text)\"")
    }
    return interval.wholeSeconds
  }

  /// For what cannot be taken back: `--yes`, or the name typed again at a terminal.
  func confirm(_ what: String, name: String) throws(Fault) {
    if parsed.has("--yes") { return }
    let terminal = renderer.terminal
    guard terminal.isInputTerminal, terminal.isErrorTerminal else {
      throw Fault(.notConfirmed, "\(what) cannot be taken back")
    }
    terminal.write(
      error: "\(Printable.text(what)) cannot be taken back. Type \(Printable.text(name)) to go on: "
    )
    guard terminal.readLine() == name else {
      throw Fault(.notConfirmed, "\(what) was not confirmed; nothing was changed")
    }
  }

  static let yes = CommandOption("--yes", short: "y", "Do not ask.")
}
