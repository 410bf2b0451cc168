import Base

/// Stream opens per key on one loop: a token bucket each. Only opens are limited; a stream that is open
/// is never broken by policy.
struct StreamBudget {
  private struct Bucket {
    var left: Double
    var at: Instant
  }
  private let perSecond: Double
  private let burst: Double
  private var buckets: [RecordID: Bucket] = [:]

  init(perSecond: Int, burst: Int) {
    self.perSecond = Double(perSecond)
    self.burst = Double(burst)
  }

  /// False when this key has opened too many streams lately. Costs one look-up.
  mutating func take(_ key: RecordID, at now: Instant) -> Bool {
    if buckets.count >= NodeLimits.streamBuckets { forgetIdle(now) }
    var bucket = buckets[key] ?? Bucket(left: burst, at: now)
    let seconds = Double((now - bucket.at).nanoseconds) / 1e9
    bucket.left = min(burst, bucket.left + max(0, seconds) * perSecond)
    bucket.at = now
    let granted = bucket.left >= 1
    if granted { bucket.left -= 1 }
    buckets[key] = bucket
    return granted
  }

  /// A full bucket is as good as none.
  private mutating func forgetIdle(_ now: Instant) {
    buckets = buckets.filter { _, bucket in
      bucket.left + Double((now - bucket.at).nanoseconds) / 1e9 * perSecond < burst
    }
    if buckets.count >= NodeLimits.streamBuckets { buckets.removeAll() }
  }
}
