public import Base
public import Loop
internal import Report
internal import Synchronization

/// Serves HTTP/1.1 and h2 on one listener: by ALPN under TLS, by the client's first bytes in the clear.
public final class HttpServer: @unchecked Sendable {
  private let loops: [EventLoop]
  private let shards: [HttpShard]
  private let listeners = Lock<[Listener]>([])

  /// `make` is called once per loop, on the calling thread; the handler is then used on its loop only. `grpcAnswer`: what
  /// a gRPC call that came to the wrong port is told.
  public init(
    loops: [EventLoop], grpcAnswer: String = "gRPC is not served here",
    _ make: (EventLoop) -> any HttpHandler
  ) {
    self.loops = loops
    shards = loops.map { HttpShard(handler: make($0), grpcAnswer: grpcAnswer) }
  }

  /// `tls` makes the TLS side of each connection; its context offers h2 and http/1.1.
  @discardableResult public func listen(
    _ endpoint: Endpoint, tls: (@Sendable () -> Wire?)? = nil,
    maximumConnections: Int = Limits.connectionsPerListener
  ) throws(SocketError) -> Listener {
    listen(try ListenSocket(endpoint), tls: tls, maximumConnections: maximumConnections)
  }

  /// The same on a socket that is bound already.
  @discardableResult public func listen(
    _ socket: ListenSocket, tls: (@Sendable () -> Wire?)? = nil,
    maximumConnections: Int = Limits.connectionsPerListener
  ) -> Listener {
    let listener = Listener(
      socket, loops: loops, maximumConnections: maximumConnections
    ) { [self] loop, _ in
      let shard = shards[loops.firstIndex { $0 === loop }!]
      return (HttpSniffer(shard: shard), tls.map { $0() ?? Wire() })
    }
    listeners.withLock { $0.append(listener) }
    return listener
  }

  /// Connections that are open.
  public var connectionCount: Int {
    listeners.withLock { $0.reduce(0) { $0 + $1.openCount.load(ordering: .relaxed) } }
  }

  public func closeListeners() {
    for listener in listeners.withLock({ $0 }) { listener.close() }
  }

  /// Takes no new connections; requests in hand are answered, idle connections close.
  public func drain() {
    closeListeners()
    for (loop, shard) in zip(loops, shards) { loop.post { shard.drain() } }
  }
}

/// A server's side on one loop; only touched there.
final class HttpShard: Http2Owner, @unchecked Sendable {
  let handler: any HttpHandler
  let grpcAnswer: String
  private(set) var isDraining = false
  private var sessions: [ObjectIdentifier: Http2Session] = [:]
  private var plain: [ObjectIdentifier: Http1Connection] = [:]

  init(handler: any HttpHandler, grpcAnswer: String) {
    self.handler = handler
    self.grpcAnswer = grpcAnswer
  }

  func add(_ session: Http2Session) { sessions[ObjectIdentifier(session)] = session }
  func add(_ connection: Http1Connection) { plain[ObjectIdentifier(connection)] = connection }
  func remove(_ connection: Http1Connection) { plain[ObjectIdentifier(connection)] = nil }

  func drain() {
    isDraining = true
    for session in Array(sessions.values) { session.drain() }
    for connection in Array(plain.values) { connection.drain() }
  }

  override func makeStream(on session: Http2Session) -> Http2Stream { HttpStream(self) }

  override func receiveClosed(_ session: Http2Session, reason: String) {
    sessions[ObjectIdentifier(session)] = nil
  }
}

/// Looks at the first bytes and makes way for what they speak.
final class HttpSniffer: ConnectionDriver {
  private let shard: HttpShard
  private var seen: [UInt8] = []
  private var timer = TimerID.none
  private static let magic = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  init(shard: HttpShard) { self.shard = shard }

  override func receiveOpened() {
    if connection.applicationProtocol == "h2" {
      becomeHttp2().receiveOpened()
      return
    }
    if connection.isSecure {
      becomeHttp1().receiveOpened()
      return
    }
    timer = connection.loop.schedule(after: .seconds(Int64(Limits.headTimeoutSeconds))) {
      [unowned self] in
      TransportCounts.shared.headTimeouts.increment()
      connection.close("no request in time")
    }
  }

