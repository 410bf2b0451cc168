import Base
import Engine
import TestKit
import Testing

@Suite("Disk trouble", .timeLimit(.minutes(1)))
struct TroubleTests {
  let ref = EngineRig.channel("acme/ns/trouble")

  @Test("While the disk is full streams wait in order and callers are refused")
  func fullDisk() {
    let rig = EngineRig()
    rig.subscribe(9, ref)
    rig.turn { $0.receiveDisk(full: true, at: $1) }
    rig.publish(1, ref, "a", kind: .skytale, token: 0)
    rig.publish(2, ref, "b")
    rig.publish(1, ref, "c", kind: .skytale, token: 0)
    rig.pass(.seconds(9))
    #expect(rig.hear() == ["subscribed 9", "refused 2 #1 disk_full"])
    rig.turn { $0.receiveDisk(full: false, at: $1) }
    #expect(rig.hear() == ["deliver 9 1 a", "deliver 9 2 c"])
    #expect(rig.engine.counters.pendingBytes == 0)
  }

  @Test("A stream whose publish waited too long ends, and nothing of it is appended later")
  func tooLong() {
    let rig = EngineRig()
    rig.publish(9, ref, "first")
    rig.turn { $0.receiveDisk(full: true, at: $1) }
    rig.publish(1, ref, "a", kind: .skytale, token: 0)
    rig.pass(.seconds(6))
    rig.publish(1, ref, "b", kind: .skytale, token: 0)
    rig.publish(2, ref, "c", kind: .skytale, token: 0)
    _ = rig.hear()
    rig.pass(.seconds(5))
    #expect(rig.hear() == ["end 1 unavailable"])
    rig.turn { $0.receiveDisk(full: false, at: $1) }
    rig.subscribe(3, ref, start: .sequence(2))
    #expect(rig.hear() == ["subscribed 3", "deliver 3 2 c"])
    #expect(rig.engine.counters.pendingBytes == 0 && rig.engine.counters.heldMessages == 0)
  }

  @Test("What a closed stream had sent is still appended")
  func closedStream() {
    let rig = EngineRig()
    rig.turn { $0.receiveDisk(full: true, at: $1) }
    rig.publish(1, ref, "a", kind: .skytale, token: 0)
    rig.close(1)
    rig.turn { $0.receiveDisk(full: false, at: $1) }
    #expect(rig.engine.channelState(ref.id)?.last == 1)
  }

  @Test("After a failed write nothing was delivered, sequences are used again, order holds")
  func failedWrite() {
    let rig = EngineRig()
    rig.subscribe(9, ref)
    rig.publish(1, ref, "a", kind: .skytale, token: 0)
    rig.writes = false
    rig.publish(1, ref, "b", kind: .skytale, token: 0)
    rig.publish(2, ref, "c")
    rig.publish(1, ref, "d", kind: .skytale, token: 0)
    rig.failWrites()
    rig.publish(1, ref, "e", kind: .skytale, token: 0)
    #expect(rig.hear() == ["subscribed 9", "deliver 9 1 a", "refused 2 #1 disk_full"])
    rig.writes = true
    rig.pass(.seconds(1))
    #expect(rig.hear() == ["deliver 9 2 b", "deliver 9 3 d", "deliver 9 4 e"])
    #expect(rig.verify(ref) == [])
    #expect(
      rig.disk.rows(.tokens, prefix: [UsageRow.kind]).map(\.value) == [
        UsageRow.value(messages: 4, bytes: 4 * 9, tokens: 0)
      ])
  }

  @Test("A write that failed and yet stands on the disk is taken back")
  func failedButWritten() {
    let rig = EngineRig()
    rig.publish(2, ref, "a", producer: 5, producerSequence: 1)
    rig.writes = false
    rig.publish(2, ref, "b", mls: .commit, epoch: 0, producer: 5, producerSequence: 2)
    rig.publish(2, ref, "c", producer: 5, producerSequence: 3)
    for w in rig.heldWrites { rig.disk.apply(w.set, synced: false) }
    rig.failWrites()
    rig.writes = true
    rig.pass(.seconds(1))
    #expect(rig.verify(ref) == [])
    rig.restart()
    rig.publish(2, ref, "d", mls: .commit, epoch: 0, producer: 5, producerSequence: 2)
    #expect(rig.hear() == ["accepted 2 #1 2"])
    #expect(rig.verify(ref) == [])
  }

  @Test("A write reported as made after an earlier one failed is rolled back too")
  func successAfterFailure() {
    let rig = EngineRig()
    rig.writes = false
    rig.publish(2, ref, "a")
    rig.publish(2, ref, "b")
    let tickets = rig.heldWrites.map(\.ticket)
    rig.turn { $0.receiveWriteFailed(ticket: tickets[0], Fault(.diskFull), at: $1) }
    #expect(rig.hear() == [])
    rig.turn { $0.receiveWritten(ticket: tickets[1], at: $1) }
    #expect(rig.hear() == ["refused 2 #1 disk_full", "refused 2 #1 disk_full"])
  }

  @Test("Other channels of a shard go on after the failed write of one")
  func otherChannels() {
    let rig = EngineRig()
    let other = EngineRig.channel("acme/ns/other")
    rig.writes = false
    rig.publish(1, ref, "a", kind: .skytale, token: 0)
    rig.publish(2, other, "b", kind: .skytale, token: 0)
    rig.publish(2, other, "c", kind: .skytale, token: 0)
    rig.failWrites()
    rig.writes = true
    rig.pass(.seconds(1))
    #expect(rig.engine.channelState(ref.id)?.last == 1)
    #expect(rig.engine.channelState(other.id)?.last == 2)
    #expect(rig.verify(ref) == [] && rig.verify(other) == [])
  }
}
