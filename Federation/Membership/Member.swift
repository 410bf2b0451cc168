public import Base

/// What is believed of a member. At one incarnation the later case wins; a higher incarnation wins always.
public enum MemberState: UInt8, Sendable, CaseIterable, Comparable {
  case alive = 1
  /// Somebody could not reach it; it has some time to contradict.
  case suspect = 2
  case dead = 3
  /// It said so itself.
  case left = 4
  /// An operator said that it will not come back: it is not listed, and nothing is sent to it.
  case forgotten = 5

  public static func < (a: MemberState, b: MemberState) -> Bool { a.rawValue < b.rawValue }
}

/// A member as it shows itself and as others see it.
public struct Member: Hashable, Sendable {
  public var id: NodeID
  /// `HOST:PORT` at which it takes packets; 1 to `Limits.memberAddressBytes` bytes of UTF-8.
  public var address: String
  /// Raised only by the member itself, to contradict what is said of it and when it comes back.
  public var incarnation: UInt64
  public var state: MemberState

  public init(id: NodeID, address: String, incarnation: UInt64 = 1, state: MemberState = .alive) {
    self.id = id
    self.address = address
    self.incarnation = incarnation
    self.state = state
  }

  /// Whether this is news to who believes `other` of the same member.
  func overrides(_ other: Member) -> Bool {
    (incarnation, state.rawValue) > (other.incarnation, other.state.rawValue)
  }

  /// nil when it keeps the bounds of its fields.
  var trouble: String? {
    if id == .none { return "a member without an id" }
    if address.isEmpty || address.utf8.count > Limits.memberAddressBytes {
      return "member \(id): an address of \(address.utf8.count) bytes"
    }
    if incarnation > Limits.memberIncarnation { return "member \(id): incarnation \(incarnation)" }
    return nil
  }
}

/// Word of a member, as packets carry it on. `by`: who saw it; for a suspicion, one of those who suspect.
public struct MemberUpdate: Hashable, Sendable {
  public var member: Member
  public var by: NodeID
  public init(_ member: Member, by: NodeID) {
    self.member = member
    self.by = by
  }
}

/// How far away a member is: the last direct answers to pings.
public struct RoundTrip: Hashable, Sendable {
  private var samples: [Int64] = []
  private var next = 0

  init() {}

  mutating func add(_ sample: Interval) {
    if samples.count < Limits.roundTripSamples {
      samples.append(sample.nanoseconds)
    } else {
      samples[next] = sample.nanoseconds
    }
    next = (next + 1) % Limits.roundTripSamples
  }

  public var count: Int { samples.count }
  /// The shortest: what the way takes when nobody is busy.
  public var least: Interval? { samples.min().map { Interval(nanoseconds: $0) } }
  /// The middle one.
  public var median: Interval? {
    samples.isEmpty ? nil : Interval(nanoseconds: samples.sorted()[samples.count / 2])
  }
}

/// Times of one kind of network.
public struct MembershipProfile: Hashable, Sendable {
  /// One member is pinged in each interval, which a node in poor health stretches.
  public var probeInterval: Interval
  /// Until others are asked to ping it, too.
  public var probeTimeout: Interval
  /// How many are asked.
  public var indirectProbes: Int
  public var gossipInterval: Interval
  public var gossipNodes: Int
  /// A suspicion lasts this many intervals, times log10 of the members, when enough others share it.
  public var suspicionMultiplier: Int
  /// And so many times longer when nobody does.
  public var suspicionMaximum: Int
  /// Between exchanges of all that is known with somebody; longer with more than 32 members.
  public var syncInterval: Interval
  /// Between tries to reach one of the dead, or a seed while nobody is known.
  public var reconnectInterval: Interval

  /// One machine.
  public static let local = MembershipProfile(
    probeInterval: .milliseconds(500), probeTimeout: .milliseconds(200), indirectProbes: 3,
    gossipInterval: .milliseconds(100), gossipNodes: 3, suspicionMultiplier: 4,
    suspicionMaximum: 6, syncInterval: .seconds(15), reconnectInterval: .seconds(5))
  /// One site. The times of Lifeguard's authors (arXiv 1707.00788).
  public static let lan = MembershipProfile(
    probeInterval: .seconds(1), probeTimeout: .milliseconds(500), indirectProbes: 3,
    gossipInterval: .milliseconds(200), gossipNodes: 3, suspicionMultiplier: 4,
    suspicionMaximum: 6, syncInterval: .seconds(30), reconnectInterval: .seconds(10))
  /// Continents.
  public static let wan = MembershipProfile(
    probeInterval: .seconds(5), probeTimeout: .seconds(3), indirectProbes: 3,
    gossipInterval: .milliseconds(500), gossipNodes: 4, suspicionMultiplier: 6,
    suspicionMaximum: 6, syncInterval: .seconds(60), reconnectInterval: .seconds(30))

  /// How long a suspicion lasts with `members` in all, when `confirmations` others share it.
  func suspicion(members: Int, confirmations: Int) -> Interval {
    let scale = max(1, log10(Double(max(1, members))))
    let least = Double(suspicionMultiplier) * scale * Double(probeInterval.nanoseconds)
    // So many are wanted; with few members there may not be so many.
    let wanted = suspicionMultiplier - 2
    if members - 2 < wanted || wanted < 1 { return Interval(nanoseconds: Int64(least)) }
    let most = Double(suspicionMaximum) * least
    let part = log10(Double(confirmations) + 1) / log10(Double(wanted) + 1)
    return Interval(nanoseconds: Int64(max(least, most - (most - least) * part)))
  }
}

/// How often one update is sent on: 4 log10(members + 1), rounded up.
func retransmitLimit(members: Int) -> Int {
  max(1, Int((4 * log10(Double(members + 1))).rounded(.up)))
}

/// The decimal logarithm of `x` >= 1, to about nine digits: by squaring, the same on every machine.
func log10(_ x: Double) -> Double {
  precondition(x >= 1 && x.isFinite, "the logarithm of \(x)")
  var sum = Double(x.exponent)
  var rest = x.significand
  var bit = 0.5
  for _ in 0..<32 {
    rest *= rest
    if rest >= 2 {
      rest /= 2
      sum += bit
    }
    bit /= 2
  }
  return sum / 3.321928094887362
}
