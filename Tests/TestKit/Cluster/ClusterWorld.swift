internal import Base
internal import Digest
internal import Engine
internal import Registry
internal import Ring

/// A cluster of real engines over simulated disks, links and clocks, with its checkers. All that happens follows from
/// the seed. A slot changes its owner while it is empty: its move is the real one (`SlotSource`, `SlotTarget`); a move of
/// a slot that holds records is called off.
public final class ClusterWorld {
  public struct Report: Sendable {
    public var seed: UInt64
    public var violations: [String]
    public var digest: UInt64
    public var appended: Int
    public var delivered: Int
    public var crashes: Int
    public var moves: Int
    public var summary: String
  }

  let seed: UInt64
  let plant: ClusterPlant?
  let clock = SimClock()
  var random: SimRandom
  let config: ClusterConfig
  var nodes: [ClusterNode] = []
  var refs: [ChannelRef] = []
  private var agents: [ClusterAgent] = []
  private var skills: ClusterSkills?
  private(set) var keys: ClusterKeys?
  /// Ordered pairs between which nothing passes.
  private var cut: Set<[Int]> = []
  var quiet = false
  private(set) var violations: [String] = []
  private var digest: UInt64 = 0xcbf2_9ce4_8422_2325
  private var lastID: UInt64 = 0
  private var lastSession = 0
  private var crashes = 0
  var moves = 0
  var epochOf: [UInt64: UInt64] = [:]
  /// The bytes of each map revision, as the first node saw it.
  private var maps: [UInt64: [UInt8]] = [:]

  private let isTelling: Bool

  /// `telling`: prints what happens, to find out why.
  public init(seed: UInt64, nodes: Int, plant: ClusterPlant? = nil, telling: Bool = false) {
    self.seed = seed
    isTelling = telling
    self.plant = plant
    random = SimRandom(seed: seed)
    var config = ClusterConfig(nodes: max(2, nodes), &random)
    config.settings.faults = plant?.engine ?? []
    self.config = config
  }

  /// - Parameter seconds: of simulated time with trouble, before the cluster is brought to rest.
  public func run(seconds: Int64) -> Report {
    build()
    for node in nodes { node.start() }
    for agent in agents {
      clock.after(Int64(random.below(Int(seconds) * 600_000_000))) { agent.connect() }
    }
    skills?.start()
    keys?.start(seconds: seconds)
    trouble()
    let broken = { [self] in
      !violations.isEmpty || nodes.contains { !$0.model.violations.isEmpty }
    }
    clock.run(until: seconds * 1_000_000_000, stop: broken)
    if !broken() { settle(broken) }
    return report()
  }

  // MARK: cast

  private func build() {
    let first = firstMap()
    for i in 0..<config.nodes { nodes.append(ClusterNode(self, i, first)) }
    for i in 0..<config.channels {
      let name = "acme/ns/c\(i)-\(seed & 0xfff)"
      let ref = ChannelRef(
        id: ChannelID(family: .skytale, name: name), family: .skytale, name: name, org: "acme",
        tenant: TenantID(org: "acme"), archived: true)
      refs.append(ref)
      for node in nodes { node.model.add(ref) }
    }
    for _ in 0..<config.agents {
      let mine = refs.filter { _ in random.oneIn(2) }
      agents.append(
        ClusterAgent(
          self, mine.isEmpty ? [random.pick(refs)] : mine, messages: random.below(config.messages)))
    }
    skills = ClusterSkills(self)
    keys = ClusterKeys(self)
  }

  private func firstMap() -> RingMap {
    var ledger = RingLedger(current: RingMap(slotBits: 4, replicas: 1))
    do {
      for i in 0..<config.nodes {
        try ledger.stage(RingNode(id: ClusterNode.id(i), name: "n\(i)"))
      }
      try ledger.apply(version: 0)
    } catch { fail("no first map: \(error)") }
    return ledger.current
  }

  func tell(_ text: @autoclosure () -> String) {
    if isTelling { print("\(clock.nanoseconds / 1_000_000) ms  \(text())") }
  }

  func lostPower() { skills?.lostPower() }

  func nextID() -> UInt64 {
    lastID += 1
    return lastID
  }

  func nextSession() -> SessionID {
    lastSession += 1
    return SessionID(loop: 0, generation: 1, index: lastSession)
  }

  // MARK: network

  func latency() -> Int64 { Int64(random.within(config.latency)) }
  func reaches(_ i: Int, _ j: Int) -> Bool { i == j || !cut.contains([i, j]) }

