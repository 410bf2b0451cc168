internal import Base
internal import Messages
internal import Settings

/// How a node of a cluster looks in every command.
enum NodeView {
  static let columns: [Column] = [
    .left("NODE"), .left("MEMBER"), .left("RING"), .right("SLOTS"), .left("ZONE"), .left("REGION"),
    .left("GRPC"), .right("SESSIONS"), .left("RTT"), .wide("ADDRESS"), .wide("HTTP"),
    .wide("REGISTRY"), .wide("VERSION"), .wide("STARTS", right: true), .wide("ID"),
  ]

  static func row(_ n: AdminClusterNode) -> ViewRow {
    ViewRow(
      cells: [
        n.name + (n.hostsMetadata ? " *" : ""), member(n), Shown.orDash(n.ring), "\(n.owned)",
        Shown.orDash(n.zone), Shown.orDash(n.region), Shown.orDash(n.grpc),
        n.hasLoad ? "\(n.sessions)" : "-", time(n.rttMedianNs), n.address, Shown.orDash(n.http),
        Shown.orDash(n.registry), n.version, "\(n.incarnation)", n.nodeID,
      ], json: json(n), name: n.name)
  }

  static func member(_ n: AdminClusterNode) -> String {
    n.forgotten ? "forgotten" : n.draining ? "\(n.member), draining" : n.member
  }

  static func time(_ nanoseconds: Int64) -> String {
    if nanoseconds <= 0 { return "-" }
    let hundredths = nanoseconds / 10_000
    return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100) ms"
  }

  static func json(_ n: AdminClusterNode) -> JsonValue {
    .object([
      JsonMember("node_id", .string(n.nodeID)), JsonMember("name", .string(n.name)),
      JsonMember("member", .string(n.member)), JsonMember("ring", .string(n.ring)),
      JsonMember("slots", .unsigned(UInt64(n.owned))),
      JsonMember("weight", .unsigned(UInt64(n.weight))), JsonMember("zone", .string(n.zone)),
      JsonMember("region", .string(n.region)), JsonMember("address", .string(n.address)),
      JsonMember("grpc", .string(n.grpc)), JsonMember("http", .string(n.http)),
      JsonMember("registry", .string(n.registry)), JsonMember("version", .string(n.version)),
      JsonMember("incarnation", .unsigned(n.incarnation)),
      JsonMember("rtt_least_ns", n.rttLeastNs > 0 ? .integer(n.rttLeastNs) : .null),
      JsonMember("rtt_median_ns", n.rttMedianNs > 0 ? .integer(n.rttMedianNs) : .null),
      JsonMember("sessions", n.hasLoad ? .unsigned(n.sessions) : .null),
      JsonMember("channels", n.hasLoad ? .unsigned(n.channels) : .null),
      JsonMember("hosts_metadata", .boolean(n.hostsMetadata)),
      JsonMember("draining", .boolean(n.draining)), JsonMember("forgotten", .boolean(n.forgotten)),
    ])
  }

  static func list(_ call: Call) throws(Fault) -> AdminListNodesResponse {
    try call.link().call(
      AdminService.listNodes, AdminListNodesRequest(), timeout: try call.timeout())
  }
}

enum NodeList: Command {
  static let form = CommandForm("node ls", "The nodes of the cluster, as the asked one sees them.")

  static func run(_ call: Call) throws(Fault) {
    let list = try NodeView.list(call)
    call.renderer.show(
      .list(
        NodeView.columns, list.nodes.map(NodeView.row),
        more: "Cluster \(list.cluster), ring version \(list.version); * hosts the metadata"))
  }
}

enum NodeShow: Command {
  static let form = CommandForm(
    "node show", "One node of the cluster.", arguments: [CommandArgument("NODE")])

  static func run(_ call: Call) throws(Fault) {
    let list = try NodeView.list(call)
    let name = call.word(0)
    guard let n = list.nodes.first(where: { $0.name == name || $0.nodeID == name }) else {
      throw Fault(.notFound, "no node \(name) in cluster \(list.cluster)")
    }
    var notes: [Note] = []
    if n.member == "dead" { notes.append(Note("It does not answer.", .bad)) }
    if n.hostsMetadata { notes.append(Note("It hosts the cluster's metadata.")) }
    call.renderer.show(
      .record(
        [
          Field("Node", n.name), Field("Id", n.nodeID), Field("Member", NodeView.member(n)),
          Field("Ring", Shown.orDash(n.ring)), Field("Slots", "\(n.owned)"),
          Field("Weight", "\(n.weight)"), Field("Zone", Shown.orDash(n.zone)),
          Field("Region", Shown.orDash(n.region)), Field("For nodes", n.address),
          Field("gRPC", Shown.orDash(n.grpc)), Field("HTTP", Shown.orDash(n.http)),
          Field("Registry", Shown.orDash(n.registry)), Field("Version", n.version),
          Field("Incarnation", "\(n.incarnation)"),
          Field(
            "Round trip",
            "\(NodeView.time(n.rttMedianNs)), least \(NodeView.time(n.rttLeastNs))"),
          Field("Sessions", n.hasLoad ? "\(n.sessions)" : "-"),
          Field("Channels in memory", n.hasLoad ? "\(n.channels)" : "-"),
        ], NodeView.json(n), name: n.name, notes: notes))
  }
}

