import Base
import Engine
import TestKit
import Testing

@Suite("Cursors", .timeLimit(.minutes(2)))
struct CursorTests {
  let ref = EngineRig.channel("acme/ns/cursors")

  func fill(_ rig: EngineRig, _ count: Int, from: Int = 1, by session: Int = 1) {
    for i in from..<from + count { rig.publish(session, ref, "m\(i)", token: 0) }
  }

  func sequences(_ lines: [String], of session: Int) -> [Int] {
    lines.compactMap { line in
      let words = line.split(separator: " ")
      return words.first == "deliver" && words[1] == "\(session)" ? Int(words[2]) : nil
    }
  }

  @Test("No session gets what it published itself, live, from the tail or from the archive")
  func noEcho() {
    for tail in [1 << 20, 0] {
      var settings = EngineSettings()
      settings.tailBytes = tail
      settings.creditBytes = 60
      let rig = EngineRig(settings)
      rig.subscribe(1, ref)
      for i in 1...30 { rig.publish(i % 3 == 0 ? 1 : 2, ref, "m\(i)", token: 0) }
      var got: [Int] = []
      for _ in 0..<40 {
        got += sequences(rig.hear(), of: 1)
        rig.credit(1, 1_000)
      }
      #expect(got == (1...30).filter { $0 % 3 != 0 })
    }
  }

  @Test(
    "A cursor gets every sequence in order, whatever tail, read size and credit",
    arguments: [(0, 1, 1), (0, 100, 50), (60, 40, 30), (200, 1 << 18, 1 << 19), (1 << 20, 1, 1)])
  func gapless(_ tail: Int, _ read: Int, _ credit: Int) {
    var settings = EngineSettings()
    settings.tailBytes = tail
    settings.readBytes = read
    settings.creditBytes = credit
    let rig = EngineRig(settings)
    fill(rig, 40)
    rig.subscribe(2, ref, start: .sequence(11))
    var got: [Int] = []
    for i in 0..<200 {
      got += sequences(rig.hear(), of: 2)
      if i < 20 { fill(rig, 1, from: 41 + i) }
      rig.credit(2, 100)
    }
    #expect(got == Array(11...60))
    #expect(rig.engine.counters.lagging == 0 && rig.engine.counters.bufferBytes == 0)
  }

  @Test("Credit bounds what is under way, and a frame larger than it goes alone")
  func credit() {
    var settings = EngineSettings()
    settings.creditBytes = 50
    let rig = EngineRig(settings)
    rig.subscribe(2, ref)
    // 15 bytes each.
    fill(rig, 8)
    #expect(sequences(rig.hear(), of: 2) == [1, 2, 3])
    rig.credit(2, 15)
    #expect(sequences(rig.hear(), of: 2) == [4])
    rig.credit(2, 45)
    #expect(sequences(rig.hear(), of: 2) == [5, 6, 7])
    rig.credit(2, 45)
    rig.credit(2, 15)
    #expect(sequences(rig.hear(), of: 2) == [8])
    rig.publish(1, ref, String(repeating: "x", count: 500), token: 0)
    #expect(sequences(rig.hear(), of: 2) == [9])
    rig.publish(1, ref, "after", token: 0)
    #expect(sequences(rig.hear(), of: 2) == [])
    rig.credit(2, 513)
    #expect(sequences(rig.hear(), of: 2) == [10])
  }

