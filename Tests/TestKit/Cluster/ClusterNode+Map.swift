internal import Base
internal import Engine
internal import Metadata
internal import Ring

// The map: kept by the metadata engine on node 0, read and changed by all, and the moves that it asks for.
extension ClusterNode {
  private static let key = Array("ring".utf8)

  /// From the node's disk; node 0 has the metadata besides.
  func startMap() {
    map = mapOnDisk
    sources = [:]
    targets = [:]
    holds = [:]
    callingOff = []
    metadata = nil
    metadataAnswers = [:]
    if index == 0 { startMetadata() }
    for slot in intents.keys.sorted() {
      if let intent = intents[slot] { makeSource(intent.move, resuming: intent) }
    }
    for slot in engineSlots() where map.owner(of: slot.map) == me {
      input { [map] engine, _ in
        engine.receiveOwnership(slot: slot.engine, epoch: map.epoch(of: slot.map))
      }
    }
    for slot in marks.keys.sorted() {
      guard let mark = marks[slot] else { continue }
      makeTarget(mark.id)
      target(slot) { [map] in
        $0.receiveMap(map[slot], revision: map.revision, at: $1, into: &$2)
      }
    }
    takeMoves()
  }

  private func startMetadata() {
    let rows = disk.rows(.meta, prefix: [UInt8(ascii: "m")])
    var made: [MetadataEffect] = []
    guard let engine = MetadataEngine(rows: rows, at: now.monotonic, into: &made) else {
      return world.fail("the metadata is damaged")
    }
    metadata = engine
    carry(made)
    if rows.isEmpty {
      let first = MetadataTransaction.swap(ClusterNode.key, modified: 0, value: map.encoded)
      ask(.transact(first)) { _ in }
    }
  }

  private func withMetadata(
    _ body: (inout MetadataEngine, Instant, inout [MetadataEffect]) -> Void
  ) {
    guard var engine = metadata else { return }
    var made: [MetadataEffect] = []
    body(&engine, now.monotonic, &made)
    metadata = engine
    carry(made)
  }

  private func carry(_ made: [MetadataEffect]) {
    for effect in made {
      switch effect {
      case .answer(let token, let answer): metadataAnswers.removeValue(forKey: token)?(answer)
      case .write(let set):
        after(Int64(world.random.within(world.config.writeDelay))) { node in
          node.disk.apply(set, synced: true)
          node.withMetadata { $0.receiveWritten(at: $1, into: &$2) }
        }
      case .wake(let at):
        let time = at.nanoseconds
        guard time < metadataWake else { continue }
        metadataWake = time
        after(max(0, time - nanoseconds)) { node in
          guard node.metadataWake == time else { return }
          node.metadataWake = .max
          node.withMetadata { $0.receiveTick(at: $1, into: &$2) }
        }
      }
    }
  }

  private func ask(_ request: MetadataRequest, _ done: @escaping (MetadataAnswer) -> Void) {
    guard metadata != nil else { return }
    lastToken += 1
    let token = lastToken
    metadataAnswers[token] = done
    withMetadata { $0.receive(request, token: token, at: $1, into: &$2) }
  }

  /// From any node; nil: no answer in time.
  private func call(
    _ request: MetadataRequest, _ done: @escaping (ClusterNode, MetadataAnswer?) -> Void
  ) {
    world.call(from: index, to: 0) {
      (node: ClusterNode, answer: @escaping (MetadataAnswer) -> Void) in
      node.ask(request, answer)
    } _: {
      done($0, $1)
    }
  }

  // MARK: reading and changing

  func readMap() {
    call(.get(.key(ClusterNode.key), limit: 1)) { node, answer in
      guard case .got(let entries, _, _)? = answer, let entry = entries.first,
        let read = try? RingMap(entry.value)
      else { return }
      node.take(read, fresh: true)
    }
  }

  /// Reads the map, changes it and writes it back unless another came first.
  private func change(_ body: @escaping (RingMap) -> RingMap?) {
    call(.get(.key(ClusterNode.key), limit: 1)) { node, answer in
      guard case .got(let entries, _, _)? = answer, let entry = entries.first,
        let read = try? RingMap(entry.value), let next = body(read)
      else { return }
      var write = MetadataTransaction.swap(
        ClusterNode.key, modified: entry.modified, value: next.encoded)
      if node.world.plant == .mapWithoutCompare { write.compares = [] }
      node.call(.transact(write)) { node, answer in
        if case .transacted(true, _, _)? = answer { node.take(next, fresh: false) }
        node.readMap()
      }
    }
  }

