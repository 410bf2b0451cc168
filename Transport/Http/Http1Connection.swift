internal import Base
internal import Loop

/// Serves HTTP/1.1 on one connection: one request at a time, the next is read when the answer is out.
final class Http1Connection: ConnectionDriver {
  private var parser = Http1Parser()
  private let shard: HttpShard
  /// Bytes of the next request that came with the last.
  private var ahead: [UInt8] = []
  private var isServing = false
  private var peerEnded = false
  private var isClosing = false
  private var timer = TimerID.none
  private var bodySeen = 0
  private var serial = 0

  init(shard: HttpShard) { self.shard = shard }

  override func receiveOpened() { arm() }

  /// Begins after another driver has looked at the first bytes.
  func take(over bytes: UnsafeRawBufferPointer) {
    arm()
    receiveBytes(bytes)
  }

  // MARK: reading

  override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
    connection.readHeldSecrets = true
    if isClosing { return }
    if isServing {
      ahead.append(contentsOf: bytes)
      connection.pauseReading()
      return
    }
    var input = bytes
    parse(&input)
    if !input.isEmpty, !isClosing { ahead.append(contentsOf: input) }
  }

  private func parse(_ input: inout UnsafeRawBufferPointer) {
    while !isServing, !isClosing, !input.isEmpty {
      let wasIdle = parser.isIdle
      let wasInHead = parser.isInHead
      let before = input.count
      switch parser.receive(&input) {
      case .needsMore:
        // The head as a whole has its time from its first byte; a body must make progress.
        if !parser.isInHead { bodySeen += before }
        if wasIdle || wasInHead != parser.isInHead { arm() }
        if parser.wantsContinue {
          parser.didContinue()
          connection.output.append(utf8: "HTTP/1.1 100 Continue\r\n\r\n")
          connection.markDirty()
        }
      case .request(let request): serve(request)
      case .refused(let refusal):
        TransportCounts.shared.protocolErrors.increment()
        let code = refusal.status == 413 || refusal.status == 431 ? "too_large" : "bad_request"
        close(with: .refusal(refusal.status, code: code, refusal.reason))
      }
    }
  }

  override func receiveEnd() {
    peerEnded = true
    // A request in hand is still answered.
    if !isServing, !isClosing { connection.close("closed by the peer") }
  }

  private func arm() {
    loop.cancel(timer)
    let idle = parser.isIdle && serial > 0
    let seconds = idle ? Limits.idleHttpSeconds : Limits.headTimeoutSeconds
    bodySeen = 0
    timer = loop.schedule(after: .seconds(Int64(seconds))) { [unowned self] in expire(idle: idle) }
  }

  private func expire(idle: Bool) {
    if idle, parser.isIdle {
      connection.close("idle")
    } else if !parser.isInHead, bodySeen > 0 {
      // Slow is not stopped: at least 1 KiB a second on average has to come.
      if bodySeen < Limits.headTimeoutSeconds * 1024 { late() } else { arm() }
    } else {
      late()
    }
  }

  private func late() {
    TransportCounts.shared.headTimeouts.increment()
    close(with: .refusal(408, code: "bad_request", "the request took too long to arrive"))
  }

  private var loop: EventLoop { connection.loop }

  // MARK: answering

  private func serve(_ parsed: Http1Request) {
    TransportCounts.shared.requests.increment()
    isServing = true
    serial += 1
    loop.cancel(timer)
    let (path, query) = splitTarget(parsed.target)
    let request = HttpRequest(
      method: parsed.method, path: path, query: query,
      headers: parsed.fields.map { ($0.name, $0.value) }, body: parsed.body, peer: connection.peer,
      isSecure: connection.isSecure)
    let turn = serial
    let keep = parsed.keepAlive
    let isHead = parsed.method == "HEAD"
    shard.handler.receive(
      request,
      HttpResponder(loop: loop) { [self] response in
        // Not on a connection that has gone, nor twice.
        guard isServing, turn == serial, !isClosing else { return }
        answer(response, keep: keep && !shard.isDraining && !peerEnded, isHead: isHead)
      })
  }

  private func answer(_ response: HttpResponse, keep: Bool, isHead: Bool) {
    isServing = false
    write(response, keep: keep, isHead: isHead)
    if !keep {
      isClosing = true
      connection.closeWhenSent()
      return
    }
    arm()
    if !ahead.isEmpty {
      // What came ahead is served from a post: answers given at once must not nest without bound.
      loop.schedule(after: Interval(nanoseconds: 0)) { [weak self] in self?.goOn() }
    } else {
      connection.resumeReading()
    }
  }

  private func goOn() {
    guard !isServing, !isClosing, connection.isOpen else { return }
    let bytes = ahead
    ahead = []
    bytes.withUnsafeBytes { all in
      var input = all
      parse(&input)
      if !input.isEmpty, !isClosing { ahead = Array(input) }
    }
    if !isServing, ahead.isEmpty { connection.resumeReading() }
  }

  private func close(with response: HttpResponse) {
    isClosing = true
    loop.cancel(timer)
    write(response, keep: false, isHead: false)
    connection.closeWhenSent()
  }

  private func write(_ response: HttpResponse, keep: Bool, isHead: Bool) {
    var head = "HTTP/1.1 \(response.status) \(reasonPhrase(response.status))\r\n"
    for (name, value) in response.headers where isSafe(name) && isSafe(value) {
      head += "\(name): \(value)\r\n"
    }
    head += "date: \(httpDate(loop.now.wall))\r\n"
    let bodyless = response.status == 204 || response.status == 304
    if !bodyless { head += "content-length: \(response.body.count)\r\n" }
    head += keep ? "\r\n" : "connection: close\r\n\r\n"
    connection.output.append(utf8: head)
    if !isHead, !bodyless { connection.output.append(response.body) }
    connection.markDirty()
  }

  /// No header value of ours may start a new line.
  private func isSafe(_ text: String) -> Bool { text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f } }

  func drain() {
    if !isServing, parser.isIdle, ahead.isEmpty {
      isClosing = true
      connection.closeWhenSent()
    }
  }

  override func receiveClosed(_ reason: String) {
    isClosing = true
    loop.cancel(timer)
    shard.remove(self)
  }
}

func splitTarget(_ target: String) -> (String, String) {
  guard let mark = target.utf8.firstIndex(of: UInt8(ascii: "?")) else { return (target, "") }
  return (String(target[..<mark]), String(target[target.utf8.index(after: mark)...]))
}
