import Base
import Codec
import Grpc
import Http
import Loop
import Messages

/// Binds `posthouse.v1.AdminService` to a server.
struct AdminRoutes {
  unowned let node: NodeHost
  let gate: StreamGate

  func register(on server: GrpcServer) {
    let calls = AdminCalls(node: node)
    for method in AdminCalls.tenantMethods {
      server.register(method) { call in
        guarded(call) {
          UnaryCall { call, bytes, reply in
            calls.tenantCall(method, bytes, call.loop, reply)
          }
        }
      }
    }
    unary(server, AdminService.getStatus, AdminGetStatusRequest.self, AdminNodeStatus.self) {
      _, loop, reply in calls.status(loop) { reply(.success($0)) }
    }
    unary(
      server, AdminService.listChannels, AdminListChannelsRequest.self,
      AdminListChannelsResponse.self
    ) { calls.listChannels($0, $1, $2) }
    unary(server, AdminService.getChannel, AdminChannelRequest.self, AdminChannel.self) {
      calls.getChannel($0, $1, $2)
    }
    unary(
      server, AdminService.deleteChannel, AdminDeleteChannelRequest.self,
      AdminDeleteChannelResponse.self
    ) { calls.deleteChannel($0, $1, $2) }
    unary(
      server, AdminService.createAdminToken, AdminCreateAdminTokenRequest.self,
      AdminCreateAdminTokenResponse.self
    ) { request, _, reply in
      reply(Result { () throws(Fault) in try calls.adminToken(request) })
    }
    unary(
      server, AdminService.rotateSigningKey, AdminRotateSigningKeyRequest.self,
      AdminRotateSigningKeyResponse.self
    ) { [gate] _, home, reply in
      gate.node.rotateSigningKey { result in
        home.post { reply(result.map { AdminRotateSigningKeyResponse(kid: $0) }) }
      }
    }
    unary(
      server, AdminService.drainNode, AdminDrainNodeRequest.self, AdminDrainNodeResponse.self
    ) { request, _, reply in
      reply(Result { () throws(Fault) in try calls.drain(request) })
    }
    registerRegistry(on: server)
    registerCluster(on: server)
    server.register(AdminService.verifyChannels) { call in
      guarded(call) {
        ServerStreamCall<AdminVerifyChannelsRequest, AdminVerifyProgress> {
          calls.verify($0, $1, $2)
        }
      }
    }
    server.register(AdminService.createBackup) { call in
      guarded(call) {
        ServerStreamCall<AdminCreateBackupRequest, AdminBackupProgress> { calls.backup($0, $1, $2) }
      }
    }
  }

  private func registerRegistry(on server: GrpcServer) {
    let admin = RegistryAdmin(node: node)
    unary(
      server, AdminService.listRegistrations, AdminListRegistrationsRequest.self,
      AdminListRegistrationsResponse.self
    ) { request, loop, reply in
      admin.ask(loop, reply) { RegistryAdmin.list(request, $0) }
    }
    unary(
      server, AdminService.getRegistration, AdminGetRegistrationRequest.self,
      AdminRegistration.self
    ) { request, loop, reply in
      admin.ask(loop, reply) { (host) throws(Fault) in try RegistryAdmin.get(request, host) }
    }
    unary(
      server, AdminService.discoverAgents, AdminDiscoverAgentsRequest.self,
      AdminListRegistrationsResponse.self
    ) { request, loop, reply in
      admin.ask(loop, reply) { (host) throws(Fault) in try RegistryAdmin.discover(request, host) }
    }
    unary(
      server, AdminService.purgeOrigin, AdminPurgeOriginRequest.self, AdminPurgeOriginResponse.self
    ) { request, loop, reply in
      admin.ask(loop, reply) { (host) throws(Fault) in try admin.purge(request.origin, host) }
    }
    unary(server, AdminService.getGossip, AdminGetGossipRequest.self, AdminGossip.self) {
      _, loop, reply in admin.ask(loop, reply) { RegistryAdmin.gossip($0) }
    }
    unary(
      server, AdminService.syncGossip, AdminSyncGossipRequest.self, AdminSyncGossipResponse.self
    ) { _, loop, reply in
      admin.ask(loop, reply) { AdminSyncGossipResponse(peers: UInt32($0.syncNow())) }
    }
  }

