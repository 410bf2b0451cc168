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
    let found = (0..<UInt64(400)).contains { seed in
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

  @Test("What is held is bounded, in number, in bytes and in time")
  func bounds() {
    let id = SlotMoveID(
      slot: 1, attempt: 1, epoch: 1, source: NodeID(1), target: NodeID(2))
    var effects: [SlotSourceEffect] = []
    var source = SlotSource(
      id, head: 5, run: 2, resuming: Self.intent(id), at: .zero, into: &effects)
    #expect(effects.contains(.commit) && !source.serves)
    #expect(source.admit(bytes: Limits.moveHeldBytes + 1) == .refuse)
    for _ in 0..<Limits.moveHeldMessages { #expect(source.admit(bytes: 1) == .hold) }
    #expect(source.admit(bytes: 1) == .refuse)
    effects = []
    source.receiveTick(at: Instant.zero + .seconds(11), into: &effects)
    #expect(effects.contains(.refuseHeld) && effects.contains(.commit))
    #expect(source.admit(bytes: 1) == .refuse)
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
}
