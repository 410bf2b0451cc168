/// The registry of a process: what is counted, the banks that count it, and the text a scraper reads
/// (Prometheus text exposition format 0.0.4).
///
/// Register at start (by name, help and labels; the same again gives the same id), take one bank a
/// thread, count through the bank. A scrape sums the banks.
public final class Metrics: Sendable {
  public typealias Labels = KeyValuePairs<String, String>

  enum Kind: String { case counter, gauge, histogram }

  private enum Source {
    case cell(Int)
    case histogram(HistogramID, scale: Double)
    case function(@Sendable () -> Double)
  }
  private struct Series {
    var labels: String
    var source: Source
  }
  private struct Family {
    var name: String
    var help: String
    var kind: Kind
    var series: [Series]
  }
  private struct State {
    var families: [Family] = []
    var byName: [String: Int] = [:]
    var banks: [CounterBank] = []
    var cells = 0
  }
  private let state = Lock(State())

  public init() {}

  /// A bank for one thread.
  public func bank() -> CounterBank {
    let bank = CounterBank()
    state.withLock { $0.banks.append(bank) }
    return bank
  }

  /// Counts up only. The name ends in `_total`.
  public func counter(_ name: String, _ help: String, _ labels: Labels = [:]) -> CounterID {
    CounterID(cell: cell(name, help, labels, .counter))
  }

  /// Goes up and down; the sum over the banks is shown.
  public func gauge(_ name: String, _ help: String, _ labels: Labels = [:]) -> CounterID {
    CounterID(cell: cell(name, help, labels, .gauge))
  }

  /// A gauge whose value is asked for at each scrape, on the scraper's thread.
  public func gauge(
    _ name: String, _ help: String, _ labels: Labels = [:], read: @escaping @Sendable () -> Double
  ) {
    function(name, help, labels, .gauge, read)
  }

  /// A counter whose value is asked for at each scrape.
  public func counter(
    _ name: String, _ help: String, _ labels: Labels = [:], read: @escaping @Sendable () -> Double
  ) {
    function(name, help, labels, .counter, read)
  }

