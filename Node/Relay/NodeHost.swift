public import Base
import Crypto
import Digest
import Engine
import FoundationEssentials
import Grpc
import Loop
import Messages
public import Report
public import Settings
import Slim
import Store
import Token

/// One Posthouse node: store, loops, shards, listeners. Made from settings, taken down by `drain`.
public final class NodeHost: @unchecked Sendable {
  public let settings: NodeSettings
  public let log: Log
  /// Open before anything but links is served.
  private(set) var store: Store!
  let shardCount: Int
  let startedWall = Instant(nanoseconds: Timestamp.now().nanoseconds)
  let loops: [EventLoop]
  private(set) var shards: [Shard] = []
  private(set) var authority: Authority!
  /// nil: `registry.listen` and `federation.listen` are off, or only the admin socket is served.
  private(set) var registryHost: RegistryHost?
  /// nil: a node of its own, or only the admin socket is served.
  private(set) var cluster: ClusterHost?
  /// To the other nodes of it.
  private(set) var links: LinkHost?
  /// `addresses`, from any thread.
  let publicAddresses = Guarded(Addresses())
  let readiness = Readiness()
  let health = HealthServer()
  private(set) var audit: AuditLog!
  private(set) var signing: Guarded<SigningKeys>!
  let metrics = Metrics()
  /// The shards' figures as of the last scrape.
  let lastFacts = Guarded(Facts())
  var listeners = Listeners()
  /// Sockets that were not bound here.
  let inheritance: Inheritance
  /// Bound before a fresh directory was made; by the names of their settings.
  var bound: [String: ListenSocket] = [:]
  let refusals: CallerRefusals
  /// Set once, when the end begins.
  let drainOrder = Lock<DrainOrder?>(nil)
  /// Has whoever runs this node call `drain`; from any thread.
  let askForDrain: @Sendable () -> Void
  /// Where the node listens, once it does.
  public internal(set) var addresses = Addresses()

  public struct Addresses: Sendable {
    public var grpc = ""
    public var http = ""
    public var grpcTls = ""
    public var httpTls = ""
    public var registry = ""
    public var federation = ""
    public var cluster = ""
    public var admin = ""
  }

  /// Opens the data directory and brings the node up: it listens when this returns. `askForDrain`: somebody
  /// wants `drain` called. `goOnWaiting`: false ends the wait for a directory that another node holds.
  /// - Throws: the fault that keeps it from serving; what was opened is closed again.
  public init(
    settings: NodeSettings, log: Log, serving: Serving = .all, inheritance: Inheritance = .none,
    askForDrain: @escaping @Sendable () -> Void = {},
    goOnWaiting: @escaping @Sendable () -> Bool = { true }
  ) throws(Fault) {
    self.settings = settings
    self.log = log
    refusals = CallerRefusals(log)
    self.inheritance = inheritance
    self.askForDrain = askForDrain
    prepareProcessForSockets()
    shardCount =
      settings.loops > 0
      ? settings.loops
      : min(max(1, ProcessInfo.processInfo.activeProcessorCount), Limits.loops)
    do {
      loops = try (0..<shardCount).map { try EventLoop.start(index: $0) }
    } catch {
      throw Fault(.unavailable, "\(error)")
    }
    do {
      try open(serving, goOnWaiting)
    } catch {
      stopLoops()
      // The servers' methods hold the node, and with it the directory.
      listeners = Listeners()
      if store != nil { closeStore() }
      throw error
    }
  }

