internal import Base

/// Messages and bytes per tenant and day, as this writer has sealed them: the totals of usage rows.
struct UsageTable {
  struct Key: Hashable {
    var tenant: TenantID
    var day: UInt32
  }
  struct Total {
    var messages: UInt64 = 0
    var bytes: UInt64 = 0
    var touched = false
  }
  private var totals: [Key: Total] = [:]
  /// Whose row goes into the next write set, in the order in which they were counted.
  private(set) var touched: [Key] = []

  mutating func add(_ key: Key, messages: UInt64, bytes: UInt64) {
    var total = totals.removeValue(forKey: key) ?? Total()
    total.messages += messages
    total.bytes += bytes
    if !total.touched {
      total.touched = true
      touched.append(key)
    }
    totals[key] = total
  }

  /// Takes back what a failed write counted; the row is written again.
  mutating func subtract(_ key: Key, messages: UInt64, bytes: UInt64) {
    guard totals[key] != nil else { return }
    add(key, messages: 0, bytes: 0)
    totals[key]!.messages -= messages
    totals[key]!.bytes -= bytes
  }

  /// Puts the touched rows and begins anew.
  mutating func put(into set: inout WriteSet, writer: UInt64, _ scratch: NodeEngine.Scratch) {
    for key in touched {
      guard let total = totals[key] else { continue }
      totals[key]!.touched = false
      // As `UsageRow.key` and `UsageRow.value` make them.
      scratch.put(.tokens, into: &set) { k, v in
        k.append(UsageRow.kind)
        k.append(bigEndian: key.tenant.value)
        k.append(bigEndian: key.day)
        k.append(bigEndian: writer)
        v.append(bigEndian: total.messages)
        v.append(bigEndian: total.bytes)
        v.append(bigEndian: UInt64(0))
      }
    }
    touched.removeAll(keepingCapacity: true)
  }

  /// Of a usage row's key.
  static func key(of bytes: UnsafeRawBufferPointer) -> Key? {
    guard bytes.count == 21, unsafe bytes[0] == UsageRow.kind else { return nil }
    return unsafe Key(
      tenant: TenantID(UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt64.self))),
      day: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 9, as: UInt32.self)))
  }

  /// Has a row written again that a failed write held.
  mutating func touch(_ key: Key) { add(key, messages: 0, bytes: 0) }

  subscript(_ key: Key) -> (messages: UInt64, bytes: UInt64) {
    let total = totals[key] ?? Total()
    return (total.messages, total.bytes)
  }

  /// Forgets days before `day` whose rows are written.
  mutating func forget(before day: UInt32) {
    totals = totals.filter { $0.key.day >= day || $0.value.touched }
  }
}
