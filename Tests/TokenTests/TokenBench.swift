import Base
import Digest
import TestKit
import Testing

@testable import Token

/// A token engine with a disk that can be made to wait, fail or lose what it has not written.
struct TokenBench {
  static let keys = SigningKeySet(
    current: "k1", secrets: ["k1": [UInt8](repeating: 7, count: 32)])

  var engine: TokenEngine
  var now: Now
  var random = SimRandom(seed: 1)
  var settings: TokenSettings
  /// Rows by table and key.
  var disk: [Table: [[UInt8]: [UInt8]]] = [:]
  /// Writes that are not made yet, oldest first.
  var waiting: [(ticket: UInt64, set: WriteSet)] = []
  var replies: [UInt64: Result<TokenReply, Fault>] = [:]
  var effects: [TokenEffect] = []
  /// When true, writes wait in `waiting`.
  var holdsWrites = false
  private var lastToken: UInt64 = 0
  private var runs: UInt64 = 1

  init(settings: TokenSettings = TokenSettings(writer: 1), keys: SigningKeySet = TokenBench.keys) {
    var settings = settings
    // Tests call more often than people do.
    if settings.callsPerSecond == Limits.callsPerSecond {
      settings.callsPerSecond = 1_000_000
      settings.callsBurst = 1_000_000
    }
    self.settings = settings
    now = Now(
      monotonic: Instant(nanoseconds: 1_000_000_000),
      wall: Instant(nanoseconds: 1_800_000_000_000_000_000))
    engine = TokenEngine(rows: [], settings: settings, keys: keys, at: now)
  }

  mutating func pass(_ interval: Interval) {
    now.monotonic = now.monotonic + interval
    now.wall = now.wall + interval
  }

  /// Time passes with a tick each second.
  mutating func live(seconds: Int) {
    for _ in 0..<seconds {
      pass(.seconds(1))
      engine.receiveTick(at: now, into: &effects)
      drain()
    }
  }

  /// Sends a request; its token.
  @discardableResult
  mutating func send(_ caller: TokenCaller, _ action: TokenAction) -> UInt64 {
    lastToken += 1
    let entropy = (0..<8).flatMap { _ in bigEndianBytes(random.next()) }
    engine.receive(
      TokenRequest(caller, action), token: lastToken, entropy: entropy, at: now, into: &effects)
    drain()
    return lastToken
  }

  mutating func drain() {
    var index = 0
    while index < effects.count {
      switch effects[index] {
      case .write(let ticket, let set):
        waiting.append((ticket, set))
        effects.remove(at: index)
        if !holdsWrites { finishWrites() }
      case .reply(let token, let result):
        effects.remove(at: index)
        precondition(replies.updateValue(result, forKey: token) == nil, "answered twice")
      default: index += 1
      }
    }
  }

  /// Makes the waiting writes, those they set free too.
  mutating func finishWrites() {
    while !waiting.isEmpty {
      let (ticket, set) = waiting.removeFirst()
      make(set)
      engine.receiveWritten(ticket, at: now, into: &effects)
      drain()
    }
  }

  mutating func failWrite() {
    let (ticket, _) = waiting.removeFirst()
    engine.receiveWriteFailed(ticket, Fault(.diskFull), at: now, into: &effects)
    drain()
  }

  private mutating func make(_ set: WriteSet) {
    var disk = disk
    set.forEach { op, table, key, value in
      let key = [UInt8](key)
      switch op {
      case 1: disk[table, default: [:]][key] = [UInt8](value)
      case 2: disk[table, default: [:]][key] = nil
      default:
        let end = [UInt8](value)
        for found in (disk[table] ?? [:]).keys
        where !found.lexicographicallyPrecedes(key) && found.lexicographicallyPrecedes(end) {
          disk[table]![found] = nil
        }
      }
    }
    self.disk = disk
  }

  /// The process dies; what waited is made or lost; a new one reads the rows.
  mutating func restart(losing: Bool = true) {
    if !losing { for (_, set) in waiting { make(set) } }
    waiting = []
    replies = [:]
    effects = []
    runs += 1
    settings.writer = runs
    // A monotonic clock begins anew.
    now.monotonic = Instant(nanoseconds: 5_000_000_000)
    let rows = (disk[.tokens] ?? [:]).map { Row(key: $0.key, value: $0.value) }
    engine = TokenEngine(
      rows: rows.shuffled(using: &random), settings: settings, keys: engine.signingKeys, at: now)
  }

  // MARK: shorthand

  mutating func ask(_ caller: TokenCaller, _ action: TokenAction) throws -> TokenReply {
    let token = send(caller, action)
    return try #require(replies[token], "no answer to \(action)").get()
  }

  mutating func fault(_ caller: TokenCaller, _ action: TokenAction) throws -> FaultCode? {
    let token = send(caller, action)
    switch try #require(replies[token], "no answer to \(action)") {
    case .success: return nil
    case .failure(let fault): return fault.code
    }
  }

  static let admin = TokenCaller.admin(actor: "test")

  mutating func admin(_ action: TokenAction) throws -> TokenReply { try ask(Self.admin, action) }

  func bearer(_ text: String) -> TokenCaller { .bearer(text, peer: "10.0.0.1") }

  /// A new tenant's key.
  mutating func tenant(_ org: String) throws -> TokenCaller {
    guard case .tenantCreated(_, _, let key?) = try admin(.createTenant(org: org, withKey: true))
    else { throw Unexpected() }
    return bearer(key)
  }

  mutating func invite(
    _ caller: TokenCaller, _ channel: String, uses: Int = 1, seconds: Int64 = 3_600
  ) throws -> String {
    let reply = try ask(
      caller, .createInvite(channel: channel, maxUses: uses, ttlSeconds: seconds))
    guard case .inviteCreated(_, let token) = reply else { throw Unexpected() }
    return token
  }

  static let keyPackage: [UInt8] = [0, 1, 0, 5, 9, 9, 9]

  func join(_ channel: String, _ token: String, identity: String = "bob") -> TokenAction {
    .join(
      channel: channel, token: token, keyPackage: Self.keyPackage + Array(identity.utf8),
      identity: identity)
  }

  /// A join request's id.
  mutating func joined(
    _ caller: TokenCaller, _ channel: String, _ token: String, identity: String = "bob"
  ) throws -> String {
    guard case .joinRequested(let id) = try ask(caller, join(channel, token, identity: identity))
    else { throw Unexpected() }
    return id
  }

  /// What an owner's poll gets.
  mutating func poll(_ caller: TokenCaller, _ channel: String) throws -> [PendingView] {
    guard case .pending(let list) = try ask(caller, .pending(channel: channel)) else {
      throw Unexpected()
    }
    return list
  }

  mutating func welcome(
    _ caller: TokenCaller, _ id: String
  ) throws -> (JoinStatus, [UInt8]) {
    guard case .welcome(_, let status, let bytes) = try ask(caller, .getWelcome(request: id)) else {
      throw Unexpected()
    }
    return (status, bytes)
  }

  mutating func jwt(_ caller: TokenCaller, ttl: Int64? = nil, scope: String? = nil) throws -> String
  {
    guard case .token(let text, _, _) = try ask(caller, .issueToken(ttlSeconds: ttl, scope: scope))
    else { throw Unexpected() }
    return text
  }

  struct Unexpected: Error {}
}
