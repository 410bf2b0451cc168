internal import Base
internal import Messages
internal import Settings

enum KeyList: Command {
  static let form = CommandForm(
    "key ls", "List a tenant's API keys.", arguments: [CommandArgument("TENANT")])

  static func run(_ call: Call) throws(Fault) {
    let found: AdminListKeysResponse = try call.link().call(
      AdminService.listKeys, AdminTenantRequest(tenant: call.word(0)), timeout: try call.timeout())
    call.renderer.show(.list(KeyView.columns, found.keys.map(KeyView.row)))
  }
}
