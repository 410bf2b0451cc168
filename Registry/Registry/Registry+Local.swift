public import Base

// Agents whose home is this relay.
extension Registry {
  /// Replaces everything known of an agent by what it says now. `proved`: with a signature under its key.
  /// Returns until when (wall clock) it is kept.
  public mutating func receiveRegister(
    _ registration: Registration, proved: Bool = false, at now: Now
  ) throws(Fault) -> Instant {
    try registration.check()
    let existing = find(registration.peerID)
    try guardProof(existing, registration.peerID, proved)
    let isLocal = existing.map { isOwnLive($0) } ?? false
    if !isLocal, localCount >= settings.capacity {
      throw Fault(.registryFull)
    }
    counts.registered += 1
    let body = registration.encoded()
    if let existing, isLocal, entries[existing].body == body, entries[existing].source == 0,
      entries[existing].flags.contains(.proved) == proved
    {
      refresh(existing, at: now)
    } else {
      issue(body, nextStamp(over: existing, at: now), over: existing, isProved: proved, at: now)
    }
    return now.wall + settings.ttl
  }

  /// Keeps a local agent for another lifetime. Unknown, expired or homed elsewhere: `not_found`.
  public mutating func receiveHeartbeat(
    _ peerID: String, proved: Bool = false, at now: Now
  ) throws(Fault) -> Instant {
    if peerID.isEmpty { throw Fault(.badRequest, "peer_id is required") }
    guard let number = find(peerID), isOwnLive(number), !isExpired(number, now),
      entries[number].source == 0
    else {
      let shown = peerID.utf8.count > Limits.registryPeerIDBytes ? "" : " " + peerID
      throw Fault(.notFound, "peer\(shown) not found in registry")
    }
    try guardProof(number, peerID, proved)
    counts.refreshed += 1
    refresh(number, at: now)
    return now.wall + settings.ttl
  }

  /// Takes skills away, all of them when none is named. What is not there is no error.
  public mutating func receiveUnregister(
    _ peerID: String, skills: [String], proved: Bool = false, at now: Now
  ) throws(Fault) {
    if peerID.isEmpty { throw Fault(.badRequest, "peer_id is required") }
    guard let number = find(peerID), !entries[number].isTombstone else { return }
    try guardProof(number, peerID, proved)
    var registration = try record(number).registration()
    let named = Set(skills.map { Array($0.utf8) })
    let before = registration.skills.count
    if skills.isEmpty {
      registration.skills = []
    } else {
      registration.skills.removeAll { named.contains(Array($0.id.utf8)) }
    }
    if registration.skills.count == before { return }
    counts.unregistered += 1
    if registration.skills.isEmpty {
      bury(number, at: now)
    } else {
      let (time, before) = (entries[number].time, entries[number].previous)
      let wasLocal = isOwnLive(number)
      issue(
        registration.encoded(), nextStamp(over: number, at: now), over: number,
        isProved: entries[number].flags.contains(.proved), source: entries[number].source, at: now)
      // Taking a skill away is no sign of life.
      if wasLocal {
        alive.remove(number, &entries)
        entries[number].time = time
        alive.insert(number, after: before, &entries)
      }
    }
  }

  /// An entry that an upstream relay shows: kept for another lifetime. What no other Posthouse relay
  /// has adopted already becomes this relay's to announce, and to end.
  public mutating func receiveAdopted(
    _ registration: Registration, source: String, version: UInt64, registeredAt: Int64,
    at now: Now
  ) throws(Fault) {
    try registration.check()
    guard version > 0, version <= Record.lastCounter(wall: now.wall) else {
      throw Fault(.badRequest, "the version of a record is out of range")
    }
    let existing = find(registration.peerID)
    let body = registration.encoded()
    if let existing {
      let e = entries[existing]
      if isOwnLive(existing), e.source > 0, sources[Int(e.source)] == source {
        if e.body == body {
          refresh(existing, at: now)
          return
        }
      } else {
        let isVisible = !e.isTombstone && (e.home == 0 || !origins[Int(e.home)].isHidden)
        // What its home issued is as new, or is the end of an entry that was not adopted.
        if e.version >= version, isVisible || e.isTombstone && e.source == 0 { return }
        if e.flags.contains(.proved), isVisible { return }
      }
    }
    let isLocal = existing.map { isOwnLive($0) } ?? false
    if !isLocal, localCount >= settings.capacity { throw Fault(.registryFull) }
    counts.merged += 1
    // Its relay's own version, so that all who adopt it agree.
    let known = existing.map { entries[$0].version } ?? 0
    let stamp = nextStamp(version: max(known + 1, version), at: now)
    issue(
      body, stamp, over: existing, isProved: false, source: try sourceNumber(source),
      registeredAt: registeredAt, at: now)
  }