  /// Fixed buckets: `bounds` ascending, in the unit of `observe`; `scale` brings that unit to the one
  /// shown (nanoseconds to seconds: 1e-9).
  public func histogram(
    _ name: String, _ help: String, _ labels: Labels = [:], bounds: [Int64], scale: Double = 1
  ) -> HistogramID {
    precondition(
      !bounds.isEmpty && zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 },
      "bounds of \(name) do not ascend")
    let text = Metrics.labelText(labels)
    return state.withLock { state in
      let family = Metrics.family(&state, name, help, .histogram)
      if case .histogram(let id, _)? = Metrics.existing(state.families[family], text) { return id }
      let kept = UnsafeMutablePointer<Int64>.allocate(capacity: bounds.count)
      kept.initialize(from: bounds, count: bounds.count)
      let start = Metrics.reserve(&state, bounds.count + 2, name)
      let id = HistogramID(cell: start, bounds: UnsafePointer(kept), boundCount: bounds.count)
      state.families[family].series.append(
        Series(labels: text, source: .histogram(id, scale: scale)))
      return id
    }
  }

  /// Bounds in nanoseconds from 50 us to 10 s: what latencies of this node fall into.
  public static let latencyBounds: [Int64] = [
    50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000,
    50_000_000, 100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 10_000_000_000,
  ]

  /// The sum over the banks now.
  public func value(_ id: CounterID) -> Int64 {
    state.withLock { state in state.banks.reduce(0) { $0 &+ $1.read(id.cell) } }
  }

  /// What `/metrics` answers; content type `Metrics.contentType`.
  public func render() -> String {
    let (families, banks) = state.withLock { ($0.families, $0.banks) }
    var out = ""
    for family in families {
      out += "# HELP \(family.name) \(Metrics.escapeHelp(family.help))\n"
      out += "# TYPE \(family.name) \(family.kind.rawValue)\n"
      for series in family.series { Metrics.render(family.name, series, banks, &out) }
    }
    return out
  }

  public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  // MARK: registering

  private func cell(_ name: String, _ help: String, _ labels: Labels, _ kind: Kind) -> Int {
    let text = Metrics.labelText(labels)
    return state.withLock { state in
      let family = Metrics.family(&state, name, help, kind)
      if case .cell(let cell)? = Metrics.existing(state.families[family], text) { return cell }
      let cell = Metrics.reserve(&state, 1, name)
      state.families[family].series.append(Series(labels: text, source: .cell(cell)))
      return cell
    }
  }

  private func function(
    _ name: String, _ help: String, _ labels: Labels, _ kind: Kind,
    _ read: @escaping @Sendable () -> Double
  ) {
    let text = Metrics.labelText(labels)
    state.withLock { state in
      let family = Metrics.family(&state, name, help, kind)
      state.families[family].series.removeAll { $0.labels == text }
      state.families[family].series.append(Series(labels: text, source: .function(read)))
    }
  }

  private static func existing(_ family: Family, _ labels: String) -> Source? {
    family.series.first { $0.labels == labels }?.source
  }

  private static func family(
    _ state: inout State, _ name: String, _ help: String, _ kind: Kind
  ) -> Int {
    if let at = state.byName[name] {
      precondition(state.families[at].kind == kind, "metric \(name) is of two kinds")
      return at
    }
    precondition(isName(name), "metric name \(name) breaks the format")
    state.families.append(Family(name: name, help: help, kind: kind, series: []))
    state.byName[name] = state.families.count - 1
    return state.families.count - 1
  }

  private static func reserve(_ state: inout State, _ n: Int, _ name: String) -> Int {
    precondition(state.cells + n <= CounterBank.cells, "no cell left for metric \(name)")
    defer { state.cells += n }
    return state.cells
  }

  private static func isName(_ name: String) -> Bool {
    guard let first = name.utf8.first, !(0x30...0x39).contains(first) else { return false }
    return name.utf8.allSatisfy {
      (0x61...0x7a).contains($0) || (0x41...0x5a).contains($0) || (0x30...0x39).contains($0)
        || $0 == 0x5f || $0 == 0x3a
    }
  }

  // MARK: the text

  private static func render(
    _ name: String, _ series: Series, _ banks: [CounterBank], _ out: inout String
  ) {
    func sum(_ cell: Int) -> Int64 { banks.reduce(0) { $0 &+ $1.read(cell) } }
    func line(_ suffix: String, _ labels: String, _ value: String) {
      out += name + suffix + (labels.isEmpty ? "" : "{\(labels)}") + " " + value + "\n"
    }
    switch series.source {
    case .cell(let cell): line("", series.labels, "\(sum(cell))")
    case .function(let read): line("", series.labels, number(read()))
    case .histogram(let id, let scale):
      let before = series.labels.isEmpty ? "" : series.labels + ","
      var total: Int64 = 0
      for bucket in 0..<id.boundCount {
        total &+= sum(id.cell + bucket)
        let bound = number(scaled(id.bounds[bucket], scale))
        line("_bucket", before + "le=\"\(bound)\"", "\(total)")
      }
      total &+= sum(id.cell + id.boundCount)
      line("_bucket", before + "le=\"+Inf\"", "\(total)")
      line("_sum", series.labels, number(scaled(sum(id.cell + id.boundCount + 1), scale)))
      line("_count", series.labels, "\(total)")
    }
  }

  /// Dividing by the whole inverse keeps 2,500,000 ns at 0.0025 and not 0.0025000000000000001.
  private static func scaled(_ value: Int64, _ scale: Double) -> Double {
    let inverse = (1 / scale).rounded()
    return inverse > 1 ? Double(value) / inverse : Double(value) * scale
  }

  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == value.rounded() && abs(value) < 1e15 { return "\(Int64(value))" }
    return "\(value)"
  }

  private static func escapeHelp(_ text: String) -> String {
    var out = ""
    for c in text.unicodeScalars {
      switch c {
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      default: out.unicodeScalars.append(c)
      }
    }
    return out
  }

  private static func labelText(_ labels: Labels) -> String {
    var out = ""
    for (name, value) in labels {
      precondition(isName(name), "label name \(name) breaks the format")
      if !out.isEmpty { out += "," }
      out += "\(name)=\""
      for c in value.unicodeScalars {
        switch c {
        case "\\": out += "\\\\"
        case "\"": out += "\\\""
        case "\n": out += "\\n"
        default: out.unicodeScalars.append(c)
        }
      }
      out += "\""
    }
    return out
  }
}
