internal import Base
internal import Settings

/// The program `posthouse`: from words to an exit code.
public enum ControlProgram {
  /// `arguments` without the program's name.
  public static func run(
    arguments: [String], environment: [String: String], terminal: any Terminal
  ) -> ExitCode {
    run(
      arguments: arguments, environment: environment, terminal: terminal, openers: .standard)
  }

  static func run(
    arguments: [String], environment: [String: String], terminal: any Terminal, openers: LinkOpeners
  ) -> ExitCode {
    let noColor = !(environment["NO_COLOR"] ?? "").isEmpty
    var renderer = Renderer(
      form: guessForm(arguments), terminal: terminal, noColor: noColor)
    do throws(Fault) {
      let parsed: CommandSyntax.Parsed
      switch try syntax.parse(arguments) {
      case .help(let text):
        _ = terminal.write(output: text)
        return .done
      case .run(let run): parsed = run
      }
      if let name = parsed.value("--output") {
        guard let form = OutputForm(rawValue: name) else {
          let forms = OutputForm.allCases.map(\.rawValue).joined(separator: ", ")
          throw Fault(.usage, "-o wants one of \(forms), not \"\(name)\"")
        }
        renderer = Renderer(form: form, terminal: terminal, noColor: noColor)
      }
      let call = Call(
        parsed: parsed, environment: environment, renderer: renderer,
        finder: NodeFinder(environment: environment, openers: openers))
      defer { call.close() }
      try command(parsed).run(call)
      renderer.clearProgress()
      return call.outcome
    } catch {
      renderer.show(error)
      return ExitCode(error.code)
    }
  }

  private static func command(_ parsed: CommandSyntax.Parsed) throws(Fault) -> any Command.Type {
    guard let form = parsed.command else {
      if parsed.has("--version") { return VersionShow.self }
      throw Fault(.usage, "a command is missing")
    }
    guard let found = commands.first(where: { $0.form.path == form.path }) else {
      throw Fault(.internal, "no command \(form.name)")
    }
    return found
  }

  /// The form of errors found before the command line is understood.
  private static func guessForm(_ arguments: [String]) -> OutputForm {
    for (at, word) in arguments.enumerated() {
      if word == "--" { break }
      var text: String?
      if word == "-o" || word == "--output" {
        text = at + 1 < arguments.count ? arguments[at + 1] : nil
      } else if word.hasPrefix("--output=") {
        text = String(word.dropFirst(9))
      } else if word.hasPrefix("-o") {
        text = String(word.dropFirst(word.hasPrefix("-o=") ? 3 : 2))
      }
      if let text, let form = OutputForm(rawValue: text) { return form }
    }
    return .table
  }

  /// Every command, in the order of the help.
  static let commands: [any Command.Type] = [
    StatusShow.self, HealthCheck.self, TopShow.self, UsageShow.self,
    TenantCreate.self, TenantList.self, TenantShow.self, TenantSuspend.self, TenantResume.self,
    TenantDelete.self, TenantQuota.self,
    KeyCreate.self, KeyList.self, KeyRevoke.self, SigningKeyRotate.self,
    RegistryList.self, RegistryShow.self, RegistryDiscover.self, RegistryPurge.self,
    GossipStatus.self, GossipDigest.self, GossipSync.self, GossipPeerList.self,
    ChannelList.self, ChannelShow.self, ChannelTail.self, ChannelVerify.self, ChannelGrant.self,
    ChannelRevoke.self, ChannelDelete.self,
    BackupCreate.self, BackupRestore.self,
    NodeList.self, NodeShow.self, NodeJoin.self, NodeDrain.self, NodeForget.self,
    RingShow.self, RingOwner.self, RingPlanShow.self, RingDiff.self, RingStage.self, RingApply.self,
    RingRevert.self, RingHistoryShow.self, GossipRtt.self, ClusterInit.self,
    TlsInit.self, TlsIssue.self, TlsShow.self,
    AdminToken.self, ErrorsList.self, ErrorsLookup.self, ConfigShow.self, VersionShow.self,
    ContextList.self, ContextAdd.self, ContextUse.self, ContextRemove.self,
    CompletionShow.self,
  ]

  static let syntax = CommandSyntax(
    program: "posthouse", summary: "Operates a Posthouse node.",
    options: [
      CommandOption(
        "--output", short: "o", value: "FORM", "table, wide, json, jsonl or name."),
      CommandOption("--admin-socket", value: "PATH", "The node's admin socket."),
      CommandOption(
        "--data", value: "DIR", "A data directory: its running node, else the database itself."),
      CommandOption("--context", value: "NAME", "A node by the name that `context add` gave it."),
      CommandOption("--address", value: "HOST:PORT", "A node's gRPC address; wants --admin-token."),
      CommandOption(
        "--admin-token", value: "TOKEN",
        "Admin credential; better in POSTHOUSE_ADMIN_TOKEN, where other users cannot see it."),
      CommandOption("--tls", "Reach --address over TLS."),
      CommandOption(
        "--ca", value: "FILE", "Authorities (PEM) to believe instead of the system's; TLS."),
      CommandOption("--insecure", "Send the admin token in clear text off this machine."),
      CommandOption("--timeout", value: "DURATION", "Longest wait for an answer. Default: 30s."),
      CommandOption("--version", "Print the version."),
    ],
    commands: commands.map { $0.form },
    ending:
      "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 unreachable, 6 conflict, "
      + "7 timed out.")
}
