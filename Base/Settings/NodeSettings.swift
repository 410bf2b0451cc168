public import Base

/// The settings of `posthoused`, typed and checked.
public struct NodeSettings: Sendable {
  public enum Auth: String, Sendable { case required, open }
  public enum Durability: String, Sendable { case written, synced }
  public enum ReplayWindow: Sendable, Equatable {
    case off
    case all
    case last(Interval)
  }
  public struct Tls: Sendable, Equatable {
    public var certificate: String
    public var key: String
  }
  /// 0: no bound.
  public struct Retention: Sendable, Equatable {
    public var age: Interval
    public var bytes: UInt64
    public var messages: UInt64
  }
  /// Per tenant and day; 0: no limit.
  public struct Quota: Sendable, Equatable {
    public var messages: UInt64
    public var bytes: UInt64
    public var tokens: UInt64
  }
  public struct Rate: Sendable, Equatable {
    public var perSecond: Int
    public var burst: Int
  }
  public enum LogForm: String, Sendable { case auto, json, text }

  /// A relay that registrations are exchanged with.
  public struct FederationPeer: Sendable, Equatable {
    /// The relay id it may speak for; "" over mutual TLS: everyone's.
    public var name: String
    public var address: HostPort
  }
  public enum Proof: String, Sendable { case off, optional, required }
  public struct Registry: Sendable, Equatable {
    public var ttl: Interval
    public var capacity: Int
    public var federatedCapacity: Int
    public var alwaysFederated: Bool
    public var proof: Proof
    public var tombstoneLife: Interval
    public var relayID: String
    public var interval: Interval
    public var fanout: Int
    public var originTimeout: Interval
    public var peers: [FederationPeer]
    /// Certificate, key and authority for mutual TLS between relays.
    public var tls: Tls?
    public var authority: String
  }

  public var data: String
  public var nodeName: String
  /// nil: not listening.
  public var grpc: HostPort?
  public var http: HostPort?
  public var grpcTls: HostPort?
  public var httpTls: HostPort?
  public var registryAddress: HostPort?
  public var federationAddress: HostPort?
  public var registry: Registry
  /// nil: a node of its own.
  public var cluster: Cluster?
  public var tls: Tls?
  public var adminSocket: String
  public var auth: Auth
  public var insecure: Bool
  /// Callers on loopback are operators without a credential; never with a wrong one.
  public var trustsLoopback: Bool
  public var allowRedacted: Bool
  public var tokenTTL: Interval
  public var tokenMaxTTL: Interval
  public var archiveEnabled: Bool
  public var durability: Durability
  public var acceptTornTail: Bool
  public var replayWindow: ReplayWindow
  public var retention: Retention
  public var slimArchive: Bool
  /// Messages replayed to a SLIM app that subscribes; 0: none.
  public var slimReplay: Int
  public var slimReplayWindow: Interval
  /// An anycast that finds a full queue drops the oldest there instead of ending the stream.
  public var slimDropsOldest: Bool
  /// Orgs whose groups take messages from subscribers only; `*` for all.
  public var slimMembersOnly: Set<String>
  public var diskMinFreeBytes: UInt64
  public var stallTimeout: Interval
  public var tailBytes: Int
  public var shardTailBytes: Int
  public var quota: Quota
  public var requestRate: Rate
  public var pollRate: Rate
  public var streamRate: Rate
  /// 0: one per core.
  public var loops: Int
  /// Connections in a row that share a loop.
  public var loopBlock: Int
  public var drain: Interval
  /// 0: without end.
  public var takeoverWait: Interval
  /// `--takeover`: the running node's sockets are this one's.
  public var takesOver = false
  public var logLevel: String
  public var logForm: LogForm

