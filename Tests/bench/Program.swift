import Foundation
import Glibc

/// Where a signal handler tells the watcher that the user wants to stop.
nonisolated(unsafe) private var interruptPipe: [Int32] = [-1, -1]

/// Measures a node beside what the machine can do at best, in the same run.
@main struct Program {
  /// Everything a run found out, for `-o json`.
  struct Report: Encodable {
    var machine: String
    var seconds: Double
    var relay: [RelayBench.Cell]?
    var durable: [DurableBench.Cell]?
    var idle: [IdleBench.Cell]?
    var slim: [SlimBench.Cell]?
    var slimIdle: [SlimIdleBench.Cell]?
    var slimSoak: [SlimSoakBench.Cell]?
    var registry: [RegistryBench.Cell]?
    var gossip: [GossipBench.Cell]?
    var cluster: [ClusterBench.Cell]?

    /// What went wrong with a node, a line each.
    var troubles: [String] {
      let relayed = (relay ?? []).compactMap { cell in
        cell.node.trouble.map { "\(cell.shape.name) \(cell.size) B: \($0)" }
      }
      let kept = (durable ?? []).compactMap { cell in
        cell.node.trouble.map { "\(cell.publishers) publishers \(cell.durability): \($0)" }
      }
      let waiting = (idle ?? []).compactMap { cell in
        cell.load.trouble.map { "\(cell.server): \($0)" }
      }
      return (registry ?? []).compactMap(\.trouble) + relayed + kept + waiting
        + (cluster ?? []).flatMap(\.troubles) + (slim ?? []).flatMap(\.troubles)
        + (slimIdle ?? []).compactMap(\.trouble) + (slimSoak ?? []).compactMap(\.trouble)
    }
  }

  static func main() {
    let arguments = Array(CommandLine.arguments.dropFirst())
    if arguments.contains("--help") || arguments.contains("-h") {
      print(Options.usage)
      return
    }
    guard let options = Options.parse(arguments) else {
      say(Options.usage)
      exit(2)
    }
    watchForInterrupts()
    do {
      // That one needs no node.
      if options.commands != ["gossip"] { try checkPrograms(options) }
      exit(try run(options))
    } catch {
      say("bench: \(error)")
      exit(1)
    }
  }

  private static func run(_ options: Options) throws -> Int32 {
    var report = Report(
      machine: QuietMachine.description(data: options.data), seconds: options.seconds)
    var tables: [Table] = []
    for command in options.commands {
      switch command {
      case "relay":
        let cells = try RelayBench(options).run()
        report.relay = cells
        tables.append(RelayBench.table(cells))
      case "durable":
        let cells = try DurableBench(options).run()
        report.durable = cells
        tables.append(DurableBench.table(cells))
      case "slim":
        let cells = try SlimBench(options).run()
        report.slim = cells
        tables += SlimBench.tables(cells)
      case "slim-idle":
        let cells = try SlimIdleBench(options).run()
        report.slimIdle = cells
        tables.append(SlimIdleBench.table(cells))
      case "slim-soak":
        let cells = try SlimSoakBench(options).run()
        report.slimSoak = cells
        tables.append(SlimSoakBench.table(cells))
      case "registry":
        let cells = try RegistryBench(options: options).run()
        report.registry = cells
        tables.append(RegistryBench.table(cells))
      case "gossip":
        let cells = try GossipBench(options: options).run()
        report.gossip = cells
        tables.append(GossipBench.table(cells))
      case "cluster":
        let cells = try ClusterBench(options).run()
        report.cluster = cells
        tables.append(ClusterBench.table(cells))
      default:
        let cells = try IdleBench(options: options).run()
        report.idle = cells
        tables.append(IdleBench.table(cells))
      }
    }
    if options.form == .json {
      let encoder = JSONEncoder()
      encoder.keyEncodingStrategy = .convertToSnakeCase
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      print(String(decoding: try encoder.encode(report), as: UTF8.self))
    } else {
      print(report.machine)
      print("\(Show.fixed(options.seconds, 1)) s each; ~ other processes were busy\n")
      for table in tables { print(table.render(options.form)) }
    }
    for trouble in report.troubles { say("TROUBLE \(trouble)") }
    guard let soak = report.slimSoak else { return report.troubles.isEmpty ? 0 : 1 }
    // The last word is the verdict's.
    fflush(nil)
    for line in SlimSoakBench.verdicts(soak, seconds: options.soakSeconds) { say(line) }
    return report.troubles.isEmpty && SlimSoakBench.isMet(soak) ? 0 : 1
  }

  private static func checkPrograms(_ options: Options) throws {
    let tools = ["loadgen", "slimbench", "limitgrpc", "limitlog", "registryload"].map {
      options.tools.appendingPathComponent($0)
    }
    for program in tools + [options.server]
    where !FileManager.default.isExecutableFile(atPath: program.path) {
      throw BenchTrouble("no \(program.path): swift build -c release")
    }
    #if DEBUG
      say("bench: this is a debug build; figures of a debug node mean nothing")
    #endif
  }

  /// Ends the children and removes their data when the user stops the benchmark.
  private static func watchForInterrupts() {
    guard pipe(&interruptPipe) == 0 else { return }
    for number in [SIGINT, SIGTERM] {
      signal(number) { _ in
        var byte: UInt8 = 0
        _ = write(interruptPipe[1], &byte, 1)
      }
    }
    signal(SIGPIPE, SIG_IGN)
    Thread {
      var byte: UInt8 = 0
      while read(interruptPipe[0], &byte, 1) != 1 {}
      ChildProcess.killAll()
      Server.removeDirectories()
      exit(130)
    }.start()
  }
}
