public import Base

// Records of other relays.
extension Registry {
  public enum MergeOutcome: Equatable, Sendable {
    /// It is what is known now.
    case applied
    /// Something at least as new was there.
    case known
    case refused(String)
  }

  /// Merges one record from a peer that is not stale (see `isStale`).
  public mutating func receive(_ record: Record, at now: Now) -> MergeOutcome {
    do {
      try record.check(wall: now.wall)
    } catch {
      counts.refused += 1
      return .refused(error.description)
    }
    guard let home = originNumber(record.stamp.origin, at: now) else {
      counts.refused += 1
      counts.originless += 1
      return .refused("more than \(settings.originCapacity) origins")
    }
    if home == 0 { return receiveOwn(record, at: now) }
    let origin = origins[Int(home)]
    if let purgedAt = origin.purgedAt, origin.beat <= purgedAt {
      return .refused("the origin was purged and has not been heard of since")
    }
    if record.stamp.incarnation < origin.incarnation {
      return .refused("the record is of an earlier life of its origin")
    }
    if record.stamp.incarnation > origin.incarnation {
      raise(home, to: record.stamp.incarnation)
    }
    let existing = find(record.peerID)
    if let existing, !wins(record, over: existing) {
      counts.known += 1
      return .known
    }
    let adds = existing.map { entries[$0].isTombstone || entries[$0].home == 0 } ?? true
    if !record.isTombstone, adds, foreignLive >= settings.foreignCapacity {
      counts.refused += 1
      return .refused("no room for more agents of other relays")
    }
    let source: UInt16
    do { source = try sourceNumber(record.source) } catch {
      counts.refused += 1
      return .refused(error.description)
    }
    _ = put(record, over: existing, home: home, source: source, at: now)
    counts.merged += 1
    if record.isTombstone, settings.faults.contains(.tombstoneDropped) {
      if let gone = find(record.peerID) { drop(gone) }
    }
    return .applied
  }

  private func wins(_ record: Record, over existing: UInt32) -> Bool {
    if !settings.faults.isEmpty {
      return record.wins(over: self.record(existing), settings.faults)
    }
    let e = entries[existing]
    if record.stamp.version != e.version { return record.stamp.version > e.version }
    if record.isTombstone != e.isTombstone { return record.isTombstone }
    return record.wins(over: self.record(existing))
  }

  /// A record under this relay's own name. What is not known here any more is ended, by the one relay
  /// that may: its home.
  private mutating func receiveOwn(_ record: Record, at now: Now) -> MergeOutcome {
    let existing = find(record.peerID)
    if let existing, !wins(record, over: existing) {
      counts.known += 1
      return .known
    }
    if record.isTombstone && existing == nil { return .known }
    counts.disowned += 1
    let stamp = nextStamp(
      version: Registry.counter(
        now, after: max(record.stamp.version, existing.map { entries[$0].version } ?? 0)), at: now)
    if let existing, isOwnLive(existing) {
      // It lives here: said again, above what somebody claims.
      let time = entries[existing].time
      let before = entries[existing].previous
      issue(
        entries[existing].body, stamp, over: existing,
        isProved: entries[existing].flags.contains(.proved), source: entries[existing].source,
        registeredAt: entries[existing].registeredAt, at: now)
      alive.remove(existing, &entries)
      entries[existing].time = time
      alive.insert(existing, after: before, &entries)
      return .applied
    }
    origins[0].sequence = stamp.sequence
    let tombstone = Record.tombstone(
      record.peerID, stamp, registeredAt: now.wall.nanoseconds, isProved: record.isProved)
    _ = put(tombstone, over: existing, home: 0, source: 0, at: now)
    return .applied
  }

  // MARK: origins

  /// A new life of an origin: nothing of the old one counts.
  private mutating func raise(_ home: UInt32, to incarnation: UInt64) {
    dropAll(of: home)
    origins[Int(home)].incarnation = incarnation
    origins[Int(home)].sequence = 0
    origins[Int(home)].horizon = 0
    origins[Int(home)].floor = 0
    origins[Int(home)].purgedAt = nil
    dirtyOrigins.insert(home)
  }

