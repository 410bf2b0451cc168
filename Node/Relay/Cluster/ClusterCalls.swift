import Base
import Grpc
import Http
import Loop
import Settings
import Tls

/// Calls between nodes: one request, one answer, a deadline each, over mutual TLS. What others ask is answered on
/// loop 0; connections to others are made on the cluster's loop, one for each node, with the first call. A node that
/// hangs costs its calls their deadlines, and no other call anything.
final class ClusterCalls: @unchecked Sendable {
  static let prefix = "/posthouse.cluster.v1.Cluster/"
  /// From any thread, once.
  typealias Reply = @Sendable (Result<[UInt8], Fault>) -> Void
  /// Called on loop 0. `from` is proved by its certificate.
  typealias Handler =
    @Sendable (_ from: NodeID, _ request: [UInt8], _ reply: @escaping Reply) -> Void

  let own: NodeID
  /// The cluster's loop.
  private let loop: EventLoop
  private let tls: ClusterTlsContext
  /// Before the listener opens, then only read.
  private var handlers: [String: Handler] = [:]
  private var serving: EventLoop?
  private let barred = Guarded<Set<NodeID>>([])
  private var peers: [NodeID: Peer] = [:]
  private var strangers: [HostPort: Peer] = [:]
  private var isStopped = false

  init(own: NodeID, tls: ClusterTlsContext, loop: EventLoop) {
    self.own = own
    self.tls = tls
    self.loop = loop
  }

  // MARK: what others ask

  /// Answers calls of this method: `Sync`, say. Before the node listens for others.
  func serve(_ method: String, _ handler: @escaping Handler) {
    precondition(serving == nil, "\(method) is served before the node listens")
    handlers[method] = handler
  }

  /// Binds every method to the server, whose one loop is `home`.
  func register(on server: GrpcServer, home: EventLoop) {
    serving = home
    let limits = GrpcLimits(messageBytes: Limits.clusterCallBytes)
    for (method, handler) in handlers {
      server.registerUnary(ClusterCalls.prefix + method, limits: limits) {
        [barred] call, request, reply in
        guard let from = call.peerNode?.node else {
          reply(.failure(Fault(.unauthorized, "only nodes of the cluster are answered")))
          return
        }
        if barred.value.contains(from), method != "Sync" {
          reply(.failure(Fault(.forbidden, "node \(from) was forgotten by an operator")))
          return
        }
        let answer = ReplyHolder(reply)
        handler(from, request) { result in home.post { answer.give(result) } }
      }
    }
  }

  /// Nodes that an operator had forgotten: only their `Sync` is heard, to be told so. From any thread.
  func bar(_ nodes: Set<NodeID>) { barred.value = nodes }

  // MARK: asking others

  /// Asks a node. From any thread; `done` is called once, on `home`. The fault is the node's own, or `unreachable`,
  /// `unavailable` or `deadline_exceeded`.
  func call(
    _ peer: NodeID, _ method: String, _ request: [UInt8], timeout: Interval, on home: EventLoop,
    _ done: @escaping Reply
  ) {
    loop.post { [self] in
      ask(peer, method, request, timeout: timeout) { result in home.post { done(result) } }
    }
  }

  /// The same on the cluster's loop, which `done` is called on.
  func ask(
    _ peer: NodeID, _ method: String, _ request: [UInt8], timeout: Interval, _ done: @escaping Reply
  ) {
    if peer == own { return askHere(method, request, done) }
    guard let known = peers[peer] else {
      return done(.failure(Fault(.unreachable, "node \(peer) is not known here")))
    }
    known.ask(method, request, timeout) { result, _ in done(result) }
  }

  /// Asks whoever answers at an address; the answer says who that is. On the cluster's loop.
  func ask(
    at address: HostPort, _ method: String, _ request: [UInt8], timeout: Interval,
    _ done: @escaping @Sendable (Result<[UInt8], Fault>, NodeID?) -> Void
  ) {
    if isStopped { return done(.failure(Fault(.draining)), nil) }
    let stranger = strangers[address] ?? Peer(address, nil, tls, loop)
    strangers[address] = stranger
    stranger.ask(method, request, timeout, done)
  }

  private func askHere(_ method: String, _ request: [UInt8], _ done: @escaping Reply) {
    guard let serving, let handler = handlers[method] else {
      return done(.failure(Fault(.unimplemented, "no method \(method)")))
    }
    let (own, loop) = (own, loop)
    serving.post { handler(own, request) { result in loop.post { done(result) } } }
  }

  /// Where a node is. Another address than before: its connection is made anew. On the cluster's loop.
  func setAddress(_ peer: NodeID, _ address: HostPort) {
    if peer == own || isStopped || peers[peer]?.address == address { return }
    peers.removeValue(forKey: peer)?.close()
    peers[peer] = Peer(address, peer, tls, loop)
  }

