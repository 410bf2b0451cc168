public import Base
public import Codec
public import Http
public import Loop
internal import Report
public import Synchronization

/// Methods by path. Filled before the first listener, then only read.
final class GrpcRoutes: @unchecked Sendable {
  struct Route {
    let limits: GrpcLimits
    let make: GrpcServer.Maker
  }
  var table: [String: Route] = [:]
  /// What serves calls of a method while the server holds calls back.
  var early: [String: GrpcServer.Maker] = [:]
  var sealed = false
}

/// Serves gRPC on any number of listeners and loops.
public final class GrpcServer: @unchecked Sendable {
  private let loops: [EventLoop]
  private let settings: Http2Settings
  private let routes = GrpcRoutes()
  private let shards: [GrpcShard]
  private let listeners = Lock<[Listener]>([])
  /// Connections that are open.
  public let sessionCount = Atomic<Int>(0)

  public init(loops: [EventLoop], settings: Http2Settings = Http2Settings()) {
    self.loops = loops
    self.settings = settings
    let routes = routes
    shards = loops.map { _ in GrpcShard(routes) }
    for shard in shards { shard.server = self }
  }

  // MARK: methods

  /// Makes what serves a call, on the call's loop; nil after `call.refuse`.
  public typealias Maker = @Sendable (GrpcCall) -> (any GrpcHandler)?

  /// `make` is called on the call's loop when the request headers are in. It returns what serves the
  /// call, or nil after `call.refuse`. Before the first `listen`.
  public func register(
    _ path: String, limits: GrpcLimits = .default, _ make: @escaping Maker
  ) {
    precondition(!routes.sealed, "methods are registered before the server listens")
    precondition(path.hasPrefix("/"), "a method's path is /package.Service/Method")
    routes.table[path] = GrpcRoutes.Route(limits: limits, make: make)
  }

  public func register(
    _ method: MethodDescriptor, limits: GrpcLimits = .default, _ make: @escaping Maker
  ) {
    register(method.path, limits: limits, make)
  }

  /// Answers a unary call. Called on the call's loop; the answer may come later, on the same loop.
  public typealias Reply<Response> = (Result<Response, Fault>) -> Void

  public func registerUnary(
    _ path: String, limits: GrpcLimits = .default,
    _ serve: @escaping @Sendable (GrpcCall, [UInt8], @escaping Reply<[UInt8]>) -> Void
  ) {
    register(path, limits: limits) { _ in
      unsafe UnaryHandler { call, bytes, reply in
        unsafe serve(call, [UInt8](bytes)) { reply($0.map { framed($0) }) }
      }
    }
  }

  /// The typed form: decodes the request, encodes the response.
  public func registerUnary<Request: ProtoMessage, Response: ProtoMessage>(
    _ method: MethodDescriptor, _: Request.Type = Request.self, _: Response.Type = Response.self,
    limits: GrpcLimits = .default,
    _ serve: @escaping @Sendable (GrpcCall, Request, @escaping Reply<Response>) -> Void
  ) {
    register(method.path, limits: limits) { _ in
      unsafe UnaryHandler { call, bytes, reply in
        do throws(WireError) {
          let request = try unsafe Request(decoding: bytes)
          serve(call, request) { reply($0.map { $0.framed() }) }
        } catch {
          reply(.failure(Fault(.badRequest, "the request is no valid \(Request.fullName)")))
        }
      }
    }
  }

  /// Calls wait from now on, unread, until `serveHeld`; connections are taken. A method in `early` is served by what
  /// that makes meanwhile. Before the first `listen`.
  public func holdCalls(early: [String: Maker]) {
    precondition(!routes.sealed, "calls are held from the first one on")
    routes.early = early
    for shard in shards { shard.isHolding = true }
  }

  /// Serves the calls that waited, in the order they came on each loop, and no call waits any more.
  public func serveHeld() {
    for (loop, shard) in zip(loops, shards) { loop.post { shard.serveHeld() } }
  }

  public var paths: [String] { routes.table.keys.sorted() }

  // MARK: listening

