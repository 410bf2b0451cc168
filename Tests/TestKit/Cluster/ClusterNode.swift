internal import Base
internal import Codec
internal import Engine
internal import Gossip
internal import Link
internal import LinkMail
internal import Membership
internal import Metadata
internal import Registry
internal import Ring
internal import Token

/// One simulated node: the engines of a process, and what outlives it.
final class ClusterNode {
  struct End {
    var session: LinkSession<LinkMail>
    var effects: [LinkEffect<LinkMail>] = []
    var wire: ClusterWire?
    var wakeAt = Int64.max
  }
  private struct Write {
    var ticket: UInt64
    var set: WriteSet
    var synced: Bool
  }

  static func id(_ index: Int) -> NodeID { NodeID(UInt64(index + 1)) }
  static func index(_ id: NodeID) -> Int { Int(id.value) - 1 }

  unowned let world: ClusterWorld
  let index: Int
  let me: NodeID
  // What outlives a process.
  let disk = SimDisk()
  let model = SimModel()
  var mapOnDisk: RingMap
  var intents: [UInt16: SlotIntent] = [:]
  var marks: [UInt16: (id: SlotMoveID, seal: SlotSeal, at: UInt64)] = [:]
  private var incarnation: UInt64 = 0
  private var memberIncarnation: UInt64 = 0
  /// Seconds that its wall clock is ahead.
  var skew: Int64
  // The process.
  private(set) var isAlive = false
  private(set) var life = 0
  private var pausedUntil: Int64 = 0
  private var engine: NodeEngine
  private var effects: [Effect] = []
  private var queue: [Write] = []
  private var isCommitting = false
  private var engineWake = Int64.max
  var near = NearProxies()
  var far = FarSessions(loop: 0, writer: 1)
  var ends: [Int: End] = [:]
  var agents: [SessionID: ClusterAgent] = [:]
  /// Nodes that took no mail, of which nobody has been told yet.
  private var unreachable: Set<Int> = []
  private var writer = ByteWriter()
  private var isCarryingOut = false
  var map: RingMap
  var sources: [UInt16: SlotSource] = [:]
  var targets: [UInt16: SlotTarget] = [:]
  /// What is asked of slots that are sealed.
  var holds: [UInt16: SlotHold<ClusterAsk>] = [:]
  var lastHold: UInt64 = 0
  /// How often what was agreed with a node became void.
  private(set) var generations: [Int: Int] = [:]
  /// Slots whose move it has asked to call off.
  var callingOff: Set<UInt16> = []
  var registry: Registry
  var gossip: Gossip
  var metadata: MetadataEngine?
  var metadataAnswers: [UInt64: (MetadataAnswer) -> Void] = [:]
  var lastToken: UInt64 = 0
  var metadataWake = Int64.max
  /// What nodes say of keys, and the keys that streams here live by.
  var board = NoticeBoard(epoch: 0)
  var keys: Set<RecordID> = []
  private var membership: MembershipEngine?
  private var memberWake = Int64.max

  init(_ world: ClusterWorld, _ index: Int, _ map: RingMap) {
    self.world = world
    self.index = index
    me = ClusterNode.id(index)
    self.map = map
    mapOnDisk = map
    skew = world.config.skewSeconds[index]
    engine = NodeEngine(
      shard: 0, shards: 1, writer: 1, settings: world.config.settings, slotHeads: [])
    let settings = RegistrySettings(relayID: "n\(index)")
    registry = Registry(settings: settings, at: world.clock.now)
    gossip = Gossip(settings: GossipSettings(relayID: "n\(index)", seed: 1), peers: [])
  }

  var now: Now {
    let now = world.clock.now
    return Now(monotonic: now.monotonic, wall: now.wall + .seconds(skew))
  }
  var nanoseconds: Int64 { world.clock.nanoseconds }

  // MARK: life

  /// Runs `body` in this process, later when it is paused. `life`: only in that one.
  func enter(life wanted: Int? = nil, _ body: @escaping (ClusterNode) -> Void) {
    let wanted = wanted ?? life
    guard isAlive, wanted == life else { return }
    if nanoseconds < pausedUntil {
      world.clock.at(pausedUntil) { [weak self] in self?.enter(life: wanted, body) }
      return
    }
    body(self)
    run()
  }

