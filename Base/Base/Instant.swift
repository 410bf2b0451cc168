/// A point in time as an engine sees it: nanoseconds, given by the host, never read from a clock here.
public struct Instant: Comparable, Hashable, Sendable {
  /// Nanoseconds since an origin of the host's choosing (monotonic) or since 1970 (wall).
  public var nanoseconds: Int64
  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
  public static let zero = Instant(nanoseconds: 0)
  public static let distantFuture = Instant(nanoseconds: .max)

  public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
  /// Saturates at `distantFuture`.
  public static func + (a: Instant, b: Interval) -> Instant {
    let (sum, over) = a.nanoseconds.addingReportingOverflow(b.nanoseconds)
    return over ? .distantFuture : Instant(nanoseconds: sum)
  }
  public static func - (a: Instant, b: Instant) -> Interval {
    Interval(nanoseconds: a.nanoseconds &- b.nanoseconds)
  }
}

/// A length of time in nanoseconds.
public struct Interval: Comparable, Hashable, Sendable {
  public var nanoseconds: Int64
  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
  public static func milliseconds(_ n: Int64) -> Interval { Interval(nanoseconds: n * 1_000_000) }
  public static func seconds(_ n: Int64) -> Interval { Interval(nanoseconds: n * 1_000_000_000) }
  public static func minutes(_ n: Int64) -> Interval { seconds(n * 60) }
  public static func < (a: Interval, b: Interval) -> Bool { a.nanoseconds < b.nanoseconds }
  public var wholeSeconds: Int64 { nanoseconds / 1_000_000_000 }
}

/// Both clocks at the start of a loop turn: the monotonic one orders and times out, the wall clock is
/// stamped into records, JWTs and usage days and decides no order.
public struct Now: Sendable {
  public var monotonic: Instant
  public var wall: Instant
  public init(monotonic: Instant, wall: Instant) {
    self.monotonic = monotonic
    self.wall = wall
  }
}
