public import Base
internal import CSys
public import Synchronization

/// A listening socket. Accepts on its owner's loop and hands connections round to `loops`.
public final class Listener: EventSource, @unchecked Sendable {
  /// Makes the driver of a new connection, and its TLS; on the loop the connection will live on.
  public typealias Maker = @Sendable (EventLoop, PeerAddress) -> (ConnectionDriver, Wire?)

  /// What it accepts from.
  public let socket: ListenSocket
  private let descriptor: Int32
  private let loops: [EventLoop]
  private let maximum: Int
  private let make: Maker
  private var placement: LoopPlacement
  private var closed = false
  private var stopped = false
  private var paused = false
  private let leavesPath = Atomic<Bool>(false)
  /// Connections of this listener that are open.
  public let openCount = Atomic<Int>(0)
  /// Where it listens; with the real port when 0 was asked for.
  public var endpoint: Endpoint { socket.endpoint }
  public var port: Int {
    if case .tcp(_, let port) = endpoint { Int(port) } else { 0 }
  }

  /// Binds at once (so that the port is known), accepts as soon as the first loop gets round to it.
  public convenience init(
    _ endpoint: Endpoint, loops: [EventLoop],
    maximumConnections: Int = Limits.connectionsPerListener, block: Int = 1,
    _ make: @escaping Maker
  ) throws(SocketError) {
    self.init(
      try ListenSocket(endpoint), loops: loops, maximumConnections: maximumConnections,
      block: block, make)
  }

  /// Accepts from a socket that may have connections waiting already. `block`: how many connections in a row share a
  /// loop while it is not busy.
  public init(
    _ socket: ListenSocket, loops: [EventLoop],
    maximumConnections: Int = Limits.connectionsPerListener, block: Int = 1,
    _ make: @escaping Maker
  ) {
    precondition(!loops.isEmpty, "a listener needs a loop")
    self.socket = socket
    descriptor = socket.number
    self.loops = loops
    self.make = make
    maximum = maximumConnections
    placement = LoopPlacement(loops: loops.count, block: block)
    super.init(loop: loops[0])
    loops[0].post { [self] in
      if !closed { _ = loop.register(self, descriptor: descriptor, events: EPOLLIN.rawValue) }
    }
  }

  /// Accepts no more; open connections go on. From any thread.
  public func close() {
    loop.post { [self] in shut() }
  }

  /// Accepts nothing any more, though the socket stays open: who connects waits in its backlog. `done` is called on
  /// the listener's loop when that is so.
  public func stopAccepting(_ done: @escaping @Sendable () -> Void) {
    loop.post { [self] in
      stopped = true
      if !closed { loop.watch(self, descriptor: descriptor, events: 0) }
      done()
    }
  }

  /// Leaves the file of its Unix socket where it is: somebody else listens there, or soon will.
  public func leavePath() { leavesPath.store(true, ordering: .relaxed) }

  private func shut() {
    if closed { return }
    closed = true
    loop.forget(descriptor: descriptor)
    loop.unregister(self)
    if let path = socket.path, !leavesPath.load(ordering: .relaxed) { sys_unlink(path) }
    socket.close()
  }

  public override func receiveLoopStopped() { shut() }

  public override func receiveReady(_ mask: UInt32) {
    var text = [CChar](repeating: 0, count: 80)
    var budget = 64
    while budget > 0, !closed, !paused, !stopped {
      var kind: Int32 = 0
      var user: UInt32 = 0
      let fd = sys_accept(descriptor, &text, text.count, &kind, &user)
      if fd < 0 {
        if sys_is_descriptor_shortage(Int(fd)) != 0 { pause() }
        return
      }
      budget -= 1
      if openCount.load(ordering: .relaxed) >= maximum {
        TransportCounts.shared.refusedFull.increment()
        sys_close(fd)
        continue
      }
      let end = text.firstIndex(of: 0) ?? 0
      let words = String(decoding: text[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      let place: PeerAddress.Kind = kind == 2 ? .unix : kind == 1 ? .loopback : .remote
      hand(fd, PeerAddress(kind: place, text: words, user: kind == 2 ? user : nil))
    }
  }

  private func hand(_ fd: Int32, _ peer: PeerAddress) {
    TransportCounts.shared.accepted.increment()
    TransportCounts.shared.open.increment()
    openCount.increment()
    let home = loops[
      placement.next(at: loop.now.monotonic.nanoseconds) { loops[$0].workedNanoseconds }]
    if home === loop {
      adopt(fd, peer, home)
    } else {
      home.post { [self] in adopt(fd, peer, home) }
    }
  }

  private func adopt(_ fd: Int32, _ peer: PeerAddress, _ home: EventLoop) {
    let (driver, wire) = make(home, peer)
    let connection = Connection(
      loop: home, descriptor: fd, peer: peer, wire: wire, driver: driver, connecting: false)
    connection.onClosed = { [self] in
      TransportCounts.shared.open.decrement()
      openCount.decrement()
    }
    connection.start()
  }

  /// No descriptor is left: wait instead of spinning on a readable socket.
  private func pause() {
    TransportCounts.shared.acceptPauses.increment()
    paused = true
    loop.watch(self, descriptor: descriptor, events: 0)
    loop.schedule(after: .milliseconds(100)) { [self] in
      paused = false
      if !closed, !stopped { loop.watch(self, descriptor: descriptor, events: EPOLLIN.rawValue) }
    }
  }
}

extension Connection {
  /// Starts a connection to `endpoint` on `loop`, on its thread. Failures reach the driver's
  /// `receiveClosed`, never before this returns.
  public static func dial(
    _ endpoint: Endpoint, on loop: EventLoop, wire: Wire?, driver: ConnectionDriver,
    resolvingNames: Bool = false
  ) throws(SocketError) -> Connection {
    var kind: Int32 = 0
    let fd: Int32
    switch endpoint {
    case .tcp(let host, let port):
      fd = sys_connect_tcp(host, port, resolvingNames ? 1 : 0, &kind)
    case .unix(let path):
      fd = sys_connect_unix(path)
      kind = 2
    }
    if fd < 0 { throw SocketError("connecting to \(endpoint)", fd) }
    let place: PeerAddress.Kind = kind == 2 ? .unix : kind == 1 ? .loopback : .remote
    let connection = Connection(
      loop: loop, descriptor: fd, peer: PeerAddress(kind: place, text: endpoint.description),
      wire: wire, driver: driver, connecting: true)
    connection.start()
    return connection
  }
}
