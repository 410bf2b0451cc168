public import Base
internal import CNghttp2
public import Loop

/// How an HTTP/2 session behaves. Defaults are `Limits`.
public struct Http2Settings: Sendable {
  public var streamWindowBytes = Limits.streamWindowBytes
  public var connectionWindowBytes = Limits.connectionWindowBytes
  public var maximumStreams = Limits.streamsPerConnection
  public var keepalive = Interval.seconds(Int64(Limits.keepaliveSeconds))
  public var keepaliveTimeout = Interval.seconds(Int64(Limits.keepaliveTimeoutSeconds))
  /// How long a peer with open streams may leave a PING unanswered: its process may be stopped.
  public var stallTimeout = Interval.seconds(Int64(Limits.stallSeconds))
  /// How long a session without streams is kept; nil: for ever.
  public var idleTimeout: Interval?
  public var headTimeout = Interval.seconds(Int64(Limits.headTimeoutSeconds))
  /// HPACK's dynamic table for the peer's fields (RFC 7541 section 4.2): with one a call names a field it has sent
  /// before by a byte or two. 0, because it would keep a credential in memory for as long as the connection
  /// lives. Where calls carry none as a rule: 4,096 as in HTTP/2; it is emptied when one comes (`forgetFields`).
  public var headerTableBytes = 0
  public init() {}
}

/// Who owns sessions: makes their streams and keeps the list for draining. One per loop.
open class Http2Owner: @unchecked Sendable {
  public init() {}
  /// A client opened a stream (server sessions only).
  open func makeStream(on session: Http2Session) -> Http2Stream { Http2Stream() }
  /// Exactly once per session.
  open func receiveClosed(_ session: Http2Session, reason: String) {}
  /// SETTINGS of the peer have arrived: the session works.
  open func receiveReady(_ session: Http2Session) {}
}

/// An HTTP/2 session, server or client, over one connection.
public final class Http2Session: ConnectionDriver {
  var handle: OpaquePointer!
  public let isServer: Bool
  public let settings: Http2Settings
  let owner: Http2Owner
  private(set) var firstStream: Http2Stream?
  public private(set) var streamCount = 0
  var drainedStreams: [Http2Stream] = []
  /// Streams that ended while nghttp2 was at work: its callbacks hold them without retaining.
  private var endedStreams: [Http2Stream] = []
  /// Bytes of the client's preface seen so far.
  private var prefaceSeen = 0
  private(set) var isReady = false
  private var isOver = false
  /// Bytes are being read; streams that have some to give back after that.
  private(set) var isReceiving = false
  private var owing: [Http2Stream] = []
  /// There is a dynamic table of the peer's fields.
  private var keepsFields = false
  /// Why the connection went.
  public private(set) var closeReason = ""
  private var refusal: String?
  private var timer = TimerID.none
  private var awaitingPong = false
  private var pingSent = Instant.zero
  private var lastStreamEnd = Instant.zero
  var resets: Allowance
  var controls: Allowance
  private var isDraining = false
  /// Set while the output is full: nghttp2 stops in the middle of its queue.
  private static let clientMagic: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

  public init(isServer: Bool, owner: Http2Owner, settings: Http2Settings = Http2Settings()) {
    self.isServer = isServer
    self.owner = owner
    self.settings = settings
    // All open streams may be reset at once, beyond that so many a second.
    resets = Allowance(
      burst: settings.maximumStreams + Limits.resetsPerSecond, perSecond: Limits.resetsPerSecond)
    controls = Allowance(burst: 2_000, perSecond: 1_000)
    super.init()
    let me = Unmanaged.passUnretained(self).toOpaque()
    let failed =
      isServer
      ? nghttp2_session_server_new2(&handle, Http2Session.callbacks, me, Http2Session.options)
      : nghttp2_session_client_new2(&handle, Http2Session.callbacks, me, Http2Session.options)
    precondition(failed == 0, "no memory for an HTTP/2 session")
    sendSettings()
  }

