import Glibc
import TestKit

/// `simulate --seed N [--seeds M] [--seconds T] [--plant NAME]`: real engines under a seed.
/// `simulate --nodes K --seed N [--minutes T] …`: a cluster of them.
/// `simulate gossip [--check NAME] [--seed N] [--seeds M] [--plant NAME]`: registry and gossip.
@main struct Main {
  static func main() {
    let words = Array(CommandLine.arguments.dropFirst())
    if words.first == "gossip" { return GossipRuns(words.dropFirst()).run() }
    if words.contains("--nodes") { return ClusterRuns(words).run() }
    engine()
  }

  private static func engine() {
    var seed: UInt64 = 1
    var seeds: UInt64 = 1
    var seconds: Int64 = 20
    var plant: SimPlant?
    var loud = false
    var trace: UInt64 = 0
    var arguments = CommandLine.arguments.dropFirst()
    while let name = arguments.popFirst() {
      func value() -> String { arguments.popFirst() ?? "" }
      switch name {
      case "--seed": seed = number(value(), name)
      case "--seeds": seeds = number(value(), name)
      case "--seconds": seconds = number(value(), name)
      case "--minutes": seconds = number(value(), name) * 60
      case "--verbose": loud = true
      case "--trace": trace = number(value(), name)
      case "--plant":
        let text = value()
        guard let named = SimPlant(rawValue: text) else {
          stop("no plant \(text): \(SimPlant.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        plant = named
      default:
        stop(
          "usage: simulate [--seed N] [--seeds M] [--seconds T | --minutes T] [--plant NAME] [--verbose] [--trace MESSAGE]"
        )
      }
    }
    run(
      seed: seed, seeds: max(seeds, 1), seconds: seconds, plant: plant, loud: loud || seeds == 1,
      trace: trace)
  }

  static func run(
    seed: UInt64, seeds: UInt64, seconds: Int64, plant: SimPlant?, loud: Bool, trace: UInt64
  ) {
    var digest: UInt64 = 0
    var (delivered, appended, crashes) = (0, 0, 0)
    for n in seed..<seed + seeds {
      let report = Simulation(seed: n, plant: plant, trace: trace).run(seconds: seconds)
      digest = digest &* 0x0000_0100_0000_01b3 ^ report.digest
      delivered += report.delivered
      appended += report.appended
      crashes += report.crashes
      if loud {
        print(
          "seed \(n): \(report.appended) appended, \(report.acknowledged) acknowledged,",
          "\(report.delivered) delivered, \(report.crashes) crashes; \(report.summary)")
      }
      guard report.violations.isEmpty else {
        for violation in report.violations { print("seed \(n): \(violation)") }
        let planted = plant.map { " --plant \($0.rawValue)" } ?? ""
        print("replay: swift run -c release simulate --seed \(n) --seconds \(seconds)\(planted)")
        exit(1)
      }
    }
    print(
      "\(seeds) seeds: \(appended) appended, \(delivered) delivered, \(crashes) crashes, 0 violations;",
      "digest \(String(digest, radix: 16))")
  }

  static func number<T: FixedWidthInteger>(_ text: String, _ name: String) -> T {
    guard let n = T(text), n >= 0 else { stop("\(name) wants a number") }
    return n
  }

  static func stop(_ text: String) -> Never {
    print(text)
    exit(2)
  }
}