  /// Listens; connections spread over the loops. `tls` makes the TLS side of each connection.
  @discardableResult public func listen(
    _ endpoint: Endpoint, tls: (@Sendable () -> Wire?)? = nil,
    maximumConnections: Int = Limits.connectionsPerListener
  ) throws(SocketError) -> Listener {
    listen(try ListenSocket(endpoint), tls: tls, maximumConnections: maximumConnections)
  }

  /// What else a listener serves: connections whose first byte is this one.
  public struct Aside: Sendable {
    let firstByte: UInt8
    let make: @Sendable () -> ConnectionDriver
    /// `firstByte` is not that of HTTP/2's preface, `P`.
    public init(firstByte: UInt8, _ make: @escaping @Sendable () -> ConnectionDriver) {
      precondition(firstByte != UInt8(ascii: "P"), "P begins HTTP/2")
      self.firstByte = firstByte
      self.make = make
    }
  }

  /// The same on a socket that is bound already. `block`: `Listener`.
  @discardableResult public func listen(
    _ socket: ListenSocket, tls: (@Sendable () -> Wire?)? = nil, aside: Aside? = nil,
    maximumConnections: Int = Limits.connectionsPerListener, block: Int = 1
  ) -> Listener {
    routes.sealed = true
    let listener = Listener(
      socket, loops: loops, maximumConnections: maximumConnections, block: block
    ) { [self] loop, _ in
      // A TLS side that cannot be made fails its handshake; it never falls back to clear text.
      let wire = tls.map { $0() ?? Wire() }
      guard let aside else { return (makeSession(on: loop), wire) }
      let first = FirstByteDriver { [self, unowned loop] byte in
        byte == aside.firstByte ? aside.make() : makeSession(on: loop)
      }
      return (first, wire)
    }
    listeners.withLock { $0.append(listener) }
    return listener
  }

  private func makeSession(on loop: EventLoop) -> Http2Session {
    let shard = shards[loops.firstIndex { $0 === loop }!]
    let session = Http2Session(isServer: true, owner: shard, settings: settings)
    shard.sessions[ObjectIdentifier(session)] = session
    sessionCount.increment()
    // Accepted just before the listener closed: it must hear of the end, too, once it has a connection.
    if shard.isDraining { loop.schedule(after: .milliseconds(0)) { session.drain() } }
    return session
  }

  public func closeListeners() {
    for listener in listeners.withLock({ $0 }) { listener.close() }
  }

  /// GOAWAY to every client; open calls go on, connections close with their last call. `sparingLasting`:
  /// but not to those with a lasting call.
  public func drain(sparingLasting: Bool = false) {
    closeListeners()
    for (loop, shard) in zip(loops, shards) {
      loop.post {
        shard.isDraining = true
        for session in shard.sessions.values where !(sparingLasting && session.isLasting) {
          session.drain()
        }
      }
    }
  }

  /// Calls that owe their clients an answer, over all loops. Asks them: not from a loop.
  public func callsUnderWay() -> Int {
    var sum = 0
    for (loop, shard) in zip(loops, shards) {
      sum += loop.call { shard.callsUnderWay() } ?? 0
    }
    return sum
  }

  /// Connections that are open; `butLasting`: without those that have a lasting call. Not from a loop.
  public func openConnections(butLasting: Bool) -> Int {
    if !butLasting { return sessionCount.load(ordering: .relaxed) }
    var sum = 0
    for (loop, shard) in zip(loops, shards) {
      sum += loop.call { shard.sessions.values.reduce(0) { $0 + ($1.isLasting ? 0 : 1) } } ?? 0
    }
    return sum
  }

  /// Ends every call with `status` and closes every connection once that has left. `sparingLasting`: but
  /// not those with a lasting call.
  public func closeAll(_ status: GrpcStatus, _ message: String = "", sparingLasting: Bool = false) {
    closeListeners()
    for (loop, shard) in zip(loops, shards) {
      loop.post {
        for session in shard.sessions.values where !(sparingLasting && session.isLasting) {
          session.forEachStream { ($0 as? GrpcCall)?.finish(status, message, discarding: true) }
          session.drain()
        }
        loop.schedule(after: .seconds(1)) {
          for session in Array(shard.sessions.values) where !(sparingLasting && session.isLasting) {
            unsafe session.connection.close("server closed")
          }
        }
      }
    }
  }