/// Takes a node back that was drained or forgotten.
enum NodeJoin: Command {
  static let form = CommandForm(
    "node join", "Take a node in again that was drained or forgotten, with a weight.",
    arguments: [CommandArgument("NODE")],
    options: [CommandOption("--weight", value: "N", "Its share of the slots. Default: 100.")],
    examples: ["posthouse node join n2", "posthouse node join n2 --weight 50"])

  static func run(_ call: Call) throws(Fault) {
    let name = call.word(0)
    let weight = try call.number("--weight", in: 0...Limits.nodeWeight)
    let list = try NodeView.list(call)
    guard let known = list.nodes.first(where: { $0.name == name || $0.nodeID == name }) else {
      throw Fault(
        .notFound,
        "no node \(name): a new node joins by itself, when posthoused starts with --cluster and --seeds"
      )
    }
    let link = try call.link()
    let timeout = try call.timeout()
    if known.forgotten {
      let plan: AdminRingPlan = try link.call(
        AdminService.forgetNode, AdminForgetNodeRequest(node: name, undo: true), timeout: timeout)
      call.renderer.show(
        .record(
          RingView.fields(plan), RingView.json(plan), name: name,
          notes: [
            Note(
              "\(name) may come back: when it runs it joins within seconds (posthouse node ls), else when it starts.",
              .good)
          ]))
      return
    }
    var request = AdminStageRingRequest()
    request.node = name
    request.state = "serving"
    request.weight = weight ?? 100
    request.apply = true
    let plan: AdminRingPlan = try link.call(AdminService.stageRing, request, timeout: timeout)
    RingView.show(call, plan)
  }
}

enum NodeForget: Command {
  static let form = CommandForm(
    "node forget", "A node will not come back: its slots go to others, its calls are refused.",
    arguments: [CommandArgument("NODE")],
    options: [
      CommandOption(
        "--allow-loss", "Also when it owns slots: their archive was only there, they begin empty."),
      Call.yes,
    ], examples: ["posthouse node forget n3 --yes"])

  static func run(_ call: Call) throws(Fault) {
    let name = call.word(0)
    try call.confirm("Forgetting \(name)", name: name)
    let plan: AdminRingPlan = try call.link().call(
      AdminService.forgetNode,
      AdminForgetNodeRequest(node: name, allowLoss: call.parsed.has("--allow-loss")),
      timeout: try call.timeout())
    call.renderer.show(
      .record(
        RingView.fields(plan), RingView.json(plan), name: name,
        notes: [
          Note(
            "Forgotten. It serves nothing as soon as it hears so; one that can reach no other node does not: end it.",
            .good)
        ]))
  }
}

enum GossipRtt: Command {
  static let form = CommandForm(
    "gossip rtt", "Round-trip times from the asked node to the others.")

  static func run(_ call: Call) throws(Fault) {
    let list = try NodeView.list(call)
    let columns: [Column] = [
      .left("NODE"), .left("MEMBER"), .right("MEDIAN"), .right("LEAST"), .left("ZONE"),
      .left("REGION"),
    ]
    let rows = list.nodes.filter { $0.member != "self" && !$0.forgotten }.map { n in
      ViewRow(
        cells: [
          n.name, n.member, NodeView.time(n.rttMedianNs), NodeView.time(n.rttLeastNs),
          Shown.orDash(n.zone), Shown.orDash(n.region),
        ],
        json: .object([
          JsonMember("name", .string(n.name)), JsonMember("node_id", .string(n.nodeID)),
          JsonMember("member", .string(n.member)),
          JsonMember("rtt_median_ns", n.rttMedianNs > 0 ? .integer(n.rttMedianNs) : .null),
          JsonMember("rtt_least_ns", n.rttLeastNs > 0 ? .integer(n.rttLeastNs) : .null),
        ]), name: n.name)
    }
    call.renderer.show(.list(columns, rows))
  }
}

enum ClusterInit: Command {
  static let form = CommandForm(
    "cluster init", "Found the cluster on a node that waits for its seeds.",
    examples: ["posthouse cluster init --admin-socket /var/lib/posthouse/admin.sock"])

  static func run(_ call: Call) throws(Fault) {
    let made: AdminInitClusterResponse = try call.link().call(
      AdminService.initCluster, AdminInitClusterRequest(), timeout: try call.timeout())
    call.renderer.show(
      .record(
        [Field("Cluster", made.cluster), Field("Version", "\(made.version)")],
        .object([
          JsonMember("cluster", .string(made.cluster)),
          JsonMember("version", .unsigned(made.version)),
        ]), name: made.cluster,
        notes: [
          Note("Founded: this node hosts the metadata and owns every slot.", .good),
          Note("Next: start the other nodes with --seeds; posthouse node ls"),
        ]))
  }
}
