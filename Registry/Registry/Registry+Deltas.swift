public import Base
internal import Digest

/// Records that another relay lacks, in the order of their origins' changes.
public struct Delta: Sendable {
  public var records: [Record] = []
  /// What is complete once the records are merged.
  public var coverage: [Coverage] = []
  /// There is more behind the bound.
  public var hasMore = false
  public init() {}

  /// Those whose records or changes it tells.
  var origins: Set<String> {
    var names = Set(coverage.map(\.origin))
    var last = ""
    for record in records where record.stamp.origin != last {
      last = record.stamp.origin
      names.insert(last)
    }
    return names
  }
}

// What peers tell each other: deltas by version vector, digests to find what vectors missed.
extension Registry {
  /// What a relay with this vector lacks, up to a bound; origins in the order of their numbers. `ownOnly`:
  /// this relay's records, for one that takes no others from it.
  public func delta(
    beyond theirs: [VectorElement], ownOnly: Bool = false, records: Int = Limits.gossipPageRecords,
    bytes: Int = Limits.gossipPageBytes
  ) -> Delta {
    var known: [String: VectorElement] = [:]
    for element in theirs { known[element.origin] = element }
    var delta = Delta()
    var size = 0
    for (home, origin) in origins.enumerated() where home == 0 || !ownOnly {
      let element = known[origin.id]
      if let element, element.incarnation > origin.incarnation { continue }
      let from = element?.incarnation == origin.incarnation ? element?.sequence ?? 0 : 0
      if from >= origin.sequence || origin.purgedAt != nil { continue }
      var covered = Coverage(
        origin: origin.id, incarnation: origin.incarnation, from: from, through: origin.sequence)
      for element in origin.log.elements[origin.log.index(after: from)...] {
        if !isCurrent(element, UInt32(home)) { continue }
        if element.sequence > origin.sequence { break }
        if delta.records.count >= records || size >= bytes {
          delta.hasMore = true
          covered.through =
            delta.records.last { $0.stamp.origin == origin.id }?.stamp.sequence ?? from
          break
        }
        let record = record(element.entry)
        size += record.body.count + 96
        delta.records.append(record)
      }
      if covered.through > covered.from { delta.coverage.append(covered) }
      if delta.hasMore { break }
    }
    return delta
  }

  /// Merges a page that a relay with vector `theirs` sent. A stale relay's page is refused whole; when
  /// this relay is the stale one, it first drops what it may not keep. Returns how many records were
  /// taken or known, and how many were refused.
  public mutating func receive(
    _ delta: Delta, from vector: [VectorElement], at now: Now
  ) -> (accepted: Int, refused: Int) {
    let theirs = receiveVector(vector, naming: delta.origins, at: now)
    // Both may be: each has forgotten deletes that the other never heard of.
    if isStaleBeside(theirs) { rebuild(beside: theirs, at: now) }
    if isStale(theirs) {
      counts.refused += delta.records.count
      return (0, delta.records.count)
    }
    return take(delta, from: theirs, at: now)
  }

  /// The same from a relay that speaks for `origin`, itself, and nobody else.
  public mutating func receiveOwn(
    _ delta: Delta, of origin: String, from vector: [VectorElement], at now: Now
  ) -> (accepted: Int, refused: Int) {
    let its = receiveVector(
      vector.filter { $0.origin == origin && origin != settings.relayID }, naming: delta.origins,
      at: now)
    if let element = its.first, isStaleBeside(its), let number = originNumbers[origin] {
      // Only its own records are held from it, and it knows all about them.
      dropAll(of: number)
      origins[Int(number)].sequence = 0
      origins[Int(number)].horizon = element.level
      origins[Int(number)].floor = element.floor
      dirtyOrigins.insert(number)
    }
    var own = delta
    own.records.removeAll { $0.stamp.origin != origin || origin == settings.relayID }
    own.coverage.removeAll { $0.origin != origin }
    let (accepted, refused) = take(own, from: its, at: now)
    let strange = delta.records.count - own.records.count
    counts.refused += strange
    return (accepted, refused + strange)
  }

  private mutating func take(
    _ delta: Delta, from theirs: [VectorElement], at now: Now
  ) -> (accepted: Int, refused: Int) {
    var refused = 0
    for record in delta.records {
      if case .refused = receive(record, at: now) { refused += 1 }
      if var sweep = origins[Int(originNumbers[record.stamp.origin] ?? 0)].sweep {
        sweep.remove(record.peerID)
        origins[Int(originNumbers[record.stamp.origin]!)].sweep = sweep
      }
    }
    if !delta.records.isEmpty { lowerHorizons(theirs) }
    let last = Record.lastCounter(wall: now.wall)
    for covered in delta.coverage {
      guard let number = originNumbers[covered.origin], number > 0, covered.through <= last else {
        continue
      }
      let origin = origins[Int(number)]
      guard origin.incarnation == covered.incarnation, origin.purgedAt == nil,
        covered.from <= origin.sequence, covered.through > origin.sequence
      else { continue }
      origins[Int(number)].sequence = covered.through
      dirtyOrigins.insert(number)
    }
    return (delta.records.count - refused, refused)
  }

