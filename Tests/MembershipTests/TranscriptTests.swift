import Base
import FoundationEssentials
import Testing

@testable import Membership

private let folder = {
  var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
  parts.removeLast()
  return parts.joined(separator: "/") + "/transcripts/"
}()

@Suite("Transcripts of membership", .timeLimit(.minutes(5)))
struct MemberTranscripts {
  /// Lines that begin with `>` are what happens; what follows is what the engine does. With
  /// POSTHOUSE_TEST_UPDATE=1 the answers are written anew.
  @Test(
    "A transcript reads as it was written", arguments: ["probe", "suspicion", "life", "errand"])
  func transcript(_ name: String) throws {
    let url = URL(filePath: folder + name + ".txt")
    let text = try String(contentsOf: url, encoding: .utf8)
    var session = MemberSession()
    var out = ""
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("#") { out += line + "\n" }
      guard line.hasPrefix("> ") else { continue }
      out += line + "\n" + session.run(line.dropFirst(2).split(separator: " ").map(String.init))
    }
    if ProcessInfo.processInfo.environment["POSTHOUSE_TEST_UPDATE"] != nil {
      try out.write(to: url, atomically: true, encoding: .utf8)
    }
    #expect(out == text)
  }
}

/// One engine; `n1` has id 1 and address `n1`.
struct MemberSession {
  private var engine: MembershipEngine?
  private var now: Int64 = 0
  private var wakeAt: Int64 = .max
  private var lines: [String] = []

  mutating func run(_ words: [String]) -> String {
    lines = []
    switch words[0] {
    case "start":
      let seeds = words.dropFirst(2).map { $0 }
      var effects: [MembershipEffect] = []
      engine = MembershipEngine(
        me: member(words[1]), profile: .lan, seeds: seeds, random: 1, at: time, into: &effects)
      show(effects)
    case "run":
      let end = now + (Int64(words[1]) ?? 0)
      while wakeAt <= end {
        now = max(now, wakeAt)
        wakeAt = .max
        act { $0.receiveTick(at: $1, into: &$2) }
      }
      now = end
    case "from": act { $0.receive(MemberSession.packet(words), at: $1, into: &$2) }
    case "leave": act { $0.leave(at: $1, into: &$2) }
    case "forget":
      let id = member(words[1]).id
      act { _ = $0.forget(id, at: $1, into: &$2) }
    case "show":
      for member in engine?.members ?? [] { lines.append(text(member)) }
      lines.append("health \(engine?.localHealth ?? 0)")
      for member in engine?.members ?? [] {
        guard let trip = engine?.roundTrip(to: member.id), let least = trip.least else { continue }
        lines.append("\(name(member.id)) is \(least.nanoseconds / 1_000_000) ms away")
      }
    default: lines.append("what is \(words[0])?")
    }
    return lines.map { "  \($0)\n" }.joined()
  }

  private var time: Instant { Instant(nanoseconds: now * 1_000_000) }

  private mutating func act(
    _ body: (inout MembershipEngine, Instant, inout [MembershipEffect]) -> Void
  ) {
    guard var engine else { return }
    var effects: [MembershipEffect] = []
    body(&engine, time, &effects)
    self.engine = engine
    show(effects)
  }

  /// `from n2[.incarnation] ping 3 n1 | suspect n4.1 by n3 | ...`
  private static func packet(_ words: [String]) -> MemberPacket {
    var parts: [[String]] = [[]]
    for word in words.dropFirst() {
      if word == "|" { parts.append([]) } else { parts[parts.count - 1].append(word) }
    }
    let head = parts[0]
    let number = head.count > 2 ? UInt32(head[2]) ?? 0 : 0
    let message: MemberMessage =
      switch head[1] {
      case "ping": .ping(sequence: number, target: id(head[3]))
      case "ack": .ack(sequence: number)
      case "nack": .nack(sequence: number)
      case "ping-request":
        .pingRequest(sequence: number, target: id(head[3]), address: head[3])
      case "sync": .sync(answer: true)
      default: .gossip
      }
    let updates = parts.dropFirst().map { words in
      var member = one(words[1])
      member.state = MemberState.allCases.first { "\($0)" == words[0] } ?? .alive
      return MemberUpdate(member, by: words.count > 3 ? id(words[3]) : member.id)
    }
    return MemberPacket(sender: one(head[0]), message: message, updates: updates)
  }

  private static func id(_ name: String) -> NodeID { NodeID(UInt64(name.dropFirst()) ?? 0) }
  private static func one(_ text: String) -> Member {
    let parts = text.split(separator: ".").map(String.init)
    return Member(
      id: id(parts[0]), address: parts[0], incarnation: parts.count > 1 ? UInt64(parts[1]) ?? 1 : 1)
  }
  private func member(_ text: String) -> Member { MemberSession.one(text) }
  private func name(_ id: NodeID) -> String { "n\(id.value)" }
  private func text(_ member: Member) -> String {
    "\(member.state) \(name(member.id)).\(member.incarnation)"
  }

  private mutating func show(_ effects: [MembershipEffect]) {
    for effect in effects {
      switch effect {
      case .send(let to, let packet):
        let what: String =
          switch packet.message {
          case .ping(let n, let target): "ping \(n) \(name(target))"
          case .ack(let n): "ack \(n)"
          case .nack(let n): "nack \(n)"
          case .pingRequest(let n, let target, _): "ping-request \(n) \(name(target))"
          case .gossip: "gossip"
          case .sync(let answer): answer ? "sync, answer" : "sync"
          }
        let updates = packet.updates.map { " | \(text($0.member)) by \(name($0.by))" }.joined()
        lines.append("\(now): to \(to): \(what)\(updates)")
      case .changed(let member): lines.append("\(now): \(text(member))")
      case .refuted(let incarnation): lines.append("\(now): incarnation is \(incarnation)")
      case .twin(let member): lines.append("\(now): twin \(text(member))")
      case .left: lines.append("\(now): left")
      case .forgotten: lines.append("\(now): forgotten")
      case .wake(let at): wakeAt = (at.nanoseconds + 999_999) / 1_000_000
      }
    }
  }
}
