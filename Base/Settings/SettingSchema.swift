internal import Base
internal import Glibc

/// The keys of a program, in the order in which they are shown.
public struct SettingSchema: Sendable {
  public let keys: [SettingKey]
  private let index: [String: Int]

  public init(_ keys: [SettingKey]) {
    self.keys = keys
    var index: [String: Int] = [:]
    for (at, key) in keys.enumerated() {
      precondition(index[key.name] == nil, "setting \(key.name) is there twice")
      precondition(
        key.value(of: key.standard) != nil, "default of \(key.name) is not \(key.kind.wanted)")
      index[key.name] = at
    }
    self.index = index
  }

  public func key(_ name: String) -> SettingKey? { index[name].map { keys[$0] } }

  public func suggestion(for name: String) -> String? {
    if let near = Suggestion.nearest(to: name, in: keys.map(\.name)) { return near }
    // `min_free` for `disk.min_free`: the right name in the wrong table.
    let last = name.split(separator: ".").last.map(String.init) ?? name
    return keys.first { $0.name == last || $0.name.hasSuffix("." + last) }?.name
  }
}

extension SettingSchema {
  /// The keys of `posthoused`. `data` and `node_name` have defaults of the machine.
  public static func node(data: String, nodeName: String) -> SettingSchema {
    SettingSchema(
      identityKeys(data: data, nodeName: nodeName) + listenerKeys + accessKeys + archiveKeys
        + streamKeys + registryKeys + federationKeys + clusterKeys
        + tenantKeys + processKeys)
  }

  private static func identityKeys(data: String, nodeName: String) -> [SettingKey] {
    [
      SettingKey("data", .string, data, "Data directory.", flag: "--data", placeholder: "DIR"),
      SettingKey(
        "node_name", .string, nodeName, "Name of this node in status, logs and metrics.",
        flag: "--node-name", placeholder: "NAME"),
    ]
  }

  private static let listenerKeys = [
    SettingKey(
      "grpc", .address, "127.0.0.1:5000", "gRPC without TLS; port 0 picks a free one.",
      flag: "--grpc",
      placeholder: "HOST:PORT"),
    SettingKey(
      "http", .address, "127.0.0.1:8080", "Token API, metrics and health without TLS.",
      flag: "--http", placeholder: "HOST:PORT"),
    SettingKey(
      "grpc_tls", .address, "off", "gRPC over TLS; wants a certificate.", flag: "--grpc-tls",
      placeholder: "HOST:PORT"),
    SettingKey(
      "http_tls", .address, "off", "Token API over TLS; wants a certificate.", flag: "--http-tls",
      placeholder: "HOST:PORT"),
    SettingKey(
      "tls.cert", .string, "", "Certificate chain (PEM), read again on SIGHUP.", flag: "--cert",
      placeholder: "FILE"),
    SettingKey(
      "tls.key", .string, "", "Its private key (PEM).", flag: "--key", placeholder: "FILE"),
    SettingKey(
      "admin_socket", .string, "",
      "Unix socket for operators; empty: admin.sock in the data directory.",
      flag: "--admin-socket", placeholder: "PATH"),
  ]

  private static let accessKeys = [
    SettingKey(
      "auth", .choice(["required", "open"]), "required",
      "open: streams without a token are accepted and may use every channel.", flag: "--auth",
      placeholder: "required|open"),
    SettingKey(
      "insecure", .boolean, "false", "Allow plaintext or auth open off loopback.",
      flag: "--insecure",
      placeholder: ""),
    SettingKey(
      "admin_loopback", .choice(["trusted", "token"]), "trusted",
      "Operators' calls over TCP from this machine: taken, or with an admin credential only. token behind a proxy or tunnel.",
      flag: "--admin-loopback", placeholder: "trusted|token"),
    SettingKey(
      "allow_redacted", .boolean, "false",
      "Development only: accept the redacted API key that skytale-sdk 0.5.2 sends."),
    SettingKey(
      "token.ttl", .duration, "\(Limits.jwtSeconds)s", "Life of a token (JWT) by default."),
    SettingKey(
      "token.max_ttl", .duration, "\(Limits.jwtMaxSeconds / 86_400)d",
      "Longest life a request may ask for."),
  ]