  fileprivate func receiveClosed() { sessionCount.decrement() }
}

/// A server's side on one loop; only touched there.
final class GrpcShard: Http2Owner, @unchecked Sendable {
  let routes: GrpcRoutes
  var sessions: [ObjectIdentifier: Http2Session] = [:]
  var isDraining = false
  var isHolding = false
  private var held: [UInt64: GrpcCall] = [:]
  private var lastHeld: UInt64 = 0
  weak var server: GrpcServer?
  /// The path and the method of the call before: the next one's, as a rule.
  private var recentPath = ""
  private var recentRoute: GrpcRoutes.Route?

  init(_ routes: GrpcRoutes) { self.routes = routes }

  /// A call's path and its method; nil: there is none.
  func route(_ bytes: UnsafeRawBufferPointer) -> (path: String, route: GrpcRoutes.Route?) {
    if let recentRoute {
      let isSame = unsafe recentPath.utf8.withContiguousStorageIfAvailable {
        unsafe sameBytes(UnsafeRawBufferPointer($0), bytes)
      }
      if isSame == true { return (recentPath, recentRoute) }
    }
    let path = unsafe String(decoding: bytes, as: UTF8.self)
    guard let route = routes.table[path] else { return (path, nil) }
    recentPath = path
    recentRoute = route
    return (path, route)
  }

  func callsUnderWay() -> Int {
    var count = 0
    for session in sessions.values {
      session.forEachStream { if ($0 as? GrpcCall)?.owesAnswer == true { count += 1 } }
    }
    return count
  }

  /// - Returns: the place to leave when it closes.
  func hold(_ call: GrpcCall) -> UInt64 {
    lastHeld += 1
    held[lastHeld] = call
    return lastHeld
  }

  func leave(_ place: UInt64) { held[place] = nil }

  func serveHeld() {
    isHolding = false
    for place in held.keys.sorted() { held.removeValue(forKey: place)?.receiveTurn() }
  }

  override func makeStream(on session: Http2Session) -> Http2Stream { GrpcCall(self) }

  override func receiveClosed(_ session: Http2Session, reason: String) {
    if sessions.removeValue(forKey: ObjectIdentifier(session)) != nil { server?.receiveClosed() }
  }
}

extension Http2Session {
  /// Has a call that a drain may spare.
  fileprivate var isLasting: Bool {
    var found = false
    forEachStream { if ($0 as? GrpcCall)?.isLasting == true { found = true } }
    return found
  }
}

/// One request, one response.
/// SAFETY: `serve` gets the bytes of `request`, borrowed for the call.
@safe final class UnaryHandler: GrpcHandler {
  typealias Serve = (GrpcCall, UnsafeRawBufferPointer, @escaping GrpcServer.Reply<Bytes>) -> Void
  private let serve: Serve
  private var request: Bytes?
  let owesAnswer = true

  init(_ serve: @escaping Serve) { unsafe self.serve = serve }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    if request != nil {
      call.finish(.internal, "a unary call carries one request")
      return
    }
    request = unsafe Bytes(bytes)
  }

  func receiveHalfClose(on call: GrpcCall) {
    guard let request else {
      call.finish(.internal, "a unary call carries one request")
      return
    }
    self.request = nil
    unsafe request.withUnsafeBytes { bytes in
      unsafe serve(call, bytes) { result in
        // The call may have ended meanwhile: then nothing of this has an effect.
        switch result {
        case .success(let frame):
          call.send(frame)
          call.finish(.ok)
        case .failure(let fault): call.finish(fault)
        }
      }
    }
  }

  func receiveClosed(on call: GrpcCall) {}
}

/// A message with its prefix.
public func framed(_ message: [UInt8]) -> Bytes {
  unsafe message.withUnsafeBytes { unsafe framed($0) }
}

public func framed(_ message: UnsafeRawBufferPointer) -> Bytes {
  unsafe Bytes(count: message.count + GrpcFrame.prefixBytes) { room in
    unsafe GrpcFrame.writePrefix(message.count, to: room)
    if message.count > 0 {
      unsafe UnsafeMutableRawBufferPointer(rebasing: room[GrpcFrame.prefixBytes...])
        .copyMemory(from: message)
    }
  }
}
