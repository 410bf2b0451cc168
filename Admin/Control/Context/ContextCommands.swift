internal import Base
internal import Settings

enum ContextList: Command {
  static let form = CommandForm(
    "context ls", "The nodes that have a name here; * is the one that commands mean.")

  static func run(_ call: Call) throws(Fault) {
    let file = try ContextFile.load(call.environment)
    let columns: [Column] = [
      .left("CONTEXT"), .left("NODE"), .left("TLS"), .wide("AUTHORITY"), .wide("TOKEN FILE"),
    ]
    let rows = file.entries.sorted { $0.key < $1.key }.map { name, entry in
      ViewRow(
        cells: [
          name + (name == file.current ? " *" : ""), entry.place, entry.isTls ? "yes" : "no",
          Shown.orDash(entry.authority), Shown.orDash(entry.tokenFile),
        ],
        json: .object([
          JsonMember("context", .string(name)),
          JsonMember("current", .boolean(name == file.current)),
          JsonMember("admin_socket", .string(entry.socket)),
          JsonMember("address", .string(entry.address)), JsonMember("data", .string(entry.data)),
          JsonMember("tls", .boolean(entry.isTls)), JsonMember("ca", .string(entry.authority)),
          JsonMember("token_file", .string(entry.tokenFile)),
        ]), name: name)
    }
    call.renderer.show(.list(columns, rows))
  }
}

/// Gives the node of this command line a name.
enum ContextAdd: Command {
  static let form = CommandForm(
    "context add", "Give a node a name: with --admin-socket, --address or --data.",
    arguments: [CommandArgument("NAME")],
    options: [
      CommandOption("--token-file", value: "FILE", "An admin credential, for --address."),
      CommandOption("--use", "Commands mean it from now on."),
    ],
    examples: [
      "posthouse context add here --admin-socket /run/posthouse/admin.sock --use",
      "posthouse context add eu --address eu1.example.org:5443 --tls --token-file ~/eu.token",
    ])

  static func run(_ call: Call) throws(Fault) {
    let name = call.word(0)
    guard isOrgName(name), name != "current" else {
      throw Fault(.usage, "\"\(name)\" is no name for a context: 1 to 63 of a-z, 0-9 and -")
    }
    let entry = ContextFile.Entry(
      socket: call.parsed.value("--admin-socket") ?? "",
      address: call.parsed.value("--address") ?? "", data: call.parsed.value("--data") ?? "",
      isTls: call.parsed.has("--tls"), authority: call.parsed.value("--ca") ?? "",
      tokenFile: call.parsed.value("--token-file") ?? "")
    guard [entry.socket, entry.address, entry.data].filter({ !$0.isEmpty }).count == 1 else {
      throw Fault(.usage, "context add wants one of --admin-socket, --address and --data")
    }
    if !entry.address.isEmpty, HostPort(entry.address) == nil {
      throw Fault(.usage, "--address wants HOST:PORT, not \"\(entry.address)\"")
    }
    // Commands run anywhere.
    for (option, path) in [
      ("--admin-socket", entry.socket), ("--data", entry.data), ("--ca", entry.authority),
      ("--token-file", entry.tokenFile),
    ] where !path.isEmpty && !path.hasPrefix("/") {
      throw Fault(.usage, "\(option) in a context wants a whole path, not \"\(path)\"")
    }
    var file = try ContextFile.load(call.environment)
    file.entries[name] = entry
    if call.parsed.has("--use") || file.current.isEmpty { file.current = name }
    try file.save(call.environment)
    ContextUse.show(file, call)
  }
}

enum ContextUse: Command {
  static let form = CommandForm(
    "context use", "Commands mean this node from now on, unless they name another.",
    arguments: [CommandArgument("NAME")])

  static func run(_ call: Call) throws(Fault) {
    var file = try ContextFile.load(call.environment)
    _ = try file.entry(call.word(0))
    file.current = call.word(0)
    try file.save(call.environment)
    show(file, call)
  }

  static func show(_ file: ContextFile, _ call: Call) {
    call.renderer.show(
      .record(
        [Field("Current", Shown.orDash(file.current))],
        .object([JsonMember("current", .string(file.current))]), name: file.current,
        notes: [Note("Next: posthouse check")]))
  }
}

enum ContextRemove: Command {
  static let form = CommandForm(
    "context rm", "Forget a name; the node stays as it is.", arguments: [CommandArgument("NAME")])

  static func run(_ call: Call) throws(Fault) {
    var file = try ContextFile.load(call.environment)
    _ = try file.entry(call.word(0))
    file.entries[call.word(0)] = nil
    if file.current == call.word(0) { file.current = "" }
    try file.save(call.environment)
    ContextUse.show(file, call)
  }
}