  /// While this relay pulls anew, it knows no more of deletes than those it pulls from.
  private mutating func lowerHorizons(_ theirs: [VectorElement]) {
    let rebuilding = origins.indices.dropFirst().filter {
      origins[$0].horizon > origins[$0].sequence
    }
    if rebuilding.isEmpty { return }
    let skipsEmpty = roomForFloors == 0
    var levels: [String: UInt64] = [:]
    for element in theirs { levels[element.origin] = element.level }
    for home in rebuilding where !skipsEmpty || !origins[home].isEmpty {
      let lower = min(origins[home].horizon, levels[origins[home].id] ?? 0)
      if lower < origins[home].horizon {
        origins[home].horizon = lower
        dirtyOrigins.insert(UInt32(home))
      }
    }
  }

  /// Begins to compare what is held of an origin with all that it has: records that do not come until
  /// `endSweep` are not its any more.
  public mutating func beginSweep(of origin: String) {
    guard let number = originNumbers[origin], number > 0 else { return }
    let elements = origins[Int(number)].log.elements
    origins[Int(number)].sweep = Set(
      elements.filter { isCurrent($0, number) }.map { record($0.entry).peerID })
  }

  public mutating func endSweep(of origin: String) {
    guard let number = originNumbers[origin], let left = origins[Int(number)].sweep else { return }
    origins[Int(number)].sweep = nil
    for peerID in left {
      if let entry = find(peerID), entries[entry].home == number { drop(entry) }
    }
  }

  /// Whether both have merged the same changes, so that their digests must be equal.
  public func isLevel(with theirs: [VectorElement]) -> Bool {
    var known: [String: VectorElement] = [:]
    for element in theirs { known[element.origin] = element }
    // An origin that has issued nothing is no difference.
    for origin in origins {
      let element = known.removeValue(forKey: origin.id)
      if element?.sequence ?? 0 == 0, origin.sequence == 0 { continue }
      if element?.incarnation != origin.incarnation || element?.sequence != origin.sequence {
        return false
      }
    }
    return known.values.allSatisfy { $0.sequence == 0 }
  }

  // MARK: digests

  /// Of all live records; equal on relays that hold the same.
  public var rootDigest: UInt64 {
    unsafe buckets.withUnsafeBytes { unsafe xxh64($0) }
  }

  /// Of each of the 4,096 parts.
  public var bucketDigests: [UInt64] { buckets }

  /// The parts whose digests differ.
  public func differingBuckets(_ theirs: [UInt64]) -> [UInt32] {
    guard theirs.count == buckets.count else { return [] }
    return buckets.indices.filter { buckets[$0] != theirs[$0] }.map { UInt32($0) }
  }

  /// All records of some parts, tombstones included, in the order of entries from `start`; the second is
  /// where to go on, nil at the end. Looks at every entry: for repairs.
  public func records(
    in wanted: [UInt32], from start: UInt32 = 0, limit: Int = Limits.gossipPageRecords,
    bytes: Int = Limits.gossipPageBytes
  ) -> (records: [Record], next: UInt32?) {
    var isWanted = [Bool](repeating: false, count: buckets.count)
    for bucket in wanted where Int(bucket) < buckets.count { isWanted[Int(bucket)] = true }
    var found: [Record] = []
    var size = 0
    var number = start
    while number < entries.end {
      let e = entries[number]
      if e.flags.contains(.used), isWanted[Int(e.bucket)] {
        if found.count >= limit || size >= bytes { return (found, number) }
        let record = record(number)
        size += record.body.count + 96
        found.append(record)
      }
      number += 1
    }
    return (found, nil)
  }

  // MARK: upstream's relays

  /// What an upstream relay is shown: everything visible that it did not give itself, each with a
  /// version that rises when it is refreshed, and recent tombstones; what changed or was refreshed since
  /// `since` (wall ns), oldest first, at most `limit`. The second is what to ask with the next time.
  ///
  /// Upstream takes an entry for refreshed only with a higher version. Entries of other homes have no
  /// refreshes of their own: they are shown as refreshed now.
  public func upstreamPage(
    since: Int64, limit: Int, to relay: String, at now: Now
  ) -> (records: [UpstreamRecord], next: Int64) {
    var found: [UpstreamRecord] = []
    let third = settings.ttl.nanoseconds / 3
    var number: UInt32 = 0
    // Upstream holds 8,192 in all: more would be refused there.
    while number < entries.end, found.count < Limits.upstreamEntries {
      defer { number += 1 }
      let e = entries[number]
      guard e.flags.contains(.used), e.source == 0 || sources[Int(e.source)] != relay else {
        continue
      }
      let home = origins[Int(e.home)]
      if home.id == relay || e.home > 0 && (home.isHidden || home.purgedAt != nil) { continue }
      let age = now.monotonic.nanoseconds &- e.time
      var touched = now.wall.nanoseconds &- age
      if e.isTombstone {
        if age > 4 * settings.ttl.nanoseconds { continue }
      } else if e.home > 0, age > third {
        // As if refreshed each third of a lifetime, each entry at its own instant.
        touched = now.wall.nanoseconds &- (age &+ Int64(number)) % third
      }
      if touched < since { continue }
      found.append(UpstreamRecord(record: record(number), touched: touched))
    }
    found.sort { $0.touched < $1.touched }
    if found.count <= limit { return (found, now.wall.nanoseconds) }
    found.removeLast(found.count - max(limit, 1))
    return (found, found[found.count - 1].touched)
  }
}

/// A record as upstream relays get it.
public struct UpstreamRecord: Sendable {
  public var record: Record
  /// Wall ns at this relay of the last change or refresh.
  public var touched: Int64
  public var version: UInt64 { max(record.stamp.version, UInt64(clamping: touched)) }
}
