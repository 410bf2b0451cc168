internal import Base
internal import Digest
internal import Engine

/// Bugs to plant.
public enum SimPlant: String, Sendable, CaseIterable {
  case deliverBeforeAppend = "deliver-before-append"
  case secondCommit = "second-commit"
  var faults: EngineFaults {
    switch self {
    case .deliverBeforeAppend: .deliverBeforeAppend
    case .secondCommit: .secondCommit
    }
  }
}

/// What a seed decides before the run begins.
struct SimConfig {
  var shards = 1
  var settings = EngineSettings()
  /// Nanoseconds.
  var latency = 50_000...2_000_000
  var writeDelay = 10_000...400_000
  var syncDelay = 100_000...3_000_000
  var readDelay = 2_000_000
  var think = 20_000_000
  var channels = 4
  var sizes = 16
  var crashEvery: Int64 = 0
  var powerCuts = false
  var breakEvery: Int64 = 0
  var diskTrouble = false
  var deletes = false
  var maxFrame: Int { 21 + sizes }

  init(_ r: inout SimRandom) {
    shards = r.within(1...3)
    channels = r.within(1...6)
    sizes = r.pick([16, 100, 1_000, 5_000])
    latency = 20_000...r.pick([200_000, 2_000_000, 30_000_000])
    writeDelay = 5_000...r.pick([50_000, 1_000_000, 20_000_000])
    syncDelay = 50_000...r.pick([500_000, 5_000_000, 50_000_000])
    readDelay = r.pick([100_000, 2_000_000, 50_000_000])
    think = r.pick([2_000_000, 20_000_000, 60_000_000])
    crashEvery = r.pick([0, 2, 6, 15]) * 1_000_000_000
    powerCuts = r.oneIn(2)
    breakEvery = r.pick([0, 200, 1_000]) * 1_000_000
    diskTrouble = r.oneIn(3)
    deletes = r.oneIn(6)
    settings.tailBytes = r.pick([0, 2_000, 50_000, 1 << 20])
    settings.shardTailBytes = r.pick([10_000, 1 << 28])
    settings.readBytes = r.pick([1, 4_000, 256 << 10])
    settings.creditBytes = r.pick([200, 5_000, 100_000, 512 << 10])
    settings.recordMessages = r.pick([1, 3, 50, 1_024])
    settings.recordBytes = r.pick([500, 20_000, 4 << 20])
    settings.commitsInFlight = r.within(1...3)
    settings.commitsPerChannel = r.pick([4, 20, 65_536])
    settings.producersPerChannel = r.pick([1, 3, 1_024])
    settings.producerWindow = r.pick([1, 4, 4_096])
    settings.loadedChannels = r.pick([1, 3, 65_536])
    settings.sessionPendingBytes = r.pick([2_000, 100_000, 2 << 20])
    settings.shardPendingBytes = r.pick([20_000, 64 << 20])
    settings.replayWindow = r.pick([.none, .last(.seconds(5)), .last(.seconds(600)), .all])
    settings.replayBurst = r.pick([1, 50])
    settings.holdTime = .seconds(Int64(r.pick([1, 10])))
    settings.stallTimeout = .seconds(Int64(r.pick([1, 600])))
    settings.retentionInterval = .seconds(1)
    switch r.below(6) {
    case 0: settings.retention.messages = UInt64(r.within(20...400))
    case 1: settings.retention.age = .seconds(Int64(r.within(2...20)))
    case 2: settings.retention.bytes = UInt64(r.within(5_000...50_000))
    default: break
    }
  }
}

/// One run: a node of real engines on a simulated disk, simulated clients, trouble, and the checkers. All
/// that happens follows from the seed.
public final class Simulation {
  public let seed: UInt64
  let clock = SimClock()
  let disk = SimDisk()
  let model = SimModel()
  var random: SimRandom
  let config: SimConfig
  var node: SimNode?
  var diskFull = false
  var writesFail = false
  /// The trouble is over: everything must come to rest.
  var quiet = false
  var epochOf: [UInt64: UInt64] = [:]
  var stale = 0
  private var digest: UInt64 = 0xcbf2_9ce4_8422_2325
  private var lastID: UInt64 = 0
  private var sessionIndex = 0
  private var publishers: [SimPublisher] = []
  private var agents: [SimAgent] = []
  private var readers: [SimReader] = []
  private var refs: [ChannelRef] = []
  private var faults: [FaultCode: Int] = [:]
  private var crashes = 0

  /// - Parameter trace: the id of a message whose fate is printed; 0: none.
  public init(seed: UInt64, plant: SimPlant? = nil, trace: UInt64 = 0) {
    model.traced = trace
    self.seed = seed
    random = SimRandom(seed: seed)
    var config = SimConfig(&random)
    if let plant { config.settings.faults = plant.faults }
    self.config = config
    model.forgetsCommits =
      config.settings.commitsPerChannel < 1_000 || !config.settings.retention.isUnlimited
  }

  /// What came of a run.
  public struct Report: Sendable {
    public var seed: UInt64
    public var violations: [String]
    public var digest: UInt64
    public var events: UInt64
    public var delivered: Int
    public var acknowledged: Int
    public var appended: Int
    public var crashes: Int
    public var summary: String
  }

