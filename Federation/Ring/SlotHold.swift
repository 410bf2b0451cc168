public import Base

/// What is asked of a slot while it is sealed, in order: once it is served again it goes into the slot, once it has gone
/// it is asked of the new owner, each time before anything new. One for each who holds: a loop, links, the token API.
///
/// Bounded in number and bytes, and by its host in time: that calls `expire` when `Limits.publishHoldSeconds` are over.
public struct SlotHold<Item> {
  /// Tells one holding of a slot from the next.
  public let serial: UInt64
  public private(set) var items: [Item]
  /// It took too long: nothing more is held.
  public private(set) var hasGivenUp = false
  private var bytes: Int
  private let mostItems: Int
  private let mostBytes: Int

  /// `after`: a holding of the same slot that has not ended; what that holds goes on waiting, with this one's time.
  public init(
    serial: UInt64, after old: SlotHold? = nil, mostItems: Int = Limits.moveHeldMessages,
    mostBytes: Int = Limits.moveHeldBytes
  ) {
    self.serial = serial
    items = old?.items ?? []
    bytes = old?.bytes ?? 0
    self.mostItems = mostItems
    self.mostBytes = mostBytes
  }

  /// False: there is too much of it, or it has taken too long. Then the item is refused.
  public mutating func hold(_ item: Item, bytes size: Int) -> Bool {
    if hasGivenUp || items.count >= mostItems || bytes + size > mostBytes { return false }
    items.append(item)
    bytes += size
    return true
  }

  /// The time of the holding of this serial is over: what must be refused now. Nothing, when that holding is none any more.
  public mutating func expire(_ serial: UInt64) -> [Item] {
    guard serial == self.serial else { return [] }
    hasGivenUp = true
    return take()
  }

  /// All of it, in order.
  public mutating func take() -> [Item] {
    defer { (items, bytes) = ([], 0) }
    return items
  }
}

extension SlotHold: Sendable where Item: Sendable {}
