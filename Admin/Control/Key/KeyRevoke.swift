internal import Base
internal import Messages
internal import Settings

enum KeyRevoke: Command {
  static let form = CommandForm(
    "key revoke", "Revoke an API key; its streams end within 5 seconds.",
    arguments: [CommandArgument("KEY_ID")], options: [Call.yes])

  static func run(_ call: Call) throws(Fault) {
    let id = call.word(0)
    try call.confirm("Revoking key \(id)", name: id)
    let key: AdminKey = try call.link().call(
      AdminService.revokeKey, AdminRevokeKeyRequest(keyID: id), timeout: try call.timeout())
    call.renderer.show(
      .record(KeyView.fields(key), .object(KeyView.members(key)), name: key.keyID))
  }
}
