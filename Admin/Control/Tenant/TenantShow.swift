internal import Base
internal import Messages
internal import Settings

enum TenantShow: Command {
  static let form = CommandForm(
    "tenant show", "Show a tenant: state, quota, today's use.", arguments: [CommandArgument("NAME")]
  )

  static func run(_ call: Call) throws(Fault) {
    let tenant: AdminTenant = try call.link().call(
      AdminService.getTenant, AdminTenantRequest(tenant: call.word(0)), timeout: try call.timeout())
    call.renderer.show(TenantView.record(tenant))
  }
}
