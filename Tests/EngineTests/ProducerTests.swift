import Base
import Engine
import TestKit
import Testing

@Suite("Exactly once per producer sequence", .timeLimit(.minutes(1)))
struct ProducerTests {
  let ref = EngineRig.channel("acme/ns/producers")

  func publish(_ rig: EngineRig, _ p: UInt64, producer: UInt64 = 7, token: UInt64 = 1) {
    rig.publish(1, ref, "p\(p)", producer: producer, producerSequence: p, token: token)
  }

  @Test("A retry gets the first answer")
  func retry() {
    let rig = EngineRig()
    for p in 1...3 { publish(rig, UInt64(p)) }
    publish(rig, 2)
    publish(rig, 4)
    #expect(
      rig.hear() == [
        "accepted 1 #1 1", "accepted 1 #1 2", "accepted 1 #1 3", "accepted 1 #1 2 again",
        "accepted 1 #1 4",
      ])
  }

  @Test("A retry of what is not written yet waits for the write")
  func pendingRetry() {
    let rig = EngineRig()
    rig.writes = false
    publish(rig, 1, token: 11)
    publish(rig, 1, token: 12)
    #expect(rig.hear() == [])
    rig.write()
    #expect(rig.hear() == ["accepted 1 #11 1", "accepted 1 #12 1 again"])
    #expect(rig.verify(ref) == [])
  }

  @Test("Retries are known after a restart, far back too, without reading a record")
  func afterRestart() {
    var settings = EngineSettings()
    settings.producerWindow = 2
    let rig = EngineRig(settings)
    // Two producers in turn, so that no run is longer than one.
    for p in 1...20 {
      publish(rig, UInt64(p), producer: 7)
      publish(rig, UInt64(p), producer: 8)
    }
    _ = rig.hear()
    publish(rig, 3, producer: 8)
    #expect(rig.hear() == ["accepted 1 #1 6 again"])
    rig.restart()
    publish(rig, 20, producer: 7)
    publish(rig, 1, producer: 7)
    publish(rig, 21, producer: 7)
    #expect(rig.hear() == ["accepted 1 #1 39 again", "accepted 1 #1 1 again", "accepted 1 #1 41"])
    #expect(rig.readCount == 0)
  }

  @Test("A producer sequence that was passed over is stale, and is never appended")
  func stale() {
    let rig = EngineRig()
    publish(rig, 1)
    publish(rig, 5)
    publish(rig, 3)
    rig.restart()
    publish(rig, 4)
    publish(rig, 6)
    #expect(rig.hear() == ["refused 1 #1 producer_stale", "accepted 1 #1 3"])
  }

  @Test("Producers pushed out of memory are looked up, and their publishes keep their order")
  func evicted() {
    var settings = EngineSettings()
    settings.producersPerChannel = 2
    let rig = EngineRig(settings)
    for producer in 1...10 { publish(rig, 1, producer: UInt64(producer)) }
    _ = rig.hear()
    rig.reads = false
    rig.turn { engine, now in
      for p in [1, 2, 3] as [UInt64] {
        engine.receivePublish(
          EngineRig.session(1), kind: .service, principal: EngineRig.principal("acme"),
          channel: ref,
          Publication(
            frame: EngineRig.frame("p\(p)"), hasSuffix: true, type: 1, producer: 1,
            producerSequence: p, token: p), at: now)
      }
    }
    #expect(rig.heldLookups.count == 1)
    rig.answerLookups()
    #expect(rig.hear() == ["accepted 1 #1 1 again", "accepted 1 #2 11", "accepted 1 #3 12"])
  }

  @Test("Many producers in one record are each found again")
  func interleaved() {
    let rig = EngineRig()
    rig.turn { engine, now in
      for i in 0..<600 {
        engine.receivePublish(
          EngineRig.session(1), kind: .service, principal: EngineRig.principal("acme"),
          channel: ref,
          Publication(
            frame: EngineRig.frame("i\(i)"), hasSuffix: true, type: 1,
            producer: UInt64(1 + i % 50), producerSequence: UInt64(1 + i / 50), token: 1), at: now)
      }
    }
    rig.restart()
    for i in stride(from: 599, through: 0, by: -7) {
      publish(rig, UInt64(1 + i / 50), producer: UInt64(1 + i % 50))
      #expect(rig.hear() == ["accepted 1 #1 \(i + 1) again"])
    }
  }

  @Test("A write that fails frees its producer sequences")
  func failedWrite() {
    let rig = EngineRig()
    publish(rig, 1)
    rig.writes = false
    publish(rig, 2)
    publish(rig, 3)
    rig.failWrites()
    rig.writes = true
    rig.pass(.seconds(1))
    publish(rig, 2)
    publish(rig, 3)
    publish(rig, 2)
    #expect(
      rig.hear() == [
        "accepted 1 #1 1", "refused 1 #1 disk_full", "refused 1 #1 disk_full", "accepted 1 #1 2",
        "accepted 1 #1 3", "accepted 1 #1 2 again",
      ])
    #expect(rig.verify(ref) == [])
  }

  @Test("While the disk is full a retry still gets its answer, and only new publishes are refused")
  func fullDisk() {
    let rig = EngineRig()
    publish(rig, 1)
    rig.turn { $0.receiveDisk(full: true, at: $1) }
    publish(rig, 1)
    publish(rig, 2)
    rig.turn { $0.receiveDisk(full: false, at: $1) }
    publish(rig, 2)
    #expect(
      rig.hear() == [
        "accepted 1 #1 1", "accepted 1 #1 1 again", "refused 1 #1 disk_full", "accepted 1 #1 2",
      ])
  }

  @Test("Sequence zero and one beyond all bounds are refused", arguments: [0, UInt64.max])
  func outOfBounds(_ p: UInt64) {
    let rig = EngineRig()
    publish(rig, p)
    #expect(rig.hear() == ["refused 1 #1 bad_request"])
  }
}