  func after(_ nanoseconds: Int64, _ body: @escaping (ClusterNode) -> Void) {
    let wanted = life
    world.clock.after(nanoseconds) { [weak self] in self?.enter(life: wanted, body) }
  }

  /// Neither dead nor paused.
  var isRunning: Bool { isAlive && nanoseconds >= pausedUntil }

  func pause(_ nanoseconds: Int64) {
    world.tell("node \(index) pauses for \(nanoseconds / 1_000_000) ms")
    pausedUntil = max(pausedUntil, self.nanoseconds + nanoseconds)
  }

  func start() {
    guard !isAlive else { return }
    isAlive = true
    life += 1
    pausedUntil = 0
    world.tell("node \(index) starts")
    if world.plant != .incarnationReused || incarnation == 0 { incarnation += 1 }
    let config = world.config
    engine = NodeEngine(
      shard: 0, shards: 1, writer: world.random.next(), settings: config.settings,
      slotHeads: disk.slotHeads)
    near = NearProxies()
    far = FarSessions(loop: 0, writer: world.random.next())
    queue = []
    (isCommitting, engineWake, metadataWake, memberWake) = (false, .max, .max, .max)
    ends = [:]
    unreachable = []
    for j in 0..<config.nodes where j != index {
      var made: [LinkEffect<LinkMail>] = []
      let session = LinkSession<LinkMail>(
        me: me, peer: ClusterNode.id(j), incarnation: incarnation, at: now.monotonic, into: &made)
      ends[j] = End(session: session, effects: made)
    }
    startRegistry()
    startBoard()
    startMap()
    startMembership()
    everySecond()
    run()
  }

  /// The process dies. `power`: and what was not synced is gone, or some of it.
  func crash(power: Bool) {
    isAlive = false
    if let first = queue.first, world.random.oneIn(2) { apply(first) }
    queue = []
    for j in ends.keys.sorted() { if let wire = ends[j]?.wire { world.close(wire) } }
    if power {
      disk.powerCut(keeping: world.random.below(disk.unsyncedWrites + 1))
      world.lostPower()
    }
    model.crashed(disk, power: power)
    model.audit(disk)
    keys = []
    let gone = agents.values.sorted { $0.number < $1.number }
    agents = [:]
    for agent in gone { agent.lost() }
  }

  func audit() { model.audit(disk) }

  private func everySecond() {
    after(Int64(world.random.within(900_000_000...1_100_000_000))) { node in
      node.gossipRound()
      node.readBooks()
      node.readMap()
      node.everySecond()
    }
  }

  func someWire(_ random: inout SimRandom) -> ClusterWire? {
    let wires = ends.keys.sorted().compactMap { ends[$0]?.wire }
    return wires.isEmpty ? nil : random.pick(wires)
  }

  // MARK: the engine

  func input(_ body: (inout NodeEngine, Now) -> Void) {
    guard isAlive else { return }
    body(&engine, now)
    engine.endTurn(at: now)
    carryOut()
  }

  private func carryOut() {
    var out: [Effect] = []
    swap(&out, &effects)
    engine.drainEffects(into: &out)
    for effect in out { carryOut(effect) }
    out.removeAll(keepingCapacity: true)
    effects = out
    if !engine.effects.isEmpty { carryOut() }
  }

  /// All that the engine took for a sealed slot is written and answered.
  func isQuiet(_ slot: UInt16) -> Bool { engine.slotIsQuiet(slot) }

