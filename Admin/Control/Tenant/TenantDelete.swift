internal import Base
internal import Messages
internal import Settings

enum TenantDelete: Command {
  static let form = CommandForm(
    "tenant delete", "Delete a tenant with its keys; its streams end.",
    arguments: [CommandArgument("NAME")], options: [Call.yes])

  static func run(_ call: Call) throws(Fault) {
    let name = call.word(0)
    try call.confirm("Deleting tenant \(name)", name: name)
    let tenant: AdminTenant = try call.link().call(
      AdminService.deleteTenant, AdminTenantRequest(tenant: name, confirm: true),
      timeout: try call.timeout())
    call.renderer.show(TenantView.record(tenant))
  }
}
