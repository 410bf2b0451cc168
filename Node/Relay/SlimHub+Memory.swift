import Base
import Grpc
import Loop
import Report

extension SlimHub {
  var isCrowded: Bool { queuedBytes >= Limits.slimQueuesBytes / 2 }

  /// The queues of this loop hold much in all, so that each may hold less. Who takes nothing at all must not hold what it
  /// has for ever: others would have to do with the little that is left.
  func makeRoom() {
    let now = shard.loop.now.monotonic
    guard now >= lookAt else { return }
    lookAt = now + .seconds(1)
    // Also when nothing else happens on this loop: after a while there is room again.
    shard.loop.schedule(after: .seconds(1)) { [self] in
      if isCrowded { makeRoom() }
    }
    let most = queueLimit
    var ending: [Session] = []
    shard.sessions.forEach { session in
      guard let stream = session.slim, !session.call.isFinished else { return }
      if stream.lastLeft.bytes != session.bytesLeft || stream.queuedBytes <= most {
        stream.lastLeft = (session.bytesLeft, now)
      } else if now - stream.lastLeft.at >= .seconds(Int64(Limits.slimStalledSeconds)) {
        ending.append(session)
      }
    }
    guard !ending.isEmpty else { return }
    shard.node.log.warn(
      "SLIM streams ended that took nothing while queues are long",
      ["streams": .of(ending.count), "queued": .of(queuedBytes)])
    counts.overflows &+= ending.count
    for session in ending {
      session.end(
        Fault(
          .stalled, "no byte was taken for \(Limits.slimStalledSeconds) s while queues are long"),
        discarding: true)
    }
  }
}
