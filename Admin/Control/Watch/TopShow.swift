internal import Base
internal import Glibc
internal import Messages
internal import Report
internal import Settings

/// What a node does, line after line: figures of the time since the line before.
enum TopShow: Command {
  static let form = CommandForm(
    "top", "What the node does: a line every few seconds, until Ctrl-C.",
    options: [
      CommandOption("--interval", value: "DURATION", "Between two lines. Default: 2s."),
      CommandOption("--count", short: "n", value: "N", "End after N lines."),
    ],
    examples: ["posthouse top", "posthouse top -n 5 --interval 10s -o jsonl"])

  static func run(_ call: Call) throws(Fault) {
    let interval = try interval(call)
    let count = try call.number("--count") ?? .max
    let link = try call.link()
    if link.isOffline { throw Fault(.unreachable, "no node runs on this data directory") }
    let timeout = try call.timeout()
    call.renderer.begin([
      .left("TIME", width: 20), .right("STREAMS", width: 7), .right("CHANNELS", width: 8),
      .right("IN/S", width: 9), .right("OUT/S", width: 9), .right("DISK FREE", width: 9),
      .left("STATE", width: 8), .wide("DISK USED", right: true, width: 9),
      .wide("TENANTS", right: true, width: 7),
    ])
    var before: (status: AdminNodeStatus, at: Instant)?
    var shown: UInt64 = 0
    while shown < count, !call.renderer.readerGone {
      let status: AdminNodeStatus = try link.call(
        AdminService.getStatus, AdminGetStatusRequest(), timeout: timeout)
      let now = Timestamp.now()
      // The first look is what the others are compared with.
      if let before {
        call.renderer.row(row(status, before.status, now - before.at, now))
        shown += 1
      }
      before = (status, now)
      if shown < count { wait(interval) }
    }
    call.renderer.end()
  }

  static func row(
    _ s: AdminNodeStatus, _ before: AdminNodeStatus, _ passed: Interval, _ now: Instant
  ) -> ViewRow {
    // A node that was started anew counts from nothing.
    let since = s.startedUnixNs == before.startedUnixNs ? before : AdminNodeStatus()
    let seconds = max(0.001, Double(passed.nanoseconds) / 1e9)
    func rate(_ count: UInt64, _ earlier: UInt64) -> Double {
      count < earlier ? 0 : (Double(count - earlier) / seconds * 10).rounded() / 10
    }
    let taken = rate(s.messagesPublished, since.messagesPublished)
    let given = rate(s.messagesDelivered, since.messagesDelivered)
    let state = s.draining ? "draining" : s.ready ? "ready" : "not ready"
    return ViewRow(
      cells: [
        Shown.time(now.nanoseconds), "\(s.sessions)", "\(s.channelsActive)", "\(taken)", "\(given)",
        Shown.size(s.diskFreeBytes), state, Shown.size(s.diskUsedBytes), "\(s.tenants)",
      ],
      json: .object([
        JsonMember("time", Shown.timeJson(now.nanoseconds)),
        JsonMember("sessions", .unsigned(s.sessions)),
        JsonMember("channels_active", .unsigned(s.channelsActive)),
        JsonMember("messages_published", .unsigned(s.messagesPublished)),
        JsonMember("messages_delivered", .unsigned(s.messagesDelivered)),
        JsonMember("published_per_second", .unsigned(UInt64(taken.rounded()))),
        JsonMember("delivered_per_second", .unsigned(UInt64(given.rounded()))),
        JsonMember("disk_free_bytes", .unsigned(s.diskFreeBytes)),
        JsonMember("disk_used_bytes", .unsigned(s.diskUsedBytes)),
        JsonMember("ready", .boolean(s.ready)), JsonMember("draining", .boolean(s.draining)),
      ]), name: state)
  }

  private static func interval(_ call: Call) throws(Fault) -> Interval {
    guard let text = call.parsed.value("--interval") else { return .seconds(2) }
    guard let interval = SettingText.duration(text), interval.nanoseconds >= 10_000_000 else {
      throw Fault(.usage, "--interval wants a duration such as 2s, not \"\(text)\"")
    }
    return interval
  }

  private static func wait(_ interval: Interval) {
    // A signal may cut it short: then a line comes early.
    var time = timespec(
      tv_sec: Int(interval.nanoseconds / 1_000_000_000),
      tv_nsec: Int(interval.nanoseconds % 1_000_000_000))
    _ = unsafe nanosleep(&time, nil)
  }
}
