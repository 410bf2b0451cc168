import Base
import Report

/// Why the node is not ready; empty when it is. `/readyz` and `status` say it, from any thread.
final class Readiness: Sendable {
  private struct State {
    var diskFull = false
    var draining = false
    var starting = true
    var trouble: String?
  }
  private let state = Lock(State())

  /// True when this changed something.
  func setDiskFull(_ full: Bool) -> Bool {
    state.withLock { s in
      defer { s.diskFull = full }
      return s.diskFull != full
    }
  }
  func setTrouble(_ trouble: String?) { state.withLock { $0.trouble = trouble } }
  func setDraining() { state.withLock { $0.draining = true } }
  func setServing() { state.withLock { $0.starting = false } }
  var isDraining: Bool { state.withLock { $0.draining } }

  var reasons: [String] {
    state.withLock { s in
      var out: [String] = []
      if s.starting { out.append("starting") }
      if s.draining { out.append("draining") }
      if s.diskFull { out.append("disk below disk.min_free: new messages are refused") }
      if let trouble = s.trouble { out.append(trouble) }
      return out
    }
  }
}
