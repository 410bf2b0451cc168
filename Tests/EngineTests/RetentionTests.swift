import Base
import Engine
import TestKit
import Testing

@Suite("Retention and deletes", .timeLimit(.minutes(1)))
struct RetentionTests {
  let ref = EngineRig.channel("acme/ns/kept")

  func rig(_ retention: Retention, _ change: (inout EngineSettings) -> Void = { _ in }) -> EngineRig
  {
    var settings = EngineSettings()
    settings.retention = retention
    change(&settings)
    return EngineRig(settings)
  }

  func records(_ rig: EngineRig) -> [UInt64] {
    rig.disk.rows(.records, prefix: ref.id.bytes).compactMap { RecordKey.parse($0.key)?.first }
  }

  @Test("Each bound drops whole records from the old end and leaves a channel that verifies")
  func bounds() {
    for (retention, oldest) in [
      (Retention(messages: 4), UInt64(7)), (Retention(bytes: 45), 6),
      (Retention(age: .seconds(30)), 7),
    ] {
      let rig = rig(retention)
      for i in 1...10 {
        rig.publish(1, ref, "\(i % 10)", token: 0)
        rig.pass(.seconds(i == 6 ? 25 : 1))
      }
      rig.pass(.seconds(11))
      #expect(records(rig).first == oldest)
      #expect(rig.engine.channelState(ref.id)?.oldest == oldest)
      #expect(rig.verify(ref) == [])
      #expect(rig.disk.rows(.slots).count == records(rig).count)
    }
  }

  @Test("Age drops everything in the end, and the sequence and the chain go on")
  func everything() {
    let rig = rig(Retention(age: .seconds(30)))
    for i in 1...5 { rig.publish(1, ref, "m\(i)", token: 0) }
    rig.pass(.seconds(60))
    #expect(records(rig) == [])
    #expect(rig.verify(ref) == [])
    rig.restart()
    rig.subscribe(2, ref, start: .sequence(0))
    rig.publish(1, ref, "next", token: 0)
    #expect(rig.hear() == ["subscribed 2", "deliver 2 6 next"])
    #expect(rig.verify(ref) == [])
  }

