import Base
import Loop
import Ring
import Store
import Token

/// A request about a tenant of a slot.
struct TokenAsk {
  let refuse: (Fault) -> Void
  let work: () -> Void
}

/// Requests about tenants of a slot that is about to leave.
typealias HeldTokens = SlotHold<TokenAsk>

// A slot's accounts go with it. While it is handed over, what asks for them waits; then it is decided here, or asked of
// the new owner. On loop 0.
extension ClusterTokens {
  /// Whether requests about the tenant wait; then this one does. Too many: it is refused.
  func hold(
    _ tenant: TenantID, _ refuse: @escaping (Fault) -> Void, _ work: @escaping () -> Void
  ) -> Bool {
    if held.isEmpty { return false }
    let ask = TokenAsk(refuse: refuse, work: work)
    guard let isHeld = held[tenant.slot]?.hold(ask, bytes: 0) else { return false }
    if !isHeld { refuse(Self.moves) }
    return true
  }

  private static let moves = Fault(.unavailable, "the tenant moves to another node")

  /// From now on requests wait; `done` when nothing of the slot's accounts is being written, not at all when they are
  /// released before.
  func holdAccounts(_ slot: UInt16, serial: UInt64, _ done: @escaping @Sendable () -> Void) {
    held[slot] = HeldTokens(serial: serial, after: held[slot])
    waitForQuiet(slot, serial, done)
    loop.schedule(after: .seconds(Int64(Limits.publishHoldSeconds))) { [weak self] in
      guard let self, let late = held[slot]?.expire(serial) else { return }
      for one in late { one.refuse(Self.moves) }
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
    for one in held.removeValue(forKey: slot)?.items ?? [] { one.work() }
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
