import TestKit
import Testing

/// A few seeds; `ops/dev/simulate cluster` runs many, and plants bugs.
@Suite("A simulated cluster", .timeLimit(.minutes(5)))
struct ClusterTests {
  @Test("Orders hold, nothing acknowledged is lost, maps and registries agree", arguments: 2...5)
  func seeds(_ nodes: Int) {
    for seed in 1...3 as ClosedRange<UInt64> {
      let report = ClusterWorld(seed: seed, nodes: nodes).run(seconds: 30)
      #expect(
        report.violations == [],
        "replay: swift run simulate --nodes \(nodes) --seed \(seed) --seconds 30")
    }
  }

  @Test("The same seed gives the same run, another seed another")
  func deterministic() {
    let runs = [3, 3, 4].map { ClusterWorld(seed: $0, nodes: 3).run(seconds: 20).digest }
    #expect(runs[0] == runs[1] && runs[0] != runs[2])
  }

  @Test("A planted bug is found")
  func planted() {
    #expect(
      ClusterWorld(seed: 1, nodes: 3, plant: .acknowledgedBeforeAppend).run(seconds: 20).violations
        != [])
  }
}
