import Base
import Loop
import Ring
import Store

// Which slots leave when. A slot takes its time for words between nodes and for syncs of disks, so many leave at once; one
// with much in it takes disk and wire as well, so few of those do. Each target has its places: one that does not answer
// keeps no slot from going elsewhere.

/// Slots that the map has leave this node and that wait for a place.
struct SlotsWaiting {
  struct Lists {
    /// The least number last.
    var small: [UInt16] = []
    var large: [UInt16] = []
  }
  /// What was found in each slot of the map's moves: for that try.
  struct Look {
    var attempt: UInt64
    var isSmall: Bool
  }
  var lists: [NodeID: Lists] = [:]
  var looks: [UInt16: Look] = [:]
  /// Nobody has looked into them yet.
  var unseen: [UInt16] = []
  var isLooking = false
  /// Slots with a place that are not sources yet, and where they go.
  var beginning: [UInt16: NodeID] = [:]

  var count: Int {
    lists.values.reduce(unseen.count) { $0 + $1.small.count + $1.large.count }
  }

  func isSmall(_ slot: UInt16) -> Bool { looks[slot]?.isSmall ?? false }

  mutating func add(_ id: SlotMoveID) {
    if isSmall(id.slot) {
      lists[id.target, default: Lists()].small.append(id.slot)
    } else {
      lists[id.target, default: Lists()].large.append(id.slot)
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
    waiting.lists = [:]
    waiting.unseen = []
    var looks: [UInt16: SlotsWaiting.Look] = [:]
    for slot in map.movingSlots.reversed() {
      let look = waiting.looks[slot]
      let isSeen = look != nil && look?.attempt == map.move(of: slot)?.attempt
      if isSeen { looks[slot] = look }
      guard let id = wanted(slot) else { continue }
      if isSeen { waiting.add(id) } else { waiting.unseen.append(slot) }
    }
    waiting.looks = looks
    beginSources()
    lookIntoSlots()
  }

  /// Finds out how much is in the slots that wait, some at a time.
  private func lookIntoSlots() {
    guard !waiting.isLooking, !waiting.unseen.isEmpty, !isOver else { return }
    waiting.isLooking = true
    let some = waiting.unseen.suffix(Limits.moveSmallSlotsAtOnce)
    let slots = some.map { (slot: $0, attempt: map.move(of: $0)?.attempt ?? 0) }
    node.store.read { [self] store in
      let found = slots.map { one in
        let bytes = (try? SlotRows.bytes(one.slot, in: store)) ?? .max
        return SlotsWaiting.Look(attempt: one.attempt, isSmall: bytes <= Limits.moveSmallBytes)
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
        waiting.add(id)
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
    for target in waiting.lists.keys.sorted() {
      var (small, large) = places(target)
      while small > 0, let slot = waiting.lists[target]?.small.popLast() {
        if begin(slot) { small -= 1 }
      }
      while large > 0, let slot = waiting.lists[target]?.large.popLast() {
        if begin(slot) { large -= 1 }
      }
    }
    refreshFacts()
  }

  private func begin(_ slot: UInt16) -> Bool {
    guard let id = wanted(slot) else { return false }
    waiting.beginning[slot] = id.target
    beginSource(id)
    return true
  }

  /// How many more slots, with little in them and with much, may go there now.
  private func places(_ target: NodeID) -> (small: Int, large: Int) {
    var places = (small: Limits.moveSmallSlotsAtOnce, large: Limits.moveSlotsAtOnce)
    var resting = 0
    func take(_ isSmall: Bool) {
      if isSmall { places.small -= 1 } else { places.large -= 1 }
    }
    for (slot, to) in waiting.beginning where to == target { take(waiting.isSmall(slot)) }
    for (slot, leaving) in sources where leaving.id.target == target && leaving.isCopying {
      // It needs nothing but time.
      if leaving.machine.isResting(at: now), resting < Limits.movePlacesGiven {
        resting += 1
      } else {
        take(waiting.isSmall(slot))
      }
    }
    return places
  }
}
