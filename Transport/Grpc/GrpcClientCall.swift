public import Base
public import Http
public import Loop

/// What a client hears of a call. All methods are called on the call's loop.
public protocol GrpcClientHandler: AnyObject {
  /// The response headers are in. Not called for a trailers-only answer.
  func receiveHeaders(on call: GrpcClientCall)
  /// A whole message without its prefix; the bytes are borrowed.
  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcClientCall)
  /// Exactly once: the call is over.
  func receiveStatus(_ status: GrpcStatus, _ message: String, on call: GrpcClientCall)
  /// Bytes of queued frames that left for the socket since the last call.
  func receiveDrained(_ bytes: Int, on call: GrpcClientCall)
}

extension GrpcClientHandler {
  public func receiveHeaders(on call: GrpcClientCall) {}
  public func receiveDrained(_ bytes: Int, on call: GrpcClientCall) {}
}

/// One call of a client. Belongs to its loop.
public final class GrpcClientCall: GrpcStream, @unchecked Sendable {
  // SAFETY: only touched on that loop, which therefore lives.
  @safe public unowned(unsafe) let loop: EventLoop
  private var handler: (any GrpcClientHandler)?
  private var timer = TimerID.none
  public private(set) var headers = HeaderFields()
  /// Trailers, or the headers of a trailers-only answer.
  public private(set) var trailers = HeaderFields()
  public var isOver: Bool { handler == nil }
  /// The node that serves the call, proved by its certificate; nil without mutual TLS of a cluster, before the
  /// connection stands, and once the call is over.
  public var peerNode: NodeIdentity? {
    guard isOpen, id != 0 else { return nil }
    return unsafe session.connection.peerNode
  }

  init(loop: EventLoop, handler: any GrpcClientHandler, limits: GrpcLimits) {
    self.loop = loop
    self.handler = handler
    super.init()
    messageLimit = limits.messageBytes
  }

  func arm(_ timeout: Interval) {
    timer = loop.schedule(after: timeout) { [unowned self] in
      end(.deadlineExceeded, "the deadline of the call passed")
    }
  }

  /// Nothing more will be sent.
  public func halfClose() { endOutput() }

  /// Gives the call up.
  public func cancel() { end(.cancelled, "cancelled here") }

  /// Never reached the wire.
  func fail(_ why: String) { end(.unavailable, why) }

  /// Over from our side: told once, and the stream is reset if it is still there.
  private func end(_ status: GrpcStatus, _ message: String) {
    guard let told = handler else { return }
    handler = nil
    loop.cancel(timer)
    hearNoMore()
    // A server counts resets: a call that ended as it should has none.
    if isOpen, id != 0, !isRemoteEnded || !hasSentEnd {
      discardQueue()
      reset(.cancel)
    }
    told.receiveStatus(status, message, on: self)
  }

  // MARK: events

  public override func receiveHeaders(_ fields: HeaderFields) {
    headers = fields
    if fields.contains("grpc-status") {
      trailers = fields
      return
    }
    if let refusal = httpRefusal(fields) {
      end(refusal.0, refusal.1)
      return
    }
    handler?.receiveHeaders(on: self)
  }

  public override func receiveTrailers(_ fields: HeaderFields) { trailers = fields }

  private func httpRefusal(_ fields: HeaderFields) -> (GrpcStatus, String)? {
    let status = fields[":status"] ?? ""
    if status == "200" {
      let type = fields["content-type"] ?? ""
      return type.hasPrefix("application/grpc")
        ? nil : (.unknown, "the answer is not gRPC but '\(type)'")
    }
    let mapped: GrpcStatus =
      switch status {
      case "400": .internal
      case "401": .unauthenticated
      case "403": .permissionDenied
      case "404": .unimplemented
      case "429", "502", "503", "504": .unavailable
      default: .unknown
      }
    return (mapped, "HTTP status \(status)")
  }

  override func receiveMessage(_ bytes: UnsafeRawBufferPointer) {
    unsafe handler?.receiveMessage(bytes, on: self)
  }

  override func receiveHalfClose() {
    if let text = trailers["grpc-status"] {
      let status = UInt8(text).flatMap { GrpcStatus(rawValue: $0) } ?? .unknown
      end(status, GrpcText.percentDecode(trailers["grpc-message"] ?? ""))
    } else {
      end(.internal, "the server ended the stream without a status")
    }
  }

