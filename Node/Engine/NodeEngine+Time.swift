public import Base

// What is due at a time.
extension NodeEngine {
  /// At the time of the last `.wake` at the latest.
  public mutating func receiveTick(at now: Now) {
    if now.monotonic >= wakeAt { wakeAt = .distantFuture }
    while let due = timers.take(now.monotonic) {
      switch due {
      case .pace(let s): receivePace(s, at: now)
      case .stall(let session): stall(session, at: now)
      case .hold(let c): expireHeld(c, at: now)
      case .retryWrites: retryWrites(at: now)
      case .retention: sweepRetention(at: now)
      case .usage:
        usageTimer = false
        let day = UsageRow.day(now.wall)
        usage.forget(before: day == 0 ? 0 : day - 1)
      }
    }
  }

  /// A session that took nothing for too long while something waited.
  private mutating func stall(_ s: Session, at now: Now) {
    s.stallTimer = false
    while let first = s.waiting.first, first.state != .credit { s.waiting.removeFirst() }
    guard !s.closed, !s.waiting.isEmpty else { return }
    let due = s.quietSince + settings.stallTimeout
    if due <= now.monotonic {
      end(s, Fault(.stalled))
    } else {
      s.stallTimer = true
      timers.set(due, .stall(s))
    }
  }

  /// Looks at some of the loaded channels, in turn.
  private mutating func sweepRetention(at now: Now) {
    let some = min(loaded.count, 256)
    for _ in 0..<some {
      if retentionHand >= loaded.count { retentionHand = 0 }
      let c = loaded[retentionHand]
      retentionHand += 1
      if case .ready = c.phase, !c.blocked { examine(c, at: now) }
    }
    let share = Int64(max(1, (loaded.count + 255) / 256))
    timers.set(
      now.monotonic + Interval(nanoseconds: settings.retentionInterval.nanoseconds / share),
      .retention)
  }
}
