public import Base
internal import Codec

/// Who can do this?
public struct Discovery: Equatable, Sendable {
  public var skill: String
  /// All must be there with these values, within that one skill; a missing tag counts as "".
  public var tags: [Skill.Tag]
  /// At most 1,000; 0 or less: 100.
  public var limit: Int
  /// Agents of other relays, too, behind the local ones.
  public var includesOthers: Bool

  public init(skill: String, tags: [Skill.Tag] = [], limit: Int = 0, includesOthers: Bool = true) {
    self.skill = skill
    self.tags = tags
    self.limit = limit
    self.includesOthers = includesOthers
  }

  /// Reads `agentanycast.v1.DiscoverBySkillRequest`. `federated` is or-ed with `always`.
  public init(
    decoding bytes: UnsafeRawBufferPointer, alwaysOthers always: Bool
  ) throws(Fault) {
    self.init(skill: "", includesOthers: always)
    do throws(WireError) {
      var r = unsafe WireReader(bytes)
      while case let tag = try r.nextTag(), tag != 0 {
        switch tag {
        case 10: skill = try r.string()
        case 18:
          var found = Skill.Tag("", "")
          try r.entry { (r, tag) throws(WireError) in
            switch tag {
            case 10: found.key = try r.string()
            case 18: found.value = try r.string()
            default: try r.skip(tag)
            }
          }
          if tags.count <= Limits.registryTags { tags.append(found) }
        case 24: limit = Int(try r.int32())
        case 32: includesOthers = try r.bool() || always
        default: try r.skip(tag)
        }
      }
    } catch {
      throw Fault(.badRequest, "the request is no valid DiscoverBySkillRequest")
    }
    tags = Skill.canonical(tags)
    if skill.isEmpty { throw Fault(.badRequest, "skill_id is required") }
    if tags.count > Limits.registryTags {
      throw Fault(.tooLarge, "more than \(Limits.registryTags) tags")
    }
  }

  var bound: Int { limit <= 0 ? Limits.discoverDefault : min(limit, Limits.discoverMost) }
}

extension Registry {
  /// Entries that match into `found`, local ones first. Equals take turns: each list is a ring in a fixed order, and
  /// the next answer begins where the last one ended (or one further, when all fit). So n answers show
  /// everyone equally often, and the same history gives the same answers.
  mutating func find(_ wanted: Discovery, at now: Now, into found: inout [UInt32]) {
    counts.discovered += 1
    guard let (which, list, isExact) = narrowest(wanted) else { return }
    let cursors = select(wanted, which, list, isExact, at: now, into: &found)
    // Nothing that was read is still held: the index is changed in place.
    if which == .tags {
      tagIndex.setCursors(list, local: cursors.local, other: cursors.other)
    } else {
      skillIndex.setCursors(list, local: cursors.local, other: cursors.other)
    }
  }

  private func select(
    _ wanted: Discovery, _ which: Which, _ list: Int, _ isExact: Bool, at now: Now,
    into found: inout [UInt32]
  ) -> (local: Int, other: Int) {
    which == .tags
      ? select(wanted, tagIndex.lists, list, isExact, at: now, into: &found)
      : select(wanted, skillIndex.lists, list, isExact, at: now, into: &found)
  }

  @inline(__always) private func select(
    _ wanted: Discovery, _ lists: [SkillIndex.List], _ list: Int, _ isExact: Bool, at now: Now,
    into found: inout [UInt32]
  ) -> (local: Int, other: Int) {
    var local = Int(lists[list].localCursor)
    var other = Int(lists[list].otherCursor)
    var scanned = 0
    Self.turn(lists[list].local, &local, wanted.bound, &found, &scanned) { number in
      !isExpired(number, now) && (isExact || matches(number, wanted))
    }
    if wanted.includesOthers, found.count < wanted.bound, !lists[list].others.isEmpty {
      let shown = lists[list].others.filter { isShown($0.number) }.map(\.members)
      Self.turn(shown, &other, wanted.bound, &found, &scanned) { number in
        // Of those whose home is here there are the adopted ones.
        (entries[number].home > 0 || !isExpired(number, now))
          && (isExact || matches(number, wanted))
      }
    }
    return (local, other)
  }

  private enum Which { case skills, tags }

