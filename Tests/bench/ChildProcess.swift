import Foundation
import Glibc
import Report

/// A process that the benchmark started, and the only kind it ends.
final class ChildProcess: @unchecked Sendable {
  let process = Process()
  let name: String
  private let output = Pipe()
  private let input = Pipe()
  private let errorFile: URL
  private var unread: [UInt8] = []

  var id: Int32 { process.processIdentifier }

  /// Starts `program`; its standard error goes to a file in `directory`, shown when it fails.
  init(_ program: URL, _ arguments: [String], directory: URL) throws {
    name = program.lastPathComponent
    errorFile = directory.appendingPathComponent("\(name)-\(UUID().uuidString).log")
    guard FileManager.default.createFile(atPath: errorFile.path, contents: nil) else {
      throw BenchTrouble("cannot write in \(directory.path)")
    }
    process.executableURL = program
    process.arguments = arguments
    process.standardOutput = output
    process.standardInput = input
    process.standardError = try FileHandle(forWritingTo: errorFile)
    try process.run()
    ChildProcess.running.withLock { $0[ObjectIdentifier(self)] = self }
  }

  /// The next line of standard output.
  func nextLine(timeoutSeconds: Double) throws -> String {
    let descriptor = output.fileHandleForReading.fileDescriptor
    let deadline = Date().addingTimeInterval(timeoutSeconds)
    while true {
      if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
        let line = String(decoding: unread[..<end], as: UTF8.self)
        unread.removeSubrange(...end)
        return line
      }
      let left = deadline.timeIntervalSinceNow
      guard left > 0 else {
        throw BenchTrouble("\(name) said nothing for \(timeoutSeconds) s\(errors)")
      }
      var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&poller, 1, Int32(left * 1_000) + 1) > 0 else { continue }
      var bytes = [UInt8](repeating: 0, count: 65_536)
      let count = read(descriptor, &bytes, bytes.count)
      guard count > 0 else {
        process.waitUntilExit()
        throw BenchTrouble("\(name) ended with \(process.terminationStatus)\(errors)")
      }
      unread += bytes[..<count]
    }
  }

  /// A line on its standard input.
  func send(_ line: String) throws {
    try input.fileHandleForWriting.write(contentsOf: Data((line + "\n").utf8))
  }

  /// Waits until it ends by itself.
  func wait() throws {
    process.waitUntilExit()
    forget()
    guard process.terminationStatus == 0 else {
      throw BenchTrouble("\(name) ended with \(process.terminationStatus)\(errors)")
    }
  }

  /// SIGTERM, and SIGKILL after twelve seconds.
  func end() {
    if process.isRunning { process.terminate() }
    let deadline = Date().addingTimeInterval(12)
    while process.isRunning && Date() < deadline { usleep(10_000) }
    if process.isRunning { kill(id, SIGKILL) }
    process.waitUntilExit()
    forget()
  }

  private func forget() {
    ChildProcess.running.withLock { $0[ObjectIdentifier(self)] = nil }
  }

  /// The end of what it wrote to standard error.
  private var errors: String {
    guard let data = try? Data(contentsOf: errorFile), !data.isEmpty else { return "" }
    return ": " + String(decoding: data.suffix(1_500), as: UTF8.self)
  }

  // MARK: all of them

  private static let running = Lock<[ObjectIdentifier: ChildProcess]>([:])

  /// For an interrupted benchmark: children get process groups of their own and would live on.
  static func killAll() {
    let children = running.withLock { Array($0.values) }
    for child in children where child.process.isRunning { kill(child.id, SIGKILL) }
  }
}

/// What ends a benchmark, in words for its user.
struct BenchTrouble: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
