import Foundation

/// What `loadgen` or `slimbench` says about a run; which members it holds depends on the mode.
struct LoadResult: Codable, Measured {
  var mode: String
  var messages: UInt64?
  var deliveries: UInt64?
  var msgsPerS: Double?
  var deliveriesPerS: Double?
  var srvUsPerDelivery: Double?
  var cliUsPerDelivery: Double?
  var ops: UInt64?
  var opsPerS: Double?
  var srvUsPerOp: Double?
  var p50Us: Double?
  var p99Us: Double?
  var lost: UInt64
  var gaps: UInt64?
  var dups: UInt64?
  var suffixGaps: UInt64?
  var badMacs: UInt64?
  var disorder: UInt64?
  var refused: UInt64?
  var refusal: String?
  var late: UInt64?
  var errs: UInt64
  var err: String
  var conns: Int?
  var connectPerS: Double?
  var broadcastAllSecs: Double?
  var serverCores: Double
  var clientCores: Double
  var foreignCores: Double

  var trouble: String? {
    var parts: [String] = []
    for (count, what) in [
      (lost, "lost"), (gaps, "missing in order"), (dups, "duplicates"),
      (suffixGaps, "gaps in the relay's sequence"), (disorder, "answers out of order"),
      (badMacs, "wrong header MACs"),
      (refused, "refused"), (errs, "errors"),
    ] as [(UInt64?, String)] {
      if let count, count > 0 { parts.append("\(count) \(what)") }
    }
    if let refusal, !refusal.isEmpty { parts.append(refusal) }
    if !err.isEmpty { parts.append(err) }
    return parts.isEmpty ? nil : parts.joined(separator: ", ")
  }
}

/// What a load client talks to.
protocol LoadTarget {
  var port: Int { get }
  /// Whose CPU time counts.
  var processes: [Int32] { get }
  /// Where the client's log goes.
  var directory: URL { get }
}

/// Runs a load client against a server.
struct Loader {
  let options: Options
  var program = "loadgen"

  /// One run, repeated while other processes are busy; the quietest counts.
  func run(_ mode: String, on server: some LoadTarget, _ arguments: [String]) throws -> LoadResult {
    try QuietMachine.quietest(options) { try runOnce(mode, on: server, arguments) }
  }

  /// Starts the client; the caller reads its lines.
  func start(_ mode: String, on server: some LoadTarget, _ arguments: [String]) throws
    -> ChildProcess
  {
    try ChildProcess(
      options.tools.appendingPathComponent(program),
      [
        mode, "--port", "\(server.port)", "--pids",
        server.processes.map(String.init).joined(separator: ","),
        "--seconds", "\(options.seconds)", "--warmup", "0.5",
      ] + arguments, directory: server.directory)
  }

  private func runOnce(
    _ mode: String, on server: some LoadTarget, _ arguments: [String]
  ) throws -> LoadResult {
    let client = try start(mode, on: server, arguments)
    // A later --seconds in `arguments` outdoes the options'.
    let line = try client.nextLine(timeoutSeconds: max(options.seconds, options.soakSeconds) + 180)
    try client.wait()
    return try Loader.decode(line)
  }

  static func decode(_ line: String) throws -> LoadResult {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(LoadResult.self, from: Data(line.utf8))
  }
}
