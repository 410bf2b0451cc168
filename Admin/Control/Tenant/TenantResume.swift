internal import Base
internal import Messages
internal import Settings

enum TenantResume: Command {
  static let form = CommandForm(
    "tenant resume", "Let a suspended tenant work again.", arguments: [CommandArgument("NAME")])

  static func run(_ call: Call) throws(Fault) {
    let tenant: AdminTenant = try call.link().call(
      AdminService.resumeTenant, AdminTenantRequest(tenant: call.word(0)),
      timeout: try call.timeout())
    call.renderer.show(TenantView.record(tenant))
  }
}
