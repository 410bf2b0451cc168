internal import Base
internal import Messages
internal import Settings

enum GossipStatus: Command {
  static let form = CommandForm(
    "gossip status", "Whether this node and its peers agree: agents, origins, peers, a verdict.")

  static func run(_ call: Call) throws(Fault) {
    let g: AdminGossip = try call.link().call(
      AdminService.getGossip, AdminGetGossipRequest(), timeout: try call.timeout())
    let failing = g.peers.filter { $0.failing > 0 }
    let hidden = g.origins.filter(\.hidden)
    var notes: [Note] = []
    if failing.isEmpty {
      notes.append(
        Note(g.peers.isEmpty ? "This node calls no other relay." : "All peers answer.", .good))
    } else {
      notes.append(
        Note("\(failing.map(\.name).joined(separator: ", ")): no answer", .bad))
      notes.append(Note("Next: posthouse gossip peer ls -o wide"))
    }
    if !hidden.isEmpty {
      notes.append(
        Note("Hidden, because not heard of: \(hidden.map(\.relayID).joined(separator: ", "))", .bad)
      )
    }
    let isFull =
      g.origins.count >= Limits.registryOrigins
      && g.origins.dropFirst().allSatisfy { $0.live + $0.tombstones > 0 }
    if isFull {
      notes.append(
        Note(
          "Records of \(g.origins.count) relays are here, as many as possible: those of further ones are refused",
          .bad))
      notes.append(Note("Next: posthouse registry purge --origin RELAY"))
    }
    call.renderer.show(
      .record(
        [
          Field("Relay", g.relayID),
          Field("Agents", "\(g.local) here, \(g.federated) of other relays"),
          Field("Skills", "\(g.skills)"), Field("Tombstones", "\(g.tombstones)"),
          Field("Origins", "\(g.origins.count), \(hidden.count) hidden"),
          Field("Peers", "\(g.peers.count), \(failing.count) failing"),
          Field("Digest", GossipView.digest(g)), Field("Refused", "\(g.refused)", wide: true),
          Field("Rebuilt", "\(g.rebuilt)", wide: true),
          Field("Incarnation", "\(g.incarnation)", wide: true),
        ],
        .object([
          JsonMember("relay_id", .string(g.relayID)),
          JsonMember("incarnation", .unsigned(g.incarnation)),
          JsonMember("digest", .string(GossipView.digest(g))),
          JsonMember("local", .unsigned(g.local)), JsonMember("federated", .unsigned(g.federated)),
          JsonMember("tombstones", .unsigned(g.tombstones)),
          JsonMember("skills", .unsigned(g.skills)), JsonMember("rebuilt", .unsigned(g.rebuilt)),
          JsonMember("refused", .unsigned(g.refused)),
          JsonMember("origins", .array(g.origins.map(GossipView.json))),
          JsonMember("peers", .array(g.peers.map(GossipView.json))),
        ]), name: g.relayID, notes: notes))
    if !failing.isEmpty || !hidden.isEmpty || isFull { call.outcome = .failed }
  }
}

enum GossipDigest: Command {
  static let form = CommandForm(
    "gossip digest", "What is known of each origin; equal sequences and digest: nothing is missing."
  )

  static func run(_ call: Call) throws(Fault) {
    let g: AdminGossip = try call.link().call(
      AdminService.getGossip, AdminGetGossipRequest(), timeout: try call.timeout())
    let rows = g.origins.enumerated().map { GossipView.row($0.element, own: $0.offset == 0) }
    call.renderer.show(
      .list(
        GossipView.originColumns, rows, more: "Digest of all live agents: \(GossipView.digest(g))"))
  }
}

enum GossipSync: Command {
  static let form = CommandForm("gossip sync", "Begin an exchange with every peer now.")

  static func run(_ call: Call) throws(Fault) {
    let link = try call.link()
    let begun: AdminSyncGossipResponse = try link.call(
      AdminService.syncGossip, AdminSyncGossipRequest(), timeout: try call.timeout())
    call.renderer.show(
      .record(
        [Field("Exchanges begun", "\(begun.peers)")],
        .object([JsonMember("peers", .unsigned(UInt64(begun.peers)))]), name: "\(begun.peers)",
        notes: [Note("Next: posthouse gossip status")]))
  }
}

enum GossipPeerList: Command {
  static let form = CommandForm("gossip peer ls", "List the relays that this node calls.")

  static func run(_ call: Call) throws(Fault) {
    let g: AdminGossip = try call.link().call(
      AdminService.getGossip, AdminGetGossipRequest(), timeout: try call.timeout())
    call.renderer.show(.list(GossipView.peerColumns, g.peers.map(GossipView.row)))
  }
}
