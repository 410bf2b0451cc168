import Base
import Glibc
import Report
import Store
import Testing

@Suite(.timeLimit(.minutes(2))) struct StoreTests {
  @Test("What was written is there after close and open, what was deleted is not")
  func reopen() throws {
    let scratch = try Scratch()
    do {
      let store = try Store(path: scratch.data, options: small())
      for n in 0..<500 { try store.write(set(n), synced: n % 100 == 0) }
      var set = WriteSet()
      set.delete(.state, key: key(7))
      set.deleteRange(.state, from: key(100), to: key(200))
      set.put(.tokens, key: [], value: [])
      try store.write(set, synced: false)
      try store.close()
    }
    let store = try Store(path: scratch.data, options: small())
    #expect(store.openingNotes.isEmpty)
    for n in 0..<500 {
      let there = try store.get(.state, key: key(n))
      #expect(there == (n == 7 || (100..<200).contains(n) ? nil : value(n)))
    }
    #expect(try store.get(.tokens, key: []) == [])
    #expect(try store.get(.records, key: key(1)) == nil)
    #expect(try store.rows(.state).count == 399)
    try store.close()
  }

  @Test("Many submitters: each one's answers come in order and everything answered is stored")
  func submitters() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small())
    let each = 2_000
    let answers = Lock([[Int]](repeating: [], count: 4))
    let sequences = Lock<[UInt64]>([])
    let threads = (0..<4).map { who in
      WorkerThread(named: "submit-\(who)") {
        for n in 0..<each {
          store.submit(set(who * each + n), synced: n % 500 == 0) { result in
            guard case .success(let sequence) = result else { return }
            answers.withLock { $0[who].append(n) }
            sequences.withLock { $0.append(sequence) }
          }
        }
      }
    }
    for thread in threads { thread.join() }
    try store.write(set(999_999), synced: true)
    for who in 0..<4 { #expect(answers.withLock { $0[who] } == Array(0..<each)) }
    #expect(sequences.withLock { zip($0, $0.dropFirst()).allSatisfy { $0 <= $1 } })
    let figures = store.figures()
    #expect(figures.sets == UInt64(4 * each + 1))
    #expect(figures.batches <= figures.sets)
    #expect(figures.syncedSequence == figures.writtenSequence)
    for n in 0..<4 * each { #expect(try store.get(.state, key: key(n)) == value(n)) }
    try store.close()
    let late = Lock<CommitResult?>(nil)
    store.submit(set(1), synced: false) { result in late.withLock { $0 = result } }
    guard case .failure(let fault)? = late.withLock({ $0 }) else {
      Issue.record("a closed store took a write")
      return
    }
    #expect(fault.code == .draining)
  }

  @Test("Later sets win over earlier ones of the same batch")
  func grouping() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small())
    for n in 0..<5_000 {
      var set = WriteSet()
      set.put(.state, key: [1], value: key(n))
      if n % 2 == 1 {
        set.delete(.state, key: [2])
      } else {
        set.put(.state, key: [2], value: key(n))
      }
      store.submit(set, synced: false) { _ in }
    }
    try store.write(set(0), synced: false)
    #expect(try store.get(.state, key: [1]) == key(4_999))
    #expect(try store.get(.state, key: [2]) == nil)
    #expect(store.figures().batches < 5_000)
    try store.close()
  }

  @Test("Scans keep to their bounds, limits and direction")
  func scans() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small())
    for n in 0..<300 { try store.write(set(n), synced: false) }
    try store.flush()
    for n in 300..<600 { try store.write(set(n), synced: false) }
    func keys(_ rows: [Row]) -> [Int] {
      rows.map { Int(bigEndianBytes: $0.key) }
    }
    #expect(try keys(store.rows(.state)) == Array(0..<600))
    #expect(try keys(store.rows(.state, from: key(10), to: key(20))) == Array(10..<20))
    #expect(try keys(store.rows(.state, from: key(590))) == Array(590..<600))
    #expect(try keys(store.rows(.state, from: key(5), to: key(5))) == [])
    #expect(
      try keys(store.rows(.state, from: key(295), to: key(305), reverse: true))
        == Array((295..<305).reversed()))
    #expect(try keys(store.rows(.state, from: key(0), limitBytes: 1)) == [0])
    #expect(try keys(store.rows(.state, from: key(0), limitBytes: 216)) == [0, 1])
    #expect(try keys(store.rows(.state, prefix: Array(key(256)[..<7]))) == Array(256..<512))
    var seen = 0
    try store.scan(.state, bulk: true) { _, _ in
      seen += 1
      return seen < 5
    }
    #expect(seen == 5)
    #expect(try store.lastRow(.state, atOrBefore: key(1_000), prefix: 0)?.key == key(599))
    #expect(try store.lastRow(.state, atOrBefore: key(42), prefix: 4)?.key == key(42))
    #expect(try store.lastRow(.state, atOrBefore: key(1 << 40), prefix: 3) == nil)
    try store.close()
  }

  @Test("Records are found by the sequence they hold, and one channel never shows another's")
  func records() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small())
    let channels = (1...3).map { ChannelID(high: 7, low: UInt64($0)) }
    for channel in channels {
      for first in stride(from: 1, through: 991, by: 10) {
        var set = WriteSet()
        set.put(
          .records, key: channel.bytes + bigEndianBytes(UInt64(first)),
          value: value(first + Int(channel.low)))
        try store.write(set, synced: false)
      }
      if channel.low == 2 { try store.flush() }
    }
    let all = try store.records(of: channels[1], from: 1, limitBytes: .max)
    #expect(all.count == 100)
    #expect(all.allSatisfy { $0.key.starts(with: channels[1].bytes) })
    let some = try store.records(of: channels[1], from: 57, limitBytes: 300)
    #expect(
      some.map { $0.key } == [51, 61, 71].map { channels[1].bytes + bigEndianBytes(UInt64($0)) })
    #expect(try store.records(of: channels[1], from: 57, limitBytes: 1).count == 1)
    #expect(
      try store.records(of: channels[1], from: 51, limitBytes: 300).map { $0.key }
        == some.map { $0.key })
    #expect(try store.records(of: channels[1], from: 5_000, limitBytes: 1 << 20).count == 1)
    #expect(try store.records(of: ChannelID(high: 7, low: 9), from: 1, limitBytes: 99).isEmpty)
    #expect(Store.after(prefix: [1, 0xff]) == [2])
    #expect(Store.after(prefix: [0xff, 0xff]) == nil)
    try store.close()
  }

  @Test("A second opener is refused by name, and may open after the first has closed")
  func twoOpeners() throws {
    let scratch = try Scratch()
    do {
      let first = try Store(path: scratch.data, options: small())
      let path = scratch.data
      let fault = #expect(throws: Fault.self) { try Store(path: path, options: small()) }
      #expect(fault?.code == .conflict)
      #expect(fault?.detail.contains(scratch.data) == true)
      #expect(fault?.detail.contains("pid \(getpid())") == true)
      try first.close()
    }
    let second = try Store(path: scratch.data, options: small())
    try second.close()
  }

  @Test("A newer format is refused with both versions, and nothing is changed")
  func newerFormat() throws {
    let scratch = try Scratch()
    do {
      let store = try Store(path: scratch.data, options: small())
      #expect(try store.get(.meta, key: Store.formatKey) == bigEndianBytes(Store.format))
      var set = WriteSet()
      set.put(.meta, key: Store.formatKey, value: bigEndianBytes(UInt32(9)))
      try store.write(set, synced: true)
      try store.close()
    }
    let before = entries(scratch.data + "/db")
    let path = scratch.data
    let fault = #expect(throws: Fault.self) { try Store(path: path, options: small()) }
    #expect(fault?.code == .unimplemented)
    #expect(
      fault?.detail.contains("made by a newer Posthouse: format 9, this program knows 1") == true)
    #expect(entries(scratch.data + "/db") == before)
  }

  @Test("A missing database is not made up when it should exist")
  func missing() throws {
    let scratch = try Scratch()
    let path = scratch.data
    let options = small { $0.createIfMissing = false }
    let none = #expect(throws: Fault.self) { try Store(path: path, options: options) }
    #expect(none?.code == .notFound)
    do {
      let store = try Store(path: scratch.data, options: small())
      try store.write(set(1), synced: true)
      try store.close()
    }
    removeTree(scratch.data + "/db")
    let lost = #expect(throws: Fault.self) { try Store(path: path, options: small()) }
    #expect(lost?.code == .damaged)
  }

  @Test("A checkpoint taken while writing opens, holds all that was answered before it, and keys")
  func checkpoint() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small())
    try writeFile(scratch.data + "/signing-keys.json", Array("secret".utf8))
    for n in 0..<2_000 { store.submit(set(n), synced: false) { _ in } }
    try store.write(set(2_000), synced: false)
    let running = Lock(true)
    let writer = WorkerThread(named: "writer") {
      var n = 2_001
      while running.withLock({ $0 }) {
        store.submit(set(n), synced: false) { _ in }
        n += 1
        if n % 64 == 0 { usleep(500) }
      }
    }
    let target = scratch.path + "/copy"
    try store.checkpoint(to: target)
    let again = #expect(throws: Fault.self) { try store.checkpoint(to: target) }
    #expect(again?.code == .conflict)
    running.withLock { $0 = false }
    writer.join()
    let copy = try Store(path: target, options: small())
    #expect(copy.openingNotes.isEmpty)
    let rows = try copy.rows(.state)
    #expect(rows.count >= 2_001)
    for (n, row) in rows.enumerated() { #expect(row == Row(key: key(n), value: value(n))) }
    #expect(try readFile(target + "/signing-keys.json") == Array("secret".utf8))
    try copy.close()
    try store.close()
  }

  @Test("Work given to readers and upkeep runs, and figures add up")
  func upkeep() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small())
    for n in 0..<3_000 { store.submit(set(n, bytes: 1_000), synced: false) { _ in } }
    try store.write(set(3_000), synced: true)
    let read = Lock(0)
    for n in 0..<100 {
      store.read { store in
        if (try? store.get(.state, key: key(n))) == value(n, bytes: 1_000) {
          read.withLock { $0 += 1 }
        }
      }
    }
    var set = WriteSet()
    set.deleteRange(.state, from: key(0), to: key(2_990))
    try store.flush()
    let before = store.approximateSize(.state, from: key(0), to: key(9_000))
    #expect(before > 2_000_000)
    #expect(eventually { read.withLock { $0 } == 100 })
    try store.write(set, synced: false)
    let done = Lock(false)
    store.upkeep { store in
      store.compact(.state, from: key(0), to: key(2_990))
      done.withLock { $0 = true }
    }
    #expect(eventually { done.withLock { $0 } })
    #expect(store.approximateSize(.state, from: key(0), to: key(9_000)) < before / 4)
    #expect(store.diskUsed() > 0 && store.diskFree() > 0)
    let figures = store.figures()
    #expect(figures.sets == 3_002 && figures.bytes > 3_000_000 && figures.trouble == nil)
    #expect(try store.rows(.state).count == 11)
    try store.close()
  }

  @Test(
    "The rows of a slot are deleted one by one when they are few, and as a range when they are many or cannot be read"
  )
  func slotDeletion() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small())
    func row(_ slot: UInt16, _ index: UInt64) -> [UInt8] {
      bigEndianBytes(slot) + bigEndianBytes(index)
    }
    func fill(_ slot: UInt16, _ count: Int) throws {
      var set = WriteSet()
      for n in 0..<count { set.put(.slots, key: row(slot, UInt64(n + 1)), value: [1, 2, 3]) }
      try store.write(set, synced: false)
    }
    func operations(_ slot: UInt16) throws -> [UInt8] {
      var set = WriteSet()
      let isWhole = store.delete([SlotRange(logOf: slot)], into: &set)
      var found: [UInt8] = []
      set.forEach { op, _, _, _ in found.append(op) }
      #expect(isWhole == found.contains(3))
      if !set.isEmpty { try store.write(set, synced: false) }
      #expect(try store.slotHead(slot) == 0)
      return found
    }
    try fill(1, 3)
    try fill(2, Limits.deleteRows)
    try fill(3, Limits.deleteRows + 1)
    try fill(4, 1)
    #expect(try operations(0) == [])
    #expect(try operations(1) == [2, 2, 2])
    #expect(try operations(2) == Array(repeating: 2, count: Limits.deleteRows))
    #expect(try operations(3) == [3])
    #expect(try store.slotHead(4) == 1)
    var wide = WriteSet()
    wide.put(.slots, key: row(5, 1), value: [UInt8](repeating: 0, count: Limits.deleteBytes))
    try store.write(wide, synced: false)
    #expect(try operations(5) == [3])
    try store.close()
  }

  @Test("What was only written is synced in the background")
  func backgroundSync() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data, options: small { $0.syncEveryMilliseconds = 20 })
    try store.write(set(1), synced: false)
    let written = store.figures().writtenSequence
    #expect(eventually { store.figures().syncedSequence == written })
    try store.close()
  }
}