  /// The shortest list that holds every match. `exact`: and nothing else. nil: nothing matches.
  private func narrowest(_ wanted: Discovery) -> (Which, Int, Bool)? {
    guard let all = skillIndex.find(wanted.skill) else { return nil }
    if wanted.tags.isEmpty { return (.skills, all, true) }
    var best: (Which, Int, Bool) = (.skills, all, false)
    var least = Int.max
    // "" also stands for a missing tag, which is in no list.
    for tag in wanted.tags where !tag.value.isEmpty {
      guard let list = tagIndex.find(SkillIndex.key(wanted.skill, tag)) else { return nil }
      let count = tagIndex.lists[list].count
      if count < least {
        least = count
        best = (.tags, list, wanted.tags.count == 1)
      }
    }
    return best
  }

  private func matches(_ number: UInt32, _ wanted: Discovery) -> Bool {
    guard let registration = try? record(number).registration() else { return false }
    return registration.skills.contains { skill in
      isSameText(skill.id, wanted.skill)
        && wanted.tags.allSatisfy { isSameText(skill.value(of: $0.key), $0.value) }
    }
  }

  func isShown(_ group: UInt32) -> Bool {
    if group < 2 { return true }
    let origin = origins[Int(group - 1)]
    return !origin.isHidden && origin.purgedAt == nil
  }

  /// Takes matches from a ring, from the cursor on.
  @inline(__always)
  private static func turn(
    _ ring: [UInt32], _ cursor: inout Int, _ bound: Int, _ found: inout [UInt32],
    _ scanned: inout Int, _ fits: (UInt32) -> Bool
  ) {
    let total = ring.count
    if total == 0 { return }
    let start = cursor < total ? cursor : cursor % total
    var at = start
    var seen = 0
    while seen < total, found.count < bound, scanned < Limits.discoverScan {
      if fits(ring[at]) { found.append(ring[at]) }
      seen += 1
      scanned += 1
      at = at + 1 == total ? 0 : at + 1
    }
    cursor = seen == total ? (start + 1 == total ? 0 : start + 1) : at
  }

  /// The same from a ring made of lists.
  private static func turn(
    _ lists: [[UInt32]], _ cursor: inout Int, _ bound: Int, _ found: inout [UInt32],
    _ scanned: inout Int, _ fits: (UInt32) -> Bool
  ) {
    let total = lists.reduce(0) { $0 + $1.count }
    if total == 0 { return }
    let start = cursor % total
    var list = 0
    var at = start
    while at >= lists[list].count {
      at -= lists[list].count
      list += 1
    }
    var seen = 0
    while seen < total, found.count < bound, scanned < Limits.discoverScan {
      if fits(lists[list][at]) { found.append(lists[list][at]) }
      seen += 1
      scanned += 1
      at += 1
      while at >= lists[list].count {
        at = 0
        list = list + 1 == lists.count ? 0 : list + 1
      }
    }
    cursor = seen == total ? (start + 1) % total : (start + seen) % total
  }

  // MARK: answers

  /// `agentanycast.v1.DiscoverBySkillResponse` as one gRPC frame. Upstream's field numbers; from 100 up
  /// the home relay.
  public mutating func receiveDiscover(_ wanted: Discovery, at now: Now) -> Bytes {
    var found = scratch
    scratch = []
    defer {
      found.removeAll(keepingCapacity: true)
      scratch = found
    }
    find(wanted, at: now, into: &found)
    fetch(found)
    var size = 0
    var count = 0
    for number in found {
      let whole = 1 + WireSize.delimited(answerSize(number, now))
      // The published client takes 4 MiB.
      if size + whole > Limits.messageBytes - 1024 { break }
      size += whole
      count += 1
    }
    return unsafe Bytes(count: size + GrpcFrame.prefixBytes) { room in
      unsafe GrpcFrame.writePrefix(size, to: room)
      var w = unsafe WireWriter(
        UnsafeMutableRawBufferPointer(rebasing: room[GrpcFrame.prefixBytes...]))
      for i in 0..<count {
        w.tag(10)
        w.length(answerSize(found[i], now))
        answer(found[i], now, &w)
      }
    }
  }

  /// Reads a byte of each line of memory that an answer needs. Of a million agents hardly one is in the cache: in loops
  /// as short as these the processor waits for many at once, in the long one that writes the answer for one after
  /// the other.
  private mutating func fetch(_ found: [UInt32]) {
    var sum = 0
    for number in found { sum &+= entries[number].body.count }
    for number in found {
      unsafe entries[number].body.withUnsafeBytes { bytes in
        var at = 32
        while at < bytes.count {
          sum &+= unsafe Int(bytes[at])
          at &+= 64
        }
      }
    }
    fetched = sum
  }

