import Base

@testable import Ring

/// Faults of a host that the invariants must notice.
enum MovePlant: CaseIterable {
  /// The intent is answered as written, and lost in a crash.
  case intentNotKept
  /// The target's mark is written before the last records are.
  case completeTooEarly
  /// A restarted source serves whatever its map says, intent or not.
  case servesSealed
  /// The metadata store compares owner and epoch only, not the try.
  case compareWithoutTry
  /// The intent is removed while the map on disk still names the source.
  case finishWithoutMap
}

/// Two nodes, a metadata store and a clock: the real machines, hosts that crash, links that lose and reorder.
struct MoveWorld {
  let a = NodeID(1)
  let b = NodeID(2)
  let plant: MovePlant?
  var random: Random
  var calm = false
  var troubles: [String] = []
  var published: [Int] = []
  var longestStall = 0

  private var now: Int64 = 0
  private var events: [(at: Int64, serial: Int, body: (inout MoveWorld) -> Void)] = []
  private var serial = 0

  // The metadata store: the truth.
  private var map: RingMap
  private var storeUp = true

  // Node a.
  private var log: [Int]
  private var aMap: RingMap
  private var aMapOnDisk: RingMap
  private var aIntent: SlotIntent?
  private var source: SlotSource?
  private var aUp = true
  private var aBoot = 0
  private var hold: SlotHold<Int>?
  private var holds: UInt64 = 0
  private var stalledSince: Int64?
  private(set) var sourceEnded = false

  // Node b.
  private var copy: [Int] = []
  private var copyOf: SlotMoveID?
  private var mark: (seal: SlotSeal, at: UInt64)?
  private var bMap: RingMap
  private var target: SlotTarget?
  private var bUp = true
  private var bBoot = 0
  private(set) var opened = false
  private var linkUp = true

  private let slot: UInt16 = 3

  init(seed: UInt64, plant: MovePlant?) {
    self.plant = plant
    random = Random(seed: seed)
    var ledger = RingLedger(current: RingMap(slotBits: 4, replicas: 1))
    do {
      try ledger.stage(RingNode(id: a, name: "a"))
      try ledger.apply(version: 0)
    } catch { fatalError("\(error)") }
    map = ledger.current
    (aMap, aMapOnDisk, bMap) = (map, map, map)
    log = Array(0..<random.within(0...6_000))
    published = log
    var nodes = map.nodes
    nodes.append(RingNode(id: b, name: "b"))
    nodes[0].state = .draining
    if let plan = try? map.plan(nodes: nodes), let next = plan.applied(to: map) { map = next }
  }

  private var time: Instant { Instant(nanoseconds: now * 1_000_000) }

  private mutating func after(_ most: Int, _ body: @escaping (inout MoveWorld) -> Void) {
    serial += 1
    events.append((now + Int64(calm ? 1 : 1 + random.below(most)), serial, body))
  }

  mutating func run(milliseconds: Int64) {
    let end = now + milliseconds
    spreadMap()
    if !calm { trouble(until: end) }
    publish(until: end)
    advance(to: end)
  }

  private mutating func advance(to end: Int64) {
    while let i = events.indices.min(by: {
      (events[$0].at, events[$0].serial) < (events[$1].at, events[$1].serial)
    }), events[i].at <= end {
      let event = events.remove(at: i)
      now = max(now, event.at)
      event.body(&self)
      check()
      if !troubles.isEmpty { return }
    }
    now = end
  }

  /// All faults end; what must come to an end does.
  mutating func settle() {
    events.removeAll { $0.at > now + 10_000 }
    after(1) { world in
      world.calm = true
      (world.storeUp, world.linkUp) = (true, true)
      if !world.aUp { world.startA() }
      if !world.bUp { world.startB() }
      world.link(true)
      world.spreadMap()
    }
    for i in 1...40 {
      serial += 1
      events.append((now + Int64(i) * 1_000, serial, { $0.spreadMap() }))
    }
    advance(to: now + 60_000)
    if !troubles.isEmpty { return }
    let owner = map.owner(of: slot)
    if owner == b, !opened { troubles.append("the map names b, which does not serve") }
    if owner == a, !aServes { troubles.append("the map names a, which does not serve") }
    if map.move(of: slot) != nil { troubles.append("the move never ended") }
    let kept = owner == b ? copy : log
    if kept != published { troubles.append("\(kept.count) of \(published.count) are there") }
  }