  /// - Parameter seconds: of simulated time with trouble, before the run is brought to rest.
  public func run(seconds: Int64 = 20) -> Report {
    build()
    node = SimNode(self)
    for p in publishers { p.start() }
    for a in agents { a.start() }
    for r in readers { r.start() }
    trouble()
    let broken = { [model] in !model.violations.isEmpty }
    clock.run(until: seconds * 1_000_000_000, stop: broken)
    if !broken() { settle(broken) }
    return report()
  }

  // MARK: cast

  private func build() {
    let orgs = ["acme", "beta"]
    for i in 0..<config.channels {
      let org = orgs[i % 2]
      let name = "\(org)/ns/c\(i)-\(seed & 0xff)"
      let ref = ChannelRef(
        id: ChannelID(family: .skytale, name: name), family: .skytale, name: name, org: org,
        tenant: TenantID(org: org), archived: true)
      refs.append(ref)
      model.add(ref)
    }
    let scale = config.think < 10_000_000 ? 1_500 : 400
    for ref in refs {
      for _ in 0..<random.within(0...3) {
        publishers.append(
          SimPublisher(
            self, ref, principal: principal(ref.org), messages: random.within(20...scale)))
      }
      for _ in 0..<random.within(1...2) {
        readers.append(SimReader(self, ref, principal: principal(ref.org), from: 1))
      }
    }
    for _ in 0..<random.within(1...4) {
      let org = random.pick(orgs)
      let mine = refs.filter { $0.org == org }
      guard !mine.isEmpty else { continue }
      agents.append(
        SimAgent(
          self, mine, principal: principal(org), messages: random.within(20...scale),
          commits: random.oneIn(3) ? false : true))
    }
  }

  private func principal(_ org: String) -> Principal {
    Principal(
      tenant: TenantID(org: org), org: org, key: RecordID(UInt64(random.within(1...3))),
      anonymous: random.oneIn(8))
  }

  func messageSize() -> Int { random.below(config.sizes) }
  func nextID() -> UInt64 {
    lastID += 1
    return lastID
  }

  // MARK: streams

  func connect(
    kind: SessionKind, receive: @escaping (SimStream, SimReply) -> Void,
    _ done: @escaping (SimStream) -> Void
  ) {
    clock.after(Int64(random.within(config.latency)) * 2) { [self] in
      guard let node, node.alive else {
        clock.after(Int64(random.within(10_000_000...300_000_000))) { [self] in
          connect(kind: kind, receive: receive, done)
        }
        return
      }
      sessionIndex += 1
      let id = SessionID(
        loop: random.below(3), generation: UInt32(sessionIndex / 64), index: sessionIndex)
      let stream = SimStream(id: id, kind: kind, receive: receive)
      node.attach(stream)
      if config.breakEvery > 0, !quiet {
        clock.after(Int64(random.below(Int(config.breakEvery * 10)))) { [self] in
          if !quiet { self.break(stream, notifyNode: true) }
        }
      }
      done(stream)
    }
  }

  /// Client to node, in order.
  func send(
    _ s: SimStream, shardOf ref: ChannelRef, _ body: @escaping (inout NodeEngine, Now) -> Void
  ) {
    guard s.open, let node else { return }
    s.upAt = max(s.upAt, clock.nanoseconds + Int64(random.within(config.latency)))
    clock.at(s.upAt) { [weak node] in
      guard s.open, let node, node.alive else { return }
      node.input(node.shard(ref), body)
    }
  }

  func subscribe(
    _ s: SimStream, _ ref: ChannelRef, _ principal: Principal, start: Start, next: UInt64
  ) {
    let cursor = SimCursor(ref, next: next, sinceID: lastID)
    send(s, shardOf: ref) { engine, now in
      // Where it begins is the engine's choice, unless it was named.
      if s.cursors[ref.id] == nil { s.cursors[ref.id] = cursor }
      engine.receiveSubscribe(
        s.id, kind: s.kind, principal: principal, channel: ref, start: start, token: 1, at: now)
    }
  }

  /// A stream breaks: the client sees it, and the node a little later.
  func `break`(_ s: SimStream, notifyNode: Bool) {
    guard s.open else { return }
    s.open = false
    clock.after(Int64(random.within(config.latency))) { s.receive(s, .closed) }
    guard notifyNode, let node else { return }
    clock.after(Int64(random.within(1_000...500_000_000))) { [weak node] in node?.closed(s) }
  }

  // MARK: trouble

  private func trouble() {
    if config.crashEvery > 0 { scheduleCrash() }
    if config.diskTrouble { scheduleDiskTrouble() }
    if config.deletes {
      clock.after(Int64(random.within(1_000_000_000...15_000_000_000))) { [self] in
        let ref = random.pick(refs)
        if let node, node.alive, !quiet {
          node.input(node.shard(ref)) { $0.receiveDelete(ref, token: 1, at: $1) }
        }
      }
    }
    if random.oneIn(4) {
      // The wall clock jumps.
      clock.after(Int64(random.below(10_000_000_000))) { [self] in
        clock.wallOffset += Int64(random.within(-3_600...3_600)) * 1_000_000_000
      }
    }
  }