  override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
    let connection = connection!
    connection.readHeldSecrets = true
    seen.append(contentsOf: bytes)
    let known = min(seen.count, HttpSniffer.magic.count)
    let isMagic = seen[..<known].elementsEqual(HttpSniffer.magic[..<known])
    if isMagic, known < HttpSniffer.magic.count { return }
    connection.loop.cancel(timer)
    let held = seen
    held.withUnsafeBytes { all in
      if isMagic {
        let session = becomeHttp2()
        session.receiveOpened()
        session.receiveBytes(all)
      } else {
        becomeHttp1().take(over: all)
      }
    }
  }

  private func becomeHttp2() -> Http2Session {
    var settings = Http2Settings()
    settings.idleTimeout = .seconds(Int64(Limits.idleHttpSeconds))
    settings.keepalive = .seconds(Int64(Limits.idleHttpSeconds))
    settings.maximumStreams = 128
    let session = Http2Session(isServer: true, owner: shard, settings: settings)
    shard.add(session)
    connection.replaceDriver(session)
    return session
  }

  private func becomeHttp1() -> Http1Connection {
    let next = Http1Connection(shard: shard)
    shard.add(next)
    connection.replaceDriver(next)
    return next
  }

  override func receiveClosed(_ reason: String) { connection.loop.cancel(timer) }
}

/// One request over h2.
final class HttpStream: Http2Stream, @unchecked Sendable {
  private let shard: HttpShard
  private var fields = HeaderFields()
  private var body: [UInt8] = []
  private var isAnswered = false
  private var timer = TimerID.none

  init(_ shard: HttpShard) { self.shard = shard }

  override func receiveHeaders(_ fields: HeaderFields) {
    self.fields = fields
    // A call may stay open for ever without an end: it is answered before there is one.
    if fields["content-type"]?.hasPrefix("application/grpc") == true { return refuseGrpc() }
    if headersTooLarge {
      answer(.refusal(431, code: "too_large", "the request headers are too large"))
      return
    }
    if let text = fields["content-length"], let n = Int(text), n > Limits.httpBodyBytes {
      answer(.refusal(413, code: "too_large", "the body is over the limit"))
      return
    }
    // The whole of a body has as long as a slow HTTP/1.1 body of the largest size: progress is bounded.
    timer = session.loop.schedule(after: .seconds(Int64(Limits.idleHttpSeconds))) {
      [unowned self] in
      TransportCounts.shared.headTimeouts.increment()
      answer(.refusal(408, code: "bad_request", "the request took too long to arrive"))
    }
  }

  /// Status UNIMPLEMENTED, in the form gRPC gives to a refusal (its HTTP/2 mapping: Trailers-Only).
  private func refuseGrpc() {
    isAnswered = true
    TransportCounts.shared.requests.increment()
    submitResponse(
      HeaderBlock([
        (":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12"),
        ("grpc-message", shard.grpcAnswer),
      ]), end: true)
  }

  override func receiveData(_ bytes: UnsafeRawBufferPointer) {
    if !isAnswered {
      if body.count + bytes.count > Limits.httpBodyBytes {
        body = []
        answer(.refusal(413, code: "too_large", "the body is over the limit"))
      } else {
        body.append(contentsOf: bytes)
      }
    }
    consume(bytes.count)
  }

  override func receiveEnd() {
    if isAnswered { return }
    session.loop.cancel(timer)
    TransportCounts.shared.requests.increment()
    var headers: [(name: String, value: String)] = []
    var method = ""
    var target = ""
    for (name, value) in fields.list {
      switch name {
      case ":method": method = value
      case ":path": target = value
      case ":authority": headers.append(("host", value))
      case _ where name.hasPrefix(":"): break
      default: headers.append((name, value))
      }
    }
    let (path, query) = splitTarget(target)
    let request = HttpRequest(
      method: method, path: path, query: query, headers: headers, body: body, peer: session.peer,
      isSecure: session.connection.isSecure)
    body = []
    let isHead = method == "HEAD"
    shard.handler.receive(
      request, HttpResponder(loop: session.loop) { [self] in answer($0, isHead: isHead) })
  }

  private func answer(_ response: HttpResponse, isHead: Bool = false) {
    guard isOpen, !isAnswered else { return }
    isAnswered = true
    session.loop.cancel(timer)
    var list = [(":status", "\(response.status)")]
    for (name, value) in response.headers
    where (name + value).utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) {
      list.append((name.lowercasedAscii, value))
    }
    list.append(("date", httpDate(session.loop.now.wall)))
    if response.status != 204, response.status != 304 {
      list.append(("content-length", "\(response.body.count)"))
    }
    let bodyless = isHead || response.body.isEmpty || [204, 304].contains(response.status)
    submitResponse(HeaderBlock(list), end: bodyless)
    if !bodyless {
      enqueue(Bytes(response.body))
      endOutput()
    }
  }

  override func receiveClosed(_ error: Http2Error, transportLost: Bool) {
    isAnswered = true
    session.loop.cancel(timer)
  }
}