  func isCurrent(_ element: ChangeLog.Element, _ home: UInt32) -> Bool {
    entries[element.entry].home == home && entries[element.entry].sequence == element.sequence
      && entries[element.entry].flags.contains(.used)
  }

  mutating func dropAll(of home: UInt32) {
    let elements = origins[Int(home)].log.elements
    for element in elements where isCurrent(element, home) { drop(element.entry) }
    origins[Int(home)].log.removeAll()
  }

  /// Forgets all agents of an origin, or ends those adopted from a source of that name. An origin is
  /// taken up again once it is heard of again. Returns how many there were; `not_found`: none of that name.
  public mutating func purge(_ name: String, at now: Now) throws(Fault) -> Int {
    if name == settings.relayID {
      throw Fault(.badRequest, "\(name) is this relay: its agents unregister, or expire")
    }
    guard originNumbers[name] != nil || sourceNumbers[name] != nil, !name.isEmpty else {
      throw Fault(.notFound, "no agent came from a relay \(name)")
    }
    var count = 0
    if let home = originNumbers[name] {
      count += origins[Int(home)].live
      dropAll(of: home)
      origins[Int(home)].purgedAt = origins[Int(home)].beat
      dirtyOrigins.insert(home)
    }
    let before = localCount
    receiveAdoptedAll([], source: name, at: now)
    return count + before - localCount
  }

  // MARK: vectors

  /// This relay's version vector. Raises its own heartbeat: call it once for an exchange.
  public mutating func nextVector(at now: Now) -> [VectorElement] {
    origins[0].beat = Registry.counter(now, after: origins[0].beat)
    return vector
  }

  public var vector: [VectorElement] { origins.map(\.element) }

  /// Takes in which origins have been heard of, and new lives of them. One that is not known here takes a place only
  /// when it is among `named`, those whose records come along, or when deletes of it have been forgotten.
  /// - Returns: what may be believed of it: without absurd counters, and origins for which there is no room.
  @discardableResult public mutating func receiveVector(
    _ vector: [VectorElement], naming named: Set<String> = [], at now: Now
  ) -> [VectorElement] {
    let last = Record.lastCounter(wall: now.wall)
    var believed: [VectorElement] = []
    believed.reserveCapacity(vector.count)
    var roomForFloors: Int?
    for element in vector {
      guard element.beat <= last, element.sequence <= last, element.incarnation <= last,
        element.floor <= last, element.horizon <= last
      else {
        counts.refused += 1
        continue
      }
      var known = originNumbers[element.origin]
      let isFloored = known == nil && !named.contains(element.origin)
      if isFloored, element.floor == 0 {
        // Nothing is held of it, and nothing has to be known.
        believed.append(element)
        continue
      }
      if isFloored {
        let room = roomForFloors ?? self.roomForFloors
        known = room > 0 ? flooredNumber(element.origin, at: now) : nil
        roomForFloors = known == nil ? room : room - 1
      } else if known == nil {
        known = originNumber(element.origin, at: now)
      }
      guard let number = known else {
        counts.refused += 1
        continue
      }
      believed.append(element)
      if number == 0 {
        // Its clock was set back since it was last heard: peers would not hear it again before it has caught up.
        origins[0].beat = max(origins[0].beat, element.beat)
        if element.incarnation > origins[0].incarnation
          || element.incarnation == origins[0].incarnation && element.sequence > origins[0].sequence
        {
          beginAnew(after: element.incarnation, at: now)
        }
        continue
      }
      if element.incarnation > origins[Int(number)].incarnation {
        raise(number, to: element.incarnation)
      }
      let at = Int(number)
      if isFloored {
        origins[at].floor = element.floor
        dirtyOrigins.insert(number)
      }
      if element.incarnation == origins[at].incarnation, element.beat > origins[at].beat {
        origins[at].beat = element.beat
        origins[at].heardAt = now.monotonic
        origins[at].isHidden = false
        if let purgedAt = origins[at].purgedAt, element.beat > purgedAt {
          origins[at].purgedAt = nil
          // Its records are wanted again; deletes up to here stay known.
          origins[at].horizon = origins[at].level
          origins[at].sequence = 0
        }
      }
    }
    return believed
  }

