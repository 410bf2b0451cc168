internal import Base

/// A token bucket in one number (the generic cell rate algorithm): the time at which it would be full.
struct RateBucket {
  private var fullAt = Instant.zero

  /// Takes one; false when `burst` were taken at once and the rate has not caught up. A refusal costs nothing.
  mutating func take(at now: Instant, perSecond: Int, burst: Int) -> Bool {
    let interval = 1_000_000_000 / Int64(max(perSecond, 1))
    let start = max(fullAt, now)
    if start - now > Interval(nanoseconds: interval * Int64(max(burst, 1) - 1)) { return false }
    fullAt = start + Interval(nanoseconds: interval)
    return true
  }
}

/// Failed authentications by peer address.
struct FailureCounts {
  private var peers: [String: RateBucket] = [:]

  /// Counts one; false when the peer fails too often.
  mutating func count(_ peer: String, at now: Instant) -> Bool {
    if peers.count >= Limits.failurePeers && peers[peer] == nil { peers.removeAll() }
    return peers[peer, default: RateBucket()].take(
      at: now, perSecond: Limits.failuresPerSecond, burst: Limits.failuresBurst)
  }
}
