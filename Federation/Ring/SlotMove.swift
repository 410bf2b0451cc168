public import Base

// One slot's way from node to node. The source serves while the slot's archive streams to the target; then it seals
// (holds what comes), the rest goes over, and the source alone asks for the compare-and-swap that makes the target
// owner, after it has written down that it does. So who owns a slot is known on its own disk:
//
// - the source serves unless it has sealed; what it wrote down (the intent) keeps it sealed over a crash until a map
//   newer than the try says how it ended;
// - the target opens when a map says that it owns the slot and it has written down that it has everything;
// - nobody else can move the slot: no node ever asks the map for more than to hand over its own slot.

/// Which try at which move.
public struct SlotMoveID: Hashable, Sendable {
  public var slot: UInt16
  /// `RingMove.attempt`.
  public var attempt: UInt64
  /// The source's ownership epoch; the target's will be one more.
  public var epoch: UInt64
  public var source: NodeID
  public var target: NodeID

  public init(slot: UInt16, attempt: UInt64, epoch: UInt64, source: NodeID, target: NodeID) {
    self.slot = slot
    self.attempt = attempt
    self.epoch = epoch
    self.source = source
    self.target = target
  }

  /// The move that a map asks for, or nil.
  public init?(_ map: RingMap, slot: UInt16) {
    guard let move = map.move(of: slot) else { return nil }
    self.init(
      slot: slot, attempt: move.attempt, epoch: map.epoch(of: slot), source: map.owner(of: slot),
      target: move.target.owner)
  }
}

/// What source and target say to each other, always together with the `SlotMoveID`. Any may be lost, late or doubled.
/// An index is a slot's log index; "up to" includes it, 0 is nothing.
public enum SlotMoveMessage: Hashable, Sendable {
  /// Source: here is a slot for you; it holds records up to `head`.
  case offer(head: UInt64)
  /// Target: go on after `have`.
  case ready(have: UInt64)
  /// Target: records up to here are on its disk.
  case copied(upTo: UInt64)
  /// Source: nothing comes after `at`; what lacks, and the rows beside the log, are on their way.
  case sealed(at: UInt64, seal: SlotSeal)
  /// Target: everything of that seal is on its disk, and it knows.
  case complete(seal: SlotSeal)
  /// Source: the map names you.
  case handed(revision: UInt64)
  /// Target: it serves.
  case opened
  /// Source: forget this try.
  case stop
}

/// One sealing of a slot. No two are alike, also not of a source that crashed and began the same try again: what is
/// complete as of one says nothing about another.
public struct SlotSeal: Hashable, Sendable {
  /// The source's run: what `SlotSource` was given.
  public var run: UInt64
  public var count: UInt32
  public init(run: UInt64, count: UInt32) {
    self.run = run
    self.count = count
  }
}

/// What the source writes down before it asks the map to hand over; removed by `finish` or `clearIntent`.
public struct SlotIntent: Hashable, Sendable {
  public var move: SlotMoveID
  public var sealedAt: UInt64
  public var seal: SlotSeal
  public init(move: SlotMoveID, sealedAt: UInt64, seal: SlotSeal) {
    self.move = move
    self.sealedAt = sealedAt
    self.seal = seal
  }
}

/// What a source asks of its host, in order.
public enum SlotSourceEffect: Hashable, Sendable {
  case send(SlotMoveMessage)
  /// Send the records `from` ... `through` of the slot's log to the target, in order.
  case copy(from: UInt64, through: UInt64)
  /// Send the rows beside the log (heads, names, commits, producers, accounts), after the records up to `at`, marked
  /// with `seal`.
  case copyState(at: UInt64, seal: SlotSeal)
  /// Read the map from the metadata store itself; then `receiveMap` with `fresh`. No answer: nothing.
  case readMap
  /// Take no more into the slot, but hold what comes (`SlotHold`), and let what is being written end; then
  /// `receiveSealed`. A source that was given an intent begins sealed.
  case seal
  /// Serve again: what is held goes into the slot in its order, before anything new.
  case unseal
  /// Write the intent and sync it; then `receiveIntentWritten`.
  case writeIntent(SlotIntent)
  case clearIntent
  /// Ask for `RingMap.finishing(slot, attempt)` by compare-and-swap; what the map is then comes by `receiveMap`.
  case commit
  /// Ask what is held of the new owner in its order, before anything new.
  case forwardHeld
  /// The target serves: delete the slot's rows and the intent, and keep the map that says whose the slot is, in one
  /// write: without the intent only that map tells a restarted node. The machine is done.
  case finish
  /// The try was given up: the machine is done, the slot stays here.
  case cancelled
  /// Call `receiveTick` at this time at the latest. A host that calls it all the time, as long as there are moves, need not
  /// count the time.
  case wake(Instant)
}

/// What a target asks of its host, in order.
public enum SlotTargetEffect: Hashable, Sendable {
  case send(SlotMoveMessage)
  /// Write down, synced, that the copy is complete as of this seal; then `receiveCompleteWritten(seal)`.
  case writeComplete(at: UInt64, seal: SlotSeal)
  /// Serve the slot with this ownership epoch; the log goes on after `at`.
  case open(epoch: UInt64, at: UInt64)
  /// Delete what was copied, and the mark. The machine is done.
  case discard
  /// The map says it is ours, and the copy is not complete: nothing is served until the source sent the rest.
  case stranded
  case wake(Instant)
}
