public import Base
internal import CNghttp2
internal import Loop

/// Error codes of RST_STREAM and GOAWAY (RFC 9113 section 7) that we send or tell apart.
public struct Http2Error: Sendable, Equatable {
  public var code: UInt32
  public init(_ code: UInt32) { self.code = code }
  public static let none = Http2Error(0)
  public static let protocolError = Http2Error(1)
  public static let internalError = Http2Error(2)
  public static let refusedStream = Http2Error(7)
  public static let cancel = Http2Error(8)
  public static let enhanceYourCalm = Http2Error(11)
}

/// One HTTP/2 stream. The session keeps it alive until it is closed; subclasses say what it carries.
/// Everything happens on the session's loop.
open class Http2Stream: @unchecked Sendable {
  public internal(set) final var id: Int32 = 0
  /// Valid while `isOpen`.
  public internal(set) unowned(unsafe) final var session: Http2Session!
  /// The session's handle and connection, kept here so that the data path touches nothing else and
  /// retains nothing.
  final var handle: OpaquePointer?
  final var dirt: Unmanaged<Connection>?
  /// False once closed, for whatever reason.
  public internal(set) final var isOpen = true
  /// The peer has ended its side.
  public internal(set) final var isRemoteEnded = false
  /// Fields being collected: the request's, the response's, or trailers.
  final var incoming = HeaderFields()
  /// More fields came than we take; the block is read on and thrown away.
  public internal(set) final var headersTooLarge = false
  final var sawHeaders = false
  final var next: Http2Stream?
  unowned(unsafe) final var previous: Http2Stream?
  final var ring = FrameRing()
  final var isDeferred = false
  final var hasHeaders = false
  final var isEnding = false
  final var trailers: HeaderBlock?
  final var drained = 0
  /// Bytes of a DATA frame nghttp2 has made a head for and not yet fetched.
  final var promised = 0
  /// Bytes received and not yet given back to the peer's window.
  public internal(set) final var unconsumed = 0
  /// Of these, what goes back when what was read has been dealt with.
  final var consumable = 0

  public init() {}

  // MARK: what subclasses hear

  /// The header block of a request (server) or response (client) is complete.
  open func receiveHeaders(_ fields: HeaderFields) {}
  open func receiveTrailers(_ fields: HeaderFields) {}
  /// Borrowed bytes of a DATA frame. Give them back with `consume` when they are dealt with.
  open func receiveData(_ bytes: UnsafeRawBufferPointer) {}
  /// The peer has ended its side. After `receiveHeaders`, `receiveData` and `receiveTrailers`.
  open func receiveEnd() {}
  /// Queued bytes left for the socket; at most once per flush.
  open func receiveDrained(_ bytes: Int) {}
  /// Exactly once. `transportLost`: the connection went, not just the stream.
  open func receiveClosed(_ error: Http2Error, transportLost: Bool) {}

  // MARK: what they say

  /// Bytes queued and not yet on their way to the socket.
  public final var queuedBytes: Int { ring.bytes }

  /// The response's (or request's) header block has been handed over.
  public final var hasSentHeaders: Bool { hasHeaders }

  /// The end of our side has left for the socket; with the peer's end in, nothing is left of the stream to reset.
  public final var hasSentEnd: Bool {
    isOpen && nghttp2_session_get_stream_local_close(handle, id) == 1
  }

  /// Queues a buffer. Ignored when the stream is closed or ending.
  public final func enqueue(_ frame: Bytes) {
    guard isOpen, !isEnding else { return }
    ring.push(frame)
    // Not deferred: nghttp2 has the stream in hand, and the connection is dirty or waits for the peer.
    if isDeferred { wake() }
  }

  /// Queues a buffer with a hole, and what this peer gets in it.
  public final func enqueue(_ frame: Bytes, _ filling: HoleFilling) {
    guard isOpen, !isEnding else { return }
    ring.push(frame, filling)
    if isDeferred { wake() }
  }

  /// Ends our side after what is queued, with trailers or without.
  public final func endOutput(trailers: HeaderBlock? = nil) {
    guard isOpen, !isEnding else { return }
    isEnding = true
    self.trailers = trailers
    if isDeferred { wake() }
  }

  /// Drops what is queued, except a frame that has begun to leave.
  public final func discardQueue() {
    guard isOpen else { return }
    ring.truncate(keeping: promised)
  }

  /// Drops the oldest whole buffers until at most `most` bytes wait; a frame that has begun to leave stays.
  /// - Returns: how many went.
  public final func dropOldest(to most: Int) -> Int {
    isOpen ? ring.dropOldest(to: most, sparing: promised) : 0
  }

  private func wake() {
    isDeferred = false
    nghttp2_session_resume_data(handle, id)
    markDirty()
  }

  private func markDirty() {
    dirt.unsafelyUnwrapped._withUnsafeGuaranteedRef { $0.markDirty() }
  }

  /// Gives `n` received bytes back to the peer's windows: while bytes are being read, once for all of them.
  public final func consumeSoon(_ n: Int) {
    guard isOpen, n > 0 else { return }
    guard session.isReceiving else { return consume(n) }
    if consumable == 0 { session.owe(self) }
    consumable = n
  }

  /// Gives `n` received bytes back to the peer's windows.
  public final func consume(_ n: Int) {
    guard isOpen, n > 0 else { return }
    unconsumed &-= n
    nghttp2_session_consume(handle, id, n)
    // Inside `receiveData` this is the second of two looks; outside it is the only one.
    markDirtyIfWanted()
  }

  private func markDirtyIfWanted() {
    if nghttp2_session_want_write(handle) != 0 { markDirty() }
  }

  /// Sends the response's header block. `end`: nothing follows.
  public final func submitResponse(_ fields: HeaderBlock, end: Bool) {
    guard isOpen, !hasHeaders else { return }
    hasHeaders = true
    if end { isEnding = true }
    session.submitResponse(self, fields, end: end)
  }

  public final func reset(_ error: Http2Error) {
    guard isOpen else { return }
    nghttp2_submit_rst_stream(handle, 0, id, error.code)
    markDirty()
  }
}
