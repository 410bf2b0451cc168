import Foundation

/// The relay beside the yardstick: limit - node - limit - node - limit for each shape and size.
struct RelayBench {
  let options: Options
  private let loader: Loader

  init(_ options: Options) {
    self.options = options
    loader = Loader(options: options)
  }

  /// One server's visit: as fast as the window allows, then at a fixed rate.
  struct Visit: Encodable {
    let full: LoadResult
    let paced: LoadResult?
    var trouble: String? { full.trouble ?? paced?.trouble }
    var quiet: Bool { full.foreignCores <= QuietMachine.busyCores }
  }

  struct Cell: Encodable {
    let shape: Shape
    let size: Int
    let archive: Bool
    let limitBefore: Visit
    let node: Visit
    let limitAfter: Visit
  }

  func run() throws -> [Cell] {
    var cells: [Cell] = []
    for shape in options.shapes.compactMap({ Shape($0) }) {
      for size in options.sizes {
        var limit = try visit(Server.limitGrpc(options), shape, size, "limitgrpc")
        for archive in options.archive {
          let name = "posthoused, archive \(archive ? "on" : "off")"
          let node = try visit(
            Server.posthoused(archive: archive, options), shape, size, name)
          let after = try visit(Server.limitGrpc(options), shape, size, "limitgrpc")
          cells.append(
            Cell(
              shape: shape, size: size, archive: archive, limitBefore: limit, node: node,
              limitAfter: after))
          limit = after
        }
      }
    }
    return cells
  }

  private func visit(
    _ server: Server, _ shape: Shape, _ size: Int, _ name: String
  ) throws -> Visit {
    defer { server.end() }
    let load = [
      "--channels", "\(shape.channels)", "--subscribers", "\(shape.subscribers)",
      "--size", "\(size)",
    ]
    let full = try loader.run(
      "fanout", on: server, load + ["--window", "\(shape.window(size: size))"])
    var paced: LoadResult?
    if options.paced && full.trouble == nil {
      paced = try loader.run("fanout", on: server, load + ["--rate", "\(shape.rate(size: size))"])
    }
    let visit = Visit(full: full, paced: paced)
    say(
      "\(shape.name) \(size) B \(name): \(Show.count(full.deliveriesPerS)) deliveries/s, "
        + "\(Show.fixed(full.srvUsPerDelivery, 2)) us CPU each"
        + (visit.trouble.map { ", TROUBLE: \($0)" } ?? ""))
    return visit
  }

  static func table(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "Relay",
      columns: [
        "shape, size, archive", "msgs/s", "deliveries/s", "limit before, after", "of limit",
        "CPU us/delivery", "of limit's", "p50 / p99 us full", "p50 / p99 us paced", "limit's paced",
        "lost",
      ])
    for cell in cells {
      let node = cell.node.full
      let before = cell.limitBefore.full
      let after = cell.limitAfter.full
      let quiet = cell.node.quiet && cell.limitBefore.quiet && cell.limitAfter.quiet
      let mark = quiet ? "" : " ~"
      table.rows.append([
        "\(cell.shape.name), \(cell.size) B, \(cell.archive ? "on" : "off")\(mark)",
        Show.count(node.msgsPerS),
        Show.count(node.deliveriesPerS),
        "\(Show.count(before.deliveriesPerS)), \(Show.count(after.deliveriesPerS))",
        Show.ratio(node.deliveriesPerS, to: Show.mean(before.deliveriesPerS, after.deliveriesPerS)),
        Show.fixed(node.srvUsPerDelivery, 2),
        Show.ratio(
          node.srvUsPerDelivery, to: Show.mean(before.srvUsPerDelivery, after.srvUsPerDelivery)),
        Show.latency(node),
        Show.latency(cell.node.paced),
        Show.latency(cell.limitAfter.paced),
        "\(node.lost + (cell.node.paced?.lost ?? 0))",
      ])
    }
    return table
  }
}
