internal import Base
internal import Messages
internal import Settings

enum RegistryDiscover: Command {
  static let form = CommandForm(
    "registry discover", "Find agents by skill, as agents do: local ones first, equals in turns.",
    arguments: [CommandArgument("SKILL")],
    options: [
      CommandOption("--tag", value: "KEY=VALUE", "All must be there.", repeats: true),
      CommandOption("--limit", value: "N", "At most N; default 100."),
      CommandOption("--local", "Only this node's own."),
    ], examples: ["posthouse registry discover translate --tag lang=de"])

  static func run(_ call: Call) throws(Fault) {
    let texts = call.parsed.options.filter { $0.0 == "--tag" }.map(\.1)
    let found: AdminListRegistrationsResponse = try call.link().call(
      AdminService.discoverAgents,
      AdminDiscoverAgentsRequest(
        skill: call.word(0), tags: try RegistryView.tags(texts),
        limit: Int32(clamping: try call.number("--limit") ?? 0),
        localOnly: call.parsed.has("--local")),
      timeout: try call.timeout())
    call.renderer.show(.list(RegistryView.columns, found.registrations.map(RegistryView.row)))
  }
}
