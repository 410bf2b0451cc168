import Base
import Engine
import Grpc
import Http
import Loop
import Report

/// Says on the log who was refused and why: a few lines at a time, then only how many there were. An attacker who is
/// refused a million times a second must not fill the disk with it. From any thread.
final class CallerRefusals: Sendable {
  private struct State {
    var period = Instant.zero
    var lines = 0
    var unsaid = 0
  }
  private let log: Log
  private let state = Lock(State())

  init(_ log: Log) { self.log = log }

  /// `what` was refused: `stream`, `request`, `operator`, `name`. `org`: of the credential, when it is known. `name`:
  /// what was asked for. Never a credential.
  func note(
    _ what: String, from peer: String, org: String = "", name: @autoclosure () -> String = "",
    _ why: @autoclosure () -> String, at now: Instant
  ) {
    guard let unsaid = take(at: now) else { return }
    let name = name()
    log.info(
      "refused: \(what)",
      [
        "peer": .of(peer), "org": .of(org.isEmpty ? "-" : org),
        "name": .of(name.isEmpty ? "-" : name), "why": .of(why()), "not_logged": .of(unsaid),
      ])
  }

  /// nil: nothing is said of this one. Else how many were passed over since the last line.
  private func take(at now: Instant) -> Int? {
    state.withLock { s in
      if now - s.period >= NodeLimits.refusalPeriod {
        s.period = now
        s.lines = 0
      }
      guard s.lines < NodeLimits.refusalLines else {
        s.unsaid += 1
        return nil
      }
      s.lines += 1
      defer { s.unsaid = 0 }
      return s.unsaid
    }
  }
}

extension Shard {
  /// The engine found no right. The session may be another loop's: then only the channel is known here.
  func noteRefusal(_ id: SessionID, _ channel: ChannelRef, _ why: String) {
    let session = sessions.find(id)
    node.refusals.note(
      "name", from: session?.call.peer.text ?? "-", org: session?.principal.org ?? "",
      name: channel.name, why, at: loop.now.monotonic)
  }
}