  // MARK: what is watched

  private var aServes: Bool {
    guard aUp else { return false }
    if plant == .servesSealed, source?.phase == .committing { return true }
    if let source { return source.serves || source.phase == .ended && aMap.owner(of: slot) == a }
    return aMap.owner(of: slot) == a
  }

  private mutating func check() {
    if aServes && opened && bUp { troubles.append("both serve at \(now)") }
    if opened, copy.count < published.count, !copy.elementsEqual(published.prefix(copy.count)) {
      troubles.append("b has another order")
    }
    if opened, published.count > copy.count {
      troubles.append("b opened with \(copy.count) of \(published.count) acknowledged")
    }
    if !aServes, aUp, !opened {
      stalledSince = stalledSince ?? now
    } else if let since = stalledSince {
      longestStall = max(longestStall, Int(now - since))
      stalledSince = nil
    }
  }

  // MARK: publishers

  private mutating func publish(until end: Int64) {
    guard now < end else { return }
    serial += 1
    events.append(
      (
        now + Int64(3 + random.below(20)), serial,
        { world in
          world.publishOne()
          world.publish(until: end)
        }
      ))
  }

  private mutating func publishOne() {
    guard aUp else { return }
    if aServes {
      append(published.count)
    } else {
      // Nobody hears of what is refused.
      _ = hold?.hold(0, bytes: 100)
    }
  }

  /// Acknowledged at once.
  private mutating func append(_ number: Int) {
    log.append(number)
    published.append(number)
    withSource { source, world, effects in
      source.receiveHead(
        UInt64(world.log.count), behind: 100 * (UInt64(world.log.count) - source.copied),
        at: world.time, into: &effects)
    }
  }

  // MARK: the machines

  private mutating func withSource(
    _ body: (inout SlotSource, inout MoveWorld, inout [SlotSourceEffect]) -> Void
  ) {
    guard aUp, var machine = source, machine.phase != .ended else { return }
    var effects: [SlotSourceEffect] = []
    body(&machine, &self, &effects)
    source = machine
    for effect in effects { carry(effect) }
  }

  private mutating func withTarget(
    _ body: (inout SlotTarget, inout MoveWorld, inout [SlotTargetEffect]) -> Void
  ) {
    guard bUp, var machine = target, machine.phase != .ended else { return }
    var effects: [SlotTargetEffect] = []
    body(&machine, &self, &effects)
    target = machine
    for effect in effects { carry(effect) }
  }

  private mutating func toB(_ body: @escaping (inout MoveWorld) -> Void) {
    if !linkUp || !calm && random.below(20) == 0 { return }
    for _ in 0..<(calm || random.below(20) > 0 ? 1 : 2) {
      after(40) { world in if world.bUp, world.linkUp { body(&world) } }
    }
  }

  private mutating func toA(_ body: @escaping (inout MoveWorld) -> Void) {
    if !linkUp || !calm && random.below(20) == 0 { return }
    for _ in 0..<(calm || random.below(20) > 0 ? 1 : 2) {
      after(40) { world in if world.aUp, world.linkUp { body(&world) } }
    }
  }

  private mutating func onA(_ most: Int, _ body: @escaping (inout MoveWorld) -> Void) {
    let boot = aBoot
    after(most) { world in if world.aUp, world.aBoot == boot { body(&world) } }
  }

  private mutating func onB(_ most: Int, _ body: @escaping (inout MoveWorld) -> Void) {
    let boot = bBoot
    after(most) { world in if world.bUp, world.bBoot == boot { body(&world) } }
  }

