public import Base

/// An option of a command line: `--output`, maybe a short form, maybe a value.
public struct CommandOption: Sendable, Equatable {
  public var name: String
  public var short: Character?
  /// What stands for the value in the help; nil: the option is a switch.
  public var placeholder: String?
  public var help: String
  public var repeats: Bool
  public init(
    _ name: String, short: Character? = nil, value: String? = nil, _ help: String,
    repeats: Bool = false
  ) {
    precondition(name.hasPrefix("--"), "\(name) is no option name")
    self.name = name
    self.short = short
    placeholder = value
    self.help = help
    self.repeats = repeats
  }
}

/// A word that stands alone: `posthouse tenant show NAME`.
public struct CommandArgument: Sendable, Equatable {
  public var name: String
  public var isRequired: Bool
  public init(_ name: String, required: Bool = true) {
    self.name = name
    isRequired = required
  }
}

/// One command: `tenant create`, its words and options.
public struct CommandForm: Sendable, Equatable {
  /// Words that name it.
  public var path: [String]
  public var summary: String
  public var arguments: [CommandArgument]
  public var options: [CommandOption]
  public var examples: [String]
  public init(
    _ path: String, _ summary: String, arguments: [CommandArgument] = [],
    options: [CommandOption] = [], examples: [String] = []
  ) {
    self.path = path.split(separator: " ").map(String.init)
    self.summary = summary
    self.arguments = arguments
    self.options = options
    self.examples = examples
  }
  public var name: String { path.joined(separator: " ") }
}

/// The whole command line of a program: options that go everywhere, and commands. Options may stand
/// before or after the words; `--option=value` and `--option value` are the same; `--` ends options.
public struct CommandSyntax: Sendable {
  public var program: String
  public var summary: String
  public var options: [CommandOption]
  /// Empty: a program without commands.
  public var commands: [CommandForm]
  public var ending: String

  public init(
    program: String, summary: String, options: [CommandOption], commands: [CommandForm],
    ending: String = ""
  ) {
    self.program = program
    self.summary = summary
    self.options = options
    self.commands = commands
    self.ending = ending
  }

  public struct Parsed: Sendable, Equatable {
    /// nil for a program without commands.
    public var command: CommandForm?
    public var arguments: [String]
    /// In the order given; a switch has the value "".
    public var options: [(name: String, value: String)]

    public func has(_ name: String) -> Bool { options.contains { $0.name == name } }
    /// The last one given wins.
    public func value(_ name: String) -> String? { options.last { $0.name == name }?.value }
    public func values(_ name: String) -> [String] {
      options.filter { $0.name == name }.map(\.value)
    }
    public func argument(_ at: Int) -> String? {
      arguments.indices.contains(at) ? arguments[at] : nil
    }

    public static func == (a: Parsed, b: Parsed) -> Bool {
      a.command == b.command && a.arguments == b.arguments
        && a.options.map(\.name) == b.options.map(\.name)
        && a.options.map(\.value) == b.options.map(\.value)
    }
  }

  public enum Outcome: Sendable, Equatable {
    case help(String)
    case run(Parsed)
  }

  /// Throws `usage`, with a suggestion where a name is near.
  public func parse(_ arguments: [String]) throws(Fault) -> Outcome {
    var parsed = Parsed(command: nil, arguments: [], options: [])
    var words: [String] = []
    var at = 0
    var optionsEnded = false
    var wantsHelp = false
    while at < arguments.count {
      let word = arguments[at]
      at += 1
      if optionsEnded || word == "-" || !word.hasPrefix("-") {
        words.append(word)
      } else if word == "--" {
        optionsEnded = true
      } else if word == "--help" || word == "-h" {
        wantsHelp = true
      } else if word.hasPrefix("--") {
        try long(word, words, arguments, &at, &parsed)
      } else {
        try short(word, words, arguments, &at, &parsed)
      }
    }
    if words.first == "help", !commands.isEmpty {
      wantsHelp = true
      words.removeFirst()
    }
    if wantsHelp { return .help(help(for: words)) }
    if commands.isEmpty {
      if let word = words.first {
        throw Fault(.usage, "unexpected word \"\(word)\": \(program) takes options only")
      }
      return .run(parsed)
    }
    if words.isEmpty {
      // A switch such as --version may stand without a command; the program decides.
      if parsed.options.isEmpty { return .help(help(for: [])) }
      return .run(parsed)
    }
    let command = try command(for: words)
    parsed.command = command
    parsed.arguments = Array(words.dropFirst(command.path.count))
    try check(parsed, command)
    return .run(parsed)
  }

