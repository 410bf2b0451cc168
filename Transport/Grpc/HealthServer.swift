internal import Base
internal import Codec
internal import Loop
public import Messages
internal import Report

/// `grpc.health.v1.Health` over a table of services. Safe from any thread.
public final class HealthServer: @unchecked Sendable {
  private struct State {
    /// "" is the server as a whole.
    var services: [String: HealthServingStatus] = ["": .serving]
    var watchers: [ObjectIdentifier: HealthWatcher] = [:]
  }
  private let state = Lock(State())

  public init() {}

  /// Registers Check, List and Watch.
  public func register(on server: GrpcServer) {
    server.registerUnary(
      HealthService.check, HealthCheckRequest.self, HealthCheckResponse.self
    ) { [self] _, request, reply in
      guard let status = status(of: request.service) else {
        reply(.failure(Fault(.notFound, "no service \(request.service)")))
        return
      }
      var response = HealthCheckResponse()
      response.status = status
      reply(.success(response))
    }
    server.registerUnary(
      HealthService.list, HealthListRequest.self, HealthListResponse.self
    ) { [self] _, _, reply in
      var response = HealthListResponse()
      for (name, status) in state.withLock({ $0.services }) {
        var entry = HealthCheckResponse()
        entry.status = status
        response.statuses[name] = entry
      }
      reply(.success(response))
    }
    server.register(HealthService.watch) { [self] call in HealthWatcher(self, call) }
  }

  public func status(of service: String) -> HealthServingStatus? {
    state.withLock { $0.services[service] }
  }

  /// Sets the state of one service and tells who watches it.
  public func set(_ service: String, _ status: HealthServingStatus) {
    let told = state.withLock { s -> [HealthWatcher] in
      s.services[service] = status
      return s.watchers.values.filter { $0.service == service }
    }
    for watcher in told { watcher.update() }
  }

  /// Sets every service: `.notServing` when the node drains.
  public func setAll(_ status: HealthServingStatus) {
    let told = state.withLock { s -> [HealthWatcher] in
      for name in s.services.keys { s.services[name] = status }
      return Array(s.watchers.values)
    }
    for watcher in told { watcher.update() }
  }

  fileprivate func add(_ watcher: HealthWatcher) {
    state.withLock { $0.watchers[ObjectIdentifier(watcher)] = watcher }
  }

  fileprivate func remove(_ watcher: HealthWatcher) {
    state.withLock { $0.watchers[ObjectIdentifier(watcher)] = nil }
  }
}

/// One Watch call.
private final class HealthWatcher: GrpcHandler, @unchecked Sendable {
  private let health: HealthServer
  private let loop: EventLoop
  private var call: GrpcCall?
  private var request: HealthCheckRequest?
  private var said: HealthServingStatus?
  /// Written on the loop before the watcher is known to others.
  private(set) var service = ""

  init(_ health: HealthServer, _ call: GrpcCall) {
    self.health = health
    self.call = call
    loop = call.loop
  }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    guard request == nil, let made = try? unsafe HealthCheckRequest(decoding: bytes) else {
      call.finish(.invalidArgument, "Watch takes one HealthCheckRequest")
      return
    }
    request = made
    service = made.service
    health.add(self)
    say()
  }

  func receiveHalfClose(on call: GrpcCall) {
    if request == nil { call.finish(.invalidArgument, "Watch takes one HealthCheckRequest") }
  }

  func receiveClosed(on call: GrpcCall) {
    self.call = nil
    health.remove(self)
  }

  func update() { loop.post { self.say() } }

  private func say() {
    let status = health.status(of: service) ?? .serviceUnknown
    guard let call, status != said else { return }
    said = status
    var response = HealthCheckResponse()
    response.status = status
    call.send(response.framed())
  }
}
