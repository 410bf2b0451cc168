import Foundation

/// Acknowledged publishes beside the yardsticks: log - node - log - RocksDB, with 1 and 64 publishers.
struct DurableBench {
  let options: Options
  private let loader: Loader

  init(_ options: Options) {
    self.options = options
    loader = Loader(options: options)
  }

  struct Cell: Encodable {
    let publishers: Int
    let durability: String
    let limitBefore: LoadResult
    let node: LoadResult
    let limitAfter: LoadResult
    let rocksdb: LoadResult?
    var quiet: Bool {
      [limitBefore, node, limitAfter].allSatisfy { $0.foreignCores <= QuietMachine.busyCores }
    }
  }

  func run() throws -> [Cell] {
    var cells: [Cell] = []
    for publishers in [1, 64] {
      var log = try visit(Server.limitLog("prealloc", options), "rawdurable", publishers)
      for durability in ["synced", "written"] {
        let node = try visit(
          Server.posthoused(archive: true, options), "publish", publishers, durability)
        let after = try visit(Server.limitLog("prealloc", options), "rawdurable", publishers)
        // RocksDB's own floor stands beside what it bounds: the synced writes.
        let rocksdb =
          durability == "synced"
          ? try visit(Server.limitLog("rocksdb", options), "rawdurable", publishers) : nil
        cells.append(
          Cell(
            publishers: publishers, durability: durability, limitBefore: log, node: node,
            limitAfter: after, rocksdb: rocksdb))
        log = after
      }
    }
    return cells
  }

  private func visit(
    _ server: Server, _ mode: String, _ publishers: Int, _ durability: String? = nil
  ) throws -> LoadResult {
    defer { server.end() }
    var load = ["--connections", "\(publishers)", "--channels", "\(publishers)", "--size", "1024"]
    if let durability { load += ["--durability", durability] }
    let result = try loader.run(mode, on: server, load)
    say(
      "\(publishers) publishers, \(server.child.name) \(durability ?? ""): "
        + "\(Show.count(result.opsPerS)) acks/s, p50 \(Show.fixed(result.p50Us, 0)) us"
        + (result.trouble.map { ", TROUBLE: \($0)" } ?? ""))
    return result
  }

  static func table(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "Durable",
      columns: [
        "publishers, durability", "acks/s", "p50 / p99 us", "CPU us/ack", "log limit before, after",
        "of log limit", "RocksDB limit", "of RocksDB limit", "lost",
      ])
    for cell in cells {
      let limit = Show.mean(cell.limitBefore.opsPerS, cell.limitAfter.opsPerS)
      table.rows.append([
        "\(cell.publishers), \(cell.durability)\(cell.quiet ? "" : " ~")",
        Show.count(cell.node.opsPerS),
        Show.latency(cell.node),
        Show.fixed(cell.node.srvUsPerOp, 1),
        "\(Show.count(cell.limitBefore.opsPerS)), \(Show.count(cell.limitAfter.opsPerS))",
        Show.ratio(cell.node.opsPerS, to: limit),
        Show.count(cell.rocksdb?.opsPerS),
        Show.ratio(cell.node.opsPerS, to: cell.rocksdb?.opsPerS),
        "\(cell.node.lost)",
      ])
    }
    return table
  }
}