  private func registerCluster(on server: GrpcServer) {
    let node = node
    for method in RingAdmin.forwarded {
      server.register(method) { call in
        guarded(call) {
          UnaryCall { call, bytes, reply in RingAdmin.ask(node, method, bytes, call.loop, reply) }
        }
      }
    }
    unary(server, AdminService.getRing, AdminGetRingRequest.self, AdminRing.self) {
      RingAdmin.ring(node, $0, $1, $2)
    }
    unary(
      server, AdminService.listNodes, AdminListNodesRequest.self, AdminListNodesResponse.self
    ) { _, loop, reply in ClusterAdmin.nodes(node, loop, reply) }
    unary(
      server, AdminService.initCluster, AdminInitClusterRequest.self, AdminInitClusterResponse.self
    ) { _, loop, reply in ClusterAdmin.initialize(node, loop, reply) }
  }

  private func guarded(
    _ call: GrpcCall, _ make: () -> any GrpcHandler
  ) -> (any GrpcHandler)? {
    guard gate.isOperator(call) else {
      let fault = Fault(.forbidden, gate.node.operatorRule)
      call.refuse(fault.code.grpc, "\(fault.code.rawValue): \(fault)")
      return nil
    }
    return make()
  }

  private func unary<Request: ProtoMessage, Response: ProtoMessage>(
    _ server: GrpcServer, _ method: MethodDescriptor, _: Request.Type, _: Response.Type,
    _ serve:
      @escaping @Sendable (
        Request, EventLoop, @escaping @Sendable (Result<Response, Fault>) -> Void
      ) -> Void
  ) {
    server.register(method) { call in
      guarded(call) {
        UnaryCall { call, bytes, reply in
          do {
            serve(try Request(decoding: bytes), call.loop) { reply($0.map { $0.encoded() }) }
          } catch {
            reply(.failure(Fault(.badRequest, "the request is no valid \(Request.fullName)")))
          }
        }
      }
    }
  }
}

/// One request, one response that may come from another thread's work, on the call's loop.
final class UnaryCall: GrpcHandler, @unchecked Sendable {
  typealias Serve = (
    GrpcCall, [UInt8], @escaping @Sendable (Result<[UInt8], Fault>) -> Void
  ) -> Void
  private let serve: Serve
  private var request: [UInt8]?
  let owesAnswer = true
  private var call: GrpcCall?

  init(_ serve: @escaping Serve) { self.serve = serve }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    request = unsafe [UInt8](bytes)
  }

  func receiveHalfClose(on call: GrpcCall) {
    guard let request else {
      call.finish(Fault(.badRequest, "a unary call carries one request"))
      return
    }
    self.request = nil
    self.call = call
    serve(call, request) { [self] result in
      guard let call = self.call else { return }
      switch result {
      case .success(let bytes):
        call.send(framed(bytes))
        call.finish(.ok)
      case .failure(let fault):
        call.finish(
          fault.code.grpc, "\(fault.code.rawValue): \(fault)",
          metadata: [("posthouse-code", fault.code.rawValue)])
      }
    }
  }

  func receiveClosed(on call: GrpcCall) { self.call = nil }
}

/// One request, many responses made on a thread for long work.
final class ServerStreamCall<Request: ProtoMessage, Response: ProtoMessage>: GrpcHandler,
  @unchecked Sendable
{
  typealias Work = (
    Request, @escaping @Sendable (Response) -> Bool, @escaping @Sendable (Fault?) -> Void
  ) -> Void
  private let work: Work
  private var request: Request?
  let owesAnswer = true
  private var call: GrpcCall?
  private let open = Guarded(true)

  init(_ work: @escaping Work) { self.work = work }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    do {
      request = try unsafe Request(decoding: bytes)
    } catch {
      call.finish(Fault(.badRequest, "the request is no valid \(Request.fullName)"))
    }
  }

  func receiveHalfClose(on call: GrpcCall) {
    guard let request else { return }
    self.request = nil
    self.call = call
    let loop = call.loop
    let open = open
    work(
      request,
      { response in
        loop.post { [self] in self.call?.send(response.framed()) }
        return open.value
      },
      { fault in
        loop.post { [self] in
          if let fault {
            self.call?.finish(fault.code.grpc, "\(fault.code.rawValue): \(fault)")
          } else {
            self.call?.finish(.ok)
          }
        }
      })
  }

  func receiveClosed(on call: GrpcCall) {
    open.value = false
    self.call = nil
  }
}
