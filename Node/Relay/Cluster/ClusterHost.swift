import Base
import Crypto
import Grpc
import Http
import Loop
import Membership
import Messages
import Report
import Ring
import Settings
import Store
import Tls

/// What hears of other nodes and of maps: the links. Everything on loop 0.
protocol ClusterPeers: AnyObject, Sendable {
  /// A node to be linked with, or where it is now.
  func setPeer(_ id: NodeID, name: String, endpoint: Endpoint)
  /// It will not come back.
  func removePeer(_ id: NodeID)
  /// A newer map; it is on disk here.
  func receive(map: RingMap)
}

/// This node as one of several: who it is, calls to the others, the map, who is there. Cold: it runs on a loop of its
/// own. What others ask comes in on loop 0. Figures for other threads are behind locks.
final class ClusterHost: @unchecked Sendable {
  unowned let node: NodeHost
  let settings: NodeSettings.Cluster
  let own: NodeID
  let name: String
  let cluster: String
  /// Which life of this node: larger than the last.
  let incarnation: UInt64
  let tls: ClusterTlsContext
  let loop: EventLoop
  let calls: ClusterCalls
  /// The last map this node has, on disk too; version 0: none yet. From any thread.
  let map: Guarded<RingMap>
  /// Before `open`; its methods are called on loop 0.
  var links: (any ClusterPeers)?
  /// Called on the cluster's loop with each newer map, once it is on disk here. Before `open`.
  var observers: [@Sendable (RingMap) -> Void] = []
  /// Slots that leave this node, and that come to it. Set once, before `open`.
  var moves: SlotMoves?
  /// Which of these slots of this node have never held anything. `done` from any thread.
  var vacancy: (@Sendable ([UInt16], @escaping @Sendable ([UInt16]) -> Void) -> Void)?

  // MARK: on the cluster's loop

  let rows: ClusterRows
  /// nil: another node hosts the metadata.
  var keeper: RingKeeper?
  var host = NodeID.none
  /// A host that a seed named: calls know where it is.
  var introduced = NodeID.none
  /// Revision of `relays` at the host.
  var directory: UInt64 = 0
  var relays: [NodeID: ClusterRelay] = [:]
  /// What was told to `links`.
  var linked: [NodeID: HostPort] = [:]
  /// What nodes themselves said of their address by membership, since the directory last heard of them.
  var told: [NodeID: Member] = [:]
  /// The newest map seen, maybe not on disk yet.
  var newest: RingMap
  var isKeeping = false
  var membership: MembershipEngine?
  var memberTimer = TimerID.none
  var load = ClusterLoad()
  var syncs = 0
  var isSyncing = false
  var hasJoined = false
  var hasTriedDuty = false
  var exile = Exile()
  /// Joins wait for each other: each changes the plan of the next.
  var joins: [PendingJoin] = []
  var isJoining = false
  var silence = Silence()
  private(set) var isSealed = false
  var advertised: HostPort

  /// For threads that wait, and for `/metrics`.
  let standing = Guarded(Standing())

  struct Standing: Sendable {
    /// Has a map, and so serves.
    var isIn = false
    /// What can never be well by waiting.
    var fault: Fault?
    var nodes: [NodeID: ClusterRelay] = [:]
    var members: [NodeID: MemberState] = [:]
    var roundTrips: [NodeID: (least: Int64, median: Int64)] = [:]
    var host = NodeID.none
    var mapPushes = 0
    var syncFailures = 0
  }

  /// Checks the certificate and the directory, and counts the start. The store is open.
  init(node: NodeHost, settings: NodeSettings.Cluster, index: Int) throws(Fault) {
    self.node = node
    self.settings = settings
    let refusals = RefusalLog(node.log)
    do {
      tls = try ClusterTlsContext(
        ClusterTlsContext.Files(directory: settings.certDir),
        onRefusal: { refusals.receive($0) })
    } catch {
      throw Fault(.badCertificate, "cluster.cert_dir = \(settings.certDir): \(error)")
    }
    let identity = tls.own
    rows = ClusterRows(store: node.store)
    let adopted = try rows.adopt(identity, at: Timestamp.now())
    own = identity.node
    cluster = identity.cluster
    name = identity.name.isEmpty ? node.settings.nodeName : identity.name
    incarnation = adopted.incarnation
    do {
      loop = try EventLoop.start(index: index, name: "cluster")
    } catch {
      throw Fault(.unavailable, "\(error)")
    }
    calls = ClusterCalls(own: own, tls: tls, loop: loop)
    newest = RingMap()
    map = Guarded(newest)
    advertised = settings.advertise ?? settings.listen
    try recall()
    serveCalls()
  }

  /// What an earlier run kept.
  private func recall() throws(Fault) {
    if let kept = try rows.map() {
      newest = kept
      map.value = kept
    }
    if try rows.isForgotten() { exile.begin() }
    guard let state = try rows.state() else { return }
    host = NodeID(state.host)
    for relay in state.relays where relay.nodeID != 0 { relays[NodeID(relay.nodeID)] = relay }
  }

  /// Who orders a slot, by the last map; `none`: nobody that is known here. From any thread.
  func owner(of slot: UInt16) -> NodeID {
    let map = map.value
    return map.version > 0 && Int(slot) < map.slotCount ? map.owner(of: slot) : .none
  }

