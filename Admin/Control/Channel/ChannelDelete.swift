internal import Base
internal import Messages
internal import Settings

enum ChannelDelete: Command {
  static let form = CommandForm(
    "channel delete", "Erase a channel's messages and grants; its sequences are never used again.",
    arguments: [CommandArgument("NAME")], options: [Call.yes])

  static func run(_ call: Call) throws(Fault) {
    let name = call.word(0)
    try call.confirm("Deleting channel \(name)", name: name)
    let gone: AdminDeleteChannelResponse = try call.link().call(
      AdminService.deleteChannel, AdminDeleteChannelRequest(name: name, confirm: true),
      timeout: try call.timeout())
    call.renderer.show(
      .record(
        [Field("Channel", name), Field("Erased", "\(gone.messages) messages")],
        .object([
          JsonMember("channel", .string(name)), JsonMember("messages", .unsigned(gone.messages)),
        ]), name: name))
  }
}
