public import Base
public import Http
public import Loop

/// What serves one call. All methods are called on the call's loop.
public protocol GrpcHandler: AnyObject {
  /// A whole message without its prefix; the bytes are borrowed.
  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall)
  /// The client will send nothing more.
  func receiveHalfClose(on call: GrpcCall)
  /// Exactly once, for whatever reason: finished, reset, deadline, connection lost.
  func receiveClosed(on call: GrpcCall)
  /// Bytes of queued frames that left for the socket since the last call; at most once per flush.
  func receiveDrained(_ bytes: Int, on call: GrpcCall)
  /// The client waits for an answer that will come: a server that ends for another gives it time.
  var owesAnswer: Bool { get }
  /// It follows another handler, which served the call while the server held calls back; `call.userData` is what that
  /// one left, and reading is paused or not as it was.
  func receiveHandover(on call: GrpcCall)
  /// The stream goes on through a drain that spares such calls, until a second one ends it.
  var isLasting: Bool { get }
}

extension GrpcHandler {
  public var owesAnswer: Bool { false }
  public var isLasting: Bool { false }
  public func receiveDrained(_ bytes: Int, on call: GrpcCall) {}
  public func receiveHandover(on call: GrpcCall) {}
}

/// One call on the server. Belongs to its loop; keeps itself alive until it is closed.
public final class GrpcCall: GrpcStream, @unchecked Sendable {
  private let shard: GrpcShard
  private var routes: GrpcRoutes { shard.routes }
  /// Among the calls that are held back; 0: in none.
  private var place: UInt64 = 0
  private var handler: (any GrpcHandler)?
  private var fields = HeaderFields()
  private var timer = TimerID.none
  private var opening = false
  private var initialMetadata: [(String, String)] = []
  /// The status went out or waits behind the queue.
  public private(set) var isFinished = false
  /// `/package.Service/Method`.
  public private(set) var path = ""
  /// On the loop's monotonic clock.
  public private(set) var deadline: Instant?
  /// Why the call closed, for logs.
  public private(set) var closeReason = ""

  init(_ shard: GrpcShard) { self.shard = shard }

  public var loop: EventLoop { unsafe session.loop }
  public var peer: PeerAddress { unsafe session.peer }
  public var connection: Connection { unsafe session.connection }
  /// The node that calls, proved by its certificate; nil without mutual TLS of a cluster.
  public var peerNode: NodeIdentity? { connection.peerNode }
  /// The first value of a request field; `name` in lower case. `-bin` values are base64 as on the wire.
  public func metadata(_ name: String) -> String? { fields[name] }
  public var metadata: HeaderFields { fields }

  /// Adds to the response headers. Only inside the factory.
  public func addInitialMetadata(_ name: String, _ value: String) {
    precondition(opening, "response headers have left")
    initialMetadata.append((name, value))
  }

  // MARK: opening

  public override func receiveHeaders(_ fields: HeaderFields) {
    TransportCounts.shared.calls.increment()
    self.fields = fields
    if headersTooLarge {
      finish(.resourceExhausted, "the request headers are over \(Limits.headerListBytes) bytes")
      return
    }
    if unsafe fields.withValue(of: ":method", { unsafe equals($0, "POST") }) != true {
      refuseHttp("405", ("allow", "POST"))
      return
    }
    if unsafe fields.withValue(of: "content-type", isGrpcType) != true {
      refuseHttp("415", ("accept", "application/grpc"))
      return
    }
    let found = unsafe fields.withValue(of: ":path") { unsafe shard.route($0) }
    path = found?.path ?? ""
    guard let route = found?.route else {
      finish(.unimplemented, "this server has no method \(path)")
      return
    }
    messageLimit = route.limits.messageBytes
    if unsafe fields.withValue(of: "grpc-encoding", { unsafe equals($0, "identity") }) == false {
      finish(
        .unimplemented, "only identity encoding is supported",
        metadata: [("grpc-accept-encoding", "identity")])
      return
    }
    guard takeDeadline() else { return }
    guard shard.isHolding else { return open(route.make) }
    place = shard.hold(self)
    if let early = routes.early[path] { open(early) } else { pauseReading() }
  }

  /// The server holds calls back no longer.
  func receiveTurn() {
    place = 0
    guard isOpen, !isFinished, let route = routes.table[path] else { return }
    if handler == nil {
      open(route.make)
      resumeReading()
      return
    }
    let made = route.make(self)
    if !isOpen {
      made?.receiveClosed(on: self)
      return
    }
    handler = made
    if isFinished { return }
    if let made {
      made.receiveHandover(on: self)
    } else {
      finish(.unimplemented, "\(path) is not served")
    }
  }

  private func takeDeadline() -> Bool {
    guard let timeout = unsafe fields.withValue(of: "grpc-timeout", { unsafe GrpcText.timeout($0) })
    else {
      return true
    }
    guard let timeout else {
      finish(.internal, "grpc-timeout is malformed")
      return false
    }
    deadline = loop.now.monotonic + timeout
    timer = loop.schedule(after: timeout) { [unowned self] in receiveDeadline() }
    return true
  }

