import Base
import TestKit
import Testing

@testable import Engine

@Suite("Slots that move", .timeLimit(.minutes(2)))
struct SlotTests {
  let ref = EngineRig.channel("acme/ns/moves")
  var slot: UInt16 { ref.id.slot }

  /// Another node's engine over a copy of the slot's rows.
  func target(_ rig: EngineRig, epoch: UInt64) -> EngineRig {
    let disk = SimDisk()
    var set = WriteSet()
    for table in [Table.records, .slots, .state] {
      for row in rig.disk.rows(table, prefix: []) { set.put(table, key: row.key, value: row.value) }
    }
    disk.apply(set, synced: true)
    let made = EngineRig(rig.engine.settings, disk: disk)
    let next = disk.slotHeads.first { $0.slot == slot }?.next ?? 1
    made.turn { $0.adoptSlot(ref.id.slot, next: next, epoch: epoch, at: $1) }
    return made
  }

  @Test("A sealed slot is quiet when what was taken is written, and not before")
  func quiet() {
    let rig = EngineRig()
    rig.writes = false
    rig.publish(1, ref, "m1")
    rig.turn { engine, _ in engine.sealSlot(slot) }
    #expect(!rig.engine.slotIsQuiet(slot))
    #expect(rig.engine.slotIsQuiet(slot ^ 1))
    rig.write()
    #expect(rig.engine.slotIsQuiet(slot))
    #expect(rig.hear() == ["accepted 1 #1 1"])
    rig.failWrites()
    rig.publish(1, ref, "m2")
    rig.failWrites()
    // What takes the failed write back has not gone yet.
    #expect(!rig.engine.slotIsQuiet(slot))
  }

  @Test("Nothing of a sealed slot is dropped by retention or deleted; unsealed, it is")
  func still() {
    var settings = EngineSettings()
    settings.retention = Retention(messages: 2)
    settings.retentionInterval = .seconds(1)
    let rig = EngineRig(settings)
    for i in 1...6 { rig.publish(1, ref, "m\(i)", token: 0) }
    rig.turn { engine, _ in engine.sealSlot(slot) }
    rig.pass(.seconds(5))
    #expect(rig.engine.channelState(ref.id)?.oldest == 1)
    rig.turn { $0.receiveDelete(ref, token: 1, at: $1) }
    #expect(rig.hear() == ["deleted unavailable"])
    rig.turn { engine, _ in engine.unsealSlot(slot) }
    rig.pass(.seconds(5))
    #expect(rig.engine.channelState(ref.id)?.oldest == 5)
  }

  @Test(
    "Released: cursors say where they stand and what is their own, and the channel is forgotten")
  func cursors() {
    var settings = EngineSettings()
    settings.creditBytes = 40
    let rig = EngineRig(settings)
    rig.subscribe(1, ref)
    rig.subscribe(2, ref, limit: 100)
    rig.subscribe(3, ref, start: .sequence(50), follow: true)
    for i in 1...6 { rig.publish(i % 3 == 0 ? 2 : 4, ref, "m\(i)", token: 0) }
    // 15 bytes each: both got two, and 2 has sent the third and the sixth itself; the third it has passed.
    #expect(rig.hear().filter { $0.hasPrefix("deliver") }.count == 4)
    rig.turn { engine, _ in engine.sealSlot(slot) }
    var moved: [MovedCursor] = []
    rig.turn { moved = $0.releaseSlot(slot, at: $1) }
    #expect(moved.map(\.session.index) == [1, 2, 3])
    #expect(moved.map(\.next) == [3, 4, 50])
    #expect(moved.map(\.limit) == [0, 98, 0])
    #expect(moved.map(\.own) == [[], [6...6], []])
    #expect(moved.map(\.follow) == [true, true, true])
    #expect(rig.engine.channelState(ref.id) == nil)
    #expect(rig.engine.counters.subscriptions == 0 && rig.engine.counters.lagging == 0)
    #expect(rig.engine.counters.tailBytes == 0)
    rig.credit(1, 1_000)
    rig.close(2)
    #expect(rig.hear() == [])
  }