  deinit { nghttp2_session_del(handle) }

  private func sendSettings() {
    var entries = [
      entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings.streamWindowBytes),
      entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, Limits.headerListBytes),
      entry(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, settings.headerTableBytes),
    ]
    if isServer {
      entries.append(entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings.maximumStreams))
    } else {
      entries.append(entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
    }
    nghttp2_submit_settings(handle, 0, entries, entries.count)
    nghttp2_session_set_local_window_size(handle, 0, 0, Int32(settings.connectionWindowBytes))
    keepsFields = settings.headerTableBytes > 0
  }

  /// The peer sends a credential: no table any more, so that it does not stay in it.
  func forgetFields() {
    if !keepsFields { return }
    keepsFields = false
    var none = entry(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0)
    nghttp2_submit_settings(handle, 0, &none, 1)
  }

  private func entry(_ id: nghttp2_settings_id, _ value: Int) -> nghttp2_settings_entry {
    nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(value))
  }

  public var peer: PeerAddress { connection.peer }
  public var loop: EventLoop { connection.loop }
  public var isUsable: Bool { !isOver && !isDraining }

  // MARK: streams

  func add(_ stream: Http2Stream, id: Int32) {
    stream.id = id
    stream.session = self
    stream.handle = handle
    stream.dirt = Unmanaged.passUnretained(connection)
    stream.next = firstStream
    firstStream?.previous = stream
    firstStream = stream
    streamCount += 1
  }

  private func remove(_ stream: Http2Stream) {
    if let previous = stream.previous {
      previous.next = stream.next
    } else {
      firstStream = stream.next
    }
    stream.next?.previous = stream.previous
    stream.next = nil
    stream.previous = nil
    streamCount -= 1
    if streamCount == 0 { lastStreamEnd = loop.now.monotonic }
  }

  func begin(_ id: Int32) {
    let stream = owner.makeStream(on: self)
    add(stream, id: id)
    nghttp2_session_set_stream_user_data(handle, id, Unmanaged.passUnretained(stream).toOpaque())
  }

  /// The stream is gone. Its object may outlive it in its owner's hands.
  func end(_ stream: Http2Stream, _ error: Http2Error, transportLost: Bool) {
    guard stream.isOpen else { return }
    nghttp2_session_set_stream_user_data(handle, stream.id, nil)
    if stream.unconsumed > 0, !transportLost {
      nghttp2_session_consume_connection(handle, stream.unconsumed)
    }
    stream.isOpen = false
    endedStreams.append(stream)
    stream.ring.removeAll()
    remove(stream)
    stream.receiveClosed(error, transportLost: transportLost)
  }

  /// Every open stream; `body` may end them.
  public func forEachStream(_ body: (Http2Stream) -> Void) {
    var next = firstStream
    while let stream = next {
      next = stream.next
      body(stream)
    }
  }

  /// Opens a stream (client). nil when the session takes no more.
  public func open(_ stream: Http2Stream, _ fields: HeaderBlock, end: Bool) -> Bool {
    guard isUsable else { return false }
    let pointer = Unmanaged.passUnretained(stream).toOpaque()
    var provider = nghttp2_data_provider()
    provider.source.ptr = pointer
    provider.read_callback = readCallback
    let id = withUnsafePointer(to: provider) {
      nghttp2_submit_request(handle, nil, fields.fields, fields.count, end ? nil : $0, pointer)
    }
    guard id > 0 else { return false }
    stream.hasHeaders = true
    stream.isEnding = end
    add(stream, id: id)
    connection.markDirty()
    return true
  }

  func submitResponse(_ stream: Http2Stream, _ fields: HeaderBlock, end: Bool) {
    var provider = nghttp2_data_provider()
    provider.source.ptr = Unmanaged.passUnretained(stream).toOpaque()
    provider.read_callback = readCallback
    _ = withUnsafePointer(to: provider) {
      nghttp2_submit_response(handle, stream.id, fields.fields, fields.count, end ? nil : $0)
    }
    connection.markDirty()
  }

  // MARK: bytes

  public override func receiveOpened() {
    if connection.isSecure, connection.applicationProtocol != "h2" {
      connection.close("the peer does not speak h2 (ALPN)")
      return
    }
    timer = loop.schedule(after: settings.headTimeout) { [unowned self] in
      TransportCounts.shared.headTimeouts.increment()
      connection.close("no HTTP/2 preface in time")
    }
    connection.markDirty()
  }

  public override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
    if refusal != nil { return }
    if isServer, prefaceSeen < 24, !checkPreface(bytes) {
      refuseGarbage(bytes)
      return
    }
    isReceiving = true
    let n = nghttp2_session_mem_recv(
      handle, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count)
    isReceiving = false
    if !owing.isEmpty { settleWindows() }
    if !endedStreams.isEmpty { endedStreams.removeAll(keepingCapacity: endedStreams.count < 64) }
    if n < 0 {
      TransportCounts.shared.protocolErrors.increment()
      connection.close("HTTP/2: \(String(cString: nghttp2_strerror(Int32(n))))")
      return
    }
    // Window updates, answers to PING and SETTINGS wait in nghttp2.
    if nghttp2_session_want_write(handle) != 0 {
      connection.markDirty()
    } else if nghttp2_session_want_read(handle) == 0 {
      connection.markDirty()
    }
  }

  /// A stream has bytes to give back when all that was read is dealt with.
  func owe(_ stream: Http2Stream) { owing.append(stream) }

  private func settleWindows() {
    for stream in owing {
      let n = stream.consumable
      stream.consumable = 0
      stream.consume(n)
    }
    owing.removeAll(keepingCapacity: owing.count < 64)
  }

  private func checkPreface(_ bytes: UnsafeRawBufferPointer) -> Bool {
    for byte in bytes {
      if prefaceSeen == 24 { return true }
      if byte != Http2Session.clientMagic.utf8Start[prefaceSeen] { return false }
      prefaceSeen += 1
    }
    return true
  }

  /// Not HTTP/2. A client that looks like HTTP/1 is told so, anything else is cut.
  private func refuseGarbage(_ bytes: UnsafeRawBufferPointer) {
    TransportCounts.shared.protocolErrors.increment()
    refusal = "not HTTP/2"
    guard let first = bytes.first, (0x41...0x5a).contains(first), prefaceSeen == 0 else {
      connection.close("not HTTP/2")
      return
    }
    let text = "{\"error\":\"this port speaks HTTP/2 (gRPC) only\",\"code\":\"bad_request\"}"
    connection.output.append(
      utf8: "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: "
        + "\(text.utf8.count)\r\nconnection: close\r\n\r\n\(text)")
    connection.closeWhenSent()
  }

  public override func fill() {
    // A server says nothing before it knows that the client speaks HTTP/2.
    if refusal != nil || (isServer && prefaceSeen < 24) { return }
    while connection.output.count < Limits.connectionQueueBytes {
      var bytes: UnsafePointer<UInt8>?
      let n = nghttp2_session_mem_send(handle, &bytes)
      if n < 0 {
        connection.close("HTTP/2: \(String(cString: nghttp2_strerror(Int32(n))))")
        return
      }
      if n == 0 { return }
      connection.output.append(UnsafeRawBufferPointer(start: bytes, count: n))
    }
  }

  public override func receiveFlushed() {
    if !endedStreams.isEmpty { endedStreams.removeAll(keepingCapacity: endedStreams.count < 64) }
    if drainedStreams.isEmpty { return }
    let list = drainedStreams
    drainedStreams.removeAll(keepingCapacity: true)
    for stream in list {
      let n = stream.drained
      stream.drained = 0
      stream.receiveDrained(n)
    }
  }

  public override var isFinished: Bool {
    refusal == nil && nghttp2_session_want_read(handle) == 0
      && nghttp2_session_want_write(handle) == 0
  }

  public override func receiveEnd() { connection.close("closed by the peer") }

  public override func receiveClosed(_ reason: String) {
    if isOver { return }
    isOver = true
    closeReason = reason
    loop.cancel(timer)
    while let stream = firstStream { end(stream, .cancel, transportLost: true) }
    drainedStreams.removeAll()
    owner.receiveClosed(self, reason: reason)
  }

  // MARK: keepalive

  /// The peer's SETTINGS have come.
  func becameReady() {
    if isReady { return }
    isReady = true
    lastStreamEnd = loop.now.monotonic
    loop.cancel(timer)
    check(after: settings.keepalive)
    owner.receiveReady(self)
  }

  func receivePong() { awaitingPong = false }

  private func check(after: Interval) {
    timer = loop.schedule(after: after) { [unowned self] in checkLife() }
  }

  private func checkLife() {
    let now = loop.now.monotonic
    if let idle = settings.idleTimeout, streamCount == 0, now - lastStreamEnd >= idle {
      terminate(.none)
      return
    }
    let quiet = now - connection.lastRead
    if awaitingPong {
      if connection.lastRead > pingSent {
        awaitingPong = false
      } else {
        // A stopped process still has a living kernel: with streams open only a long stall counts.
        let patience = streamCount == 0 ? settings.keepaliveTimeout : settings.stallTimeout
        let progress = max(connection.lastWrite, pingSent)
        if now - progress >= patience {
          TransportCounts.shared.keepaliveTimeouts.increment()
          connection.close("no answer to a keepalive ping")
          return
        }
        check(after: settings.keepaliveTimeout)
        return
      }
    }
    if quiet >= settings.keepalive {
      nghttp2_submit_ping(handle, 0, nil)
      awaitingPong = true
      pingSent = now
      connection.markDirty()
      check(after: settings.keepaliveTimeout)
    } else {
      check(after: Interval(nanoseconds: settings.keepalive.nanoseconds - quiet.nanoseconds))
    }
  }

  // MARK: ending

  /// Takes no new streams; those that are open go on. The connection closes with the last one.
  public func drain() {
    if isDraining || isOver { return }
    isDraining = true
    if isServer {
      // First the notice, then, when streams on their way have arrived, the last id (RFC 9113 6.8).
      nghttp2_submit_shutdown_notice(handle)
      loop.schedule(after: .milliseconds(200)) { [weak self] in
        guard let self, !isOver else { return }
        terminateAfterStreams()
      }
    } else {
      terminateAfterStreams()
    }
    connection.markDirty()
  }

  private func terminateAfterStreams() {
    let last = nghttp2_session_get_last_proc_stream_id(handle)
    nghttp2_submit_goaway(handle, 0, last, 0, nil, 0)
    connection.markDirty()
  }

  /// GOAWAY now, close when it has left.
  public func terminate(_ error: Http2Error) {
    if isOver { return }
    isDraining = true
    nghttp2_session_terminate_session(handle, error.code)
    connection.markDirty()
  }

  /// Someone floods us.
  func cut(_ why: String) {
    TransportCounts.shared.floods.increment()
    terminate(.enhanceYourCalm)
  }
}

/// So many events at once, and so many a second after that.
struct Allowance {
  private var left: Int
  private let burst: Int
  private let perSecond: Int
  private var second: Int64 = 0
  init(burst: Int, perSecond: Int) {
    left = burst
    self.burst = burst
    self.perSecond = perSecond
  }
  /// False when the allowance is used up.
  mutating func take(_ now: Instant) -> Bool {
    let s = now.nanoseconds / 1_000_000_000
    if s != second {
      let passed = second == 0 ? 0 : Int(min(s - second, 3_600))
      left = min(burst, left + passed * perSecond)
      second = s
    }
    left -= 1
    return left >= 0
  }
}