  /// Ends what was adopted from `source` and is not among `shown`, which were all it has.
  public mutating func receiveAdoptedAll(_ shown: Set<String>, source: String, at now: Now) {
    guard let wanted = sourceNumbers[source], wanted > 0 else { return }
    var number = alive.first
    while number != Entry.none {
      let next = entries[number].next
      if entries[number].source == wanted, !shown.contains(record(number).peerID) {
        bury(number, at: now)
      }
      number = next
    }
  }

  // MARK: time

  /// Once a second: ends agents whose lifetime is over, forgets old tombstones, hides silent origins.
  public mutating func receiveTick(at now: Now) {
    expire(at: now)
    var left = Limits.registryTickEntries
    while left > 0, graves.first != Entry.none {
      let number = graves.first
      let age = now.monotonic.nanoseconds &- entries[number].time
      guard age >= settings.tombstoneLife.nanoseconds || graves.count > settings.tombstoneCapacity
      else { break }
      let home = entries[number].home
      origins[Int(home)].floor = max(origins[Int(home)].floor, entries[number].sequence)
      dirtyOrigins.insert(home)
      drop(number)
      left -= 1
    }
    for i in origins.indices.dropFirst() {
      origins[i].isHidden = now.monotonic - origins[i].heardAt > settings.originTimeout
    }
    forgetStrangers()
    evictionsLeft = Limits.registryEvictions
    if let last = lastAlive, now.wall - last < .seconds(Int64(Limits.registryAliveSeconds)),
      now.wall >= last
    {
      return
    }
    lastAlive = now.wall
    writes.put(
      .registry, key: Registry.aliveKey,
      value: Registry.sealed(bigEndianBytes(now.wall.nanoseconds)))
  }

  private mutating func expire(at now: Now) {
    var left = Limits.registryTickEntries
    while left > 0, alive.first != Entry.none, isExpired(alive.first, now) {
      counts.expired += 1
      bury(alive.first, at: now)
      left -= 1
    }
  }

  // MARK: issuing

  func isOwnLive(_ number: UInt32) -> Bool {
    entries[number].home == 0 && !entries[number].isTombstone
  }

  func isExpired(_ number: UInt32, _ now: Now) -> Bool {
    now.monotonic.nanoseconds &- entries[number].time >= settings.ttl.nanoseconds
  }

  private func guardProof(_ existing: UInt32?, _ peerID: String, _ proved: Bool) throws(Fault) {
    if !proved, let existing, entries[existing].flags.contains(.proved) {
      throw Fault(.forbidden, "peer \(peerID) has proved its key: sign the call")
    }
  }

  private mutating func refresh(_ number: UInt32, at now: Now) {
    alive.remove(number, &entries)
    entries[number].time = now.monotonic.nanoseconds
    entries[number].flags.remove(.unconfirmed)
    alive.append(number, &entries)
  }

  func nextStamp(over existing: UInt32?, at now: Now) -> Stamp {
    nextStamp(
      version: Registry.counter(now, after: existing.map { entries[$0].version } ?? 0), at: now)
  }

  func nextStamp(version: UInt64, at now: Now) -> Stamp {
    Stamp(
      version: version, origin: settings.relayID, incarnation: origins[0].incarnation,
      sequence: Registry.counter(now, after: origins[0].sequence))
  }

  mutating func issue(
    _ body: Bytes, _ stamp: Stamp, over existing: UInt32?, isProved: Bool, source: UInt16 = 0,
    registeredAt: Int64? = nil, at now: Now
  ) {
    origins[0].sequence = stamp.sequence
    let record = Record(
      stamp: stamp, isProved: isProved, registeredAt: registeredAt ?? now.wall.nanoseconds,
      source: sources[Int(source)], body: body)
    _ = put(record, over: existing, home: 0, source: source, at: now)
  }

  /// A tombstone of this relay over an entry of any home.
  mutating func bury(_ number: UInt32, at now: Now) {
    let old = record(number)
    let stamp = nextStamp(over: number, at: now)
    origins[0].sequence = stamp.sequence
    let tombstone = Record.tombstone(
      old.peerID, stamp, registeredAt: now.wall.nanoseconds, isProved: old.isProved,
      source: old.source)
    _ = put(tombstone, over: number, home: 0, source: entries[number].source, at: now)
  }

  mutating func sourceNumber(_ id: String) throws(Fault) -> UInt16 {
    if let known = sourceNumbers[id] { return known }
    if id.utf8.count > Limits.relayIDBytes || sources.count >= Limits.registryOrigins {
      throw Fault(.tooLarge, "more than \(Limits.registryOrigins) sources, or a name too long")
    }
    let number = UInt16(sources.count)
    sources.append(id)
    sourceNumbers[id] = number
    return number
  }
}
