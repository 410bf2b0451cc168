import Foundation
import Glibc

/// Subscribers that wait, on 100 channels, over both SLIM wires: what each costs in memory.
struct SlimIdleBench {
  let options: Options
  private let loader: Loader

  init(_ options: Options) {
    self.options = options
    loader = Loader(options: options, program: "slimbench")
  }

  struct Cell: Encodable {
    let server: String
    let family: SlimFamily
    let baseKiB: Int
    let waitingKiB: Int
    let load: LoadResult
    let ours: Bool

    var kibEach: Double { Double(waitingKiB - baseKiB) / Double(max(load.conns ?? 0, 1)) }
    var demand: Demand? { ours ? Demand(kibEach, to: 1, atMost: 24) : nil }
    var trouble: String? { load.trouble.map { "idle \(family.rawValue) \(server): \($0)" } }
  }

  func run() throws -> [Cell] {
    let peers = try options.peers.map { try SlimPeer($0, options) }
    var cells: [Cell] = []
    for family in [SlimFamily.a, .b] {
      cells.append(
        try visit(Server.limitGrpc(options), "limitgrpc", family, ours: false, ["--yardstick"]))
      for archive in options.archive {
        let name = "posthoused, archive \(archive ? "on" : "off")"
        cells.append(
          try visit(Server.posthoused(archive: archive, options), name, family, ours: true))
      }
      for peer in peers where peer.family == family {
        cells.append(try visit(peer.start(options), "SLIM \(peer.version)", family, ours: false))
      }
    }
    return cells
  }

  private func visit(
    _ server: Server, _ name: String, _ family: SlimFamily, ours: Bool, _ more: [String] = []
  ) throws -> Cell {
    defer { server.end() }
    let base = server.memoryKiB
    let client = try loader.start(
      "idle", on: server,
      [
        "--family", family.rawValue, "--connections", "\(options.connections)", "--channels", "100",
        "--size", "100",
      ] + more)
    _ = try client.nextLine(timeoutSeconds: 180)
    sleep(options.quick ? 1 : 3)
    let waiting = server.memoryKiB
    try client.send("go")
    let result = try Loader.decode(client.nextLine(timeoutSeconds: 180))
    try client.wait()
    let cell = Cell(
      server: name, family: family, baseKiB: base, waitingKiB: waiting, load: result, ours: ours)
    say(
      "\(family.rawValue) \(name): \(result.conns ?? 0) subscribers, "
        + "\(Show.fixed(cell.kibEach, 2)) KiB each"
        + (cell.trouble.map { ", TROUBLE: \($0)" } ?? ""))
    return cell
  }

  static func table(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "SLIM, idle subscribers",
      columns: [
        "wire, server", "subscribers", "base MiB", "KiB each", "asked", "connects/s",
        "broadcast to all ms", "p50 / p99 us", "lost",
      ])
    for cell in cells {
      table.rows.append([
        "\(cell.family.rawValue) \(cell.server)",
        Show.count(Double(cell.load.conns ?? 0)),
        Show.fixed(Double(cell.baseKiB) / 1_024, 1),
        Show.fixed(cell.kibEach, 2),
        Show.demand(cell.demand),
        Show.count(cell.load.connectPerS),
        Show.fixed(cell.load.broadcastAllSecs.map { $0 * 1_000 }, 1),
        Show.latency(cell.load),
        "\(cell.load.lost)",
      ])
    }
    return table
  }
}

/// A thousand channels of ten subscribers at ten messages a second each, for a minute.
struct SlimSoakBench {
  let options: Options
  private let loader: Loader

  init(_ options: Options) {
    self.options = options
    var once = options
    // A minute of load is not repeated because something else ran.
    once.tries = 1
    loader = Loader(options: once, program: "slimbench")
  }

  struct Cell: Encodable {
    let family: SlimFamily
    let archive: Bool
    let limitBefore: LoadResult
    let node: LoadResult
    let limitAfter: LoadResult

