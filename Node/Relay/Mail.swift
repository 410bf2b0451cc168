import Base
import Engine
import Slim

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
  /// To loop 0: for sessions of one other node.
  case deliverFar(LinkGather.Ready)
  case answer(SessionID, ChannelRef, token: UInt64, mls: MLSKind, PublishOutcome)
  case written(SessionID, count: Int)
  case subscribed(SessionID, ChannelRef, token: UInt64, head: UInt64, Fault?)
  case readEnded(SessionID, ChannelRef)
  case end(SessionID, Fault)
  case pause(SessionID, by: Int)
  case resume(SessionID, by: Int)
  /// To any shard, in the order of its mail.
  case run(@Sendable (Shard) -> Void)
  /// To loop 0: the slot has gone there, and with it the cursors of these sessions of other nodes.
  case disown(UInt16, SlotOverride, [MovedCursor])
  // SLIM, between all loops.
  /// To the shard that owns a channel: is there something to replay to a session?
  case slimReplay(SessionID, ChannelRef)
  /// To the session's shard: there is.
  case slimReplayable(SessionID, ChannelRef)
  /// So many bytes of SLIM mail are dealt with.
  case slimTaken(bytes: Int)
  case slimInterest([SlimInterest])
  /// Answered with `slimSynced`: what came before it has taken effect.
  case slimSync(UInt64)
  case slimSynced(UInt64)
}

/// What a session asks for when it subscribes.
struct Subscription: Sendable {
  var start: Start
  var follow: Bool
  /// Messages wanted; 0: no limit.
  var limit: UInt64
  var token: UInt64
}
