public import Base
public import Messages
public import Registry

/// What is taken from a relay.
public enum GossipTrust: Equatable, Sendable {
  /// Records of every origin: it has shown a certificate.
  case everything
  /// Its own records, under this relay id and no other.
  case own(String)
  /// Nothing: it may read.
  case nothing
}

/// A relay that this one calls.
public struct GossipPeer: Sendable {
  /// What an AgentAnycast relay, or Posthouse, has been found to be.
  public enum Kind: String, Sendable { case unknown, posthouse, upstream }
  public enum Phase: String, Sendable { case idle, syncing, pushing, repairing }

  public struct Counts: Equatable, Sendable {
    public var exchanges = 0
    public var failures = 0
    public var received = 0
    public var refused = 0
    public var sent = 0
    public var repairs = 0
  }

  /// For people: its name or address.
  public let name: String
  public let trust: GossipTrust
  public internal(set) var kind = Kind.unknown
  public internal(set) var phase = Phase.idle
  /// It is not called: it left the cluster.
  public internal(set) var isGone = false
  public internal(set) var counts = Counts()
  /// Failures in a row.
  public internal(set) var failing = 0
  public internal(set) var lastFailure = ""
  /// Monotonic; nil: never.
  public internal(set) var lastSuccess: Instant?
  public internal(set) var nextAt = Instant.zero
  /// Its vector as of the last answer.
  public internal(set) var vector: [VectorElement]?

  var exchange: UInt64 = 0
  var pages = 0
  var takesOwnOnly = false
  var noPushUntil = Instant.zero
  var nextRepair = Instant.zero
  var nextSweep = Instant.zero
  var isSweeping = false
  /// Its parts that differ, while they are exchanged.
  var parts: [UInt32] = []
  var repairFrom: UInt32?
  /// What an upstream relay has been pushed.
  var pushedThrough: Int64 = 0

  public init(name: String, trust: GossipTrust) {
    self.name = name
    self.trust = trust
  }
}

/// A call that the host makes for the engine, and whose end it reports.
public struct GossipCall: Sendable {
  public enum Request: Sendable {
    case sync(AnycastSyncRegistrationsRequest)
    case push(AnycastPushRegistrationsRequest)
  }
  public var peer: Int
  /// Goes back with the answer; that of an older exchange is ignored.
  public var exchange: UInt64
  public var request: Request
}

public struct GossipSettings: Sendable {
  public var relayID: String
  /// Between rounds.
  public var interval: Interval
  /// Between exchanges with an upstream relay, whose own rhythm is 10 s.
  public var upstreamInterval: Interval
  /// Trusted peers called in a round, drawn anew each time.
  public var fanout: Int
  /// Between repairs with one peer, and between full pulls from one that speaks for itself only.
  public var repairInterval: Interval
  public var sweepInterval: Interval
  public var seed: UInt64

  public init(relayID: String, seed: UInt64) {
    self.relayID = relayID
    self.seed = seed
    interval = .seconds(1)
    upstreamInterval = .seconds(10)
    fanout = 3
    repairInterval = .seconds(30)
    sweepInterval = .minutes(10)
  }
}
