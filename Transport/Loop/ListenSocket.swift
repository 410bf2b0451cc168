internal import CSys
internal import Report

/// A bound, listening socket that nobody need accept from yet: what comes waits in its backlog. Other
/// processes may hold the same socket. Closed with its last reference.
public final class ListenSocket: Sendable {
  /// Negative once closed.
  private let descriptor: Lock<Int32>
  /// Where it listens; with the real port when 0 was asked for.
  public let endpoint: Endpoint
  /// The file of a Unix socket.
  let path: String?

  /// Binds. `replacing`: a Unix socket takes the place of one that somebody may listen on.
  public init(_ endpoint: Endpoint, replacing: Bool = false) throws(SocketError) {
    var bound: UInt16 = 0
    let made: Int32
    switch endpoint {
    case .tcp(let host, let wanted):
      made = sys_listen_tcp(host, wanted, &bound)
      self.endpoint = .tcp(host: host, port: bound)
      path = nil
    case .unix(let path):
      made = replacing ? sys_listen_unix_replacing(path) : sys_listen_unix(path)
      self.endpoint = endpoint
      self.path = path
    }
    descriptor = Lock(made)
    if made < 0 { throw SocketError("listening on \(endpoint)", made) }
  }

  /// Takes over a descriptor that must be a listening TCP socket; it is closed when it is not.
  public init(adopting inherited: Int32) throws(SocketError) {
    var text = [CChar](repeating: 0, count: 80)
    let bad = sys_adopt_listener(inherited, &text, text.count)
    let words = String(
      decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    path = nil
    guard bad == 0, let place = Endpoint(words) else {
      endpoint = .tcp(host: "", port: 0)
      // A number of somebody else's must not be closed under them.
      descriptor = Lock(-1)
      if inherited > 2 { sys_close(inherited) }
      throw SocketError("descriptor \(inherited) is no listening TCP socket", bad)
    }
    endpoint = place
    descriptor = Lock(inherited)
  }

  deinit { close() }

  /// Gives up this process's hold.
  public func close() {
    descriptor.withLock {
      if $0 >= 0 { sys_close($0) }
      $0 = -1
    }
  }

  /// True when it listens at `place`; port 0 stands for any.
  public func isBound(to place: Endpoint) -> Bool {
    guard case .tcp(let host, let port) = place else { return false }
    return descriptor.withLock { $0 >= 0 && sys_is_bound_to($0, host, port) != 0 }
  }

  public var isClosed: Bool { number < 0 }

  /// The descriptor while the socket is open; the loop that accepts uses it.
  var number: Int32 { descriptor.withLock { $0 } }

  /// Another descriptor of the socket, for whoever calls to close; nil when it is closed.
  func duplicate() -> Int32? {
    let copy = descriptor.withLock { $0 < 0 ? -1 : sys_duplicate($0) }
    return copy < 0 ? nil : copy
  }
}

private let mostDescriptors = Int32(SYS_MAXIMUM_DESCRIPTORS.rawValue)

/// The sockets a supervisor hands over with the start (systemd's LISTEN_PID, LISTEN_FDS and
/// LISTEN_FDNAMES; sd_listen_fds(3)), with their names, in its order. Once per process.
public func inheritedSockets(
  environment: [String: String]
) throws(SocketError) -> [(name: String, socket: ListenSocket)] {
  guard let own = environment["LISTEN_PID"], Int32(own) == sys_process_id(),
    let text = environment["LISTEN_FDS"]
  else { return [] }
  guard let count = Int32(text), (0...mostDescriptors).contains(count) else {
    throw SocketError("LISTEN_FDS=\(text): between 0 and \(mostDescriptors) are taken")
  }
  let names = (environment["LISTEN_FDNAMES"] ?? "").split(
    separator: ":", omittingEmptySubsequences: false)
  var sockets: [(name: String, socket: ListenSocket)] = []
  for at in 0..<count {
    let name = Int(at) < names.count ? String(names[Int(at)]) : ""
    sockets.append((name, try ListenSocket(adopting: 3 + at)))
  }
  return sockets
}
