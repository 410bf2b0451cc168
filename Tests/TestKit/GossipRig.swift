public import Base
internal import Codec
public import Gossip
public import Messages
public import Registry

/// Relays that gossip over a network in memory, each with clocks of its own. Everything they say goes through its bytes.
public struct GossipRig {
  public struct Relay {
    public var registry: Registry
    public var gossip: Gossip
    /// How far its wall clock is ahead, nanoseconds.
    public var skew: Int64
    /// What its store holds.
    var rows: [[UInt8]: [UInt8]] = [:]

    public mutating func tick(at now: Now) -> [GossipCall] {
      gossip.receiveTick(&registry, forced: true, at: now)
    }
    public mutating func sync(
      _ request: AnycastSyncRegistrationsRequest, _ trust: GossipTrust, at now: Now
    ) throws(Fault) -> AnycastSyncRegistrationsResponse {
      try gossip.receiveSync(request, trust, &registry, at: now)
    }
    public mutating func push(
      _ request: AnycastPushRegistrationsRequest, _ trust: GossipTrust, at now: Now
    ) throws(Fault) -> AnycastPushRegistrationsResponse {
      try gossip.receivePush(request, trust, &registry, at: now)
    }
    public mutating func receive(
      _ answer: AnycastSyncRegistrationsResponse, to call: GossipCall, at now: Now
    ) -> GossipCall? {
      gossip.receive(answer, to: call, &registry, at: now)
    }
    public mutating func receive(
      _ answer: AnycastPushRegistrationsResponse, to call: GossipCall, at now: Now
    ) -> GossipCall? {
      gossip.receive(answer, to: call, &registry, at: now)
    }
  }

  /// What went over the network.
  public struct Traffic: Equatable, Sendable {
    public var calls = 0
    /// Of requests and answers, as gRPC messages without their frames.
    public var bytes = 0
    public init() {}
  }

  public static let start: Int64 = 1_800_000_000_000_000_000
  public var relays: [Relay] = []
  public var monotonic: Int64 = 1_000_000_000
  public var dice: SimRandom
  /// Of a hundred calls, how many lose the request, and of the rest how many the answer.
  public var lostRequests = 0
  public var lostAnswers = 0
  /// Ordered pairs that do not reach each other.
  public var cut: Set<[Int]> = []
  public var traffic = Traffic()
  /// Of each agent the largest record that a home has issued by request, since its last end that was forgotten.
  public private(set) var issued: [String: Record] = [:]
  /// Follows what becomes of tombstones, where a check wants that.
  var graves: GraveWatch?

  /// `own`: each takes only what a relay says of itself; else everything.
  public init(
    _ count: Int, seed: UInt64 = 1, fanout: Int = 1, skewSeconds: (Int) -> Int64 = { _ in 0 },
    own: Bool = false, settings change: (inout RegistrySettings) -> Void = { _ in }
  ) {
    dice = SimRandom(seed: seed)
    for i in 0..<count {
      var settings = RegistrySettings(relayID: "relay-\(i)", seed: seed)
      change(&settings)
      var told = GossipSettings(relayID: "relay-\(i)", seed: dice.next())
      told.fanout = fanout
      let peers = (0..<count).filter { $0 != i }.map { j in
        GossipPeer(name: "relay-\(j)", trust: own ? .own("relay-\(j)") : .everything)
      }
      let skew = skewSeconds(i) * 1_000_000_000
      let now = Now(
        monotonic: Instant(nanoseconds: monotonic),
        wall: Instant(nanoseconds: Self.start + monotonic + skew))
      var registry = Registry(settings: settings, at: now)
      registry.finishLoading(at: now)
      relays.append(
        Relay(registry: registry, gossip: Gossip(settings: told, peers: peers), skew: skew))
    }
  }

  public func now(_ i: Int) -> Now {
    Now(
      monotonic: Instant(nanoseconds: monotonic),
      wall: Instant(nanoseconds: Self.start + monotonic + relays[i].skew))
  }

  // MARK: agents

  public mutating func register(
    _ i: Int, _ peer: String, _ skills: [String] = ["echo"]
  ) throws(Fault) {
    monotonic += 1
    let before = relays[i].registry.record(of: peer)
    _ = try relays[i].registry.receiveRegister(
      Registration(peerID: peer, skills: skills.map { Skill(id: $0) }), at: now(i))
    remember(i, peer, before)
  }

  public mutating func heartbeat(_ i: Int, _ peer: String) throws(Fault) {
    _ = try relays[i].registry.receiveHeartbeat(peer, at: now(i))
  }

  /// Agents speak up, and register again when their relay does not know them.
  public mutating func live(_ homes: [String: Int]) throws(Fault) {
    for (peer, at) in homes.sorted(by: { $0.key < $1.key }) {
      do { try heartbeat(at, peer) } catch { try register(at, peer, ["s0"]) }
    }
  }

  public mutating func unregister(_ i: Int, _ peer: String) throws(Fault) {
    monotonic += 1
    let before = relays[i].registry.record(of: peer)
    try relays[i].registry.receiveUnregister(peer, skills: [], at: now(i))
    remember(i, peer, before)
  }

