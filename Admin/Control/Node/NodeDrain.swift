internal import Base
internal import Messages
internal import Settings

/// Ends a node so that another can go on: its agents are told to connect anew.
enum NodeDrain: Command {
  static let form = CommandForm(
    "node drain", "End a node: calls under way finish, streams end with OK, then it exits.",
    options: [
      CommandOption(
        "--grace", value: "DURATION",
        "For calls under way (a bare number: seconds). Default: the node's setting drain.")
    ],
    examples: ["posthouse node drain --grace 5s"])

  static func run(_ call: Call) throws(Fault) {
    let grace = try grace(call)
    let link = try call.link()
    if link.isOffline { throw Fault(.unreachable, "no node runs on this data directory") }
    let begun: AdminDrainNodeResponse = try link.call(
      AdminService.drainNode, AdminDrainNodeRequest(graceMs: grace), timeout: try call.timeout())
    call.renderer.show(
      .record(
        [
          Field("Process", "\(begun.pid)"),
          Field("Grace", "\(Double(begun.graceMs) / 1000) s"),
        ],
        .object([
          JsonMember("pid", .unsigned(UInt64(begun.pid))),
          JsonMember("grace_ms", .unsigned(UInt64(begun.graceMs))),
        ]), name: "\(begun.pid)",
        notes: [
          Note("Draining: the node takes nothing new and exits by itself.", .good),
          Note("Next: posthouse status"),
        ]))
  }

  /// Milliseconds; 0: the node decides.
  private static func grace(_ call: Call) throws(Fault) -> UInt32 {
    guard let text = call.parsed.value("--grace") else { return 0 }
    let words = text.allSatisfy(\.isNumber) ? text + "s" : text
    guard let interval = SettingText.duration(words), interval.nanoseconds >= 1_000_000 else {
      throw Fault(.usage, "--grace wants a duration such as 5s, not \"\(text)\"")
    }
    return UInt32(clamping: interval.nanoseconds / 1_000_000)
  }
}
