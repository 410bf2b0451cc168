import Base
import Codec
import Messages
import Report

@testable import Control

/// A link whose answers are given by the test; keeps what was asked.
final class FakeLink: AdminLink, @unchecked Sendable {
  typealias Answer = (String, [UInt8]) throws(Fault) -> [[UInt8]]
  private let answer: Answer
  private(set) var asked: [(path: String, request: [UInt8])] = []
  private(set) var closed = false
  var isOffline = false

  init(_ answer: @escaping Answer) { self.answer = answer }

  func unary(path: String, request: [UInt8], timeout: Interval) throws(Fault) -> [UInt8] {
    asked.append((path, request))
    let answers = try answer(path, request)
    guard let first = answers.first else {
      throw Fault(.internal, "no answer prepared for \(path)")
    }
    return first
  }

  func stream(
    path: String, request: [UInt8], timeout: Interval?, each: ([UInt8]) throws(Fault) -> Bool
  ) throws(Fault) {
    asked.append((path, request))
    for bytes in try answer(path, request) where try !each(bytes) { return }
  }

  func close() { closed = true }
}

/// Runs the program against a fake node.
struct Shell {
  var link: FakeLink
  var terminal = RecordedTerminal()
  /// Whatever the command line does not name is the fake node.
  var environment = ["POSTHOUSE_ADMIN_SOCKET": "/fake"]

  init(_ answer: @escaping FakeLink.Answer = { _, _ in [] }) { link = FakeLink(answer) }

  @discardableResult
  func run(_ line: String) -> ExitCode {
    run(line.split(separator: " ").map(String.init))
  }

  @discardableResult
  func run(_ arguments: [String]) -> ExitCode {
    let link = link
    return ControlProgram.run(
      arguments: arguments, environment: environment, terminal: terminal,
      openers: LinkOpeners(
        socket: { _ in link }, remote: { _ in link }, offline: { _ in link }))
  }
}

/// Requests and answers of the admin service, decoded and encoded.
func request<M: ProtoMessage>(_ bytes: [UInt8], as: M.Type = M.self) throws(Fault) -> M {
  do { return try M(decoding: bytes) } catch { throw Fault(.internal, "\(error)") }
}
