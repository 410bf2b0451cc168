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
      let slot = UInt16(slot)
      guard let row = try lastRow(.slots, atOrBefore: SlotRow.key(slot, .max), prefix: 2) else {
        continue
      }
      guard row.key.count == 10 else {
        throw Fault(.damaged, "a slot row of \(row.key.count) bytes")
      }
      let index = unsafe row.key.withUnsafeBytes {
        unsafe UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt64.self))
      }
      heads.append((slot, index + 1))
    }
    return heads
  }
}

/// The smallest key after every key with this prefix.
func keyAfter(prefix: [UInt8]) -> [UInt8] {
  var end = prefix
  while let last = end.popLast() {
    if last < 0xff {
      end.append(last + 1)
      return end
    }
  }
  return [UInt8](repeating: 0xff, count: prefix.count + 1)
}
