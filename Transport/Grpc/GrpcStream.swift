public import Base
public import Http
internal import Loop

/// Bounds of one method.
public struct GrpcLimits: Sendable {
  /// Bytes of one received message; a larger one ends the call with RESOURCE_EXHAUSTED before it is
  /// buffered.
  public var messageBytes: Int
  public init(messageBytes: Int = Limits.messageBytes) { self.messageBytes = messageBytes }
  public static let `default` = GrpcLimits()
}

/// What both ends of a call have in common: messages in, frames out.
open class GrpcStream: Http2Stream, @unchecked Sendable {
  private var deframer = Deframer()
  var messageLimit = Limits.messageBytes
  private var isPaused = false
  private var isDelivering = false
  /// The peer has ended and messages before that wait for `resumeReading`.
  private(set) var endWaits = false
  /// Nothing that still arrives is of interest.
  var isDeaf = false
  /// For whoever owns the call.
  public final var userData: AnyObject?

  func receiveMessage(_ bytes: UnsafeRawBufferPointer) {}
  func receiveHalfClose() {}
  func receiveBroken(_ status: GrpcStatus, _ message: String) {}

  /// Queues one message that already has its five bytes of prefix: one slot, no copy.
  public final func send(_ frame: Bytes) { enqueue(frame) }

  /// The same for a message with a hole, and what this peer gets in it.
  public final func send(_ frame: Bytes, _ filling: HoleFilling) { enqueue(frame, filling) }

  /// Takes no more messages; the peer is slowed once the stream's window is full.
  public final func pauseReading() { isPaused = true }

  /// Goes on; messages that wait are delivered before this returns unless it is called from within
  /// `receiveMessage`.
  public final func resumeReading() {
    guard isPaused else { return }
    isPaused = false
    if isDelivering || isDeaf { return }
    var none = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    unsafe deliver(&none)
    if endWaits, !isPaused, !isDeaf {
      endWaits = false
      receiveHalfClose()
    }
  }

  public final override func receiveData(_ bytes: UnsafeRawBufferPointer) {
    if isDeaf {
      consumeSoon(unconsumed)
      return
    }
    var input = unsafe bytes
    if isPaused || isDelivering {
      unsafe deframer.stash(input)
      return
    }
    unsafe deliver(&input)
  }

  private func deliver(_ input: inout UnsafeRawBufferPointer) {
    isDelivering = true
    defer { isDelivering = false }
    while !isPaused, !isDeaf {
      switch unsafe deframer.next(&input, limit: messageLimit) {
      case .message(let message):
        unsafe receiveMessage(message)
        continue
      case .needsMore:
        // A message larger than the window could never arrive if its parts were held back.
        consumeSoon(unconsumed)
        return
      case .tooLarge(let length):
        TransportCounts.shared.tooLarge.increment()
        fail(
          .resourceExhausted, "a message of \(length) bytes is over the limit of \(messageLimit)")
      case .compressed: fail(.internal, "a compressed message without grpc-encoding")
      case .malformed: fail(.internal, "a message prefix with an unknown flag")
      }
    }
    if isDeaf {
      consumeSoon(unconsumed)
      return
    }
    // Paused: the rest is kept and not given back to the window.
    unsafe deframer.stash(input)
    consumeSoon(unconsumed &- deframer.kept)
  }

  private func fail(_ status: GrpcStatus, _ message: String) {
    hearNoMore()
    receiveBroken(status, message)
  }

  final func hearNoMore() {
    isDeaf = true
    if !isDelivering { deframer.removeAll() }
  }

  public final override func receiveEnd() {
    if isDeaf { return }
    if isPaused || isDelivering, deframer.kept > 0 || isPaused {
      endWaits = true
      return
    }
    if deframer.kept > 0 {
      fail(.internal, "the stream ended inside a message")
      return
    }
    receiveHalfClose()
  }
}
