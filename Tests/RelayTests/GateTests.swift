import Base
import Crypto
import Report
import Testing

@testable import Relay

@Suite("What opens a stream", .timeLimit(.minutes(1)))
struct GateTests {
  @Test(
    "A bearer credential is the one word after `Bearer `",
    arguments: [
      ("Bearer abc", "abc"), ("bearer abc", "abc"), ("BEARER a.b.c", "a.b.c"), ("Bearer ", nil),
      ("Basic abc", nil), ("Bearer a b", nil), ("Bearer", nil), ("", nil),
    ] as [(String, String?)])
  func bearerText(_ header: String, _ wanted: String?) {
    #expect(bearer(header) == wanted)
  }

  @Test("An endless authorization header is not looked at")
  func longHeader() {
    #expect(bearer("Bearer " + String(repeating: "x", count: 9000)) == nil)
  }

  @Test(
    "A key may open its burst at once, then its rate, and a clock that stands still gives nothing")
  func budget() {
    var budget = StreamBudget(perSecond: 2, burst: 5)
    let key = RecordID(1)
    var now = Instant(nanoseconds: 1_000_000_000)
    for _ in 0..<5 {
      let granted = budget.take(key, at: now)
      #expect(granted)
    }
    let sixth = budget.take(key, at: now)
    #expect(!sixth)
    let other = budget.take(RecordID(2), at: now)
    #expect(other, "another key has a budget of its own")
    now = now + .milliseconds(500)
    let earned = [budget.take(key, at: now), budget.take(key, at: now)]
    #expect(earned == [true, false])
    now = now + .seconds(3600)
    for _ in 0..<5 {
      let granted = budget.take(key, at: now)
      #expect(granted)
    }
    let beyond = budget.take(key, at: now)
    #expect(!beyond, "a rest saves up no more than the burst")
  }
}

@Suite("Admin credentials", .timeLimit(.minutes(1)))
struct AdminCredentialTests {
  private let keys = SigningKeys(current: .make(now: .zero))
  private let now = Instant(nanoseconds: 1_000 * 1_000_000_000)

  @Test("A credential opens until it expires")
  func expiry() {
    let text = AdminCredential.make(expires: 1_010, keys)
    #expect(text.hasPrefix("pha_"))
    #expect(AdminCredential.verify(text, keys, at: now))
    #expect(!AdminCredential.verify(text, keys, at: now + .seconds(10)))
  }

  @Test("Every changed character closes it")
  func forged() {
    let text = AdminCredential.make(expires: 2_000, keys)
    let letters = Array(text)
    for i in letters.indices {
      var other = letters
      other[i] = other[i] == "a" ? "b" : "a"
      if other == letters { continue }
      #expect(!AdminCredential.verify(String(other), keys, at: now), "changed at \(i)")
    }
    #expect(!AdminCredential.verify("", keys, at: now))
    #expect(!AdminCredential.verify(text + "a", keys, at: now))
  }

  @Test("The previous signing key still opens, a strange one does not")
  func rotation() {
    let old = SigningKey.make(now: .zero)
    let text = AdminCredential.make(expires: 2_000, SigningKeys(current: old))
    let rotated = SigningKeys(current: .make(now: .zero), previous: old)
    #expect(AdminCredential.verify(text, rotated, at: now))
    #expect(!AdminCredential.verify(text, keys, at: now))
  }
}

@Suite("What the log says of refused callers", .timeLimit(.minutes(1)))
struct CallerRefusalTests {
  @Test("A few lines in a period, then how many were passed over")
  func bounded() {
    let lines = Guarded<[String]>([])
    let log = Log(
      minimum: .info, format: .json,
      writer: LogWriter { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        lines.change { $0 += text.split(separator: "\n").map(String.init) }
      })
    let refusals = CallerRefusals(log)
    var now = Instant(nanoseconds: 1_000_000_000_000)
    func refuse() {
      refusals.note(
        "name", from: "10.0.0.7:1", org: "acme", name: "globex/a/b", "no right", at: now)
    }
    for _ in 0..<50 { refuse() }
    log.flush()
    #expect(lines.value.count == NodeLimits.refusalLines)
    #expect(
      lines.value.allSatisfy { $0.contains("\"refused: name\"") && $0.contains("\"org\":\"acme\"") }
    )
    now = now + NodeLimits.refusalPeriod
    refuse()
    refuse()
    log.flush()
    #expect(lines.value.count == NodeLimits.refusalLines + 2)
    #expect(lines.value.suffix(2).first?.contains("\"not_logged\":30") == true)
    #expect(lines.value.last?.contains("\"not_logged\":0") == true)
  }
}

@Suite("What a typed prefix finds of SLIM", .timeLimit(.minutes(1)))
struct SlimPrefixTests {
  @Test("Every part of a typed name is a whole component, with a family or without")
  func parts() throws {
    let (_, name) = try #require(SlimChannel.parse("slim-b:acme/rooms/x"))
    let whole = SlimChannel.text(.slimB, name).dropLast()
    #expect(SlimChannel.prefixes("acme/rooms/x").contains(String(whole)))
    #expect(SlimChannel.prefixes("slim-b:acme/rooms/x") == [String(whole)])
    for part in ["acme", "acme/", "acme/rooms", "slim-b:acme/rooms/"] {
      #expect(SlimChannel.prefixes(part).contains { whole.hasPrefix($0) }, "\(part)")
    }
    for other in ["acm", "acme/room", "acme/rooms/xy", "slim-a:acme"] {
      #expect(!SlimChannel.prefixes(other).contains { whole.hasPrefix($0) }, "\(other)")
    }
    for none in ["", "/", "slim-a:", "a/b/c/d"] { #expect(SlimChannel.prefixes(none).isEmpty) }
  }
}