  private mutating func carry(_ effect: SlotSourceEffect) {
    guard let id = source?.id else { return }
    switch effect {
    case .send(let message):
      toB { world in
        guard world.target?.id == id else { return }
        world.withTarget { target, world, effects in
          target.receive(message, at: world.time, into: &effects)
        }
      }
    case .copy(let from, let through):
      if through > UInt64(log.count) { troubles.append("copy of what is not there") }
      let rows = Array(log.prefix(Int(through)).dropFirst(Int(from - 1)))
      toB { $0.receiveRows(id, from: from, rows) }
    case .copyState(_, let seal):
      toB { world in
        guard world.target?.id == id else { return }
        world.onB(10) { world in
          world.withTarget { target, world, effects in
            target.receiveStateWritten(seal: seal, at: world.time, into: &effects)
          }
        }
      }
    case .readMap: if storeUp { onA(30) { $0.aReadsMap() } }
    case .seal:
      beginHolding()
      onA(10) { world in
        world.withSource { source, world, effects in
          source.receiveSealed(at: UInt64(world.log.count), now: world.time, into: &effects)
        }
      }
    case .unseal:
      let waiting = hold?.items.count ?? 0
      hold = nil
      for _ in 0..<waiting { append(published.count) }
    case .writeIntent(let intent): write(intent)
    case .clearIntent: aIntent = nil
    case .commit: commit(id)
    case .forwardHeld: hold = nil
    case .finish:
      log = []
      aIntent = nil
      // The map that said so is kept in the same write: without the intent, it alone tells that the slot is gone.
      if plant != .finishWithoutMap { aMapOnDisk = aMap }
      sourceEnded = true
    case .cancelled: break
    case .wake(let at):
      serial += 1
      let boot = aBoot
      events.append(
        (
          max(now, at.nanoseconds / 1_000_000), serial,
          { world in
            guard world.aBoot == boot else { return }
            world.withSource { source, world, effects in
              source.receiveTick(at: world.time, into: &effects)
            }
          }
        ))
    }
  }

  private mutating func write(_ intent: SlotIntent) {
    onA(20) { world in
      if world.plant != .intentNotKept { world.aIntent = intent }
      world.withSource { source, world, effects in
        source.receiveIntentWritten(at: world.time, into: &effects)
      }
    }
  }

  /// The request may arrive much later than asked, also after a crash of who asked.
  private mutating func beginHolding() {
    (holds, serial) = (holds + 1, serial + 1)
    let holding = holds
    hold = SlotHold(serial: holding, after: hold)
    let boot = aBoot
    events.append(
      (
        now + Int64(Limits.publishHoldSeconds) * 1_000, serial,
        { world in if world.aBoot == boot { _ = world.hold?.expire(holding) } }
      ))
  }

  private mutating func commit(_ id: SlotMoveID) {
    // The worst moment for an operator to change his mind.
    if !calm, random.below(6) == 0 { after(40) { $0.meddle() } }
    after(calm ? 2 : random.below(4) == 0 ? 6_000 : 40) { world in
      guard world.storeUp else { return }
      if let next = try? world.map.finishing(id.slot, attempt: id.attempt) {
        world.map = next
      } else if world.plant == .compareWithoutTry, let move = world.map.move(of: id.slot),
        world.map.epoch(of: id.slot) == id.epoch,
        let next = try? world.map.finishing(id.slot, attempt: move.attempt)
      {
        world.map = next
      }
      world.onA(40) { $0.aReadsMap() }
      world.after(60) { $0.bReadsMap() }
    }
  }

  private mutating func carry(_ effect: SlotTargetEffect) {
    guard let id = target?.id else { return }
    switch effect {
    case .send(let message):
      toA { world in
        guard world.source?.id == id else { return }
        world.withSource { source, world, effects in
          source.receive(message, at: world.time, into: &effects)
        }
      }
    case .writeComplete(let at, let seal):
      onB(20) { world in
        world.mark = (seal, at)
        world.withTarget { target, world, effects in
          target.receiveCompleteWritten(seal: seal, at: world.time, into: &effects)
        }
      }
      if UInt64(copy.count) != at { troubles.append("complete at \(at) with \(copy.count)") }
    case .open(let epoch, let at):
      opened = true
      if UInt64(copy.count) != at { troubles.append("opened at \(at) with \(copy.count)") }
      if epoch != map.epoch(of: slot) { troubles.append("opened with epoch \(epoch)") }
    case .discard:
      copy = []
      (mark, copyOf) = (nil, nil)
    case .stranded: break
    case .wake(let at):
      serial += 1
      let boot = bBoot
      events.append(
        (
          max(now, at.nanoseconds / 1_000_000), serial,
          { world in
            guard world.bBoot == boot else { return }
            world.withTarget { target, world, effects in
              target.receiveTick(at: world.time, into: &effects)
            }
          }
        ))
    }
  }

