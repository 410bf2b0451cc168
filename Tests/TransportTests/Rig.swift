internal import Base
internal import Grpc
internal import Http
internal import Loop
internal import Report

/// A server on loops of its own, with methods that tests need; ends with the test.
final class Rig: @unchecked Sendable {
  let loops: [EventLoop]
  let server: GrpcServer
  /// Where the first listener is.
  var endpoint: Endpoint?
  let log = Lock<[String]>([])
  /// Handlers that wait to be resumed by a test.
  let held = Lock<[GrpcCall]>([])

  init(loops count: Int = 1, settings: Http2Settings = .init()) throws {
    prepareProcessForSockets()
    loops = try (0..<count).map { index throws(SocketError) in
      try EventLoop.start(index: index, name: "test")
    }
    server = GrpcServer(loops: loops, settings: settings)
    server.register("/t.T/Echo") { _ in Echo(self) }
    server.register("/t.T/Small", limits: GrpcLimits(messageBytes: 10)) { _ in Echo(self) }
    server.register("/t.T/Paused") { [self] call in
      call.pauseReading()
      held.withLock { $0.append(call) }
      return Echo(self)
    }
    server.register("/t.T/Silent") { [self] call in
      held.withLock { $0.append(call) }
      return Silent(self)
    }
    server.register("/t.T/Refused") { call in
      call.refuse(.permissionDenied, "no: 100 %", metadata: [("x-why", "because")])
      return nil
    }
    server.registerUnary("/t.T/Wordy") { _, request, reply in
      let text = String(decoding: request, as: UTF8.self)
      reply(.failure(Fault(.badRequest, String(repeating: text, count: 70_000 / request.count))))
    }
    server.register("/t.T/Flood") { _ in Flood() }
    server.registerUnary("/t.T/Reverse") { _, request, reply in
      reply(request.isEmpty ? .failure(Fault(.badRequest, "empty")) : .success(request.reversed()))
    }
  }

  deinit { for loop in loops { loop.stop() } }

  func note(_ text: String) { log.withLock { $0.append(text) } }

  /// Polls until `condition` holds; false after five seconds.
  func eventually(_ condition: () -> Bool) -> Bool { poll(condition) }

  final class Echo: GrpcHandler {
    private let rig: Rig
    init(_ rig: Rig) { self.rig = rig }
    func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
      call.send(framed(bytes))
    }
    func receiveHalfClose(on call: GrpcCall) { call.finish(.ok, metadata: [("x-done", "yes")]) }
    func receiveClosed(on call: GrpcCall) { rig.note("closed \(call.closeReason)") }
  }

  final class Silent: GrpcHandler {
    private let rig: Rig
    init(_ rig: Rig) { self.rig = rig }
    func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
      rig.note("message \(bytes.count)")
    }
    func receiveHalfClose(on call: GrpcCall) { rig.note("half closed") }
    func receiveClosed(on call: GrpcCall) { rig.note("closed \(call.closeReason)") }
  }

  /// Sends 64 MB as fast as it leaves, keeping a megabyte queued.
  final class Flood: GrpcHandler {
    private var left = 1_000
    private let frame = framed([UInt8](repeating: 1, count: 64 << 10))
    func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) { more(call) }
    func receiveHalfClose(on call: GrpcCall) {}
    func receiveDrained(_ bytes: Int, on call: GrpcCall) { more(call) }
    func receiveClosed(on call: GrpcCall) {}
    private func more(_ call: GrpcCall) {
      while left > 0, call.queuedBytes < 1 << 20 {
        left -= 1
        call.send(frame)
      }
      if left == 0 { call.finish(.ok) }
    }
  }
}

/// Polls with a deadline of five seconds.
func poll(_ condition: () -> Bool) -> Bool {
  let clock = ContinuousClock()
  let end = clock.now + .seconds(5)
  while clock.now < end {
    if condition() { return true }
    _ = Handoff<Void>().take(timeout: .milliseconds(2))
  }
  return condition()
}
