import Base
import TestKit
import Testing

@Suite("Simulation", .timeLimit(.minutes(5)))
struct SimulationTests {
  @Test("Nodes under a seed keep every promise", arguments: 1...12 as ClosedRange<UInt64>)
  func seeds(_ seed: UInt64) {
    let report = Simulation(seed: seed).run(seconds: 8)
    #expect(report.violations == [], "replay: swift run simulate --seed \(seed) --seconds 8")
  }

  @Test("The same seed gives the same run, another seed another")
  func deterministic() {
    let runs = [3, 3, 4].map { Simulation(seed: $0).run(seconds: 4) }
    #expect(runs[0].digest == runs[1].digest && runs[0].events == runs[1].events)
    #expect(runs[0].digest != runs[2].digest)
  }

  @Test("A planted bug is found", arguments: SimPlant.allCases)
  func plants(_ plant: SimPlant) {
    let found = (1...20 as ClosedRange<UInt64>).contains {
      !Simulation(seed: $0, plant: plant).run(seconds: 8).violations.isEmpty
    }
    #expect(found)
  }
}
