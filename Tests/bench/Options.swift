import Foundation

enum OutputForm: String { case table, json, markdown }

/// The command line of `bench`.
struct Options {
  var commands: [String] = []
  var quick = false
  var form = OutputForm.table
  var seconds = 3.0
  var server: URL
  /// Where `loadgen`, `slimbench`, `limitgrpc` and `limitlog` are.
  var tools: URL
  /// Where data directories and logs are made; must be a real disk for `durable`.
  var data = FileManager.default.temporaryDirectory
  var shapes = ["1x1", "1x10", "100x2"]
  var sizes = [100, 1_024, 16_384]
  var archive = [false, true]
  var paced = true
  var connections = 10_000
  /// Agents of `registry`.
  var agents = 1_000_000
  /// Published SLIM packages whose nodes `slim` runs beside ours: environments, or versions of .venv-slim.
  var peers: [String] = []
  /// How often `slim` goes round its servers for each cell.
  var rounds = 2
  /// Seconds of `slim-soak`.
  var soakSeconds = 60.0
  /// Runs of one measurement while other processes are busy.
  var tries = 3
  /// Seconds to wait for a quiet machine before each measurement.
  var quietWait = 20.0

  static let usage = """
    usage: bench relay|durable|idle|registry|gossip|cluster|all|slim|slim-idle|slim-soak [options]
      relay     messages through channels to their subscribers, beside limitgrpc
      durable   acknowledged publishes at `synced`, beside limitlog
      idle      memory of waiting subscribers, beside limitgrpc
      registry  a million agents: registering, finding, memory of each
      gossip    relays in a simulated net: rounds and bytes until all know all, and at rest
      cluster   publisher, channel's owner and subscribers on three nodes, beside all on the owner
      slim      both SLIM wires, beside the nodes of published packages, limitgrpc, nats-server
      slim-idle memory of waiting SLIM subscribers, beside the same
      slim-soak 1,000 channels of 10 subscribers at 10 messages a second each, beside limitgrpc
      --quick               1 KiB only, one second each, no fixed-rate runs
      -o table|json|markdown
      --secs S              seconds of each measurement (3)
      --server PATH         posthoused (beside bench)
      --tools DIR           loadgen, slimbench, limitgrpc, limitlog (beside bench)
      --data DIR            where data directories are made (the temporary directory)
      --peer 1.4.1,3.3.8    `slim`, `slim-idle`: environments with slim-bindings (or versions in
                            .venv-slim: ops/dev/slim_venv makes them); each one's family is measured
      --rounds N            `slim`, `cluster`: how often the servers take turns (2)
      --soak S              seconds of `slim-soak` (60)
      --shapes 1x1,1x10     channels x subscribers of `relay`, `cluster` and `slim`
      --sizes 100,1024      payload bytes of `relay`, `cluster` and `slim`
      --archive on|off|both (both)
      --no-pace             leave out the fixed-rate runs
      --connections N       subscribers of `idle` and `slim-idle` (10000)
      --agents N            agents of `registry` (1000000)
      --tries N             repeats while other processes are busy (3)
      --quiet-wait S        how long to wait for a quiet machine before each run (20)
    Exit codes: 0 done, 1 something was lost or failed or `slim-soak` missed what is asked, 2 usage.
    """

  /// Nil: the usage was wrong.
  static func parse(_ arguments: [String]) -> Options? {
    let here = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
      .deletingLastPathComponent()
    var options = Options(server: here.appendingPathComponent("posthoused"), tools: here)
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      guard options.take(argument, &rest) else { return nil }
    }
    let needsPeer = options.commands.contains("slim")
    guard !options.commands.isEmpty, !needsPeer || !options.peers.isEmpty else { return nil }
    return options
  }

  private init(server: URL, tools: URL) {
    self.server = server
    self.tools = tools
  }

  private mutating func take(_ argument: String, _ rest: inout ArraySlice<String>) -> Bool {
    switch argument {
    case "relay", "durable", "idle", "registry", "gossip", "cluster", "slim", "slim-idle",
      "slim-soak":
      commands.append(argument)
    case "all": commands += ["relay", "durable", "idle"]
    case "--quick":
      quick = true
      seconds = 1
      sizes = [1_024]
      paced = false
      connections = 1_000
      agents = 100_000
      rounds = 1
      soakSeconds = 5
      tries = 1
      quietWait = 2
    case "--no-pace": paced = false
    default:
      guard let value = rest.popFirst() else { return false }
      return takeValue(argument, value)
    }
    return true
  }

  private mutating func takeValue(_ option: String, _ value: String) -> Bool {
    switch option {
    case "-o", "--output":
      guard let form = OutputForm(rawValue: value) else { return false }
      self.form = form
    case "--secs":
      guard let seconds = Double(value), seconds > 0, seconds <= 600 else { return false }
      self.seconds = seconds
    case "--quiet-wait":
      guard let seconds = Double(value), seconds >= 0 else { return false }
      quietWait = seconds
    case "--server": server = URL(fileURLWithPath: value)
    case "--tools": tools = URL(fileURLWithPath: value)
    case "--data": data = URL(fileURLWithPath: value)
    case "--shapes": shapes = value.split(separator: ",").map(String.init)
    case "--sizes":
      sizes = value.split(separator: ",").compactMap { Int($0) }
      guard !sizes.isEmpty else { return false }
    case "--archive":
      guard let archive = ["on": [true], "off": [false], "both": [false, true]][value] else {
        return false
      }
      self.archive = archive
    case "--connections":
      guard let count = Int(value), count > 0 else { return false }
      connections = count
    case "--agents":
      guard let count = Int(value), count > 0 else { return false }
      agents = count
    case "--peer": peers = value.split(separator: ",").map(String.init)
    case "--rounds":
      guard let count = Int(value), count > 0 else { return false }
      rounds = count
    case "--soak":
      guard let seconds = Double(value), seconds > 0 else { return false }
      soakSeconds = seconds
    case "--tries":
      guard let count = Int(value), count > 0 else { return false }
      tries = count
    default: return false
    }
    return shapes.allSatisfy { Shape($0) != nil }
  }
}

/// Channels and the subscribers of each.
struct Shape: Encodable {
  let name: String
  let channels: Int
  let subscribers: Int

  init?(_ text: String) {
    let parts = text.split(separator: "x").compactMap { Int($0) }
    guard parts.count == 2, parts[0] > 0, parts[1] > 0, parts[0] * parts[1] <= 20_000 else {
      return nil
    }
    name = text
    channels = parts[0]
    subscribers = parts[1]
  }

  /// Messages on the way to each subscriber at full load: enough to keep the relay busy, and at most
  /// 512 KiB, which is what a node grants a session.
  func window(size: Int) -> Int {
    let most = channels >= 10 ? 16 : 256
    return max(4, min(most, (512 << 10) / max(size, 1)))
  }

  /// Messages a second of the fixed-rate run: well below what the yardstick can do.
  func rate(size: Int) -> Int {
    let rate = channels >= 10 ? 10_000 : subscribers > 1 ? 2_000 : 5_000
    return size > 4_096 ? rate / 5 : rate
  }
}
