internal import Base
internal import Crypto
internal import Glibc
internal import Settings

/// Which node a command line means, in this order: `--admin-socket`, `--address`, `--data`, `--context`, then
/// POSTHOUSE_ADMIN_SOCKET, POSTHOUSE_ADDRESS, POSTHOUSE_DATA, POSTHOUSE_CONTEXT, then the current context, then the
/// default data directory.
enum NodeTarget: Equatable {
  case socket(String)
  case remote(RemoteNode)
  /// A data directory: its running node if there is one, else the database itself.
  case data(String, isExplicit: Bool)

  static func find(
    _ parsed: CommandSyntax.Parsed, _ environment: [String: String]
  ) throws(Fault) -> NodeTarget {
    let named = ["--admin-socket", "--address", "--data", "--context"].filter(parsed.has)
    if named.count > 1 {
      throw Fault(.usage, "\(named.joined(separator: " and ")) name two nodes: give one of them")
    }
    func given(_ option: String, _ variable: String, only: Bool) -> String? {
      if let value = parsed.value(option) { return value }
      guard only, let value = environment[variable], !value.isEmpty else { return nil }
      return value
    }
    let fromEnvironment = named.isEmpty
    if let path = given("--admin-socket", "POSTHOUSE_ADMIN_SOCKET", only: fromEnvironment) {
      return .socket(path)
    }
    if let text = given("--address", "POSTHOUSE_ADDRESS", only: fromEnvironment) {
      return try remote(text, parsed, environment, nil)
    }
    if let path = given("--data", "POSTHOUSE_DATA", only: fromEnvironment) {
      return .data(path, isExplicit: true)
    }
    let file = try ContextFile.load(environment)
    if let name = given("--context", "POSTHOUSE_CONTEXT", only: fromEnvironment) {
      return try target(file.entry(name), parsed, environment)
    }
    if !file.current.isEmpty { return try target(file.entry(file.current), parsed, environment) }
    return .data(SettingSchema.standardDataDirectory(environment), isExplicit: false)
  }

  private static func target(
    _ entry: ContextFile.Entry, _ parsed: CommandSyntax.Parsed, _ environment: [String: String]
  ) throws(Fault) -> NodeTarget {
    if !entry.socket.isEmpty { return .socket(entry.socket) }
    if !entry.address.isEmpty { return try remote(entry.address, parsed, environment, entry) }
    return .data(entry.data, isExplicit: true)
  }

  /// `context`: what a context says besides; nil: only the command line does.
  private static func remote(
    _ text: String, _ parsed: CommandSyntax.Parsed, _ environment: [String: String],
    _ context: ContextFile.Entry?
  ) throws(Fault) -> NodeTarget {
    guard let address = HostPort(text) else {
      throw Fault(.usage, "--address wants HOST:PORT, not \"\(text)\"")
    }
    var token = parsed.value("--admin-token") ?? environment["POSTHOUSE_ADMIN_TOKEN"] ?? ""
    if token.isEmpty, let path = context?.tokenFile, !path.isEmpty {
      guard let bytes = try PrivateFile.read(path, limit: 4096) else {
        throw Fault(.usage, "there is no token file \(path)")
      }
      token = String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)
    }
    if token.isEmpty, !address.isLoopback {
      throw Fault(
        .usage,
        "a remote node wants an admin token: --admin-token or POSTHOUSE_ADMIN_TOKEN (made there by "
          + "`posthouse admin token`)")
    }
    let known = context.flatMap { $0.authority.isEmpty ? nil : $0.authority }
    let authority = parsed.value("--ca") ?? known
    let isTls = parsed.has("--tls") || authority != nil || context?.isTls == true
    // A token on the open network is a token given away.
    if !isTls, !address.isLoopback, !parsed.has("--insecure") {
      throw Fault(
        .usage, "\(address) would get the admin token in clear text: use --tls, or say --insecure")
    }
    return .remote(RemoteNode(address: address, token: token, isTls: isTls, authority: authority))
  }
}

/// A node elsewhere: where it is and what it is told.
struct RemoteNode: Equatable, Sendable {
  var address: HostPort
  var token: String
  var isTls = false
  /// PEM file of authorities; nil: those of the system.
  var authority: String?
}

/// Opens the link a target stands for.
struct NodeFinder {
  var environment: [String: String]
  /// How links are made; tests put their own here.
  var openers: LinkOpeners

  func link(_ target: NodeTarget) throws(Fault) -> any AdminLink {
    switch target {
    case .socket(let path): return try openers.socket(path)
    case .remote(let node): return try openers.remote(node)
    case .data(let directory, let isExplicit):
      var facts = stat()
      if unsafe stat(directory, &facts) == 0, facts.st_mode & S_IFMT != S_IFDIR {
        throw Fault(.usage, "\(directory) is a file, not a data directory")
      }
      let socket = directory + "/admin.sock"
      if unsafe access(socket, F_OK) == 0 {
        do throws(Fault) {
          return try openers.socket(socket)
        } catch {
          // A socket left behind by a node that was killed: nobody listens, the database is free.
          if error.code != .unreachable { throw error }
        }
      }
      guard unsafe isExplicit || access(directory + "/db", F_OK) == 0 else {
        throw Fault(.unreachable, "no node answers and there is no database in \(directory)")
      }
      return try openers.offline(directory)
    }
  }
}

/// The three ways to a node.
struct LinkOpeners: Sendable {
  var socket: @Sendable (String) throws(Fault) -> any AdminLink
  var remote: @Sendable (RemoteNode) throws(Fault) -> any AdminLink
  var offline: @Sendable (String) throws(Fault) -> any AdminLink
}
