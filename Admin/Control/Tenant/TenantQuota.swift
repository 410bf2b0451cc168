internal import Base
internal import Messages
internal import Settings

enum TenantQuota: Command {
  static let form = CommandForm(
    "tenant quota", "Show or set what a tenant may use a day (UTC).",
    arguments: [CommandArgument("NAME")],
    options: [
      CommandOption("--messages", value: "N", "Messages; 0: no limit."),
      CommandOption("--bytes", value: "SIZE", "Bytes; 0: no limit."),
      CommandOption("--tokens", value: "N", "Tokens (JWTs); 0: no limit."),
    ], examples: ["posthouse tenant quota acme --messages 1000000 --bytes 10GiB"])

  static func run(_ call: Call) throws(Fault) {
    let messages = try call.number("--messages")
    let bytes = try call.size("--bytes")
    let tokens = try call.number("--tokens")
    let link = try call.link()
    let timeout = try call.timeout()
    var tenant: AdminTenant = try link.call(
      AdminService.getTenant, AdminTenantRequest(tenant: call.word(0)), timeout: timeout)
    if messages != nil || bytes != nil || tokens != nil {
      var quota = tenant.quota ?? AdminQuota()
      if let messages { quota.messagesPerDay = messages }
      if let bytes { quota.bytesPerDay = bytes }
      if let tokens { quota.tokensPerDay = tokens }
      tenant = try link.call(
        AdminService.setQuota, AdminSetQuotaRequest(tenant: tenant.tenant, quota: quota),
        timeout: timeout)
    }
    call.renderer.show(TenantView.record(tenant))
  }
}