  private func carryOut(_ effect: Effect) {
    switch effect {
    case .deliver(let id, let ref, let delivery):
      world.note(1, id.value &+ delivery.sequence << 8)
      model.delivered(ref, delivery)
      if id.loop != near.loop {
        agents[id]?.deliver(ref, delivery)
      } else if let (node, origin, number) = place(id, ref) {
        enqueue(node, .deliver([origin.session], channel: number, delivery))
      }
    case .deliverFar(let proxies, let ref, let delivery):
      model.delivered(ref, delivery)
      // One table has the proxies of all nodes here.
      var crossing: [Int: (number: UInt32, sessions: [SessionID])] = [:]
      for proxy in proxies {
        world.note(1, proxy.value &+ delivery.sequence << 8)
        guard let (node, origin, number) = place(proxy, ref) else { continue }
        crossing[node, default: (number, [])].sessions.append(origin.session)
      }
      for (node, part) in crossing.sorted(by: { $0.key < $1.key }) {
        enqueue(node, .deliver(part.sessions, channel: part.number, delivery))
      }
    case .answer(let id, let ref, let token, let mls, let outcome):
      if case .accepted(let sequence, _) = outcome,
        sequence > UInt64(model[ref.id]?.entries.count ?? 0)
      {
        world.fail("\(ref.name) \(sequence) acknowledged before it was appended")
      }
      if id.loop != near.loop {
        agents[id]?.answer(ref, token, outcome)
      } else if let (node, origin, number) = place(id, ref) {
        let result: LinkOutcome =
          switch outcome {
          case .accepted(let sequence, let again):
            .accepted(sequence: sequence, duplicate: again)
          case .refused(let fault, let winner): .refused(fault, winner: winner)
          }
        enqueue(node, .answer(origin.session, channel: number, token: token, mls: mls, result))
      }
    case .subscribed(let id, let ref, let token, let head, let fault):
      if id.loop != near.loop {
        agents[id]?.subscribed(fault)
      } else if let (node, origin, number) = place(id, ref) {
        enqueue(
          node, .subscribed(origin.session, channel: number, token: token, head: head, fault))
      }
    case .end(let id, let fault):
      if id.loop != near.loop {
        agents[id]?.end(fault)
      } else if let origin = near.origin(id) {
        near.close(origin.session, of: origin.node)
        enqueue(ClusterNode.index(origin.node), .end(origin.session, fault))
      }
    case .write(let ticket, let set, let synced):
      queue.append(Write(ticket: ticket, set: set, synced: synced))
      commit()
    case .load(let ref):
      later { node in
        let rows = StateKind.loaded.flatMap {
          node.disk.rows(.state, prefix: StateKind.prefix($0, ref.id))
        }
        node.input { $0.receiveLoaded(ref, rows: rows, at: $1) }
      }
    case .read(let ticket, let ref, let from, let limit):
      later { node in
        let rows = node.disk.records(ref.id, from: from, limit: limit)
        node.input { $0.receiveRecords(ticket: ticket, rows: rows, at: $1) }
      }
    case .seekBefore(let ticket, let key, let prefix):
      later { node in
        let row = node.disk.seekBefore(.state, key, prefix: prefix)
        node.input { $0.receiveRow(ticket: ticket, row: row, at: $1) }
      }
    case .wake(let at): wakeEngine(at.nanoseconds)
    case .note(let note):
      if case .damagedRecord(let ref, let sequence) = note {
        world.fail("\(ref.name) \(sequence) damaged")
      }
    case .written, .readEnded, .pause, .resume, .deleted: break
    }
  }

  private func place(
    _ proxy: SessionID, _ ref: ChannelRef
  ) -> (Int, NearProxies.Origin, UInt32)? {
    guard let origin = near.origin(proxy),
      let number = near.number(of: ref.id, for: origin.node, loop: origin.session.loop)
    else { return nil }
    return (ClusterNode.index(origin.node), origin, number)
  }

  private func later(_ body: @escaping (ClusterNode) -> Void) {
    after(Int64(world.random.within(20_000...2_000_000)), body)
  }

  private func wakeEngine(_ at: Int64) {
    engineWake = at
    after(max(0, at - nanoseconds)) { node in
      guard node.engineWake == at else { return }
      node.engineWake = .max
      node.input { $0.receiveTick(at: $1) }
    }
  }

  private func commit() {
    guard !isCommitting, let first = queue.first else { return }
    isCommitting = true
    if world.plant == .acknowledgedBeforeAppend {
      // Before the shortest write is done: confirmations come in order all the same.
      after(1_000) { node in node.input { $0.receiveWritten(ticket: first.ticket, at: $1) } }
    }
    after(Int64(world.random.within(world.config.writeDelay)) * (first.synced ? 3 : 1)) { node in
      node.isCommitting = false
      guard !node.queue.isEmpty else { return }
      let write = node.queue.removeFirst()
      node.apply(write)
      if node.world.plant != .acknowledgedBeforeAppend {
        node.input { $0.receiveWritten(ticket: write.ticket, at: $1) }
      }
      node.commit()
    }
  }

