public import Base

/// The source's side of a slot's move. Make one when the map asks for a move of a slot owned here, and one for every
/// intent found at start. While it has not ended, no `SlotTarget` of the same slot may be made: its rows are the source's.
public struct SlotSource: Sendable {
  public enum Phase: Hashable, Sendable {
    /// The target has not answered. Serves.
    case offering
    /// Serves.
    case copying
    /// The metadata store is asked whether it answers: only then is it worth sealing. Serves.
    case asking
    /// The host seals.
    case sealing
    /// Sealed; the rest goes over.
    case completing
    /// The intent is being written.
    case intending
    /// The map is asked to hand over. Only a map ends this.
    case committing
    /// The map names the target; the archive is kept until that serves.
    case handed
    case ended
  }

  public let id: SlotMoveID
  public private(set) var phase: Phase = .offering
  /// Last index of the slot's log.
  public private(set) var head: UInt64
  /// What the target has, and what the host was asked to send.
  public private(set) var copied: UInt64 = 0
  private var sent: UInt64 = 0
  /// Bytes of the records that the target lacked when the host looked last; it has more of them since, if anything.
  private var behind: UInt64
  /// Since then all that there was when the host looked last was on its way.
  private var caughtUpAt: Instant?
  private var sealedAt: UInt64 = 0
  private var seal: SlotSeal
  private var retryAt: Instant
  private var sealAfter: Instant
  /// Seals that failed.
  private var failures: Int64 = 0
  private var handedRevision: UInt64 = 0

  private typealias Effects = [SlotSourceEffect]

  /// `head`: the last index of the slot's log; `behind`: bytes of its records, `.max`: many. `run`: a number that no
  /// earlier run of this node had, like a random one made at start. `intent`: what was found at start; then the slot stays
  /// sealed until a map tells how the try ended.
  public init(
    _ id: SlotMoveID, head: UInt64, behind: UInt64 = 0, run: UInt64,
    resuming intent: SlotIntent? = nil, at now: Instant, into effects: inout [SlotSourceEffect]
  ) {
    self.id = id
    self.head = head
    self.behind = behind
    seal = SlotSeal(run: run, count: 0)
    retryAt = now
    sealAfter = now
    guard let intent else {
      offer(at: now, &effects)
      return
    }
    precondition(intent.move == id, "an intent of \(intent.move) for \(id)")
    phase = .committing
    (sealedAt, seal) = (intent.sealedAt, intent.seal)
    copied = sealedAt
    sent = sealedAt
    commit(at: now, &effects)
  }

  /// Whether publishes go into the slot here.
  public var serves: Bool { phase == .offering || phase == .copying || phase == .asking }

  /// Whether it waits after a seal that failed: it needs hardly anything of the node meanwhile.
  public func isResting(at now: Instant) -> Bool { serves && now < sealAfter }

  // MARK: inputs

  /// The host looked at the slot's log: its last index, and the bytes of the records behind `copied`, `.max` for many.
  public mutating func receiveHead(
    _ head: UInt64, behind: UInt64, at now: Instant, into effects: inout [SlotSourceEffect]
  ) {
    self.head = max(self.head, head)
    self.behind = behind
    pump(at: now, &effects)
  }

  public mutating func receive(
    _ message: SlotMoveMessage, at now: Instant, into effects: inout [SlotSourceEffect]
  ) {
    switch message {
    case .ready(let have): receiveReady(have, at: now, &effects)
    case .copied(let upTo):
      guard upTo > copied, upTo <= sent else { return }
      copied = upTo
      if phase == .copying { wake(at: now, &effects) }
      pump(at: now, &effects)
    case .complete(let which):
      guard phase == .completing, which == seal else { return }
      phase = .intending
      effects.append(.writeIntent(SlotIntent(move: id, sealedAt: sealedAt, seal: seal)))
    case .opened:
      guard phase == .handed else { return }
      end(&effects, .finish)
    case .offer, .sealed, .handed, .stop: return
    }
  }

  /// The host has sealed: nothing comes after `index`.
  public mutating func receiveSealed(
    at index: UInt64, now: Instant, into effects: inout [SlotSourceEffect]
  ) {
    guard phase == .sealing else { return }
    phase = .completing
    head = max(head, index)
    sealedAt = index
    pump(at: now, &effects)
    effects.append(.copyState(at: sealedAt, seal: seal))
    effects.append(.send(.sealed(at: sealedAt, seal: seal)))
  }

  /// The intent is on disk.
  public mutating func receiveIntentWritten(
    at now: Instant, into effects: inout [SlotSourceEffect]
  ) {
    guard phase == .intending else { return }
    phase = .committing
    commit(at: now, &effects)
  }

  /// The intent is surely not on disk, and never will be.
  public mutating func receiveIntentFailed(
    at now: Instant, into effects: inout [SlotSourceEffect]
  ) {
    if phase == .intending { unseal(at: now, &effects) }
  }

