internal import Base

/// Entries by key, and the numbers of the store: the part that is on disk.
struct MetadataState {
  /// By key, ascending.
  private(set) var entries: [MetadataEntry] = []
  /// Rises with each transaction that writes. A new store is at 1, as etcd is.
  var revision: UInt64 = 1
  /// Seconds of each lease.
  var leases: [UInt64: Int] = [:]
  var lastLease: UInt64 = 0

  func index(_ key: [UInt8]) -> (at: Int, found: Bool) {
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].key.lexicographicallyPrecedes(key) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return (low, low < entries.count && entries[low].key == key)
  }

  subscript(key: [UInt8]) -> MetadataEntry? {
    let place = index(key)
    return place.found ? entries[place.at] : nil
  }

  /// The entries of a range, as many as `limit` (0: all) and the bytes of one answer allow.
  func get(_ range: MetadataRange, limit: Int) -> (entries: [MetadataEntry], more: Bool) {
    var out: [MetadataEntry] = []
    var bytes = 0
    for i in index(range.from).at..<entries.count {
      let entry = entries[i]
      if !range.contains(entry.key) { break }
      bytes += entry.key.count + entry.value.count
      if limit > 0 && out.count == limit || bytes > Limits.metadataAnswerBytes && !out.isEmpty {
        return (out, true)
      }
      out.append(entry)
    }
    return (out, false)
  }

  func keys(in range: MetadataRange) -> [[UInt8]] {
    var out: [[UInt8]] = []
    for i in index(range.from).at..<entries.count {
      if !range.contains(entries[i].key) { break }
      out.append(entries[i].key)
    }
    return out
  }

  mutating func put(_ entry: MetadataEntry) {
    let place = index(entry.key)
    if place.found { entries[place.at] = entry } else { entries.insert(entry, at: place.at) }
  }

  @discardableResult
  mutating func delete(_ key: [UInt8]) -> Bool {
    let place = index(key)
    if place.found { entries.remove(at: place.at) }
    return place.found
  }

  func holds(_ compare: MetadataCompare) -> Bool {
    let entry = self[compare.key]
    switch compare.target {
    case .created(let wanted): return relate(entry?.created ?? 0, compare.relation, wanted)
    case .modified(let wanted): return relate(entry?.modified ?? 0, compare.relation, wanted)
    case .version(let wanted): return relate(entry?.version ?? 0, compare.relation, wanted)
    case .value(let wanted):
      // As in etcd: no comparison of the value of a missing key holds.
      guard let value = entry?.value else { return false }
      switch compare.relation {
      case .equal: return value == wanted
      case .notEqual: return value != wanted
      case .less: return value.lexicographicallyPrecedes(wanted)
      case .greater: return wanted.lexicographicallyPrecedes(value)
      }
    }
  }

  private func relate(
    _ has: UInt64, _ relation: MetadataCompare.Relation, _ wanted: UInt64
  ) -> Bool {
    switch relation {
    case .equal: has == wanted
    case .notEqual: has != wanted
    case .less: has < wanted
    case .greater: has > wanted
    }
  }
}
