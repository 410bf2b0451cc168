public import Base

/// What a session is, as far as trouble is concerned: a Skytale stream cannot be told to try again, a
/// service call can.
public enum SessionKind: UInt8, Sendable {
  /// A `DataPlaneService` stream: publishes wait out disk trouble in order, then the stream ends.
  case skytale = 1
  /// A `ChannelService` call: publishes are refused at once and the caller retries.
  case service = 2
  /// The host's own, which hands messages on to many: it has no bound of credit.
  case router = 3
}

/// How far back a replay looks for the commit it starts at.
public enum ReplayWindow: Sendable, Equatable {
  /// New subscribers start live.
  case none
  /// The oldest commit at most this old (wall clock).
  case last(Interval)
  /// Everything that is kept.
  case all
}

/// What of a channel is kept. 0: no bound. Whole records are dropped, oldest first.
public struct Retention: Sendable, Equatable {
  public var age: Interval
  public var bytes: UInt64
  public var messages: UInt64
  public init(age: Interval = Interval(nanoseconds: 0), bytes: UInt64 = 0, messages: UInt64 = 0) {
    self.age = age
    self.bytes = bytes
    self.messages = messages
  }
  public var isUnlimited: Bool { age.nanoseconds <= 0 && bytes == 0 && messages == 0 }
}

/// Bugs that the simulator plants to prove that it finds them. Never set outside of it.
public struct EngineFaults: OptionSet, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  /// Subscribers get a message before its write is confirmed.
  public static let deliverBeforeAppend = EngineFaults(rawValue: 1)
  /// The epoch gate lets a second commit of an epoch through.
  public static let secondCommit = EngineFaults(rawValue: 2)
}

/// The settings of an engine; the defaults are those of `Limits`.
public struct EngineSettings: Sendable {
  public var replayWindow: ReplayWindow = .last(.seconds(Int64(Limits.replayWindowSeconds)))
  /// Messages of a paced replay per interval, and the interval.
  public var replayBurst = Limits.replayBurst
  public var replayInterval: Interval = .milliseconds(Int64(Limits.replayIntervalMilliseconds))
  public var replayMessages = UInt64(Limits.replayMessages)
  public var tailBytes = Limits.channelTailBytes
  public var shardTailBytes = Limits.shardTailBytes
  public var readBytes = Limits.archiveReadBytes
  public var retention = Retention()
  public var stallTimeout: Interval = .seconds(Int64(Limits.stallSeconds))
  public var creditBytes = Limits.sessionCreditBytes
  public var unarchivedQueueBytes = Limits.unarchivedQueueBytes
  public var sessionPendingBytes = Limits.sessionPendingBytes
  public var shardPendingBytes = Limits.shardPendingBytes
  public var holdTime: Interval = .seconds(Int64(Limits.publishHoldSeconds))
  public var commitsInFlight = Limits.commitsInFlight
  public var recordMessages = Limits.recordMessages
  public var recordBytes = Limits.recordBytes
  public var commitsPerChannel = Limits.commitsPerChannel
  public var producersPerChannel = Limits.producersPerChannel
  public var producerWindow = Limits.producerWindow
  public var loadedChannels = Limits.loadedChannels
  /// How often a loaded channel's retention is looked at.
  public var retentionInterval: Interval = .seconds(Int64(Limits.retentionSeconds))
  public var faults: EngineFaults = []
  public init() {}
}
