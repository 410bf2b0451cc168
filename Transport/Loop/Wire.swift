public import Base
internal import CSys

/// What lies between a socket and its bytes: TLS. A connection without one speaks in the clear.
open class Wire {
  public enum Step: Sendable {
    case done, wantsMore
    /// Clear text for a log; never a secret.
    case failed(String)
  }
  public init() {}
  /// The protocol agreed by ALPN, when the handshake is done.
  open var applicationProtocol: String? { nil }
  /// The common name of the certificate that the peer has shown and that was verified. nil: none.
  open var peerName: String? { nil }
  /// The node at the other end, proved by its certificate; nil before the handshake is done, and for who
  /// shows none.
  open var peerNode: NodeIdentity? { nil }
  /// Why a read or write found it broken, when the peer said: clear text for a log.
  open var breakage: String? { nil }
  open func attach(descriptor: Int32, peer: PeerAddress) {}
  /// Goes on with the handshake as far as the socket allows.
  open func handshake() -> Step { .failed("TLS could not start") }
  /// Bytes read, 0 at the end of the stream, `Wire.later`, or `Wire.broken`.
  open func read(into room: UnsafeMutableRawBufferPointer) -> Int { Wire.broken }
  open func write(_ bytes: UnsafeRawBufferPointer) -> Int { Wire.broken }
  /// Bytes were taken that are not on the socket yet: `write`, with nothing more, goes on with them.
  open var isPending: Bool { false }
  /// Says goodbye in the protocol's way, if the socket takes it.
  open func shutdown() {}

  public static let later = -1
  public static let broken = -2

  /// Writes to a socket: bytes written, `later` or `broken`.
  public static func send(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Int {
    let n = sys_send(descriptor, bytes.baseAddress, bytes.count)
    if n >= 0 { return n }
    return sys_is_again(n) != 0 ? later : broken
  }
}

/// What speaks over a connection. One at a time; a sniffer replaces itself by what it found.
open class ConnectionDriver {
  public internal(set) unowned(unsafe) final var connection: Connection!
  public init() {}

  /// The connection stands, the TLS handshake is done.
  open func receiveOpened() {}
  /// Borrowed bytes.
  open func receiveBytes(_ bytes: UnsafeRawBufferPointer) {}
  /// The peer will send nothing more.
  open func receiveEnd() { connection.close() }
  /// Append to `connection.output` what is ready, up to about `Limits.connectionQueueBytes`.
  open func fill() {}
  /// A flush is over; `fill` may have been called several times.
  open func receiveFlushed() {}
  /// True when everything is said: closed once the output is empty.
  open var isFinished: Bool { false }
  /// Exactly once. `reason` is clear text.
  open func receiveClosed(_ reason: String) {}
}
