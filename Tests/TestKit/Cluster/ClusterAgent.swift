internal import Base
internal import Digest
internal import Engine

/// Somebody who publishes and reads on some channels, on whatever node there is, and never loses its place: messages keep
/// their producer numbers over streams and nodes, readings go on behind what came.
final class ClusterAgent {
  private struct Message {
    var id: UInt64
    var ref: ChannelRef
    var producerSequence: UInt64
    var size: Int
    var synced: Bool
    /// How many times it was sent, under the same number.
    var tries = 0
  }
  private unowned let world: ClusterWorld
  let number: Int
  let principal: Principal
  private let refs: [ChannelRef]
  private let producer: UInt64
  private(set) var session: SessionID?
  private var node: ClusterNode?
  private var isConnecting = false
  private var left: Int
  private var waiting: [Message] = []
  /// Refused for sure, to be sent under a new number.
  private var refused: [Message] = []
  private var sequence: [ChannelID: UInt64] = [:]
  private var next: [ChannelID: UInt64] = [:]
  private var sent: Set<UInt64> = []
  private var epoch: [ChannelID: UInt64] = [:]
  private let window: Int
  private var commitsUnderWay = 0
  /// Something was refused: it waits before it asks again.
  private var isHeldBack = false

  init(_ world: ClusterWorld, _ refs: [ChannelRef], messages: Int) {
    self.world = world
    self.refs = refs
    number = Int(world.nextID())
    left = messages
    producer = world.random.next() | 1
    window = world.random.within(1...8)
    principal = Principal(
      tenant: TenantID(org: "acme"), org: "acme", key: RecordID(UInt64(number)))
  }

  /// What it still waits for.
  var unrest: String? {
    if left > 0 || !waiting.isEmpty {
      return
        "agent \(number) has \(left) messages left, \(waiting.count) unanswered, on node \(node?.index ?? -1)"
    }
    for ref in refs {
      let end = UInt64(world.archive(ref.id)?.entries.count ?? 0) + 1
      // What follows is its own, and is not heard.
      var due = next[ref.id] ?? 1
      while due < end, isMine(ref, due) { due += 1 }
      if due < end { return "agent \(number) is at \(due) of \(end - 1) in \(ref.name)" }
    }
    return nil
  }

  private func isMine(_ ref: ChannelRef, _ sequence: UInt64) -> Bool {
    guard let kept = world.archive(ref.id) else { return false }
    return sent.contains(kept.entries[Int(sequence) - 1].id)
  }

  func uses(_ ref: ChannelRef) -> Bool { refs.contains { $0.id == ref.id } }

  // MARK: streams

  func connect() {
    guard session == nil, !isConnecting else { return }
    isConnecting = true
    world.clock.after(Int64(world.random.within(1_000_000...400_000_000))) { [self] in
      let chosen = world.random.pick(world.nodes)
      isConnecting = false
      guard chosen.isAlive else { return connect() }
      let id = world.nextSession()
      session = id
      node = chosen
      chosen.agents[id] = self
      world.tell("agent \(number) on node \(chosen.index), session \(id.value)")
      commitsUnderWay = 0
      isHeldBack = false
      chosen.enter { [self] node in
        guard session == id else { return }
        for ref in refs { node.subscribe(self, ref, from: next[ref.id] ?? 1) }
        for message in waiting where session == id { send(message.id) }
        fill()
      }
    }
  }

  /// The node has died.
  func lost() {
    session = nil
    node = nil
    connect()
  }

  /// The stream ends.
  func end(_ fault: Fault) {
    guard let id = session else { return }
    world.tell("agent \(number) session \(id.value) ends: \(fault)")
    if fault.code == .damaged || fault.code == .internal { world.fail("ended: \(fault)") }
    session = nil
    let last = node
    node = nil
    last?.agents[id] = nil
    // Not in the middle of what the node is at.
    world.clock.after(0) { last?.enter { $0.leave(id) } }
    connect()
  }

  func subscribed(_ fault: Fault?) {
    if let fault {
      // Whoever called is still at it.
      let id = session
      world.clock.after(1_000_000) { [self] in if session == id { end(fault) } }
    }
  }

  // MARK: publishing

  private func fill() {
    guard let id = session, let node else { return }
    while waiting.count < window, left > 0, session == id, !isHeldBack {
      left -= 1
      let ref = world.random.pick(refs)
      if world.random.oneIn(6), commitsUnderWay < 4 {
        commit(ref, node)
        continue
      }
      var message = Message(
        id: 0, ref: ref, producerSequence: 0, size: world.random.below(60),
        // Where power fails only what is synced is promised.
        synced: world.config.powerCuts || world.random.oneIn(3))
      if refused.isEmpty {
        message.id = world.nextID()
      } else {
        message = refused.removeFirst()
      }
      sequence[message.ref.id, default: 0] += 1
      message.producerSequence = sequence[message.ref.id] ?? 0
      waiting.append(message)
      sent.insert(message.id)
      send(message.id)
    }
  }

