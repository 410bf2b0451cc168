internal import Base
internal import CSys
internal import Loop
internal import Report
import Testing

@Suite("The event loop", .timeLimit(.minutes(1))) struct LoopTests {
  @Test("posts run in order on the loop's thread") func posts() throws {
    let loop = try EventLoop.start(index: 3)
    defer { loop.stop() }
    let seen = Handoff<Int>()
    for i in 0..<1_000 {
      loop.post { seen.put(loop.isCurrent ? i : -1) }
    }
    for i in 0..<1_000 {
      guard case .element(let got) = seen.take(timeout: .seconds(5)) else {
        Issue.record("post \(i) did not run")
        return
      }
      #expect(got == i)
    }
    #expect(!loop.isCurrent)
  }

  @Test("timers fire in order of their time, cancelled ones never") func timers() throws {
    let loop = try EventLoop.start(index: 0)
    defer { loop.stop() }
    let fired = Handoff<Int>()
    loop.post {
      var ids: [TimerID] = []
      for i in (0..<50).reversed() {
        ids.append(loop.schedule(after: .milliseconds(Int64(i))) { fired.put(i) })
      }
      // Reversed: ids[k] is timer 49 - k. Every odd one goes, twice over.
      for (k, id) in ids.enumerated() where (49 - k) % 2 == 1 {
        loop.cancel(id)
        loop.cancel(id)
      }
      loop.schedule(after: .milliseconds(60)) { fired.end() }
    }
    var got: [Int] = []
    while case .element(let i) = fired.take(timeout: .seconds(5)) { got.append(i) }
    #expect(got == Array(stride(from: 0, to: 50, by: 2)))
  }

  @Test("the end of a turn comes after its posts and before the flush") func turn() throws {
    final class Source: EventSource, @unchecked Sendable {
      let log: Lock<[String]>
      init(loop: EventLoop, log: Lock<[String]>) {
        self.log = log
        super.init(loop: loop)
      }
      override func flush() { log.withLock { $0.append("flush") } }
    }
    let loop = try EventLoop.start(index: 0)
    defer { loop.stop() }
    let log = Lock<[String]>([])
    loop.post {
      let source = Source(loop: loop, log: log)
      var marked = false
      loop.onTurnEnd = {
        log.withLock { $0.append("end") }
        if !marked {
          marked = true
          source.markDirty()
          source.markDirty()
        }
      }
      log.withLock { $0.append("post") }
    }
    #expect(poll { log.withLock { $0.count } >= 4 })
    #expect(log.withLock { Array($0.prefix(4)) } == ["post", "end", "flush", "end"])
  }

  @Test("an end that comes together with the last bytes is noticed") func endWithBytes() throws {
    final class Reader: ConnectionDriver, @unchecked Sendable {
      let log: Handoff<String>
      init(_ log: Handoff<String>) { self.log = log }
      override func receiveOpened() { log.put("open") }
      override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
        log.put("\(bytes.count) bytes")
      }
      override func receiveClosed(_ reason: String) { log.put("closed") }
    }
    let loop = try EventLoop.start(index: 0)
    defer { loop.stop() }
    let log = Handoff<String>()
    func next() -> String? {
      guard case .element(let line) = log.take(timeout: .seconds(5)) else { return nil }
      return line
    }
    let listener = try Listener(.tcp(host: "127.0.0.1", port: 0), loops: [loop]) { _, _ in
      (Reader(log), nil)
    }
    var kind: Int32 = 0
    let peer = sys_connect_tcp("127.0.0.1", UInt16(listener.port), 0, &kind)
    #expect(next() == "open")
    // While the loop stands still both arrive: one edge tells of both.
    let go = Handoff<Void>()
    loop.post {
      log.put("still")
      _ = go.take(timeout: .seconds(5))
    }
    #expect(next() == "still")
    #expect(sys_send(peer, "abc", 3) == 3)
    sys_close(peer)
    go.put(())
    #expect(next() == "3 bytes")
    #expect(next() == "closed")
  }

  @Test("a stopped loop ends its thread and drops posts") func stop() throws {
    let loop = try EventLoop.start(index: 0)
    loop.stop()
    loop.join()
    loop.post { Issue.record("ran after the end") }
  }

  @Test(
    "endpoints are read",
    arguments: [
      ("127.0.0.1:5000", "127.0.0.1:5000"), ("[::1]:0", "[::1]:0"), ("unix:/a/b", "unix:/a/b"),
      ("localhost:65535", "localhost:65535"), ("host", nil), (":1", nil), ("a:65536", nil),
      ("unix:", nil), ("a:", nil),
    ] as [(String, String?)])
  func endpoints(text: String, wanted: String?) {
    #expect(Endpoint(text)?.description == wanted)
  }
}
