import Base
import Report

/// Why the node is not ready; empty when it is. `/readyz` and `status` say it, from any thread.
final class Readiness: Sendable {
  private struct State {
    var diskFull = false
    var draining = false
    var moving = false
    var starting = true
    var trouble: String?
    var waiting: String?
    var forgotten: String?
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
  /// What has to come before it serves at all.
  func setWaiting(_ waiting: String?) { state.withLock { $0.waiting = waiting } }
  /// The cluster has forgotten this node: no stream opens.
  func setForgotten(_ why: String?) { state.withLock { $0.forgotten = why } }
  var forgotten: String? { state.withLock { $0.forgotten } }
  func setDraining(isMoving: Bool) {
    state.withLock {
      $0.draining = true
      $0.moving = isMoving
    }
  }
  func setServing() { state.withLock { $0.starting = false } }
  /// Up, and not on the way down.
  var isServing: Bool { state.withLock { !$0.starting && !$0.draining } }
  var isDraining: Bool { state.withLock { $0.draining } }
  /// Draining while another node is about to serve.
  var isMoving: Bool { state.withLock { $0.moving } }

  var reasons: [String] {
    state.withLock { s in
      var out: [String] = []
      if s.starting { out.append("starting") }
      if s.draining { out.append("draining") }
      if s.diskFull { out.append("disk below disk.min_free: new messages are refused") }
      if let waiting = s.waiting { out.append(waiting) }
      if let forgotten = s.forgotten { out.append(forgotten) }
      if let trouble = s.trouble { out.append(trouble) }
      return out
    }
  }
}
