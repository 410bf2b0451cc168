import Base
import Loop
import Ring
import Store

// Which slots leave when. A slot takes its time for words between nodes and for syncs of disks, so many can leave at once;
// one with much in it takes disk and wire as well, so few of those do. What is in use goes before what is empty, and
// not in one crowd with it: publishes wait for the slots that leave together. Each target has its places; and one to which
// nothing went for a while, as it does not answer or cannot write, keeps no slot from going elsewhere.

/// Slots that the map has leave this node and that wait for a place.
struct SlotsWaiting {
  /// How much is in a slot.
  enum Size: CaseIterable { case empty, small, large }

  /// Of each size, how many slots have a place, or may have one.
  struct Places: Equatable {
    var empty = 0
    var small = 0
    var large = 0
    subscript(size: Size) -> Int {
      get {
        switch size {
        case .empty: empty
        case .small: small
        case .large: large
        }
      }
      set {
        switch size {
        case .empty: empty = newValue
        case .small: small = newValue
        case .large: large = newValue
        }
      }
    }
    static let most = Places(
      empty: Limits.moveEmptySlotsAtOnce, small: Limits.moveSmallSlotsAtOnce,
      large: Limits.moveSlotsAtOnce)
  }

  /// What was found in each slot of the map's moves: for that try.
  struct Look {
    var attempt: UInt64
    var size: Size
  }
  /// For each target, by size; the least number last.
  private var lists: [NodeID: [Size: [UInt16]]] = [:]
  var looks: [UInt16: Look] = [:]
  /// Nobody has looked into them yet.
  var unseen: [UInt16] = []
  var isLooking = false
  /// Slots with a place that are not sources yet, and where they go.
  var beginning: [UInt16: NodeID] = [:]
  /// When something went to a target last, or began to when nothing was on its way there.
  private var progress: [NodeID: Instant] = [:]

  var count: Int {
    lists.values.reduce(unseen.count) { $0 + $1.values.reduce(0) { $0 + $1.count } }
  }
  var targets: [NodeID] { lists.keys.sorted() }

  func size(_ slot: UInt16) -> Size { looks[slot]?.size ?? .large }

  mutating func removeAll() {
    lists = [:]
    unseen = []
  }

  mutating func add(_ slot: UInt16, to target: NodeID) {
    lists[target, default: [:]][size(slot), default: []].append(slot)
  }

  /// The slot that leaves next for a target. `taken`: the places that others have now.
  mutating func next(to target: NodeID, taken: [NodeID: Places], at now: Instant) -> UInt16? {
    for size in [Size.small, .large, .empty] {
      let left = Places.most[size] - (taken[target]?[size] ?? 0)
      guard left > 0, size != .empty || !isSmallUnderWay(taken, at: now),
        let slot = lists[target]?[size]?.popLast()
      else { continue }
      if progress[target] == nil { noteProgress(to: target, at: now) }
      return slot
    }
    return nil
  }

  /// A slot is a target's now, or need not go there any more.
  mutating func noteProgress(to target: NodeID, at now: Instant) { progress[target] = now }

  /// Nothing is on its way to any other target.
  mutating func keepProgress(to targets: Set<NodeID>) {
    progress = progress.filter { targets.contains($0.key) }
  }

  /// Whether slots with little in them go, or are about to. Those of a target to which none went for a while do not count.
  private func isSmallUnderWay(_ taken: [NodeID: Places], at now: Instant) -> Bool {
    Set(taken.keys).union(lists.keys).contains { target in
      let isAny = taken[target]?.small ?? 0 > 0 || lists[target]?[.small]?.isEmpty == false
      guard isAny, let last = progress[target] else { return isAny }
      return now - last < .seconds(Limits.moveStuckSeconds)
    }
  }
}

extension SlotMoves {
  /// What the map asks for that is not under way.
  private func wanted(_ slot: UInt16) -> SlotMoveID? {
    guard sources[slot] == nil, targets[slot] == nil, !isChanging.contains(slot),
      let id = SlotMoveID(map, slot: slot), id.source == own
    else { return nil }
    return id
  }

  /// A new map: who waits is found anew.
  func lookForSources() {
    waiting.removeAll()
    var looks: [UInt16: SlotsWaiting.Look] = [:]
    for slot in map.movingSlots.reversed() {
      let look = waiting.looks[slot]
      let isSeen = look != nil && look?.attempt == map.move(of: slot)?.attempt
      if isSeen { looks[slot] = look }
      guard let id = wanted(slot) else { continue }
      if isSeen { waiting.add(slot, to: id.target) } else { waiting.unseen.append(slot) }
    }
    waiting.looks = looks
    beginSources()
    lookIntoSlots()
  }

  /// Finds out how much is in the slots that wait, some at a time.
  private func lookIntoSlots() {
    guard !waiting.isLooking, !waiting.unseen.isEmpty, !isOver else { return }
    waiting.isLooking = true
    let some = waiting.unseen.suffix(Limits.moveLookSlots)
    let slots = some.map { (slot: $0, attempt: map.move(of: $0)?.attempt ?? 0) }
    node.store.read { [self] store in
      let found = slots.map { one in
        let bytes = (try? SlotRows.bytes(one.slot, in: store)) ?? .max
        let size: SlotsWaiting.Size =
          bytes == 0 ? .empty : bytes <= Limits.moveSmallBytes ? .small : .large
        return SlotsWaiting.Look(attempt: one.attempt, size: size)
      }
      self.loop.post {
        self.waiting.isLooking = false
        for (one, look) in zip(slots, found) where self.map.move(of: one.slot) != nil {
          self.waiting.looks[one.slot] = look
        }
        self.lookForSources()
      }
    }
  }

  /// Nothing of the slot is under way any more: it may be that the map has it leave again.
  func freed(_ slot: UInt16) {
    if let id = wanted(slot) {
      if waiting.looks[slot]?.attempt == id.attempt {
        waiting.add(slot, to: id.target)
      } else {
        waiting.unseen.append(slot)
        lookIntoSlots()
      }
    }
    beginSources()
  }

  /// As many slots leave at once as are allowed.
  func beginSources() {
    if isOver { return }
    waiting.keepProgress(
      to: Set(sources.values.map(\.id.target)).union(waiting.beginning.values))
    // Those that nobody has looked into may be in use: empty ones wait for them.
    if waiting.unseen.isEmpty {
      var taken = placesTaken()
      for target in waiting.targets {
        while let slot = waiting.next(to: target, taken: taken, at: now) {
          guard let id = wanted(slot) else { continue }
          taken[id.target, default: SlotsWaiting.Places()][waiting.size(slot)] += 1
          waiting.beginning[slot] = id.target
          beginSource(id)
        }
      }
    }
    refreshFacts()
  }

  private func placesTaken() -> [NodeID: SlotsWaiting.Places] {
    var taken: [NodeID: SlotsWaiting.Places] = [:]
    var resting: [NodeID: Int] = [:]
    for (slot, target) in waiting.beginning {
      taken[target, default: SlotsWaiting.Places()][waiting.size(slot)] += 1
    }
    for (slot, leaving) in sources where leaving.isCopying {
      let target = leaving.id.target
      // It needs nothing but time.
      if leaving.machine.isResting(at: now), resting[target, default: 0] < Limits.movePlacesGiven {
        resting[target, default: 0] += 1
      } else {
        taken[target, default: SlotsWaiting.Places()][waiting.size(slot)] += 1
      }
    }
    return taken
  }
}