  @Test(
    "Sessions behind one link get a message together; what is not for all of them, each by itself")
  func together() {
    var settings = EngineSettings()
    settings.creditBytes = 50
    let rig = EngineRig(settings)
    func far(_ loop: Int, _ index: Int) -> SessionID {
      SessionID(loop: loop, generation: 1, index: index)
    }
    func subscribe(_ id: SessionID, limit: UInt64 = 0) {
      rig.turn {
        $0.receiveSubscribe(
          id, kind: .service, principal: EngineRig.principal(ref.org), channel: ref, start: .live,
          follow: true, limit: limit, token: 7, at: $1)
      }
    }
    for index in 1...3 { subscribe(far(200, index)) }
    subscribe(far(201, 4))
    subscribe(far(200, 5), limit: 2)
    // No link is behind the last number of a loop, or this engine's own.
    subscribe(far(255, 6))
    rig.subscribe(7, ref)
    _ = rig.hear()
    // From one of them, which does not get it.
    rig.turn {
      $0.receivePublish(
        far(200, 2), kind: .service, principal: EngineRig.principal(ref.org), channel: ref,
        Publication(frame: EngineRig.frame("a"), hasSuffix: true, type: 1), at: $1)
    }
    #expect(
      rig.hear() == [
        "deliver 6 1 a", "deliver 7 1 a", "deliver 1,3,5 1 a", "deliver 4 1 a",
      ])
    rig.publish(8, ref, "b", token: 0)
    #expect(
      rig.hear() == [
        "deliver 5 2 b", "ended 5", "deliver 7 2 b", "deliver 6 2 b", "deliver 1,2,3 2 b",
        "deliver 4 2 b",
      ])
    // 14 bytes each: the one that published has credit for one more than the others.
    rig.publish(8, ref, "c", token: 0)
    #expect(rig.hear().filter { $0.hasPrefix("deliver 1,2,3 3") }.count == 1)
    rig.publish(8, ref, "d", token: 0)
    #expect(rig.hear() == ["deliver 2 4 d"])
    for index in 1...3 {
      rig.turn { $0.receiveCredit(far(200, index), bytes: 42, at: $1) }
    }
    #expect(rig.hear() == ["deliver 1 4 d", "deliver 3 4 d"])
    rig.publish(8, ref, "e", token: 0)
    #expect(rig.hear().filter { $0.contains(",") } == ["deliver 2,1,3 5 e"])
  }

  @Test("A stalled subscriber costs its sibling nothing, and later gets everything")
  func sibling() {
    var settings = EngineSettings()
    settings.creditBytes = 100
    settings.tailBytes = 500
    let rig = EngineRig(settings)
    rig.subscribe(2, ref)
    rig.subscribe(3, ref)
    var sibling: [Int] = []
    var stalled: [Int] = []
    for i in 1...500 {
      fill(rig, 1, from: i)
      let lines = rig.hear()
      sibling += sequences(lines, of: 3)
      stalled += sequences(lines, of: 2)
      rig.credit(3, 100)
    }
    #expect(sibling == Array(1...500))
    #expect(stalled.count < 10)
    #expect(rig.engine.counters.tailBytes <= 500)
    #expect(rig.readCount == 0)
    for _ in 0..<200 {
      rig.credit(2, 100)
      stalled += sequences(rig.hear(), of: 2)
    }
    #expect(stalled == Array(1...500))
  }

  @Test(
    "Who takes nothing for the stall timeout while something waits is ended; who is idle is not")
  func stalls() {
    var settings = EngineSettings()
    settings.creditBytes = 20
    settings.stallTimeout = .seconds(60)
    let rig = EngineRig(settings)
    for s in 2...4 { rig.subscribe(s, ref) }
    fill(rig, 3)
    rig.credit(4, 15)
    rig.credit(4, 15)
    rig.credit(4, 15)
    rig.pass(.seconds(50))
    rig.credit(3, 15)
    _ = rig.hear()
    rig.pass(.seconds(20))
    #expect(rig.hear() == ["end 2 stalled"])
    rig.pass(.seconds(3_600))
    #expect(rig.hear() == ["end 3 stalled"])
    fill(rig, 1, from: 4)
    #expect(rig.hear() == ["deliver 4 4 m4"])
  }

  @Test("A reader without follow ends at the head, one with a limit after it")
  func readers() {
    let rig = EngineRig()
    fill(rig, 5)
    rig.subscribe(2, ref, start: .sequence(4), follow: false)
    rig.subscribe(3, ref, start: .sequence(0), limit: 2)
    rig.subscribe(4, ref, limit: 1)
    rig.subscribe(5, ref, follow: false)
    fill(rig, 2, from: 6)
    #expect(
      rig.hear() == [
        "subscribed 2", "deliver 2 4 m4", "deliver 2 5 m5", "ended 2", "subscribed 3",
        "deliver 3 1 m1", "deliver 3 2 m2", "ended 3", "subscribed 4", "subscribed 5", "ended 5",
        "deliver 4 6 m6", "ended 4",
      ])
    #expect(rig.engine.counters.subscriptions == 0)
  }

  @Test("A start beyond the head waits for it; a second subscribe changes nothing")
  func future() {
    let rig = EngineRig()
    fill(rig, 2)
    rig.subscribe(2, ref, start: .sequence(5))
    rig.subscribe(2, ref, start: .sequence(1))
    fill(rig, 4, from: 3)
    #expect(rig.hear() == ["subscribed 2", "subscribed 2", "deliver 2 5 m5", "deliver 2 6 m6"])
    rig.turn { $0.receiveUnsubscribe(EngineRig.session(2), channel: ref, at: $1) }
    fill(rig, 1, from: 7)
    #expect(rig.hear() == [])
  }

  @Test(
    "A start at any number a peer may name harms nothing", arguments: [3, 1 << 62, 1 << 63, .max])
  func farFuture(_ start: UInt64) {
    var settings = EngineSettings()
    settings.creditBytes = 1
    let rig = EngineRig(settings)
    fill(rig, 2)
    rig.subscribe(2, ref, start: .sequence(start))
    rig.subscribe(3, ref, start: .live)
    fill(rig, 3, from: 3)
    #expect(sequences(rig.hear(), of: 2) == (start == 3 ? [3] : []))
    rig.turn { engine, now in
      engine.receiveClose(EngineRig.session(2), at: now)
    }
    #expect(rig.engine.counters.subscriptions == 1)
  }

  // MARK: replay

  @Test("A replay begins at the oldest commit of the window with few enough messages behind it")
  func replayStart() {
    var settings = EngineSettings()
    settings.replayWindow = .last(.seconds(100))
    settings.replayMessages = 6
    settings.replayBurst = 1_000
    let rig = EngineRig(settings)
    func commit(_ epoch: UInt64) {
      rig.publish(1, ref, "c\(epoch)", mls: .commit, epoch: epoch, token: 0)
    }
    func begin(_ session: Int) -> Int? {
      _ = rig.hear()
      rig.subscribe(session, ref, start: .replay, kind: .skytale)
      return sequences(rig.hear(), of: session).first
    }
    fill(rig, 3)
    #expect(begin(2) == nil)
    commit(0)  // 4
    fill(rig, 2)
    #expect(begin(3) == 4)
    rig.pass(.seconds(60))
    commit(1)  // 7
    #expect(begin(4) == 4)
    rig.pass(.seconds(60))
    // The first one has left the window.
    #expect(begin(5) == 7)
    commit(2)  // 8
    fill(rig, 5)
    // 7 has 6 behind it, 8 has 5.
    #expect(begin(6) == 8)
    fill(rig, 20)
    #expect(begin(7) == 8)
    rig.restart()
    #expect(begin(8) == 8)
    rig.pass(.seconds(101))
    #expect(begin(9) == nil)
  }

  @Test("A replay is paced until the head it found, and what comes meanwhile follows in order")
  func pacing() {
    var settings = EngineSettings()
    settings.replayWindow = .all
    settings.replayBurst = 10
    settings.replayInterval = .milliseconds(50)
    for tail in [0, 1 << 20] {
      settings.tailBytes = tail
      let rig = EngineRig(settings)
      fill(rig, 25)
      rig.subscribe(2, ref, start: .replay)
      var got = [sequences(rig.hear(), of: 2).count]
      fill(rig, 5, from: 26)
      for _ in 0..<4 {
        rig.pass(.milliseconds(50))
        got.append(sequences(rig.hear(), of: 2).count)
      }
      #expect(got == [10, 10, 10, 0, 0])
      fill(rig, 1, from: 31)
      #expect(sequences(rig.hear(), of: 2) == [31])
    }
  }

  @Test("Joining a channel of a million messages reads only what is replayed")
  func longChannel() {
    var settings = EngineSettings()
    settings.tailBytes = 0
    let rig = EngineRig(settings)
    for _ in 0..<20 {
      rig.turn { engine, now in
        for i in 0..<1_000 {
          engine.receivePublish(
            EngineRig.session(1), kind: .skytale, principal: EngineRig.principal("acme"),
            channel: ref,
            Publication(frame: EngineRig.frame("m\(i)"), hasSuffix: true, type: 1), at: now)
        }
      }
    }
    rig.publish(1, ref, "c", mls: .commit, epoch: 0, token: 0)
    _ = rig.hear()
    rig.subscribe(2, ref, start: .replay, kind: .skytale)
    #expect(rig.hear() == ["subscribed 2", "deliver 2 20001 c"])
    #expect(rig.readCount == 1)
  }

  // MARK: unarchived

  @Test("An unarchived queue is bounded: it drains in order, and beyond the bound the stream ends")
  func unarchivedQueue() {
    var settings = EngineSettings()
    settings.creditBytes = 20
    settings.unarchivedQueueBytes = 60
    let rig = EngineRig(settings)
    let live = EngineRig.channel("acme/ns/live", archived: false)
    rig.subscribe(2, live)
    rig.subscribe(3, live)
    for i in 1...4 { rig.publish(1, live, "m\(i)", token: 0) }
    rig.credit(3, 15)
    rig.credit(3, 15)
    rig.publish(1, live, "m5", token: 0)
    rig.publish(1, live, "m6", token: 0)
    let lines = rig.hear()
    #expect(sequences(lines, of: 3) == [1, 2, 3])
    #expect(lines.contains("end 2 stalled"))
    var got: [Int] = []
    for _ in 0..<5 {
      rig.credit(3, 15)
      got += sequences(rig.hear(), of: 3)
    }
    #expect(got == [4, 5, 6])
  }

  // MARK: damage

  @Test(
    "A damaged record is never passed over: what stands before it is served, then the stream ends")
  func damage() throws {
    var settings = EngineSettings()
    settings.tailBytes = 0
    let rig = EngineRig(settings)
    fill(rig, 5)
    let keys = rig.disk.rows(.records, prefix: ref.id.bytes).map(\.key)
    rig.disk.flip(.records, keys[3], bit: 500)
    rig.subscribe(2, ref, start: .sequence(1))
    #expect(
      rig.hear() == [
        "subscribed 2", "deliver 2 1 m1", "deliver 2 2 m2", "deliver 2 3 m3", "end 2 damaged",
      ])
    rig.disk.remove(.records, keys[0])
    rig.subscribe(3, ref, start: .sequence(1))
    #expect(rig.hear() == ["subscribed 3", "end 3 damaged"])
  }
}
