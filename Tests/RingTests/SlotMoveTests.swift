import Base
import FoundationEssentials
import Testing

@testable import Ring

/// 10,000 in `make proof`, fewer in the suite.
private let worlds =
  ProcessInfo.processInfo.environment["POSTHOUSE_TEST_HISTORIES"].flatMap { Int($0) }
  .map { $0 * 10 } ?? 300

@Suite("Handing a slot over", .timeLimit(.minutes(30)))
struct SlotMoveTests {
  @Test("Undisturbed: copied while live, sealed for a moment, opened, nothing lost")
  func undisturbed() {
    var world = MoveWorld(seed: 1, plant: nil)
    world.calm = true
    world.run(milliseconds: 5_000)
    #expect(world.troubles == [])
    #expect(world.opened && world.sourceEnded)
    #expect(world.longestStall <= 200, "\(world.longestStall) ms")
    #expect(world.published.count > 100)
  }

  @Test("Crashes, cuts, cancels and a dead metadata store at every step leave exactly one owner")
  func disturbed() {
    var opened = 0
    var cancelled = 0
    for seed in 0..<UInt64(worlds) {
      var world = MoveWorld(seed: seed, plant: nil)
      world.run(milliseconds: 20_000)
      world.settle()
      #expect(world.troubles == [], "seed \(seed)")
      if world.opened { opened += 1 } else { cancelled += 1 }
    }
    #expect(opened > worlds / 5 && cancelled > worlds / 20, "\(opened) opened, \(cancelled) stayed")
  }

  @Test("A planted fault of the host is found", arguments: MovePlant.allCases)
  func planted(_ plant: MovePlant) {
    let found = (0..<UInt64(1_500)).contains { seed in
      var world = MoveWorld(seed: seed, plant: plant)
      world.run(milliseconds: 20_000)
      world.settle()
      return !world.troubles.isEmpty
    }
    #expect(found)
  }

  static func intent(_ id: SlotMoveID) -> SlotIntent {
    SlotIntent(move: id, sealedAt: 5, seal: SlotSeal(run: 1, count: 1))
  }

  @Test("Complete as of one seal is not complete as of that of a source that began again")
  func seals() {
    let id = SlotMoveID(slot: 1, attempt: 1, epoch: 1, source: NodeID(1), target: NodeID(2))
    let old = SlotSeal(run: 1, count: 1)
    let new = SlotSeal(run: 2, count: 1)
    var effects: [SlotTargetEffect] = []
    var target = SlotTarget(id, have: 5, complete: (old, 5), at: .zero, into: &effects)
    target.receive(.sealed(at: 7, seal: new), at: .zero, into: &effects)
    target.receiveStateWritten(seal: new, at: .zero, into: &effects)
    #expect(!effects.contains(.send(.complete(seal: new))) && target.phase == .complete)
    target.receiveWritten(upTo: 7, at: .zero, into: &effects)
    #expect(effects.last == .writeComplete(at: 7, seal: new))
    target.receiveCompleteWritten(seal: new, at: .zero, into: &effects)
    #expect(effects.last == .send(.complete(seal: new)))
  }

  @Test("What is held is bounded, in number, in bytes and in time, and kept in its order")
  func bounds() {
    var hold = SlotHold<Int>(serial: 7)
    let tooLarge = hold.hold(0, bytes: Limits.moveHeldBytes + 1)
    #expect(!tooLarge)
    for number in 0..<Limits.moveHeldMessages {
      let isKept = hold.hold(number, bytes: 1)
      #expect(isKept)
    }
    let tooMany = hold.hold(0, bytes: 1)
    #expect(!tooMany && hold.take() == Array(0..<Limits.moveHeldMessages))
    var (large, small) = (hold, hold)
    let isLarge = large.hold(1, bytes: Limits.moveHeldBytes)
    let isMore = large.hold(2, bytes: 1)
    #expect(isLarge && !isMore && large.items == [1])
    // The time of another holding.
    let isKept = small.hold(3, bytes: 9)
    #expect(isKept && small.expire(6) == [] && !small.hasGivenUp && small.items == [3])
    #expect(small.expire(7) == [3] && small.hasGivenUp)
    let isLate = small.hold(4, bytes: 1)
    #expect(!isLate && small.items == [])
  }

  @Test("What is held goes on waiting, and counting, when the slot is held anew")
  func heldAnew() {
    var hold = SlotHold<Int>(serial: 7, mostItems: 9, mostBytes: 10)
    var isKept = hold.hold(1, bytes: 8)
    #expect(isKept)
    var next = SlotHold(serial: 8, after: hold, mostItems: 9, mostBytes: 10)
    isKept = next.hold(2, bytes: 3)
    #expect(!isKept)
    isKept = next.hold(2, bytes: 2)
    #expect(isKept && next.expire(7) == [] && next.items == [1, 2])
    #expect(next.expire(8) == [1, 2])
    // The time begins again.
    var last = SlotHold(serial: 9, after: next)
    isKept = last.hold(5, bytes: 1)
    #expect(isKept && last.take() == [5])
  }

