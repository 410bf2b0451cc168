import Base
import Codec
import Gossip
import Messages
import Registry
import Testing

/// Relays that gossip over a network in memory, each with clocks of its own.
struct GossipRig {
  struct Relay {
    var registry: Registry
    var gossip: Gossip
    var skew: Int64

    mutating func tick(at now: Now) -> [GossipCall] {
      gossip.receiveTick(&registry, forced: true, at: now)
    }
    mutating func sync(
      _ request: AnycastSyncRegistrationsRequest, _ trust: GossipTrust, at now: Now
    ) throws -> AnycastSyncRegistrationsResponse {
      try gossip.receiveSync(request, trust, &registry, at: now)
    }
    mutating func push(
      _ request: AnycastPushRegistrationsRequest, _ trust: GossipTrust, at now: Now
    ) throws -> AnycastPushRegistrationsResponse {
      try gossip.receivePush(request, trust, &registry, at: now)
    }
    mutating func receive(
      _ answer: AnycastSyncRegistrationsResponse, to call: GossipCall, at now: Now
    ) -> GossipCall? {
      gossip.receive(answer, to: call, &registry, at: now)
    }
    mutating func receive(
      _ answer: AnycastPushRegistrationsResponse, to call: GossipCall, at now: Now
    ) -> GossipCall? {
      gossip.receive(answer, to: call, &registry, at: now)
    }
  }
  static let start: Int64 = 1_800_000_000_000_000_000
  var relays: [Relay] = []
  var monotonic: Int64 = 1_000_000_000
  var dice: Dice
  /// Of a hundred calls, how many lose the request, and of the rest how many the answer.
  var lostRequests = 0
  var lostAnswers = 0
  /// Ordered pairs that do not reach each other.
  var cut: Set<[Int]> = []
  var page: Int?

  /// `trust`: what each takes from each other; nil: everything.
  init(
    _ count: Int, seed: UInt64 = 1, fanout: Int = 1, skewSeconds: (Int) -> Int64 = { _ in 0 },
    own: Bool = false, _ change: (inout RegistrySettings) -> Void = { _ in }
  ) {
    dice = Dice(seed)
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

  func now(_ i: Int) -> Now {
    Now(
      monotonic: Instant(nanoseconds: monotonic),
      wall: Instant(nanoseconds: Self.start + monotonic + relays[i].skew))
  }

  mutating func register(_ i: Int, _ peer: String, _ skills: [String] = ["echo"]) throws {
    monotonic += 1
    _ = try relays[i].registry.receiveRegister(
      Registration(peerID: peer, skills: skills.map { Skill(id: $0) }), at: now(i))
  }

  mutating func heartbeat(_ i: Int, _ peer: String) throws {
    _ = try relays[i].registry.receiveHeartbeat(peer, at: now(i))
  }

  /// Agents speak up, and register again when their relay does not know them.
  mutating func live(_ homes: [String: Int]) throws {
    for (peer, at) in homes.sorted(by: { $0.key < $1.key }) {
      do { try heartbeat(at, peer) } catch { try register(at, peer, ["s0"]) }
    }
  }

  mutating func unregister(_ i: Int, _ peer: String) throws {
    monotonic += 1
    try relays[i].registry.receiveUnregister(peer, skills: [], at: now(i))
  }

  mutating func discover(_ i: Int, _ skill: String = "echo") -> [String] {
    relays[i].registry.discover(Discovery(skill: skill, limit: 1_000), at: now(i))
  }

  /// The index of the relay behind peer `p` of relay `i`.
  func target(_ i: Int, _ p: Int) -> Int { p < i ? p : p + 1 }

  /// One round: every relay begins its exchanges, in random order, and each runs to its end.
  mutating func round(afterSeconds: Int64 = 1) {
    monotonic += afterSeconds * 1_000_000_000
    for i in relays.indices { relays[i].registry.receiveTick(at: now(i)) }
    for i in relays.indices.shuffled(using: &dice) {
      for call in relays[i].tick(at: now(i)) {
        run(i, call)
      }
    }
  }

  private mutating func run(_ i: Int, _ first: GossipCall) {
    var next: GossipCall? = first
    while let call = next {
      let j = target(i, call.peer)
      next = nil
      if cut.contains([i, j]) || Int.random(in: 0..<100, using: &dice) < lostRequests {
        relays[i].gossip.receiveFailure("lost", to: call, at: now(i))
        return
      }
      let trust = relays[j].gossip.peers.first { $0.name == "relay-\(i)" }!.trust
      let isLost = cut.contains([j, i]) || Int.random(in: 0..<100, using: &dice) < lostAnswers
      do {
        switch call.request {
        case .sync(let request):
          // Through the wire, as in life.
          let answer = try relays[j].sync(
            try AnycastSyncRegistrationsRequest(decoding: request.encoded()), trust, at: now(j))
          if isLost { break }
          next = relays[i].receive(
            try AnycastSyncRegistrationsResponse(decoding: answer.encoded()), to: call, at: now(i))
        case .push(let request):
          let answer = try relays[j].push(
            try AnycastPushRegistrationsRequest(decoding: request.encoded()), trust, at: now(j))
          if isLost { break }
          next = relays[i].receive(answer, to: call, at: now(i))
        }
        if isLost { relays[i].gossip.receiveFailure("lost", to: call, at: now(i)) }
      } catch {
        relays[i].gossip.receiveFailure("\(error)", refusesPush: true, to: call, at: now(i))
        return
      }
    }
  }

  var isConverged: Bool {
    let digest = relays[0].registry.rootDigest
    return relays.allSatisfy {
      $0.registry.rootDigest == digest && $0.registry.isLevel(with: relays[0].registry.vector)
    }
  }

  /// Rounds until all are equal; nil: more than `most`.
  mutating func rounds(most: Int) -> Int? {
    for n in 0...most {
      if isConverged { return n }
      round()
    }
    return nil
  }
}

/// Small deterministic randomness (SplitMix64).
struct Dice: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
