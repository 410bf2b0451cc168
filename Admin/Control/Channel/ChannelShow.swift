internal import Base
internal import Messages
internal import Settings

enum ChannelShow: Command {
  static let form = CommandForm(
    "channel show", "Show a channel: what is kept, its MLS epoch, who may use it.",
    arguments: [CommandArgument("NAME")])

  static func run(_ call: Call) throws(Fault) {
    guard let channel = try ChannelFinder.one(call.word(0), call) else { return }
    call.renderer.show(
      .record(ChannelView.fields(channel), ChannelView.json(channel), name: channel.name))
  }
}
