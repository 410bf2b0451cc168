internal import Base
internal import Messages
internal import Settings

enum KeyCreate: Command {
  static let form = CommandForm(
    "key create", "Make an API key for a tenant; it is shown once.",
    arguments: [CommandArgument("TENANT")],
    options: [
      CommandOption("--label", value: "TEXT", "What it is for."),
      CommandOption(
        "--scope", value: "SCOPE", "Allow this only; may be given again.", repeats: true),
      CommandOption("--ttl", value: "DURATION", "Life of the key. Default: for ever."),
    ], examples: ["posthouse key create acme --label ci --ttl 30d"])

  static func run(_ call: Call) throws(Fault) {
    let request = AdminCreateKeyRequest(
      tenant: call.word(0), label: call.parsed.value("--label") ?? "",
      scopes: call.parsed.values("--scope"), ttlSeconds: try call.seconds("--ttl") ?? 0)
    let made: AdminCreateKeyResponse = try call.link().call(
      AdminService.createKey, request, timeout: try call.timeout())
    let key = made.key ?? AdminKey()
    call.renderer.show(
      .record(
        [Field("API key", made.apiKey)] + KeyView.fields(key),
        .object([JsonMember("api_key", .string(made.apiKey))] + KeyView.members(key)),
        name: key.keyID, notes: [Note("Keep the key: it is shown this once.")]))
  }
}
