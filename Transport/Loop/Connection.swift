public import Base
internal import CSys

/// One stream socket on its loop, with or without TLS, spoken over by a driver.
///
/// Idle it owns no buffer: reads go through the loop's buffer, and output memory is lent by the loop
/// for the length of a flush unless the socket takes no more.
public final class Connection: EventSource, @unchecked Sendable {
  private enum State { case connecting, handshaking, open, lingering, closed }
  private var state: State
  private var descriptor: Int32
  private let isTcp: Bool
  private let wire: Wire?
  private var driver: ConnectionDriver
  private var isWritable: Bool
  private var readPaused = false
  private var readPending = false
  /// The handshake failed: what still comes is no TLS that could be read.
  private var wireIsBroken = false
  /// An event told of the peer's end, or of an error: reading goes on until it is met.
  private var endIsNear = false
  /// Set by a driver whose bytes held request headers: the read buffer is wiped after this read, so that
  /// no credential stays in it.
  public var readHeldSecrets = false
  /// Bytes left since the last read of this turn.
  private var hasAnswered = false
  private var closesWhenSent = false
  private var timer = TimerID.none
  /// Called once when the descriptor is given up.
  var onClosed: (() -> Void)?

  public let peer: PeerAddress
  /// Bytes on their way out. Drivers append in `fill`.
  public var output = OutputBuffer()
  /// When bytes last came in, and when the socket last took some.
  public private(set) var lastRead: Instant
  public private(set) var lastWrite: Instant

  init(
    loop: EventLoop, descriptor: Int32, peer: PeerAddress, wire: Wire?, driver: ConnectionDriver,
    connecting: Bool
  ) {
    self.descriptor = descriptor
    self.peer = peer
    self.wire = wire
    self.driver = driver
    isTcp = peer.kind != .unix
    state = connecting ? .connecting : wire == nil ? .open : .handshaking
    isWritable = !connecting
    lastRead = loop.now.monotonic
    lastWrite = loop.now.monotonic
    super.init(loop: loop)
    driver.connection = self
    wire?.attach(descriptor: descriptor, peer: peer)
  }

  /// The socket's descriptor; negative once closed.
  var number: Int32 { descriptor }
  public var isOpen: Bool { state != .closed && state != .lingering }
  /// Nil in the clear.
  public var applicationProtocol: String? { wire?.applicationProtocol }
  public var isSecure: Bool { wire != nil }
  /// The common name of the peer's verified certificate. nil: it has shown none.
  public var peerName: String? { wire?.peerName }
  /// The node at the other end of a link, proved by its certificate; nil on other connections and before the
  /// handshake is done.
  public var peerNode: NodeIdentity? { wire?.peerNode }

  /// Registers with the loop. On its thread.
  func start() {
    let mask = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
    guard loop.register(self, descriptor: descriptor, events: mask) else {
      finish("the kernel refused to watch the socket")
      return
    }
    if state != .open { armTimer() } else { driver.receiveOpened() }
    // Bytes may be there already; with edges the first event tells.
  }

  /// Hands the connection to another driver, which gets what comes next.
  public func replaceDriver(_ next: ConnectionDriver) {
    next.connection = self
    driver = next
  }

  // MARK: events

