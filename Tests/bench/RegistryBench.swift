import Foundation

/// A registry of many agents over gRPC: how fast they register and speak up, how fast they are found with one call
/// in flight and with 8 connections of 16, and what one costs in memory.
struct RegistryBench {
  let options: Options

  struct Load: Codable, Measured {
    var calls: Int
    var failed: Int
    var secs: Double
    var perS: Double
    var p50Us: Double
    var p99Us: Double
    var maxUs: Double
    var answerBytes: Int
    var srvUsPerCall: Double
    var cliUsPerCall: Double
    var serverCores: Double
    var clientCores: Double
    var foreignCores: Double
    var trouble: String? { failed > 0 ? "\(failed) calls failed" : nil }
  }

  struct Cell: Encodable {
    let what: String
    let inFlight: String
    let agents: Int
    let load: Load
    /// Bytes of memory for each agent, after all have registered.
    let bytesEach: Double
    var trouble: String? { load.trouble.map { "\(what): \($0)" } }
    var busy: Bool { load.foreignCores > QuietMachine.busyCores }
  }

  /// Ten agents have each skill.
  func run() throws -> [Cell] {
    let server = try Server.registry(options)
    defer { server.end() }
    let base = server.memoryKiB
    // Registering cannot be done twice.
    let registering = try visit(server, "register", 8, 16, [])
    let each = Double(server.memoryKiB - base) * 1_024 / Double(options.agents)
    var cells = [cell("register, kept", 8, 16, registering, each)]
    for (connections, inFlight) in [(1, 1), (8, 16)] {
      for (what, operation, more) in [
        ("discover, 1 of 10", "discover", ["--limit", "1"]),
        ("discover, 10 of 10", "discover", ["--limit", "10"]), ("heartbeat", "heartbeat", []),
      ] {
        let best = try QuietMachine.quietest(options) {
          try visit(server, operation, connections, inFlight, more)
        }
        say("registry: \(what), \(connections) x \(inFlight): \(Int(best.perS))/s")
        cells.append(cell(what, connections, inFlight, best, each))
      }
    }
    return cells
  }

  private func cell(
    _ what: String, _ connections: Int, _ inFlight: Int, _ load: Load, _ each: Double
  ) -> Cell {
    Cell(
      what: what, inFlight: connections == 1 ? "\(inFlight)" : "\(connections)x\(inFlight)",
      agents: options.agents, load: load, bytesEach: each)
  }

  private func visit(
    _ server: Server, _ operation: String, _ connections: Int, _ inFlight: Int, _ more: [String]
  ) throws -> Load {
    let client = try ChildProcess(
      options.tools.appendingPathComponent("registryload"),
      [
        operation, "--port", "\(server.port)", "--pids", "\(server.child.id)",
        "--agents", "\(options.agents)", "--skills", "\(max(options.agents / 10, 1))",
        "--connections", "\(connections)", "--inflight", "\(inFlight)",
        "--seconds", "\(options.seconds)",
      ] + more, directory: server.directory)
    let line = try client.nextLine(timeoutSeconds: 600)
    try client.wait()
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Load.self, from: Data(line.utf8))
  }

  static func table(_ cells: [Cell]) -> Table {
    let count = cells.first?.agents ?? 0
    let each = cells.first?.bytesEach ?? 0
    var table = Table(
      title: "Registry of \(Show.count(Double(count))) agents, \(Int(each)) bytes of memory each",
      columns: ["call, in flight", "calls/s", "p50 / p99 us", "CPU us/call", "client's"])
    for cell in cells {
      table.rows.append([
        "\(cell.what), \(cell.inFlight)\(cell.busy ? " ~" : "")", Show.count(cell.load.perS),
        "\(Show.fixed(cell.load.p50Us, 0)) / \(Show.fixed(cell.load.p99Us, 0))",
        Show.fixed(cell.load.srvUsPerCall, 2), Show.fixed(cell.load.cliUsPerCall, 2),
      ])
    }
    return table
  }
}
