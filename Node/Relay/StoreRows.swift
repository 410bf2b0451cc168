import Base
import Engine
import Store

/// What engines ask of the store, in rows.
extension Store {
  /// The rows that `Effect.load` wants.
  func stateRows(of channel: ChannelID) throws(Fault) -> [Row] {
    var rows: [Row] = []
    for kind in StateKind.loaded {
      rows += try self.rows(.state, prefix: StateKind.prefix(kind, channel))
    }
    return rows
  }

  /// The next log index of every slot that has one.
  func slotHeads() throws(Fault) -> [(slot: UInt16, next: UInt64)] {
    var heads: [(slot: UInt16, next: UInt64)] = []
    for slot in 0..<(1 << Limits.slotBits) {
      let head = try slotHead(UInt16(slot))
      if head > 0 { heads.append((UInt16(slot), head + 1)) }
    }
    return heads
  }
}
