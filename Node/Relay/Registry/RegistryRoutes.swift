import Base
import Codec
import Gossip
import Grpc
import Http
import Loop
import Messages
import Registry
import Settings

/// Binds `agentanycast.v1.RegistryService` and `FederationService` to a server on the registry's loop.
struct RegistryRoutes {
  let host: RegistryHost

  func register(on server: GrpcServer) {
    serve(server, RegistryService.registerSkills, answersLater: true, register)
    serve(server, RegistryService.unregisterSkills, answersLater: true, unregister)
    serve(server, RegistryService.heartbeat, answersLater: false, heartbeat)
    serve(server, RegistryService.discoverBySkill, answersLater: false, discover)
    serve(server, FederationService.syncRegistrations, answersLater: false, sync)
    serve(server, FederationService.pushRegistrations, answersLater: true, push)
  }

  typealias Serve = @Sendable (GrpcCall, [UInt8]) throws(Fault) -> Bytes

  /// `answersLater`: once what the call changed is written.
  private func serve(
    _ server: GrpcServer, _ method: MethodDescriptor, answersLater: Bool, _ serve: @escaping Serve
  ) {
    let served = RegistryMethod(host, answersLater: answersLater, serve)
    server.register(method) { _ in RegistryCall(served) }
  }

  private static func timestamp(_ wall: Instant) -> ProtoTimestamp {
    let (seconds, nanos) = wall.nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
    return ProtoTimestamp(seconds: seconds, nanos: Int32(nanos))
  }

  @Sendable private func register(_ call: GrpcCall, _ request: [UInt8]) throws(Fault) -> Bytes {
    let registration = try Registration(decoding: request)
    try registration.check()
    let proved = try host.proof.check(call, peerID: registration.peerID, request: request)
    let until = try host.registry.receiveRegister(registration, proved: proved, at: call.loop.now)
    return AnycastRegisterSkillsResponse(expiresAt: Self.timestamp(until)).framed()
  }

  @Sendable private func unregister(_ call: GrpcCall, _ bytes: [UInt8]) throws(Fault) -> Bytes {
    let request = try AnycastUnregisterSkillsRequest(request: bytes)
    if request.peerID.isEmpty { throw Fault(.badRequest, "peer_id is required") }
    let proved = try host.proof.check(call, peerID: request.peerID, request: bytes)
    try host.registry.receiveUnregister(
      request.peerID, skills: request.skillIds, proved: proved, at: call.loop.now)
    return AnycastUnregisterSkillsResponse().framed()
  }

  @Sendable private func heartbeat(_ call: GrpcCall, _ bytes: [UInt8]) throws(Fault) -> Bytes {
    let request = try AnycastHeartbeatRequest(request: bytes)
    if request.peerID.isEmpty { throw Fault(.badRequest, "peer_id is required") }
    let proved = try host.proof.check(call, peerID: request.peerID, request: bytes)
    let until = try host.registry.receiveHeartbeat(
      request.peerID, proved: proved, at: call.loop.now)
    return AnycastHeartbeatResponse(expiresAt: Self.timestamp(until)).framed()
  }

  @Sendable private func discover(_ call: GrpcCall, _ bytes: [UInt8]) throws(Fault) -> Bytes {
    let wanted = try unsafe bytes.withUnsafeBufferPointer { part throws(Fault) in
      try unsafe Discovery(
        decoding: UnsafeRawBufferPointer(part), alwaysOthers: host.settings.alwaysFederated)
    }
    return host.registry.receiveDiscover(wanted, at: call.loop.now)
  }

  @Sendable private func sync(_ call: GrpcCall, _ bytes: [UInt8]) throws(Fault) -> Bytes {
    let request = try AnycastSyncRegistrationsRequest(request: bytes)
    let trust = try host.trust(request.relayID, call)
    return try host.gossip.receiveSync(request, trust, &host.registry, at: call.loop.now).framed()
  }

  @Sendable private func push(_ call: GrpcCall, _ bytes: [UInt8]) throws(Fault) -> Bytes {
    let request = try AnycastPushRegistrationsRequest(request: bytes)
    let trust = try host.trust(request.relayID, call)
    return try host.gossip.receivePush(request, trust, &host.registry, at: call.loop.now).framed()
  }
}

/// One method: what every call of it shares.
final class RegistryMethod: Sendable {
  let host: RegistryHost
  let answersLater: Bool
  let serve: RegistryRoutes.Serve

  init(_ host: RegistryHost, answersLater: Bool, _ serve: @escaping RegistryRoutes.Serve) {
    self.host = host
    self.answersLater = answersLater
    self.serve = serve
  }
}

/// One request, one response, without a copy of either more than is needed.
final class RegistryCall: GrpcHandler {
  private let method: RegistryMethod
  private var request: [UInt8]?
  let owesAnswer = true

  init(_ method: RegistryMethod) { self.method = method }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    if request != nil {
      call.finish(.internal, "a unary call carries one request")
      return
    }
    request = unsafe [UInt8](bytes)
  }

  func receiveHalfClose(on call: GrpcCall) {
    guard let request else {
      call.finish(.internal, "a unary call carries one request")
      return
    }
    if method.host.isSealed {
      call.finish(Fault(.draining))
      return
    }
    let frame: Bytes
    do throws(Fault) {
      frame = try method.serve(call, request)
    } catch {
      call.finish(error)
      return
    }
    if !method.answersLater {
      answer(call, frame)
      return
    }
    method.host.afterWrite { fault in
      // The call may be over by now: then nothing of this has an effect.
      if let fault { call.finish(fault) } else { self.answer(call, frame) }
    }
  }

  private func answer(_ call: GrpcCall, _ frame: Bytes) {
    call.send(frame)
    call.finish(.ok)
  }

  func receiveClosed(on call: GrpcCall) {}
}
