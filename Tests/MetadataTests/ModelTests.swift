import Base
import Testing

@testable import Metadata

/// The same store written plainly: a dictionary, and all changes ever.
struct MetadataModel {
  struct Value: Equatable {
    var value: [UInt8]
    var created: UInt64
    var modified: UInt64
    var version: UInt64
    var lease: UInt64
  }
  var values: [[UInt8]: Value] = [:]
  var revision: UInt64 = 1
  var leases: [UInt64: (seconds: Int, until: Instant)] = [:]
  var log: [(revision: UInt64, key: [UInt8], value: Value?)] = []

  mutating func transact(_ transaction: MetadataTransaction) -> (Bool, [MetadataResult]) {
    let holds = transaction.compares.allSatisfy { compare in
      let value = values[compare.key]
      func check<T: Comparable>(_ a: T, _ b: T) -> Bool {
        switch compare.relation {
        case .equal: a == b
        case .notEqual: a != b
        case .less: a < b
        case .greater: a > b
        }
      }
      switch compare.target {
      case .created(let n): return check(value?.created ?? 0, n)
      case .modified(let n): return check(value?.modified ?? 0, n)
      case .version(let n): return check(value?.version ?? 0, n)
      case .value(let bytes):
        return value.map { check(Text.hex($0.value), Text.hex(bytes)) } ?? false
      }
    }
    var results: [MetadataResult] = []
    var wrote = false
    for operation in holds ? transaction.success : transaction.failure {
      switch operation {
      case .get(let range, let limit): results.append(get(range, limit))
      case .put(let key, let value, let lease):
        wrote = true
        let old = values[key]
        let new = Value(
          value: value, created: old?.created ?? revision + 1, modified: revision + 1,
          version: (old?.version ?? 0) + 1, lease: lease)
        values[key] = new
        log.append((revision + 1, key, new))
        results.append(.put)
      case .delete(let range):
        let keys = values.keys.filter(range.contains)
        for key in keys {
          wrote = true
          values[key] = nil
          log.append((revision + 1, key, nil))
        }
        results.append(.deleted(keys.count))
      }
    }
    if wrote { revision += 1 }
    return (holds, results)
  }

  func get(_ range: MetadataRange, _ limit: Int) -> MetadataResult {
    let keys = values.keys.filter(range.contains).sorted { Text.hex($0) < Text.hex($1) }
    let some = limit > 0 ? Array(keys.prefix(limit)) : keys
    return .got(
      some.map { key in
        let v = values[key]!
        return MetadataEntry(
          key: key, value: v.value, created: v.created, modified: v.modified, version: v.version,
          lease: v.lease)
      }, more: some.count < keys.count)
  }

  mutating func end(_ lease: UInt64) {
    leases[lease] = nil
    let keys = values.filter { $0.value.lease == lease }.keys
    if keys.isEmpty { return }
    revision += 1
    for key in keys {
      values[key] = nil
      log.append((revision, key, nil))
    }
  }
}

@Suite("The metadata engine against a plain model", .timeLimit(.minutes(10)))
struct ModelTests {
  @Test("Random requests, crashes, failed writes and time: engine and model never differ")
  func random() {
    for seed in 0..<UInt64(1_000) {
      var run = ModelRun(seed: seed)
      run.run(steps: 250)
      #expect(run.troubles == [], "seed \(seed)")
    }
  }

  @Test("A fault planted in the comparison is found")
  func planted() {
    let found = (0..<UInt64(20)).contains { seed in
      var run = ModelRun(seed: seed)
      run.plant = true
      run.run(steps: 250)
      return !run.troubles.isEmpty
    }
    #expect(found)
  }
}

struct ModelRun {
  var bench = MetadataBench()
  var model = MetadataModel()
  var troubles: [String] = []
  /// The model forgets that a delete ends a key's version.
  var plant = false
  private var state: UInt64
  private var token: UInt64 = 0
  /// Requests not answered yet, in the order they were made.
  private var open: [(token: UInt64, request: MetadataRequest)] = []
  private var watches: [(token: UInt64, range: MetadataRange, from: UInt64, next: Int)] = []
  private var told: [UInt64: [(UInt64, [MetadataChange])]] = [:]

