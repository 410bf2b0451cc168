import Control
import Report

/// Keeps what is written, and answers with lines prepared.
final class RecordedTerminal: Terminal {
  private struct State {
    var output = ""
    var error = ""
    var input: [String] = []
  }
  private let state: Lock<State>
  let isOutputTerminal: Bool
  let isErrorTerminal: Bool
  let isInputTerminal: Bool

  init(terminal: Bool = false, input: [String] = []) {
    isOutputTerminal = terminal
    isErrorTerminal = terminal
    isInputTerminal = terminal
    state = Lock(State(input: input))
  }
  var output: String { state.withLock { $0.output } }
  var error: String { state.withLock { $0.error } }
  func write(output: String) -> Bool {
    state.withLock { $0.output += output }
    return true
  }
  func write(error: String) { state.withLock { $0.error += error } }
  func readLine() -> String? {
    state.withLock { $0.input.isEmpty ? nil : $0.input.removeFirst() }
  }
}
