internal import Base
internal import Messages
internal import Settings

/// Ends a node so that another can go on: its agents are told to connect anew.
enum NodeDrain: Command {
  static let form = CommandForm(
    "node drain",
    "End a node: calls under way finish, streams end with OK, then it exits. With NODE: hand its slots "
      + "over to the others first, and go on running.",
    arguments: [CommandArgument("NODE", required: false)],
    options: [
      CommandOption(
        "--grace", value: "DURATION",
        "For calls under way (a bare number: seconds). Default: the node's setting drain.")
    ],
    examples: ["posthouse node drain --grace 5s", "posthouse node drain n3"])

  static func run(_ call: Call) throws(Fault) {
    if let name = call.parsed.argument(0) { return try handOver(name, call) }
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
          Note("Next: \(call.again("posthouse status"))"),
        ]))
  }

  /// The ring's part of it: the node owns nothing once its slots are elsewhere.
  private static func handOver(_ name: String, _ call: Call) throws(Fault) {
    if call.parsed.has("--grace") {
      throw Fault(.usage, "--grace is for ending the asked node; \(name) hands its slots over")
    }
    var request = AdminStageRingRequest()
    request.node = name
    request.state = "draining"
    request.apply = true
    let plan: AdminRingPlan = try call.link().call(
      AdminService.stageRing, request, timeout: try call.timeout())
    call.renderer.show(
      .record(
        RingView.fields(plan), RingView.json(plan), name: name,
        notes: plan.notes.map { Note($0, .bad) } + [
          Note("\(name) gets no slots any more, and hands over those it has.", .good),
          Note(
            "When \(call.again("posthouse node show \(name)")) says 0 slots, end it: posthouse node drain, asked there."
          ),
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
