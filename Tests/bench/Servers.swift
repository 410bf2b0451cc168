import Foundation

/// A server under load: a yardstick or a node, with a directory of its own that goes when it ends.
final class Server: LoadTarget {
  let child: ChildProcess
  let port: Int
  /// What it said when it was ready.
  let ready: String
  /// Holds its data and the logs of who talks to it; goes when it ends.
  let directory: URL

  /// `ready`: what the program says when it is, or waits for.
  private init(
    _ program: URL, _ arguments: (URL) -> [String], key: String, _ options: Options,
    ready wait: ((ChildProcess, URL) throws -> String)? = nil
  ) throws {
    let name = "posthouse-bench-\(ProcessInfo.processInfo.processIdentifier)-\(UUID().uuidString)"
    directory = options.data.appendingPathComponent(name, isDirectory: true)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    Server.directories.append(directory)
    do {
      child = try ChildProcess(program, arguments(directory), directory: directory)
      let line = try wait?(child, directory) ?? child.nextLine(timeoutSeconds: 60)
      guard let port = Server.port(of: key, in: line) else {
        child.end()
        let name = program.lastPathComponent
        throw BenchTrouble("\(name) answered \"\(line)\", not READY \(key)=...")
      }
      self.port = port
      ready = line
    } catch {
      try? FileManager.default.removeItem(at: directory)
      throw error
    }
  }

  var processes: [Int32] { [child.id] }

  func end() {
    child.end()
    try? FileManager.default.removeItem(at: directory)
  }

  /// Proportional memory of the process in KiB.
  var memoryKiB: Int {
    let path = "/proc/\(child.id)/smaps_rollup"
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return 0 }
    for line in text.split(separator: "\n") where line.hasPrefix("Pss:") {
      return line.split(separator: " ").compactMap { Int($0) }.first ?? 0
    }
    return 0
  }

  // MARK: kinds

  static func limitGrpc(_ options: Options) throws -> Server {
    try Server(
      options.tools.appendingPathComponent("limitgrpc"), { _ in ["0"] }, key: "grpc", options)
  }

  /// `kind`: prealloc or rocksdb.
  static func limitLog(_ kind: String, _ options: Options) throws -> Server {
    try Server(
      options.tools.appendingPathComponent("limitlog"),
      { ["0", "\(kind):\($0.appendingPathComponent("log").path)"] }, key: "raw", options)
  }

  /// The node inside a published package; `python` is the one of its environment.
  static func slimNode(python: URL, script: URL, _ options: Options) throws -> Server {
    try Server(python, { _ in [script.path, "0"] }, key: "grpc", options)
  }

  /// Where Debian's package puts it; nil: not installed.
  static var nats: URL? {
    ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"]
      .first { FileManager.default.isExecutableFile(atPath: $0) }.map { URL(fileURLWithPath: $0) }
  }

  /// nats-server as it comes, on a port of its choice.
  static func nats(_ program: URL, _ options: Options) throws -> Server {
    try Server(
      program, { ["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", $0.path] }, key: "nats",
      options
    ) { child, directory in
      // {"nats":["nats://127.0.0.1:PORT"],...}
      let file = directory.appendingPathComponent("nats-server_\(child.id).ports")
      for _ in 0..<500 {
        if let text = try? String(contentsOf: file, encoding: .utf8),
          let found = text.split(separator: "\"").first(where: { $0.hasPrefix("nats://") })
        {
          return "READY nats=\(found)"
        }
        usleep(10_000)
      }
      throw BenchTrouble("nats-server wrote no ports file")
    }
  }

  static func posthoused(archive: Bool, _ options: Options) throws -> Server {
    try Server(
      options.server,
      { directory in
        [
          "--data", directory.appendingPathComponent("data").path,
          "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
          "--admin-socket", directory.appendingPathComponent("admin.sock").path,
          "--registry", "off", "--auth", "open", "--set", "archive.enabled=\(archive)",
        ]
      }, key: "grpc", options)
  }

  /// A node whose agents stay for the whole run.
  static func registry(_ options: Options) throws -> Server {
    try Server(
      options.server,
      { directory in
        [
          "--data", directory.appendingPathComponent("data").path,
          "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--registry", "127.0.0.1:0",
          "--admin-socket", directory.appendingPathComponent("admin.sock").path,
          "--auth", "open", "--set", "registry.ttl=6h",
        ]
      }, key: "registry", options)
  }

  // MARK: ready

  /// Directories to remove when the benchmark is interrupted.
  nonisolated(unsafe) private static var directories: [URL] = []

  static func removeLater(_ directory: URL) { directories.append(directory) }

  static func removeDirectories() {
    for directory in directories { try? FileManager.default.removeItem(at: directory) }
  }

  static func port(of key: String, in line: String) -> Int? {
    guard line.hasPrefix("READY ") else { return nil }
    for word in line.split(separator: " ") where word.hasPrefix(key + "=") {
      return word.split(separator: ":").last.flatMap { Int($0) }
    }
    return nil
  }
}