  private static let archiveKeys = [
    SettingKey("archive.enabled", .boolean, "true", "Keep messages; false relays them only."),
    SettingKey(
      "archive.durability", .choice(["written", "synced"]), "written",
      "When a publish counts as kept: written survives kill -9, synced a power cut."),
    SettingKey(
      "archive.accept_torn_tail", .boolean, "false",
      "Open an archive whose unsynced end was lost; the loss is logged."),
    SettingKey(
      "replay.window", .window, "\(Limits.replayWindowSeconds / 60)m",
      "How far back a new subscriber's replay looks for the oldest commit."),
    SettingKey(
      "slim.archive", .boolean, "true",
      "Keep the messages of SLIM groups too; false routes them only. Wants archive.enabled."),
    SettingKey(
      "slim.replay", .integer(0...10_000), "\(Limits.slimReplayMessages)",
      "Messages of a group that an app gets again when it subscribes; 0 for none."),
    SettingKey(
      "slim.replay_window", .duration, "\(Limits.slimReplaySeconds)s",
      "How old they may be: for apps that were away for a moment."),
    SettingKey(
      "slim.overflow", .choice(["disconnect", "drop-oldest"]), "disconnect",
      "When an anycast finds a SLIM app's queue full: end that stream, or drop the oldest in it."),
    SettingKey(
      "slim.members_only", .list, "",
      "Orgs whose groups take messages from their subscribers only; * for all."),
    SettingKey("retention.age", .duration, "0", "Drop messages older than this; 0 keeps them."),
    SettingKey("retention.bytes", .bytes, "0", "Bytes kept per channel; 0 keeps all."),
    SettingKey(
      "retention.messages", .integer(0...Int64.max), "0", "Messages kept per channel; 0 keeps all."),
    SettingKey(
      "disk.min_free", .bytes, SettingText.sizeText(Int64(Limits.diskMinFreeBytes)),
      "Below this many free bytes new messages are refused."),
  ]

  private static let streamKeys = [
    SettingKey(
      "stall_timeout", .duration, "\(Limits.stallSeconds / 60)m",
      "A subscriber that takes no byte for this long is disconnected."),
    SettingKey(
      "tail.bytes", .bytes, SettingText.sizeText(Int64(Limits.channelTailBytes)),
      "Recent messages kept in memory per channel."),
    SettingKey(
      "tail.shard_bytes", .bytes, SettingText.sizeText(Int64(Limits.shardTailBytes)),
      "Recent messages kept in memory per loop."),
  ]

  private static let tenantKeys = [
    SettingKey(
      "quota.messages", .integer(0...Int64.max), "0", "Messages per tenant and day; 0: no limit."),
    SettingKey("quota.bytes", .bytes, "0", "Bytes per tenant and day; 0: no limit."),
    SettingKey(
      "quota.tokens", .integer(0...Int64.max), "0", "Tokens (JWTs) per tenant and day; 0: no limit."
    ),
    SettingKey("rate.requests", .integer(1...1_000_000), "50", "HTTP requests per key and second."),
    SettingKey(
      "rate.requests_burst", .integer(1...1_000_000), "200", "HTTP requests a key may save up."),
    SettingKey(
      "rate.polls", .integer(1...1_000_000), "\(Limits.pollsPerSecond)",
      "Polls (pending, welcome) per key and second; a budget of their own."),
    SettingKey(
      "rate.polls_burst", .integer(1...1_000_000), "\(Limits.pollsBurst)",
      "Polls a key may save up."),
    SettingKey("rate.streams", .integer(1...1_000_000), "50", "Streams opened per key and second."),
    SettingKey(
      "rate.streams_burst", .integer(1...1_000_000), "500", "Stream opens a key may save up."),
  ]

  private static let registryKeys = [
    SettingKey(
      "registry.listen", .address, "127.0.0.1:50052",
      "Registry of agents' skills (AgentAnycast's wire) without TLS.", flag: "--registry",
      placeholder: "HOST:PORT"),
    SettingKey(
      "registry.ttl", .duration, "\(Limits.registryTTLSeconds)s",
      "How long an agent is kept after its last heartbeat."),
    SettingKey(
      "registry.capacity", .integer(1...100_000_000), "\(Limits.registryEntries)",
      "Agents registered here; more are refused."),
    SettingKey(
      "registry.federated_capacity", .integer(1...100_000_000),
      "\(Limits.registryForeignEntries)", "Agents of all other relays together."),
    SettingKey(
      "registry.always_federated", .boolean, "true",
      "Discovery shows agents of other relays, too, whether it asks for them or not."),
    SettingKey(
      "registry.proof", .choice(["off", "optional", "required"]), "optional",
      "Signed calls: optional binds a peer_id to its key once it has signed; required refuses unsigned ones."
    ),
    SettingKey(
      "registry.tombstone_life", .duration, "\(Limits.tombstoneSeconds / 3600)h",
      "How long deletes are remembered; a relay that was away for longer pulls everything anew."),
  ]

