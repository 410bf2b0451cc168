internal import Base
internal import Messages
internal import Settings

enum ChannelGrant: Command {
  static let form = CommandForm(
    "channel grant", "Let another tenant use a channel.",
    arguments: [CommandArgument("NAME"), CommandArgument("TENANT")])

  static func run(_ call: Call) throws(Fault) {
    try GrantChange.make(call, AdminService.grantChannel, granted: true)
  }
}
