public import Base
public import Messages
public import Registry

/// Keeps registries equal: exchanges with peers in rounds, and answers theirs.
///
/// An exchange: ask with the own vector (and what the peer is thought to lack), merge the answer, ask
/// again while there is more, push what the peer lacks; when vectors are equal and digests are not,
/// exchange the parts that differ. A value: the host makes the calls, each with a deadline.
public struct Gossip: Sendable {
  public static let protocolVersion: UInt32 = 1
  public let settings: GossipSettings
  public internal(set) var peers: [GossipPeer]
  private var nextRound = Instant.zero
  private var dice: UInt64
  public internal(set) var served = 0
  public internal(set) var rejected = 0
  /// Vectors of peers that were longer than one may be.
  public internal(set) var longVectors = 0

  public init(settings: GossipSettings, peers: [GossipPeer]) {
    self.settings = settings
    self.peers = peers
    dice = settings.seed | 1
  }

  /// xorshift64*: which peers, and jitter. Nothing secret.
  private mutating func roll(_ bound: Int) -> Int {
    dice ^= dice >> 12
    dice ^= dice << 25
    dice ^= dice >> 27
    return Int((dice &* 0x2545_f491_4f6c_dd1d) >> 33) % max(bound, 1)
  }

  /// One more relay to exchange with, from the next round on. Returns the number that its calls carry.
  public mutating func addPeer(_ peer: GossipPeer) -> Int {
    peers.append(peer)
    return peers.count - 1
  }

  /// A relay that is called no more, or again. What it answers to earlier calls is not heard.
  public mutating func setPeer(_ at: Int, isGone: Bool) {
    guard peers[at].isGone != isGone else { return }
    peers[at].isGone = isGone
    peers[at].phase = .idle
    peers[at].exchange += 1
    peers[at].failing = 0
    peers[at].nextAt = .zero
  }

  // MARK: rounds

  /// Begins a round when it is due, or at once when `now` is forced. Often enough: ten times an interval.
  public mutating func receiveTick(
    _ registry: inout Registry, forced: Bool = false, at now: Now
  ) -> [GossipCall] {
    if now.monotonic < nextRound, !forced { return [] }
    nextRound = now.monotonic + jittered(settings.interval)
    var ready = peers.indices.filter {
      peers[$0].phase == .idle && !peers[$0].isGone && (forced || peers[$0].nextAt <= now.monotonic)
    }
    var chosen = ready.filter { peers[$0].trust != .everything }
    ready.removeAll { peers[$0].trust != .everything }
    for _ in 0..<settings.fanout where !ready.isEmpty {
      chosen.append(ready.remove(at: roll(ready.count)))
    }
    return chosen.map { begin($0, &registry, at: now) }
  }

  private mutating func jittered(_ interval: Interval) -> Interval {
    let ns = interval.nanoseconds
    return Interval(nanoseconds: ns - ns / 10 + Int64(roll(Int(max(ns / 5, 1)))))
  }

  private mutating func begin(
    _ at: Int, _ registry: inout Registry, at now: Now
  ) -> GossipCall {
    peers[at].exchange += 1
    peers[at].pages = 0
    peers[at].phase = .syncing
    peers[at].counts.exchanges += 1
    peers[at].isSweeping = false
    if case .own(let name) = peers[at].trust, peers[at].kind == .posthouse,
      peers[at].nextSweep <= now.monotonic
    {
      registry.beginSweep(of: name)
      peers[at].isSweeping = true
    }
    return sync(at, &registry, from: peers[at].isSweeping ? 0 : nil, at: now)
  }

  /// `from`: as if everything of the peer's own up to here were known.
  private mutating func sync(
    _ at: Int, _ registry: inout Registry, from: UInt64? = nil, at now: Now
  ) -> GossipCall {
    var request = AnycastSyncRegistrationsRequest()
    request.relayID = settings.relayID
    request.limit = Int32(Limits.upstreamPage)
    request.protocol = Gossip.protocolVersion
    var vector = registry.nextVector(at: now)
    if case .own(let name) = peers[at].trust {
      request.ownOnly = true
      if let from, let i = vector.firstIndex(where: { $0.origin == name }) {
        vector[i].sequence = from
      }
    }
    request.vector = vector.map { AnycastVectorElement($0) }
    request.digest = registry.rootDigest
    if let theirs = peers[at].vector, peers[at].kind == .posthouse,
      peers[at].noPushUntil <= now.monotonic, !registry.isStale(theirs)
    {
      let delta = registry.delta(beyond: theirs, ownOnly: peers[at].takesOwnOnly)
      request.registrations = wire(delta.records, registry, now)
      request.coverage = delta.coverage.map { AnycastCoverage($0) }
      peers[at].counts.sent += delta.records.count
    }
    return GossipCall(peer: at, exchange: peers[at].exchange, request: .sync(request))
  }