  /// Something without a connection: it may be lost, late, or overtaken.
  func send(
    from i: Int, to j: Int, isReliable: Bool = false, _ body: @escaping (ClusterNode) -> Void
  ) {
    if !reaches(i, j) { return }
    if !isReliable, !quiet, random.below(100) < config.lossPercent { return }
    clock.after(latency()) { [self] in nodes[j].enter { body($0) } }
  }

  /// A call with a deadline: `answer` gets nil when it failed. It may have been carried out all the same. `isReliable`:
  /// while both reach each other nothing of it is lost.
  func call<T>(
    from i: Int, to j: Int, seconds: Int64 = 3, isReliable: Bool = false,
    _ body: @escaping (ClusterNode, @escaping (T) -> Void) -> Void,
    _ answer: @escaping (ClusterNode, T?) -> Void
  ) {
    var isDone = false
    let life = nodes[i].life
    func end(_ value: T?) {
      guard !isDone else { return }
      nodes[i].enter(life: life) {
        guard !isDone else { return }
        isDone = true
        answer($0, value)
      }
    }
    clock.after(seconds * 1_000_000_000) { end(nil) }
    send(from: i, to: j, isReliable: isReliable) { [self] node in
      body(node) { [self] value in
        send(from: j, to: i, isReliable: isReliable) { _ in end(value) }
      }
    }
  }

  /// A node wants a connection to another.
  func connect(_ i: Int, _ j: Int) {
    let life = nodes[i].life
    clock.after(2 * latency()) { [self] in
      guard reaches(i, j), reaches(j, i), nodes[j].isAlive, nodes[i].isAlive,
        nodes[i].life == life
      else {
        clock.after(50_000_000) { [self] in
          nodes[i].enter(life: life) { $0.disconnected(from: j, nil) }
        }
        return
      }
      let wire = ClusterWire(i, j)
      nodes[j].enter { $0.connected(to: i, wire) }
      nodes[i].enter(life: life) { $0.connected(to: j, wire) }
    }
  }

  func send(_ bytes: [UInt8], on wire: ClusterWire, from i: Int) {
    guard wire.isOpen, !wire.lost.contains(i) else { return }
    let j = wire.other(i)
    if !reaches(i, j) {
      // Nobody knows at once.
      wire.lost.insert(i)
      clock.after(Int64(random.within(100_000_000...3_000_000_000))) { [self] in close(wire) }
      return
    }
    let at = max(wire.arrives[i] ?? 0, clock.nanoseconds + latency())
    wire.arrives[i] = at
    clock.at(at) { [self] in
      guard wire.isOpen, !wire.lost.contains(i) else { return }
      nodes[j].enter { $0.receive(bytes, on: wire) }
    }
  }

  /// Both ends hear of it, at different times.
  func close(_ wire: ClusterWire) {
    guard wire.isOpen else { return }
    wire.isOpen = false
    for (i, j) in [(wire.ends.0, wire.ends.1), (wire.ends.1, wire.ends.0)] {
      clock.after(Int64(random.within(10_000...300_000_000))) { [self] in
        nodes[i].enter { $0.disconnected(from: j, wire) }
      }
    }
  }

  // MARK: trouble

  private func every(_ mean: Int64, _ body: @escaping () -> Void) {
    guard mean > 0 else { return }
    clock.after(Int64(random.below(Int(mean * 2)))) { [self] in
      guard !quiet else { return }
      body()
      every(mean, body)
    }
  }

  private func trouble() {
    every(config.crashEvery) { [self] in crash(random.pick(nodes)) }
    every(config.pauseEvery) { [self] in
      random.pick(nodes).pause(Int64(random.within(50_000_000...8_000_000_000)))
    }
    every(config.breakEvery) { [self] in
      if let wire = random.pick(nodes).someWire(&random) { close(wire) }
    }
    every(config.cutEvery) { [self] in partition() }
    every(config.mapEvery) { [self] in
      random.pick(nodes).changeRing()
      // Two at once.
      if random.oneIn(2) { random.pick(nodes).changeRing() }
    }
    every(20_000_000_000) { [self] in
      // A clock is set.
      let node = random.pick(nodes)
      if config.skewSeconds[0] != 0 { node.skew = Int64(random.within(-3_600...3_600)) }
    }
  }