  public mutating func discover(_ i: Int, _ skill: String = "echo") -> [String] {
    relays[i].registry.discover(Discovery(skill: skill, limit: 1_000), at: now(i))
  }

  private mutating func look(_ i: Int, isTick: Bool = false) {
    graves?.look(i, relays[i].registry, issued.keys, isTick: isTick)
  }

  /// `before`: what relay `i` held of the agent before it was asked.
  private mutating func remember(_ i: Int, _ peer: String, _ before: Record?) {
    look(i)
    guard let record = relays[i].registry.record(of: peer), record != before else { return }
    if let known = issued[peer], known.wins(over: record) {
      let isForgotten = before == nil && graves?.forgotten.contains(known.stamp) == true
      if !isForgotten { return }
    }
    issued[peer] = record
  }

  // MARK: restarts

  /// What a relay has of its data after a restart.
  public enum Kept: CaseIterable {
    case everything
    /// What stood in the store when it last wrote.
    case older
    case nothing
  }

  /// A relay writes what has changed.
  public mutating func write(_ i: Int) {
    relays[i].registry.takeWrites().forEach { op, _, key, value in
      relays[i].rows[[UInt8](key)] = op == 1 ? [UInt8](value) : nil
    }
  }

  public mutating func restart(_ i: Int, _ kept: Kept) {
    switch kept {
    case .everything: write(i)
    case .older: break
    case .nothing: relays[i].rows = [:]
    }
    let now = now(i)
    var registry = Registry(settings: relays[i].registry.settings, at: now)
    let rows = relays[i].rows.sorted { $0.key.lexicographicallyPrecedes($1.key) }
    for (key, value) in rows { registry.load(key: key, value: value, at: now) }
    registry.finishLoading(at: now)
    relays[i].registry = registry
    var told = relays[i].gossip.settings
    told.seed = dice.next()
    let peers = relays[i].gossip.peers.map { GossipPeer(name: $0.name, trust: $0.trust) }
    relays[i].gossip = Gossip(settings: told, peers: peers)
  }

  // MARK: rounds

  /// The index of the relay behind peer `p` of relay `i`.
  private func target(_ i: Int, _ p: Int) -> Int { p < i ? p : p + 1 }

  /// One round: every relay begins its exchanges, in random order, and each runs to its end.
  public mutating func round(afterSeconds: Int64 = 1) {
    pass(seconds: afterSeconds)
    for i in relays.indices.shuffled(using: &dice) {
      for call in relays[i].tick(at: now(i)) {
        run(i, call)
      }
    }
  }

  /// Time without exchanges.
  public mutating func pass(seconds: Int64) {
    monotonic += seconds * 1_000_000_000
    for i in relays.indices {
      relays[i].registry.receiveTick(at: now(i))
      look(i, isTick: true)
    }
  }

  private mutating func carry(_ bytes: [UInt8]) -> [UInt8] {
    traffic.bytes += bytes.count
    return bytes
  }

  private mutating func run(_ i: Int, _ first: GossipCall) {
    var next: GossipCall? = first
    while let call = next {
      let j = target(i, call.peer)
      next = nil
      traffic.calls += 1
      if cut.contains([i, j]) || dice.below(100) < lostRequests {
        relays[i].gossip.receiveFailure("lost", to: call, at: now(i))
        return
      }
      let mine = i < j ? i : i - 1
      let trust = relays[j].gossip.peers[mine].trust
      let isLost = cut.contains([j, i]) || dice.below(100) < lostAnswers
      do {
        switch call.request {
        case .sync(let request):
          let asked = try AnycastSyncRegistrationsRequest(decoding: carry(request.encoded()))
          let answer = carry(try relays[j].sync(asked, trust, at: now(j)).encoded())
          look(j)
          if isLost { break }
          next = relays[i].receive(
            try AnycastSyncRegistrationsResponse(decoding: answer), to: call, at: now(i))
        case .push(let request):
          let asked = try AnycastPushRegistrationsRequest(decoding: carry(request.encoded()))
          let answer = carry(try relays[j].push(asked, trust, at: now(j)).encoded())
          look(j)
          if isLost { break }
          next = relays[i].receive(
            try AnycastPushRegistrationsResponse(decoding: answer), to: call, at: now(i))
        }
        look(i)
        if isLost { relays[i].gossip.receiveFailure("lost", to: call, at: now(i)) }
      } catch {
        relays[i].gossip.receiveFailure("\(error)", refusesPush: true, to: call, at: now(i))
        return
      }
    }
  }

  public var isConverged: Bool {
    let digest = relays[0].registry.rootDigest
    return relays.allSatisfy {
      $0.registry.rootDigest == digest && $0.registry.isLevel(with: relays[0].registry.vector)
    }
  }

  /// Rounds until all are equal; nil: more than `most`.
  public mutating func rounds(most: Int) -> Int? {
    for n in 0...most {
      if isConverged { return n }
      round()
    }
    return nil
  }
}
