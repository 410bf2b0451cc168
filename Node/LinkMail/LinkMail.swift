public import Base
public import Codec
public import Engine

/// What one node asks of another over their link. Sessions are named as the node calls them that has them; channels by a
/// number that the node with the sessions gave them (`channel`), so that no name is sent twice.
public enum LinkMail: Sendable {
  // To the owner of a channel.
  /// A session that will use channels there.
  case opened(SessionID, Principal, SessionKind)
  case channel(UInt32, Family, name: String)
  case publish(SessionID, channel: UInt32, Publication)
  case subscribe(
    SessionID, channel: UInt32, start: Start, follow: Bool, limit: UInt64, token: UInt64)
  case unsubscribe(SessionID, channel: UInt32)
  case credit(SessionID, bytes: UInt64)
  case closed(SessionID)
  // To the node that has the sessions.
  /// One message for all of these.
  case deliver([SessionID], channel: UInt32, Delivery)
  case answer(SessionID, channel: UInt32, token: UInt64, mls: MLSKind, LinkOutcome)
  /// So many answers at once, to publishes with tokens in a row, which took sequences in a row: none was a commit, a
  /// second of two or refused. Only to a node that speaks version 2.
  case answers(SessionID, channel: UInt32, token: UInt64, sequence: UInt64, count: UInt32)
  case written(SessionID, count: UInt32)
  case subscribed(SessionID, channel: UInt32, token: UInt64, head: UInt64, Fault?)
  case readEnded(SessionID, channel: UInt32)
  case end(SessionID, Fault)
  case pause(SessionID)
  case resume(SessionID)
  /// The channel's slot is not owned there, by a map of that revision: nothing was done.
  case notOwner(SessionID, channel: UInt32, token: UInt64, revision: UInt64)
  // SLIM, between all nodes.
  case live(LinkMessage)
  /// So many sessions of this node have subscribed to the name.
  case interest([LinkInterest])
  /// Answered with `synced`: what came before it has taken effect.
  case sync(UInt64)
  case synced(UInt64)
  /// To the owner of a SLIM channel: is there something to replay to a session?
  case slimReplay(SessionID, Family, SlimName)
  /// To the session's node: there is.
  case slimReplayable(SessionID, Family, SlimName)
}

/// `PublishOutcome`, to be compared.
public enum LinkOutcome: Sendable, Equatable {
  case accepted(sequence: UInt64, duplicate: Bool)
  case refused(Fault, winner: UInt64)
}

/// A SLIM message for the subscribers of the receiving node.
public struct LinkMessage: Sendable, Equatable {
  public var family: Family
  public var destination: SlimName
  /// To one of the subscribers.
  public var isAnycast: Bool
  /// Its header is the same as that of the one before it from this sender.
  public var repeats: Bool
  /// Offset of the hole for the next hop's MAC in `frame`; 0: family A.
  public var hole: UInt32
  /// What the MAC is made of; empty in family A.
  public var hop: [UInt8]
  public var frame: Bytes
  /// Where it stands in the archived channel of its destination; 0: it is archived nowhere.
  public var sequence: UInt64
  /// Who sent it, if that is a session of the receiving node: it gets nothing back.
  public var sender: SessionID?

  public init(
    family: Family, destination: SlimName, isAnycast: Bool, repeats: Bool, hole: UInt32,
    hop: [UInt8], frame: Bytes, sequence: UInt64 = 0, sender: SessionID? = nil
  ) {
    self.family = family
    self.destination = destination
    self.isAnycast = isAnycast
    self.repeats = repeats
    self.hole = hole
    self.hop = hop
    self.frame = frame
    self.sequence = sequence
    self.sender = sender
  }
}

public struct LinkInterest: Sendable, Equatable {
  public var family: Family
  public var name: SlimName
  public var count: UInt32
  public init(family: Family, name: SlimName, count: UInt32) {
    self.family = family
    self.name = name
    self.count = count
  }
}
