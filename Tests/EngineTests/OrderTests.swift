import Base
import Digest
import Engine
import TestKit
import Testing

@Suite("Order and durability", .timeLimit(.minutes(1)))
struct OrderTests {
  let ref = EngineRig.channel("acme/ns/order")

  @Test("Sequences are 1, 2, 3, across restarts, and stand in the suffix")
  func sequences() {
    let rig = EngineRig()
    rig.subscribe(2, ref)
    rig.publish(1, ref, "a")
    rig.publish(1, ref, "b")
    #expect(
      rig.hear() == [
        "subscribed 2", "deliver 2 1 a", "accepted 1 #1 1", "deliver 2 2 b", "accepted 1 #1 2",
      ])
    rig.restart()
    rig.publish(1, ref, "c")
    #expect(rig.hear() == ["accepted 1 #1 3"])
    #expect(rig.verify(ref) == [])
  }

  @Test("Nothing is answered or delivered before its write is confirmed")
  func afterWrite() {
    let rig = EngineRig()
    rig.subscribe(2, ref)
    _ = rig.hear()
    rig.writes = false
    rig.publish(1, ref, "a")
    rig.publish(1, ref, "b", durability: .synced)
    rig.publish(1, ref, "c")
    #expect(rig.hear() == [])
    // Two writes under way, the third gathers.
    #expect(rig.heldWrites.map(\.synced) == [false, true])
    rig.write(1)
    #expect(rig.hear() == ["deliver 2 1 a", "accepted 1 #1 1"])
    rig.write()
    rig.write()
    #expect(
      rig.hear() == ["deliver 2 2 b", "accepted 1 #1 2", "deliver 2 3 c", "accepted 1 #1 3"])
    #expect(rig.heldWrites.isEmpty)
  }

  @Test("What gathered while writes were under way becomes one record, within its bounds")
  func groups() {
    var settings = EngineSettings()
    settings.recordMessages = 4
    let rig = EngineRig(settings)
    rig.publish(1, ref, "first")
    rig.writes = false
    rig.publish(1, ref, "x")
    rig.publish(1, ref, "y")
    for i in 0..<10 { rig.publish(1, ref, "m\(i)") }
    rig.write(2)
    rig.write()
    let firsts = rig.disk.rows(.records, prefix: ref.id.bytes).compactMap {
      RecordKey.parse($0.key)?.first
    }
    #expect(firsts == [1, 2, 3, 4, 8, 12])
    #expect(rig.verify(ref) == [])
  }

  @Test("Records keep their bytes bound, and one message may stand alone over it")
  func bytesBound() {
    var settings = EngineSettings()
    settings.recordBytes = 100
    let rig = EngineRig(settings)
    rig.turn { engine, now in
      for size in [10, 10, 200, 10, 60, 60] {
        engine.receivePublish(
          EngineRig.session(1), kind: .service, principal: EngineRig.principal("acme"),
          channel: ref,
          Publication(
            frame: EngineRig.frame(String(repeating: "x", count: size)), hasSuffix: true, type: 1),
          at: now)
      }
    }
    let firsts = rig.disk.rows(.records, prefix: ref.id.bytes).compactMap {
      RecordKey.parse($0.key)?.first
    }
    #expect(firsts == [1, 3, 4, 6])
    #expect(rig.verify(ref) == [])
  }

  @Test("A stranger's publish is noted and refused and ends nothing")
  func rights() {
    let rig = EngineRig()
    rig.subscribe(1, ref)
    let stranger = EngineRig.principal("beta")
    rig.subscribe(2, ref, as: stranger)
    rig.publish(2, ref, "no", as: stranger)
    #expect(rig.notes.count == 2)
    #expect(
      rig.hear() == ["subscribed 1", "subscribed 2 forbidden", "refused 2 #1 forbidden"])
    // An org that only hashes alike is a stranger too.
    let alike = Principal(tenant: TenantID(org: "acme"), org: "acne", key: RecordID(1))
    rig.publish(3, ref, "no", as: alike)
    #expect(rig.hear() == ["refused 3 #1 forbidden"])
    rig.publish(
      2, ref, "yes", as: Principal(tenant: .none, org: "", key: RecordID(0), anonymous: true))
    #expect(rig.hear() == ["deliver 1 1 yes", "accepted 2 #1 1"])
  }

  @Test("A grant opens a channel, is found after a restart, and its end ends the stream")
  func grants() {
    let rig = EngineRig()
    let beta = EngineRig.principal("beta")
    rig.publish(1, ref, "a")
    var set = WriteSet()
    set.put(
      .state, key: GrantRow.key(channel: ref.id, tenant: beta.tenant), value: Array("beta".utf8))
    rig.disk.apply(set, synced: true)
    rig.turn { $0.receiveGrant(ref.id, tenant: beta.tenant, granted: true, at: $1) }
    rig.subscribe(2, ref, as: beta)
    rig.publish(2, ref, "b", as: beta)
    #expect(rig.hear() == ["accepted 1 #1 1", "subscribed 2", "accepted 2 #1 2"])
    rig.restart()
    rig.subscribe(2, ref, as: beta)
    rig.subscribe(1, ref)
    rig.turn { $0.receiveGrant(ref.id, tenant: beta.tenant, granted: false, at: $1) }
    rig.publish(2, ref, "c", as: beta)
    #expect(
      rig.hear() == ["subscribed 2", "subscribed 1", "end 2 revoked", "refused 2 #1 forbidden"])
  }

  @Test("Operations on a channel wait for its load, in their order")
  func loading() {
    let rig = EngineRig()
    rig.reads = false
    rig.publish(1, ref, "a")
    rig.subscribe(2, ref, start: .sequence(1))
    rig.publish(1, ref, "b")
    #expect(rig.hear() == [])
    #expect(rig.heldLookups.count == 1)
    rig.answerLookups()
    #expect(
      rig.hear() == [
        "subscribed 2", "deliver 2 1 a", "deliver 2 2 b", "accepted 1 #1 1", "accepted 1 #1 2",
      ])
  }

  @Test("A channel that cannot be loaded refuses callers and ends streams, and is tried again")
  func loadFails() {
    let rig = EngineRig()
    rig.reads = false
    rig.publish(1, ref, "a")
    rig.publish(2, ref, "b", kind: .skytale, token: 0)
    rig.turn { $0.receiveLoadFailed(ref, Fault(.unavailable), at: $1) }
    #expect(rig.hear() == ["refused 1 #1 unavailable", "end 2 unavailable"])
    rig.reads = true
    rig.publish(1, ref, "c")
    #expect(rig.hear() == ["accepted 1 #1 1"])
  }

  @Test("Another name under the same channel id collides in every operation")
  func collision() {
    let rig = EngineRig()
    rig.publish(1, ref, "a")
    let twin = ChannelRef(
      id: ref.id, family: .skytale, name: "acme/ns/twin", org: "acme", tenant: ref.tenant,
      archived: true)
    rig.publish(1, twin, "b")
    rig.subscribe(2, twin)
    #expect(
      rig.hear() == [
        "accepted 1 #1 1", "refused 1 #1 name_collision", "subscribed 2 name_collision",
      ])
    rig.restart()
    rig.publish(1, twin, "b")
    #expect(rig.hear() == ["refused 1 #1 name_collision"])
  }

  @Test("Idle channels are forgotten and come back as they were")
  func forgetting() throws {
    var settings = EngineSettings()
    settings.loadedChannels = 4
    let rig = EngineRig(settings)
    let refs = (0..<40).map { EngineRig.channel("acme/ns/many\($0)") }
    for round in 1...3 {
      for ref in refs { rig.publish(1, ref, "r\(round)") }
    }
    #expect(rig.engine.counters.loadedChannels <= 6)
    for ref in refs {
      #expect(rig.verify(ref) == [])
      let head = try HeadRow(decoding: try #require(rig.disk.get(.state, HeadRow.key(ref.id))))
      #expect(head.last == 3)
    }
  }

  @Test("An unarchived channel delivers at once and writes no records")
  func unarchived() {
    let rig = EngineRig()
    let live = EngineRig.channel("acme/ns/live", archived: false)
    rig.writes = false
    rig.subscribe(2, live)
    rig.publish(1, live, "a")
    #expect(rig.hear() == ["subscribed 2", "accepted 1 #1 1", "deliver 2 1 a"])
    #expect(rig.heldWrites.isEmpty)
  }

  @Test("A frame too short for its suffix, or over the bound, is refused")
  func badFrames() {
    let rig = EngineRig()
    for (size, suffix, code) in [(12, true, FaultCode.badRequest), (4, false, .badRequest)] {
      rig.turn {
        $0.receivePublish(
          EngineRig.session(1), kind: .service, principal: EngineRig.principal("acme"),
          channel: ref,
          Publication(
            frame: Bytes([UInt8](repeating: 0, count: size)), hasSuffix: suffix, type: 1, token: 5),
          at: $1)
      }
      #expect(rig.hear() == ["refused 1 #5 \(code.rawValue)"])
    }
  }

  @Test(
    "Each tenant's messages are metered in the write that holds them; retries and refusals are not")
  func metering() throws {
    let rig = EngineRig()
    rig.publish(1, ref, "abc", producer: 5, producerSequence: 1)
    rig.publish(1, ref, "abc", producer: 5, producerSequence: 1)
    rig.publish(2, ref, "no", as: EngineRig.principal("beta"))
    rig.publish(
      3, ref, "xy", as: Principal(tenant: .none, org: "", key: RecordID(0), anonymous: true))
    let rows = rig.disk.rows(.tokens, prefix: [UsageRow.kind])
    #expect(rows.count == 1)
    let value = try #require(rows.first?.value)
    #expect(value == UsageRow.value(messages: 2, bytes: 11 + 10, tokens: 0))
    #expect(rig.engine.usageToday(ref.tenant, at: rig.now) == (2, 21))
    rig.restart()
    rig.publish(1, ref, "abc")
    #expect(rig.disk.rows(.tokens, prefix: [UsageRow.kind]).count == 2)
  }

  @Test("A publisher with too much in hand is paused, and goes on when half of it is written")
  func pausing() {
    var settings = EngineSettings()
    settings.sessionPendingBytes = 100
    let rig = EngineRig(settings)
    rig.writes = false
    for i in 0..<6 { rig.publish(1, ref, "message \(i)") }
    #expect(rig.hear() == ["pause 1"])
    rig.write(2)
    rig.write()
    #expect(rig.hear().last == "resume 1")
    #expect(rig.engine.counters.pendingBytes == 0)
  }
}