  private func send(_ id: UInt64) {
    guard let at = waiting.firstIndex(where: { $0.id == id }) else { return }
    waiting[at].tries += 1
    let message = waiting[at]
    world.tell(
      "agent \(number) sends \(message.id), \(message.producerSequence) in \(message.ref.name)")
    let publication = Publication(
      frame: SimFrame.make(id: message.id, size: message.size), hasSuffix: true, type: 1,
      // One producer for each channel.
      producer: producer ^ message.ref.id.low | 1, producerSequence: message.producerSequence,
      durability: message.synced ? .synced : .written,
      token: message.id << 1 | (message.synced ? 1 : 0))
    node?.publish(self, message.ref, publication)
  }

  /// All race for the commit of an epoch.
  private func commit(_ ref: ChannelRef, _ node: ClusterNode) {
    let e = epoch[ref.id] ?? 0
    let id = world.nextID()
    commitsUnderWay += 1
    world.epochOf[id] = e
    sent.insert(id)
    node.publish(
      self, ref,
      Publication(
        frame: SimFrame.make(id: id, size: 30), hasSuffix: true, type: 11, mls: .commit, epoch: e,
        digest: (id, ~id), durability: world.config.powerCuts ? .synced : .written,
        token: id << 1 | (world.config.powerCuts ? 1 : 0)))
  }

  func answer(_ ref: ChannelRef, _ token: UInt64, _ outcome: PublishOutcome) {
    let id = token >> 1
    world.tell("agent \(number) message \(id) in \(ref.name): \(outcome)")
    if let e = world.epochOf[id] {
      commitsUnderWay -= 1
      switch outcome {
      case .accepted(let sequence, _):
        world.accepted(ref, sequence, id: id, synced: token & 1 == 1)
        epoch[ref.id] = max(epoch[ref.id] ?? 0, e + 1)
      case .refused(_, let winner):
        if winner > 0 { world.archive(ref.id).map { check($0, ref, e, winner) } }
      }
    } else if let at = waiting.firstIndex(where: { $0.id == id }) {
      let message = waiting.remove(at: at)
      switch outcome {
      case .accepted(let sequence, _):
        world.accepted(ref, sequence, id: id, synced: message.synced)
      case .refused(let fault, _):
        // Surely not in the channel, unless it is too old to tell, or an earlier try may still get there: then it is not
        // known, and is not sent again under another number.
        if fault.code != .producerStale, message.tries == 1 {
          refused.append(message)
          left += 1
        }
      }
    }
    var pause = Int64(world.random.below(world.config.think)) + 1_000_000
    if case .refused = outcome {
      isHeldBack = true
      pause += 100_000_000
    }
    let current = session
    world.clock.after(pause) { [self] in
      guard let current, session == current, let node else { return }
      isHeldBack = false
      node.enter { [self] _ in if session == current { fill() } }
    }
  }

  private func check(_ kept: ChannelModel, _ ref: ChannelRef, _ e: UInt64, _ winner: UInt64) {
    guard winner <= kept.entries.count else {
      return world.fail("\(ref.name): a commit lost to \(winner), which is not there")
    }
    let entry = kept.entries[Int(winner) - 1]
    if entry.mls != .commit || entry.epoch != e {
      world.fail("\(ref.name): a commit of epoch \(e) lost to \(winner), which is none of it")
    }
  }

  // MARK: reading

  func deliver(_ ref: ChannelRef, _ delivery: Delivery) {
    let due = next[ref.id] ?? 1
    guard delivery.sequence >= due else {
      return world.fail("\(ref.name) \(delivery.sequence) again to agent \(number), due \(due)")
    }
    guard let kept = world.archive(ref.id), delivery.sequence <= kept.entries.count else {
      return world.fail("\(ref.name) \(delivery.sequence) delivered and not there")
    }
    for skipped in due..<delivery.sequence where !isMine(ref, skipped) {
      return world.fail(
        "\(ref.name) \(skipped) skipped by agent \(number), which got \(delivery.sequence)")
    }
    let at = Int(delivery.sequence) - 1
    if kept.entries[at].hash != delivery.frame.withUnsafeBytes({ xxh64($0) }) {
      world.fail("\(ref.name) \(delivery.sequence): other bytes than were appended")
    }
    kept.entries[at].seen = true
    next[ref.id] = delivery.sequence + 1
    if delivery.mls == .commit { epoch[ref.id] = delivery.epoch + 1 }
    let bytes = delivery.frame.count
    let current = session
    world.clock.after(Int64(world.random.below(2_000_000))) { [self] in
      guard let current, session == current, let node else { return }
      node.enter { [self] in if session == current { $0.credit(self, ref, bytes) } }
    }
  }
}
