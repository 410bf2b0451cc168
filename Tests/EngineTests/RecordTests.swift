import Base
import Digest
import Engine
import TestKit
import Testing

@Suite("Records and rows", .timeLimit(.minutes(2)))
struct RecordTests {
  let ref = EngineRig.channel("acme/ns/records")

  /// A channel with `turns` records of 1, 2, 3 ... messages.
  func filled(_ turns: Int) -> EngineRig {
    let rig = EngineRig()
    rig.publish(1, ref, "first", producer: 9, producerSequence: 1)
    for turn in 2...max(2, turns) {
      rig.turn { engine, now in
        for i in 0..<turn {
          engine.receivePublish(
            EngineRig.session(1), kind: .service, principal: EngineRig.principal("acme"),
            channel: ref,
            Publication(
              frame: EngineRig.frame("m\(turn).\(i)"), hasSuffix: true, type: 1, token: 1), at: now)
        }
      }
    }
    return rig
  }

  @Test("What was published is what a record gives back")
  func roundTrip() throws {
    let rig = filled(3)
    let rows = rig.disk.rows(.records, prefix: ref.id.bytes)
    #expect(rows.count == 3)
    var texts: [String] = []
    for row in rows {
      let header = try RecordReader.read(row, channel: ref.id) { sequence, m in
        texts.append("\(sequence) \(EngineRig.text(m.frame))")
        #expect(m.hasSuffix && m.tenant == ref.tenant)
      }
      #expect(header.ownership == 1)
    }
    #expect(texts == ["1 first", "2 m2.0", "3 m2.1", "4 m3.0", "5 m3.1", "6 m3.2"])
    #expect(rig.verify(ref) == [])
  }

  @Test("Every flipped bit of a record is found")
  func bitFlips() throws {
    let row = try #require(filled(2).disk.rows(.records, prefix: ref.id.bytes).last)
    for bit in 0..<row.value.count * 8 {
      var bad = row
      bad.value[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(throws: RecordError.self) { try RecordReader.read(bad, channel: ref.id) { _, _ in } }
    }
  }

  @Test("Every shortened record is refused, and one under another channel or key")
  func misplaced() throws {
    let row = try #require(filled(2).disk.rows(.records, prefix: ref.id.bytes).last)
    for length in 0..<row.value.count {
      let bad = Row(key: row.key, value: Array(row.value.prefix(length)))
      #expect(throws: RecordError.self) { try RecordReader.read(bad, channel: ref.id) { _, _ in } }
    }
    let other = EngineRig.channel("acme/ns/other").id
    #expect(throws: RecordError.misplaced) {
      try RecordReader.read(row, channel: other) { _, _ in }
    }
    let moved = Row(key: RecordKey.key(other, 2), value: row.value)
    #expect(throws: RecordError.checksum) {
      try RecordReader.read(moved, channel: other) { _, _ in }
    }
    let shifted = Row(key: RecordKey.key(ref.id, 3), value: row.value)
    #expect(throws: RecordError.misplaced) {
      try RecordReader.read(shifted, channel: ref.id) { _, _ in }
    }
  }

  @Test("A record whose counts lie is refused though its checksum is right")
  func lyingCounts() {
    var random = SimRandom(seed: 7)
    for _ in 0..<20_000 {
      var bytes = (0..<random.within(40...200)).map { _ in UInt8(truncatingIfNeeded: random.next())
      }
      bytes[0] = 1
      bytes[1] = 0
      // Small counts and lengths, so that the walk goes deep.
      if bytes.count > 14 { for i in 10..<13 { bytes[i] = 0 } }
      var at = 54 + 39
      while at + 4 <= bytes.count {
        bytes[at] = 0
        bytes[at + 1] = 0
        bytes[at + 2] = 0
        bytes[at + 3] = UInt8(random.below(40))
        at += 43 + Int(bytes[at + 3])
      }
      let crc = crc32c(bytes, continuing: crc32c(ref.id.bytes))
      let row = Row(key: RecordKey.key(ref.id, 1), value: bytes + bigEndianBytes(crc))
      var total = 0
      if let header = try? RecordReader.read(
        row, channel: ref.id, { _, m in total += m.frame.count })
      {
        #expect(header.first == 1)
      }
      #expect(total < 300)
    }
  }

  @Test("A head row is what was encoded, and no other length or version is read")
  func headRow() throws {
    let rig = filled(4)
    let value = try #require(rig.disk.get(.state, HeadRow.key(ref.id)))
    let head = try HeadRow(decoding: value)
    #expect(head.last == 10 && head.oldest == 1 && value.count == HeadRow.size)
    #expect(head.encoded == value)
    for length in 0..<value.count {
      #expect(throws: ReadError.self) { try HeadRow(decoding: Array(value.prefix(length))) }
    }
    #expect(throws: ReadError.malformed) { try HeadRow(decoding: [2] + value.dropFirst()) }
    #expect(throws: ReadError.malformed) { try HeadRow(decoding: value + [0]) }
  }

  @Test("Each record stands in its slot's log under the next index")
  func slotLog() throws {
    let rig = filled(3)
    let rows = rig.disk.rows(.slots, prefix: bigEndianBytes(ref.id.slot))
    #expect(rows.map(\.value) == [1, 2, 4].map { RecordKey.key(ref.id, $0) })
    rig.restart()
    rig.publish(1, ref, "after")
    #expect(rig.disk.rows(.slots, prefix: bigEndianBytes(ref.id.slot)).count == 4)
  }

  @Test("The verifier names what is wrong, and where")
  func verifier() throws {
    let rig = filled(4)
    let keys = rig.disk.rows(.records, prefix: ref.id.bytes).map(\.key)
    rig.disk.flip(.records, keys[1], bit: 600)
    #expect(rig.verify(ref) == [.damaged(first: 2, .checksum)])

    let gap = filled(4)
    gap.disk.remove(.records, keys[1])
    #expect(gap.verify(ref) == [.gap(next: 2, found: 4), .chain(first: 4)])

    let short = filled(4)
    short.disk.remove(.records, keys[3])
    #expect(short.verify(ref) == [.headSequence(head: 10, last: 6)])

    let front = filled(4)
    front.disk.remove(.records, keys[0])
    #expect(front.verify(ref) == [.oldest(head: 1, first: 2)])

    let headless = filled(4)
    headless.disk.remove(.state, HeadRow.key(ref.id))
    #expect(headless.verify(ref) == [.noHead])
  }
}
