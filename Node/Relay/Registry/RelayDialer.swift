import Base
import Codec
import Grpc
import Http
import Loop
import Messages
import Settings
import Tls

/// Connections to other relays, on a loop of their own: looking up a name may block it, and large answers
/// are read beside the registry.
final class RelayDialer: @unchecked Sendable {
  enum Outcome: Sendable {
    case answer([UInt8])
    case failure(GrpcStatus, String)
  }
  private let loop: EventLoop
  private let clients: [GrpcClient]

  init(_ settings: NodeSettings.Registry, index: Int) throws(Fault) {
    var context: TlsClientContext?
    do {
      loop = try EventLoop.start(index: index, name: "federation")
      if let tls = settings.tls {
        context = try TlsClientContext(
          TlsTrust(
            authority: settings.authority,
            identity: TlsFiles(certificate: tls.certificate, key: tls.key)), protocols: [.h2])
      }
    } catch {
      throw Fault(.badSetting, "federation: \(error)")
    }
    let loop = loop
    let shared = context
    clients = settings.peers.map { peer in
      let endpoint = Endpoint.tcp(host: peer.address.host, port: peer.address.port)
      guard peer.name.isEmpty else {
        return GrpcClient(loop: loop, endpoint: endpoint, resolvingNames: true)
      }
      let tls: @Sendable (String) -> Wire? = { shared?.makeWire(serverName: $0) }
      return GrpcClient(loop: loop, endpoint: endpoint, tls: tls, resolvingNames: true)
    }
  }

  /// From any thread; `done` is called once, on this dialer's loop.
  func call(
    _ peer: Int, _ path: String, _ request: [UInt8], _ done: @escaping @Sendable (Outcome) -> Void
  ) {
    loop.post { [self] in
      let call = clients[peer].call(
        path, timeout: .seconds(Int64(Limits.gossipCallSeconds)), OneAnswer(done))
      call.send(framed(request))
      call.halfClose()
    }
  }

  func stop() {
    loop.post { [self] in
      for client in clients { client.close() }
      loop.stop()
    }
  }

  func join() { loop.join() }
}

/// Hears the one answer of a unary call.
private final class OneAnswer: GrpcClientHandler {
  private var answer: [UInt8]?
  private let done: @Sendable (RelayDialer.Outcome) -> Void
  init(_ done: @escaping @Sendable (RelayDialer.Outcome) -> Void) { self.done = done }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcClientCall) {
    answer = unsafe [UInt8](bytes)
  }

  func receiveStatus(_ status: GrpcStatus, _ message: String, on call: GrpcClientCall) {
    if status == .ok, let answer {
      done(.answer(answer))
    } else {
      done(.failure(status == .ok ? .internal : status, message))
    }
  }
}
