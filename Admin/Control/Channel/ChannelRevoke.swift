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
    var notes: [Note] = []
    if granted, try isMissing(name, call) {
      notes.append(
        Note(
          "No message was kept under this name yet: the grant counts once there is one. Was it spelled as meant?"
        ))
    }
    call.renderer.show(
      .record(
        [
          Field("Channel", name), Field("Tenant", tenant), Field("Granted", granted ? "yes" : "no"),
        ],
        .object([
          JsonMember("channel", .string(name)), JsonMember("tenant", .string(tenant)),
          JsonMember("granted", .boolean(granted)),
        ]), name: name, notes: notes))
  }

  /// A grant is for a name; a SLIM app's groups under it count, too.
  private static func isMissing(_ name: String, _ call: Call) throws(Fault) -> Bool {
    do throws(Fault) {
      return try ChannelFinder.find(name, call).isEmpty
    } catch {
      // The grant is made: whatever is wrong here is no failure of it.
      return false
    }
  }
}