  /// A map was seen. `fresh`: it answers a `readMap` or a `commit`.
  public mutating func receiveMap(
    _ slot: RingSlot, revision: UInt64, fresh: Bool, at now: Instant,
    into effects: inout [SlotSourceEffect]
  ) {
    // An older map than the try knows nothing of it.
    guard phase != .ended, revision >= id.attempt else { return }
    if slot.owner == id.target, slot.epoch == id.epoch + 1 {
      hand(revision, at: now, &effects)
    } else if slot.epoch > id.epoch, slot.owner == id.source {
      // The target was declared gone, and the slot given back: what is here is all there is of it.
      giveUp(&effects)
    } else if slot.epoch > id.epoch {
      // Given to another without us, or handed on by the target already.
      effects.append(.forwardHeld)
      end(&effects, .finish)
    } else if slot.move?.attempt != id.attempt || slot.move?.target.owner != id.target {
      giveUp(&effects)
    } else if fresh, phase == .asking {
      phase = .sealing
      seal.count += 1
      // What took longer than allowed would do so for ever.
      let doublings = min(failures, Limits.moveSealDoublings)
      retryAt = now + .milliseconds(Limits.moveSealMilliseconds << doublings)
      effects.append(.seal)
      effects.append(.wake(retryAt))
    }
  }

  public mutating func receiveTick(at now: Instant, into effects: inout [SlotSourceEffect]) {
    guard now >= retryAt else { return }
    switch phase {
    // Nothing was heard for a while: say again where the target should go on.
    case .offering, .copying: offer(at: now, &effects)
    case .asking:
      phase = .copying
      wake(at: now, &effects)
      pump(at: now, &effects)
    case .sealing, .completing: unseal(at: now, &effects)
    case .intending: break
    case .committing: commit(at: now, &effects)
    case .handed:
      effects.append(.send(.handed(revision: handedRevision)))
      wake(at: now, &effects)
    case .ended: break
    }
  }

  // MARK: inside

  private mutating func receiveReady(_ have: UInt64, at now: Instant, _ effects: inout Effects) {
    switch phase {
    case .offering, .copying, .asking:
      // What the target lost, it gets again; it cannot have more than there is.
      guard have <= head else { return }
      copied = have
      sent = have
      phase = .copying
      wake(at: now, &effects)
      pump(at: now, &effects)
    case .handed:
      // It crashed before it had all, and the map was faster: everything is still here.
      guard have <= sealedAt else { return }
      copied = have
      sent = have
      if have < sealedAt { effects.append(.copy(from: have + 1, through: sealedAt)) }
      sent = sealedAt
      effects.append(.copyState(at: sealedAt, seal: seal))
      effects.append(.send(.sealed(at: sealedAt, seal: seal)))
    case .sealing, .completing, .intending, .committing, .ended: return
    }
  }

  private mutating func offer(at now: Instant, _ effects: inout Effects) {
    phase = .offering
    effects.append(.send(.offer(head: head)))
    wake(at: now, &effects)
  }

  private mutating func commit(at now: Instant, _ effects: inout Effects) {
    effects.append(.commit)
    wake(at: now, &effects)
  }

  private mutating func wake(at now: Instant, _ effects: inout Effects) {
    retryAt = now + .milliseconds(Limits.moveRetryMilliseconds)
    effects.append(.wake(retryAt))
  }

  /// Sends what may be under way, and seals when the target is close behind.
  private mutating func pump(at now: Instant, _ effects: inout Effects) {
    guard phase == .copying || phase == .asking || phase == .completing else { return }
    let last = phase == .completing ? sealedAt : head
    let window = Limits.moveChunkRecords * Limits.moveChunksInFlight
    // The last records are few: they need no window.
    while sent < last, phase == .completing || sent - copied < window {
      let through = min(last, sent + Limits.moveChunkRecords)
      effects.append(.copy(from: sent + 1, through: through))
      sent = through
    }
    if sent == last, caughtUpAt == nil { caughtUpAt = now }
    guard phase == .copying, now >= sealAfter, isClose(at: now) else { return }
    phase = .asking
    effects.append(.readMap)
    wake(at: now, &effects)
  }

  /// Whether what lacks would go over in a moment.
  private func isClose(at now: Instant) -> Bool {
    if copied == head { return true }
    guard let caughtUpAt else { return false }
    let waited = (now - caughtUpAt).nanoseconds / (Limits.moveLagSeconds * 1_000_000_000)
    let doublings = min(waited, Limits.moveLagDoublings)
    return head - copied <= Limits.moveSealLag << doublings
      && behind <= Limits.moveSealBytes << doublings
  }

  /// Before the intent is written nobody can hand the slot over: it is simply served again.
  private mutating func unseal(at now: Instant, _ effects: inout Effects) {
    failures = min(failures + 1, 6)
    sealAfter = now + .milliseconds(Limits.moveRetryMilliseconds << failures)
    effects.append(.unseal)
    offer(at: now, &effects)
  }

  private mutating func giveUp(_ effects: inout Effects) {
    if phase == .intending || phase == .committing { effects.append(.clearIntent) }
    if !serves { effects.append(.unseal) }
    effects.append(.send(.stop))
    end(&effects, .cancelled)
  }

  private mutating func hand(_ revision: UInt64, at now: Instant, _ effects: inout Effects) {
    if phase == .handed { return }
    phase = .handed
    handedRevision = revision
    effects.append(.send(.handed(revision: revision)))
    effects.append(.forwardHeld)
    wake(at: now, &effects)
  }

  private mutating func end(_ effects: inout Effects, _ last: SlotSourceEffect) {
    phase = .ended
    effects.append(last)
  }
}
