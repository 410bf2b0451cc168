internal import Base
internal import Codec
internal import Gossip
internal import Messages
internal import Registry

// The registry of a node, and its exchanges with the others.
extension ClusterNode {
  /// From the rows on disk.
  func startRegistry() {
    var settings = RegistrySettings(relayID: "n\(index)", seed: world.random.next())
    settings.faults = world.plant?.registry ?? []
    registry = Registry(settings: settings, at: now)
    for row in disk.rows(.registry) { registry.load(key: row.key, value: row.value, at: now) }
    registry.finishLoading(at: now)
    if registry.counts.damagedRows > 0 { world.fail("damaged registry rows") }
    var told = GossipSettings(relayID: "n\(index)", seed: world.random.next())
    told.fanout = 2
    gossip = Gossip(
      settings: told,
      peers: others.map { GossipPeer(name: "n\($0)", trust: .everything) })
    writeRegistry()
  }

  private var others: [Int] { (0..<world.config.nodes).filter { $0 != index } }

  func writeRegistry() {
    if registry.hasWrites { disk.apply(registry.takeWrites(), synced: false) }
  }

  func gossipRound() {
    registry.receiveTick(at: now)
    for call in gossip.receiveTick(&registry, at: now) { make(call) }
    writeRegistry()
  }

  private func make(_ call: GossipCall) {
    let j = others[call.peer]
    switch call.request {
    case .sync(let request):
      let bytes = request.encoded()
      world.call(from: index, to: j) { (node: ClusterNode, answer: @escaping ([UInt8]) -> Void) in
        guard let asked = try? AnycastSyncRegistrationsRequest(decoding: bytes),
          let made = try? node.gossip.receiveSync(asked, .everything, &node.registry, at: node.now)
        else { return }
        node.writeRegistry()
        answer(made.encoded())
      } _: { node, bytes in
        guard let bytes, let answer = try? AnycastSyncRegistrationsResponse(decoding: bytes) else {
          return node.failed(call)
        }
        node.went(node.gossip.receive(answer, to: call, &node.registry, at: node.now))
      }
    case .push(let request):
      let bytes = request.encoded()
      world.call(from: index, to: j) { (node: ClusterNode, answer: @escaping ([UInt8]) -> Void) in
        guard let asked = try? AnycastPushRegistrationsRequest(decoding: bytes),
          let made = try? node.gossip.receivePush(asked, .everything, &node.registry, at: node.now)
        else { return }
        node.writeRegistry()
        answer(made.encoded())
      } _: { node, bytes in
        guard let bytes, let answer = try? AnycastPushRegistrationsResponse(decoding: bytes) else {
          return node.failed(call)
        }
        node.went(node.gossip.receive(answer, to: call, &node.registry, at: node.now))
      }
    }
  }

  private func failed(_ call: GossipCall) {
    gossip.receiveFailure("no answer", to: call, at: now)
  }

  private func went(_ next: GossipCall?) {
    if let next { make(next) }
    writeRegistry()
  }
}

/// Agents with skills: they register, speak up, move, and end.
final class ClusterSkills {
  private unowned let world: ClusterWorld
  /// By agent: the node it is at; nil: it has ended.
  private var homes: [Int?]
  private var issued: [String: Record] = [:]

  init(_ world: ClusterWorld) {
    self.world = world
    homes = (0..<world.config.peers).map { _ in nil }
  }

  private func name(_ peer: Int) -> String { "peer-\(peer)" }

  func start() {
    for peer in homes.indices { live(peer) }
  }

  private func live(_ peer: Int) {
    let pause =
      world.quiet ? 3_000_000_000 : Int64(world.random.within(500_000_000...8_000_000_000))
    world.clock.after(pause) { [self] in
      if world.quiet || world.random.below(3) > 0 { beat(peer) } else { act(peer) }
      live(peer)
    }
  }

  /// What an agent does; when its node does not know it, or is not there, it registers again.
  private func beat(_ peer: Int) {
    guard let home = homes[peer] else { return }
    let node = world.nodes[home]
    guard node.isAlive else {
      homes[peer] = world.random.below(world.nodes.count)
      return register(peer)
    }
    node.enter { [self] node in
      guard homes[peer] == home else { return }
      if (try? node.registry.receiveHeartbeat(name(peer), at: node.now)) == nil { register(peer) }
    }
  }

  private func act(_ peer: Int) {
    if homes[peer] != nil, world.random.oneIn(3) { return end(peer) }
    if homes[peer] == nil || world.random.oneIn(2) {
      homes[peer] = world.random.below(world.nodes.count)
    }
    register(peer)
  }

  private func register(_ peer: Int) {
    guard let home = homes[peer] else { return }
    let skill = "skill-\(world.random.below(4))"
    world.nodes[home].enter { [self] node in
      guard homes[peer] == home else { return }
      let asked = Registration(peerID: name(peer), skills: [Skill(id: "all"), Skill(id: skill)])
      _ = try? node.registry.receiveRegister(asked, at: node.now)
      remember(peer, node)
    }
  }

  private func end(_ peer: Int) {
    guard let home = homes[peer], world.nodes[home].isAlive else { return }
    homes[peer] = nil
    world.nodes[home].enter { [self] node in
      guard homes[peer] == nil else { return }
      try? node.registry.receiveUnregister(name(peer), skills: [], at: node.now)
      remember(peer, node)
    }
  }

  private func remember(_ peer: Int, _ node: ClusterNode) {
    node.writeRegistry()
    guard let record = node.registry.record(of: name(peer)) else { return }
    world.note(3, record.stamp.version)
    if let known = issued[name(peer)], !record.wins(over: known) { return }
    issued[name(peer)] = record
  }

  /// A node's last rows are gone with its power: what only it knew never was.
  func lostPower() {
    for (peer, record) in issued {
      let isKnown = world.nodes.contains {
        $0.isAlive && $0.registry.record(of: peer) == record
      }
      if !isKnown { issued[peer] = nil }
    }
  }

  /// What is not as it must be in the end.
  var unrest: String? {
    let wanted = Set(homes.indices.filter { homes[$0] != nil }.map { name($0) })
    for node in world.nodes {
      let shown = Set(
        node.registry.discover(
          Discovery(skill: "all", limit: 1_000), at: node.now))
      if shown != wanted {
        let (more, less) = (shown.subtracting(wanted).sorted(), wanted.subtracting(shown).sorted())
        return "node \(node.index) shows \(more) too much, \(less) too little"
      }
    }
    return nil
  }

  /// Every agent's record is at least as new as any that was issued.
  func check() {
    for (peer, largest) in issued.sorted(by: { $0.key < $1.key }) {
      for node in world.nodes {
        // A new life of its home has ended all records of the last one.
        let life = node.registry.origins.first { $0.id == largest.stamp.origin }?.incarnation ?? 0
        guard let kept = node.registry.record(of: peer), largest.stamp.incarnation >= life else {
          continue
        }
        if largest.wins(over: kept) {
          world.fail("\(peer) on node \(node.index) is older than \(largest.stamp)")
        }
      }
    }
  }
}