  /// Peers know more of this relay than it does: its data is older than what it said. A new life, in
  /// which everything it has is said again.
  private mutating func beginAnew(after incarnation: UInt64, at now: Now) {
    origins[0].incarnation = Registry.counter(now, after: incarnation)
    dirtyOrigins.insert(0)
    var live: [UInt32] = []
    var number = alive.first
    while number != Entry.none {
      live.append(number)
      number = entries[number].next
    }
    let elements = origins[0].log.elements
    for element in elements where isCurrent(element, 0) && entries[element.entry].isTombstone {
      live.append(element.entry)
    }
    for number in live {
      let time = entries[number].time
      var record = record(number)
      record.stamp = nextStamp(over: number, at: now)
      origins[0].sequence = record.stamp.sequence
      let source = entries[number].source
      _ = put(record, over: number, home: 0, source: source, at: now)
      entries[number].time = time
    }
  }

  /// Whether a relay with this vector may still hold what was deleted and forgotten here: nothing is
  /// taken from it until it has pulled anew.
  public func isStale(_ theirs: [VectorElement]) -> Bool {
    var known: [String: VectorElement] = [:]
    for element in theirs { known[element.origin] = element }
    let skipsEmpty = roomForFloors == 0
    return origins.contains { origin in
      if origin.floor == 0 || skipsEmpty && origin.isEmpty { return false }
      guard let element = known[origin.id], element.incarnation == origin.incarnation else {
        return known[origin.id].map { $0.incarnation < origin.incarnation } ?? true
      }
      return element.level < origin.floor
    }
  }

  /// The same of this relay, seen from one with this vector.
  public func isStaleBeside(_ theirs: [VectorElement]) -> Bool {
    let skipsEmpty = roomForFloors == 0
    return theirs.contains { element in
      if element.floor == 0 { return false }
      guard let number = originNumbers[element.origin] else { return true }
      let origin = origins[Int(number)]
      if number == 0 || skipsEmpty && origin.isEmpty { return false }
      return element.incarnation > origin.incarnation
        || element.incarnation == origin.incarnation && origin.level < element.floor
    }
  }

  /// Drops every live record of other relays and every own one that no agent has confirmed since the
  /// start: this relay was away for longer than tombstones are kept. All is pulled anew, from relays that
  /// know at least as much of deletes. What is known of deletes stays.
  public mutating func rebuild(beside theirs: [VectorElement], at now: Now) {
    counts.rebuilt += 1
    var number = alive.first
    while number != Entry.none {
      let next = entries[number].next
      if entries[number].flags.contains(.unconfirmed) { bury(number, at: now) }
      number = next
    }
    for element in theirs {
      guard let number = originNumbers[element.origin], number > 0 else { continue }
      if element.incarnation > origins[Int(number)].incarnation {
        raise(number, to: element.incarnation)
      }
      guard element.incarnation == origins[Int(number)].incarnation else { continue }
      origins[Int(number)].horizon = max(
        origins[Int(number)].horizon, element.level, element.floor)
      origins[Int(number)].floor = max(origins[Int(number)].floor, element.floor)
    }
    for home in origins.indices.dropFirst() {
      let elements = origins[home].log.elements
      for element in elements where isCurrent(element, UInt32(home)) {
        if !entries[element.entry].isTombstone { drop(element.entry) }
      }
      // Nothing is held that could have been deleted: what is taken from now on decides (see `take`).
      origins[home].horizon = max(origins[home].level, origins[home].floor)
      origins[home].sequence = 0
      dirtyOrigins.insert(UInt32(home))
    }
  }
}