  init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 77 }

  private mutating func below(_ n: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(n))
  }
  private mutating func key() -> [UInt8] { [UInt8(ascii: "a") + UInt8(below(5))] }
  private mutating func range() -> MetadataRange {
    switch below(4) {
    case 0: .all
    case 1: MetadataRange(from: key(), to: key())
    case 2: .prefix(key())
    default: .key(key())
    }
  }

  mutating func run(steps: Int) {
    for _ in 0..<steps where troubles.isEmpty {
      step()
      takeAnswers()
      compare()
    }
    checkWatches()
  }

  private mutating func step() {
    switch below(20) {
    case 0...6: ask(.transact(transaction()))
    case 7: ask(.grant(lease: UInt64(below(5)), seconds: 1 + below(5)))
    case 8: ask(.revoke(lease: UInt64(1 + below(5))))
    case 9:
      let lease = UInt64(1 + below(5))
      let alive = model.leases[lease]
      ask(.keepAlive(lease: lease))
      guard case .kept(_, let seconds, _)? = bench.answers.last?.answer else { return }
      if seconds > 0, let alive {
        model.leases[lease]?.until = bench.now + .seconds(Int64(alive.seconds))
      }
      if seconds > 0, alive == nil { troubles.append("kept a lease that is not") }
    case 10: get()
    case 11: watch()
    case 12, 13:
      bench.now = bench.now + .milliseconds(Int64(below(1_500)))
      bench.step { $0.receiveTick(at: $1, into: &$2) }
    case 14 where below(3) == 0: crash()
    case 15 where below(3) == 0: bench.failed()
    default:
      endLeases()
      bench.written()
    }
  }

  private mutating func ask(_ request: MetadataRequest) {
    token += 1
    switch request {
    case .transact, .grant, .revoke: open.append((token, request))
    default: break
    }
    bench.request(request, token: token)
  }

  private mutating func transaction() -> MetadataTransaction {
    var compares: [MetadataCompare] = []
    for _ in 0..<below(3) {
      let relation = MetadataCompare.Relation.allCases[below(4)]
      let near = model.revision > 3 ? model.revision - UInt64(below(4)) : 0
      let target: MetadataCompare.Target =
        switch below(4) {
        case 0: .value([UInt8(below(3))])
        case 1: .created(near)
        case 2: .modified(near)
        default: .version(UInt64(below(3)))
        }
      compares.append(MetadataCompare(key(), relation, target))
    }
    return MetadataTransaction(compares: compares, success: list(), failure: list())
  }

  private mutating func list() -> [MetadataOperation] {
    (0..<below(4)).map { _ in
      switch below(5) {
      case 0: .get(range(), limit: below(3))
      case 1: .delete(range())
      default:
        .put(key: key(), value: [UInt8(below(3))], lease: below(3) == 0 ? UInt64(1 + below(5)) : 0)
      }
    }
  }

  private mutating func get() {
    let (range, limit) = (range(), below(4))
    ask(.get(range, limit: limit))
    guard case .got(let found, let more, let revision)? = bench.answers.last?.answer else { return }
    if model.get(range, limit) != .got(found, more: more) || revision != model.revision {
      troubles.append("get \(range): \(found)")
    }
  }

  private mutating func watch() {
    let range = range()
    let from = below(3) == 0 ? 0 : UInt64(max(1, Int(model.revision) + 2 - below(8)))
    ask(.watch(range, from: from))
    let refused = bench.answers.contains { answer in
      if answer.token == token, case .failed = answer.answer { true } else { false }
    }
    if refused != (from > 0 && from < bench.engine.firstKnown) {
      troubles.append("watch from \(from) of \(bench.engine.firstKnown)")
    }
    if refused { return }
    watches.append((token, range, from == 0 ? model.revision + 1 : from, 0))
  }

  /// Answers in the order they came: the model does what the engine says it did, and must get the same.
  private mutating func takeAnswers() {
    for (token, answer) in bench.answers {
      if case .changed(let changes, let revision) = answer {
        told[token, default: []].append((revision, changes))
      }
      guard let i = open.firstIndex(where: { $0.token == token }) else { continue }
      if i != 0, answer != .failed(.unavailable) { troubles.append("answered out of order") }
      let request = open.remove(at: i).request
      check(request, answer)
    }
    bench.answers = []
  }

  /// A lease ends when what ends it is written: because it was asked for, or because it is due.
  private mutating func endLeases() {
    for lease in bench.ending {
      let isAsked = open.first?.request == .revoke(lease: lease)
      guard let facts = model.leases[lease] else {
        troubles.append("a lease that is not there ends")
        continue
      }
      if !isAsked, facts.until > bench.now { troubles.append("lease \(lease) ends early") }
      model.end(lease)
    }
  }

  private mutating func check(_ request: MetadataRequest, _ answer: MetadataAnswer) {
    if answer == .failed(.unavailable) { return }
    switch (request, answer) {
    case (.transact(let transaction), .transacted(let succeeded, let results, let revision)):
      if plant, results.contains(.deleted(1)) { model.revision += 1 }
      let mine = model.transact(transaction)
      if mine != (succeeded, results) || revision != model.revision {
        troubles.append("\(transaction): \(answer), not \(mine) at \(model.revision)")
      }
    case (.transact(let transaction), .failed(.keyTwice)):
      let lists = [transaction.success, transaction.failure]
      if !lists.contains(where: { $0.count > 1 }) { troubles.append("no key is there twice") }
    case (.transact, .failed(.noLease)): break
    case (.grant(_, let seconds), .granted(let lease, _, _)):
      if model.leases[lease] != nil { troubles.append("lease \(lease) twice") }
      model.leases[lease] = (seconds, bench.now + .seconds(Int64(seconds)))
    case (.grant(let lease, _), .failed(.leaseExists)):
      if model.leases[lease] == nil { troubles.append("lease \(lease) is not there") }
    case (.revoke(let lease), .revoked):
      if model.leases[lease] != nil { troubles.append("lease \(lease) goes on") }
    case (.revoke(let lease), .failed(.noLease)):
      if model.leases[lease] != nil { troubles.append("lease \(lease) is there") }
    default: troubles.append("\(request): \(answer)")
    }
  }

  private mutating func compare() {
    let state = bench.engine.state
    let mine = model.get(.all, 0)
    if mine != .got(state.entries, more: false) || state.revision != model.revision {
      troubles.append(
        "at \(state.revision), model \(model.revision): \(state.entries), not \(mine)")
    }
    if Set(state.leases.keys) != Set(model.leases.keys) {
      troubles.append("leases \(state.leases), not \(model.leases)")
    }
  }

  private mutating func crash() {
    checkWatches()
    let landing = below(2) == 0
    let had = bench.pending != nil
    if !bench.crash(landing: landing) {
      troubles.append("does not start")
      return
    }
    open = []
    watches = []
    told = [:]
    let state = bench.engine.state
    if landing, had {
      if state.revision > model.revision + 1 { troubles.append("more than one write landed") }
      model.values = [:]
      for entry in state.entries {
        model.values[entry.key] = .init(
          value: entry.value, created: entry.created, modified: entry.modified,
          version: entry.version, lease: entry.lease)
      }
      model.revision = state.revision
      model.leases = [:]
    }
    for (lease, seconds) in state.leases {
      model.leases[lease] = (seconds, bench.now + .seconds(Int64(seconds)))
    }
  }

  /// Every watch was told exactly what the model did in its range since.
  private mutating func checkWatches() {
    for watch in watches {
      let wanted = model.log.filter { $0.revision >= watch.from && watch.range.contains($0.key) }
      let got = (told[watch.token] ?? []).flatMap { revision, changes in
        changes.map { (revision, $0) }
      }
      let same =
        wanted.count == got.count
        && Set(wanted.map { "\($0.revision) \($0.key) \($0.value?.value ?? [])" })
          == Set(
            got.map { revision, change in
              switch change {
              case .put(let entry): "\(revision) \(entry.key) \(entry.value)"
              case .deleted(let key, let at): "\(at) \(key) \([UInt8]())"
              }
            })
      let ordered = zip(got, got.dropFirst()).allSatisfy { $0.0 <= $1.0 }
      if !same || !ordered { troubles.append("watch \(watch): \(got), not \(wanted)") }
    }
  }
}