  private static let federationKeys = [
    SettingKey(
      "federation.listen", .address, "off", "Federation over mutual TLS; wants federation.cert.",
      flag: "--federation", placeholder: "HOST:PORT"),
    SettingKey(
      "federation.cert", .string, "",
      "Certificate chain (PEM) of this relay; its common name is the relay id.",
      flag: "--federation-cert", placeholder: "FILE"),
    SettingKey(
      "federation.key", .string, "", "Its private key (PEM).", flag: "--federation-key",
      placeholder: "FILE"),
    SettingKey(
      "federation.ca", .string, "", "Authority (PEM) that all relays' certificates come from.",
      flag: "--federation-ca", placeholder: "FILE"),
    SettingKey(
      "federation.relay_id", .string, "", "This relay's name among relays; empty: node_name.",
      flag: "--relay-id", placeholder: "NAME"),
    SettingKey(
      "federation.peers", .list, "", "Relays to exchange registrations with, over mutual TLS.",
      flag: "--federation-peers", placeholder: "HOST:PORT,..."),
    SettingKey(
      "federation.insecure", .list, "",
      "The same without TLS, each with the one relay id it may speak for.",
      flag: "--federation-insecure", placeholder: "NAME=HOST:PORT,..."),
    SettingKey("federation.interval", .duration, "1s", "Between rounds of exchanges."),
    SettingKey(
      "federation.fanout", .integer(1...100), "3", "TLS peers called in a round, drawn anew."),
    SettingKey(
      "federation.origin_timeout", .duration, "\(Limits.originTimeoutSeconds)s",
      "A relay nobody has heard of for so long has its agents hidden."),
  ]

  private static let clusterKeys = [
    SettingKey(
      "cluster.listen", .address, "off",
      "Be a node of a cluster: where other nodes reach this one.",
      flag: "--cluster", placeholder: "HOST:PORT"),
    SettingKey(
      "cluster.advertise", .address, "off",
      "What other nodes are told instead of cluster.listen; a number, not a name.",
      flag: "--cluster-advertise", placeholder: "HOST:PORT"),
    SettingKey(
      "cluster.seeds", .list, "",
      "Nodes to ask when this one knows none; none, or only itself: it founds the cluster.",
      flag: "--seeds", placeholder: "HOST:PORT,..."),
    SettingKey(
      "cluster.zone", .string, "", "What fails together; copies of a slot go to distinct zones.",
      flag: "--zone", placeholder: "NAME"),
    SettingKey(
      "cluster.region", .string, "", "Where the node is, for clients that choose the nearest.",
      flag: "--region", placeholder: "NAME"),
    SettingKey(
      "cluster.weight", .integer(0...Int64(Limits.nodeWeight)), "100",
      "The node's share of slots, when it joins; later `posthouse ring stage` says it.",
      flag: "--weight", placeholder: "N"),
    SettingKey(
      "cluster.cert_dir", .string, "", "Directory with ca.pem, node.pem and node.key of this node.",
      flag: "--cert-dir", placeholder: "DIR"),
    SettingKey(
      "cluster.profile", .choice(["local", "lan", "wan"]), "lan",
      "How fast a silent node is suspected: nodes on one machine, on one site, or far apart."),
  ]

  private static let processKeys = [
    SettingKey("loops", .integer(0...Int64(Limits.loops)), "0", "Event loops; 0: one per core."),
    SettingKey(
      "loop_block", .integer(1...1_000_000), "\(Limits.loopBlock)",
      "Connections that come one after the other and share a loop while it is not busy."),
    SettingKey(
      "drain", .duration, "\(Limits.drainSeconds)s", "From SIGTERM to the end of the last stream."),
    SettingKey(
      "takeover_wait", .duration, "1m",
      "How long a node with inherited sockets waits for the data directory; 0: for ever."),
    SettingKey(
      "log.level", .choice(["debug", "info", "warn", "error"]), "info", "Least level logged."),
    SettingKey(
      "log.format", .choice(["auto", "json", "text"]), "auto",
      "auto: text on a terminal, JSON elsewhere."),
  ]

  /// `/var/lib/posthouse` for root, else below the user's data directory (XDG base directories).
  public static func standardDataDirectory(_ environment: [String: String]) -> String {
    if geteuid() == 0 { return "/var/lib/posthouse" }
    if let base = environment["XDG_DATA_HOME"], base.hasPrefix("/") { return base + "/posthouse" }
    if let home = environment["HOME"], home.hasPrefix("/") {
      return home + "/.local/share/posthouse"
    }
    return "posthouse-data"
  }

  /// The machine's host name, or `posthouse` when it has none.
  public static func standardNodeName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0, name[0] != 0 else { return "posthouse" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
