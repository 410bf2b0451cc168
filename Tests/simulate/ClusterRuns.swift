import Glibc
import TestKit

/// `simulate --seed N --nodes K [--seeds M] [--minutes T | --seconds T] [--plant NAME]`: a cluster under a seed.
struct ClusterRuns {
  private var seed: UInt64 = 1
  private var seeds: UInt64 = 1
  private var nodes = 3
  private var seconds: Int64 = 60
  private var plant: ClusterPlant?
  private var loud = false
  private var telling = false

  init(_ words: [String]) {
    var rest = words[...]
    while let name = rest.popFirst() {
      if name == "--verbose" {
        loud = true
        continue
      }
      if name == "--trace" {
        telling = true
        continue
      }
      let value = rest.popFirst() ?? ""
      switch name {
      case "--seed": seed = Main.number(value, name)
      case "--seeds": seeds = max(1, Main.number(value, name))
      case "--nodes": nodes = Main.number(value, name)
      case "--minutes": seconds = Main.number(value, name) * 60
      case "--seconds": seconds = Main.number(value, name)
      case "--plant":
        guard let named = ClusterPlant(rawValue: value) else {
          Main.stop("plants: \(ClusterPlant.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        plant = named
      default:
        Main.stop(
          "usage: simulate --nodes K [--seed N] [--seeds M] [--minutes T | --seconds T] [--plant NAME] [--verbose] [--trace]"
        )
      }
    }
  }

  func run() {
    var (appended, delivered, crashes, moves) = (0, 0, 0, 0)
    var digest: UInt64 = 0
    for n in seed..<seed + seeds {
      let report = ClusterWorld(seed: n, nodes: nodes, plant: plant, telling: telling).run(
        seconds: seconds)
      digest = digest &* 0x0000_0100_0000_01b3 ^ report.digest
      appended += report.appended
      delivered += report.delivered
      crashes += report.crashes
      moves += report.moves
      if loud || seeds == 1 {
        print(
          "seed \(n): \(report.appended) appended, \(report.delivered) delivered,",
          "\(report.crashes) crashes, \(report.moves) slots moved; \(report.summary)")
      }
      guard report.violations.isEmpty else {
        for violation in report.violations { print("seed \(n): \(violation)") }
        let planted = plant.map { " --plant \($0.rawValue)" } ?? ""
        print(
          "replay: swift run -c release simulate --nodes \(nodes) --seed \(n) --seconds \(seconds)\(planted)"
        )
        exit(1)
      }
    }
    print(
      "cluster, \(nodes) nodes, \(seeds) seeds: \(appended) appended, \(delivered) delivered,",
      "\(crashes) crashes, \(moves) slots moved, 0 violations; digest \(String(digest, radix: 16))")
  }
}
