import Base

@testable import Metadata

/// An engine, its disk, and what it said.
struct MetadataBench {
  var engine: MetadataEngine
  var disk: [[UInt8]: [UInt8]] = [:]
  var now = Instant.zero
  var pending: WriteSet?
  var answers: [(token: UInt64, answer: MetadataAnswer)] = []
  var wakes: [Instant] = []

  init() {
    var effects: [MetadataEffect] = []
    engine = MetadataEngine(rows: [], at: .zero, into: &effects)!
  }

  mutating func step(_ body: (inout MetadataEngine, Instant, inout [MetadataEffect]) -> Void) {
    var effects: [MetadataEffect] = []
    body(&engine, now, &effects)
    for effect in effects {
      switch effect {
      case .answer(let token, let answer): answers.append((token, answer))
      case .write(let set):
        precondition(pending == nil, "two writes at a time")
        pending = set
      case .wake(let at): wakes.append(at)
      }
    }
  }

  mutating func request(_ request: MetadataRequest, token: UInt64) {
    step { $0.receive(request, token: token, at: $1, into: &$2) }
  }

  /// The leases that what is being written ends.
  var ending: [UInt64] {
    var leases: [UInt64] = []
    pending?.forEach { op, _, key, _ in
      if op == 2, key[1] == MetadataRow.lease {
        leases.append(MetadataRow.word(Array(key), 2))
      }
    }
    return leases
  }

  mutating func written() {
    guard let set = pending else { return }
    pending = nil
    land(set)
    step { $0.receiveWritten(at: $1, into: &$2) }
  }

  mutating func failed() {
    guard pending != nil else { return }
    pending = nil
    step { $0.receiveWriteFailed(at: $1, into: &$2) }
  }

  mutating func land(_ set: WriteSet) {
    var rows = disk
    set.forEach { op, _, key, value in
      rows[Array(key)] = op == 1 ? Array(value) : nil
    }
    disk = rows
  }

  /// A crash, after which what was being written is on disk or not.
  mutating func crash(landing: Bool) -> Bool {
    if landing, let pending { land(pending) }
    pending = nil
    answers = []
    var effects: [MetadataEffect] = []
    let rows = disk.map { Row(key: $0.key, value: $0.value) }
    guard let next = MetadataEngine(rows: rows, at: now, into: &effects) else { return false }
    engine = next
    return true
  }

  /// One request to its answer.
  mutating func ask(_ request: MetadataRequest) -> MetadataAnswer {
    let token = UInt64(answers.count + 1_000)
    self.request(request, token: token)
    while pending != nil { written() }
    return answers.last { $0.token == token }?.answer ?? .failed(.unavailable)
  }

  mutating func put(_ key: String, _ value: String, lease: UInt64 = 0) -> MetadataAnswer {
    ask(
      .transact(
        MetadataTransaction(
          success: [.put(key: Array(key.utf8), value: Array(value.utf8), lease: lease)])))
  }

  func text(_ key: String) -> String? {
    engine.state[Array(key.utf8)].map { String(decoding: $0.value, as: UTF8.self) }
  }
}
