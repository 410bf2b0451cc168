import Testing

@testable import Loop

@Suite("where connections go") struct LoopPlacementTests {
  /// Loops with a load of so many thousandths each.
  private func places(
    _ count: Int, block: Int, loads: [Int], every nanoseconds: Int64 = 1_000_000
  ) -> [Int] {
    var placement = LoopPlacement(loops: loads.count, block: block)
    var now: Int64 = 1_000_000_000
    return (0..<count).map { _ in
      now += nanoseconds
      return placement.next(at: now) { Int64(loads[$0]) * now / 1_000 }
    }
  }

  @Test("on idle loops a block goes to one, the next block to the next") func blocks() {
    let found = places(48, block: 16, loads: [0, 0])
    #expect(
      found == Array(repeating: 0, count: 16) + Array(repeating: 1, count: 16)
        + Array(repeating: 0, count: 16))
  }

  @Test("blocks of one go round, whatever the load") func round() {
    #expect(places(6, block: 1, loads: [900, 0, 0]) == [0, 1, 2, 0, 1, 2])
  }

  @Test("a busy loop takes no more of a block, and an idle one gets the next") func busy() {
    // Looks come every 20 ms: from then on loop 0 is known to be busy.
    let found = places(200, block: 16, loads: [900, 100, 120])
    #expect(found.first == 0)
    #expect(found[40...].allSatisfy { $0 != 0 })
    let (one, two) = (found.count { $0 == 1 }, found.count { $0 == 2 })
    #expect(abs(one - two) <= 32)
  }

  @Test("when all are busy each takes one in turn") func allBusy() {
    let found = places(100, block: 16, loads: [950, 950])
    #expect(found[40...].count { $0 == 0 } == 30)
  }

  @Test("one loop takes all") func single() {
    #expect(places(40, block: 16, loads: [999]).allSatisfy { $0 == 0 })
  }

  @Test("a thousand connections spread evenly") func even() {
    let found = places(1_000, block: 16, loads: [10, 20, 15, 12])
    for loop in 0..<4 { #expect(abs(found.count { $0 == loop } - 250) <= 16) }
  }
}