  private func scheduleCrash() {
    clock.after(Int64(random.below(Int(config.crashEvery * 2)))) { [self] in
      if !quiet { crash() }
    }
  }

  private func crash() {
    guard let dying = node, dying.alive else { return }
    crashes += 1
    dying.die()
    let power = config.powerCuts && random.oneIn(2)
    if power { disk.powerCut(keeping: random.below(disk.unsyncedWrites + 1)) }
    model.crashed(disk, power: power)
    model.audit(disk)
    if power {
      for r in readers { r.shorten(to: UInt64(model[r.channel]?.entries.count ?? 0)) }
    }
    node = nil
    clock.after(Int64(random.within(1_000_000...1_000_000_000))) { [self] in
      node = SimNode(self)
      if !quiet { scheduleCrash() }
    }
  }

  private func scheduleDiskTrouble() {
    clock.after(Int64(random.below(8_000_000_000))) { [self] in
      guard !quiet else { return }
      if random.oneIn(2) {
        setDisk(full: true)
        clock.after(Int64(random.below(4_000_000_000))) { [self] in
          setDisk(full: false)
          scheduleDiskTrouble()
        }
      } else {
        writesFail = true
        clock.after(Int64(random.below(2_000_000_000))) { [self] in
          writesFail = false
          scheduleDiskTrouble()
        }
      }
    }
  }

  private func setDisk(full: Bool) {
    diskFull = full
    guard let node, node.alive else { return }
    for shard in node.engines.indices { node.input(shard) { $0.receiveDisk(full: full, at: $1) } }
  }

  // MARK: rest

  /// No more trouble: everything asked must be answered, every reader must get everything.
  private func settle(_ broken: () -> Bool) {
    quiet = true
    writesFail = false
    setDisk(full: false)
    let deadline = clock.nanoseconds + 600_000_000_000
    while clock.nanoseconds < deadline, !broken() {
      clock.run(until: clock.nanoseconds + 2_000_000_000, stop: broken)
      if node != nil, publishers.allSatisfy(\.isDone), agents.allSatisfy(\.isDone),
        readers.allSatisfy(\.isCaughtUp),
        node?.engines.allSatisfy({
          $0.counters.pendingBytes == 0 && $0.counters.writesInFlight == 0
        }) == true
      {
        break
      }
    }
    guard !broken() else { return }
    if let stuck = readers.first(where: { !$0.isCaughtUp }) {
      model.fail("\(stuck.place) did not catch up with \(model[stuck.channel]?.entries.count ?? 0)")
    }
    for a in agents { a.check() }
    for p in publishers where !p.isDone { model.fail("publisher not done: \(p.place)") }
    for engine in node?.engines ?? [] {
      let c = engine.counters
      if c.pendingBytes != 0 || c.heldMessages != 0 || c.writesInFlight != 0 {
        model.fail("at rest with \(c)")
      }
      if c.tailBytes > config.settings.shardTailBytes + config.channels * config.settings.tailBytes
      {
        model.fail("tails hold \(c.tailBytes) bytes")
      }
    }
    model.audit(disk)
  }

  // MARK: what was seen

  /// The digest of a run: of everything the engines said, in order.
  func note(_ kind: UInt64, _ value: UInt64) {
    digest = (digest ^ (kind &+ value &* 0x9e37_79b9_7f4a_7c15)) &* 0x0000_0100_0000_01b3
    digest ^= UInt64(bitPattern: clock.nanoseconds) &* 0xff51_afd7_ed55_8ccd
  }

  func ended(_ fault: Fault) {
    faults[fault.code, default: 0] += 1
    if fault.code == .damaged || fault.code == .internal {
      model.fail("stream ended: \(fault.code)")
    }
  }
  func refused(_ fault: Fault) { faults[fault.code, default: 0] += 1 }
  func deleted(_ ref: ChannelRef, _ fault: Fault?) { note(7, ref.id.low) }

  func noted(_ note: EngineNote) {
    switch note {
    case .damagedRecord(let ref, let sequence): model.fail("\(ref.name) \(sequence) damaged")
    case .damagedState(let ref, let kind): model.fail("\(ref.name): row of kind \(kind) damaged")
    case .nameCollision(let ref): model.fail("\(ref.name): collision")
    default: break
    }
  }

  private func report() -> Report {
    let ended = FaultCode.allCases.compactMap { code in
      faults[code].map { "\(code.rawValue) \($0)" }
    }.joined(separator: ", ")
    return Report(
      seed: seed, violations: model.violations.prefix(5).map(\.description), digest: digest,
      events: clock.events, delivered: model.delivered, acknowledged: model.acknowledged,
      appended: model.appended, crashes: crashes,
      summary:
        "\(config.shards) shards, \(refs.count) channels, \(clock.nanoseconds / 1_000_000_000) s"
        + (stale > 0 ? ", \(stale) stale" : "") + (ended.isEmpty ? "" : "; \(ended)"))
  }
}
