import Base
import Digest
import Foundation
import Report
import Testing

/// Collects what a writer writes.
private final class Sink: Sendable {
  private let bytes = Lock<[UInt8]>([])
  func take(_ part: UnsafeRawBufferPointer) { bytes.withLock { $0 += part } }
  var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }
}

private func logger(_ format: LogFormat, _ minimum: LogLevel = .debug) -> (Log, Sink) {
  let sink = Sink()
  return (Log(minimum: minimum, format: format, writer: LogWriter { sink.take($0) }), sink)
}

private func sha256Bytes(_ bytes: [UInt8]) -> [UInt8] { sha256(bytes) }

@Suite(.timeLimit(.minutes(1))) struct ReportTests {
  @Test("A JSON line holds level, message and fields in their types")
  func json() throws {
    let (log, sink) = logger(.json)
    log.with(["room": "relay"]).info(
      "stream \"opened\"\n",
      ["n": 3, "ok": true, "ratio": 0.5, "bad": .double(.nan), "peer": "a\u{1b}[2Jb"])
    #expect(log.flush())
    let line = try #require(sink.text.split(separator: "\n").first)
    #expect(sink.text.hasSuffix("\n") && !sink.text.contains("\u{1b}"))
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    #expect(object["level"] as? String == "info")
    #expect(object["message"] as? String == "stream \"opened\"\n")
    #expect(object["room"] as? String == "relay")
    #expect(object["n"] as? Int == 3)
    #expect(object["ok"] as? Bool == true)
    #expect(object["ratio"] as? Double == 0.5)
    #expect(object["bad"] is NSNull)
    #expect(object["peer"] as? String == "a\u{1b}[2Jb")
    #expect((object["time"] as? String)?.utf8.count == 24)
  }

  @Test("A line below the level costs nothing and writes nothing")
  func levels() {
    let (log, sink) = logger(.json, .warn)
    func fail() -> String {
      Issue.record("formatted although the level is off")
      return ""
    }
    log.debug(fail())
    log.info("x", ["field": .string(fail())])
    log.warn("seen")
    #expect(log.flush())
    #expect(sink.text.contains("seen") && sink.text.split(separator: "\n").count == 1)
  }

  @Test("A secret is not printed by a log, a string or a mirror")
  func redaction() {
    let marker = "sk_live_planted"
    let secret = Secret(marker)
    var shown = "\(secret) \(String(reflecting: secret)) \([secret]) \(["k": secret])"
    dump(secret, to: &shown)
    for format in [LogFormat.json, .text(color: true)] {
      let (log, sink) = logger(format)
      log.with(["standing": .secret(secret)]).error("it was \(secret)", ["key": .secret(secret)])
      #expect(log.flush())
      #expect(sink.text.contains("[secret]"))
      shown += sink.text
    }
    #expect(!shown.contains("planted"))
    #expect(secret.reveal() == marker)
  }

  @Test("Text for people: control characters of a peer never reach the terminal")
  func text() {
    let (log, sink) = logger(.text(color: false))
    log.warn("peer said \u{1b}[31m\u{9b}", ["name": "a b", "plain": "x", "n": -1])
    #expect(log.flush())
    #expect(
      sink.text.hasSuffix(" warn  peer said ?[31m? name=\"a b\" plain=x n=-1\n"), "\(sink.text)")
  }

  @Test("A writer that hangs costs lines, not time, and says how many")
  func dropped() throws {
    let gate = Lock(true)
    let sink = Sink()
    let writer = LogWriter { bytes in
      while gate.withLock({ $0 }) { usleep(1_000) }
      sink.take(bytes)
    }
    let log = Log(minimum: .info, format: .json, writer: writer)
    let long = String(repeating: "x", count: 100_000)
    let count = 2 * LogWriter.queueBytes / long.utf8.count
    for _ in 0..<count { log.info(long) }
    #expect(log.droppedLines > 0)
    let dropped = log.droppedLines
    gate.withLock { $0 = false }
    #expect(log.flush())
    writer.stop()
    #expect(sink.text.contains("\"lines\":\(dropped)"))
    let whole = sink.text.split(separator: "\n").filter { $0.contains("xxx") }.count
    #expect(whole + dropped == count)
  }

  @Test("Metrics have the Prometheus text form, summed over the banks")
  func exposition() {
    let metrics = Metrics()
    let published = metrics.counter("a_total", "Help with \\ and\nline.", ["family": "sky\"tale"])
    let other = metrics.counter("a_total", "Help with \\ and\nline.", ["family": "slim"])
    let sessions = metrics.gauge("b", "Sessions.")
    metrics.gauge("c", "Asked.") { 1.5 }
    let latency = metrics.histogram(
      "d_seconds", "Latency.", bounds: [1_000_000, 2_500_000], scale: 1e-9)
    let first = metrics.bank()
    let second = metrics.bank()
    first.add(published)
    second.add(published, 4)
    first.add(sessions, 3)
    second.add(sessions, -1)
    for value in [1_000_000, 1_000_001, 2_500_000, 9_000_000] as [Int64] {
      first.observe(latency, value)
    }
    second.observe(latency, 0)
    #expect(metrics.counter("a_total", "", ["family": "slim"]) == other)
    #expect(metrics.value(published) == 5)
    #expect(
      metrics.render() == """
        # HELP a_total Help with \\\\ and\\nline.
        # TYPE a_total counter
        a_total{family="sky\\"tale"} 5
        a_total{family="slim"} 0
        # HELP b Sessions.
        # TYPE b gauge
        b 2
        # HELP c Asked.
        # TYPE c gauge
        c 1.5
        # HELP d_seconds Latency.
        # TYPE d_seconds histogram
        d_seconds_bucket{le="0.001"} 2
        d_seconds_bucket{le="0.0025"} 4
        d_seconds_bucket{le="+Inf"} 5
        d_seconds_sum 0.013500001
        d_seconds_count 5

        """)
  }

  @Test("The process reports itself")
  func process() throws {
    let metrics = Metrics()
    ProcessFacts.register(in: metrics)
    #expect(ProcessFacts.residentBytes() > 1 << 20)
    #expect(ProcessFacts.openDescriptors() >= 3)
    #expect(ProcessFacts.cpuSeconds() > 0)
    for name in ["process_start_time_seconds", "process_cpu_seconds_total", "process_max_fds"] {
      #expect(metrics.render().contains("\n\(name) "), "\(name)")
    }
  }

  @Test(
    "Time stamps are RFC 3339 in UTC",
    arguments: [
      (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
      (1_763_697_745_123_456_789, "2025-11-21T04:02:25.123Z"), (-1, "1969-12-31T23:59:59.999Z"),
      (4_102_444_799_999_000_000, "2099-12-31T23:59:59.999Z"),
    ] as [(Int64, String)])
  func stamps(_ nanoseconds: Int64, _ text: String) {
    #expect(Timestamp.text(Instant(nanoseconds: nanoseconds)) == text)
  }
}