  private func apply(_ write: Write) {
    model.apply(write.set)
    disk.apply(write.set, synced: write.synced && world.plant != .syncSkipped)
  }

  // MARK: links

  func enqueue(_ j: Int, _ mail: LinkMail) {
    var made: [LinkEffect<LinkMail>] = []
    let admission = ends[j]?.session.enqueue(mail, bytes: 64, into: &made)
    ends[j]?.effects += made
    world.tell("node \(index) to \(j): \(mail.kind), \(admission.map { "\($0)" } ?? "")")
    if admission == .full { world.fail("a link's queue is full") }
    // Who asked for it waits in vain.
    if admission == .unreachable, unreachable.insert(j).inserted {
      after(0) { node in
        node.unreachable.remove(j)
        var made: [FarEffect] = []
        node.far.receiveUnreachable(ClusterNode.id(j), into: &made)
        node.perform(made)
      }
    }
  }

  private func at(
    _ j: Int, _ body: (inout LinkSession<LinkMail>, Instant, inout [LinkEffect<LinkMail>]) -> Void
  ) {
    guard var end = ends[j] else { return }
    body(&end.session, now.monotonic, &end.effects)
    ends[j] = end
  }

  func connected(to j: Int, _ wire: ClusterWire) {
    // It was over before this node, which paused, heard of it.
    guard wire.isOpen else { return disconnected(from: j, nil) }
    if let old = ends[j]?.wire, old !== wire { world.close(old) }
    ends[j]?.wire = wire
    at(j) { $0.receiveConnected(at: $1, into: &$2) }
  }

  /// `wire` nil: an attempt failed.
  func disconnected(from j: Int, _ wire: ClusterWire?) {
    // Of a connection that another has replaced nothing is said.
    if let wire, ends[j]?.wire !== wire { return }
    if wire == nil, ends[j]?.wire != nil { return }
    ends[j]?.wire = nil
    at(j) { $0.receiveDisconnected(at: $1, into: &$2) }
  }

  func receive(_ bytes: [UInt8], on wire: ClusterWire) {
    let j = wire.other(index)
    guard ends[j]?.wire === wire else { return }
    guard let frame = bytes.withUnsafeBytes({ try? LinkFrame($0) }) else {
      return world.fail("a frame is not read")
    }
    switch frame {
    case .hello(let hello): at(j) { $0.receive(hello, at: $1, into: &$2) }
    case .mail(let sequence, let mail):
      at(j) { $0.receive(sequence: sequence, mail, at: $1, into: &$2) }
    case .mails(let first, let mails):
      at(j) { $0.receive(first: first, mails, at: $1, into: &$2) }
    case .acknowledged(let upTo): at(j) { $0.receive(acknowledged: upTo, at: $1, into: &$2) }
    }
    run()
    at(j) { session, _, made in session.endTurn(into: &made) }
  }

  private func put(_ j: Int, _ frame: LinkFrame) {
    guard let wire = ends[j]?.wire else { return }
    world.send(Array(frame.encoded(&writer).array()[5...]), on: wire, from: index)
  }

  /// Carries out what the links say, in order.
  func run() {
    guard !isCarryingOut, isAlive else { return }
    isCarryingOut = true
    defer { isCarryingOut = false }
    while let j = ends.keys.sorted().first(where: { ends[$0]?.effects.isEmpty == false }) {
      guard let effect = ends[j]?.effects.removeFirst() else { break }
      run(j, effect)
    }
  }

