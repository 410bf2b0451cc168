import Glibc
import Registry
import TestKit

/// `simulate gossip`: every promise of registry and gossip at its full count, or what is asked for.
struct GossipRuns {
  private static let plants: [(name: String, fault: RegistryFaults)] = [
    ("tombstone-dropped", .tombstoneDropped), ("lww-by-wall-clock", .wallClock),
    ("tie-by-arrival", .arrivalOrder),
  ]
  private var checks = GossipCheck.allCases
  private var seed: UInt64 = 1
  private var seeds: UInt64?
  private var plant: String?

  init(_ words: ArraySlice<String>) {
    var rest = words
    while let name = rest.popFirst() {
      let value = rest.popFirst() ?? ""
      switch name {
      case "--check":
        guard let check = GossipCheck(rawValue: value) else {
          Main.stop("checks: \(GossipCheck.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        checks = [check]
      case "--seed": seed = Main.number(value, name)
      case "--seeds": seeds = Main.number(value, name)
      case "--plant": plant = value
      default:
        Main.stop("usage: simulate gossip [--check NAME] [--seed N] [--seeds M] [--plant NAME]")
      }
    }
  }

  func run() {
    var faults: RegistryFaults = []
    if let plant {
      guard let found = GossipRuns.plants.first(where: { $0.name == plant }) else {
        Main.stop("plants: \(GossipRuns.plants.map(\.name).joined(separator: ", "))")
      }
      faults = found.fault
    }
    for check in checks {
      let count = max(1, seeds ?? check.fullCount)
      let outcome = check.run(seeds: seed...seed + count - 1, faults: faults)
      if let violation = outcome.violation {
        print("gossip \(check) seed \(outcome.seed): \(violation)")
        let planted = plant.map { " --plant \($0)" } ?? ""
        let which = outcome.seed > 0 ? " --seed \(outcome.seed) --seeds 1" : ""
        print("replay: swift run -c release simulate gossip --check \(check)\(which)\(planted)")
        exit(1)
      }
      print("gossip \(check): \(outcome.figures), 0 violations")
    }
  }
}
