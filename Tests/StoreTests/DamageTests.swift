import Base
import Glibc
import Report
import Store
import Testing

/// What damage and crashes may and may not do. A copy of a store's directory at rest is what kill -9
/// leaves: everything the kernel had, nothing the process still wanted to say.
@Suite(.timeLimit(.minutes(5))) struct DamageTests {
  static let rows = 400

  /// A store with rows in tables and in the log, copied without closing. Row n of `state`, n in `rows`.
  static func image(_ scratch: borrowing Scratch, flushAt: Int = 150) throws -> String {
    let path = scratch.path + "/image"
    let store = try Store(path: scratch.data, options: small { $0.syncEveryMilliseconds = 0 })
    for n in 0..<rows {
      if n == flushAt { try store.flush() }
      try store.write(set(n, bytes: 300), synced: n == 200)
    }
    try copyLiveTree(scratch.data, path)
    return path
  }

  static func logFile(_ path: String) throws -> String {
    let logs = entries(path + "/db").filter { $0.hasSuffix(".log") }
    let sized = try logs.map { ($0, try readFile(path + "/db/" + $0).count) }
    return path + "/db/" + (try #require(sized.max { $0.1 < $1.1 }?.0))
  }

  @Test("After kill -9 everything that was answered is there")
  func killed() throws {
    let scratch = try Scratch()
    let image = try DamageTests.image(scratch)
    let store = try Store(path: image, options: small())
    for n in 0..<DamageTests.rows {
      #expect(try store.get(.state, key: key(n)) == value(n, bytes: 300))
    }
    try store.close()
  }

  @Test(
    "A log cut short is refused, twice, until the operator accepts the loss",
    arguments: [1, 9, 200, 9_000])
  func truncated(cut: Int) throws {
    let scratch = try Scratch()
    let image = try DamageTests.image(scratch)
    let log = try DamageTests.logFile(image)
    let bytes = try readFile(log)
    try writeFile(log, Array(bytes.dropLast(cut)))
    for _ in 0..<2 {
      let fault = #expect(throws: Fault.self) { try Store(path: image, options: small()) }
      #expect(fault?.code == .damaged)
      #expect(fault?.detail.contains("damage, not a torn tail") == true)
      #expect(fault?.detail.contains("--accept-torn-tail") == true)
      // Refusing changes nothing.
      #expect(try readFile(log).count == bytes.count - cut)
    }
    do {
      let store = try Store(path: image, options: small { $0.acceptTornTail = true })
      #expect(store.openingNotes.count == 1)
      let rows = try store.rows(.state)
      #expect(rows.count < DamageTests.rows && rows.count >= 150)
      for (n, row) in rows.enumerated() {
        #expect(row == Row(key: key(n), value: value(n, bytes: 300)))
      }
      try store.close()
    }
    let store = try Store(path: image, options: small())
    #expect(store.openingNotes.isEmpty)
    try store.close()
  }

  @Test(
    "After a power cut only what was synced counts: a shorter log opens, one before the sync does not"
  )
  func powerCut() throws {
    let scratch = try Scratch()
    let image = try DamageTests.image(scratch)
    // The row with the sync is the last one that must survive: make its mark, and another machine's.
    let store = try Store(path: scratch.path + "/other", options: small())
    try store.write(set(0), synced: true)
    try store.close()
    for file in ["/HEADMARK", "/SYNCMARK"] {
      try foreignBoot(image + file, sequence: file == "/SYNCMARK" ? 202 : nil)
    }
    let log = try DamageTests.logFile(image)
    let bytes = try readFile(log)
    let short = scratch.path + "/short"
    try copyTree(image, short)
    try writeFile(log, Array(bytes.dropLast(9_000)))
    do {
      let store = try Store(path: image, options: small())
      let rows = try store.rows(.state)
      #expect(rows.count > 201 && rows.count < DamageTests.rows)
      try store.close()
    }
    try writeFile(short + "/db/" + log.split(separator: "/").last!, Array(bytes.prefix(3_000)))
    let fault = #expect(throws: Fault.self) { try Store(path: short, options: small()) }
    #expect(fault?.code == .damaged && fault?.detail.contains("was synced") == true)
  }

  /// Rewrites a mark as if another run of the kernel had made it.
  private func foreignBoot(_ path: String, sequence: UInt64?) throws {
    var bytes = try readFile(path)
    for at in [0, 4096] {
      for i in 16..<32 { bytes[at + i] ^= 0x55 }
      if let sequence { bytes.replaceSubrange(at + 8..<at + 16, with: bigEndianBytes(sequence)) }
      let sum = crc(Array(bytes[at..<at + 48]))
      bytes.replaceSubrange(at + 48..<at + 52, with: bigEndianBytes(sum))
    }
    try writeFile(path, bytes)
  }

  /// CRC-32C, bit by bit: not the one under test.
  private func crc(_ bytes: [UInt8]) -> UInt32 {
    var crc = ~UInt32(0)
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
    }
    return ~crc
  }

  @Test("One bad copy of a mark is nothing, two are refused, a lost mark is refused")
  func marks() throws {
    let scratch = try Scratch()
    let image = try DamageTests.image(scratch)
    for file in ["/HEADMARK", "/SYNCMARK"] {
      let good = try readFile(image + file)
      for at in [[10], [4096 + 10]] {
        var bytes = good
        for i in at { bytes[i] ^= 1 }
        try writeFile(image + file, bytes)
        let copy = scratch.path + "/copy"
        try copyTree(image, copy)
        let store = try Store(path: copy, options: small())
        #expect(try store.rows(.state).count == DamageTests.rows)
        try store.close()
        removeTree(copy)
      }
      var bytes = good
      bytes[10] ^= 1
      bytes[4096 + 10] ^= 1
      try writeFile(image + file, bytes)
      let bad = #expect(throws: Fault.self) { try Store(path: image, options: small()) }
      #expect(bad?.code == .damaged && bad?.detail.contains("is damaged") == true)
      unlink(image + file)
      let lost = #expect(throws: Fault.self) { try Store(path: image, options: small()) }
      #expect(lost?.code == .damaged && lost?.detail.contains("is missing") == true)
      try writeFile(image + file, good)
    }
  }

  @Test("A manifest whose last record lies about its length is refused, not dropped")
  func manifest() throws {
    let scratch = try Scratch()
    let image = try DamageTests.image(scratch)
    let name = try #require(entries(image + "/db").filter { $0.hasPrefix("MANIFEST-") }.last)
    var bytes = try readFile(image + "/db/" + name)
    // Walk to the last record; the manifest is far below one block of 32 KiB.
    var at = 0
    var last = 0
    while at + 7 <= bytes.count {
      last = at
      at += 7 + Int(bytes[at + 4]) + Int(bytes[at + 5]) << 8
    }
    #expect(at == bytes.count && bytes.count < 32 << 10)
    bytes[last + 5] ^= 0x40
    try writeFile(image + "/db/" + name, bytes)
    let fault = #expect(throws: Fault.self) { try Store(path: image, options: small()) }
    #expect(fault?.code == .damaged && fault?.detail.contains(name) == true)
  }

  @Test("The one bit of a table that would end RocksDB by an assertion is refused by name")
  func tableProperties() throws {
    let scratch = try Scratch()
    let image = try DamageTests.image(scratch)
    let tables = entries(image + "/db").filter { $0.hasSuffix(".sst") }
    #expect(!tables.isEmpty)
    for name in tables {
      let path = image + "/db/" + name
      let good = try readFile(path)
      // The list of blocks follows the properties block and its 5 bytes of trailer. Its place is in the
      // footer: 53 bytes, after the first a number with 7 bits to a byte.
      var list = 0
      for (n, byte) in good.suffix(52).enumerated() {
        list |= Int(byte & 0x7f) << (7 * n)
        if byte & 0x80 == 0 { break }
      }
      var bytes = good
      bytes[list - 6] ^= 0x80
      try writeFile(path, bytes)
      for accept in [false, true] {
        let fault = #expect(throws: Fault.self) {
          try Store(path: image, options: small { $0.acceptTornTail = accept })
        }
        #expect(fault?.code == .damaged && fault.flatMap { Store.damagedFile($0) } == name)
      }
      try writeFile(path, good)
    }
    let store = try Store(path: image, options: small())
    #expect(try store.rows(.state).count == DamageTests.rows)
    try store.close()
  }

  @Test("A damaged block is its channel's trouble alone, and the fault names the file")
  func neighbours() throws {
    let scratch = try Scratch()
    let channels = (1...3).map { ChannelID(high: 7, low: UInt64($0)) }
    func record(_ channel: Int, _ first: Int) -> [UInt8] {
      value(channel * 1_000 + first, bytes: 20_000)
    }
    do {
      let store = try Store(path: scratch.data, options: small())
      for first in [1, 11, 21] {
        for (index, channel) in channels.enumerated() {
          var set = WriteSet()
          let key = channel.bytes + bigEndianBytes(UInt64(first))
          set.put(.records, key: key, value: record(index, first))
          try store.write(set, synced: false)
        }
      }
      try store.close()
    }
    // The block of the middle channel's first record: found by its bytes.
    var hit = ""
    for name in files(scratch.data) where name.hasSuffix(".sst") {
      var bytes = try readFile(scratch.data + name)
      let needle = record(1, 1)
      guard let at = bytes.indices.first(where: { bytes[$0...].starts(with: needle) }) else {
        continue
      }
      bytes[at + 500] ^= 4
      try writeFile(scratch.data + name, bytes)
      hit = String(try #require(name.split(separator: "/").last))
    }
    #expect(!hit.isEmpty)
    let store = try Store(path: scratch.data, options: small())
    for index in [0, 2] {
      for from in [1, 5, 11, 21, 99] as [UInt64] {
        let rows = try store.records(of: channels[index], from: from, limitBytes: 1 << 20)
        #expect(rows.last?.value == record(index, 21))
      }
    }
    let fault = #expect(throws: Fault.self) {
      try store.records(of: channels[1], from: 1, limitBytes: 1 << 20)
    }
    #expect(fault?.code == .damaged)
    #expect(fault.flatMap { Store.damagedFile($0) } == hit)
    #expect(try store.records(of: channels[1], from: 11, limitBytes: 1 << 20).count == 2)
    try store.close()
  }

  @Test(
    "Flipped bits anywhere: every row right, or an error, or no opening; never wrong, never fewer")
  func flips() throws {
    let scratch = try Scratch()
    let image = try DamageTests.image(scratch)
    var seed: UInt64 = 0x9e37_79b9_7f4a_7c15
    func random(_ n: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % UInt64(n))
    }
    var refused = 0
    var errors = 0
    var right = 0
    let names = files(image).filter { name in
      // Text that RocksDB keeps for people, and locks.
      !name.hasSuffix("LOCK") && !name.contains("/LOG")
    }
    let flips = Int(ProcessInfoLite.environment("POSTHOUSE_STORE_FLIPS") ?? "") ?? 150
    for flip in 0..<flips {
      let name = names[flip % names.count]
      let copy = scratch.path + "/flip"
      removeTree(copy)
      try copyTree(image, copy)
      var bytes = try readFile(copy + name)
      if bytes.isEmpty { continue }
      let at = random(bytes.count)
      bytes[at] ^= 1 << UInt8(random(8))
      try writeFile(copy + name, bytes)
      let what = "bit at byte \(at) of \(bytes.count) in \(name)"
      guard let store = try? Store(path: copy, options: small()) else {
        refused += 1
        continue
      }
      var failed = false
      for n in 0..<DamageTests.rows {
        do throws(Fault) {
          let found = try store.get(.state, key: key(n))
          #expect(found == value(n, bytes: 300), "\(what): row \(n)")
        } catch {
          #expect(error.code == .damaged && error.detail.contains(".sst"), "\(what): \(error)")
          failed = true
        }
      }
      do throws(Fault) {
        #expect(try store.rows(.state).count == DamageTests.rows, "\(what): scan")
      } catch {
        failed = true
      }
      if failed { errors += 1 } else { right += 1 }
      try? store.close()
    }
    // Each kind of outcome is seen, or the test does not test.
    #expect(
      refused > 0 && errors > 0 && right > 0, "refused \(refused) errors \(errors) right \(right)")
  }
}

enum ProcessInfoLite {
  static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
