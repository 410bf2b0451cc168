public import Base

/// What one relay knows of an origin's changes; the elements of a version vector.
public struct VectorElement: Equatable, Sendable {
  public var origin: String
  public var incarnation: UInt64
  /// Every change up to here has been merged.
  public var sequence: UInt64
  /// What was merged came from relays that had merged up to here: as good as `sequence` for deletes.
  public var horizon: UInt64
  /// Tombstones up to here may have been forgotten.
  public var floor: UInt64
  /// The origin's heartbeat: a hybrid counter that it raises with every exchange.
  public var beat: UInt64

  public init(
    origin: String, incarnation: UInt64, sequence: UInt64, horizon: UInt64 = 0, floor: UInt64 = 0,
    beat: UInt64 = 0
  ) {
    self.origin = origin
    self.incarnation = incarnation
    self.sequence = sequence
    self.horizon = horizon
    self.floor = floor
    self.beat = beat
  }

  /// No delete up to here can be missing.
  var level: UInt64 { max(sequence, horizon) }
}

/// A run of one origin's changes that a page of records holds completely.
public struct Coverage: Equatable, Sendable {
  public var origin: String
  public var incarnation: UInt64
  public var from: UInt64
  public var through: UInt64
  public init(origin: String, incarnation: UInt64, from: UInt64, through: UInt64) {
    self.origin = origin
    self.incarnation = incarnation
    self.from = from
    self.through = through
  }
}

/// A relay that records come from.
public struct Origin: Sendable {
  public let id: String
  public internal(set) var incarnation: UInt64
  public internal(set) var sequence: UInt64 = 0
  public internal(set) var horizon: UInt64 = 0
  public internal(set) var floor: UInt64 = 0
  public internal(set) var beat: UInt64 = 0
  /// When its beat last rose here.
  public internal(set) var heardAt: Instant
  /// Not heard of for `originTimeout`: its agents are not shown.
  public internal(set) var isHidden = false
  /// The beat at which an operator purged it: nothing is taken until it beats again.
  var purgedAt: UInt64?
  /// Agents that have not come yet while all of it is pulled.
  var sweep: Set<String>?
  var log = ChangeLog()
  public internal(set) var live = 0
  public internal(set) var tombstones = 0

  init(_ id: String, incarnation: UInt64 = 0, at now: Instant) {
    self.id = id
    self.incarnation = incarnation
    heardAt = now
  }

  var element: VectorElement {
    VectorElement(
      origin: id, incarnation: incarnation, sequence: sequence, horizon: horizon, floor: floor,
      beat: beat)
  }

  var level: UInt64 { max(sequence, horizon) }
  /// Nothing of it is held, live or ended.
  var isEmpty: Bool { live == 0 && tombstones == 0 }
  /// As good as one that was never heard of.
  var isStranger: Bool {
    isEmpty && level == 0 && floor == 0 && purgedAt == nil && sweep == nil
  }
}
