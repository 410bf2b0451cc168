internal import Base
internal import Messages
internal import Settings

/// Reads everything that is stored and checks it. Ends with 1 when anything is wrong.
enum ChannelVerify: Command {
  static let form = CommandForm(
    "channel verify", "Check every stored message of a channel, or of all.",
    arguments: [CommandArgument("NAME", required: false)])

  static func run(_ call: Call) throws(Fault) {
    var findings: [AdminVerifyFinding] = []
    var last = AdminVerifyProgress()
    var isDone = false
    try call.link().stream(
      AdminService.verifyChannels, AdminVerifyChannelsRequest(name: call.word(0)),
      of: AdminVerifyProgress.self
    ) { progress throws(Fault) in
      findings += progress.findings
      last = progress
      isDone = isDone || progress.done
      call.renderer.progress(
        "\(progress.channels) channels, \(progress.messages) messages checked, "
          + "\(findings.count) findings")
      return true
    }
    call.renderer.clearProgress()
    guard isDone else { throw Fault(.unavailable, "the node ended the check before its end") }
    show(call, last, findings)
    if !findings.isEmpty { call.outcome = .failed }
  }

  private static func show(
    _ call: Call, _ last: AdminVerifyProgress, _ findings: [AdminVerifyFinding]
  ) {
    let rows = findings.map { finding in
      JsonValue.object([
        JsonMember("channel", .string(finding.channel)),
        JsonMember("sequence", .unsigned(finding.sequence)),
        JsonMember("file", .string(finding.file)),
        JsonMember("problem", .string(finding.problem)),
      ])
    }
    let json = JsonValue.object([
      JsonMember("ok", .boolean(findings.isEmpty)),
      JsonMember("channels", .unsigned(last.channels)),
      JsonMember("records", .unsigned(last.records)),
      JsonMember("messages", .unsigned(last.messages)),
      JsonMember("findings", .array(rows)),
    ])
    var notes = findings.map { finding in
      Note(
        "\(Shown.orDash(finding.file)): channel \(Shown.orDash(finding.channel)), sequence "
          + "\(finding.sequence): \(finding.problem)", .bad)
    }
    notes.append(
      findings.isEmpty
        ? Note("Whole: every stored message is as it was written.", .good)
        : Note(
          "Damaged: \(findings.count) findings. Next: restore from a backup (posthouse backup restore).",
          .bad))
    call.renderer.show(
      .record(
        [
          Field("Channels", "\(last.channels)"), Field("Records", "\(last.records)"),
          Field("Messages", "\(last.messages)"), Field("Findings", "\(findings.count)"),
        ], json, name: findings.isEmpty ? "ok" : "damaged", notes: notes))
  }
}