  override func receiveBroken(_ status: GrpcStatus, _ message: String) { end(status, message) }

  public override func receiveDrained(_ bytes: Int) { handler?.receiveDrained(bytes, on: self) }

  public override func receiveClosed(_ error: Http2Error, transportLost: Bool) {
    // Everything came, and waits until the reader goes on.
    if endWaits { return }
    if transportLost {
      end(.unavailable, unsafe session.closeReason)
      return
    }
    let status: GrpcStatus =
      switch error {
      case .cancel: .cancelled
      case .refusedStream: .unavailable
      case .enhanceYourCalm: .resourceExhausted
      default: .internal
      }
    end(status, "the stream was reset (HTTP/2 error \(error.code))")
  }
}

/// Calls a gRPC server over one connection, which is made with the first call and again when it was
/// lost. Belongs to its loop: every method is called there.
public final class GrpcClient: Http2Owner, @unchecked Sendable {
  // SAFETY: only touched on that loop, which therefore lives.
  @safe public unowned(unsafe) let loop: EventLoop
  private let endpoint: Endpoint
  private let makeWire: (@Sendable (String) -> Wire?)?
  private let authority: String
  private let settings: Http2Settings
  private let resolvesNames: Bool
  private var session: Http2Session?
  /// Sent with every call.
  public var metadata: [(String, String)] = []

  /// `tls` gets the server's name, as in `{ context.makeWire(serverName: $0) }`. `resolvingNames` lets a
  /// name look-up block the loop: for a loop of one's own.
  public init(
    loop: EventLoop, endpoint: Endpoint, tls: (@Sendable (String) -> Wire?)? = nil,
    resolvingNames: Bool = false, settings: Http2Settings = Http2Settings()
  ) {
    self.loop = loop
    self.endpoint = endpoint
    self.settings = settings
    makeWire = tls
    resolvesNames = resolvingNames
    if case .tcp = endpoint { authority = endpoint.description } else { authority = "localhost" }
  }

  /// Begins a call. Failures of any kind reach `handler.receiveStatus`, never before this returns.
  @discardableResult public func call(
    _ path: String, metadata extra: [(String, String)] = [], timeout: Interval? = nil,
    limits: GrpcLimits = .default, _ handler: any GrpcClientHandler
  ) -> GrpcClientCall {
    let call = GrpcClientCall(loop: loop, handler: handler, limits: limits)
    var fields = [
      (":method", "POST"), (":scheme", makeWire == nil ? "http" : "https"), (":path", path),
      (":authority", authority), ("te", "trailers"), ("content-type", "application/grpc"),
      ("user-agent", "posthouse"),
    ]
    if let timeout { fields.append(("grpc-timeout", GrpcText.timeoutText(timeout))) }
    fields += metadata
    fields += extra
    do throws(SocketError) {
      let session = try connected()
      if session.open(call, HeaderBlock(fields), end: false) {
        if let timeout { call.arm(timeout) }
        return call
      }
      failLater(call, "the connection takes no more calls")
    } catch {
      failLater(call, error.description)
    }
    return call
  }

  private func failLater(_ call: GrpcClientCall, _ why: String) {
    loop.schedule(after: Interval(nanoseconds: 0)) { call.fail(why) }
  }

  private func connected() throws(SocketError) -> Http2Session {
    if let session, session.isUsable { return session }
    let next = Http2Session(isServer: false, owner: self, settings: settings)
    var name = "localhost"
    if case .tcp(let host, _) = endpoint { name = host }
    let wire = makeWire.map { $0(name) ?? Wire() }
    _ = try Connection.dial(
      endpoint, on: loop, wire: wire, driver: next, resolvingNames: resolvesNames)
    session = next
    return next
  }

  /// Ends the connection once open calls have ended.
  public func drain() { session?.drain() }

  /// Closes at once; open calls end as UNAVAILABLE.
  public func close() { unsafe session?.connection?.close("closed here") }

  public override func receiveClosed(_ closed: Http2Session, reason: String) {
    if session === closed { session = nil }
  }
}