  private func run(_ j: Int, _ effect: LinkEffect<LinkMail>) {
    switch effect {
    case .connect: world.connect(index, j)
    case .hello(var hello):
      // A process that has heard of nobody, under a name that has been used, is found out.
      if world.plant == .incarnationReused {
        hello.heardIncarnation = max(1, hello.heardIncarnation)
      }
      put(j, .hello(hello))
    case .send(let sequence, let mail): put(j, .mails(first: sequence, [mail]))
    case .acknowledge(let upTo): put(j, .acknowledged(upTo))
    case .deliver(let mail):
      world.tell("node \(index) has from \(j): \(mail.kind)")
      receive(mail, from: j)
    case .disconnect:
      if let wire = ends[j]?.wire {
        ends[j]?.wire = nil
        world.close(wire)
      }
    case .up, .down, .congested: break
    case .forgotten: forget(j, forGood: false)
    case .unreachable: forget(j, forGood: true)
    case .wake(let at):
      let time = at.nanoseconds
      guard time < ends[j]?.wakeAt ?? 0 else { return }
      ends[j]?.wakeAt = time
      after(max(0, time - nanoseconds)) { node in
        guard node.ends[j]?.wakeAt == time else { return }
        node.ends[j]?.wakeAt = .max
        node.at(j) { $0.receiveTick(at: $1, into: &$2) }
      }
    }
  }

  private func forget(_ j: Int, forGood: Bool) {
    let peer = ClusterNode.id(j)
    world.tell("node \(index) forgets \(j)\(forGood ? " for good" : "")")
    generations[j, default: 0] += 1
    for proxy in near.removeAll(of: peer) { input { $0.receiveClose(proxy, at: $1) } }
    var made: [FarEffect] = []
    if forGood {
      far.receiveUnreachable(peer, into: &made)
    } else if world.plant != .interestLost {
      far.receiveForgotten(peer, into: &made)
    }
    perform(made)
  }

  // MARK: membership

  private func startMembership() {
    memberIncarnation += 1
    var made: [MembershipEffect] = []
    membership = MembershipEngine(
      me: Member(id: me, address: "n\(index)", incarnation: memberIncarnation), profile: .lan,
      seeds: ["n0", "n1"], random: world.random.next(), at: now.monotonic, into: &made)
    carry(made)
  }

  /// How many others it believes to live.
  var members: Int { membership?.members.count { $0.state == .alive } ?? 0 }

  private func member(
    _ body: (inout MembershipEngine, Instant, inout [MembershipEffect]) -> Void
  ) {
    guard var engine = membership else { return }
    var made: [MembershipEffect] = []
    body(&engine, now.monotonic, &made)
    membership = engine
    carry(made)
  }

  private func carry(_ made: [MembershipEffect]) {
    for effect in made {
      switch effect {
      case .send(let address, let packet):
        guard let j = world.nodes.firstIndex(where: { "n\($0.index)" == address }) else { continue }
        let bytes = packet.encoded
        world.send(from: index, to: j) { node in
          guard let read = MemberPacket(bytes) else {
            return node.world.fail("a packet is not read")
          }
          node.member { $0.receive(read, at: $1, into: &$2) }
        }
      case .refuted(let incarnation): memberIncarnation = max(memberIncarnation, incarnation)
      case .wake(let at):
        let time = at.nanoseconds
        guard time < memberWake else { continue }
        memberWake = time
        after(max(0, time - nanoseconds)) { node in
          guard node.memberWake == time else { return }
          node.memberWake = .max
          node.member { $0.receiveTick(at: $1, into: &$2) }
        }
      case .twin, .forgotten: world.fail("node \(index): \(effect)")
      case .changed, .left: break
      }
    }
  }
}

extension LinkMail {
  /// For traces: without its content.
  var kind: String {
    switch self {
    case .opened(let id, _, _): "opened \(id.value)"
    case .closed(let id): "closed \(id.value)"
    case .publish(let id, let channel, let publication):
      "publish \(publication.token) of \(id.value) in \(channel)"
    case .subscribe(let id, let channel, let start, _, _, _):
      "subscribe \(id.value) to \(channel), \(start)"
    case .answer(let id, let channel, let token, _, let outcome):
      "answer \(token) to \(id.value) in \(channel): \(outcome)"
    case .notOwner(let id, let channel, let token, _):
      "not the owner, \(token) of \(id.value) in \(channel)"
    case .deliver(let ids, let channel, let delivery):
      "deliver \(delivery.sequence) of \(channel) to \(ids.map(\.value))"
    default: "\(self)"
    }
  }
}
