public import Base

/// What the clear header of an MLS message says (RFC 9420 section 6). The relay reads no more than this.
public enum MLSKind: UInt8, Sendable {
  case none = 0
  case application = 1
  case proposal = 2
  case commit = 3
  case other = 4
}

/// The acknowledgement a publisher asks for.
public enum Durability: UInt8, Sendable, Comparable {
  /// In the write-ahead log: survives kill -9.
  case written = 1
  /// fdatasync'ed: survives a power cut.
  case synced = 2
  public static func < (a: Durability, b: Durability) -> Bool { a.rawValue < b.rawValue }
}

/// What the engine knows of a channel's identity. Made once per name by the host and shared.
public final class ChannelRef: Sendable {
  public let id: ChannelID
  public let family: Family
  /// Canonical name; for Skytale `org/namespace/service`.
  public let name: String
  public let org: String
  /// The tenant that `org` names.
  public let tenant: TenantID
  /// False: relay-through, nothing kept, delivered at once.
  public let archived: Bool

  public init(
    id: ChannelID, family: Family, name: String, org: String, tenant: TenantID, archived: Bool
  ) {
    self.id = id
    self.family = family
    self.name = name
    self.org = org
    self.tenant = tenant
    self.archived = archived
  }
}

/// One message on its way into a channel.
public struct Publication: Sendable {
  /// gRPC prefix (5 bytes), then the SLIM message as it is stored and delivered. For Skytale its last
  /// `Limits.suffixBytes` are the tail of the payload and take the sequence when it is known.
  public var frame: Bytes
  /// True when the frame ends in a suffix to patch.
  public var hasSuffix: Bool
  /// Session message type as on the wire of its family.
  public var type: UInt8
  public var mls: MLSKind
  /// MLS epoch from the clear header; 0 when there is none.
  public var epoch: UInt64
  /// First 16 bytes of SHA-256 of the MLS message, for commits only: "the same bytes".
  public var digest: (UInt64, UInt64)
  /// 0: no retry protection.
  public var producer: UInt64
  public var producerSequence: UInt64
  public var durability: Durability
  /// Comes back in the answer. 0: no answer wanted unless it is a commit. `counted`: what is written of a stream is
  /// told as a number.
  public var token: UInt64
  public static let counted = UInt64.max

  public init(
    frame: Bytes, hasSuffix: Bool, type: UInt8, mls: MLSKind = .none, epoch: UInt64 = 0,
    digest: (UInt64, UInt64) = (0, 0), producer: UInt64 = 0, producerSequence: UInt64 = 0,
    durability: Durability = .written, token: UInt64 = 0
  ) {
    self.frame = frame
    self.hasSuffix = hasSuffix
    self.type = type
    self.mls = mls
    self.epoch = epoch
    self.digest = digest
    self.producer = producer
    self.producerSequence = producerSequence
    self.durability = durability
    self.token = token
  }
}

/// One stored message, as a cursor gets it.
public struct Delivery: Sendable {
  public var sequence: UInt64
  public var frame: Bytes
  public var type: UInt8
  public var mls: MLSKind
  public var epoch: UInt64
  public var generation: UInt32
  public var producer: UInt64
  public var producerSequence: UInt64
  /// Wall clock of the record's commit window.
  public var wall: Instant
  /// True when the frame ends in a suffix that holds the sequence.
  public var hasSuffix: Bool
  /// Who published it, while that is known: not when it was read from the archive.
  public var publisher: SessionID?

  public init(
    sequence: UInt64, frame: Bytes, type: UInt8, mls: MLSKind, epoch: UInt64, generation: UInt32,
    producer: UInt64, producerSequence: UInt64, wall: Instant, hasSuffix: Bool,
    publisher: SessionID? = nil
  ) {
    self.publisher = publisher
    self.sequence = sequence
    self.frame = frame
    self.type = type
    self.mls = mls
    self.epoch = epoch
    self.generation = generation
    self.producer = producer
    self.producerSequence = producerSequence
    self.wall = wall
    self.hasSuffix = hasSuffix
  }
}

/// Where a new subscriber starts.
public enum Start: Sendable, Equatable {
  /// Only what comes after the subscription.
  case live
  /// At the oldest commit inside the replay window (or everything, when the window is `all`), paced.
  case replay
  /// At the last so many messages.
  case last(UInt64)
  /// At a sequence (0 or 1: the oldest kept), as fast as the subscriber takes it.
  case sequence(UInt64)
}
