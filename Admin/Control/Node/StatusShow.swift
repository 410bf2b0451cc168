internal import Base
internal import Messages
internal import Report
internal import Settings

/// How the node is, one verdict, and what to type next. Ends with 1 when the node is not ready.
enum StatusShow: Command {
  static let form = CommandForm("status", "How the node is, and what to do next.")

  static func run(_ call: Call) throws(Fault) {
    let link = try call.link()
    let s: AdminNodeStatus = try link.call(
      AdminService.getStatus, AdminGetStatusRequest(), timeout: try call.timeout())
    let verdict =
      link.isOffline
      ? stopped(s) : verdict(s, hasTenants: s.tenants > 0 || hasTenantsElsewhere(call, link))
    call.renderer.show(
      .record(
        fields(s), json(s, verdict), name: s.nodeName,
        notes: [
          Note(verdict.text, verdict.good ? .good : .bad),
          Note(
            "Next: "
              + (verdict.next.hasPrefix("posthouse ") ? call.again(verdict.next) : verdict.next)),
        ]))
    if !verdict.good { call.outcome = link.isOffline ? .unreachable : .failed }
  }

  struct Verdict: Equatable {
    var good: Bool
    var text: String
    var next: String
  }

  /// The database opens, and nobody serves it.
  private static func stopped(_ s: AdminNodeStatus) -> Verdict {
    Verdict(
      good: false, text: "Stopped: no node runs on this directory; its database opens.",
      next: "posthoused --data \(s.dataDirectory)")
  }

  /// On other nodes of a cluster; a node that cannot be asked may have some.
  private static func hasTenantsElsewhere(_ call: Call, _ link: any AdminLink) -> Bool {
    do throws(Fault) {
      let page: AdminListTenantsResponse = try link.call(
        AdminService.listTenants, AdminListTenantsRequest(limit: 1), timeout: try call.timeout())
      return !page.tenants.isEmpty
    } catch {
      return true
    }
  }

  static func verdict(_ s: AdminNodeStatus, hasTenants: Bool) -> Verdict {
    if s.draining {
      return Verdict(
        good: false, text: "Draining: the node takes no new streams and will end.",
        next: "systemctl status posthoused")
    }
    if !s.ready {
      let disk = s.notReadyReasons.contains { $0.contains("disk") }
      return Verdict(
        good: false, text: "Not ready: \(Shown.list(s.notReadyReasons)).",
        next: disk ? "df -h \(s.dataDirectory)" : "journalctl -u posthoused -n 50")
    }
    let serving = "Ready: \(s.sessions) streams on \(s.channelsActive) active channels."
    if !hasTenants, s.auth == "required" {
      return Verdict(
        good: true, text: "\(serving) There is no tenant yet.", next: "posthouse tenant create NAME"
      )
    }
    if s.auth == "open" {
      return Verdict(
        good: true, text: "\(serving) Streams need no token (auth open).",
        next: "posthouse config show --origin")
    }
    return Verdict(good: true, text: serving, next: "posthouse channel ls")
  }

  private static func fields(_ s: AdminNodeStatus) -> [Field] {
    [
      Field("Node", s.nodeName), Field("Version", s.version),
      Field("Since", "\(Shown.time(s.startedUnixNs)) (\(uptime(s.startedUnixNs)))"),
      Field("gRPC", Shown.orDash(s.grpcAddress)), Field("HTTP", Shown.orDash(s.httpAddress)),
      Field("Auth", s.auth), Field("Streams", "\(s.sessions)"),
      Field("Channels", "\(s.channelsActive) active"), Field("Tenants", "\(s.tenants)"),
      Field("Messages", "\(s.messagesPublished) published, \(s.messagesDelivered) delivered"),
      Field(
        "Disk", "\(Shown.size(s.diskUsedBytes)) used, \(Shown.size(s.diskFreeBytes)) free"),
      Field("Data", s.dataDirectory), Field("Loops", "\(s.loops)", wide: true),
      Field("Format", "\(s.formatVersion)", wide: true),
    ]
  }

  private static func uptime(_ started: Int64) -> String {
    let seconds = max(0, (Timestamp.now().nanoseconds - started) / 1_000_000_000)
    if seconds < 120 { return "\(seconds)s" }
    if seconds < 7_200 { return "\(seconds / 60)m" }
    if seconds < 172_800 { return "\(seconds / 3_600)h" }
    return "\(seconds / 86_400)d"
  }

  private static func json(_ s: AdminNodeStatus, _ verdict: Verdict) -> JsonValue {
    .object([
      JsonMember("node", .string(s.nodeName)), JsonMember("version", .string(s.version)),
      JsonMember("started", Shown.timeJson(s.startedUnixNs)),
      JsonMember("ready", .boolean(s.ready)),
      JsonMember("not_ready_reasons", .strings(s.notReadyReasons)),
      JsonMember("draining", .boolean(s.draining)), JsonMember("auth", .string(s.auth)),
      JsonMember("grpc", .string(s.grpcAddress)), JsonMember("http", .string(s.httpAddress)),
      JsonMember("sessions", .unsigned(s.sessions)),
      JsonMember("channels_active", .unsigned(s.channelsActive)),
      JsonMember("tenants", .unsigned(s.tenants)),
      JsonMember("messages_published", .unsigned(s.messagesPublished)),
      JsonMember("messages_delivered", .unsigned(s.messagesDelivered)),
      JsonMember("disk_used_bytes", .unsigned(s.diskUsedBytes)),
      JsonMember("disk_free_bytes", .unsigned(s.diskFreeBytes)),
      JsonMember("data", .string(s.dataDirectory)), JsonMember("loops", .unsigned(UInt64(s.loops))),
      JsonMember("format_version", .unsigned(UInt64(s.formatVersion))),
      JsonMember("verdict", .string(verdict.text)), JsonMember("next", .string(verdict.next)),
    ])
  }
}
