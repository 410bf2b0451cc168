import Base
import Testing

@testable import Metadata

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

@Suite("The metadata store's semantics are etcd's", .timeLimit(.minutes(5)))
struct MetadataTests {
  @Test("Revisions, versions and times of making count as etcd counts them")
  func numbers() throws {
    var bench = MetadataBench()
    #expect(bench.engine.revision == 1)
    #expect(bench.put("a", "1") == .transacted(succeeded: true, [.put], revision: 2))
    #expect(bench.put("b", "1") == .transacted(succeeded: true, [.put], revision: 3))
    #expect(bench.put("a", "2") == .transacted(succeeded: true, [.put], revision: 4))
    let a = try #require(bench.engine.state[bytes("a")])
    #expect(a.created == 2 && a.modified == 4 && a.version == 2)
    let gone = bench.ask(
      .transact(MetadataTransaction(success: [.delete(.key(bytes("a")))])))
    #expect(gone == .transacted(succeeded: true, [.deleted(1)], revision: 5))
    // Deleting nothing writes nothing.
    let none = bench.ask(
      .transact(MetadataTransaction(success: [.delete(.key(bytes("a")))])))
    #expect(none == .transacted(succeeded: true, [.deleted(0)], revision: 5))
    _ = bench.put("a", "3")
    let again = try #require(bench.engine.state[bytes("a")])
    #expect(again.created == 6 && again.modified == 6 && again.version == 1)
  }

