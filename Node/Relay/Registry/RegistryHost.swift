import Base
import Codec
import Crypto
import Gossip
import Grpc
import Loop
import Messages
import Registry
import Report
import Settings
import Store
import Tls

/// The registry and its gossip on a loop of their own: calls in, answers out, rows to the store, calls to
/// other relays. Everything but `init` and `start` runs on that loop.
final class RegistryHost: @unchecked Sendable {
  unowned let node: NodeHost
  let loop: EventLoop
  let settings: NodeSettings.Registry
  var registry: Registry
  var gossip: Gossip
  let proof: PeerProofs
  /// Answers that go out when the rows of this turn are written.
  private var waiting: [(Fault?) -> Void] = []
  private var writesUnderWay = 0
  private let dialer: RelayDialer?
  /// The other nodes of the cluster, by their number in `gossip.peers`, and back.
  var clusterNodes: [Int: NodeID] = [:]
  var clusterPeers: [NodeID: Int] = [:]
  var calls: ClusterCalls?
  private(set) var isSealed = false
  /// What the log has said of peers that name too many relays, and when.
  private var toldAt: Instant?
  private var toldOriginless = 0
  private var toldLongVectors = 0
  /// What metrics show; from any thread.
  let facts = Guarded(Facts())

  struct Facts: Sendable {
    var local = 0
    var federated = 0
    var tombstones = 0
    var skills = 0
    var origins = 0
    var hidden = 0
    var counts = RegistryCounts()
    var rejected = 0
    var longVectors = 0
    var exchanges = 0
    var failures = 0
    var sent = 0
    var received = 0
    var failing = 0
  }

  /// Empty: `start` reads the store's rows.
  init(node: NodeHost, index: Int) throws(Fault) {
    self.node = node
    let settings = node.settings.registry
    self.settings = settings
    do {
      loop = try EventLoop.start(index: index, name: "registry")
    } catch {
      throw Fault(.unavailable, "\(error)")
    }
    var told = RegistrySettings(relayID: settings.relayID, seed: Random.uint64())
    told.ttl = settings.ttl
    told.capacity = settings.capacity
    told.foreignCapacity = settings.federatedCapacity
    told.originTimeout = settings.originTimeout
    told.tombstoneLife = settings.tombstoneLife
    registry = Registry(settings: told, at: loop.now)
    var rhythm = GossipSettings(relayID: settings.relayID, seed: Random.uint64())
    rhythm.interval = settings.interval
    rhythm.fanout = settings.fanout
    gossip = Gossip(
      settings: rhythm,
      peers: settings.peers.map { peer in
        peer.name.isEmpty
          ? GossipPeer(name: peer.address.description, trust: .everything)
          : GossipPeer(name: peer.name, trust: .own(peer.name))
      })
    proof = PeerProofs(settings.proof)
    dialer = settings.peers.isEmpty ? nil : try RelayDialer(settings, index: index + 1)
  }

  /// Reads the rows, some seconds for a million agents, and begins the steps of the clock. Before the
  /// listeners are opened: calls wait on this loop until the rows are there, and agents' messages on
  /// theirs do not.
  func start() {
    loop.post { [self] in
      load()
      loop.onTurnEnd = { [unowned self] in endTurn() }
      everySecond()
      if dialer != nil || calls != nil { everyRound() }
    }
  }

  private func load() {
    let now = loop.now
    do throws(Fault) {
      try unsafe node.store.scan(.registry, bulk: true) { key, value in
        unsafe registry.load(key: [UInt8](key), value: [UInt8](value), at: now)
        return true
      }
    } catch {
      node.log.error("the registry cannot be read and is not served", ["why": .of(error)])
      isSealed = true
    }
    registry.finishLoading(at: now)
    if registry.counts.damagedRows > 0 {
      node.log.error(
        "damaged registry rows are not used", ["rows": .of(registry.counts.damagedRows)])
    }
  }

  // MARK: time

  private func everySecond() {
    if isSealed { return }
    registry.receiveTick(at: loop.now)
    complain()
    refreshFacts()
    loop.schedule(after: .seconds(1)) { [unowned self] in everySecond() }
  }

  /// Once a minute at most: what operators have to know of what peers send.
  private func complain() {
    let (originless, longVectors) = (registry.counts.originless, gossip.longVectors)
    guard originless > toldOriginless || longVectors > toldLongVectors,
      toldAt.map({ loop.now.monotonic - $0 >= .minutes(1) }) ?? true
    else { return }
    toldAt = loop.now.monotonic
    if originless > toldOriginless {
      node.log.warn(
        "the registry has records of as many relays as it can: those of further ones are refused",
        ["relays": .of(registry.origins.count), "records": .of(originless - toldOriginless)])
    }
    if longVectors > toldLongVectors {
      node.log.warn(
        "a relay names too many relays: what it sends is refused",
        ["vectors": .of(longVectors - toldLongVectors)])
    }
    (toldOriginless, toldLongVectors) = (originless, longVectors)
  }

  private func everyRound() {
    if isSealed { return }
    for call in gossip.receiveTick(&registry, at: loop.now) { make(call) }
    // Ten looks in an interval, at least one in 100 ms.
    let wait = max(10_000_000, min(settings.interval.nanoseconds / 10, 100_000_000))
    loop.schedule(after: Interval(nanoseconds: wait)) { [unowned self] in everyRound() }
  }