  /// Takes the values over and checks what belongs together; throws `bad_setting`.
  public init(_ s: Settings) throws(Fault) {
    data = s.text("data")
    nodeName = s.text("node_name")
    grpc = s.address("grpc")
    http = s.address("http")
    grpcTls = s.address("grpc_tls")
    httpTls = s.address("http_tls")
    registryAddress = s.address("registry.listen")
    federationAddress = s.address("federation.listen")
    registry = try Registry(s)
    cluster = try Cluster(s)
    let certificate = s.text("tls.cert")
    let key = s.text("tls.key")
    tls = certificate.isEmpty && key.isEmpty ? nil : Tls(certificate: certificate, key: key)
    let socket = s.text("admin_socket")
    adminSocket = socket.isEmpty ? data + "/admin.sock" : socket
    auth = Auth(rawValue: s.text("auth")) ?? .required
    insecure = s.flag("insecure")
    trustsLoopback = s.text("admin_loopback") == "trusted"
    allowRedacted = s.flag("allow_redacted")
    tokenTTL = s.duration("token.ttl")
    tokenMaxTTL = s.duration("token.max_ttl")
    archiveEnabled = s.flag("archive.enabled")
    durability = Durability(rawValue: s.text("archive.durability")) ?? .written
    acceptTornTail = s.flag("archive.accept_torn_tail")
    replayWindow =
      switch s["replay.window"].value {
      case .duration(let interval): interval.nanoseconds == 0 ? .off : .last(interval)
      case .string("all"): .all
      default: .off
      }
    retention = Retention(
      age: s.duration("retention.age"), bytes: UInt64(s.integer("retention.bytes")),
      messages: UInt64(s.integer("retention.messages")))
    slimArchive = archiveEnabled && s.flag("slim.archive")
    if !archiveEnabled, s.flag("slim.archive"), s["slim.archive"].origin != .standard {
      throw Fault(
        .badSetting,
        "slim.archive = true (\(s["slim.archive"].origin)) with archive.enabled = false keeps nothing: change one "
          + "of them")
    }
    slimReplay = Int(s.integer("slim.replay"))
    slimReplayWindow = s.duration("slim.replay_window")
    slimDropsOldest = s.text("slim.overflow") == "drop-oldest"
    slimMembersOnly = try NodeSettings.membersOnly(s)
    diskMinFreeBytes = UInt64(s.integer("disk.min_free"))
    stallTimeout = s.duration("stall_timeout")
    tailBytes = Int(s.integer("tail.bytes"))
    shardTailBytes = Int(s.integer("tail.shard_bytes"))
    quota = Quota(
      messages: UInt64(s.integer("quota.messages")), bytes: UInt64(s.integer("quota.bytes")),
      tokens: UInt64(s.integer("quota.tokens")))
    func rate(_ name: String) -> Rate {
      Rate(perSecond: Int(s.integer("rate.\(name)")), burst: Int(s.integer("rate.\(name)_burst")))
    }
    requestRate = rate("requests")
    pollRate = rate("polls")
    streamRate = rate("streams")
    loops = Int(s.integer("loops"))
    loopBlock = Int(s.integer("loop_block"))
    drain = s.duration("drain")
    takeoverWait = s.duration("takeover_wait")
    logLevel = s.text("log.level")
    logForm = LogForm(rawValue: s.text("log.format")) ?? .auto
    try validate()
  }

  private static func membersOnly(_ s: Settings) throws(Fault) -> Set<String> {
    guard case .list(let orgs) = s["slim.members_only"].value else { return [] }
    for org in orgs where org != "*" && !isOrgName(org) {
      throw Fault(
        .badSetting,
        "slim.members_only: \"\(org)\" is no org: 1 to 63 of a-z, 0-9 and -, without a namespace, or * for all"
      )
    }
    return Set(orgs)
  }

  /// What no single key can say of itself.
  public func validate() throws(Fault) {
    if data.isEmpty { throw Fault(.badSetting, "data names no directory") }
    guard grpc != nil || grpcTls != nil else {
      throw Fault(.badSetting, "grpc and grpc_tls are both off: nothing to serve")
    }
    if let tls, tls.certificate.isEmpty || tls.key.isEmpty {
      throw Fault(.badSetting, "tls.cert and tls.key belong together: one of them is missing")
    }
    for (name, address) in [("grpc_tls", grpcTls), ("http_tls", httpTls)] where address != nil {
      if tls == nil {
        throw Fault(.badSetting, "\(name) wants a certificate: set tls.cert and tls.key")
      }
    }
    try validateFederation()
    if tokenTTL.wholeSeconds < 1 || tokenMaxTTL < tokenTTL {
      throw Fault(.badSetting, "token.ttl is at least 1s and at most token.max_ttl")
    }
    if tokenMaxTTL.wholeSeconds > Int64(Limits.jwtMaxSeconds) {
      throw Fault(.badSetting, "token.max_ttl is at most \(Limits.jwtMaxSeconds / 86_400)d")
    }
    if stallTimeout.wholeSeconds < 1 { throw Fault(.badSetting, "stall_timeout is at least 1s") }
    // The path goes into a sockaddr_un of 108 bytes with its terminator.
    if adminSocket.utf8.count > 107 {
      throw Fault(.badSetting, "admin_socket is longer than the 107 bytes a socket path may have")
    }
    if !insecure { try validateReach() }
  }