  // MARK: options

  /// Every option of every command: which of them fit is checked when the command is known, so that
  /// options may come first.
  private func every() -> [CommandOption] { options + commands.flatMap(\.options) }

  /// Those of the command that the words so far name come first: two may mean different things by one, and other than
  /// the program does.
  private func option(
    after words: [String], _ fits: (CommandOption) -> Bool
  ) -> CommandOption? {
    let named = commands.filter { words.starts(with: $0.path) }.flatMap(\.options)
    return (named + options).first(where: fits) ?? every().first(where: fits)
  }

  private func long(
    _ word: String, _ words: [String], _ arguments: [String], _ at: inout Int,
    _ parsed: inout Parsed
  ) throws(Fault) {
    var name = word
    var given: String?
    if let equals = word.firstIndex(of: "=") {
      name = String(word[..<equals])
      given = String(word[word.index(after: equals)...])
    }
    guard let option = option(after: words, { $0.name == name }) else {
      let fitting = commands.filter { words.starts(with: $0.path) }.flatMap(\.options) + options
      let near =
        Suggestion.nearest(to: name, in: fitting.map(\.name) + ["--help"])
        ?? Suggestion.nearest(to: name, in: every().map(\.name))
      throw Fault(.usage, "unknown option \(name)" + (near.map { "; did you mean \($0)?" } ?? ""))
    }
    try take(option, name, given, arguments, &at, &parsed)
  }

  private func short(
    _ word: String, _ words: [String], _ arguments: [String], _ at: inout Int,
    _ parsed: inout Parsed
  ) throws(Fault) {
    var rest = word.dropFirst()
    while let letter = rest.first {
      rest = rest.dropFirst()
      guard let option = option(after: words, { $0.short == letter }) else {
        throw Fault(.usage, "unknown option -\(letter)")
      }
      if option.placeholder != nil, !rest.isEmpty {
        // `-ojson` and `-o=json`.
        let given = rest.first == "=" ? rest.dropFirst() : rest
        return try take(option, "-\(letter)", String(given), arguments, &at, &parsed)
      }
      try take(option, "-\(letter)", nil, arguments, &at, &parsed)
    }
  }

  private func take(
    _ option: CommandOption, _ shown: String, _ given: String?, _ arguments: [String],
    _ at: inout Int, _ parsed: inout Parsed
  ) throws(Fault) {
    if !option.repeats, parsed.has(option.name) {
      throw Fault(.usage, "\(shown) is given twice")
    }
    guard let placeholder = option.placeholder else {
      if given != nil { throw Fault(.usage, "\(shown) takes no value") }
      parsed.options.append((option.name, ""))
      return
    }
    if let given {
      parsed.options.append((option.name, given))
    } else if at < arguments.count {
      parsed.options.append((option.name, arguments[at]))
      at += 1
    } else {
      throw Fault(.usage, "\(shown) wants \(placeholder)")
    }
  }

  private func check(_ parsed: Parsed, _ command: CommandForm) throws(Fault) {
    for (name, _) in parsed.options
    where !(options + command.options).contains(where: { $0.name == name }) {
      throw Fault(.usage, "\(name) does not go with \(command.name)")
    }
    let required = command.arguments.filter(\.isRequired)
    if parsed.arguments.count < required.count {
      throw Fault(.usage, "\(command.name) wants \(required[parsed.arguments.count].name)")
    }
    if parsed.arguments.count > command.arguments.count {
      throw Fault(
        .usage, "\(command.name): unexpected word \"\(parsed.arguments[command.arguments.count])\"")
    }
  }

  // MARK: commands