  private mutating func receiveRows(_ id: SlotMoveID, from: UInt64, _ rows: [Int]) {
    let through = from + UInt64(rows.count) - 1
    guard let target, target.id == id, target.accepts(from: from, through: through) else { return }
    if rows.isEmpty { return }
    onB(10) { world in
      guard let target = world.target, target.id == id,
        target.accepts(from: from, through: through)
      else { return }
      // What is there already is not written twice.
      let fresh = rows.dropFirst(max(0, world.copy.count - Int(from - 1)))
      world.copy += fresh
      if world.plant == .completeTooEarly, world.random.below(4) == 0, !world.copy.isEmpty {
        world.copy.removeLast()
      }
      world.withTarget { target, world, effects in
        target.receiveWritten(upTo: through, at: world.time, into: &effects)
      }
    }
  }

  // MARK: maps

  private mutating func aReadsMap() {
    guard aUp, storeUp else { return }
    aMap = map
    if calm || random.below(3) > 0 { aMapOnDisk = map }
    let seen = map
    withSource { source, world, effects in
      source.receiveMap(
        seen[world.slot], revision: seen.revision, fresh: true, at: world.time, into: &effects)
    }
    if let id = SlotMoveID(seen, slot: slot), id.source == a,
      source == nil || source?.phase == .ended
    {
      makeSource(id)
    }
  }

  private mutating func makeSource(_ id: SlotMoveID, intent: SlotIntent? = nil) {
    var effects: [SlotSourceEffect] = []
    if intent != nil { beginHolding() }
    source = SlotSource(
      id, head: UInt64(log.count), run: UInt64(aBoot), resuming: intent, at: time, into: &effects)
    for effect in effects { carry(effect) }
  }

  private mutating func bReadsMap() {
    guard bUp, storeUp else { return }
    bMap = map
    let seen = map
    withTarget { target, world, effects in
      target.receiveMap(
        seen[world.slot], revision: seen.revision, at: world.time, into: &effects)
    }
    if let id = SlotMoveID(seen, slot: slot), id.target == b, target?.id != id { makeTarget(id) }
  }

  private mutating func makeTarget(_ id: SlotMoveID) {
    if copyOf != id {
      copy = []
      mark = nil
      copyOf = id
    }
    var effects: [SlotTargetEffect] = []
    target = SlotTarget(id, have: UInt64(copy.count), complete: mark, at: time, into: &effects)
    for effect in effects { carry(effect) }
  }

  private mutating func spreadMap() {
    after(100) { $0.aReadsMap() }
    after(100) { $0.bReadsMap() }
  }

  // MARK: faults

  private mutating func trouble(until end: Int64) {
    for _ in 0..<random.within(0...8) {
      let at = random.below(4_000)
      let lasts = 1 + random.below(3_000)
      switch random.below(6) {
      case 0:
        after(at + 1) { $0.crashA() }
        after(at + lasts) { $0.startA() }
      case 1:
        after(at + 1) { $0.crashB() }
        after(at + lasts) { $0.startB() }
      case 2:
        after(at + 1) { $0.link(false) }
        after(at + lasts) { $0.link(true) }
      case 3:
        after(at + 1) { $0.storeUp = false }
        after(at + lasts) { world in
          world.storeUp = true
          world.spreadMap()
        }
      default: after(at + 1) { $0.meddle() }
      }
    }
  }

  /// An operator cancels the move, or has it tried anew.
  private mutating func meddle() {
    guard let move = map.move(of: slot) else { return }
    let changed =
      random.below(2) == 0
      ? try? map.cancelling(slot, attempt: move.attempt)
      : try? map.retrying(slot, attempt: move.attempt)
    if let changed { map = changed }
    spreadMap()
  }

  private mutating func link(_ up: Bool) {
    linkUp = up
  }

  private mutating func crashA() {
    aUp = false
    aBoot += 1
    source = nil
    hold = nil
  }

  private mutating func startA() {
    guard !aUp else { return }
    aUp = true
    aMap = aMapOnDisk
    if let intent = aIntent {
      makeSource(intent.move, intent: intent)
    } else if let id = SlotMoveID(aMap, slot: slot), id.source == a {
      makeSource(id)
    }
    if storeUp { onA(200) { $0.aReadsMap() } }
  }

  private mutating func crashB() {
    bUp = false
    bBoot += 1
    opened = false
    target = nil
  }

  private mutating func startB() {
    guard !bUp else { return }
    bUp = true
    if let copyOf { makeTarget(copyOf) }
    if storeUp { after(200) { $0.bReadsMap() } }
  }
}