  private func open(
    _ serving: Serving, _ goOnWaiting: @escaping @Sendable () -> Bool
  ) throws(Fault) {
    var options = settings.storeOptions
    options.createIfMissing = serving == .all
    if inheritance.mayWait {
      options.whenInUse = waitForDirectory(settings.takeoverWait, log, goOnWaiting)
      options.whenHeld = prepareEarly()
    }
    if serving == .all { try bindBeforeData() }
    store = try Store(path: settings.data, options: options)
    for note in store.openingNotes { log.warn("store: \(note)") }
    if signing == nil { try loadSigningKeys() }
    audit = try AuditLog(path: settings.data + "/audit.log") { sha256($0) }
    let heads = try store.slotHeads()
    let keys = signing.value.set
    shards = loops.map { loop in
      let engine = NodeEngine(
        shard: loop.index, shards: shardCount, writer: Random.uint64(),
        settings: settings.engineSettings,
        slotHeads: heads.filter { Int($0.slot) % shardCount == loop.index })
      return Shard(index: loop.index, loop: loop, node: self, engine: engine, signingKeys: keys)
    }
    authority = try Authority(node: self, loop: loops[0], keys: keys)
    let ended = authority.endedAtStart()
    for shard in shards {
      shard.ended = ended
      let follows = inheritance.mayWait
      shard.loop.post {
        shard.loop.onTurnEnd = { shard.turnEnds() }
        if follows { shard.slim.expectReturns() }
      }
    }
    if serving == .all, settings.registryAddress != nil || settings.federationAddress != nil {
      registryHost = try RegistryHost(node: self, index: shardCount)
    }
    if serving == .all { try joinCluster() }
    if let cluster {
      authority.enter(cluster)
      try cluster.moves?.recall(cluster.map.value)
    }
    registerMetrics()
    registryHost?.start()
    try listen(serving, goOnWaiting)
    loops[0].post { [self] in everySecond() }
  }

  private func joinCluster() throws(Fault) {
    if let settings = settings.cluster {
      // The registry's loops come before it.
      let host = try ClusterHost(node: self, settings: settings, index: shardCount + 2)
      let made = LinkHost(node: self, own: host.own, incarnation: host.incarnation, tls: host.tls)
      host.links = made
      host.moves = SlotMoves(cluster: host, links: made)
      registryHost?.enter(host)
      (cluster, links) = (host, made)
    } else if let known = try ClusterRows(store: store).identity() {
      throw Fault(
        .badSetting,
        "\(settings.data) is of node \(known.node) of cluster \(known.cluster): alone it would take slots of "
          + "others for its own. Start it with --cluster and --cert-dir")
    }
  }

  /// Once.
  func loadSigningKeys() throws(Fault) {
    signing = Guarded(
      try SigningKeys.loadOrCreate(
        path: settings.data + "/" + SigningKeys.fileName, now: startedWall))
  }

  /// What a node opens. `admin`: only its admin socket, for work on a data directory without a running node.
  public enum Serving: Sendable { case all, admin }

  // MARK: shards

  func shard(of channel: ChannelID) -> Shard { shards[Int(channel.slot) % shardCount] }

  /// Runs `work` on every shard's loop.
  func eachShard(_ work: @escaping @Sendable (Shard) -> Void) {
    for shard in shards { shard.loop.post { work(shard) } }
  }

  func makeChannel(_ name: ChannelName) -> ChannelRef {
    let text = name.description
    return ChannelRef(
      id: ChannelID(family: .skytale, name: text), family: .skytale, name: text, org: name.org,
      tenant: TenantID(org: name.org), archived: settings.archiveEnabled)
  }

  // MARK: once a second

  private func everySecond() {
    if shards[0].isSealed { return }
    authority.tick()
    watchDisk()
    loops[0].schedule(after: .seconds(1)) { [self] in everySecond() }
  }

  private func watchDisk() {
    let full = UInt64(clamping: store.diskFree()) < settings.diskMinFreeBytes
    if readiness.setDiskFull(full) {
      log.warn(full ? "disk below min_free: publishes are refused" : "disk has room again")
      eachShard { shard in
        shard.engine.receiveDisk(full: full, at: shard.loop.now)
        shard.runEffects()
      }
    }
    readiness.setTrouble(store.writeTrouble().map { "store: \($0)" })
  }

  // MARK: facts

  struct Facts: Sendable {
    var counts = ShardCounters()
    var slim = SlimCounters()
    var slimNames = 0
    var sessions = 0
    var channels = 0
    var tenants = 0
  }

  /// Asks every shard; `done` runs on loop 0.
  func gatherFacts(_ done: @escaping @Sendable (Facts) -> Void) {
    let gathering = FactGathering(left: shards.count) { [self] sum in
      var facts = sum
      facts.tenants = authority.tenantCount
      links?.refreshFacts()
      done(facts)
    }
    for shard in shards {
      shard.loop.post { [self] in
        let part = Facts(
          counts: shard.counts, slim: shard.slim.counts, slimNames: shard.slim.router.names,
          sessions: shard.sessions.count,
          channels: shard.engine.counters.loadedChannels, tenants: 0)
        loops[0].post { gathering.receive(part) }
      }
    }
  }

