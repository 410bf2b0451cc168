public import Base

/// The target's side of a slot's move. Make one when the map asks for a move to this node, when a source offers one
/// that the map asks for, and for every copy found at start.
public struct SlotTarget: Sendable {
  public enum Phase: Hashable, Sendable {
    case receiving
    /// The mark that all is here is being written.
    case completing
    /// All is here, as of a seal. The source may still go on serving.
    case complete
    /// The map says it is ours, and all is not here.
    case stranded
    case opened
    case ended
  }

  public let id: SlotMoveID
  public private(set) var phase: Phase = .receiving
  /// Records up to this index are on disk.
  public private(set) var have: UInt64
  /// Seal and index of the mark on disk.
  private var mark: (seal: SlotSeal, at: UInt64)?
  private var wanted: (seal: SlotSeal, at: UInt64)?
  private var stateSeal: SlotSeal?
  private var isOurs = false
  private var retryAt: Instant

  private typealias Effects = [SlotTargetEffect]

  /// `have`: what an earlier run copied of this very try, 0 for none; `complete`: the mark it wrote.
  public init(
    _ id: SlotMoveID, have: UInt64 = 0, complete: (seal: SlotSeal, at: UInt64)? = nil,
    at now: Instant, into effects: inout [SlotTargetEffect]
  ) {
    self.id = id
    self.have = have
    mark = complete
    retryAt = now
    if complete != nil { phase = .complete }
    ask(at: now, &effects)
  }

  /// Whether records `from ... through` go on where the copy ends: write them with the id of the try, then
  /// `receiveWritten`. Others are dropped: they are doubled, or come again.
  public func accepts(from: UInt64, through: UInt64) -> Bool {
    (phase == .receiving || phase == .complete || phase == .stranded) && from <= have + 1
      && through > have
  }

  // MARK: inputs

  /// Records up to here are on disk.
  public mutating func receiveWritten(
    upTo index: UInt64, at now: Instant, into effects: inout [SlotTargetEffect]
  ) {
    guard phase != .opened, phase != .ended, index > have else { return }
    have = index
    retryAt = now + .milliseconds(Limits.moveRetryMilliseconds)
    effects.append(.send(.copied(upTo: have)))
    completeIfAll(&effects)
  }

  /// The rows beside the log, as of this seal, are on disk.
  public mutating func receiveStateWritten(
    seal: SlotSeal, at now: Instant, into effects: inout [SlotTargetEffect]
  ) {
    guard phase != .opened, phase != .ended else { return }
    stateSeal = seal
    completeIfAll(&effects)
  }

  public mutating func receiveCompleteWritten(
    seal: SlotSeal, at now: Instant, into effects: inout [SlotTargetEffect]
  ) {
    guard phase == .completing, let wanted, wanted.seal == seal else { return }
    mark = wanted
    phase = .complete
    effects.append(.send(.complete(seal: seal)))
    openIfOurs(&effects)
  }

  public mutating func receive(
    _ message: SlotMoveMessage, at now: Instant, into effects: inout [SlotTargetEffect]
  ) {
    switch message {
    case .offer:
      if phase == .receiving || phase == .complete { ask(at: now, &effects) }
    case .sealed(let at, let seal): receiveSealed(at, seal, &effects)
    case .handed:
      // The map itself decides; this only tells whoever waits that there is a newer one.
      if phase == .opened { effects.append(.send(.opened)) }
    case .stop:
      // The map itself decides here, too.
      return
    case .ready, .copied, .complete, .opened: return
    }
  }

  /// A map was seen.
  public mutating func receiveMap(
    _ slot: RingSlot, revision: UInt64, at now: Instant, into effects: inout [SlotTargetEffect]
  ) {
    guard phase != .ended, revision >= id.attempt else { return }
    if slot.owner == id.target, slot.epoch == id.epoch + 1 {
      isOurs = true
      openIfOurs(&effects)
      if phase == .receiving {
        phase = .stranded
        effects.append(.stranded)
        ask(at: now, &effects)
      }
    } else if phase == .opened {
      phase = .ended
    } else if slot.epoch > id.epoch || slot.move?.attempt != id.attempt {
      phase = .ended
      effects.append(.discard)
    }
  }

  public mutating func receiveTick(at now: Instant, into effects: inout [SlotTargetEffect]) {
    guard now >= retryAt else { return }
    switch phase {
    case .receiving, .stranded: ask(at: now, &effects)
    case .complete:
      if let mark { effects.append(.send(.complete(seal: mark.seal))) }
      wake(at: now, &effects)
    case .completing, .opened, .ended: break
    }
  }

  // MARK: inside

  private mutating func ask(at now: Instant, _ effects: inout Effects) {
    effects.append(.send(.ready(have: have)))
    wake(at: now, &effects)
  }

  private mutating func wake(at now: Instant, _ effects: inout Effects) {
    retryAt = now + .milliseconds(Limits.moveRetryMilliseconds)
    effects.append(.wake(retryAt))
  }

  private mutating func receiveSealed(_ at: UInt64, _ seal: SlotSeal, _ effects: inout Effects) {
    switch phase {
    case .complete where mark?.seal == seal:
      effects.append(.send(.complete(seal: seal)))
    case .receiving, .complete, .stranded:
      // Late word of an earlier seal.
      if let wanted, seal.run == wanted.seal.run, seal.count < wanted.seal.count { return }
      wanted = (seal, at)
      completeIfAll(&effects)
    case .completing, .opened, .ended: return
    }
  }

  private mutating func completeIfAll(_ effects: inout Effects) {
    guard phase == .receiving || phase == .complete || phase == .stranded, let wanted,
      wanted.seal != mark?.seal, have == wanted.at, stateSeal == wanted.seal
    else { return }
    phase = .completing
    effects.append(.writeComplete(at: wanted.at, seal: wanted.seal))
  }

  private mutating func openIfOurs(_ effects: inout Effects) {
    guard isOurs, phase == .complete, let mark else { return }
    phase = .opened
    effects.append(.open(epoch: id.epoch + 1, at: mark.at))
    effects.append(.send(.opened))
  }
}
