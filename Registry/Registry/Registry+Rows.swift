public import Base
internal import Digest

// What the store keeps. Rows of table `registry`: `p` and a peer_id, a record; `o` and a relay id, what is
// known of an origin; `m`, when this relay last lived.
extension Registry {
  static func sealed(_ bytes: [UInt8]) -> [UInt8] { bytes + bigEndianBytes(crc32c(bytes)) }

  /// nil: damaged.
  static func unsealed(_ bytes: [UInt8]) -> [UInt8]? {
    guard bytes.count >= 4 else { return nil }
    let body = Array(bytes.dropLast(4))
    return bigEndianBytes(crc32c(body)) == Array(bytes.suffix(4)) ? body : nil
  }

  static func row(of origin: Origin) -> [UInt8] {
    sealed(
      [1] + bigEndianBytes(origin.incarnation) + bigEndianBytes(origin.sequence)
        + bigEndianBytes(origin.horizon) + bigEndianBytes(origin.floor)
        + bigEndianBytes(origin.beat) + [origin.purgedAt == nil ? 0 : 1])
  }

  /// One row of the store, in any order: but rows of origins and `m` come before those of agents, as the
  /// store gives them. A damaged row is counted and left out.
  public mutating func load(key: [UInt8], value: [UInt8], at now: Now) {
    precondition(isLoading, "rows are loaded once")
    let isGood =
      switch key.first {
      case UInt8(ascii: "m"): loadAlive(value)
      case UInt8(ascii: "o"):
        loadOrigin(String(decoding: key.dropFirst(), as: UTF8.self), value, now)
      case UInt8(ascii: "p"): loadRecord(key, value, now)
      default: false
      }
    if !isGood { counts.damagedRows += 1 }
  }

  private mutating func loadAlive(_ value: [UInt8]) -> Bool {
    guard let body = Registry.unsealed(value), body.count == 8 else { return false }
    lastAlive = Instant(nanoseconds: Int64(bigEndianBytes: body))
    return true
  }

  private mutating func loadOrigin(_ id: String, _ value: [UInt8], _ now: Now) -> Bool {
    guard let body = Registry.unsealed(value), body.count == 42, body[0] == 1 else { return false }
    let words = (0..<5).map { UInt64(bigEndianBytes: body[1 + 8 * $0..<9 + 8 * $0]) }
    // Of one of which nothing is known: as if it had not been heard of.
    if id != settings.relayID, words[1...3].allSatisfy({ $0 == 0 }), body[41] == 0 {
      writes.delete(.registry, key: Registry.key(ofOrigin: id))
      return true
    }
    guard let number = originNumber(id, at: now) else { return false }
    origins[Int(number)].incarnation = words[0]
    origins[Int(number)].sequence = words[1]
    origins[Int(number)].horizon = words[2]
    origins[Int(number)].floor = words[3]
    origins[Int(number)].beat = max(words[4], number == 0 ? origins[0].beat : 0)
    if body[41] == 1 { origins[Int(number)].purgedAt = words[4] }
    // Heard of until the timeout says otherwise: the node was away, not they.
    return true
  }

  private mutating func loadRecord(_ key: [UInt8], _ value: [UInt8], _ now: Now) -> Bool {
    guard let record = try? Record(row: value), Registry.key(of: record.peerID) == key,
      let home = originNumber(record.stamp.origin, at: now),
      let source = try? sourceNumber(record.source), find(record.peerID) == nil
    else { return false }
    // Of another life of its origin: written just before that ended.
    if record.stamp.incarnation != origins[Int(home)].incarnation {
      if home > 0, origins[Int(home)].incarnation == 0 {
        // Its row told nothing but this, and was left out.
        origins[Int(home)].incarnation = record.stamp.incarnation
        dirtyOrigins.insert(home)
      } else if home > 0 || origins[0].log.count > 0 {
        return false
      } else {
        // The row of this relay itself was lost.
        origins[0].incarnation = record.stamp.incarnation
      }
    }
    let number = put(record, over: nil, home: home, source: source, at: now)
    if home == 0 {
      origins[0].sequence = max(origins[0].sequence, record.stamp.sequence)
      if !record.isTombstone { entries[number].flags.insert(.unconfirmed) }
    }
    return true
  }

  /// The registry serves from here on. Own agents get a lifetime to speak up again, unless this relay
  /// was away for so long that others may have forgotten what became of them.
  public mutating func finishLoading(at now: Now) {
    isLoading = false
    dirtyOrigins.insert(0)
    if let lastAlive,
      now.wall - lastAlive > Interval(nanoseconds: settings.tombstoneLife.nanoseconds / 2)
    {
      while alive.first != Entry.none { bury(alive.first, at: now) }
    }
    lastAlive = nil
  }
}