  /// Calls every peer now. Returns how many.
  func syncNow() -> Int {
    let calls = gossip.receiveTick(&registry, forced: true, at: loop.now)
    for call in calls { make(call) }
    return calls.count
  }

  private func refreshFacts() {
    var now = Facts()
    now.local = registry.localCount
    now.federated = registry.foreignCount
    now.tombstones = registry.tombstoneCount
    now.skills = registry.skillCount
    now.origins = registry.origins.count
    now.hidden = registry.origins.reduce(0) { $0 + ($1.isHidden ? 1 : 0) }
    now.counts = registry.counts
    now.rejected = gossip.rejected
    now.longVectors = gossip.longVectors
    for peer in gossip.peers {
      if peer.isGone { continue }
      now.exchanges += peer.counts.exchanges
      now.failures += peer.counts.failures
      now.sent += peer.counts.sent
      now.received += peer.counts.received
      now.failing += peer.failing > 0 ? 1 : 0
    }
    facts.value = now
  }

  // MARK: rows

  /// `done` is called once what has changed in this turn is written.
  func afterWrite(_ done: @escaping (Fault?) -> Void) { waiting.append(done) }

  private func endTurn() {
    guard registry.hasWrites || !waiting.isEmpty else { return }
    let answers = waiting
    waiting = []
    if isSealed {
      for answer in answers { answer(Fault(.draining)) }
      return
    }
    writesUnderWay += 1
    let holder = AnswerHolder(answers)
    node.store.submit(registry.takeWrites(), synced: false) { [self] result in
      loop.post { [self] in
        writesUnderWay -= 1
        var fault: Fault?
        if case .failure(let failure) = result { fault = failure }
        for answer in holder.answers { answer(fault) }
      }
    }
  }

  var isQuiet: Bool { writesUnderWay == 0 && waiting.isEmpty && !registry.hasWrites }

  /// The last rows are on their way; nothing is written after them.
  func seal() {
    endTurn()
    isSealed = true
  }

  func stop() {
    dialer?.stop()
    loop.stop()
    loop.join()
    dialer?.join()
  }

  // MARK: calls to other relays

  private func make(_ call: GossipCall) {
    if let node = clusterNodes[call.peer] { return ask(node, call) }
    guard let dialer else { return }
    let path: String
    let bytes: [UInt8]
    let isSync: Bool
    switch call.request {
    case .sync(let request):
      (path, bytes, isSync) = (FederationService.syncRegistrations.path, request.encoded(), true)
    case .push(let request):
      (path, bytes, isSync) = (FederationService.pushRegistrations.path, request.encoded(), false)
    }
    dialer.call(call.peer, path, bytes) { [self] outcome in
      loop.post { [self] in
        if isSealed { return }
        receive(outcome, to: call, isSync: isSync)
      }
    }
  }

  func receive(_ outcome: RelayDialer.Outcome, to call: GossipCall, isSync: Bool) {
    let now = loop.now
    switch outcome {
    case .answer(let bytes):
      var next: GossipCall?
      if isSync, let answer = try? AnycastSyncRegistrationsResponse(decoding: bytes) {
        next = gossip.receive(answer, to: call, &registry, at: now)
      } else if !isSync, let answer = try? AnycastPushRegistrationsResponse(decoding: bytes) {
        next = gossip.receive(answer, to: call, &registry, at: now)
      } else {
        gossip.receiveFailure("the answer is no valid message", to: call, at: now)
      }
      if let next { make(next) }
    case .failure(let status, let message):
      let before = gossip.peers[call.peer].failing
      let refuses = status == .unimplemented || status == .permissionDenied
      gossip.receiveFailure(
        "\(status): \(message)", refusesPush: refuses, to: call, at: now)
      if before == 0, gossip.peers[call.peer].failing == 1 {
        node.log.warn(
          "a relay does not answer",
          ["relay": .of(gossip.peers[call.peer].name), "why": .of("\(status): \(message)")])
      }
    }
  }

  // MARK: who calls

  /// What is taken from a caller that names itself `relayID`.
  func trust(_ relayID: String, _ call: GrpcCall) throws(Fault) -> GossipTrust {
    if call.connection.isSecure {
      guard let name = call.connection.peerName, name == relayID else {
        throw Fault(.forbidden, "the certificate is not that of relay \(relayID.prefix(64))")
      }
      return .everything
    }
    for peer in settings.peers where peer.name == relayID && !relayID.isEmpty {
      // Where the address is a number, calls come from there.
      let host = peer.address.host
      let isNumber = host.contains(":") || host.allSatisfy { $0.isNumber || $0 == "." }
      if isNumber, call.peer.host != host, !(peer.address.isLoopback && call.peer.isLocal) {
        continue
      }
      return .own(relayID)
    }
    return .nothing
  }
}

/// Closures that go to the commit thread and back, called on the loop they come from.
private final class AnswerHolder: @unchecked Sendable {
  let answers: [(Fault?) -> Void]
  init(_ answers: [(Fault?) -> Void]) { self.answers = answers }
}

extension PeerAddress {
  /// `text` without the port.
  var host: String {
    guard let colon = text.lastIndex(of: ":") else { return text }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    // IPv4 as IPv6 sees it.
    return host.hasPrefix("::ffff:") ? String(host.dropFirst(7)) : String(host)
  }
}
