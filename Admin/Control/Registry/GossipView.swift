internal import Messages
internal import Settings

/// How gossip looks in every command.
enum GossipView {
  static func digest(_ g: AdminGossip) -> String {
    let hex = String(g.digest, radix: 16)
    return String(repeating: "0", count: 16 - hex.count) + hex
  }

  static func ago(_ nanoseconds: Int64) -> String {
    if nanoseconds < 0 { return "never" }
    let tenths = nanoseconds / 100_000_000
    return tenths < 100 ? "\(tenths / 10).\(tenths % 10) s ago" : "\(tenths / 10) s ago"
  }

  static let originColumns: [Column] = [
    .left("RELAY"), .right("AGENTS"), .right("TOMBSTONES"), .left("STATE"), .left("HEARD"),
    .right("SEQUENCE"), .wide("FLOOR", right: true), .wide("INCARNATION", right: true),
  ]

  static func row(_ o: AdminGossipOrigin, own: Bool) -> ViewRow {
    ViewRow(
      cells: [
        o.relayID, "\(o.live)", "\(o.tombstones)",
        own ? "this relay" : o.hidden ? "hidden" : "heard", own ? "-" : ago(o.heardAgoNs),
        "\(o.sequence)", "\(o.floor)", "\(o.incarnation)",
      ], json: json(o), name: o.relayID)
  }

  static func json(_ o: AdminGossipOrigin) -> JsonValue {
    .object([
      JsonMember("relay_id", .string(o.relayID)), JsonMember("agents", .unsigned(o.live)),
      JsonMember("tombstones", .unsigned(o.tombstones)), JsonMember("hidden", .boolean(o.hidden)),
      JsonMember("heard_ago_ns", .integer(o.heardAgoNs)),
      JsonMember("incarnation", .unsigned(o.incarnation)),
      JsonMember("sequence", .unsigned(o.sequence)), JsonMember("floor", .unsigned(o.floor)),
    ])
  }

  static let peerColumns: [Column] = [
    .left("PEER"), .left("ADDRESS"), .left("KIND"), .left("STATE"), .left("LAST"),
    .right("RECEIVED"), .right("SENT"), .right("REFUSED"), .wide("TRUST"),
    .wide("EXCHANGES", right: true), .wide("FAILURES", right: true), .wide("REPAIRS", right: true),
    .wide("WHY"),
  ]

  static func row(_ p: AdminGossipPeer) -> ViewRow {
    ViewRow(
      cells: [
        p.name, p.address, p.kind, state(p), ago(p.lastSuccessAgoNs), "\(p.received)", "\(p.sent)",
        "\(p.refused)", p.trust, "\(p.exchanges)", "\(p.failures)", "\(p.repairs)",
        Shown.orDash(p.lastFailure),
      ], json: json(p), name: p.name)
  }

  static func state(_ p: AdminGossipPeer) -> String {
    p.failing > 0 ? "failing (\(p.failing))" : p.lastSuccessAgoNs < 0 ? "not met" : "well"
  }

  static func json(_ p: AdminGossipPeer) -> JsonValue {
    .object([
      JsonMember("name", .string(p.name)), JsonMember("address", .string(p.address)),
      JsonMember("trust", .string(p.trust)), JsonMember("kind", .string(p.kind)),
      JsonMember("phase", .string(p.phase)), JsonMember("exchanges", .unsigned(p.exchanges)),
      JsonMember("failures", .unsigned(p.failures)),
      JsonMember("failing", .unsigned(UInt64(p.failing))),
      JsonMember("last_failure", .string(p.lastFailure)),
      JsonMember("last_success_ago_ns", .integer(p.lastSuccessAgoNs)),
      JsonMember("received", .unsigned(p.received)), JsonMember("sent", .unsigned(p.sent)),
      JsonMember("refused", .unsigned(p.refused)), JsonMember("repairs", .unsigned(p.repairs)),
    ])
  }
}
