import Base
import Codec
import Loop
import Membership
import Messages
import Ring
import Settings

/// What operators ask of this node about its cluster, as this node sees it.
enum ClusterAdmin {
  /// `reply` on `home`.
  static func nodes(
    _ node: NodeHost, _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<AdminListNodesResponse, Fault>) -> Void
  ) {
    guard let cluster = node.cluster else { return reply(.failure(RingAdmin.noCluster)) }
    cluster.loop.post {
      cluster.refreshStanding()
      let answer = list(cluster)
      home.post { reply(.success(answer)) }
    }
  }

  private static func list(_ cluster: ClusterHost) -> AdminListNodesResponse {
    let standing = cluster.standing.value
    let map = cluster.map.value
    var out = AdminListNodesResponse()
    out.cluster = cluster.cluster
    out.version = map.version
    out.revision = map.revision
    out.nodes = standing.nodes.map { id, relay in
      var row = AdminClusterNode()
      row.nodeID = id.description
      row.name = relay.name
      row.zone = relay.zone
      row.region = relay.region
      row.weight = UInt32(map.node(id)?.weight ?? Int(relay.weight))
      row.address = relay.address
      row.member =
        id == cluster.own ? "self" : standing.members[id].map { "\($0)" } ?? "unknown"
      row.ring = map.node(id).map { "\($0.state)" } ?? ""
      row.owned = UInt32(map.load(of: id).owned)
      row.incarnation = relay.incarnation
      row.grpc = relay.grpcTls.isEmpty ? relay.grpc : relay.grpcTls
      row.http = relay.httpTls.isEmpty ? relay.http : relay.httpTls
      row.registry = relay.registry
      row.version = relay.version
      if let trip = standing.roundTrips[id] {
        row.rttLeastNs = trip.least
        row.rttMedianNs = trip.median
      }
      if let load = relay.load {
        row.hasLoad = true
        row.sessions = load.sessions
        row.channels = load.channels
        row.draining = load.draining
      }
      row.hostsMetadata = id == standing.host
      row.forgotten = relay.forgotten
      return row
    }.sorted { ($0.name, $0.nodeID) < ($1.name, $1.nodeID) }
    return out
  }

  /// Founds the cluster on a node that waits for one; `reply` on `home`.
  static func initialize(
    _ node: NodeHost, _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<AdminInitClusterResponse, Fault>) -> Void
  ) {
    guard let cluster = node.cluster else { return reply(.failure(RingAdmin.noCluster)) }
    cluster.loop.post {
      guard cluster.newest.version == 0, cluster.keeper == nil else {
        let fault = Fault(.conflict, "\(cluster.name) is in cluster \(cluster.cluster) already")
        return home.post { reply(.failure(fault)) }
      }
      cluster.found { fault in
        let result: Result<AdminInitClusterResponse, Fault>
        if let fault {
          result = .failure(fault)
        } else {
          result = .success(
            AdminInitClusterResponse(
              cluster: cluster.cluster, version: max(1, cluster.newest.version)))
        }
        home.post { reply(result) }
      }
    }
  }

  // MARK: for clients that choose the nearest

  /// `GET /v1/relays`: the nodes that serve agents, as JSON. A node of its own lists itself.
  static func relays(_ node: NodeHost, _ done: @escaping @Sendable ([UInt8]) -> Void) {
    guard let cluster = node.cluster else {
      let addresses = node.publicAddresses.value
      node.gatherFacts { facts in
        var relay = ClusterRelay()
        relay.name = node.settings.nodeName
        relay.grpc = addresses.grpc
        relay.grpcTls = addresses.grpcTls
        relay.http = addresses.http
        relay.httpTls = addresses.httpTls
        relay.registry = addresses.registry
        relay.version = PosthouseVersion.text
        var load = ClusterLoad()
        load.sessions = UInt64(facts.sessions)
        load.channels = UInt64(facts.channels)
        load.draining = node.readiness.isDraining
        relay.load = load
        done(text([(relay, "self", nil, 0)]))
      }
      return
    }
    let standing = cluster.standing.value
    let map = cluster.map.value
    let rows = standing.nodes.filter { !$0.value.forgotten }.map { id, relay in
      let member = id == cluster.own ? "self" : standing.members[id].map { "\($0)" } ?? "unknown"
      return (relay, member, standing.roundTrips[id]?.median, map.load(of: id).owned)
    }.sorted { $0.0.name < $1.0.name }
    let answer = text(rows)
    node.loops[0].post { done(answer) }
  }

  private static func text(
    _ rows: [(relay: ClusterRelay, member: String, rtt: Int64?, slots: Int)]
  ) -> [UInt8] {
    let relays = rows.map { row -> JsonValue in
      let relay = row.relay
      func orNull(_ text: String) -> JsonValue { text.isEmpty ? .null : .string(text) }
      let load: JsonValue =
        relay.load.map {
          .object([
            ("sessions", .integer(Int64(clamping: $0.sessions))),
            ("channels", .integer(Int64(clamping: $0.channels))),
          ])
        } ?? .null
      let isUp = row.member == "self" || row.member == "alive" || row.member == "suspect"
      return .object([
        ("name", .string(relay.name)),
        ("node_id", orNull(relay.nodeID == 0 ? "" : NodeID(relay.nodeID).description)),
        ("region", orNull(relay.region)), ("zone", orNull(relay.zone)),
        ("grpc", orNull(relay.grpc)), ("grpc_tls", orNull(relay.grpcTls)),
        ("http", orNull(relay.http)), ("http_tls", orNull(relay.httpTls)),
        ("registry", orNull(relay.registry)),
        ("available", .bool(isUp && relay.load?.draining != true)),
        ("rtt_ms", row.rtt.map { .integer($0 / 1_000_000) } ?? .null),
        ("slots", .integer(Int64(row.slots))), ("load", load),
        ("version", .string(relay.version)),
      ])
    }
    return JsonValue.object([("relays", .array(relays))]).bytes
  }
}