  /// An operator gives a node another weight, or drains it, or takes it in again.
  func changeRing() {
    let which = world.random.below(world.config.nodes)
    let weight = world.random.pick([0, 50, 100, 200])
    change { map in
      var nodes = map.nodes
      guard which < nodes.count else { return nil }
      nodes[which].weight = weight
      return (try? map.plan(nodes: nodes))?.applied(to: map)
    }
  }

  private func take(_ read: RingMap, fresh: Bool) {
    world.saw(read, index)
    guard read.revision >= map.revision else { return }
    let old = map
    map = read
    if old.revision != read.revision { world.tell("node \(index) has map \(read.revision)") }
    // Not always at once.
    if intents.isEmpty || world.quiet || world.random.oneIn(2) { mapOnDisk = read }
    for slot in sources.keys.sorted() {
      source(slot) { [map] in
        $0.receiveMap(map[slot], revision: map.revision, fresh: fresh, at: $1, into: &$2)
      }
    }
    for slot in targets.keys.sorted() {
      target(slot) { [map] in
        $0.receiveMap(map[slot], revision: map.revision, at: $1, into: &$2)
      }
    }
    takeMoves()
    let changed = world.refs.compactMap { ref -> (ref: ChannelRef, from: NodeID, to: NodeID)? in
      let (from, to) = (old.owner(of: old.slot(of: ref.id)), map.owner(of: map.slot(of: ref.id)))
      return from == to ? nil : (ref, from, to)
    }
    ownersChanged(changed)
  }

  // MARK: moves

  var movesAreOver: Bool {
    sources.isEmpty && holds.isEmpty && targets.values.allSatisfy { $0.phase == .opened }
  }

  /// Where channels are: the map of a simulated cluster has fewer slots than an engine.
  private func engineSlots() -> [(map: UInt16, engine: UInt16)] {
    var seen: Set<UInt16> = []
    return world.refs.filter { seen.insert($0.id.slot).inserted }.map {
      (map.slot(of: $0.id), $0.id.slot)
    }
  }

  /// Does something in the engine to all of a slot.
  private func inEngine(
    _ slot: UInt16, _ body: @escaping (inout NodeEngine, UInt16, Now) -> Void
  ) {
    for one in engineSlots() where one.map == slot { input { body(&$0, one.engine, $1) } }
  }

  /// Whether the slot holds nothing, and never did here.
  private func isEmpty(_ slot: UInt16) -> Bool {
    world.refs.allSatisfy {
      map.slot(of: $0.id) != slot || model[$0.id]?.entries.isEmpty ?? true
    }
  }

  private func takeMoves() {
    for slot in map.movingSlots {
      guard let id = SlotMoveID(map, slot: slot) else { continue }
      if id.source == me, sources[slot] == nil {
        if isEmpty(slot) { makeSource(id) } else { callOff(id) }
      }
      if id.target == me, sources[slot] == nil, targets[slot]?.id != id { makeTarget(id) }
    }
  }

  /// One at a time for each slot: were it called off anew with every map that comes, calls that outrun each other would
  /// bring more maps, and those more calls.
  private func callOff(_ id: SlotMoveID) {
    guard callingOff.insert(id.slot).inserted else { return }
    change { try? $0.cancelling(id.slot, attempt: id.attempt) }
    after(100_000_000) { node in
      node.callingOff.remove(id.slot)
      node.takeMoves()
    }
  }

  private func makeSource(_ id: SlotMoveID, resuming: SlotIntent? = nil) {
    var made: [SlotSourceEffect] = []
    if resuming != nil { hold(id.slot) }
    sources[id.slot] = SlotSource(
      id, head: 0, run: UInt64(life), resuming: resuming, at: now.monotonic, into: &made)
    carry(made, id)
  }

  private func makeTarget(_ id: SlotMoveID) {
    var made: [SlotTargetEffect] = []
    let mark = marks[id.slot].flatMap { $0.id == id ? (seal: $0.seal, at: $0.at) : nil }
    if mark == nil { marks[id.slot] = nil }
    targets[id.slot] = SlotTarget(id, complete: mark, at: now.monotonic, into: &made)
    carry(made, id)
  }

  private func source(
    _ slot: UInt16, _ body: (inout SlotSource, Instant, inout [SlotSourceEffect]) -> Void
  ) {
    guard var machine = sources[slot] else { return }
    var made: [SlotSourceEffect] = []
    body(&machine, now.monotonic, &made)
    sources[slot] = machine.phase == .ended ? nil : machine
    carry(made, machine.id)
  }

