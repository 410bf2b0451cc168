internal import Base
internal import Messages
internal import Settings

enum RegistryShow: Command {
  static let form = CommandForm(
    "registry show", "Show an agent: its skills, its relay, until when.",
    arguments: [CommandArgument("PEER-ID")])

  static func run(_ call: Call) throws(Fault) {
    let found: AdminRegistration = try call.link().call(
      AdminService.getRegistration, AdminGetRegistrationRequest(peerID: call.word(0)),
      timeout: try call.timeout())
    call.renderer.show(
      .record(RegistryView.fields(found), RegistryView.json(found), name: found.peerID))
  }
}
