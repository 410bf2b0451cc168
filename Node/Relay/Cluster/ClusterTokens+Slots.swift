import Base
import Loop
import Ring
import Store
import Token

/// Requests about tenants of a slot that is about to leave, in order.
struct HeldTokens {
  /// Tells one holding from the next of the same slot.
  var serial: UInt64
  var waiting: [Waiting] = []
  /// It took too long: nothing more waits.
  var hasGivenUp = false

  struct Waiting {
    let refuse: (Fault) -> Void
    let work: () -> Void
  }
}

// A slot's accounts go with it. While it is handed over, what asks for them waits; then it is decided here, or asked of
// the new owner. On loop 0.
extension ClusterTokens {
  /// Whether requests about the tenant wait; then this one does. Too many: it is refused.
  func hold(
    _ tenant: TenantID, _ refuse: @escaping (Fault) -> Void, _ work: @escaping () -> Void
  ) -> Bool {
    guard !held.isEmpty, let slot = held[tenant.slot] else { return false }
    if slot.hasGivenUp || slot.waiting.count >= Limits.moveHeldMessages {
      refuse(Self.moves)
    } else {
      held[tenant.slot]?.waiting.append(HeldTokens.Waiting(refuse: refuse, work: work))
    }
    return true
  }

  private static let moves = Fault(.unavailable, "the tenant moves to another node")

  /// From now on requests wait; `done` when nothing of the slot's accounts is being written, not at all when they are
  /// released before.
  func holdAccounts(_ slot: UInt16, serial: UInt64, _ done: @escaping @Sendable () -> Void) {
    held[slot] = HeldTokens(serial: serial, waiting: held[slot]?.waiting ?? [])
    waitForQuiet(slot, serial, done)
    loop.schedule(after: .seconds(Int64(Limits.publishHoldSeconds))) { [weak self] in
      guard let self, let was = held[slot], was.serial == serial else { return }
      held[slot] = HeldTokens(serial: serial, hasGivenUp: true)
      for one in was.waiting { one.refuse(Self.moves) }
    }
  }

  private func waitForQuiet(
    _ slot: UInt16, _ serial: UInt64, _ done: @escaping @Sendable () -> Void
  ) {
    guard held[slot]?.serial == serial else { return }
    if !authority.isChanging(slot), !isCountingUsage { return done() }
    loop.schedule(after: .milliseconds(1)) { [weak self] in
      self?.waitForQuiet(slot, serial, done)
    }
  }

  /// The slot stays, or has gone: what waited is asked again.
  func releaseAccounts(_ slot: UInt16) {
    for one in held.removeValue(forKey: slot)?.waiting ?? [] { one.work() }
  }

  /// The accounts are another node's, and `over` says whose.
  func partAccounts(_ slot: UInt16, _ over: SlotOverride, areAny: Bool) {
    node.links?.set(over, of: slot)
    if areAny { authority.receiveDeparted([slot]) }
    releaseAccounts(slot)
  }

  /// Rows of an unfinished copy were read at the start: nobody is to see them.
  func dropAccounts(_ slot: UInt16) { authority.receiveDeparted([slot]) }

  /// The slot came, with these rows.
  func takeAccounts(_ slot: UInt16, _ rows: [Row]) {
    if rows.isEmpty { return }
    authority.receiveDeparted([slot])
    authority.receiveArrived(rows)
  }
}