  private func validateReach() throws(Fault) {
    if let address = registryAddress, !address.isLoopback {
      throw Fault(
        .badSetting,
        "registry.listen = \(address) lets everyone who reaches it register agents: say --insecure if so"
      )
    }
    for (name, address) in [("grpc", grpc), ("http", http)] {
      if let address, !address.isLoopback {
        throw Fault(
          .badSetting,
          "\(name) = \(address) would send keys and tokens in clear text off this machine: use "
            + "\(name)_tls, or say --insecure")
      }
    }
    for (name, address) in [("grpc_tls", grpcTls), ("http_tls", httpTls)] {
      if auth == .open, let address, !address.isLoopback {
        throw Fault(
          .badSetting,
          "auth = open with \(name) = \(address) lets anyone who reaches it use every channel: use "
            + "auth = required, or say --insecure")
      }
    }
  }
}

/// What the command line of `posthoused` asks for.
public enum NodeStart: Sendable {
  /// Print this on stdout, exit 0.
  case help(String)
  /// Print name and version, exit 0.
  case version
  /// `--check`: say whether it could run like this, exit 0 or 2.
  case check(NodeSettings, Settings)
  case run(NodeSettings, Settings)

  /// The file read when `--config` and `POSTHOUSE_CONFIG` name none and it exists.
  public static let standardConfig = "/etc/posthouse/posthouse.toml"

  /// `arguments` without the program's name. Throws `usage` or `bad_setting`.
  public static func read(
    arguments: [String], environment: [String: String], standardConfig: String = standardConfig
  ) throws(Fault) -> NodeStart {
    let parsed: CommandSyntax.Parsed
    switch try syntax.parse(arguments) {
    case .help(let text): return .help(text)
    case .run(let run): parsed = run
    }
    if parsed.has("--version") { return .version }
    let settings = try load(parsed, environment: environment, standardConfig: standardConfig)
    var node = try NodeSettings(settings)
    node.takesOver = parsed.has("--takeover")
    if parsed.has("--check") { return .check(node, settings) }
    return .run(node, settings)
  }

  /// The layers without the last checks: what `config show` lists.
  public static func load(
    _ parsed: CommandSyntax.Parsed, environment: [String: String],
    standardConfig: String = standardConfig
  ) throws(Fault) -> Settings {
    let schema = SettingSchema.node(
      data: SettingSchema.standardDataDirectory(environment),
      nodeName: SettingSchema.standardNodeName())
    var settings = Settings(schema: schema)
    if let path = parsed.value("--config") ?? environment["POSTHOUSE_CONFIG"] {
      try settings.apply(file: path)
    } else if readFile(standardConfig, limit: 1) != nil {
      try settings.apply(file: standardConfig)
    }
    try settings.apply(environment: environment, others: otherVariables)
    for (option, text) in parsed.options {
      if option == "--set" {
        guard let equals = text.firstIndex(of: "=") else {
          throw Fault(.usage, "--set wants key=value, not \"\(text)\"")
        }
        try settings.apply(
          flag: "--set", key: String(text[..<equals]),
          text: String(text[text.index(after: equals)...]))
      } else if let key = schema.keys.first(where: { $0.flag == option }) {
        try settings.apply(flag: option, key: key.name, text: key.kind == .boolean ? "true" : text)
      }
    }
    return settings
  }

  /// Read by `posthouse` or before the settings are.
  static let otherVariables = [
    "POSTHOUSE_CONFIG", "POSTHOUSE_ADDRESS", "POSTHOUSE_ADMIN_TOKEN", "POSTHOUSE_ADMIN_SOCKET",
    "POSTHOUSE_DATA", "POSTHOUSE_CONTEXT",
  ]

  /// Flags that set a key, `--config` and `--set`: shared with `posthouse config show`.
  public static let settingOptions: [CommandOption] = {
    let schema = SettingSchema.node(data: "", nodeName: "")
    var options = [
      CommandOption("--config", value: "FILE", "Read this TOML file instead of \(standardConfig).")
    ]
    for key in schema.keys {
      guard let flag = key.flag else { continue }
      options.append(
        CommandOption(
          flag, value: key.placeholder.isEmpty ? nil : key.placeholder,
          key.help
            + (key.standard.isEmpty || key.kind == .boolean ? "" : " Default: \(key.standard).")))
    }
    options.append(
      CommandOption("--set", value: "KEY=VALUE", "Set any key of the configuration.", repeats: true)
    )
    return options
  }()

  public static let syntax = CommandSyntax(
    program: "posthoused", summary: "The Posthouse relay node.",
    options: settingOptions + [
      CommandOption(
        "--takeover", "Take the listening sockets of the node that runs on these settings."),
      CommandOption(
        "--check", "Read the settings and the certificates they name, say what is wrong, and end."),
      CommandOption("--version", "Print the version."),
    ], commands: [],
    ending:
      "Every key can also stand in the file or in POSTHOUSE_<KEY>; `posthouse config show --origin` "
      + "lists them.")
}
