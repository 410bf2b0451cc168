internal import CSys

/// Where to listen or connect: `HOST:PORT`, `[V6]:PORT` or `unix:/path`.
public enum Endpoint: Sendable, Hashable, CustomStringConvertible {
  /// Host is an IPv4 or IPv6 literal or `localhost`; when dialling it may be a name.
  case tcp(host: String, port: UInt16)
  case unix(path: String)

  public init?(_ text: String) {
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard !path.isEmpty else { return nil }
      self = .unix(path: path)
      return
    }
    guard let colon = text.lastIndex(of: ":"),
      let port = UInt16(text[text.index(after: colon)...])
    else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard !host.isEmpty else { return nil }
    self = .tcp(host: String(host), port: port)
  }

  public var description: String {
    switch self {
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .unix(let path): "unix:\(path)"
    }
  }

  /// True for what only this machine can reach.
  public var isLocal: Bool {
    switch self {
    case .unix: true
    case .tcp(let host, _): host == "localhost" || host == "::1" || host.hasPrefix("127.")
    }
  }
}

/// Who is at the other end.
public struct PeerAddress: Sendable, CustomStringConvertible {
  public enum Kind: UInt8, Sendable { case remote, loopback, unix }
  public var kind: Kind
  /// `10.0.0.7:53210`, `[::1]:53210`, `unix:uid=1000`.
  public var text: String
  /// The peer's user on a Unix socket.
  public var user: UInt32?
  public init(kind: Kind, text: String, user: UInt32? = nil) {
    self.kind = kind
    self.text = text
    self.user = user
  }
  public var isLoopback: Bool { kind == .loopback }
  public var isUnix: Bool { kind == .unix }
  /// On this machine.
  public var isLocal: Bool { kind != .remote }
  public var description: String { text }
}

/// Why a socket could not be made.
public struct SocketError: Error, Sendable, CustomStringConvertible {
  public var description: String
  init(_ doing: String, _ negative: Int32) {
    description = "\(doing): \(String(cString: sys_error_text(-negative)))"
  }
  public init(_ text: String) { description = text }
}

/// What a process does once before it serves: SIGPIPE ignored, the limit on open files raised.
/// Returns the limit in force.
@discardableResult public func prepareProcessForSockets() -> Int {
  sys_ignore_sigpipe()
  return Int(clamping: sys_raise_file_limit())
}