  @Test("Of two swaps on the same revision one wins, the other gets what is there")
  func swap() throws {
    var bench = MetadataBench()
    let key = bytes("ring/map")
    bench.request(.transact(.swap(key, modified: 0, value: [1])), token: 1)
    bench.request(.transact(.swap(key, modified: 0, value: [2])), token: 2)
    #expect(bench.answers.isEmpty, "nothing is answered before it is on disk")
    bench.written()
    #expect(bench.answers.count == 2)
    #expect(bench.answers[0].answer == .transacted(succeeded: true, [.put], revision: 2))
    guard case .transacted(false, let results, 2) = bench.answers[1].answer,
      case .got(let found, false)? = results.first
    else {
      Issue.record("\(bench.answers[1])")
      return
    }
    #expect(found.first?.value == [1] && found.first?.modified == 2)
    #expect(
      bench.ask(.transact(.swap(key, modified: 2, value: [3])))
        == .transacted(succeeded: true, [.put], revision: 3))
  }

  @Test("All of a transaction has one revision, and reads see the writes before them")
  func transaction() {
    var bench = MetadataBench()
    _ = bench.put("x", "old")
    let answer = bench.ask(
      .transact(
        MetadataTransaction(
          compares: [MetadataCompare(bytes("x"), .equal, .value(bytes("old")))],
          success: [
            .put(key: bytes("x"), value: bytes("new"), lease: 0),
            .put(key: bytes("y"), value: bytes("1"), lease: 0), .get(.all, limit: 0),
            .delete(.key(bytes("z"))),
          ])))
    guard case .transacted(true, let results, 3) = answer, case .got(let seen, _) = results[2]
    else {
      Issue.record("\(answer)")
      return
    }
    #expect(seen.map(\.value) == [bytes("new"), bytes("1")])
    #expect(seen.allSatisfy { $0.modified == 3 })
  }

  @Test(
    "Compares of keys that are there and that are not",
    arguments: [
      (MetadataCompare(bytes("k"), .equal, .value(bytes("v"))), true),
      (MetadataCompare(bytes("k"), .notEqual, .value(bytes("w"))), true),
      (MetadataCompare(bytes("k"), .less, .value(bytes("w"))), true),
      (MetadataCompare(bytes("k"), .greater, .value(bytes("w"))), false),
      (MetadataCompare(bytes("k"), .equal, .modified(3)), true),
      (MetadataCompare(bytes("k"), .equal, .created(2)), true),
      (MetadataCompare(bytes("k"), .greater, .version(1)), true),
      (MetadataCompare(bytes("k"), .less, .version(2)), false),
      (MetadataCompare(bytes("no"), .equal, .created(0)), true),
      (MetadataCompare(bytes("no"), .equal, .version(0)), true),
      (MetadataCompare(bytes("no"), .greater, .modified(0)), false),
      (MetadataCompare(bytes("no"), .notEqual, .value(bytes("v"))), false),
      (MetadataCompare(bytes("no"), .equal, .value([])), false),
    ])
  func compares(_ compare: MetadataCompare, _ holds: Bool) {
    var bench = MetadataBench()
    _ = bench.put("k", "u")
    _ = bench.put("k", "v")
    let answer = bench.ask(.transact(MetadataTransaction(compares: [compare], success: [])))
    #expect(answer == .transacted(succeeded: holds, [], revision: 3))
  }

  @Test("Ranges: one key, a prefix, everything; with a limit there is more")
  func ranges() {
    var bench = MetadataBench()
    for key in ["a", "n/1", "n/2", "n/3", "o"] { _ = bench.put(key, key) }
    func keys(_ range: MetadataRange, limit: Int = 0) -> ([String], Bool) {
      guard case .got(let found, let more, _) = bench.ask(.get(range, limit: limit)) else {
        return ([], false)
      }
      return (found.map { String(decoding: $0.key, as: UTF8.self) }, more)
    }
    #expect(keys(.key(bytes("a"))) == (["a"], false))
    #expect(keys(.prefix(bytes("n/"))) == (["n/1", "n/2", "n/3"], false))
    #expect(keys(.prefix(bytes("n/")), limit: 2) == (["n/1", "n/2"], true))
    #expect(keys(.all).0.count == 5)
    #expect(keys(MetadataRange(from: bytes("n/2"), to: bytes("o"))).0 == ["n/2", "n/3"])
    #expect(MetadataRange.prefix([0xff]).to == [])
    #expect(MetadataRange.prefix([1, 0xff]) == MetadataRange(from: [1, 0xff], to: [2]))
  }

  @Test("A lease's keys go when it ends: by time, by word, not while it is renewed")
  func leases() {
    var bench = MetadataBench()
    #expect(
      bench.ask(.grant(lease: 0, seconds: 10)) == .granted(lease: 1, seconds: 10, revision: 1))
    #expect(bench.ask(.grant(lease: 1, seconds: 10)) == .failed(.leaseExists))
    #expect(bench.put("m/1", "here", lease: 1) == .transacted(succeeded: true, [.put], revision: 2))
    #expect(bench.put("m/2", "here", lease: 7) == .failed(.noLease))
    bench.request(.watch(.all, from: 0), token: 5)
    bench.now = .zero + .seconds(9)
    #expect(bench.ask(.keepAlive(lease: 1)) == .kept(lease: 1, seconds: 10, revision: 2))
    #expect(bench.ask(.keepAlive(lease: 3)) == .kept(lease: 3, seconds: 0, revision: 2))
    bench.now = .zero + .seconds(18)
    bench.step { $0.receiveTick(at: $1, into: &$2) }
    #expect(bench.pending == nil && bench.wakes.last == .zero + .seconds(19))
    bench.now = .zero + .seconds(19)
    bench.step { $0.receiveTick(at: $1, into: &$2) }
    #expect(bench.text("m/1") == "here", "not before it is on disk")
    bench.written()
    #expect(bench.text("m/1") == nil && bench.engine.leaseCount == 0)
    let told = bench.answers.filter { $0.token == 5 }.map(\.answer)
    #expect(told == [.changed([.deleted(key: bytes("m/1"), revision: 3)], revision: 3)])
    _ = bench.ask(.grant(lease: 44, seconds: 10))
    _ = bench.put("a", "1", lease: 44)
    // A later put without the lease takes the key from it.
    _ = bench.put("a", "2")
    #expect(bench.ask(.revoke(lease: 44)) == .revoked(revision: 5))
    #expect(bench.text("a") == "2")
    #expect(bench.ask(.revoke(lease: 44)) == .failed(.noLease))
  }

  @Test("A watch tells every change from its revision on, once and in order, or that it cannot")
  func watches() {
    var bench = MetadataBench()
    for i in 1...5 { _ = bench.put("k", "\(i)") }
    bench.request(.watch(.key(bytes("k")), from: 3), token: 1)
    bench.request(.watch(.prefix(bytes("z")), from: 0), token: 2)
    _ = bench.put("k", "6")
    _ = bench.put("z1", "x")
    func revisions(_ token: UInt64) -> [UInt64] {
      bench.answers.compactMap {
        if $0.token == token, case .changed(_, let revision) = $0.answer { revision } else { nil }
      }
    }
    #expect(revisions(1) == [3, 4, 5, 6, 7] && revisions(2) == [8])
    #expect(bench.ask(.compact(5)) == .compacted(revision: 8))
    #expect(bench.ask(.watch(.all, from: 4)) == .failed(.forgotten(first: 5)))
    #expect(bench.ask(.compact(4)) == .failed(.forgotten(first: 5)))
    #expect(bench.ask(.compact(99)) == .failed(.futureRevision))
    bench.step { engine, _, _ in engine.receiveCancel(token: 1) }
    _ = bench.put("k", "7")
    #expect(revisions(1).count == 5)
    // A restart forgets changes, and no entry.
    let restarts = bench.crash(landing: false)
    #expect(restarts && bench.text("k") == "7" && bench.engine.revision == 9)
    #expect(bench.ask(.watch(.all, from: 9)) == .failed(.forgotten(first: 10)))
    bench.request(.watch(.all, from: 10), token: 9)
    _ = bench.put("k", "8")
    #expect(revisions(9) == [10])
  }

  @Test("What was not written was never there; what waits behind it fails, too")
  func failure() {
    var bench = MetadataBench()
    bench.request(.watch(.all, from: 0), token: 9)
    let puts: [MetadataRequest] = ["a", "b"].map {
      .transact(MetadataTransaction(success: [.put(key: bytes($0), value: [1], lease: 0)]))
    }
    bench.request(puts[0], token: 1)
    bench.request(puts[1], token: 2)
    // A read waits for no write, and sees none that is not on disk.
    bench.request(.get(.all, limit: 0), token: 3)
    bench.failed()
    #expect(bench.answers.map(\.token) == [3, 1, 2])
    #expect(bench.answers[0].answer == .got([], more: false, revision: 1))
    #expect(bench.answers[1...].allSatisfy { $0.answer == .failed(.unavailable) })
    #expect(bench.engine.keyCount == 0 && bench.engine.revision == 1)
    #expect(bench.put("a", "x") == .transacted(succeeded: true, [.put], revision: 2))
  }

  @Test("Bounds: keys, values, lists, doubled keys, the queue")
  func bounds() {
    var bench = MetadataBench()
    func put(_ key: [UInt8], _ count: Int) -> MetadataOperation {
      .put(key: key, value: [UInt8](repeating: 0, count: count), lease: 0)
    }
    func fails(_ list: [MetadataOperation]) -> Bool {
      if case .failed = bench.ask(.transact(MetadataTransaction(success: list))) {
        true
      } else {
        false
      }
    }
    #expect(fails([put([], 1)]))
    #expect(fails([put([UInt8](repeating: 1, count: 513), 1)]))
    #expect(fails([put([1], 1 << 20)]))
    #expect(fails([put([1], 1), put([1], 2)]))
    #expect(fails([put([1], 1), .delete(.all)]))
    #expect(fails((0..<129).map { put([UInt8($0)], 1) }))
    #expect(!fails((0..<128).map { put([UInt8($0)], 1) }))
    #expect(bench.ask(.grant(lease: 0, seconds: 0)) != .granted(lease: 1, seconds: 0, revision: 2))
    for i in 0..<1_026 {
      bench.request(.transact(MetadataTransaction(success: [put([1], 1)])), token: UInt64(i))
    }
    #expect(bench.answers.last?.answer == .failed(.unavailable))
  }

  @Test("Damaged rows are refused at start")
  func damage() {
    var bench = MetadataBench()
    _ = bench.ask(.grant(lease: 0, seconds: 5))
    _ = bench.put("a", "1", lease: 1)
    for (key, value) in bench.disk {
      for bit in 0..<value.count * 8 {
        var other = bench
        other.disk[key]![bit / 8] ^= 1 << UInt8(bit % 8)
        let starts = other.crash(landing: false)
        #expect(!starts)
      }
    }
    let starts = bench.crash(landing: false)
    #expect(starts && bench.text("a") == "1")
  }
}
