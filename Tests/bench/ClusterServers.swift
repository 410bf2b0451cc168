import Foundation
import Glibc

/// Three nodes that form a cluster on loopback, with an authority of their own.
final class ClusterServers {
  struct Node {
    let name: String
    let child: ChildProcess
    let port: Int
    let admin: String
  }

  /// One way to use the cluster: where subscribers connect.
  struct Ends: LoadTarget {
    let port: Int
    let processes: [Int32]
    let directory: URL
  }

  let directory: URL
  private(set) var nodes: [Node] = []
  private let tool: URL

  init(archive: Bool, _ options: Options) throws {
    // A socket's path has 107 bytes at most.
    let name =
      "ph-bench-\(ProcessInfo.processInfo.processIdentifier)-\(Int.random(in: 0..<1_000_000))"
    directory = options.data.appendingPathComponent(name, isDirectory: true)
    tool = options.server.deletingLastPathComponent().appendingPathComponent("posthouse")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    Server.removeLater(directory)
    do {
      try form(archive: archive, options)
    } catch {
      end()
      throw error
    }
  }

  private func form(archive: Bool, _ options: Options) throws {
    let authority = directory.appendingPathComponent("ca").path
    _ = try ask(["tls", "init", "--dir", authority, "--name", "bench"])
    let ports = try Self.freePorts(3)
    for i in 0..<3 {
      let name = "n\(i + 1)"
      let home = directory.appendingPathComponent(name)
      try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
      let certificates = home.appendingPathComponent("certs").path
      _ = try ask(["tls", "issue", "--dir", authority, "--node", name, "--out", certificates])
      let admin = home.appendingPathComponent("admin.sock").path
      var words = [
        "--data", home.appendingPathComponent("data").path, "--node-name", name,
        "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--registry", "off",
        "--admin-socket", admin, "--auth", "open", "--cert-dir", certificates, "--zone",
        "z\(i + 1)",
        "--cluster", "127.0.0.1:\(ports[i])", "--set", "cluster.profile=local",
        "--set", "archive.enabled=\(archive)",
      ]
      if i > 0 { words += ["--seeds", "127.0.0.1:\(ports[0])"] }
      let child = try ChildProcess(options.server, words, directory: home)
      nodes.append(Node(name: name, child: child, port: 0, admin: admin))
      let ready = try child.nextLine(timeoutSeconds: 60)
      guard let port = Server.port(of: "grpc", in: ready) else {
        throw BenchTrouble("\(name) answered \"\(ready)\"")
      }
      nodes[i] = Node(name: name, child: child, port: port, admin: admin)
    }
    try waitUntilAgreed()
  }

  func end() {
    for node in nodes { node.child.end() }
    try? FileManager.default.removeItem(at: directory)
  }

  /// The node that owns a channel, then the two others.
  func order(for channel: String) throws -> [Node] {
    struct Answer: Decodable { let owner: String }
    let text = try ask(
      ["ring", "owner", channel, "-o", "json", "--admin-socket", nodes[0].admin])
    let owner = try JSONDecoder().decode(Answer.self, from: Data(text.utf8)).owner
    guard let first = nodes.firstIndex(where: { $0.name == owner }) else {
      throw BenchTrouble("\(channel) is owned by \(owner)")
    }
    return (0..<nodes.count).map { nodes[(first + $0) % nodes.count] }
  }

  func ends(subscribersAt node: Node) -> Ends {
    Ends(port: node.port, processes: nodes.map(\.child.id), directory: directory)
  }

  // MARK: forming

  private func waitUntilAgreed() throws {
    struct Ring: Decodable {
      struct Member: Decodable {
        let name: String
        let slots: Int
      }
      let revision: UInt64
      let moving: Int
      let nodes: [Member]
    }
    let end = Date().addingTimeInterval(60)
    while Date() < end {
      let rings = nodes.compactMap { node -> Ring? in
        guard
          let text = try? ask(
            ["ring", "show", "--here", "-o", "json", "--admin-socket", node.admin])
        else { return nil }
        return try? JSONDecoder().decode(Ring.self, from: Data(text.utf8))
      }
      if rings.count == nodes.count, Set(rings.map(\.revision)).count == 1, let ring = rings.first,
        ring.moving == 0, ring.nodes.count == nodes.count, ring.nodes.allSatisfy({ $0.slots > 0 })
      {
        return
      }
      usleep(100_000)
    }
    throw BenchTrouble("three nodes have no map in common after 60 s")
  }

  private func ask(_ words: [String]) throws -> String {
    let process = Process()
    let output = Pipe()
    process.executableURL = tool
    process.arguments = words
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = String(
      decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw BenchTrouble("posthouse \(words.joined(separator: " ")): \(process.terminationStatus)")
    }
    return text
  }

  /// Ports nobody listens on: below those the kernel gives to connections.
  private static func freePorts(_ count: Int) throws -> [Int] {
    var ports: [Int] = []
    for _ in 0..<10_000 where ports.count < count {
      let port = Int.random(in: 20_000..<32_000)
      if !ports.contains(port), isFree(port) { ports.append(port) }
    }
    guard ports.count == count else { throw BenchTrouble("no free port from 20000 to 31999") }
    return ports
  }

  private static func isFree(_ port: Int) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }
}
