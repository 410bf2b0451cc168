import Base

/// Bounds of the host itself.
enum NodeLimits {
  /// Channel names remembered per loop; beyond, the memory is emptied and fills again.
  static let channelRefs = 100_000
  /// Keys whose stream opens are counted per loop; beyond, full budgets are forgotten.
  static let streamBuckets = 100_000
  /// Milliseconds that open calls get to end before the node ends them.
  static let callGraceMilliseconds: Int64 = 300
  /// Milliseconds that ended streams and idle connections get to go when another node takes over; beyond,
  /// they are cut.
  static let partingMilliseconds: Int64 = 500
  /// How long a node that drains looks for one in line that takes its directory.
  static let lineMilliseconds: Int64 = 150
  /// How long it waits for one that has the sockets or the directory to serve; beyond, it ends all the same.
  static let successorMilliseconds: Int64 = 10_000
  /// What the running node has to answer a successor; beyond, the takeover fails.
  static let takeoverAnswer = Interval.seconds(5)
  /// Lines that tell of refused callers in a period; beyond, they are only counted.
  static let refusalLines = 20
  static let refusalPeriod = Interval.seconds(10)
  /// Pause after each message of a stream whose tenant is over quota.
  static let overQuotaPauseMilliseconds: Int64 = 250
  /// Milliseconds until a channel that nobody took is asked for again.
  static let farRetryMilliseconds: Int64 = 100
}
