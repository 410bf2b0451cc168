import Foundation
import Glibc

/// What a client says of one run.
protocol Measured {
  /// Processor cores that others took meanwhile.
  var foreignCores: Double { get }
  /// What went wrong, or nil.
  var trouble: String? { get }
}

/// What else runs on the machine.
enum QuietMachine {
  /// Processor cores that others may take while a run still counts as quiet.
  static let busyCores = 0.15

  /// Waits until the machine has been quiet for 0.4 s, at most `seconds`.
  static func wait(seconds: Double) {
    let deadline = Date().addingTimeInterval(seconds)
    repeat {
      let before = busySeconds()
      let began = Date()
      usleep(400_000)
      if (busySeconds() - before) / Date().timeIntervalSince(began) <= busyCores { return }
    } while Date() < deadline
  }

  /// One run, repeated while other processes are busy; the quietest counts, or the first with trouble.
  static func quietest<R: Measured>(_ options: Options, _ run: () throws -> R) throws -> R {
    var best: R?
    for _ in 0..<options.tries {
      wait(seconds: options.quietWait)
      let result = try run()
      if result.trouble != nil { return result }
      if result.foreignCores < (best?.foreignCores ?? .infinity) { best = result }
      if result.foreignCores <= busyCores { break }
    }
    return best!
  }

  /// One line about the machine for the head of a report.
  static func description(data: URL) -> String {
    let info = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let model = info.split(separator: "\n").first { $0.hasPrefix("model name") }
      .flatMap { $0.split(separator: ":").last }.map { $0.trimmingCharacters(in: .whitespaces) }
    let cores = ProcessInfo.processInfo.activeProcessorCount
    let memory = ProcessInfo.processInfo.physicalMemory >> 30
    let system = ProcessInfo.processInfo.operatingSystemVersionString
    return "\(model ?? "unknown processor"), \(cores) cores, \(memory) GiB, \(system); "
      + "data on \(fileSystem(of: data))"
  }

  /// The kind of file system that holds `directory`: an fdatasync in memory proves nothing.
  static func fileSystem(of directory: URL) -> String {
    let path = directory.resolvingSymlinksInPath().path
    let mounts = (try? String(contentsOfFile: "/proc/mounts", encoding: .utf8)) ?? ""
    var best = (point: "", kind: "unknown file system")
    for line in mounts.split(separator: "\n") {
      let fields = line.split(separator: " ").map(String.init)
      guard fields.count > 2 else { continue }
      let point = fields[1]
      let holds = path == point || path.hasPrefix(point == "/" ? "/" : point + "/")
      if holds && point.count >= best.point.count { best = (point, fields[2]) }
    }
    return best.kind == "tmpfs" ? "tmpfs (memory: durable figures mean nothing)" : best.kind
  }

  private static func busySeconds() -> Double {
    guard let text = try? String(contentsOfFile: "/proc/stat", encoding: .utf8),
      let line = text.split(separator: "\n").first
    else { return 0 }
    let ticks = line.split(separator: " ").dropFirst().compactMap { Double($0) }
    guard ticks.count >= 7 else { return 0 }
    let busy = ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]
    return busy / Double(sysconf(Int32(_SC_CLK_TCK)))
  }
}