  @Test("A cursor that retention passed ends with the reason; one asked for later is refused")
  func passedCursor() {
    let rig = rig(Retention(messages: 3)) {
      $0.creditBytes = 20
      $0.tailBytes = 0
    }
    rig.subscribe(2, ref)
    for i in 1...10 { rig.publish(1, ref, "m\(i)", token: 0) }
    _ = rig.hear()
    rig.pass(.seconds(11))
    #expect(rig.hear() == ["end 2 retention_passed"])
    rig.subscribe(3, ref, start: .sequence(4))
    rig.subscribe(4, ref, start: .sequence(8), limit: 1)
    #expect(
      rig.hear() == ["subscribed 3 retention_passed", "subscribed 4", "deliver 4 8 m8", "ended 4"])
  }

  @Test("The newest answer of each producer outlives its record; epochs that left stay taken")
  func memory() {
    let rig = rig(Retention(messages: 2))
    rig.publish(1, ref, "c0", mls: .commit, epoch: 0, token: 0)
    for p in 1...6 {
      rig.publish(1, ref, "p\(p)", producer: 5, producerSequence: UInt64(p), token: 0)
    }
    for i in 1...6 { rig.publish(1, ref, "x\(i)", token: 0) }
    rig.pass(.seconds(11))
    #expect(records(rig).first == 12)
    #expect(rig.disk.rows(.state, prefix: StateKind.prefix(StateKind.producer, ref.id)).count == 1)
    #expect(rig.disk.rows(.state, prefix: StateKind.prefix(StateKind.commit, ref.id)).isEmpty)
    rig.restart()
    rig.publish(1, ref, "p6", producer: 5, producerSequence: 6)
    rig.publish(1, ref, "p3", producer: 5, producerSequence: 3)
    rig.publish(3, ref, "late", as: EngineRig.principal("acme", key: 3), mls: .commit, epoch: 0)
    #expect(
      rig.hear() == ["accepted 1 #1 7 again", "refused 1 #1 producer_stale", "accepted 3 #1 14"])
    #expect(rig.engine.channelState(ref.id)?.generation == 1)
  }

  @Test("A channel that nobody uses is looked at when the host asks")
  func unused() {
    let rig = rig(Retention(age: .seconds(30)))
    for i in 1...5 { rig.publish(1, ref, "m\(i)", token: 0) }
    rig.restart()
    rig.clock.run(until: rig.clock.nanoseconds + 60_000_000_000)
    rig.turn { $0.receiveRetention(ref, at: $1) }
    #expect(records(rig) == [])
    #expect(rig.verify(ref) == [])
  }

  @Test("A damaged record stops retention instead of being dropped unseen")
  func damage() throws {
    let rig = rig(Retention(messages: 2))
    for i in 1...6 { rig.publish(1, ref, "m\(i)", token: 0) }
    rig.disk.flip(.records, RecordKey.key(ref.id, 2), bit: 500)
    rig.pass(.seconds(11))
    #expect(records(rig) == [2, 3, 4, 5, 6])
    #expect(rig.verify(ref) == [.damaged(first: 2, .checksum)])
  }

  @Test("A delete erases all but the place, ends subscribers, and no sequence is used again")
  func delete() {
    let rig = EngineRig()
    let beta = EngineRig.principal("beta")
    rig.publish(1, ref, "c0", mls: .commit, epoch: 0, token: 0)
    rig.publish(1, ref, "p", producer: 5, producerSequence: 1, token: 0)
    var set = WriteSet()
    set.put(.state, key: GrantRow.key(channel: ref.id, tenant: beta.tenant), value: [])
    rig.disk.apply(set, synced: true)
    rig.turn { $0.receiveGrant(ref.id, tenant: beta.tenant, granted: true, at: $1) }
    rig.subscribe(2, ref)
    _ = rig.hear()
    rig.turn { $0.receiveDelete(ref, token: 3, at: $1) }
    #expect(rig.hear() == ["end 2 not_found", "deleted"])
    #expect(records(rig) == [])
    #expect(rig.disk.rows(.state).map(\.key) == [HeadRow.key(ref.id)])
    #expect(rig.verify(ref) == [])
    rig.publish(4, ref, "no", as: beta)
    rig.restart()
    rig.publish(3, ref, "c0 again", mls: .commit, epoch: 0)
    rig.publish(1, ref, "p", producer: 5, producerSequence: 1)
    #expect(rig.hear() == ["accepted 3 #1 3", "accepted 1 #1 4"])
    #expect(rig.engine.channelState(ref.id)?.generation == 1)
    #expect(rig.verify(ref) == [])
  }

  @Test("A delete waits for what was taken before it, and what comes after waits for it")
  func deleteInOrder() {
    let rig = EngineRig()
    rig.publish(1, ref, "a")
    rig.writes = false
    rig.publish(1, ref, "b")
    rig.publish(1, ref, "c")
    rig.publish(1, ref, "d")
    rig.turn { $0.receiveDelete(ref, token: 3, at: $1) }
    rig.publish(1, ref, "e")
    for _ in 0..<6 { rig.write() }
    #expect(
      rig.hear() == [
        "accepted 1 #1 1", "accepted 1 #1 2", "accepted 1 #1 3", "accepted 1 #1 4", "deleted",
        "accepted 1 #1 5",
      ])
    #expect(records(rig) == [5])
    #expect(rig.verify(ref) == [])
  }

  @Test("A channel that never was is not found; a delete that fails says so and changes nothing")
  func deleteFails() {
    let rig = EngineRig()
    rig.turn { $0.receiveDelete(ref, token: 1, at: $1) }
    rig.publish(1, ref, "a")
    rig.writes = false
    rig.turn { $0.receiveDelete(ref, token: 2, at: $1) }
    rig.failWrites()
    rig.writes = true
    rig.pass(.seconds(1))
    rig.publish(1, ref, "b")
    #expect(
      rig.hear() == [
        "deleted not_found", "accepted 1 #1 1", "deleted disk_full", "accepted 1 #1 2",
      ])
    #expect(rig.verify(ref) == [])
  }
}
