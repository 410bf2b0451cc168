import Base
import Grpc
import Http
import LinkMail
import Loop

/// One connection of a link, whichever end opened it: frames in and out. On loop 0.
final class LinkStream: GrpcHandler, GrpcClientHandler {
  @safe private unowned(unsafe) let host: LinkHost
  /// The host holds its links for as long as it lives.
  let link: NodeLink
  private var served: GrpcCall?
  private var made: GrpcClientCall?
  /// Frames may leave: the other end has answered.
  private(set) var isOpen = false
  private(set) var lastHeard: Instant
  private(set) var lastSaid: Instant
  /// What waits until the connection has taken what was sent: messages are not encoded before.
  private var backlog: [(sequence: UInt64, mail: LinkMail)] = []
  private var head = 0
  /// Mail of this turn; it leaves at the turn's end, or when a frame is full.
  private var batch = LinkBatch()

  init(_ host: LinkHost, _ link: NodeLink, serving call: GrpcCall? = nil) {
    self.host = host
    self.link = link
    served = call
    isOpen = call != nil
    lastHeard = host.loop.now.monotonic
    lastSaid = lastHeard
  }

  /// The call of the end that connects.
  func calls(_ call: GrpcClientCall) { made = call }

  /// Bytes sent and not yet on the socket.
  var queuedBytes: Int { served?.queuedBytes ?? made?.queuedBytes ?? 0 }
  /// Of the end that was called.
  var connection: Connection? { served?.connection }
  /// Messages that wait to be sent.
  var waiting: Int { backlog.count - head }

  // MARK: out

  func send(_ frame: LinkFrame) {
    flush()
    send(frame.encoded(&host.writer))
  }

  private func send(_ bytes: Bytes) {
    link.traffic.framesSent &+= 1
    link.traffic.bytesSent &+= bytes.count
    lastSaid = host.loop.now.monotonic
    if let served { served.send(bytes) } else { made?.send(bytes) }
  }

  func send(sequence: UInt64, _ mail: LinkMail) {
    if waiting > 0 || queuedBytes + batch.bytes > Limits.linkOutputBytes {
      backlog.append((sequence, mail))
    } else {
      put(sequence, mail)
    }
  }

  private func put(_ sequence: UInt64, _ mail: LinkMail) {
    guard link.version >= 2 else { return send(.mail(sequence: sequence, mail)) }
    if !batch.hasRoom(for: sequence, bytes: mail.cost) { flush() }
    batch.append(sequence: sequence, mail)
  }

  /// What was gathered leaves.
  func flush() { if !batch.isEmpty { send(batch.take()) } }

  private func sendOn() {
    while head < backlog.count, queuedBytes + batch.bytes <= Limits.linkOutputBytes {
      let next = backlog[head]
      head += 1
      put(next.sequence, next.mail)
    }
    flush()
    if head == backlog.count {
      if head > 0 { backlog.removeAll(keepingCapacity: head <= 1_024) }
      head = 0
    } else if head >= 1_024, head * 2 >= backlog.count {
      backlog.removeFirst(head)
      head = 0
    }
  }

  /// Ends the connection; nothing more is heard of it.
  func close() {
    isOpen = false
    backlog = []
    head = 0
    batch.removeAll()
    let (call, client) = (served, made)
    (served, made) = (nil, nil)
    call?.cancel()
    client?.cancel()
  }

  // MARK: in

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    unsafe receive(bytes)
  }
  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcClientCall) {
    unsafe receive(bytes)
  }

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    lastHeard = host.loop.now.monotonic
    unsafe host.receive(bytes, on: self)
  }

  func receiveHeaders(on call: GrpcClientCall) {
    guard made != nil else { return }
    isOpen = true
    lastHeard = host.loop.now.monotonic
    host.receiveConnected(self)
  }

  func receiveHalfClose(on call: GrpcCall) { call.finish(.ok) }

  func receiveClosed(on call: GrpcCall) {
    guard served != nil else { return }
    let why = call.closeReason
    (served, isOpen) = (nil, false)
    host.receiveDisconnected(self, why)
  }

  func receiveStatus(_ status: GrpcStatus, _ message: String, on call: GrpcClientCall) {
    guard made != nil else { return }
    (made, isOpen) = (nil, false)
    host.receiveDisconnected(self, message.isEmpty ? "\(status)" : message)
  }

  func receiveDrained(_ bytes: Int, on call: GrpcCall) { if waiting > 0 { sendOn() } }
  func receiveDrained(_ bytes: Int, on call: GrpcClientCall) { if waiting > 0 { sendOn() } }

  /// Agents' streams may be waited for; this one ends with its node.
  var owesAnswer: Bool { false }
}
