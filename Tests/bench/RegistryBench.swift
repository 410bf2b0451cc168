import Foundation

/// A registry of many agents over gRPC: how fast they register and speak up, how fast they are found with one call
/// in flight and with 8 connections of 16, and what one costs in memory.
struct RegistryBench {
  let options: Options

  struct Load: Decodable, Encodable {
    var calls: Int
    var failed: Int
    var secs: Double
    var perS: Double
    var p50Us: Double
    var p99Us: Double
    var maxUs: Double
    var answerBytes: Int
  }

  struct Cell: Encodable {
    let what: String
    let inFlight: String
    let agents: Int
    let load: Load
    /// Bytes of memory for each agent, after all have registered.
    let bytesEach: Double
    var trouble: String? { load.failed > 0 ? "\(load.failed) calls of \(what) failed" : nil }
  }

  func run() throws -> [Cell] {
    let agents = options.quick ? 100_000 : 1_000_000
    let skills = agents / 10
    let server = try Server.registry(options)
    defer { server.end() }
    let base = server.memoryKiB
    var cells: [Cell] = []
    var each = 0.0
    func measure(
      _ what: String, _ operation: String, _ connections: Int, _ inFlight: Int,
      _ more: [String] = []
    ) throws {
      let client = try ChildProcess(
        options.tools.appendingPathComponent("registryload"),
        [
          operation, "--port", "\(server.port)", "--agents", "\(agents)", "--skills", "\(skills)",
          "--connections", "\(connections)", "--inflight", "\(inFlight)",
          "--seconds", "\(options.seconds)",
        ] + more, directory: server.directory)
      let line = try client.nextLine(timeoutSeconds: 600)
      try client.wait()
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      let load = try decoder.decode(Load.self, from: Data(line.utf8))
      if operation == "register" {
        each = Double(server.memoryKiB - base) * 1_024 / Double(agents)
      }
      say("registry: \(what), \(connections) x \(inFlight): \(Int(load.perS))/s")
      cells.append(
        Cell(
          what: what, inFlight: connections == 1 ? "\(inFlight)" : "\(connections)x\(inFlight)",
          agents: agents, load: load, bytesEach: each))
    }
    try measure("register, kept", "register", 8, 16)
    for (connections, inFlight) in [(1, 1), (8, 16)] {
      try measure("discover, 1 of 10", "discover", connections, inFlight, ["--limit", "1"])
      try measure("discover, 10 of 10", "discover", connections, inFlight, ["--limit", "10"])
      try measure("heartbeat", "heartbeat", connections, inFlight)
    }
    return cells
  }

  static func table(_ cells: [Cell]) -> Table {
    let count = cells.first?.agents ?? 0
    let each = cells.first?.bytesEach ?? 0
    var table = Table(
      title: "Registry of \(count) agents, \(Int(each)) bytes of memory each",
      columns: ["call", "in flight", "calls/s", "p50 us", "p99 us"])
    for cell in cells {
      table.rows.append([
        cell.what, cell.inFlight, Show.count(cell.load.perS), Show.fixed(cell.load.p50Us, 0),
        Show.fixed(cell.load.p99Us, 0),
      ])
    }
    return table
  }
}