  // MARK: signing keys

  /// Has a new key sign; in a cluster once every node has it. `reply` gets its kid, on any thread.
  func rotateSigningKey(_ reply: @escaping @Sendable (Result<String, Fault>) -> Void) {
    let record: @Sendable (String) -> Void = { [audit] kid in
      audit!.record(
        AuditEntry(actor: "operator", action: "signing-key.rotate", subject: kid, outcome: "done"))
    }
    if cluster != nil {
      loops[0].post { [self] in
        authority.cluster!.rotate { result in
          if case .success(let kid) = result { record(kid) }
          reply(result)
        }
      }
      return
    }
    let result = Result { () throws(Fault) in try rotateOwnSigningKey() }
    if case .success(let kid) = result { record(kid) }
    reply(result)
  }

  private func rotateOwnSigningKey() throws(Fault) -> String {
    var keys = signing.value
    try keys.rotate(
      path: settings.data + "/" + SigningKeys.fileName,
      now: Instant(nanoseconds: Timestamp.now().nanoseconds))
    signing.value = keys
    let set = keys.set
    loops[0].post { [self] in authority.rotateSigningKey(set) }
    return keys.current.kid
  }

  // MARK: the end

  /// Nothing is written after this; what loops still ask of the store is refused or never answered.
  func closeStore() {
    do {
      try store.close()
    } catch {
      log.error("closing the store", ["why": .of(error)])
    }
  }

  /// The last steps of a drain: nothing is served any more.
  func stopLoops() {
    links?.stop()
    for loop in loops { loop.stop() }
    for loop in loops { loop.join() }
    registryHost?.stop()
    cluster?.stop()
  }

  func finishDrain() {
    audit.stop()
    // The servers' methods hold the node.
    listeners = Listeners()
    log.info("stopped")
    log.flush()
  }
}

/// The patience of a node whose predecessor still has the directory: `limit`, 0 for ever.
private func waitForDirectory(
  _ limit: Interval, _ log: Log, _ goOn: @escaping @Sendable () -> Bool
) -> @Sendable (String) -> Bool {
  let end = Timestamp.now() + limit
  let hasSaid = Guarded(false)
  return { holder in
    if !hasSaid.value {
      log.info("waiting for the data directory", ["held_by_pid": .of(holder.filter(\.isNumber))])
    }
    hasSaid.value = true
    if !goOn() { return false }
    if limit.nanoseconds > 0, Timestamp.now() > end {
      log.error("the data directory did not come free in time: takeover_wait is over")
      return false
    }
    return true
  }
}

/// Sums the parts of every shard. On loop 0 only.
private final class FactGathering: @unchecked Sendable {
  private var left: Int
  private var sum = NodeHost.Facts()
  private let done: @Sendable (NodeHost.Facts) -> Void
  init(left: Int, _ done: @escaping @Sendable (NodeHost.Facts) -> Void) {
    self.left = left
    self.done = done
  }
  func receive(_ part: NodeHost.Facts) {
    sum.counts = sum.counts + part.counts
    sum.slim = sum.slim + part.slim
    sum.slimNames += part.slimNames
    sum.sessions += part.sessions
    sum.channels += part.channels
    left -= 1
    if left == 0 { done(sum) }
  }
}

/// A value behind the house's lock.
final class Guarded<Value: Sendable>: Sendable {
  private let held: Lock<Value>
  init(_ value: Value) { held = Lock(value) }
  var value: Value {
    get { held.withLock { $0 } }
    set { held.withLock { $0 = newValue } }
  }
  func change(_ work: (inout Value) -> Void) { held.withLock { work(&$0) } }
}

extension SigningKeys {
  /// In the form the token engine and the loops verify with.
  var set: SigningKeySet {
    var secrets: [String: [UInt8]] = [:]
    for key in [current, previous, next].compactMap(\.self) {
      secrets[key.kid] = unsafe key.secret.withUnsafeBytes { unsafe [UInt8]($0) }
    }
    return SigningKeySet(current: current.kid, secrets: secrets)
  }
}

/// What the program calls itself.
public enum PosthouseVersion {
  public static let text = "0.1.0"
}
