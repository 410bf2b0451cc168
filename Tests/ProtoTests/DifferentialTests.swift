import Base
import Codec
import Foundation
import Messages
import Testing

/// Runs a program to its end; standard error goes to the test's.
private func run(
  _ program: String, _ arguments: [String], input: String? = nil,
  environment: [String: String] = [:]
) throws -> (status: Int32, output: String) {
  let folder = FileManager.default.temporaryDirectory.appending(
    path: "posthouse-proto-\(UInt64.random(in: 0...UInt64.max))")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  // Files instead of pipes: neither side can wait for the other.
  let (inFile, outFile) = (folder.appending(path: "in"), folder.appending(path: "out"))
  try Data((input ?? "").utf8).write(to: inFile)
  try Data().write(to: outFile)
  let process = Process()
  process.executableURL = URL(filePath: program)
  process.arguments = arguments
  process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
  process.standardInput = try FileHandle(forReadingFrom: inFile)
  process.standardOutput = try FileHandle(forWritingTo: outFile)
  try process.run()
  process.waitUntilExit()
  return (process.terminationStatus, String(decoding: try Data(contentsOf: outFile), as: UTF8.self))
}

private let root = URL(filePath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent()

private let python = ProcessInfo.processInfo.environment["POSTHOUSE_TEST_PYTHON"]

private func find(_ program: String) -> String? {
  let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin"
  return path.split(separator: ":").map { "\($0)/\(program)" }
    .first { FileManager.default.isExecutableFile(atPath: $0) }
}

@Suite("Beside Python's protobuf", .timeLimit(.minutes(5)))
struct DifferentialTests {
  @Test(
    "Random and damaged messages of every type are decoded alike, re-encoded and refused alike",
    .enabled(
      if: python != nil,
      "SKIPPED: set POSTHOUSE_TEST_PYTHON to a python3 with protobuf and grpcio-tools"),
    arguments: [1, 2, 3, 4])
  func bothWays(seed: Int) throws {
    let python = try #require(python)
    let script = root.appending(path: "Tests/ProtoTests/differential.py").path
    let schema = root.appending(path: "Proto/schema").path
    let types = Dictionary(uniqueKeysWithValues: DescriptorSet.messages.map { ($0.fullName, $0) })
    let made = try run(python, [script, "generate", schema, "\(seed)", "4000"])
    try #require(made.status == 0)
    var answers = ""
    var lines = 0
    for line in made.output.split(separator: "\n") {
      let parts = line.split(separator: " ")
      let type = try #require(types[String(parts[0])])
      let bytes = parts[1] == "-" ? [] : hex(String(parts[1]))
      let answer: String
      do {
        let text = Text.hex(try type.init(decoding: bytes).encoded())
        answer = text.isEmpty ? "-" : text
      } catch {
        answer = "!\(error)"
      }
      answers += "\(line) \(answer)\n"
      lines += 1
    }
    #expect(lines == 8000)
    let checked = try run(python, [script, "check", schema], input: answers)
    #expect(checked.status == 0)
    let counts = checked.output.split(whereSeparator: { " =\n".contains($0) }).compactMap {
      Int($0)
    }
    try #require(counts.count == 3)
    #expect(counts[0] == lines && counts[1] > 100 && counts[2] > 100, "\(checked.output)")
  }
}

@Suite("Generated code", .timeLimit(.minutes(3)))
struct FreshnessTests {
  @Test(
    "What is checked in is what the schema generates now",
    .enabled(if: find("protoc") != nil, "SKIPPED: protoc is missing (protobuf-compiler)"))
  func fresh() throws {
    // The plugin is built with the tests and stands beside them.
    let tests = URL(
      filePath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
    let plugin = tests.deletingLastPathComponent().appending(path: "protoc-gen-posthouse").path
    try #require(FileManager.default.isExecutableFile(atPath: plugin), "no \(plugin)")
    let result = try run(
      root.appending(path: "ops/dev/regen").path, ["--check"], environment: ["PROTOGEN": plugin])
    #expect(result.status == 0, "\(result.output)")
  }

  @Test("Each schema file is served by reflection with its services, symbols and imports")
  func descriptors() throws {
    let schemas = try FileManager.default.subpathsOfDirectory(
      atPath: root.appending(path: "Proto/schema").path)
    #expect(DescriptorSet.files.count == schemas.count { $0.hasSuffix(".proto") })
    for file in DescriptorSet.files {
      let text = String(decoding: file.bytes, as: UTF8.self)
      #expect(text.contains(file.name) && file.bytes.count > 100)
      #expect(file.services.allSatisfy { file.symbols.contains($0) })
      #expect(file.symbols.allSatisfy { $0.hasPrefix(file.package + ".") })
    }
    let health = try #require(DescriptorSet.files.first { $0.package == "grpc.health.v1" })
    #expect(health.services == ["grpc.health.v1.Health"])
    #expect(health.symbols.contains("grpc.health.v1.HealthCheckResponse.ServingStatus"))
    #expect(health.symbols.contains("grpc.health.v1.Health.Check"))
  }
}