  public override func receiveReady(_ mask: UInt32) {
    if state == .closed { return }
    let ends = EPOLLRDHUP.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue
    if mask & ends != 0 { endIsNear = true }
    if state == .connecting {
      guard mask & (EPOLLOUT.rawValue | EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 else { return }
      let result = sys_connect_result(descriptor)
      if result != 0 {
        finish("connecting: \(String(cString: sys_error_text(-result)))")
        return
      }
      isWritable = true
      state = wire == nil ? .open : .handshaking
      if state == .open { opened() }
    }
    if state == .handshaking {
      stepHandshake()
      return
    }
    if mask & EPOLLOUT.rawValue != 0, !isWritable {
      isWritable = true
      markDirty()
    }
    if mask & (EPOLLIN.rawValue | ends) != 0 { readSome() }
  }

  public override func readOn() {
    readPending = false
    if state == .open || state == .lingering { readSome() }
  }

  private func opened() {
    loop.cancel(timer)
    driver.receiveOpened()
    markDirty()
  }

  private func stepHandshake() {
    guard let wire else { return }
    switch wire.handshake() {
    case .wantsMore: break
    case .done:
      state = .open
      isWritable = true
      opened()
      // The first bytes may have come in the same flight.
      if state == .open { readSome() }
    case .failed(let why):
      TransportCounts.shared.tlsFailures.increment()
      endRefused("TLS: \(why)")
    }
  }

  /// The handshake failed, and an alert tells the peer why. Closing at once would reset the connection if the
  /// peer has written more already, and lose the alert.
  private func endRefused(_ reason: String) {
    wireIsBroken = true
    sys_shutdown_write(descriptor)
    linger(reason)
  }

  private func armTimer() {
    timer = loop.schedule(after: .seconds(Int64(Limits.headTimeoutSeconds))) { [unowned self] in
      TransportCounts.shared.headTimeouts.increment()
      finish("the handshake took too long")
    }
  }

  // MARK: reading

  private func readSome() {
    if readPaused, state == .open {
      readPending = true
      return
    }
    let room = loop.readBuffer
    // TLS gives a record at a time, at most 16 KiB.
    var budget = wire == nil ? 4 : 16
    while budget > 0 {
      let n = wireIsBroken ? readPlain(room) : wire?.read(into: room) ?? readPlain(room)
      if n > 0 {
        lastRead = loop.now.monotonic
        if state == .open { driver.receiveBytes(UnsafeRawBufferPointer(rebasing: room[..<n])) }
        if readHeldSecrets {
          readHeldSecrets = false
          room[..<n].initializeMemory(as: UInt8.self, repeating: 0)
        }
        if state == .closed { return }
        if readPaused, state == .open {
          // With edges nobody will tell again about what may be left.
          readPending = true
          return
        }
        // A short plain read has emptied the socket; the next bytes make a new edge. An end that came
        // with these makes none.
        if wire == nil, n < room.count, !endIsNear { break }
        budget &-= 1
      } else if n == Wire.later {
        break
      } else {
        receiveReadEnd(n)
        return
      }
    }
    if isTcp {
      hasAnswered = false
      loop.addAcknowledgement(self)
    }
    if budget == 0 { loop.addReader(self) }
    // TLS may have been waiting for these bytes to write.
    if wire != nil, !output.isEmpty {
      isWritable = true
      markDirty()
    }
  }

  /// Re-arms TCP_QUICKACK, so that no acknowledgement outlives the turn. Not when an answer has carried
  /// it already: then it would only cost the next read a packet of its own.
  public override func acknowledge() {
    if descriptor >= 0, !hasAnswered { sys_quickack(descriptor) }
  }

  private func readPlain(_ room: UnsafeMutableRawBufferPointer) -> Int {
    let n = sys_recv(descriptor, room.baseAddress, room.count)
    if n >= 0 { return n }
    return sys_is_again(n) != 0 ? Wire.later : Wire.broken
  }

  private func receiveReadEnd(_ n: Int) {
    if n == 0, state == .open {
      driver.receiveEnd()
    } else {
      finish(n == 0 ? "closed by the peer" : lossReason)
    }
  }

  /// Stops taking bytes, so that the peer's window fills.
  public func pauseReading() { readPaused = true }

  public func resumeReading() {
    guard readPaused else { return }
    readPaused = false
    if readPending {
      loop.addReader(self)
    }
  }

  // MARK: writing

  public override func flush() {
    guard state == .open else { return }
    output.borrow(from: &loop.spareOutput)
    var rounds = 0
    while isWritable {
      driver.fill()
      if state != .open { break }
      if output.isEmpty, !isPending { break }
      writeSome()
      if state != .open { break }
      rounds += 1
      if rounds == 4, isWritable {
        markDirty()
        break
      }
    }
    if state == .open { driver.receiveFlushed() }
    if output.isEmpty {
      output.giveBack(to: &loop.spareOutput)
      if state == .open, !isPending, closesWhenSent || driver.isFinished { endGently() }
    }
  }

  /// Taken by the wire and not on the socket.
  private var isPending: Bool { wire?.isPending == true }

  private func writeSome() {
    let bytes = output.readable
    let n = wire?.write(bytes) ?? Wire.send(bytes, to: descriptor)
    if n > 0 || (n == 0 && bytes.isEmpty) {
      output.consume(n)
      hasAnswered = true
      lastWrite = loop.now.monotonic
      if isPending || (wire == nil && n < bytes.count) { isWritable = false }
    } else if n == Wire.later {
      isWritable = false
    } else {
      finish(lossReason)
    }
  }

  private var lossReason: String {
    guard let why = wire?.breakage else { return "connection lost" }
    return "TLS: \(why)"
  }

  // MARK: ending

  /// Closes once the output has left; what the peer still sends is thrown away.
  public func closeWhenSent() {
    closesWhenSent = true
    markDirty()
  }

  /// Everything is sent. Closing at once would reset the connection if the peer still writes, and lose
  /// the answer, so the write side is closed and the rest read away for a moment.
  private func endGently() {
    wire?.shutdown()
    sys_shutdown_write(descriptor)
    linger("finished")
  }

  /// Nothing more is said; what the peer still sends is read away until it ends, for two seconds at most.
  private func linger(_ reason: String) {
    state = .lingering
    readPaused = false
    driver.receiveClosed(reason)
    loop.cancel(timer)
    timer = loop.schedule(after: .seconds(2)) { [unowned self] in finish("finished") }
    loop.addReader(self)
  }

  /// Closes at once.
  public func close(_ reason: String = "closed") { finish(reason) }

  private func finish(_ reason: String) {
    if state == .closed { return }
    let told = state == .lingering
    state = .closed
    loop.cancel(timer)
    sys_close(descriptor)
    descriptor = -1
    loop.unregister(self)
    if !told { driver.receiveClosed(reason) }
    onClosed?()
    onClosed = nil
  }

  public override func receiveLoopStopped() { finish("the loop has ended") }
}
