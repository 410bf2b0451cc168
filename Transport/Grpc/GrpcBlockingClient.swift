public import Base
public import Codec
internal import Http
public import Loop
internal import Report

/// How a call ended when it did not end well.
public struct GrpcError: Error, Sendable, CustomStringConvertible {
  public var status: GrpcStatus
  public var message: String
  /// The row of our catalogue, when the server is ours and named one.
  public var code: String?
  public init(_ status: GrpcStatus, _ message: String, code: String? = nil) {
    self.status = status
    self.message = message
    self.code = code
  }
  public var description: String { "\(status): \(message)" }
}

/// A client whose calls block the calling thread, over a loop of its own. For command line tools,
/// benches and tests; safe from any thread.
public final class GrpcBlockingClient: @unchecked Sendable {
  private let loop: EventLoop
  private let client: GrpcClient

  /// `metadata` is sent with every call.
  public init(
    _ endpoint: Endpoint, tls: (@Sendable (String) -> Wire?)? = nil,
    metadata: [(String, String)] = []
  ) throws(SocketError) {
    loop = try EventLoop.start(index: 0, name: "client")
    client = GrpcClient(loop: loop, endpoint: endpoint, tls: tls, resolvingNames: true)
    client.metadata = metadata
  }

  deinit {
    let client = client
    let loop = loop
    loop.post {
      client.close()
      loop.stop()
    }
  }

  /// Closes the connection; open calls end.
  public func close() {
    let client = client
    loop.post { client.close() }
  }

  public func unary(
    _ path: String, _ request: [UInt8], metadata: [(String, String)] = [],
    timeout: Interval? = .seconds(30)
  ) throws(GrpcError) -> [UInt8] {
    let stream = serverStream(path, request, metadata: metadata, timeout: timeout)
    guard let answer = try stream.next() else { throw GrpcError(.internal, "no answer") }
    guard try stream.next() == nil else { throw GrpcError(.internal, "two answers") }
    return answer
  }

  public func unary<Request: ProtoMessage, Response: ProtoMessage>(
    _ method: MethodDescriptor, _ request: Request, _: Response.Type = Response.self,
    metadata: [(String, String)] = [], timeout: Interval? = .seconds(30)
  ) throws(GrpcError) -> Response {
    let bytes = try unary(method.path, request.encoded(), metadata: metadata, timeout: timeout)
    do throws(WireError) {
      return try Response(decoding: bytes)
    } catch {
      throw GrpcError(.internal, "the answer is no valid \(Response.fullName)")
    }
  }

  /// One request, many answers: `while let message = try stream.next()`.
  public func serverStream(
    _ path: String, _ request: [UInt8], metadata: [(String, String)] = [],
    timeout: Interval? = nil
  ) -> GrpcBlockingStream {
    let stream = bidi(path, metadata: metadata, timeout: timeout)
    stream.send(request)
    stream.halfClose()
    return stream
  }

  public func bidi(
    _ path: String, metadata: [(String, String)] = [], timeout: Interval? = nil
  ) -> GrpcBlockingStream {
    let stream = GrpcBlockingStream(loop: loop)
    let client = client
    loop.post { stream.begin(client.call(path, metadata: metadata, timeout: timeout, stream)) }
    return stream
  }
}

/// A call seen from a thread that waits. One thread may send while another reads.
public final class GrpcBlockingStream: GrpcClientHandler, @unchecked Sendable {
  private let loop: EventLoop
  private let inbox = Handoff<Bytes>()
  private let room = Handoff<Void>()
  private struct Shared {
    var queued = 0
    var paused = false
    var ended: GrpcError?
    var isEnded = false
    var trailers: [(String, String)] = []
    var headers: [(String, String)] = []
  }
  private let shared = Lock(Shared())
  /// Only on the loop.
  private var call: GrpcClientCall?
  private static let readAhead = 256
  private static let writeAheadBytes = 1 << 20

  init(loop: EventLoop) { self.loop = loop }

  func begin(_ call: GrpcClientCall) { self.call = call }

  /// Sends one message; waits while a megabyte is unsent. Does nothing once the call is over.
  public func send(_ message: [UInt8]) { send(framed: Grpc.framed(message)) }

  public func send<M: ProtoMessage>(_ message: M) { send(framed: message.framed()) }

  /// `frame` has its five bytes of prefix.
  public func send(framed frame: Bytes) {
    while true {
      let wait = shared.withLock { s -> Bool in
        if s.isEnded { return false }
        if s.queued > GrpcBlockingStream.writeAheadBytes { return true }
        s.queued += frame.count
        return false
      }
      if !wait { break }
      _ = room.take(timeout: .milliseconds(50))
    }
    loop.post { self.call?.send(frame) }
  }

  public func halfClose() { loop.post { self.call?.halfClose() } }
  public func cancel() { loop.post { self.call?.cancel() } }

  /// The next message, nil when the server has ended the call with OK. `timeout` ends the waiting, not
  /// the call: it throws DEADLINE_EXCEEDED and `next` may be called again.
  public func next(timeout: Interval? = nil) throws(GrpcError) -> [UInt8]? {
    switch inbox.take(timeout: timeout) {
    case .element(let bytes):
      if inbox.count < GrpcBlockingStream.readAhead / 4 { resumeIfPaused() }
      return bytes.array()
    case .timedOut: throw GrpcError(.deadlineExceeded, "nothing came in time")
    case .ended:
      if let error = shared.withLock({ $0.ended }) { throw error }
      return nil
    }
  }

  /// The next message, decoded.
  public func next<M: ProtoMessage>(_: M.Type, timeout: Interval? = nil) throws(GrpcError) -> M? {
    guard let bytes = try next(timeout: timeout) else { return nil }
    do throws(WireError) {
      return try M(decoding: bytes)
    } catch {
      throw GrpcError(.internal, "the answer is no valid \(M.fullName)")
    }
  }

  /// Response headers and trailers, once they are there.
  public var headers: [(String, String)] { shared.withLock { $0.headers } }
  public var trailers: [(String, String)] { shared.withLock { $0.trailers } }

  private func resumeIfPaused() {
    let resume = shared.withLock { s -> Bool in
      defer { s.paused = false }
      return s.paused
    }
    if resume { loop.post { self.call?.resumeReading() } }
  }

  // MARK: on the loop

  public func receiveHeaders(on call: GrpcClientCall) {
    let list = call.headers.list.map { ($0.name, $0.value) }
    shared.withLock { $0.headers = list }
  }

  public func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcClientCall) {
    unsafe inbox.put(Bytes(bytes))
    if inbox.count >= GrpcBlockingStream.readAhead {
      call.pauseReading()
      shared.withLock { $0.paused = true }
      // The reader may have emptied the queue in between and not seen the mark.
      if inbox.count < GrpcBlockingStream.readAhead / 4 { resumeIfPaused() }
    }
  }

  public func receiveDrained(_ bytes: Int, on call: GrpcClientCall) {
    let wake = shared.withLock { s -> Bool in
      let was = s.queued
      s.queued -= bytes
      return was > GrpcBlockingStream.writeAheadBytes
    }
    if wake { room.put(()) }
  }

  public func receiveStatus(_ status: GrpcStatus, _ message: String, on call: GrpcClientCall) {
    let error =
      status == .ok ? nil : GrpcError(status, message, code: call.trailers["posthouse-code"])
    let list = call.trailers.list.map { ($0.name, $0.value) }
    shared.withLock { s in
      s.ended = error
      s.isEnded = true
      s.trailers = list
    }
    self.call = nil
    inbox.end()
    room.end()
  }
}