  /// Calls under way end as `unavailable`. On the cluster's loop.
  func remove(_ peer: NodeID) { peers.removeValue(forKey: peer)?.close() }

  /// Connections to seeds are not needed once the nodes are known. On the cluster's loop.
  func leaveStrangers() {
    for stranger in strangers.values { stranger.close() }
    strangers = [:]
  }

  /// On the cluster's loop.
  func stop() {
    isStopped = true
    leaveStrangers()
    for peer in peers.values { peer.close() }
    peers = [:]
  }
}

/// A reply that goes from thread to thread, and is called on the loop it belongs to.
private final class ReplyHolder: @unchecked Sendable {
  private var reply: GrpcServer.Reply<[UInt8]>?
  init(_ reply: @escaping GrpcServer.Reply<[UInt8]>) { self.reply = reply }
  func give(_ result: Result<[UInt8], Fault>) {
    let reply = reply
    self.reply = nil
    reply?(result)
  }
}

/// Another node's end, on the cluster's loop.
private final class Peer: @unchecked Sendable {
  typealias Done = @Sendable (Result<[UInt8], Fault>, NodeID?) -> Void
  let address: HostPort
  private let client: GrpcClient
  private let loop: EventLoop
  private var underWay = 0
  /// Calls, one after the other, that got no answer; those that ran side by side count once.
  private var silent = 0
  private var lastSilence = Instant.zero

  /// `expecting` nil: whichever node of the cluster answers.
  init(
    _ address: HostPort, _ expecting: NodeID?, _ tls: ClusterTlsContext, _ loop: EventLoop
  ) {
    self.address = address
    self.loop = loop
    var settings = Http2Settings()
    settings.keepalive = .seconds(10)
    settings.keepaliveTimeout = .seconds(5)
    settings.stallTimeout = .seconds(10)
    client = GrpcClient(
      loop: loop, endpoint: .tcp(host: address.host, port: address.port),
      tls: { _ in tls.makeClientWire(expecting: expecting) }, resolvingNames: true,
      settings: settings)
  }

  func ask(_ method: String, _ request: [UInt8], _ timeout: Interval, _ done: @escaping Done) {
    if underWay >= Limits.clusterCalls {
      return done(.failure(Fault(.unavailable, "too many calls wait for \(address)")), nil)
    }
    if request.count > Limits.clusterCallBytes {
      return done(.failure(Fault(.tooLarge, "a call of \(request.count) bytes")), nil)
    }
    underWay += 1
    let began = loop.now.monotonic
    let answer = PeerAnswer { [self] result, node in
      underWay -= 1
      receive(result, began)
      done(result, node)
    }
    let call = client.call(
      ClusterCalls.prefix + method, timeout: timeout,
      limits: GrpcLimits(messageBytes: Limits.clusterCallBytes), answer)
    call.send(framed(request))
    call.halfClose()
  }

  /// A connection over which nothing comes back may be dead without anybody saying so.
  private func receive(_ result: Result<[UInt8], Fault>, _ began: Instant) {
    guard case .failure(let fault) = result, fault.code == .deadlineExceeded else {
      silent = 0
      return
    }
    guard began >= lastSilence else { return }
    silent += 1
    lastSilence = loop.now.monotonic
    if silent >= Limits.clusterSilentCalls {
      silent = 0
      client.close()
    }
  }

  func close() { client.close() }
}

/// Hears the one answer of a call.
private final class PeerAnswer: GrpcClientHandler {
  private var answer: [UInt8]?
  private var node: NodeID?
  private let done: (Result<[UInt8], Fault>, NodeID?) -> Void
  init(_ done: @escaping (Result<[UInt8], Fault>, NodeID?) -> Void) { self.done = done }

  func receiveHeaders(on call: GrpcClientCall) { node = call.peerNode?.node }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcClientCall) {
    node = call.peerNode?.node
    answer = unsafe [UInt8](bytes)
  }

  func receiveStatus(_ status: GrpcStatus, _ message: String, on call: GrpcClientCall) {
    if status == .ok, let answer {
      done(.success(answer), node)
      return
    }
    done(.failure(PeerAnswer.fault(status, message, call.trailers["posthouse-code"])), node)
  }

  /// The node's own fault, or what kept its answer away.
  static func fault(_ status: GrpcStatus, _ message: String, _ code: String?) -> Fault {
    if let code = code.flatMap({ FaultCode(rawValue: $0) }) { return Fault(code, message) }
    return switch status {
    case .ok: Fault(.internal, "no answer in it")
    case .unavailable: Fault(.unreachable, message)
    case .deadlineExceeded: Fault(.deadlineExceeded, message)
    case .unimplemented: Fault(.unimplemented, message)
    case .resourceExhausted: Fault(.tooLarge, message)
    case .permissionDenied, .unauthenticated: Fault(.forbidden, message)
    default: Fault(.internal, "\(status): \(message)")
    }
  }
}
