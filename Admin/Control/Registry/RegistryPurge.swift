internal import Base
internal import Messages
internal import Settings

/// On this node only: others purge for themselves.
enum RegistryPurge: Command {
  static let form = CommandForm(
    "registry purge", "Forget all agents of a relay until it is heard of again.",
    options: [
      CommandOption("--origin", value: "RELAY", "The relay's id, as in gossip status."), Call.yes,
    ], examples: ["posthouse registry purge --origin relay-9 --yes"])

  static func run(_ call: Call) throws(Fault) {
    guard let origin = call.parsed.value("--origin") else {
      throw Fault(.usage, "registry purge wants --origin RELAY")
    }
    try call.confirm("Forgetting the agents of \(origin)", name: origin)
    let done: AdminPurgeOriginResponse = try call.link().call(
      AdminService.purgeOrigin, AdminPurgeOriginRequest(origin: origin),
      timeout: try call.timeout())
    call.renderer.show(
      .record(
        [Field("Relay", origin), Field("Forgotten", "\(done.purged)")],
        .object([
          JsonMember("origin", .string(origin)), JsonMember("purged", .unsigned(done.purged)),
        ]), name: origin,
        notes: [Note("Purge it on the other nodes, too: each keeps what it knows.")]))
  }
}
