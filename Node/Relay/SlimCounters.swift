/// Counted on one loop.
struct SlimCounters: Sendable {
  /// Publishes nobody had subscribed to.
  var unrouted = 0
  /// Publishes and subscriptions under another org's name, or with names that contradict each other.
  var withoutRight = 0
  /// Messages with a missing or wrong header MAC.
  var badMacs = 0
  /// Messages whose ttl ran out.
  var expired = 0
  /// Archived publishes that could not be written.
  var refused = 0
  /// Streams that read an archived channel on by themselves, because their queue ran over.
  var lagging = 0
  /// Streams ended because their queue ran over, and messages dropped from such queues.
  var overflows = 0
  var dropped = 0
  /// Messages for subscribers of another node that was out of reach, or whose link was full.
  var unreachable = 0

  static func + (a: SlimCounters, b: SlimCounters) -> SlimCounters {
    var sum = a
    sum.unrouted += b.unrouted
    sum.withoutRight += b.withoutRight
    sum.badMacs += b.badMacs
    sum.expired += b.expired
    sum.refused += b.refused
    sum.lagging += b.lagging
    sum.overflows += b.overflows
    sum.dropped += b.dropped
    sum.unreachable += b.unreachable
    return sum
  }
}