    /// Our 99th percentile against the yardstick's.
    var demand: Demand? {
      Demand(node.p99Us, to: Show.mean(limitBefore.p99Us, limitAfter.p99Us), atMost: 3)
    }
    var trouble: String? { node.trouble.map { "soak \(name): \($0)" } }
    var name: String { "\(family.rawValue), archive \(archive ? "on" : "off")" }

    /// Everything delivered, at the rate it was published (as far as the machine goes at all), and in time.
    var met: Bool {
      let possible = Show.mean(limitBefore.deliveriesPerS, limitAfter.deliveriesPerS) ?? .infinity
      return node.trouble == nil && demand?.met == true
        && (node.deliveriesPerS ?? 0) >= 0.99 * min(SlimSoakBench.deliveriesPerS, possible)
    }
    var verdict: String {
      "\(met ? "MET" : "MISSED") soak \(name): \(Show.count(node.deliveriesPerS)) deliveries/s of "
        + "\(Show.count(SlimSoakBench.deliveriesPerS)), \(node.trouble ?? "nothing lost"), p99 "
        + "\(Show.fixed(node.p99Us, 0)) us, \(Show.fixed(demand?.ratio, 2)) times limitgrpc's "
        + "(\(Show.fixed(limitBefore.p99Us, 0)) before, \(Show.fixed(limitAfter.p99Us, 0)) after; "
        + "at most 3)"
    }
  }

  static let deliveriesPerS = 100_000.0

  /// What is asked is asked with the archive off.
  static func isMet(_ cells: [Cell]) -> Bool { cells.allSatisfy { $0.archive || $0.met } }

  /// A line for each cell, and one for all.
  static func verdicts(_ cells: [Cell], seconds: Double) -> [String] {
    func met(_ archive: Bool) -> String {
      let some = cells.filter { $0.archive == archive }
      return "archive \(archive ? "on" : "off") \(some.count { $0.met }) of \(some.count)"
    }
    return cells.map(\.verdict) + [
      "\(isMet(cells) ? "MET" : "MISSED") slim-soak: \(met(false)) (asked), \(met(true)); "
        + "\(Show.fixed(seconds, 0)) s each"
    ]
  }

  func run() throws -> [Cell] {
    var cells: [Cell] = []
    for family in [SlimFamily.a, .b] {
      var limit = try visit(Server.limitGrpc(options), "limitgrpc", family, ["--yardstick"])
      for archive in options.archive {
        let node = try visit(
          Server.posthoused(archive: archive, options),
          "posthoused, archive \(archive ? "on" : "off")", family)
        let after = try visit(Server.limitGrpc(options), "limitgrpc", family, ["--yardstick"])
        cells.append(
          Cell(family: family, archive: archive, limitBefore: limit, node: node, limitAfter: after))
        limit = after
      }
    }
    return cells
  }

  private func visit(
    _ server: Server, _ name: String, _ family: SlimFamily, _ more: [String] = []
  ) throws -> LoadResult {
    defer { server.end() }
    let result = try loader.run(
      "fanout", on: server,
      [
        "--family", family.rawValue, "--channels", "1000", "--subscribers", "10",
        "--rate", "10000", "--size", "100", "--seconds", "\(options.soakSeconds)",
      ] + more)
    say(
      "soak \(family.rawValue) \(name): \(Show.count(result.deliveriesPerS)) deliveries/s, p50 / p99 "
        + Show.latency(result) + " us" + (result.trouble.map { ", TROUBLE: \($0)" } ?? ""))
    return result
  }

  static func table(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "SLIM, 1,000 channels of 10 at 10 messages a second each",
      columns: [
        "wire, archive", "deliveries/s", "p50 / p99 us", "limitgrpc's before, after", "p99 ratio",
        "node cores", "lost",
      ])
    for cell in cells {
      table.rows.append([
        "\(cell.family.rawValue), \(cell.archive ? "on" : "off")",
        Show.count(cell.node.deliveriesPerS),
        Show.latency(cell.node),
        "\(Show.latency(cell.limitBefore)), \(Show.latency(cell.limitAfter))",
        Show.demand(cell.demand),
        Show.fixed(cell.node.serverCores, 2),
        "\(cell.node.lost)",
      ])
    }
    return table
  }
}