  func wire(
    _ records: [Record], _ registry: Registry, _ now: Now
  ) -> [AnycastFederatedRegistration] {
    let expires = (now.wall + registry.settings.ttl).nanoseconds
    return records.map { AnycastFederatedRegistration($0, expires: expires) }
  }

  /// Records of a message, without those whose bytes changed on the way.
  static func delta(
    _ registrations: [AnycastFederatedRegistration], _ coverage: [AnycastCoverage]
  ) -> (Delta, damaged: Int) {
    var delta = Delta()
    delta.records = registrations.compactMap(\.record)
    let damaged = registrations.count - delta.records.count
    // A page with a hole covers nothing: it is asked for again.
    delta.coverage = damaged > 0 ? [] : coverage.map(\.coverage)
    return (delta, damaged)
  }

  mutating func merge(
    _ delta: Delta, _ trust: GossipTrust, _ vector: [VectorElement], _ registry: inout Registry,
    at now: Now
  ) -> (accepted: Int, refused: Int) {
    switch trust {
    case .everything: registry.receive(delta, from: vector, at: now)
    case .own(let name): registry.receiveOwn(delta, of: name, from: vector, at: now)
    case .nothing: (0, delta.records.count)
    }
  }

  // MARK: answers

  /// The answer to a sync; what comes next in this exchange, if anything.
  public mutating func receive(
    _ response: AnycastSyncRegistrationsResponse, to call: GossipCall, _ registry: inout Registry,
    at now: Now
  ) -> GossipCall? {
    let at = call.peer
    guard peers[at].exchange == call.exchange, peers[at].phase != .idle else { return nil }
    peers[at].pages += 1
    if response.protocol == 0 { return receiveUpstream(response, at, &registry, at: now) }
    peers[at].kind = .posthouse
    if refuses(response.vector, call, at: now) { return nil }
    let vector = response.vector.map(\.element)
    let (delta, damaged) = Gossip.delta(response.registrations, response.coverage)
    let (accepted, refused) = merge(delta, peers[at].trust, vector, &registry, at: now)
    peers[at].counts.received += accepted
    peers[at].counts.refused += refused + damaged
    peers[at].vector = vector
    peers[at].takesOwnOnly = response.ownOnly
    let isFull = peers[at].pages >= Limits.gossipPages
    if peers[at].phase == .repairing {
      return repairOn(response, at, &registry, at: now)
    }
    if response.hasMore, !isFull {
      return sync(at, &registry, from: peers[at].isSweeping ? through(delta, at) : nil, at: now)
    }
    if peers[at].isSweeping, case .own(let name) = peers[at].trust {
      registry.endSweep(of: name)
      peers[at].isSweeping = false
      peers[at].nextSweep = now.monotonic + jittered(settings.sweepInterval)
    }
    if !isFull, let push = push(at, &registry, at: now) { return push }
    if let repair = repair(response, at, &registry, at: now) { return repair }
    finish(at, at: now)
    return nil
  }

  private func through(_ delta: Delta, _ at: Int) -> UInt64 {
    if case .own(let name) = peers[at].trust {
      return delta.coverage.first { $0.origin == name }?.through ?? 0
    }
    return 0
  }

  private mutating func push(
    _ at: Int, _ registry: inout Registry, at now: Now
  ) -> GossipCall? {
    guard let theirs = peers[at].vector, peers[at].noPushUntil <= now.monotonic,
      !registry.isStale(theirs)
    else { return nil }
    let delta = registry.delta(beyond: theirs, ownOnly: peers[at].takesOwnOnly)
    if delta.coverage.isEmpty { return nil }
    return push(delta, at, &registry, at: now)
  }

  private mutating func push(
    _ delta: Delta, _ at: Int, _ registry: inout Registry, at now: Now
  ) -> GossipCall {
    if peers[at].phase == .syncing { peers[at].phase = .pushing }
    var request = AnycastPushRegistrationsRequest()
    request.relayID = settings.relayID
    request.protocol = Gossip.protocolVersion
    request.vector = registry.nextVector(at: now).map { AnycastVectorElement($0) }
    request.registrations = wire(delta.records, registry, now)
    request.coverage = delta.coverage.map { AnycastCoverage($0) }
    peers[at].counts.sent += delta.records.count
    return GossipCall(peer: at, exchange: peers[at].exchange, request: .push(request))
  }

