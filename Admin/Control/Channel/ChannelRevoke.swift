internal import Base
internal import Codec
internal import Messages
internal import Settings

enum ChannelRevoke: Command {
  static let form = CommandForm(
    "channel revoke", "Take a tenant's grant back; its streams on the channel end.",
    arguments: [CommandArgument("NAME"), CommandArgument("TENANT")])

  static func run(_ call: Call) throws(Fault) {
    try GrantChange.make(call, AdminService.revokeGrant, granted: false)
  }
}

/// Both ways of changing a grant.
enum GrantChange {
  static func make(_ call: Call, _ method: MethodDescriptor, granted: Bool) throws(Fault) {
    let name = call.word(0)
    let tenant = call.word(1)
    let _: AdminGrantChannelResponse = try call.link().call(
      method, AdminGrantChannelRequest(name: name, tenant: tenant), timeout: try call.timeout())
    call.renderer.show(
      .record(
        [
          Field("Channel", name), Field("Tenant", tenant), Field("Granted", granted ? "yes" : "no"),
        ],
        .object([
          JsonMember("channel", .string(name)), JsonMember("tenant", .string(tenant)),
          JsonMember("granted", .boolean(granted)),
        ]), name: name))
  }
}
