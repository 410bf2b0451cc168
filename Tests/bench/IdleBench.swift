import Foundation
import Glibc

/// Subscribers that wait, on 100 channels: what each costs in memory, how fast they connect, and how long a
/// message takes to all of them.
struct IdleBench {
  let options: Options

  struct Cell: Encodable {
    let server: String
    let baseKiB: Int
    let waitingKiB: Int
    let afterKiB: Int
    let load: LoadResult
  }

  func run() throws -> [Cell] {
    let limit = try visit(Server.limitGrpc(options), "limitgrpc")
    let off = try visit(Server.posthoused(archive: false, options), "posthoused, archive off")
    let on = try visit(Server.posthoused(archive: true, options), "posthoused, archive on")
    return [limit, off, on]
  }

  private func visit(_ server: Server, _ name: String) throws -> Cell {
    defer { server.end() }
    let base = server.memoryKiB
    let client = try Loader(options: options).start(
      "idle", on: server, ["--connections", "\(options.connections)", "--channels", "100"])
    _ = try client.nextLine(timeoutSeconds: 180)
    sleep(options.quick ? 1 : 3)
    let waiting = server.memoryKiB
    try client.send("go")
    let result = try Loader.decode(client.nextLine(timeoutSeconds: 180))
    try client.wait()
    say(
      "\(name): \(result.conns ?? 0) subscribers"
        + (result.trouble.map { ", TROUBLE: \($0)" } ?? ""))
    return Cell(
      server: name, baseKiB: base, waitingKiB: waiting, afterKiB: server.memoryKiB, load: result)
  }

  static func table(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "Idle subscribers",
      columns: [
        "server", "subscribers", "base MiB", "KiB each", "KiB each after broadcasts", "connects/s",
        "broadcast to all ms", "p50 / p99 us", "lost",
      ])
    for cell in cells {
      let count = Double(max(cell.load.conns ?? 0, 1))
      table.rows.append([
        cell.server,
        Show.count(count),
        Show.fixed(Double(cell.baseKiB) / 1_024, 1),
        Show.fixed(Double(cell.waitingKiB - cell.baseKiB) / count, 2),
        Show.fixed(Double(cell.afterKiB - cell.baseKiB) / count, 2),
        Show.count(cell.load.connectPerS),
        Show.fixed(cell.load.broadcastAllSecs.map { $0 * 1_000 }, 1),
        Show.latency(cell.load),
        "\(cell.load.lost)",
      ])
    }
    return table
  }
}
