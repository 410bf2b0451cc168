import Base
import Loop
import Ring
import Store
import Token

/// Requests about tenants of a slot that is about to leave, in order.
struct HeldTokens {
  /// Tells one holding from the next of the same slot.
  var serial: UInt64
  var waiting: [() -> Void] = []
}

// A slot's accounts go with it. While it is handed over, what asks for them waits; then it is decided here, or asked of
// the new owner. On loop 0.
extension ClusterTokens {
  /// Whether requests about the tenant wait; then this one does. Too many: it is refused.
  func hold(
    _ tenant: TenantID, _ refuse: (Fault) -> Void, _ work: @escaping () -> Void
  ) -> Bool {
    guard !held.isEmpty, let slot = held[tenant.slot] else { return false }
    if slot.waiting.count >= Limits.moveHeldMessages {
      refuse(Fault(.unavailable, "the tenant moves to another node"))
    } else {
      held[tenant.slot]?.waiting.append(work)
    }
    return true
  }

  /// From now on requests wait; `done` when nothing of the slot's accounts is being written, not at all when they are
  /// released before.
  func holdAccounts(_ slot: UInt16, serial: UInt64, _ done: @escaping @Sendable () -> Void) {
    held[slot] = HeldTokens(serial: serial, waiting: held[slot]?.waiting ?? [])
    waitForQuiet(slot, serial, done)
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
    for work in held.removeValue(forKey: slot)?.waiting ?? [] { work() }
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