  /// The answer to a push.
  public mutating func receive(
    _ response: AnycastPushRegistrationsResponse, to call: GossipCall,
    _ registry: inout Registry, at now: Now
  ) -> GossipCall? {
    let at = call.peer
    guard peers[at].exchange == call.exchange, peers[at].phase != .idle else { return nil }
    peers[at].pages += 1
    if peers[at].kind == .upstream { return pushUpstream(at, &registry, at: now) }
    if refuses(response.vector, call, at: now) { return nil }
    if peers[at].phase == .repairing { return repairNext(at, &registry, at: now) }
    let vector = response.vector.map(\.element)
    let before = peers[at].vector ?? []
    peers[at].vector = vector
    // A peer that merges nothing of what it gets is not fed for ever.
    let moved = vector.contains { element in
      before.first { $0.origin == element.origin }?.sequence != element.sequence
    }
    if moved, peers[at].pages < Limits.gossipPages, let more = push(at, &registry, at: now) {
      return more
    }
    finish(at, at: now)
    return nil
  }

  private mutating func refuses(
    _ vector: [AnycastVectorElement], _ call: GossipCall, at now: Now
  ) -> Bool {
    guard let trouble = Gossip.trouble(vector) else { return false }
    longVectors += 1
    receiveFailure("it answers with \(trouble)", to: call, at: now)
    return true
  }

  /// A call failed: the exchange is over. `refusesPush`: the peer answered that it takes no push.
  public mutating func receiveFailure(
    _ why: String, refusesPush: Bool = false, to call: GossipCall, at now: Now
  ) {
    let at = call.peer
    guard peers[at].exchange == call.exchange, peers[at].phase != .idle else { return }
    if refusesPush, case .push = call.request {
      peers[at].noPushUntil = now.monotonic + .seconds(60)
      finish(at, at: now)
      return
    }
    peers[at].phase = .idle
    peers[at].counts.failures += 1
    peers[at].failing += 1
    peers[at].lastFailure = String(why.prefix(200))
    // Doubled up to a minute.
    let factor = Int64(1) << Int64(min(peers[at].failing - 1, 6))
    let wait = min(settings.interval.nanoseconds.multipliedCapped(factor), 60_000_000_000)
    peers[at].nextAt = now.monotonic + jittered(Interval(nanoseconds: wait))
  }

  private mutating func finish(_ at: Int, at now: Now) {
    peers[at].phase = .idle
    peers[at].failing = 0
    peers[at].lastFailure = ""
    peers[at].lastSuccess = now.monotonic
    peers[at].nextAt =
      peers[at].kind == .upstream ? now.monotonic + jittered(settings.upstreamInterval) : .zero
  }

  // MARK: repairs

  private mutating func repair(
    _ response: AnycastSyncRegistrationsResponse, _ at: Int, _ registry: inout Registry,
    at now: Now
  ) -> GossipCall? {
    guard peers[at].trust == .everything, !response.ownOnly, peers[at].nextRepair <= now.monotonic,
      let theirs = peers[at].vector, registry.isLevel(with: theirs),
      response.digest != registry.rootDigest
    else { return nil }
    peers[at].nextRepair = now.monotonic + jittered(settings.repairInterval)
    peers[at].phase = .repairing
    peers[at].counts.repairs += 1
    peers[at].parts = []
    var request = bare(registry)
    request.partDigests = registry.bucketDigests.flatMap { bigEndianBytes($0) }
    return GossipCall(peer: at, exchange: peers[at].exchange, request: .sync(request))
  }

  private func bare(_ registry: Registry) -> AnycastSyncRegistrationsRequest {
    var request = AnycastSyncRegistrationsRequest()
    request.relayID = settings.relayID
    request.protocol = Gossip.protocolVersion
    request.vector = registry.vector.map { AnycastVectorElement($0) }
    request.digest = registry.rootDigest
    return request
  }

  /// More of the parts that differ, then what is held of them here.
  private mutating func repairOn(
    _ response: AnycastSyncRegistrationsResponse, _ at: Int, _ registry: inout Registry,
    at now: Now
  ) -> GossipCall? {
    if peers[at].parts.isEmpty { peers[at].parts = response.parts }
    if response.partsNext > 0, peers[at].pages < Limits.gossipPages {
      var request = bare(registry)
      request.parts = peers[at].parts
      request.partsFrom = response.partsNext
      return GossipCall(peer: at, exchange: peers[at].exchange, request: .sync(request))
    }
    peers[at].pages = 0
    peers[at].repairFrom = 0
    return repairNext(at, &registry, at: now)
  }