  @Test("An intent found at start waits for a map as new as the try")
  func staleMap() {
    let id = SlotMoveID(slot: 1, attempt: 9, epoch: 3, source: NodeID(1), target: NodeID(2))
    var effects: [SlotSourceEffect] = []
    var source = SlotSource(
      id, head: 5, run: 2, resuming: Self.intent(id), at: .zero, into: &effects)
    let stable = RingSlot(placement: Placement(owner: NodeID(1), followers: []), epoch: 3)
    source.receiveMap(stable, revision: 8, fresh: false, at: .zero, into: &effects)
    #expect(!source.serves && source.phase == .committing)
    source.receiveMap(stable, revision: 10, fresh: false, at: .zero, into: &effects)
    #expect(source.phase == .ended && effects.contains(.unseal) && effects.contains(.clearIntent))
  }

  private static let id = SlotMoveID(
    slot: 1, attempt: 1, epoch: 1, source: NodeID(1), target: NodeID(2))

  private func at(_ milliseconds: Int64) -> Instant { Instant.zero + .milliseconds(milliseconds) }

  /// The map as it asks for the move, as an answer.
  private func answer(
    _ source: inout SlotSource, _ time: Int64, _ effects: inout [SlotSourceEffect]
  ) {
    let asked = RingSlot(
      placement: Placement(owner: NodeID(1), followers: []), epoch: 1,
      move: RingMove(target: Placement(owner: NodeID(2), followers: []), attempt: 1))
    source.receiveMap(asked, revision: 1, fresh: true, at: at(time), into: &effects)
  }

  @Test("Few records of many bytes are copied before the slot is sealed, not under its seal")
  func largeRecords() {
    var effects: [SlotSourceEffect] = []
    var source = SlotSource(
      Self.id, head: 20, behind: .max, run: 2, at: .zero, into: &effects)
    source.receive(.ready(have: 0), at: at(1), into: &effects)
    #expect(source.phase == .copying && effects.contains(.copy(from: 1, through: 20)))
    source.receive(.copied(upTo: 10), at: at(40), into: &effects)
    source.receiveHead(20, behind: Limits.moveSealBytes + 1, at: at(60), into: &effects)
    #expect(source.phase == .copying && !effects.contains(.readMap))
    source.receiveHead(21, behind: Limits.moveSealBytes, at: at(80), into: &effects)
    #expect(source.phase == .asking && effects.contains(.readMap))
    // What comes while the map is asked does not wait for the seal.
    effects = []
    source.receiveHead(30, behind: 1, at: at(90), into: &effects)
    #expect(effects == [.copy(from: 22, through: 30)])
  }

  @Test("A slot that is written to faster than it is copied is sealed in the end, not at once")
  func busySlot() throws {
    var effects: [SlotSourceEffect] = []
    let lag = Limits.moveSealLag * 3
    var source = SlotSource(
      Self.id, head: lag, behind: 1, run: 2, at: .zero, into: &effects)
    source.receive(.ready(have: 0), at: .zero, into: &effects)
    var asked: Int64?
    for step in 1...60 where asked == nil {
      let time = Int64(step) * 1_000
      source.receiveHead(source.head + 1_000, behind: 1, at: at(time), into: &effects)
      source.receive(.copied(upTo: source.head - lag), at: at(time), into: &effects)
      if source.phase == .asking { asked = time }
    }
    let time = try #require(asked)
    #expect(time >= Limits.moveLagSeconds * 2_000 && time < Limits.moveLagSeconds * 4_000)
  }

  @Test(
    "A seal that failed is given twice the time when it is tried again, up to what publishes wait")
  func slowSeals() {
    var effects: [SlotSourceEffect] = []
    var source = SlotSource(Self.id, head: 0, run: 2, at: .zero, into: &effects)
    var time: Int64 = 0
    var lasted: [Int64] = []
    for _ in 0..<5 {
      source.receive(.ready(have: 0), at: at(time), into: &effects)
      while source.phase != .asking {
        #expect(source.serves)
        if source.phase == .copying { #expect(source.isResting(at: at(time))) }
        time += 20
        source.receiveHead(0, behind: 0, at: at(time), into: &effects)
      }
      #expect(!source.isResting(at: at(time)))
      answer(&source, time, &effects)
      #expect(source.phase == .sealing)
      let sealed = time
      effects = []
      while !effects.contains(.unseal) {
        time += 20
        source.receiveTick(at: at(time), into: &effects)
      }
      lasted.append(time - sealed)
      #expect(source.isResting(at: at(time)))
    }
    let once = Limits.moveSealMilliseconds
    #expect(lasted == [once, once * 2, once * 4, once * 4, once * 4])
    #expect(once * 4 < Int64(Limits.publishHoldSeconds) * 1_000)
  }

  @Test("A target that lost what it knew is offered the slot again, however busy the slot is")
  func forgetfulTarget() {
    var effects: [SlotSourceEffect] = []
    var source = SlotSource(
      Self.id, head: 9_000, behind: .max, run: 2, at: .zero, into: &effects)
    source.receive(.ready(have: 0), at: .zero, into: &effects)
    effects = []
    for step in 1...60 {
      let now = at(Int64(step) * 20)
      source.receiveHead(9_000 + UInt64(step), behind: .max, at: now, into: &effects)
      source.receiveTick(at: now, into: &effects)
    }
    #expect(effects.contains { if case .send(.offer) = $0 { true } else { false } })
  }
}
