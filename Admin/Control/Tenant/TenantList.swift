internal import Base
internal import Messages
internal import Settings

enum TenantList: Command {
  static let form = CommandForm(
    "tenant ls", "List the tenants.",
    options: [
      CommandOption("--limit", value: "N", "Stop after N."),
      CommandOption("--after", value: "NAME", "Begin after this name."),
    ])

  static func run(_ call: Call) throws(Fault) {
    let link = try call.link()
    let timeout = try call.timeout()
    let limit = try call.number("--limit") ?? .max
    var after = call.parsed.value("--after") ?? ""
    var rows: [ViewRow] = []
    var more: String?
    while UInt64(rows.count) < limit {
      let page: AdminListTenantsResponse = try link.call(
        AdminService.listTenants,
        AdminListTenantsRequest(after: after, limit: UInt32(min(1000, limit - UInt64(rows.count)))),
        timeout: timeout)
      rows += page.tenants.map(TenantView.row)
      if page.next.isEmpty || page.next == after || page.tenants.isEmpty { break }
      after = page.next
      if UInt64(rows.count) >= limit { more = "There are more: --after \(after)" }
    }
    call.renderer.show(.list(TenantView.columns, rows, more: more))
  }
}
