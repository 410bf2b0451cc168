internal import Base
internal import Messages
internal import Settings

enum ChannelList: Command {
  static let form = CommandForm(
    "channel ls", "List the channels.", arguments: [CommandArgument("PREFIX", required: false)],
    options: [
      CommandOption("--limit", value: "N", "Stop after N."),
      CommandOption("--after", value: "NAME", "Begin after this name."),
    ], examples: ["posthouse channel ls acme/"])

  static func run(_ call: Call) throws(Fault) {
    let link = try call.link()
    let timeout = try call.timeout()
    let limit = try call.number("--limit") ?? .max
    var after = call.parsed.value("--after") ?? ""
    var rows: [ViewRow] = []
    var more: String?
    while UInt64(rows.count) < limit {
      let page: AdminListChannelsResponse = try link.call(
        AdminService.listChannels,
        AdminListChannelsRequest(
          prefix: call.word(0), after: after, limit: UInt32(min(1000, limit - UInt64(rows.count)))),
        timeout: timeout)
      rows += page.channels.map(ChannelView.row)
      if page.next.isEmpty || page.next == after || page.channels.isEmpty { break }
      after = page.next
      if UInt64(rows.count) >= limit { more = "There are more: --after \(after)" }
    }
    call.renderer.show(.list(ChannelView.columns, rows, more: more))
  }
}