  private mutating func repairNext(
    _ at: Int, _ registry: inout Registry, at now: Now
  ) -> GossipCall? {
    guard let from = peers[at].repairFrom, !peers[at].parts.isEmpty,
      peers[at].pages < Limits.gossipPages, peers[at].noPushUntil <= now.monotonic
    else {
      finish(at, at: now)
      return nil
    }
    var delta = Delta()
    (delta.records, peers[at].repairFrom) = registry.records(in: peers[at].parts, from: from)
    if delta.records.isEmpty {
      finish(at, at: now)
      return nil
    }
    return push(delta, at, &registry, at: now)
  }

  // MARK: upstream's relays

  private mutating func receiveUpstream(
    _ response: AnycastSyncRegistrationsResponse, _ at: Int, _ registry: inout Registry,
    at now: Now
  ) -> GossipCall? {
    peers[at].kind = .upstream
    guard case .own(let name) = peers[at].trust else {
      receiveFailure(
        "an AgentAnycast relay must be named with its relay id",
        to: GossipCall(peer: at, exchange: peers[at].exchange, request: .sync(.init())), at: now)
      return nil
    }
    adopt(response.registrations, name, at, &registry, at: now)
    if response.registrations.count < Limits.upstreamPage {
      registry.receiveAdoptedAll(
        Set(response.registrations.map(\.peerID)), source: name, at: now)
    }
    peers[at].phase = .pushing
    return pushUpstream(at, &registry, at: now)
  }

  private mutating func adopt(
    _ registrations: [AnycastFederatedRegistration], _ name: String, _ at: Int,
    _ registry: inout Registry, at now: Now
  ) {
    for one in registrations.prefix(Limits.upstreamPage) {
      if Gossip.adopt(one, name, &registry, at: now) {
        peers[at].counts.received += 1
      } else {
        peers[at].counts.refused += 1
      }
    }
  }

  /// One entry that the relay `name` shows as its own. False: refused.
  static func adopt(
    _ one: AnycastFederatedRegistration, _ name: String, _ registry: inout Registry, at now: Now
  ) -> Bool {
    guard one.originRelayID.isEmpty || one.originRelayID == name,
      let registered = one.registeredAt, let expires = one.expiresAt,
      expires.wall > now.wall.nanoseconds - 2 * 3_600_000_000_000
    else { return false }
    do {
      try registry.receiveAdopted(
        one.registration, source: name, version: one.version, registeredAt: registered.wall,
        at: now)
      return true
    } catch {
      return false
    }
  }

  private mutating func pushUpstream(
    _ at: Int, _ registry: inout Registry, at now: Now
  ) -> GossipCall? {
    guard case .own(let name) = peers[at].trust, peers[at].noPushUntil <= now.monotonic,
      peers[at].pages < Limits.gossipPages
    else {
      finish(at, at: now)
      return nil
    }
    let (page, next) = registry.upstreamPage(
      since: peers[at].pushedThrough, limit: Limits.upstreamPushPage, to: name, at: now)
    // The last one of a page begins the next; alone it is nothing new.
    if page.isEmpty || page.count == 1 && peers[at].pushedThrough == page[0].touched {
      peers[at].pushedThrough = max(peers[at].pushedThrough, next)
      finish(at, at: now)
      return nil
    }
    peers[at].pushedThrough = next
    var request = AnycastPushRegistrationsRequest()
    request.relayID = settings.relayID
    request.registrations = upstream(page, page.count, registry, now)
    peers[at].counts.sent += page.count
    return GossipCall(peer: at, exchange: peers[at].exchange, request: .push(request))
  }

  /// In upstream's terms: an end is an entry without skills, with a higher version.
  func upstream(
    _ page: [UpstreamRecord], _ pageSize: Int, _ registry: Registry, _ now: Now
  ) -> [AnycastFederatedRegistration] {
    // Long enough for all its entries to come by, at its rhythm of a page in 10 s.
    let pages = Int64(1 + registry.localCount / max(pageSize, 1))
    let life = max(registry.settings.ttl.nanoseconds, pages.multipliedCapped(30_000_000_000))
    return page.map { shown in
      var out = AnycastFederatedRegistration(
        shown.record, expires: now.wall.nanoseconds + min(life, 3_600_000_000_000))
      out.version = shown.version
      out.originRelayID = settings.relayID
      return out
    }
  }
}

extension Int64 {
  func multipliedCapped(_ factor: Int64) -> Int64 {
    let (product, over) = multipliedReportingOverflow(by: factor)
    return over ? .max : product
  }
}