  @Test("A cursor whose records are on their way from the archive is released all the same")
  func reading() {
    var settings = EngineSettings()
    settings.tailBytes = 0
    let rig = EngineRig(settings)
    for i in 1...6 { rig.publish(1, ref, "m\(i)", token: 0) }
    rig.reads = false
    rig.subscribe(2, ref, start: .sequence(2))
    rig.turn { engine, _ in engine.sealSlot(slot) }
    #expect(rig.engine.slotIsQuiet(slot))
    var moved: [MovedCursor] = []
    rig.turn { moved = $0.releaseSlot(slot, at: $1) }
    rig.answerLookups()
    #expect(moved.map(\.next) == [2])
    #expect(rig.hear() == ["subscribed 2"])
  }

  @Test("What waits for credit of a channel that nobody keeps is delivered before it goes")
  func unarchived() {
    var settings = EngineSettings()
    settings.creditBytes = 20
    let rig = EngineRig(settings)
    let live = EngineRig.channel("acme/ns/live", archived: false)
    rig.subscribe(2, live)
    for i in 1...4 { rig.publish(1, live, "m\(i)", token: 0) }
    rig.turn { engine, _ in engine.sealSlot(live.id.slot) }
    rig.turn { _ = $0.releaseSlot(live.id.slot, at: $1) }
    #expect(rig.hear() == ["subscribed 2"] + (1...4).map { "deliver 2 \($0) m\($0)" })
  }

  @Test("Adopted: sequences, hashes, commits and answers to retries go on, stamped with the epoch")
  func adopted() {
    let rig = EngineRig()
    for i in 1...3 {
      rig.publish(1, ref, "m\(i)", producer: 9, producerSequence: UInt64(i))
    }
    rig.publish(1, ref, "c0", mls: .commit, epoch: 0)
    _ = rig.hear()
    rig.turn { engine, _ in engine.sealSlot(slot) }
    let other = target(rig, epoch: 4)
    other.publish(7, ref, "m2", producer: 9, producerSequence: 2)
    other.publish(7, ref, "m4", producer: 9, producerSequence: 4)
    other.publish(7, ref, "c0", mls: .commit, epoch: 0)
    #expect(other.hear() == ["accepted 7 #1 2 again", "accepted 7 #1 5", "accepted 7 #1 4 again"])
    #expect(other.verify(ref).isEmpty)
    let rows = other.disk.rows(.records, prefix: ref.id.bytes)
    let headers = rows.compactMap { try? RecordReader.header($0, channel: ref.id) }
    #expect(headers.map(\.ownership) == [1, 1, 1, 1, 4])
    #expect(headers.map(\.slotIndex) == [1, 2, 3, 4, 5])
  }

  @Test("Adopted twice: the log goes on where it stands, and who follows hears nothing of it")
  func adoptedTwice() {
    let rig = EngineRig()
    for i in 1...3 { rig.publish(1, ref, "m\(i)") }
    let other = target(rig, epoch: 4)
    other.publish(7, ref, "m4")
    other.subscribe(8, ref, start: .sequence(5))
    other.turn { $0.adoptSlot(slot, next: 4, epoch: 4, at: $1) }
    other.publish(7, ref, "m5")
    #expect(
      other.hear()
        == ["accepted 7 #1 4", "subscribed 8", "deliver 8 5 m5", "accepted 7 #1 5"])
    let rows = other.disk.rows(.records, prefix: ref.id.bytes)
    let headers = rows.compactMap { try? RecordReader.header($0, channel: ref.id) }
    #expect(headers.map(\.slotIndex) == [1, 2, 3, 4, 5])
    #expect(other.disk.slotHeads.first { $0.slot == slot }?.next == 6)
  }

  @Test("Rows that answer retries follow from records, as the engine writes them")
  func producers() throws {
    let rig = EngineRig()
    rig.writes = false
    rig.publish(9, ref, "first", token: 0)
    for (producer, sequence) in [(5, 1), (5, 2), (6, 7), (5, 3), (0, 0), (6, 8), (6, 10)] {
      rig.publish(
        1, ref, "p\(producer)-\(sequence)", producer: UInt64(producer),
        producerSequence: UInt64(sequence))
    }
    rig.writes = true
    rig.write()
    let records = rig.disk.rows(.records, prefix: ref.id.bytes)
    #expect(records.count > 0)
    var derived: [Row] = []
    for record in records { derived += try #require(SlotRecord.producerRows(record)) }
    let written = rig.disk.rows(.state, prefix: StateKind.prefix(StateKind.producer, ref.id))
    #expect(derived.sorted { $0.key.lexicographicallyPrecedes($1.key) } == written)
    var damaged = records[0]
    damaged.value[60] ^= 1
    #expect(SlotRecord.producerRows(damaged) == nil)
  }
}
