import Base
import Digest
import FoundationEssentials
import Testing

@testable import Ring

private let folder = {
  var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
  parts.removeLast()
  return parts.joined(separator: "/") + "/transcripts/"
}()

@Suite("Transcripts of the ring", .timeLimit(.minutes(10)))
struct TranscriptTests {
  /// Lines that begin with `>` are commands; what follows is what the ring answers. With
  /// POSTHOUSE_TEST_UPDATE=1 the answers are written anew.
  @Test(
    "A transcript reads as it was written",
    arguments: ["grow", "shrink", "zones", "conflict", "moves", "revert"])
  func transcript(_ name: String) throws {
    let url = URL(filePath: folder + name + ".txt")
    let text = try String(contentsOf: url, encoding: .utf8)
    var session = RingSession()
    var out = ""
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("#") { out += line + "\n" }
      guard line.hasPrefix("> ") else { continue }
      out += line + "\n" + session.run(String(line.dropFirst(2)))
    }
    if ProcessInfo.processInfo.environment["POSTHOUSE_TEST_UPDATE"] != nil {
      try out.write(to: url, atomically: true, encoding: .utf8)
    }
    #expect(out == text)
    #expect(try RingMap(session.ledger.current.encoded) == session.ledger.current)
  }
}

/// Runs the commands of a transcript.
struct RingSession {
  var ledger = RingLedger()

  mutating func run(_ command: String) -> String {
    let words = command.split(separator: " ").map(String.init)
    var options: [String: String] = [:]
    for word in words.dropFirst() {
      let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
      options[parts[0]] = parts.count == 2 ? parts[1] : ""
    }
    let lines: [String]
    do {
      lines = try run(words, options)
    } catch { lines = ["refused: \(error)"] }
    return lines.map { "  \($0)\n" }.joined()
  }

  private mutating func run(_ words: [String], _ options: [String: String]) throws -> [String] {
    let number = words.count > 1 ? UInt64(words[1]) ?? 0 : 0
    switch words[0] {
    case "ring":
      ledger = RingLedger(
        current: RingMap(
          slotBits: Int(options["bits"] ?? "12") ?? 12, replicas: Int(options["copies"] ?? "3") ?? 3
        ))
      return []
    case "node": return try node(words[1], options)
    case "forget":
      try ledger.stage(ledger.wanted.filter { $0.name != words[1] })
      return []
    case "plan": return show(try ledger.plan())
    case "apply":
      let plan = try ledger.apply(version: number, allowingLoss: options["loss"] != nil)
      return ["version \(ledger.current.version), \(plan.moves.count) slots are on their way"]
    case "diff":
      let plan = try ledger.plan()
      guard let next = plan.applied(to: ledger.current) else { return ["of another map"] }
      return show(next.changes(since: ledger.current), next)
    case "discard":
      ledger.discard()
      return []
    case "revert":
      try ledger.stageRevert(to: number)
      return []
    case "finish": return try finish(Int(number))
    case "show": return show()
    case "history":
      return (ledger.history + [ledger.current]).map {
        "version \($0.version): "
          + $0.nodes.map { "\($0.name) \($0.weight) \($0.state)" }.joined(separator: ", ")
      }
    default: return ["what is \(words[0])?"]
    }
  }

  private mutating func node(_ name: String, _ options: [String: String]) throws -> [String] {
    var node =
      ledger.wanted.first { $0.name == name }
      ?? RingNode(id: NodeID(xxh64(utf8: name)), name: name)
    if let weight = options["weight"].flatMap({ Int($0) }) { node.weight = weight }
    if let zone = options["zone"] { node.zone = zone }
    if let region = options["region"] { node.region = region }
    switch options["state"] {
    case "draining": node.state = .draining
    case "gone": node.state = .gone
    case "serving": node.state = .serving
    default: break
    }
    try ledger.stage(node)
    return []
  }

  private mutating func finish(_ most: Int) throws -> [String] {
    var done = 0
    for slot in ledger.current.movingSlots.prefix(most == 0 ? .max : most) {
      guard let attempt = ledger.current.move(of: slot)?.attempt else { continue }
      try ledger.receive(ledger.current.finishing(slot, attempt: attempt))
      done += 1
    }
    return ["\(done) handed over, \(ledger.current.movingSlots.count) on their way"]
  }

  private func name(_ id: NodeID) -> String {
    ledger.wanted.first { $0.id == id }?.name ?? ledger.current.node(id)?.name ?? "-"
  }

  private func show(_ plan: RingPlan) -> [String] {
    var lines = [
      "from version \(plan.base.version): \(plan.moves.count) slots move, \(plan.continued) go on, "
        + "\(plan.cancelled) stay after all, \(plan.founded) are new, \(plan.abandoned.count) lost; "
        + "\(plan.newCopies) new copies"
    ]
    let weights = plan.nodes.filter(\.takesSlots).reduce(0) { $0 + $1.weight }
    for node in plan.nodes {
      let share = node.takesSlots ? plan.base.slotCount * node.weight * 10 / weights : 0
      let (then, now) = (plan.load(of: node.id), plan.base.load(of: node.id))
      lines.append(
        "\(node.name) \(node.zone) \(node.weight) \(node.state): owns \(now.owned) -> \(then.owned) of "
          + "\(share / 10).\(share % 10), copies \(now.copies) -> \(then.copies)")
    }
    var pairs: [String: [String]] = [:]
    for move in plan.moves {
      pairs["\(name(move.from)) -> \(name(move.to))", default: []].append("\(move.slot)")
    }
    for pair in pairs.keys.sorted() {
      lines.append("\(pair): \(pairs[pair]!.joined(separator: " "))")
    }
    return lines + plan.notes.map { "note: \($0)" }
  }

  private func show(_ change: RingChange, _ next: RingMap) -> [String] {
    var lines = change.nodesAdded.map { "+ node \($0.name)" }
    lines += change.nodesRemoved.map { "- node \($0.name)" }
    lines += change.nodesChanged.map {
      "~ node \($0.after.name) \($0.after.weight) \($0.after.state)"
    }
    return lines
      + change.slots.prefix(6).map { "slot \($0.slot): \(text($0.before)) => \(text($0.after))" }
      + (change.slots.count > 6 ? ["and \(change.slots.count - 6) more"] : [])
  }

  private func text(_ slot: RingSlot) -> String {
    let all = [slot.owner] + slot.placement.followers
    let target = slot.move.map { move in
      " to " + ([move.target.owner] + move.target.followers).map(name).joined(separator: ",")
    }
    return all.map(name).joined(separator: ",") + " e\(slot.epoch)" + (target ?? "")
  }

  private func show() -> [String] {
    let map = ledger.current
    return [
      "version \(map.version), revision \(map.revision), \(map.movingSlots.count) on their way"
    ]
      + map.nodes.map { node in
        let load = map.load(of: node.id)
        return
          "\(node.name) \(node.zone) \(node.weight) \(node.state): owns \(load.owned), holds \(load.copies)"
      }
  }
}
