import Foundation

/// What it costs when a channel's publisher, owner and subscribers are on three nodes, beside the same with all ends on
/// the owner: the nodes of one cluster, in turns. CPU time is that of all three nodes.
struct ClusterBench {
  let options: Options
  private let loader: Loader

  init(_ options: Options) {
    self.options = options
    loader = Loader(options: options)
  }

  struct Visit: Encodable {
    let full: LoadResult
    let paced: LoadResult?
    var trouble: String? { full.trouble ?? paced?.trouble }
  }

  /// Each of a round's two visits, in turns.
  struct Cell: Encodable {
    let shape: Shape
    let size: Int
    let archive: Bool
    let local: [Visit]
    let apart: [Visit]

    var troubles: [String] {
      (local + apart).compactMap { visit in
        visit.trouble.map { "cluster \(shape.name) \(size) B: \($0)" }
      }
    }

    /// CPU time of a delivery over three nodes, of a delivery on one.
    var cost: Double? { ratio { $0.full.srvUsPerDelivery } }
    var rate: Double? { ratio { $0.full.deliveriesPerS } }
    /// Microseconds that one of the two crossings adds to the median delay.
    var crossing: Double? {
      guard let far = Self.median(apart.compactMap { $0.paced?.p50Us }),
        let near = Self.median(local.compactMap { $0.paced?.p50Us })
      else { return nil }
      return (far - near) / 2
    }
    /// CPU at most this many times that of one node, as asked; nil: not asked.
    var allowance: Double? { ["1x1": 3.5, "1x10": 1.6][shape.name] }
    var isMet: Bool {
      (cost ?? 0) <= (allowance ?? .infinity) && (crossing ?? 0) <= 1_000 && troubles.isEmpty
    }

    private func ratio(_ figure: (Visit) -> Double?) -> Double? {
      guard let far = Self.median(apart.compactMap(figure)),
        let near = Self.median(local.compactMap(figure)), near > 0
      else { return nil }
      return far / near
    }

    static func median(_ figures: [Double]) -> Double? {
      guard !figures.isEmpty else { return nil }
      let sorted = figures.sorted()
      let middle = sorted.count / 2
      return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
  }

  func run() throws -> [Cell] {
    var cells: [Cell] = []
    for archive in options.archive {
      let cluster = try ClusterServers(archive: archive, options)
      defer { cluster.end() }
      for shape in options.shapes.compactMap({ Shape($0) }) {
        for size in options.sizes {
          var local: [Visit] = []
          var apart: [Visit] = []
          for _ in 0..<options.rounds {
            local.append(try visit(cluster, shape, size, apart: false))
            apart.append(try visit(cluster, shape, size, apart: true))
          }
          let cell = Cell(shape: shape, size: size, archive: archive, local: local, apart: apart)
          say(
            "\(shape.name) \(size) B, archive \(archive ? "on" : "off"): CPU "
              + "\(Show.fixed(cell.cost, 2)) of local, rate \(Show.fixed(cell.rate, 2)), "
              + "a crossing adds \(Show.fixed(cell.crossing, 0)) us"
              + (cell.troubles.first.map { ", TROUBLE: \($0)" } ?? ""))
          cells.append(cell)
        }
      }
    }
    return cells
  }

  /// Channels that nobody has used before: their first one's owner decides which node is which.
  private func visit(
    _ cluster: ClusterServers, _ shape: Shape, _ size: Int, apart: Bool
  ) throws -> Visit {
    let load = [
      "--channels", "\(shape.channels)", "--subscribers", "\(shape.subscribers)",
      "--size", "\(size)",
    ]
    func measure(_ words: [String]) throws -> LoadResult {
      let run = Int.random(in: 1..<1 << 30)
      let order = try cluster.order(for: String(format: "acme/bench-%08x/ch0", run))
      let (publisher, subscriber) = apart ? (order[1], order[2]) : (order[0], order[0])
      return try loader.run(
        "fanout", on: cluster.ends(subscribersAt: subscriber),
        load + ["--publish-port", "\(publisher.port)", "--run", "\(run)"] + words)
    }
    let full = try measure(["--window", "\(shape.window(size: size))"])
    let paced =
      options.paced && full.trouble == nil
      ? try measure(["--rate", "\(shape.rate(size: size) / 5)"]) : nil
    return Visit(full: full, paced: paced)
  }

  static func table(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "Cluster: publisher, owner and subscribers on three nodes, beside all on the owner",
      columns: [
        "shape, size, archive", "deliveries/s local", "apart", "of local", "CPU us/delivery local",
        "apart, three nodes", "of local", "asked", "p50 / p99 us local", "apart",
        "a crossing adds us",
      ])
    for cell in cells {
      let local = cell.local.map(\.full)
      let apart = cell.apart.map(\.full)
      table.rows.append([
        "\(cell.shape.name), \(cell.size) B, \(cell.archive ? "on" : "off")\(cell.isMet ? "" : " !")",
        Show.count(Cell.median(local.compactMap(\.deliveriesPerS))),
        Show.count(Cell.median(apart.compactMap(\.deliveriesPerS))),
        Show.fixed(cell.rate, 2),
        Show.fixed(Cell.median(local.compactMap(\.srvUsPerDelivery)), 2),
        Show.fixed(Cell.median(apart.compactMap(\.srvUsPerDelivery)), 2),
        Show.fixed(cell.cost, 2),
        cell.allowance.map { "<= \($0)" } ?? "-",
        Show.latency(cell.local.last?.paced),
        Show.latency(cell.apart.last?.paced),
        Show.fixed(cell.crossing, 0),
      ])
    }
    return table
  }
}
