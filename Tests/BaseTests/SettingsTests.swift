import Base
import Settings
import Testing

/// A file of settings, an environment and flags, as `posthoused` sees them.
private func read(
  toml: String? = nil, environment: [String: String] = [:], arguments: [String] = []
) throws -> (NodeSettings, Settings) {
  var settings = Settings(schema: .node(data: "/data", nodeName: "n1"))
  if let toml { try settings.apply(toml: Array(toml.utf8), path: "p.toml") }
  try settings.apply(environment: environment)
  guard case .run(let parsed) = try NodeStart.syntax.parse(arguments) else { throw Stop() }
  for (option, text) in parsed.options {
    if option == "--set" {
      let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
      try settings.apply(flag: "--set", key: parts[0], text: parts[1])
    } else if let key = settings.schema.keys.first(where: { $0.flag == option }) {
      try settings.apply(flag: option, key: key.name, text: key.kind == .boolean ? "true" : text)
    }
  }
  return (try NodeSettings(settings), settings)
}

private struct Stop: Error {}

private func fault(_ body: () throws -> Void) -> Fault? {
  do {
    try body()
    return nil
  } catch {
    return error as? Fault
  }
}

@Suite(.timeLimit(.minutes(1))) struct SettingsTests {
  @Test("The defaults are those the process interface promises")
  func defaults() throws {
    let (node, settings) = try read()
    #expect(node.grpc?.description == "127.0.0.1:5000")
    #expect(node.http?.description == "127.0.0.1:8080")
    #expect(node.grpcTls == nil && node.httpTls == nil && node.tls == nil)
    #expect(node.auth == .required && !node.insecure)
    #expect(node.adminSocket == "/data/admin.sock")
    #expect(node.replayWindow == .last(.minutes(10)))
    #expect(node.stallTimeout == .minutes(10))
    #expect(node.diskMinFreeBytes == UInt64(Limits.diskMinFreeBytes))
    #expect(node.tokenTTL == .seconds(300))
    #expect(settings.all.allSatisfy { $0.origin == .standard })
  }

  @Test("Each layer covers the one below, and the origin says which")
  func layers() throws {
    let toml =
      "node_name = \"file\"\n\n[log]\nlevel = \"warn\"\n[retention]\nbytes = \"1GiB\"\nage = \"7d\"\n"
    let (node, settings) = try read(
      toml: toml,
      environment: ["POSTHOUSE_LOG_LEVEL": "error", "POSTHOUSE_RETENTION_AGE": "1h"],
      arguments: ["--set", "retention.age=30m", "--grpc=127.0.0.1:0"])
    #expect(node.nodeName == "file")
    #expect(node.logLevel == "error")
    #expect(node.retention.age == .minutes(30))
    #expect(node.retention.bytes == 1 << 30 && node.retention.messages == 0)
    #expect(node.grpc?.port == 0)
    #expect(settings["node_name"].origin.description == "p.toml:1")
    #expect(settings["retention.bytes"].origin.description == "p.toml:6")
    #expect(settings["log.level"].origin.description == "POSTHOUSE_LOG_LEVEL")
    #expect(settings["retention.age"].origin.description == "--set")
    #expect(settings["grpc"].origin.description == "--grpc")
    #expect(settings["http"].origin.description == "default")
  }

  @Test(
    "A wrong file names file, line, key and what would be right",
    arguments: [
      ("nod_name = \"x\"", "p.toml:1: unknown setting nod_name; did you mean node_name?"),
      (
        "\n[disk]\nminfree = 1",
        "p.toml:3: unknown setting disk.minfree; did you mean disk.min_free?"
      ),
      ("min_free = 1", "p.toml:1: unknown setting min_free; did you mean disk.min_free?"),
      ("zebra = 1", "p.toml:1: unknown setting zebra"),
      ("grpc = 5000", "p.toml:1: grpc wants HOST:PORT or off, not 5000"),
      ("grpc = \"5000\"", "p.toml:1: grpc wants HOST:PORT or off, not \"5000\""),
      ("loops = \"2\"", "p.toml:1: loops wants a whole number from 0 to 55, not \"2\""),
      ("loops = 256", "p.toml:1: loops wants a whole number from 0 to 55, not 256"),
      ("insecure = \"true\"", "p.toml:1: insecure wants true or false, not \"true\""),
      ("insecure = 1", "p.toml:1: insecure wants true or false, not 1"),
      (
        "stall_timeout = 600",
        "p.toml:1: stall_timeout wants a duration such as 10m, 90s or 250ms, not 600"
      ),
      (
        "stall_timeout = 1.5",
        "p.toml:1: stall_timeout wants a duration such as 10m, 90s or 250ms, not 1.5"
      ),
      ("auth = \"maybe\"", "p.toml:1: auth wants one of required, open, not \"maybe\""),
      ("data = 1979-05-27", "p.toml:1: data wants a text, not a date, a time or a table in a list"),
      ("data = [1, 2]", "p.toml:1: data wants a text, not a list of other things"),
      ("[[data]]\nx = 1", "p.toml:1: data wants a text, not a list of other things"),
    ])
  func wrongFile(_ toml: String, _ message: String) throws {
    let found = try #require(fault { _ = try read(toml: toml) })
    #expect(found.code == .badSetting)
    #expect(found.detail == message)
  }

  @Test(
    "Orgs that can be none, and an archive of groups without an archive, are said",
    arguments: [
      (
        "[slim]\nmembers_only = [\"acme\", \"Globex/rooms\"]",
        "slim.members_only: \"Globex/rooms\" is no org: 1 to 63 of a-z, 0-9 and -, without a namespace, or * for all"
      ),
      (
        "[archive]\nenabled = false\n[slim]\narchive = true",
        "slim.archive = true (p.toml:4) with archive.enabled = false keeps nothing: change one of them"
      ),
    ])
  func slim(_ toml: String, _ message: String) throws {
    #expect(fault { _ = try read(toml: toml) }?.detail == message)
    let (node, _) = try read(
      toml: "[slim]\nmembers_only = [\"acme\", \"*\"]\n[archive]\nenabled = false")
    #expect(node.slimMembersOnly == ["acme", "*"] && !node.slimArchive)
  }

  @Test("--check reads the same settings and runs nothing")
  func check() throws {
    guard
      case .check(let node, _) = try NodeStart.read(
        arguments: ["--check", "--admin-loopback", "token"],
        environment: [:], standardConfig: "/nowhere")
    else {
      Issue.record("no check")
      return
    }
    #expect(!node.trustsLoopback)
  }

  @Test("A broken file names line and column")
  func brokenFile() throws {
    let found = try #require(fault { _ = try read(toml: "a = 1\nb = = 2\n") })
    #expect(found.code == .badSetting)
    #expect(found.detail.hasPrefix("p.toml:2:5: "))
  }

  @Test(
    "Wrong variables and flags name themselves",
    arguments: [
      (
        ["POSTHOUSE_LOOPS": "many"], [],
        "POSTHOUSE_LOOPS wants a whole number from 0 to 55, not \"many\""
      ),
      ([:], ["--auth", "maybe"], "--auth wants one of required, open, not \"maybe\""),
      ([:], ["--set", "loops=x"], "--set loops wants a whole number from 0 to 55, not \"x\""),
      ([:], ["--set", "loop=1"], "--set: unknown setting loop; did you mean loops?"),
    ] as [([String: String], [String], String)])
  func wrongValues(_ environment: [String: String], _ arguments: [String], _ message: String) throws
  {
    let found = try #require(fault { _ = try read(environment: environment, arguments: arguments) })
    #expect(found.code == .badSetting)
    #expect(found.detail == message)
  }

  @Test("A variable that names no setting is a warning, since schedulers set such on their own")
  func unknownVariables() throws {
    let (_, settings) = try read(environment: [
      "POSTHOUSE_LOG_LEVLE": "x", "POSTHOUSE_PORT": "tcp://", "HOME": "/",
    ])
    #expect(
      settings.warnings == [
        "POSTHOUSE_LOG_LEVLE names no setting; did you mean POSTHOUSE_LOG_LEVEL?",
        "POSTHOUSE_PORT names no setting",
      ])
  }

  @Test(
    "What would expose a node is refused unless --insecure says so",
    arguments: [
      (["--grpc", "0.0.0.0:5000"], "grpc = 0.0.0.0:5000 would send"),
      (["--http", "[::]:8080"], "http = [::]:8080 would send"),
      (["--http", "127.evil.example:8080"], "http = 127.evil.example:8080 would send"),
      (
        ["--auth", "open", "--grpc-tls", "10.0.0.1:443", "--cert", "c", "--key", "k"],
        "auth = open with grpc_tls = 10.0.0.1:443"
      ),
    ])
  func exposure(_ arguments: [String], _ message: String) throws {
    let found = try #require(fault { _ = try read(arguments: arguments) })
    #expect(found.code == .badSetting)
    #expect(found.detail.hasPrefix(message), "\(found.detail)")
    _ = try read(arguments: arguments + ["--insecure"])
  }

  @Test(
    "Loopback and TLS need no --insecure",
    arguments: [
      ["--grpc", "localhost:0", "--http", "[::1]:0"], ["--auth", "open", "--grpc", "127.0.0.9:1"],
      ["--grpc", "off", "--grpc-tls", "0.0.0.0:443", "--cert", "c", "--key", "k"],
    ])
  func allowed(_ arguments: [String]) throws { _ = try read(arguments: arguments) }

  @Test(
    "Settings that belong together are checked together",
    arguments: [
      (["--cert", "c"], "tls.cert and tls.key belong together"),
      (["--grpc-tls", "127.0.0.1:1"], "grpc_tls wants a certificate"),
      (["--grpc", "off"], "grpc and grpc_tls are both off"),
      (["--set", "token.ttl=31d", "--set", "token.max_ttl=31d"], "token.max_ttl is at most 30d"),
      (["--set", "token.ttl=2d", "--set", "token.max_ttl=1d"], "token.ttl is at least 1s"),
      (["--set", "stall_timeout=0"], "stall_timeout is at least 1s"),
      (["--admin-socket", String(repeating: "x", count: 108)], "admin_socket is longer than"),
    ])
  func together(_ arguments: [String], _ message: String) throws {
    let found = try #require(fault { _ = try read(arguments: arguments) })
    #expect(found.code == .badSetting)
    #expect(found.detail.hasPrefix(message), "\(found.detail)")
  }

  @Test(
    "The replay window is a duration, all or off",
    arguments: [
      ("all", NodeSettings.ReplayWindow.all), ("off", .off), ("0", .off),
      ("90s", .last(.seconds(90))),
    ])
  func replayWindow(_ text: String, _ expected: NodeSettings.ReplayWindow) throws {
    #expect(try read(arguments: ["--set", "replay.window=\(text)"]).0.replayWindow == expected)
    #expect(try read(toml: "replay.window = \"\(text)\"").0.replayWindow == expected)
  }

  @Test(
    "Durations",
    arguments: [
      ("0", 0), ("1ns", 1), ("250ms", 250_000_000), ("90s", 90_000_000_000),
      ("10m", 600_000_000_000),
      ("1h30m", 5_400_000_000_000), ("7d", 604_800_000_000_000), ("", nil), ("10", nil), ("m", nil),
      ("-1s", nil), ("1 s", nil), ("1w", nil), ("1.5s", nil), ("99999999999d", nil),
      ("106751d1000h", nil),
    ] as [(String, Int64?)])
  func durations(_ text: String, _ expected: Int64?) {
    #expect(SettingText.duration(text)?.nanoseconds == expected)
  }

  @Test(
    "Durations read back as they are shown",
    arguments: [0, 1, 999, 90_000_000_000, 5_400_000_000_001])
  func durationText(_ nanoseconds: Int64) {
    let interval = Interval(nanoseconds: nanoseconds)
    #expect(SettingText.duration(SettingText.text(interval)) == interval)
  }

  @Test(
    "Sizes",
    arguments: [
      ("0", 0), ("4096", 4096), ("1KiB", 1024), ("64kib", 65_536), ("1GB", 1_000_000_000),
      ("2 MiB", 2_097_152), ("", nil), ("KiB", nil), ("-1", nil), ("1XB", nil), ("1.5GiB", nil),
      ("9999999999TiB", nil),
    ] as [(String, Int64?)])
  func sizes(_ text: String, _ expected: Int64?) { #expect(SettingText.size(text) == expected) }

  @Test("TOML keys, types and lines")
  func toml() throws {
    let text = "a = 'x'\n[b]\nc = 1\n\"d e\" = true\nf = [\"x\", \"y\"]\n[b.g]\nh = 1.5\n"
    let document = try TomlDocument(Array(text.utf8), name: "t")
    let items = document.items.sorted { $0.line < $1.line }
    #expect(items.map(\.key) == ["a", "b.c", "b.\"d e\"", "b.f", "b.g.h"])
    #expect(items.map(\.line) == [1, 3, 4, 5, 7])
    #expect(
      items.map(\.value) == [
        .string("x"), .integer(1), .boolean(true), .array([.string("x"), .string("y")]),
        .float("1.5"),
      ])
    #expect(try TomlDocument([], name: "t").items.isEmpty)
  }

  @Test(
    "Documents that toml++ alone would end the process on are refused with a line",
    arguments: [
      "[#", "[ . ]", "a = \u{fefe}:", "a = 1I\u{2ac}\r{", "a = \u{1681}", "[[", "a.", "a =",
    ])
  func hostile(_ text: String) {
    let found = fault { _ = try TomlDocument(Array(text.utf8), name: "t") }
    #expect(found?.code == .badSetting && found?.detail.hasPrefix("t:1:") == true)
  }

  @Test("Mutated documents are read or refused with a line, never more")
  func mutated() {
    let seed = Array(
      "a = 'x'\n[b]\nc = [1, [2], {d = 3}]\n\"e f\" = 1979-05-27T07:32:00Z\n[[g]]\nh = \"\\u00e9\"\n"
        .utf8)
    var random = SystemRandomNumberGenerator()
    for _ in 0..<2_000 {
      var text = seed
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let at = Int.random(in: 0..<text.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: text[at] = UInt8.random(in: 0...255, using: &random)
        case 1: text.remove(at: at)
        default: text.insert(contentsOf: text[at...].prefix(8), at: at)
        }
      }
      do throws(Fault) {
        _ = try TomlDocument(text, name: "t")
      } catch {
        #expect(error.code == .badSetting && error.detail.hasPrefix("t:"))
      }
    }
    let deep = Array(repeating: UInt8(ascii: "["), count: 100_000)
    #expect(throws: Fault.self) { try TomlDocument(Array("a = ".utf8) + deep, name: "t") }
  }

  @Test("A list is an array of texts in a file and comma-separated elsewhere")
  func lists() throws {
    let schema = SettingSchema([SettingKey("names", .list, "", "Names.")])
    var settings = Settings(schema: schema)
    try settings.apply(toml: Array("names = [\"a\", \"b\"]".utf8), path: "f")
    #expect(settings["names"].value == .list(["a", "b"]))
    try settings.apply(environment: ["POSTHOUSE_NAMES": "c, d"])
    #expect(settings["names"].value == .list(["c", "d"]))
    #expect(throws: Fault.self) { try settings.apply(toml: Array("names = [1]".utf8), path: "f") }
  }

  @Test(
    "Suggestions are near or not made",
    arguments: [
      ("tennant", "tenant"), ("stauts", "status"), ("chan", "channel"), ("statuses", "status"),
      ("ch", nil), ("x", nil), ("zzzzzz", nil),
    ]
      as [(String, String?)])
  func suggestions(_ typed: String, _ expected: String?) {
    #expect(Suggestion.nearest(to: typed, in: ["tenant", "status", "channel"]) == expected)
  }

  @Test(
    "Addresses",
    arguments: [
      ("127.0.0.1:5000", "127.0.0.1:5000"), ("[::1]:0", "[::1]:0"), ("node-1:443", "node-1:443"),
      ("::1:5000", nil), ("host", nil), (":5000", nil), ("host:70000", nil), ("host:", nil),
      ("ho st:1", nil),
    ] as [(String, String?)])
  func addresses(_ text: String, _ expected: String?) {
    #expect(HostPort(text)?.description == expected)
  }

  @Test("posthoused understands its flags, help and version")
  func start() throws {
    guard case .help(let text) = try NodeStart.read(arguments: ["--help"], environment: [:]) else {
      Issue.record("no help")
      return
    }
    for flag in [
      "--config", "--data", "--grpc", "--http", "--grpc-tls", "--http-tls", "--cert", "--key",
      "--admin-socket", "--auth", "--insecure", "--node-name", "--set",
      "--registry", "--federation", "--federation-peers", "--federation-insecure", "--relay-id",
    ] { #expect(text.contains("  \(flag)"), "\(flag) is missing from the help") }
    guard case .version = try NodeStart.read(arguments: ["--version"], environment: [:]) else {
      Issue.record("no version")
      return
    }
    let missing = fault {
      _ = try NodeStart.read(arguments: ["--config", "/nowhere/p.toml"], environment: [:])
    }
    #expect(missing?.code == .badSetting)
    #expect(missing?.detail.hasPrefix("configuration /nowhere/p.toml: ") == true)
    let typo = fault { _ = try NodeStart.read(arguments: ["--htpp", "x"], environment: [:]) }
    #expect(typo?.code == .usage)
    #expect(typo?.detail == "unknown option --htpp; did you mean --http?")
    let word = fault { _ = try NodeStart.read(arguments: ["serve"], environment: [:]) }
    #expect(word?.detail == "unexpected word \"serve\": posthoused takes options only")
  }
}
