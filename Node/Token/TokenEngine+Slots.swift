public import Base

// A tenant's accounts live on the node that owns its slot, and move with it.

extension TokenEngine {
  /// What the other nodes must know of the tenants here, `slow` apart.
  public func notices(
    wall: Instant, where isAsked: (TenantID) -> Bool = { _ in true }
  ) -> [Notice] {
    var out: [Notice] = []
    for (tenant, account) in accounts.byID where isAsked(tenant) {
      let record = account.record
      if record.state != .active || record.generation > 1 {
        out.append(.tenant(tenant, record.state, created: record.created))
      }
      for key in account.keys.values where !key.isActive(wall) {
        out.append(.keyEnded(tenant, key.id))
      }
      for state in account.channels.values {
        for grant in state.grants.values {
          out.append(.granted(state.record.id, grant.tenant, org: grant.org))
        }
      }
    }
    return out
  }

  /// Rows of tenants whose slots came here and who are not known, in any order: what table `tokens` has of them.
  public mutating func receiveRows(_ rows: [Row], at now: Now) {
    damagedRows += accounts.load(rows, writer: settings.writer, at: now)
  }

  /// Forgets tenants whose slots went elsewhere. Their rows are the host's to delete.
  public mutating func forget(where isGone: (TenantID) -> Bool) {
    for tenant in accounts.byID.keys.filter(isGone) { accounts.forget(tenant) }
  }

  /// A change of one of these tenants is being written or waits: its slot cannot be handed over yet.
  public func isChanging(where isAsked: (TenantID) -> Bool) -> Bool {
    exclusive || !exclusiveQueue.isEmpty || busy.contains(where: isAsked)
      || queues.keys.contains(where: isAsked)
  }

  /// True when there is an account of this tenant, also of a deleted one.
  public func knows(_ tenant: TenantID) -> Bool { accounts[tenant] != nil }
}

extension TenantID {
  /// The slot in a ring of `1 << Limits.slotBits` slots.
  public var slot: UInt16 { UInt16(truncatingIfNeeded: value >> UInt64(64 - Limits.slotBits)) }
}

/// The rows of table `tokens` by slot.
public enum TokenRows {
  /// nil: not a row of a tenant.
  public static func tenant(ofKey key: [UInt8]) -> TenantID? {
    guard key.count >= 9 else { return nil }
    return TenantID(UInt64(bigEndianBytes: key[1..<9]))
  }

  /// Keys of everything that tenants of a slot have, usage too: from the first on, before the second; in the order of keys.
  public static func ranges(_ slot: UInt16) -> [(from: [UInt8], to: [UInt8])] {
    let shift = UInt64(64 - Limits.slotBits)
    let first = UInt64(slot) << shift
    let (next, isLast) = (first &+ (1 << shift), slot == UInt16((1 << Limits.slotBits) - 1))
    let kinds = (RowKind.ofTenant + [RowKind.tenant, UsageRow.kind]).sorted()
    return kinds.map { kind in
      (
        from: [kind] + bigEndianBytes(first),
        to: isLast ? [kind + 1] : [kind] + bigEndianBytes(next)
      )
    }
  }
}
