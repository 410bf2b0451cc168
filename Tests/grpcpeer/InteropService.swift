internal import Base
internal import Codec
internal import Grpc
internal import Loop
internal import Messages

/// The interoperability service of the gRPC project, as its test descriptions ask for it.
enum InteropService {
  static func register(on server: GrpcServer) {
    server.registerUnary(
      InteropTestService.emptyCall, InteropEmpty.self, InteropEmpty.self
    ) { _, _, reply in reply(.success(InteropEmpty())) }
    server.register(InteropTestService.unaryCall, limits: large) { call in
      echoMetadata(call)
      return UnaryEcho()
    }
    server.register(InteropTestService.streamingInputCall, limits: large) { _ in InputCounter() }
    server.register(InteropTestService.streamingOutputCall, limits: large) { call in
      echoMetadata(call)
      return OutputStreamer()
    }
    server.register(InteropTestService.fullDuplexCall, limits: large) { call in
      echoMetadata(call)
      return OutputStreamer()
    }
    server.register(InteropTestService.halfDuplexCall, limits: large) { call in
      echoMetadata(call)
      return HalfDuplex()
    }
    server.register("/posthouse.test.Echo/Stream") { _ in RawEcho() }
    server.register("/posthouse.test.Echo/Stuck") { call in
      call.pauseReading()
      return RawEcho()
    }
  }

  private static let large = GrpcLimits(messageBytes: 4 << 20)

  static func echoMetadata(_ call: GrpcCall) {
    if let value = call.metadata("x-grpc-test-echo-initial") {
      call.addInitialMetadata("x-grpc-test-echo-initial", value)
    }
  }

  static func trailing(_ call: GrpcCall) -> [(String, String)] {
    let name = "x-grpc-test-echo-trailing-bin"
    return call.metadata(name).map { [(name, $0)] } ?? []
  }

  /// Ends the call as `status` asks; true when it did.
  static func finish(_ call: GrpcCall, _ status: InteropEchoStatus?) -> Bool {
    guard let status, status.code != 0 else { return false }
    let code = GrpcStatus(rawValue: UInt8(clamping: status.code)) ?? .unknown
    call.finish(code, status.message, metadata: trailing(call))
    return true
  }
}

private func decode<M: ProtoMessage>(_: M.Type, _ bytes: UnsafeRawBufferPointer, _ call: GrpcCall)
  -> M?
{
  do throws(WireError) {
    return try M(decoding: bytes)
  } catch {
    call.finish(.invalidArgument, "no valid \(M.fullName)")
    return nil
  }
}

private func payload(_ size: Int32) -> InteropPayload {
  var p = InteropPayload()
  p.body = [UInt8](repeating: 0, count: Int(max(0, min(size, 4 << 20))))
  return p
}

final class UnaryEcho: GrpcHandler {
  private var request: InteropSimpleRequest?
  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    request = decode(InteropSimpleRequest.self, bytes, call)
  }
  func receiveHalfClose(on call: GrpcCall) {
    guard let request else {
      call.finish(.internal, "no request")
      return
    }
    if InteropService.finish(call, request.responseStatus) { return }
    var response = InteropSimpleResponse()
    response.payload = payload(request.responseSize)
    call.send(response.framed())
    call.finish(.ok, metadata: InteropService.trailing(call))
  }
  func receiveClosed(on call: GrpcCall) {}
}

final class InputCounter: GrpcHandler {
  private var total = 0
  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    guard let m = decode(InteropStreamingInputCallRequest.self, bytes, call) else { return }
    total += m.payload?.body.count ?? 0
  }
  func receiveHalfClose(on call: GrpcCall) {
    var response = InteropStreamingInputCallResponse()
    response.aggregatedPayloadSize = Int32(clamping: total)
    call.send(response.framed())
    call.finish(.ok)
  }
  func receiveClosed(on call: GrpcCall) {}
}

/// Answers each request with the messages it asks for, at the intervals it asks for.
class OutputStreamer: GrpcHandler {
  fileprivate var steps: [(Interval, Int32)] = []
  fileprivate var at = 0
  fileprivate var halfClosed = false
  private var timer = TimerID.none
  private var running = false

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    guard let m = decode(InteropStreamingOutputCallRequest.self, bytes, call) else { return }
    if InteropService.finish(call, m.responseStatus) { return }
    for p in m.responseParameters {
      steps.append((Interval(nanoseconds: Int64(p.intervalUs) * 1_000), p.size))
    }
    advance(call)
  }

  func receiveHalfClose(on call: GrpcCall) {
    halfClosed = true
    advance(call)
  }

  fileprivate func advance(_ call: GrpcCall) {
    if running { return }
    while at < steps.count {
      let (wait, size) = steps[at]
      if wait.nanoseconds > 0 {
        running = true
        timer = call.loop.schedule(after: wait) { [unowned self, unowned call] in
          running = false
          say(size, call)
          advance(call)
        }
        return
      }
      say(size, call)
    }
    if halfClosed { call.finish(.ok, metadata: InteropService.trailing(call)) }
  }

  private func say(_ size: Int32, _ call: GrpcCall) {
    at += 1
    var response = InteropStreamingOutputCallResponse()
    response.payload = payload(size)
    call.send(response.framed())
  }

  func receiveClosed(on call: GrpcCall) { call.loop.cancel(timer) }
}

/// Says nothing before the client has finished.
final class HalfDuplex: OutputStreamer {
  override func advance(_ call: GrpcCall) {
    if halfClosed { super.advance(call) }
  }
}

final class RawEcho: GrpcHandler {
  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    call.send(framed(bytes))
  }
  func receiveHalfClose(on call: GrpcCall) { call.finish(.ok) }
  func receiveClosed(on call: GrpcCall) {}
}
