import Foundation

/// Both SLIM wires: the node of a published package, ours without and with the archive, and the yardstick take
/// turns on each cell. Throughput is the best run, CPU the least, latency the median, for all alike: other
/// processes share the machine.
struct SlimBench {
  let options: Options
  private let loader: Loader

  init(_ options: Options) {
    self.options = options
    loader = Loader(options: options, program: "slimbench")
  }

  /// What one server did in one cell over all rounds.
  struct Figures: Encodable {
    private(set) var plain: [LoadResult] = []
    /// The client acknowledges at once, so a node that leaves Nagle on is not punished.
    private(set) var quick: [LoadResult] = []
    private(set) var paced: [LoadResult] = []

    var all: [LoadResult] { plain + quick + paced }
    var busy: Bool { all.contains { $0.foreignCores > QuietMachine.busyCores } }
    var trouble: String? { all.compactMap(\.trouble).first }
    var pacedMedian: LoadResult? {
      let ordered = paced.sorted { ($0.p50Us ?? 0) < ($1.p50Us ?? 0) }
      return ordered.isEmpty ? nil : ordered[(ordered.count - 1) / 2]
    }

    mutating func add(plain one: LoadResult, quick other: LoadResult, paced third: LoadResult?) {
      plain.append(one)
      quick.append(other)
      if let third { paced.append(third) }
    }

    func runs(quickAcks: Bool) -> [LoadResult] { quickAcks ? quick : plain }

    static func best(_ runs: [LoadResult]) -> Double? { runs.compactMap(\.deliveriesPerS).max() }
    static func leastCPU(_ runs: [LoadResult]) -> Double? {
      runs.compactMap(\.srvUsPerDelivery).min()
    }
  }

  struct Cell: Encodable {
    let family: SlimFamily
    let peerVersion: String
    let shape: Shape
    let size: Int
    var peer = Figures()
    var off = Figures()
    var on = Figures()
    var limit = Figures()
    /// nats-server with the same load in its own protocol, where it is installed.
    var nats = Figures()

    var troubles: [String] {
      [
        ("peer", peer), ("archive off", off), ("archive on", on), ("limitgrpc", limit),
        ("nats-server", nats),
      ].compactMap {
        name, figures in
        figures.trouble.map { "\(family.rawValue) \(shape.name) \(size) B \(name): \($0)" }
      }
    }
  }

  func run() throws -> [Cell] {
    if Server.nats == nil {
      say("nats-server is not installed: its columns stay empty (apt-get install nats-server)")
    }
    var cells: [Cell] = []
    for name in options.peers {
      let peer = try SlimPeer(name, options)
      for shape in options.shapes.compactMap({ Shape($0) }) {
        for size in options.sizes { cells.append(try cell(peer, shape, size)) }
      }
    }
    return cells
  }

  private func cell(_ peer: SlimPeer, _ shape: Shape, _ size: Int) throws -> Cell {
    var cell = Cell(family: peer.family, peerVersion: peer.version, shape: shape, size: size)
    for _ in 0..<options.rounds {
      try visit(peer.start(options), "SLIM \(peer.version)", &cell, \.peer)
      for archive in options.archive {
        let name = "posthoused, archive \(archive ? "on" : "off")"
        try visit(
          Server.posthoused(archive: archive, options), name, &cell, archive ? \.on : \.off)
      }
      try visit(Server.limitGrpc(options), "limitgrpc", &cell, \.limit, ["--yardstick"])
      if let nats = Server.nats {
        try visit(Server.nats(nats, options), "nats-server", &cell, \.nats, family: "nats")
      }
    }
    return cell
  }

  private func visit(
    _ server: Server, _ name: String, _ cell: inout Cell, _ place: WritableKeyPath<Cell, Figures>,
    _ more: [String] = [], family: String? = nil
  ) throws {
    defer { server.end() }
    let (shape, size) = (cell.shape, cell.size)
    let load =
      [
        "--family", family ?? cell.family.rawValue, "--channels", "\(shape.channels)",
        "--subscribers", "\(shape.subscribers)", "--size", "\(size)",
      ] + more
    let full = load + ["--window", "\(shape.window(size: size))"]
    let plain = try loader.run("fanout", on: server, full)
    let quick = try loader.run("fanout", on: server, full + ["--quickack"])
    var paced: LoadResult?
    if options.paced {
      paced = try loader.run("fanout", on: server, load + ["--rate", "\(pace(shape, size))"])
    }
    cell[keyPath: place].add(plain: plain, quick: quick, paced: paced)
    say(
      "\(cell.family.rawValue) \(shape.name) \(size) B \(name): \(Show.count(plain.deliveriesPerS)) "
        + "deliveries/s, quick \(Show.count(quick.deliveriesPerS)), "
        + "\(Show.fixed(quick.srvUsPerDelivery, 2)) us CPU each, paced p50 "
        + "\(Show.fixed(paced?.p50Us, 0)) us"
        + (cell[keyPath: place].trouble.map { ", TROUBLE: \($0)" } ?? ""))
  }

  /// Messages a second over all channels: what agents that talk would do, not what the node can.
  private func pace(_ shape: Shape, _ size: Int) -> Int {
    let large = size > 4_096
    if shape.channels >= 10 { return large ? 2_000 : 10_000 }
    return large && shape.subscribers > 1 ? 200 : 1_000
  }
}

// MARK: what is asked

extension SlimBench.Cell {
  typealias Figures = SlimBench.Figures

  private func ours(_ archive: Bool) -> Figures { archive ? on : off }

