import Base
import Settings
import Testing

@testable import Control

private func parse(_ line: String) throws -> CommandSyntax.Parsed? {
  switch try ControlProgram.syntax.parse(line.split(separator: " ").map(String.init)) {
  case .help: nil
  case .run(let parsed): parsed
  }
}

@Suite(.timeLimit(.minutes(1))) struct CommandLineTests {
  @Test(
    "Options stand anywhere, short or long, with = or a space",
    arguments: [
      "tenant create acme -o json --no-key", "-o json tenant create acme --no-key",
      "tenant -ojson create --no-key acme", "tenant create acme --no-key -o=json",
      "tenant create --output=json --no-key -- acme",
    ])
  func options(_ line: String) throws {
    let parsed = try #require(try parse(line))
    #expect(parsed.command?.name == "tenant create")
    #expect(parsed.arguments == ["acme"])
    #expect(parsed.value("--output") == "json")
    #expect(parsed.has("--no-key"))
  }

  @Test("Switches join, a value may follow in the same word, words after -- are no options")
  func joined() throws {
    let parsed = try #require(try parse("channel tail -fn20 -- -odd"))
    #expect(parsed.has("--follow") && parsed.value("--count") == "20")
    #expect(parsed.arguments == ["-odd"])
    let scopes = try #require(try parse("key create acme --scope a --scope=b"))
    #expect(scopes.values("--scope") == ["a", "b"])
  }

  @Test(
    "Mistakes are usage errors that help",
    arguments: [
      ("tennant ls", "unknown command tennant; did you mean tenant?"),
      ("tenant crate acme", "unknown command tenant crate; did you mean tenant create?"),
      (
        "tenant frobnicate",
        "unknown command tenant frobnicate; there is create, ls, show, suspend, resume, delete, quota"
      ),
      ("tenant", "tenant wants one of create, ls, show, suspend, resume, delete, quota"),
      ("tenant create", "tenant create wants NAME"),
      ("tenant create a b", "tenant create: unexpected word \"b\""),
      ("tenant list", "unknown command tenant list; did you mean tenant ls?"),
      ("channel rm a/b/c", "unknown command channel rm; did you mean channel delete?"),
      ("create tenant x", "unknown command create; did you mean tenant create?"),
      ("list tenants", "unknown command list; did you mean tenant ls?"),
      ("tenant ls --frobnicate", "unknown option --frobnicate"),
      ("tenant ls --limt 3", "unknown option --limt; did you mean --limit?"),
      ("tenant ls -q", "unknown option -q"), ("tenant ls --limit", "--limit wants N"),
      ("tenant show x --limit 3", "--limit does not go with tenant show"),
      ("status --yes", "--yes does not go with status"),
      ("tenant delete x --yes=1", "--yes takes no value"),
      ("status -o json -o table", "-o is given twice"),
      ("status -o yaml", "-o wants one of table, wide, json, jsonl, name, not \"yaml\""),
      ("status --timeout soon", "--timeout wants a duration such as 30s, not \"soon\""),
      (
        "status --data a --admin-socket b",
        "--admin-socket and --data name two nodes: give one of them"
      ),
      ("-o json", "a command is missing"),
      ("completion fish", "there is completion for bash, not for fish"),
      ("backup restore", "backup restore wants --from DIR and --data DIR"),
      ("ring stage n2 --weight 10001", "--weight is 0 to 10000, not 10001"),
      ("node join n2 --weight 10001", "--weight is 0 to 10000, not 10001"),
      ("ring stage n2 --zone a --replicas 0", "--replicas is 1 to 7, not 0"),
      ("ring stage --replicas 8", "--replicas is 1 to 7, not 8"),
      ("ring stage", "ring stage wants a change, such as --weight N"),
    ])
  func mistakes(_ line: String, _ message: String) {
    let shell = Shell()
    #expect(shell.run(line) == .usage)
    #expect(shell.terminal.output == "")
    if line.contains("-o json") {
      #expect(shell.terminal.error.contains("\"code\":\"usage\""))
    } else {
      #expect(
        shell.terminal.error.hasPrefix("error: \(message) (usage)\n"), "\(shell.terminal.error)")
    }
  }

  @Test("Every command has help with its options, and stands in the program's help")
  func help() {
    let whole = Shell()
    #expect(whole.run("--help") == .done)
    for command in ControlProgram.commands {
      let form = command.form
      #expect(whole.terminal.output.contains("  \(form.name)"), "\(form.name) is missing")
      let shell = Shell()
      #expect(shell.run("\(form.name) --help") == .done)
      #expect(shell.terminal.output.contains("Usage: posthouse \(form.name)"))
      for option in form.options { #expect(shell.terminal.output.contains(option.name)) }
    }
    let group = Shell()
    group.run("help key")
    #expect(group.terminal.output.contains("key revoke"))
    #expect(!group.terminal.output.contains("tenant create"))
  }

  @Test(
    "Which node is meant",
    arguments: [
      ("--admin-socket /s", [:], .socket("/s")), ("--data /d", [:], .data("/d", isExplicit: true)),
      ("--data /d", ["POSTHOUSE_ADMIN_SOCKET": "/s"], .data("/d", isExplicit: true)),
      ("", ["POSTHOUSE_ADMIN_SOCKET": "/s", "POSTHOUSE_DATA": "/d"], .socket("/s")),
      ("", ["POSTHOUSE_DATA": "/d"], .data("/d", isExplicit: true)),
      (
        "--address 127.0.0.1:1 --admin-token t", [:],
        .remote(RemoteNode(address: HostPort(host: "127.0.0.1", port: 1), token: "t"))
      ),
      (
        "--address 10.0.0.1:1 --insecure", ["POSTHOUSE_ADMIN_TOKEN": "t"],
        .remote(RemoteNode(address: HostPort(host: "10.0.0.1", port: 1), token: "t"))
      ),
      (
        "--address n:1 --ca /ca.pem --admin-token t", [:],
        .remote(
          RemoteNode(
            address: HostPort(host: "n", port: 1), token: "t", isTls: true, authority: "/ca.pem"))
      ),
    ] as [(String, [String: String], NodeTarget)])
  func target(_ options: String, _ environment: [String: String], _ expected: NodeTarget) throws {
    let parsed = try #require(try parse("status " + options))
    #expect(try NodeTarget.find(parsed, environment) == expected)
  }

  @Test(
    "A remote node wants a token, and the token wants a safe way",
    arguments: [
      "--address 10.0.0.1:1", "--address 10.0.0.1:1 --admin-token t", "--address nonsense",
    ])
  func remote(_ options: String) throws {
    let parsed = try #require(try parse("status " + options))
    #expect(throws: Fault.self) { try NodeTarget.find(parsed, [:]) }
  }

  @Test("A data directory without node and database is unreachable; an explicit one is opened")
  func data() throws {
    let link = FakeLink { _, _ in [] }
    let finder = NodeFinder(
      environment: [:],
      openers: LinkOpeners(
        socket: { _ throws(Fault) in throw Fault(.unreachable, "nobody listens") },
        remote: { _ in link }, offline: { _ in link }))
    let fault = #expect(throws: Fault.self) {
      try finder.link(.data("/nowhere/posthouse", isExplicit: false))
    }
    #expect(fault?.code == .unreachable)
    #expect(try finder.link(.data("/nowhere/posthouse", isExplicit: true)) === link)
  }

  @Test(
    "A status of the node becomes its fault",
    arguments: [
      (.notFound, "not_found: no tenant x", Fault(.notFound, "no tenant x")),
      (.aborted, "epoch_taken", Fault(.epochTaken)),
      (.unavailable, "draining: bye", Fault(.draining, "bye")),
      (.deadlineExceeded, "too slow", Fault(.deadlineExceeded, "too slow")),
      (.unknown, "strange: thing", Fault(.internal, "strange: thing")),
    ] as [(GrpcStatus, String, Fault)])
  func statusFault(_ status: GrpcStatus, _ message: String, _ expected: Fault) {
    #expect(StatusFault.fault(status, message: message) == expected)
  }

  @Test(
    "Exit codes",
    arguments: [
      (.internal, 1), (.damaged, 1), (.usage, 2), (.badSetting, 2), (.badChannelName, 2),
      (.notFound, 3),
      (.forbidden, 4), (.unauthorized, 4), (.notConfirmed, 4), (.unreachable, 5), (.draining, 5),
      (.conflict, 6), (.deadlineExceeded, 7),
    ] as [(FaultCode, Int32)])
  func exitCodes(_ code: FaultCode, _ expected: Int32) {
    #expect(ExitCode(code).rawValue == expected)
    let shell = Shell { _, _ throws(Fault) in throw Fault(code, "x") }
    #expect(shell.run("tenant show x").rawValue == expected)
  }
}