  private func target(
    _ slot: UInt16, _ body: (inout SlotTarget, Instant, inout [SlotTargetEffect]) -> Void
  ) {
    guard var machine = targets[slot] else { return }
    var made: [SlotTargetEffect] = []
    body(&machine, now.monotonic, &made)
    targets[slot] = machine.phase == .ended ? nil : machine
    carry(made, machine.id)
  }

  private func carry(_ made: [SlotSourceEffect], _ id: SlotMoveID) {
    let slot = id.slot
    for effect in made {
      switch effect {
      case .send(let message):
        world.send(from: index, to: ClusterNode.index(id.target)) { node in
          guard node.targets[slot]?.id == id else { return }
          node.target(slot) { $0.receive(message, at: $1, into: &$2) }
        }
      case .copyState(_, let seal):
        world.send(from: index, to: ClusterNode.index(id.target)) { node in
          guard node.targets[slot]?.id == id else { return }
          node.target(slot) { $0.receiveStateWritten(seal: seal, at: $1, into: &$2) }
        }
      case .copy: world.fail("an empty slot is copied")
      case .readMap: readMap()
      case .seal:
        world.tell("slot \(slot): node \(index) seals")
        inEngine(slot) { engine, slot, _ in engine.sealSlot(slot) }
        hold(slot)
        seal(id)
      case .writeIntent(let intent):
        after(2_000_000) { node in
          node.intents[slot] = intent
          node.source(slot) { $0.receiveIntentWritten(at: $1, into: &$2) }
        }
      case .clearIntent: intents[slot] = nil
      case .commit: change { try? $0.finishing(slot, attempt: id.attempt) }
      case .finish:
        world.tell("slot \(slot): node \(index) is done with it")
        intents[slot] = nil
        marks[slot] = nil
        targets[slot] = nil
        mapOnDisk = map
        world.moves += 1
        inEngine(slot) { engine, slot, now in _ = engine.releaseSlot(slot, at: now) }
      case .unseal:
        inEngine(slot) { engine, slot, _ in engine.unsealSlot(slot) }
        release(slot)
      // By the map it is the new owner's already.
      case .forwardHeld: release(slot)
      case .cancelled: break
      case .wake(let at):
        after(max(0, at.nanoseconds - nanoseconds)) { node in
          guard node.sources[slot]?.id == id else { return }
          node.source(slot) { $0.receiveTick(at: $1, into: &$2) }
        }
      }
    }
  }

  /// Sealed once all that was taken is written; if something has come into the slot meanwhile, it stays.
  private func seal(_ id: SlotMoveID) {
    guard sources[id.slot]?.id == id, sources[id.slot]?.phase == .sealing else { return }
    guard engineSlots().allSatisfy({ $0.map != id.slot || isQuiet($0.engine) }) else {
      return after(5_000_000) { $0.seal(id) }
    }
    guard isEmpty(id.slot) else { return callOff(id) }
    source(id.slot) { $0.receiveSealed(at: 0, now: $1, into: &$2) }
  }

  private func carry(_ made: [SlotTargetEffect], _ id: SlotMoveID) {
    let slot = id.slot
    for effect in made {
      switch effect {
      case .send(let message):
        world.send(from: index, to: ClusterNode.index(id.source)) { node in
          guard node.sources[slot]?.id == id else { return }
          node.source(slot) { $0.receive(message, at: $1, into: &$2) }
        }
      case .writeComplete(let at, let seal):
        after(2_000_000) { node in
          guard node.targets[slot]?.id == id else { return }
          node.marks[slot] = (id, seal, at)
          node.target(slot) { $0.receiveCompleteWritten(seal: seal, at: $1, into: &$2) }
        }
      case .open(let epoch, let at):
        world.tell("slot \(slot): node \(index) opens it, epoch \(epoch)")
        mapOnDisk = map
        // It may have been opened before this process began, and have grown.
        let heads = disk.slotHeads
        inEngine(slot) { engine, slot, now in
          let next = max(at + 1, heads.first { $0.slot == slot }?.next ?? 1)
          engine.adoptSlot(slot, next: next, epoch: epoch, at: now)
        }
      case .discard: marks[slot] = nil
      case .stranded: break
      case .wake(let at):
        after(max(0, at.nanoseconds - nanoseconds)) { node in
          guard node.targets[slot]?.id == id else { return }
          node.target(slot) { $0.receiveTick(at: $1, into: &$2) }
        }
      }
    }
  }
}
