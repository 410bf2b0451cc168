internal import Base
internal import Messages
internal import Settings

enum RegistryList: Command {
  static let form = CommandForm(
    "registry ls", "List the agents that this node knows.",
    options: [
      CommandOption("--origin", value: "RELAY", "Only those of this relay."),
      CommandOption("--skill", value: "ID", "Only those that offer this skill."),
      CommandOption("--gone", "Ended ones that are remembered, too."),
      CommandOption("--limit", value: "N", "Stop after N."),
      CommandOption("--after", value: "PLACE", "Begin after this place."),
    ], examples: ["posthouse registry ls --skill translate"])

  static func run(_ call: Call) throws(Fault) {
    let link = try call.link()
    let timeout = try call.timeout()
    let limit = try call.number("--limit") ?? .max
    var after = UInt32(clamping: try call.number("--after") ?? 0)
    var rows: [ViewRow] = []
    var more: String?
    while UInt64(rows.count) < limit {
      let page: AdminListRegistrationsResponse = try link.call(
        AdminService.listRegistrations,
        AdminListRegistrationsRequest(
          origin: call.parsed.value("--origin") ?? "", skill: call.parsed.value("--skill") ?? "",
          withGone: call.parsed.has("--gone"), after: after,
          limit: UInt32(min(1000, limit - UInt64(rows.count)))),
        timeout: timeout)
      rows += page.registrations.map(RegistryView.row)
      if page.next == 0 || page.next <= after { break }
      after = page.next
      if UInt64(rows.count) >= limit { more = "There are more: --after \(after)" }
    }
    call.renderer.show(.list(RegistryView.columns, rows, more: more))
  }
}