  /// Delivered per second against the published node.
  func rate(archive: Bool, quickAcks: Bool) -> Demand? {
    let bound: Double
    switch (archive, shape.channels > 1, shape.subscribers > 1, size > 4_096) {
    case (false, _, _, true): bound = 1
    case (false, true, _, false): bound = 1.3
    case (false, false, _, false): bound = 2
    case (true, false, true, false): bound = 1.5
    case (true, false, false, false): bound = 1
    default: return nil
    }
    return Demand(
      Figures.best(ours(archive).runs(quickAcks: quickAcks)),
      to: Figures.best(peer.runs(quickAcks: quickAcks)), atLeast: bound)
  }

  /// CPU of the node per delivery against the published one's.
  func cpu(archive: Bool, quickAcks: Bool) -> Demand? {
    let bound: Double
    switch (archive, shape.channels > 1, shape.subscribers > 1, size > 4_096) {
    case (false, _, _, true), (false, true, _, _): bound = 0.5
    case (false, false, _, false): bound = 1.0 / 3
    case (true, false, true, false): bound = 0.5
    default: return nil
    }
    return Demand(
      Figures.leastCPU(ours(archive).runs(quickAcks: quickAcks)),
      to: Figures.leastCPU(peer.runs(quickAcks: quickAcks)), atMost: bound)
  }

  /// Delivered per second against the yardstick.
  func limitRate(quickAcks: Bool) -> Demand? {
    guard shape.channels == 1, size <= 4_096 else { return nil }
    return Demand(
      Figures.best(off.runs(quickAcks: quickAcks)),
      to: Figures.best(limit.runs(quickAcks: quickAcks)), atLeast: 0.6)
  }

  /// Median latency at a fixed rate: against the published node, with many channels against the yardstick.
  func latency() -> Demand? {
    let ours = off.pacedMedian?.p50Us
    if shape.channels > 1 { return Demand(ours, to: limit.pacedMedian?.p50Us, atMost: 2) }
    return Demand(ours, to: peer.pacedMedian?.p50Us, atMost: 0.1)
  }

  var demands: [Demand] {
    let full = [false, true].flatMap { quick in
      [false, true].flatMap { archive in
        [rate(archive: archive, quickAcks: quick), cpu(archive: archive, quickAcks: quick)]
      } + [limitRate(quickAcks: quick)]
    }
    return (full + [latency()]).compactMap { $0 }
  }
}

// MARK: tables

extension SlimBench {
  static func tables(_ cells: [Cell]) -> [Table] {
    let demands = cells.flatMap(\.demands)
    let missed = demands.count { !$0.met }
    say("slim: \(demands.count - missed) demands met, \(missed) missed")
    return [throughput(cells), latency(cells)].filter { !$0.rows.isEmpty }
  }

  private static func throughput(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "SLIM, as fast as the window allows",
      columns: [
        "wire, shape, size, archive, client", "deliveries/s", "SLIM's", "ratio", "CPU us/delivery",
        "SLIM's", "ratio", "limitgrpc's deliveries/s", "of limit", "nats-server's",
        "of nats-server",
        "lost",
      ])
    for cell in cells {
      for archive in [false, true] {
        for quick in [false, true] {
          if let row = row(cell, archive: archive, quick: quick) { table.rows.append(row) }
        }
      }
    }
    return table
  }

  private static func row(_ cell: Cell, archive: Bool, quick: Bool) -> [String]? {
    let figures = archive ? cell.on : cell.off
    let ours = figures.runs(quickAcks: quick)
    let peers = cell.peer.runs(quickAcks: quick)
    let limits = cell.limit.runs(quickAcks: quick)
    guard !ours.isEmpty else { return nil }
    let (rate, peerRate) = (Figures.best(ours), Figures.best(peers))
    let (cpu, peerCPU) = (Figures.leastCPU(ours), Figures.leastCPU(peers))
    let mark = figures.busy || cell.peer.busy ? " ~" : ""
    let limit = archive ? nil : cell.limitRate(quickAcks: quick)
    return [
      "\(cell.family.rawValue) \(cell.shape.name), \(cell.size) B, \(archive ? "on" : "off"), "
        + "\(quick ? "quickack" : "plain")\(mark)",
      Show.count(rate), Show.count(peerRate),
      Show.demand(
        cell.rate(archive: archive, quickAcks: quick), else: Show.ratio(rate, to: peerRate)),
      Show.fixed(cpu, 2), Show.fixed(peerCPU, 2),
      Show.demand(cell.cpu(archive: archive, quickAcks: quick), else: Show.ratio(cpu, to: peerCPU)),
      Show.count(Figures.best(limits)),
      Show.demand(limit, else: Show.ratio(rate, to: Figures.best(limits))),
      Show.count(Figures.best(cell.nats.runs(quickAcks: quick))),
      Show.ratio(rate, to: Figures.best(cell.nats.runs(quickAcks: quick))),
      "\(ours.map(\.lost).reduce(0, +))",
    ]
  }

  private static func latency(_ cells: [Cell]) -> Table {
    var table = Table(
      title: "SLIM, at a fixed rate",
      columns: [
        "wire, shape, size", "p50 / p99 us", "archive on", "SLIM's", "limitgrpc's",
        "nats-server's", "p50 ratio",
      ])
    for cell in cells where !cell.peer.paced.isEmpty {
      table.rows.append([
        "\(cell.family.rawValue) \(cell.shape.name), \(cell.size) B",
        Show.latency(cell.off.pacedMedian), Show.latency(cell.on.pacedMedian),
        Show.latency(cell.peer.pacedMedian), Show.latency(cell.limit.pacedMedian),
        Show.latency(cell.nats.pacedMedian),
        Show.demand(cell.latency())
          + (cell.shape.channels > 1 ? " of limitgrpc's" : " of SLIM's"),
      ])
    }
    return table
  }
}