  private func command(for words: [String]) throws(Fault) -> CommandForm {
    let fitting = commands.filter { words.starts(with: $0.path) }
    if let longest = fitting.max(by: { $0.path.count < $1.path.count }) { return longest }
    let group = commands.filter { $0.path.first == words[0] }
    if group.isEmpty {
      // `create tenant` for `tenant create`, `tenants` for `tenant ls`.
      let turned = words.count > 1 ? words[1] : ""
      let meant = Suggestion.nearest(to: turned, in: commands.compactMap(\.path.first)) ?? turned
      let near =
        nearest(to: words[0], under: meant).map { "\(meant) \($0)" }
        ?? Suggestion.nearest(to: words[0], in: commands.compactMap(\.path.first))
      throw Fault(
        .usage, "unknown command \(words[0])" + (near.map { "; did you mean \($0)?" } ?? ""))
    }
    let choices = group.map { $0.path.dropFirst().joined(separator: " ") }
    guard words.count > 1 else {
      throw Fault(.usage, "\(words[0]) wants one of \(choices.joined(separator: ", "))")
    }
    let near = nearest(to: words[1], under: words[0])
    throw Fault(
      .usage,
      "unknown command \(words[0]) \(words[1])"
        + (near.map { "; did you mean \(words[0]) \($0)?" }
          ?? "; there is \(choices.joined(separator: ", "))"))
  }

  /// What other programs call what ours do.
  private static let synonyms = [
    "list": "ls", "get": "show", "info": "show", "describe": "show", "add": "create",
    "new": "create",
    "make": "create", "rm": "delete", "remove": "delete", "del": "delete", "destroy": "delete",
    "read": "tail", "follow": "tail", "watch": "tail", "stop": "drain", "check": "verify",
  ]

  private func nearest(to typed: String, under group: String) -> String? {
    let choices = commands.filter { $0.path.first == group && $0.path.count > 1 }.map {
      $0.path.dropFirst().joined(separator: " ")
    }
    if let known = Self.synonyms[typed] ?? (choices.contains(typed) ? typed : nil),
      choices.contains(known)
    {
      return known
    }
    return Suggestion.nearest(to: typed, in: choices)
  }

  // MARK: help

  /// The help of the program, of a group (`tenant`) or of a command.
  public func help(for words: [String]) -> String {
    if let command = commands.filter({ words.starts(with: $0.path) }).max(by: {
      $0.path.count < $1.path.count
    }) {
      return help(of: command)
    }
    let shown = words.first.map { word in commands.filter { $0.path.first == word } } ?? []
    let listed = shown.isEmpty ? commands : shown
    var out = "\(summary)\n\nUsage: \(program)\(commands.isEmpty ? "" : " COMMAND") [OPTIONS]\n"
    if !listed.isEmpty {
      out += "\nCommands:\n"
      out += CommandSyntax.columns(listed.map { ($0.name + argumentText($0), $0.summary) })
    }
    out += "\nOptions:\n" + optionText(options)
    if !ending.isEmpty { out += "\n\(ending)\n" }
    return out
  }

  private func help(of command: CommandForm) -> String {
    var out =
      "\(command.summary)\n\nUsage: \(program) \(command.name)\(argumentText(command)) [OPTIONS]\n"
    if !command.options.isEmpty {
      out += "\nOptions of this command:\n" + optionText(command.options)
    }
    out += "\nOptions:\n" + optionText(options)
    if !command.examples.isEmpty {
      out += "\nExamples:\n" + command.examples.map { "  \($0)\n" }.joined()
    }
    return out
  }

  private func argumentText(_ command: CommandForm) -> String {
    command.arguments.map { $0.isRequired ? " \($0.name)" : " [\($0.name)]" }.joined()
  }

  private func optionText(_ options: [CommandOption]) -> String {
    CommandSyntax.columns(
      options.map { option in
        let short = option.short.map { "-\($0), " } ?? ""
        return (short + option.name + (option.placeholder.map { " \($0)" } ?? ""), option.help)
      } + [("-h, --help", "Show this.")])
  }

  /// Two columns; a long left side gets a line of its own.
  private static func columns(_ rows: [(String, String)]) -> String {
    let width = min(34, rows.map { $0.0.count }.max() ?? 0)
    return rows.map { left, right in
      left.count > width
        ? "  \(left)\n" + String(repeating: " ", count: width + 4) + right + "\n"
        : "  \(left)" + String(repeating: " ", count: width - left.count + 2) + right + "\n"
    }.joined()
  }
}
