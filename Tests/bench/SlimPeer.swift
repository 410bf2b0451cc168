import Foundation

/// SLIM's two wires.
enum SlimFamily: String, Encodable { case a = "A", b = "B" }

/// A published SLIM package whose node runs beside ours.
struct SlimPeer {
  let python: URL
  let family: SlimFamily
  let version: String

  /// The script that starts such a node stands beside the tests that use it, too.
  private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("interop/slim_node.py")

  /// `name`: an environment's folder, or a version that `ops/dev/slim_venv` has installed.
  init(_ name: String, _ options: Options) throws {
    let folders = [name, ".venv-slim/\(name)"].map { URL(fileURLWithPath: $0) }
    let pythons = folders.map { $0.appendingPathComponent("bin/python") }
    let files = FileManager.default
    guard let python = pythons.first(where: { files.isExecutableFile(atPath: $0.path) }) else {
      throw BenchTrouble("no \(pythons[1].path): ops/dev/slim_venv \(name)")
    }
    self.python = python
    let node = try Server.slimNode(python: python, script: SlimPeer.script, options)
    defer { node.end() }
    let words = node.ready.split(separator: " ")
    guard let word = words.first(where: { $0.hasPrefix("version=") }) else {
      throw BenchTrouble("the node of \(name) does not say its version")
    }
    version = String(word.dropFirst("version=".count))
    family = version.hasPrefix("1.") || version.hasPrefix("0.") ? .a : .b
  }

  func start(_ options: Options) throws -> Server {
    try Server.slimNode(python: python, script: SlimPeer.script, options)
  }
}

/// What is asked of a figure of ours, and whether it is so.
struct Demand: Encodable {
  let ratio: Double
  let bound: Double
  let atLeast: Bool
  var met: Bool { ratio.isFinite && (atLeast ? ratio >= bound : ratio <= bound) }

  enum CodingKeys: String, CodingKey { case ratio, bound, atLeast, met }

  /// Nil when either figure is missing.
  init?(_ ours: Double?, to theirs: Double?, atLeast bound: Double) {
    guard let ours, let theirs, theirs > 0 else { return nil }
    (ratio, self.bound, atLeast) = (ours / theirs, bound, true)
  }

  init?(_ ours: Double?, to theirs: Double?, atMost bound: Double) {
    guard let ours, let theirs, theirs > 0 else { return nil }
    (ratio, self.bound, atLeast) = (ours / theirs, bound, false)
  }

  func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(ratio, forKey: .ratio)
    try fields.encode(bound, forKey: .bound)
    try fields.encode(atLeast, forKey: .atLeast)
    try fields.encode(met, forKey: .met)
  }

  /// "2.31 (>= 2) met".
  var text: String {
    let sign = atLeast ? "≥" : "≤"
    return "\(Show.fixed(ratio, 2)) (\(sign) \(Show.fixed(bound, 2))) \(met ? "met" : "MISSED")"
  }
}

extension Show {
  /// A ratio of which nothing is asked, or one with its demand.
  static func demand(_ demand: Demand?, else ratio: String = "-") -> String {
    demand?.text ?? ratio
  }
}
