internal import Base
internal import Messages
internal import Settings

/// What tenants have used today, beside what they may.
enum UsageShow: Command {
  static let form = CommandForm(
    "usage", "What tenants have used today (UTC), and how much of their quota that is.",
    arguments: [CommandArgument("TENANT", required: false)],
    examples: ["posthouse usage", "posthouse usage acme -o json"])

  static func run(_ call: Call) throws(Fault) {
    var rows: [ViewRow] = []
    if let name = call.parsed.argument(0) {
      let tenant: AdminTenant = try call.link().call(
        AdminService.getTenant, AdminTenantRequest(tenant: name), timeout: try call.timeout())
      rows.append(row(tenant))
    } else {
      var after = ""
      while true {
        let page: AdminListTenantsResponse = try call.link().call(
          AdminService.listTenants, AdminListTenantsRequest(after: after, limit: 1000),
          timeout: try call.timeout())
        rows += page.tenants.map(row)
        if page.next.isEmpty || page.next == after || page.tenants.isEmpty { break }
        after = page.next
      }
    }
    call.renderer.show(
      .list(
        [
          .left("TENANT"), .right("MESSAGES"), .right("OF"), .right("BYTES"), .right("OF"),
          .left("STATE"),
        ], rows))
  }

  static func row(_ t: AdminTenant) -> ViewRow {
    let quota = t.quota ?? AdminQuota()
    let isOver =
      quota.messagesPerDay > 0 && t.messagesToday >= quota.messagesPerDay
      || quota.bytesPerDay > 0 && t.bytesToday >= quota.bytesPerDay
    let state = isOver ? "over quota" : t.state
    return ViewRow(
      cells: [
        t.tenant, "\(t.messagesToday)", part(t.messagesToday, quota.messagesPerDay),
        Shown.size(t.bytesToday), part(t.bytesToday, quota.bytesPerDay), state,
      ],
      json: .object([
        JsonMember("tenant", .string(t.tenant)),
        JsonMember("messages_today", .unsigned(t.messagesToday)),
        JsonMember("messages_per_day", .unsigned(quota.messagesPerDay)),
        JsonMember("bytes_today", .unsigned(t.bytesToday)),
        JsonMember("bytes_per_day", .unsigned(quota.bytesPerDay)),
        JsonMember("over_quota", .boolean(isOver)), JsonMember("state", .string(t.state)),
      ]), name: t.tenant)
  }

  private static func part(_ used: UInt64, _ limit: UInt64) -> String {
    limit == 0 ? "no limit" : "\(Int((Double(used) / Double(limit) * 100).rounded())) %"
  }
}
