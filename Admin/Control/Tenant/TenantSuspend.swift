internal import Base
internal import Messages
internal import Settings

enum TenantSuspend: Command {
  static let form = CommandForm(
    "tenant suspend", "Refuse a tenant's keys and end its streams; nothing is lost.",
    arguments: [CommandArgument("NAME")])

  static func run(_ call: Call) throws(Fault) {
    let tenant: AdminTenant = try call.link().call(
      AdminService.suspendTenant, AdminTenantRequest(tenant: call.word(0)),
      timeout: try call.timeout())
    call.renderer.show(
      TenantView.record(
        tenant, notes: [Note("To take it back: posthouse tenant resume \(tenant.tenant)")]))
  }
}