  private func expiry(_ number: UInt32, _ now: Now) -> Int64 {
    entries[number].home > 0
      ? (now.wall + settings.ttl).nanoseconds
      : now.wall.nanoseconds &+ entries[number].time &+ settings.ttl.nanoseconds
        &- now.monotonic.nanoseconds
  }

  private static func split(_ wall: Int64) -> (Int64, Int32) {
    let (seconds, rest) = wall.quotientAndRemainder(dividingBy: 1_000_000_000)
    return rest < 0 ? (seconds - 1, Int32(rest + 1_000_000_000)) : (seconds, Int32(rest))
  }

  private static func timestampSize(_ wall: Int64) -> Int {
    let (seconds, nanos) = split(wall)
    return (seconds == 0 ? 0 : 1 + WireSize.int64(seconds))
      + (nanos == 0 ? 0 : 1 + WireSize.int32(nanos))
  }

  private static func put(_ tag: UInt32, _ wall: Int64, _ w: inout WireWriter) {
    let (seconds, nanos) = split(wall)
    w.tag(tag)
    w.length(timestampSize(wall))
    if seconds != 0 {
      w.tag(8)
      w.int64(seconds)
    }
    if nanos != 0 {
      w.tag(16)
      w.int32(nanos)
    }
  }

  /// Tag 802: field 100, the relay id of the home.
  @inline(__always) private func answerSize(_ number: UInt32, _ now: Now) -> Int {
    entries[number].body.count + 1
      + WireSize.delimited(Self.timestampSize(entries[number].registeredAt)) + 1
      + WireSize.delimited(Self.timestampSize(expiry(number, now))) + 2
      + WireSize.string(homeName(number))
  }

  @inline(__always) private func answer(_ number: UInt32, _ now: Now, _ w: inout WireWriter) {
    unsafe entries[number].body.withUnsafeBytes { unsafe w.raw($0) }
    Self.put(42, entries[number].registeredAt, &w)
    Self.put(50, expiry(number, now), &w)
    w.tag(802)
    w.string(homeName(number))
  }

  private func homeName(_ number: UInt32) -> String {
    let source = entries[number].source
    return source > 0 ? sources[Int(source)] : origins[Int(entries[number].home)].id
  }

  /// For tests and operators: the agents of an answer, in its order.
  public mutating func discover(_ wanted: Discovery, at now: Now) -> [String] {
    var found: [UInt32] = []
    find(wanted, at: now, into: &found)
    return found.map { record($0).peerID }
  }

  /// An agent as operators see it.
  public struct Listing: Sendable {
    public var record: Record
    /// Own agents: until when, by the wall clock. nil: its home decides.
    public var expires: Instant?
    /// Shown by discovery.
    public var isShown: Bool
  }

  public func listing(of peerID: String, at now: Now) -> Listing? {
    find(peerID).map { listing($0, now) }
  }

  /// Agents in the order of entries from `start`, those of one origin or source and one skill where they
  /// are named; the second is where to go on.
  public func listings(
    origin: String = "", skill: String = "", tombstones: Bool = false, from start: UInt32 = 0,
    limit: Int, at now: Now
  ) -> (listings: [Listing], next: UInt32?) {
    var found: [Listing] = []
    var number = start
    while number < entries.end {
      let e = entries[number]
      if e.flags.contains(.used), tombstones || !e.isTombstone,
        origin.isEmpty || origins[Int(e.home)].id == origin || sources[Int(e.source)] == origin,
        skill.isEmpty || offers(number, skill)
      {
        if found.count >= limit { return (found, number) }
        found.append(listing(number, now))
      }
      number += 1
    }
    return (found, nil)
  }

  private func offers(_ number: UInt32, _ skill: String) -> Bool {
    guard let registration = try? record(number).registration() else { return false }
    return registration.skills.contains { isSameText($0.id, skill) }
  }

  private func listing(_ number: UInt32, _ now: Now) -> Listing {
    let e = entries[number]
    let own = e.home == 0
    return Listing(
      record: record(number),
      expires: own && !e.isTombstone ? Instant(nanoseconds: expiry(number, now)) : nil,
      isShown: !e.isTombstone && isShown(Self.group(e)) && !(own && isExpired(number, now)))
  }
}