  private func crash(_ node: ClusterNode) {
    guard node.isAlive else { return }
    crashes += 1
    let power = config.powerCuts && random.oneIn(2)
    tell("node \(node.index) \(power ? "loses its power" : "is killed")")
    node.crash(power: power)
    clock.after(Int64(random.within(5_000_000...6_000_000_000))) { node.start() }
  }

  private func partition() {
    if !cut.isEmpty {
      cut = []
      tell("the network is whole")
      return
    }
    let i = random.below(nodes.count)
    for j in nodes.indices where j != i && random.below(3) > 0 {
      // One way, the other, or both.
      let way = random.below(3)
      if way != 1 { cut.insert([i, j]) }
      if way != 0 { cut.insert([j, i]) }
    }
    tell("cut: \(cut.map { "\($0[0]) to \($0[1])" }.sorted())")
  }

  // MARK: rest

  private func settle(_ broken: () -> Bool) {
    quiet = true
    cut = []
    for node in nodes { node.start() }
    let deadline = clock.nanoseconds + 400_000_000_000
    var why: String?
    repeat {
      clock.run(until: clock.nanoseconds + 2_000_000_000, stop: broken)
      if broken() { return }
      why = unrest()
    } while why != nil && clock.nanoseconds < deadline
    if let why { fail("at rest: \(why)") }
    for node in nodes { node.audit() }
    skills?.check()
    for ref in refs where nodes.count(where: { $0.model[ref.id]?.entries.isEmpty == false }) > 1 {
      fail("\(ref.name) has records on two nodes")
    }
  }

  /// What is not at rest yet.
  private func unrest() -> String? {
    for agent in agents {
      if let why = agent.unrest { return why }
    }
    let first = nodes[0]
    for node in nodes {
      if node.map != first.map { return "node \(node.index) has another map" }
      if !node.movesAreOver { return "a move on node \(node.index) goes on" }
      if !node.map.movingSlots.isEmpty { return "slots are on their way" }
      if node.members != nodes.count - 1 {
        return "node \(node.index) sees \(node.members) others alive"
      }
      if node.registry.rootDigest != first.registry.rootDigest
        || !node.registry.isLevel(with: first.registry.vector)
      {
        return "registries \(first.index) and \(node.index) differ"
      }
    }
    return skills?.unrest ?? keys?.unrest
  }

  // MARK: checkers

  func fail(_ text: String) {
    violations.append("\(text) (at \(clock.nanoseconds / 1_000_000) ms)")
  }

  /// The node that holds a channel's records, if any has some.
  func archive(_ channel: ChannelID) -> ChannelModel? {
    for node in nodes {
      if let found = node.model[channel], !found.entries.isEmpty { return found }
    }
    return nil
  }

  /// A publisher was told that its message stands there.
  func accepted(_ ref: ChannelRef, _ sequence: UInt64, id: UInt64, synced: Bool) {
    note(2, id &+ sequence << 32)
    guard let kept = archive(ref.id), sequence >= 1, sequence <= kept.entries.count else {
      return fail("\(ref.name) \(sequence) acknowledged and not there")
    }
    let at = Int(sequence) - 1
    if kept.entries[at].id != id {
      fail("\(ref.name) \(sequence): acknowledged \(id), kept \(kept.entries[at].id)")
    }
    kept.entries[at].seen = true
    if synced { kept.synced = max(kept.synced, sequence) }
  }

  /// Every node that has a revision of the map has the same one.
  func saw(_ map: RingMap, _ node: Int) {
    guard let known = maps[map.revision] else {
      maps[map.revision] = map.encoded
      return
    }
    if known != map.encoded { fail("two maps of revision \(map.revision), one on node \(node)") }
  }

  func note(_ kind: UInt64, _ value: UInt64) {
    digest = (digest ^ (kind &+ value &* 0x9e37_79b9_7f4a_7c15)) &* 0x0000_0100_0000_01b3
    digest ^= UInt64(bitPattern: clock.nanoseconds) &* 0xff51_afd7_ed55_8ccd
  }

  private func report() -> Report {
    let found =
      violations
      + nodes.flatMap { node in
        node.model.violations.map { "node \(node.index): \($0)" }
      }
    return Report(
      seed: seed, violations: Array(found.prefix(5)), digest: digest,
      appended: nodes.reduce(0) { $0 + $1.model.appended },
      delivered: nodes.reduce(0) { $0 + $1.model.delivered }, crashes: crashes, moves: moves,
      summary:
        "\(nodes.count) nodes, \(refs.count) channels, \(agents.count) agents, \(clock.nanoseconds / 1_000_000_000) s"
    )
  }
}