  private func open(_ make: GrpcServer.Maker) {
    opening = true
    let made = make(self)
    opening = false
    if !isOpen {
      // Closed from inside the factory.
      made?.receiveClosed(on: self)
      return
    }
    handler = made
    if isFinished { return }
    if made == nil {
      finish(.unimplemented, "\(path) is not served")
      return
    }
    sendHeaders()
  }

  private func sendHeaders() {
    if initialMetadata.isEmpty {
      submitResponse(GrpcCall.standardHeaders, end: false)
    } else {
      submitResponse(HeaderBlock(GrpcCall.standardFields + initialMetadata), end: false)
      initialMetadata = []
    }
  }

  static let standardFields = [(":status", "200"), ("content-type", "application/grpc")]
  private static let standardHeaders = HeaderBlock(standardFields, lasting: true)
  private static let success = HeaderBlock([("grpc-status", "0")], lasting: true)

  /// Not gRPC at all: an HTTP status (gRPC over HTTP/2, "Responses").
  private func refuseHttp(_ status: String, _ field: (String, String)) {
    isFinished = true
    hearNoMore()
    submitResponse(HeaderBlock([(":status", status), field]), end: true)
  }

  // MARK: ending

  /// Ends the call with a status, after what is queued. Trailers-only when the response headers have
  /// not left. Later calls do nothing. `discarding` drops what is queued, for a peer that does not read.
  public func finish(
    _ status: GrpcStatus, _ message: String = "", metadata: [(String, String)] = [],
    discarding: Bool = false
  ) {
    guard isOpen, !isFinished else { return }
    isFinished = true
    hearNoMore()
    loop.cancel(timer)
    if discarding { discardQueue() }
    // From inside the factory with frames queued: headers first.
    if opening, queuedBytes > 0 { sendHeaders() }
    let sent = hasSentHeaders
    if sent, status == .ok, message.isEmpty, metadata.isEmpty {
      endOutput(trailers: GrpcCall.success)
      return
    }
    var list = [("grpc-status", "\(status.rawValue)")]
    if !message.isEmpty {
      list.append(("grpc-message", GrpcText.percentEncode(GrpcText.cut(message))))
    }
    list += metadata
    if sent {
      endOutput(trailers: HeaderBlock(list))
    } else {
      submitResponse(HeaderBlock(GrpcCall.standardFields + initialMetadata + list), end: true)
    }
  }

  /// Ends the call with a fault of the catalogue; its code goes along as `posthouse-code`.
  public func finish(_ fault: Fault, discarding: Bool = false) {
    finish(
      fault.code.grpc, fault.description, metadata: [("posthouse-code", fault.code.rawValue)],
      discarding: discarding)
  }

  /// Says no before the response headers leave (trailers-only). Inside the factory.
  public func refuse(
    _ status: GrpcStatus, _ message: String = "", metadata: [(String, String)] = []
  ) {
    finish(status, message, metadata: metadata)
  }

  var isLasting: Bool { !isFinished && handler?.isLasting == true }
  var owesAnswer: Bool { !isFinished && handler?.owesAnswer == true }

  /// Says that nothing of this call was looked at: clients that can make it again elsewhere, by themselves
  /// (RFC 9113 section 8.7). Inside the factory.
  public func refuseUnprocessed() {
    isFinished = true
    hearNoMore()
    loop.cancel(timer)
    reset(.refusedStream)
  }

  /// Resets the stream at once; what is queued is lost.
  public func cancel() { reset(.cancel) }

  private func receiveDeadline() {
    TransportCounts.shared.deadlines.increment()
    closeReason = "deadline exceeded"
    finish(.deadlineExceeded, "the deadline of the call passed", discarding: true)
    tellClosed()
  }

  private func tellClosed() {
    guard let told = handler else { return }
    handler = nil
    told.receiveClosed(on: self)
  }

  // MARK: events

  override func receiveMessage(_ bytes: UnsafeRawBufferPointer) {
    unsafe handler?.receiveMessage(bytes, on: self)
  }

  override func receiveHalfClose() { handler?.receiveHalfClose(on: self) }

  override func receiveBroken(_ status: GrpcStatus, _ message: String) {
    finish(status, message, discarding: true)
  }

  public override func receiveDrained(_ bytes: Int) { handler?.receiveDrained(bytes, on: self) }

  public override func receiveClosed(_ error: Http2Error, transportLost: Bool) {
    unsafe session.loop.cancel(timer)
    hearNoMore()
    if place > 0 { shard.leave(place) }
    if closeReason.isEmpty {
      closeReason =
        isFinished ? "finished" : transportLost ? "connection lost" : "reset (\(error.code))"
    }
    tellClosed()
  }
}

private func equals(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
  guard bytes.count == text.utf8CodeUnitCount else { return false }
  for i in 0..<bytes.count where unsafe bytes[i] != text.utf8Start[i] { return false }
  return true
}

/// `application/grpc`, `application/grpc+proto`, `application/grpc;...`.
private func isGrpcType(_ bytes: UnsafeRawBufferPointer) -> Bool {
  guard bytes.count >= 16,
    unsafe equals(UnsafeRawBufferPointer(rebasing: bytes[..<16]), "application/grpc")
  else { return false }
  return unsafe bytes.count == 16 || bytes[16] == UInt8(ascii: "+")
    || bytes[16] == UInt8(ascii: ";")
}
