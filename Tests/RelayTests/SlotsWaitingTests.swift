import Base
import Ring
import Testing

@testable import Relay

@Suite("Which slots leave when", .timeLimit(.minutes(1)))
struct SlotsWaitingTests {
  private typealias Places = SlotsWaiting.Places

  /// As many slots of each size as there are, from the least number on; then what leaves, and the places taken.
  private func leave(
    _ waiting: inout SlotsWaiting, to target: NodeID, _ taken: inout [NodeID: Places],
    after seconds: Int64 = 0
  ) -> [UInt16] {
    var out: [UInt16] = []
    let now = Instant.zero + .seconds(seconds)
    while let slot = waiting.next(to: target, taken: taken, at: now) {
      out.append(slot)
      taken[target, default: Places()][waiting.size(slot)] += 1
    }
    return out
  }

  private func filled(_ sizes: [(SlotsWaiting.Size, Range<UInt16>)], to target: NodeID)
    -> SlotsWaiting
  {
    var waiting = SlotsWaiting()
    fill(&waiting, sizes, to: target)
    return waiting
  }

  private func fill(
    _ waiting: inout SlotsWaiting, _ sizes: [(SlotsWaiting.Size, Range<UInt16>)], to target: NodeID
  ) {
    for (size, slots) in sizes {
      for slot in slots.reversed() {
        waiting.looks[slot] = SlotsWaiting.Look(attempt: 1, size: size)
        waiting.add(slot, to: target)
      }
    }
  }

  @Test(
    "Slots in use go first, so many at once; empty ones when no small one is left, more at once")
  func order() {
    let to = NodeID(2)
    var waiting = filled([(.empty, 0..<300), (.small, 300..<340), (.large, 400..<420)], to: to)
    #expect(waiting.count == 360)
    var taken: [NodeID: Places] = [:]
    let first = leave(&waiting, to: to, &taken)
    #expect(first == Array(300..<332) + Array(400..<416))
    #expect(taken[to] == Places(empty: 0, small: 32, large: 16))
    // Two small ones and a large one have gone.
    taken[to] = Places(empty: 0, small: 30, large: 15)
    #expect(leave(&waiting, to: to, &taken) == [332, 333, 416])
    taken[to] = Places(empty: 0, small: 0, large: 16)
    #expect(leave(&waiting, to: to, &taken) == Array(334..<340))
    // The large ones take their time: empty ones do not wait for them.
    taken[to] = Places(empty: 0, small: 0, large: 16)
    #expect(leave(&waiting, to: to, &taken) == Array(0..<UInt16(Limits.moveEmptySlotsAtOnce)))
    #expect(waiting.count == 3 + 300 - Limits.moveEmptySlotsAtOnce)
  }

  @Test("A target whose places are taken keeps no slot from going to another")
  func targets() {
    let (one, other) = (NodeID(2), NodeID(3))
    var waiting = filled([(.large, 0..<40)], to: one)
    fill(&waiting, [(.large, 100..<140), (.empty, 200..<210)], to: other)
    #expect(waiting.targets == [one, other])
    var taken = [one: Places(empty: 0, small: 0, large: Limits.moveSlotsAtOnce)]
    #expect(leave(&waiting, to: one, &taken) == [])
    #expect(
      leave(&waiting, to: other, &taken)
        == Array(100..<100 + UInt16(Limits.moveSlotsAtOnce)) + Array(200..<210))
  }

  @Test("A slot that nobody could look into counts as one with much in it")
  func unknown() {
    var waiting = SlotsWaiting()
    waiting.add(7, to: NodeID(2))
    var taken: [NodeID: Places] = [:]
    #expect(waiting.size(7) == .large && leave(&waiting, to: NodeID(2), &taken) == [7])
    #expect(waiting.count == 0)
  }

  @Test("Small slots that go nowhere, as their target does not answer, keep no empty one elsewhere")
  func stuck() {
    let (dead, other) = (NodeID(2), NodeID(3))
    var waiting = filled([(.small, 0..<40)], to: dead)
    fill(&waiting, [(.empty, 200..<210)], to: other)
    var taken: [NodeID: Places] = [:]
    #expect(leave(&waiting, to: dead, &taken) == Array(0..<32))
    let patience = Limits.moveStuckSeconds
    #expect(leave(&waiting, to: other, &taken, after: patience - 1) == [])
    // One of them went.
    waiting.noteProgress(to: dead, at: .zero + .seconds(2))
    #expect(leave(&waiting, to: other, &taken, after: patience + 1) == [])
    #expect(leave(&waiting, to: other, &taken, after: patience + 2) == Array(200..<210))
    // The next ones that go there, with nothing before them, are waited for again.
    waiting.keepProgress(to: [other])
    taken = [:]
    fill(&waiting, [(.empty, 210..<220)], to: other)
    #expect(leave(&waiting, to: other, &taken, after: 60) == [])
    #expect(leave(&waiting, to: dead, &taken, after: 60) == Array(32..<40))
    #expect(leave(&waiting, to: other, &taken, after: 60 + patience - 1) == [])
    #expect(leave(&waiting, to: other, &taken, after: 60 + patience) == Array(210..<220))
  }
}
