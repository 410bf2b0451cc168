import Base
import Store
import Testing

@Suite("Rows of a slot", .timeLimit(.minutes(2)))
struct SlotRowsTests {
  static func id(_ slot: UInt16, _ low: UInt64) -> [UInt8] {
    bigEndianBytes(UInt64(slot) << UInt64(64 - Limits.slotBits)) + bigEndianBytes(low)
  }

  /// `count` records of 100 bytes in each of these slots, with a row of kind `h` for each channel.
  static func fill(_ store: Store, _ slots: [UInt16], _ count: Int) throws {
    var set = WriteSet()
    for slot in slots {
      for i in 1...count {
        let channel = id(slot, UInt64(i % 3))
        let key = channel + bigEndianBytes(UInt64(i))
        set.put(.records, key: key, value: [UInt8](repeating: UInt8(i & 0xff), count: 100))
        set.put(.slots, key: bigEndianBytes(slot) + bigEndianBytes(UInt64(i)), value: key)
        set.put(.state, key: [UInt8(ascii: "h")] + channel, value: [1])
        set.put(.tokens, key: [UInt8(ascii: "k")] + channel, value: [2])
      }
    }
    try store.write(set, synced: false)
  }

  @Test(
    "Ranges hold a slot's keys and no neighbour's", arguments: [0, 1, 7, 4_094, 4_095] as [UInt16])
  func ranges(_ slot: UInt16) {
    let range = SlotRange(.state, prefix: [UInt8(ascii: "h")], slot: slot)
    func holds(_ key: [UInt8]) -> Bool {
      !key.lexicographicallyPrecedes(range.from) && key.lexicographicallyPrecedes(range.to)
    }
    #expect(holds([UInt8(ascii: "h")] + Self.id(slot, 0)))
    let last = UInt64(slot) << 52 | (1 << 52 - 1)
    #expect(holds([UInt8(ascii: "h")] + bigEndianBytes(last) + [UInt8](repeating: 0xff, count: 30)))
    if slot > 0 { #expect(!holds([UInt8(ascii: "h")] + Self.id(slot - 1, .max))) }
    if slot < 4_095 { #expect(!holds([UInt8(ascii: "h")] + Self.id(slot + 1, 0))) }
    #expect(!holds([UInt8(ascii: "i")] + Self.id(slot, 0)))
    #expect(!holds([UInt8(ascii: "g")] + Self.id(slot, 0)))
  }

  @Test("Pages of the log are bounded, in order, complete, and say where they end")
  func pages() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data)
    defer { try? store.close() }
    try Self.fill(store, [6, 7, 8], 50)
    #expect(try store.slotHead(7) == 50 && (try store.slotHead(9)) == 0)
    // Retention drops two entries, and the record of a third is gone.
    var set = WriteSet()
    for i in [3, 20] as [UInt64] {
      set.delete(.slots, key: bigEndianBytes(UInt16(7)) + bigEndianBytes(i))
    }
    set.delete(.records, key: Self.id(7, 11 % 3) + bigEndianBytes(UInt64(11)))
    try store.write(set, synced: false)
    var seen: [UInt64] = []
    var at: UInt64 = 1
    var pages = 0
    while at <= 45 {
      let page = try store.slotLog(7, from: at, through: 45, limitBytes: 700)
      #expect(page.rows.count <= 6 && page.through >= at)
      for row in page.rows {
        #expect(row.index >= at && row.index <= page.through)
        #expect(row.key == Self.id(7, row.index % 3) + bigEndianBytes(row.index))
        #expect(row.index == 11 ? row.record == nil : row.record?.first == UInt8(row.index))
      }
      seen += page.rows.map(\.index)
      at = page.through + 1
      pages += 1
    }
    #expect(at == 46 && pages > 7)
    #expect(seen == (1...45).filter { $0 != 3 && $0 != 20 })
    let beyond = try store.slotLog(9, from: 1, through: 10, limitBytes: 100)
    #expect(beyond.rows.isEmpty && beyond.through == 10)
    let tiny = try store.slotLog(7, from: 1, through: 45, limitBytes: 1)
    #expect(tiny.rows.map(\.index) == [1] && tiny.through == 1)
  }

  @Test("Rows of a range come in pages; deleted, only they are gone")
  func deletion() throws {
    let scratch = try Scratch()
    let store = try Store(path: scratch.data)
    defer { try? store.close() }
    try Self.fill(store, [6, 7, 8], 9)
    let ranges = [
      SlotRange(.records, slot: 7), SlotRange(logOf: 7),
      SlotRange(.state, prefix: [UInt8(ascii: "h")], slot: 7),
      SlotRange(.tokens, prefix: [UInt8(ascii: "k")], slot: 7),
    ]
    for (range, count) in zip(ranges, [9, 9, 3, 3]) {
      var rows: [Row] = []
      while true {
        let page = try store.rows(in: range, after: rows.last?.key, limitBytes: 40)
        if page.isEmpty { break }
        rows += page
      }
      #expect(rows.count == count && Set(rows.map(\.key)).count == count)
    }
    var set = WriteSet()
    store.delete(ranges, into: &set)
    try store.write(set, synced: true)
    for range in ranges { #expect(try store.rows(in: range, limitBytes: .max).isEmpty) }
    #expect(try store.slotHead(7) == 0)
    for slot in [6, 8] as [UInt16] {
      #expect(try store.slotLog(slot, from: 1, through: 9, limitBytes: .max).rows.count == 9)
      #expect(
        try store.rows(
          in: SlotRange(.tokens, prefix: [UInt8(ascii: "k")], slot: slot), limitBytes: .max
        )
        .count == 3)
    }
  }
}
