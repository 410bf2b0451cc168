import Base
import Engine

/// What one shard asks of another. Mail is gathered during a turn and handed over once at its end, in
/// order, so that what a session sends to a channel keeps its order across loops.
enum Mail: Sendable {
  // To the shard that owns a channel.
  case publish(SessionID, Principal, SessionKind, ChannelRef, Publication)
  case subscribe(SessionID, Principal, SessionKind, ChannelRef, Subscription)
  case unsubscribe(SessionID, ChannelRef)
  case credit(SessionID, bytes: Int)
  case closed(SessionID)
  // To the shard that holds a session.
  case deliver(SessionID, ChannelRef, Delivery)
  case answer(SessionID, ChannelRef, token: UInt64, mls: MLSKind, PublishOutcome)
  case subscribed(SessionID, ChannelRef, token: UInt64, Fault?)
  case readEnded(SessionID, ChannelRef)
  case end(SessionID, Fault)
  case pause(SessionID, by: Int)
  case resume(SessionID, by: Int)
}

/// What a session asks for when it subscribes.
struct Subscription: Sendable {
  var start: Start
  var follow: Bool
  /// Messages wanted; 0: no limit.
  var limit: UInt64
  var token: UInt64
}