@Suite(.timeLimit(.minutes(1))) struct AuditTests {
  private func withFile(_ body: (String) throws -> Void) throws {
    let path = "/tmp/posthouse-audit-\(UInt64.random(in: 0 ... .max))"
    defer { unlink(path) }
    try body(path)
  }

  private func write(_ path: String, _ count: Int, from: Int = 0) throws {
    let audit = try AuditLog(path: path, hash: sha256Bytes)
    let written = Lock(0)
    for i in from..<(from + count) {
      let entry = AuditEntry(
        actor: "socket uid=0", action: "tenant.create", subject: "t\(i) \"x\"\n", outcome: "done")
      let isQueued = audit.record(entry) { ok in if ok { written.withLock { $0 += 1 } } }
      #expect(isQueued)
    }
    audit.stop()
    #expect(written.withLock { $0 } == count)
    #expect(audit.failures == 0)
    #expect(!audit.record(AuditEntry(actor: "", action: "", subject: "", outcome: "")))
  }

  private func bytes(_ path: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  @Test("Entries are JSON lines in a private file, chained over reopening")
  func chain() throws {
    try withFile { path in
      try write(path, 3)
      try write(path, 2, from: 3)
      let file = try bytes(path)
      let lines = file.split(separator: 0x0a)
      #expect(lines.count == 5)
      for (at, line) in lines.enumerated() {
        let object = try #require(
          try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any])
        #expect(object["sequence"] as? Int == at + 1)
        #expect(object["subject"] as? String == "t\(at) \"x\"\n")
        #expect(object["action"] as? String == "tenant.create")
      }
      var facts = stat()
      #expect(stat(path, &facts) == 0 && facts.st_mode & 0o777 == 0o600)
      #expect(AuditLog.verify(file, hash: sha256Bytes).isEmpty)
    }
  }

  @Test("An altered, removed, swapped or added line shows")
  func tampering() throws {
    try withFile { path in
      try write(path, 4)
      let lines = try bytes(path).split(separator: 0x0a).map { Array($0) }
      func verify(_ lines: [[UInt8]]) -> [String] {
        AuditLog.verify(Array(lines.joined(separator: [0x0a])) + [0x0a], hash: sha256Bytes)
      }
      #expect(verify(lines).isEmpty)
      var altered = lines
      let at = try #require(altered[1].firstIndex(of: UInt8(ascii: "t")))
      altered[1][at] ^= 1
      #expect(!verify(altered).isEmpty)
      #expect(!verify([lines[0], lines[2], lines[3]]).isEmpty)
      #expect(!verify([lines[0], lines[2], lines[1], lines[3]]).isEmpty)
      #expect(!verify(Array(lines.dropFirst())).isEmpty)
      #expect(verify(lines + [Array("rubbish".utf8)]) == ["line 5: not an audit entry"])
    }
  }

  @Test("A torn last line is kept, ended and named; the chain goes on")
  func torn() throws {
    try withFile { path in
      try write(path, 2)
      let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
      try handle.seekToEnd()
      try handle.write(contentsOf: Data("{\"sequence\":3,\"ti".utf8))
      try handle.close()
      try write(path, 1, from: 2)
      let file = try bytes(path)
      #expect(AuditLog.verify(file, hash: sha256Bytes).isEmpty)
      #expect(String(decoding: file, as: UTF8.self).contains("\"action\":\"audit.repair\""))
    }
  }
}