  // MARK: the beginning

  /// The listener is open at `address`: calls of others are answered, and this node begins to ask.
  func open(at address: HostPort) {
    loop.post { [self] in
      if settings.advertise == nil { advertised.port = address.port }
      begin()
    }
  }

  private func begin() {
    relays[own] = shown()
    tellPeers()
    if exile.isOn {
      sayForgotten("by an earlier run of it")
      moves?.gate.withhold(why: forgottenText)
    }
    if newest.version > 0 {
      node.log.info(
        "the last map is used", ["version": .of(newest.version), "revision": .of(newest.revision)])
      announce(newest)
    }
    refreshLoad()
    if host == own {
      takeUpMetadata { [self] in everySecond() }
    } else if newest.version == 0, isFounder {
      found { [self] fault in
        if let fault { node.log.error("the cluster cannot be founded", ["why": .of(fault)]) }
        everySecond()
      }
    } else {
      everySecond()
    }
  }

  /// Nobody else is named that could know of a cluster.
  private var isFounder: Bool {
    settings.seeds.allSatisfy { $0 == advertised || $0 == settings.listen }
  }

  /// Waits until this node has a map. Not on a loop. Throws what keeps it from ever getting one, and `draining` when
  /// `goOn` says no.
  func waitForMap(_ goOn: () -> Bool) throws(Fault) {
    while true {
      let now = standing.value
      if let fault = now.fault { throw fault }
      if now.isIn { return }
      if !goOn() { throw Fault(.draining, "told to end before it was in the cluster") }
      pauseThread(.milliseconds(10))
    }
  }

  // MARK: time

  func everySecond() {
    if isSealed { return }
    syncs += 1
    if syncs % 2 == 0 { refreshLoad() }
    if keeper == nil { sync() } else { showSelf() }
    refreshStanding()
    // Not all in the same moment.
    let spread = Int64(Random.uint64() % UInt64(Limits.clusterSyncMilliseconds / 5))
    loop.schedule(after: .milliseconds(Limits.clusterSyncMilliseconds + spread)) { [unowned self] in
      everySecond()
    }
  }

  func refreshStanding() {
    var members: [NodeID: MemberState] = [:]
    var trips: [NodeID: (least: Int64, median: Int64)] = [:]
    for id in relays.keys {
      guard let membership, let member = membership.member(id) else { continue }
      members[id] = member.state
      if let trip = membership.roundTrip(to: id), let least = trip.least, let median = trip.median {
        trips[id] = (least.nanoseconds, median.nanoseconds)
      }
    }
    let (relays, host) = (relays, host)
    standing.change {
      $0.nodes = relays
      $0.members = members
      $0.roundTrips = trips
      $0.host = host
    }
  }

  private func refreshLoad() {
    node.gatherFacts { [self] facts in
      let draining = node.readiness.isDraining
      let free = UInt64(clamping: node.store.diskFree())
      loop.post { [self] in
        load.sessions = UInt64(facts.sessions)
        load.channels = UInt64(facts.channels)
        load.published = UInt64(facts.counts.published)
        load.diskFreeBytes = free
        load.draining = draining
        relays[own] = shown()
      }
    }
  }

  /// This node as others see it.
  func shown() -> ClusterRelay {
    var out = ClusterRelay()
    out.nodeID = own.value
    out.name = name
    out.zone = settings.zone
    out.region = settings.region
    out.weight = UInt32(settings.weight)
    out.address = advertised.description
    out.incarnation = incarnation
    let addresses = node.publicAddresses.value
    out.grpc = addresses.grpc
    out.grpcTls = addresses.grpcTls
    out.http = addresses.http
    out.httpTls = addresses.httpTls
    out.registry = addresses.registry
    out.version = PosthouseVersion.text
    out.load = load
    return out
  }

  // MARK: the end

  /// Says good-bye; nothing is written after this.
  func seal() {
    guard !isSealed else { return }
    isSealed = true
    moves?.stop()
    leave()
  }

  func stop() {
    loop.post { [self] in
      seal()
      calls.stop()
      loop.stop()
    }
    loop.join()
  }
}

/// Says what is wrong once, and again when that has lasted for a while.
struct Silence {
  private var said: [String: Instant] = [:]
  private static let again = Interval.seconds(30)

  mutating func isNews(_ key: String, at now: Instant) -> Bool {
    if let last = said[key], now - last < Silence.again { return false }
    if said.count > 256 { said = [:] }
    said[key] = now
    return true
  }

  mutating func forget(_ key: String) { said[key] = nil }
}

/// Refused handshakes in the log: one line for each reason and peer in a while.
private final class RefusalLog: Sendable {
  private let log: Log
  private let silence = Lock(Silence())
  init(_ log: Log) { self.log = log }

  func receive(_ refusal: LinkRefusal) {
    // Ends of connections in the middle are every restart's.
    if refusal.reason == .ended { return }
    let key = "\(refusal.reason.rawValue) \(refusal.peer.host)"
    let isNews = silence.withLock {
      $0.isNews(key, at: Instant(nanoseconds: Timestamp.now().nanoseconds))
    }
    if isNews {
      log.warn(
        "a handshake between nodes failed",
        [
          "reason": .of(refusal.reason.rawValue), "peer": .of(refusal.peer),
          "why": .of(refusal.description),
        ])
    }
  }
}
