internal import Base
internal import Messages
internal import Settings

enum AdminToken: Command {
  static let form = CommandForm(
    "admin token", "Make an admin credential for use from elsewhere; it is shown once.",
    options: [CommandOption("--ttl", value: "DURATION", "Its life. Default: 1h; at most 30d.")],
    examples: ["export POSTHOUSE_ADMIN_TOKEN=$(posthouse admin token -o name)"])

  static func run(_ call: Call) throws(Fault) {
    let made: AdminCreateAdminTokenResponse = try call.link().call(
      AdminService.createAdminToken,
      AdminCreateAdminTokenRequest(ttlSeconds: try call.seconds("--ttl") ?? 0),
      timeout: try call.timeout())
    call.renderer.show(
      .record(
        [Field("Admin token", made.token), Field("Expires", Shown.time(made.expiresUnixNs))],
        .object([
          JsonMember("token", .string(made.token)),
          JsonMember("expires", Shown.timeJson(made.expiresUnixNs)),
        ]), name: made.token, notes: [Note("Keep it: it is shown this once and opens everything.")])
    )
  }
}
