public import Base
internal import Digest

/// Bugs that tests plant, to see that they are found.
public struct RegistryFaults: OptionSet, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  /// The end of a record of another home is carried out and forgotten.
  public static let tombstoneDropped = RegistryFaults(rawValue: 1)
  /// Of two records the one with the later wall clock stays.
  public static let wallClock = RegistryFaults(rawValue: 2)
  /// Of two records with one version the one that comes last stays.
  public static let arrivalOrder = RegistryFaults(rawValue: 4)
}

/// What a registry is told once.
public struct RegistrySettings: Sendable {
  public var relayID: String
  /// How long an agent is kept after its last word (upstream: 30 s).
  public var ttl: Interval
  public var originTimeout: Interval
  public var tombstoneLife: Interval
  /// Agents whose home is here; more are refused.
  public var capacity: Int
  /// Agents of all other relays together; more are refused and counted.
  public var foreignCapacity: Int
  /// Tombstones; the oldest beyond are forgotten early, which only makes laggards pull anew.
  public var tombstoneCapacity: Int
  /// Relays that records may come from, this one included, at least 2.
  public var originCapacity: Int
  /// Against chosen collisions; random.
  public var seed: UInt64
  public var faults: RegistryFaults = []

  public init(relayID: String, seed: UInt64 = 0) {
    self.relayID = relayID
    ttl = .seconds(Int64(Limits.registryTTLSeconds))
    originTimeout = .seconds(Int64(Limits.originTimeoutSeconds))
    tombstoneLife = .seconds(Int64(Limits.tombstoneSeconds))
    capacity = Limits.registryEntries
    foreignCapacity = Limits.registryForeignEntries
    tombstoneCapacity = Limits.registryTombstones
    originCapacity = Limits.registryOrigins
    self.seed = seed
  }
}

/// Figures of a registry since it was made.
public struct RegistryCounts: Equatable, Sendable {
  public var registered = 0
  public var refreshed = 0
  public var unregistered = 0
  public var expired = 0
  public var discovered = 0
  public var merged = 0
  public var known = 0
  public var refused = 0
  public var disowned = 0
  public var rebuilt = 0
  public var damagedRows = 0
  /// Records refused because all places of origins are taken by origins with records.
  public var originless = 0
  /// Origins without records that gave way to others.
  public var evicted = 0
  public init() {}
}

/// All agents that this relay knows: its own and those of other relays. One loop owns it.
///
/// A value: inputs with the time in, rows to be written out (`takeWrites`). Entries of a million agents
/// cost about 460 bytes each; finding, refreshing and expiring one does not depend on their number.
public struct Registry: Sendable {
  public let settings: RegistrySettings
  var entries = EntryStore()
  var peers: NumberTable
  var skillIndex: SkillIndex
  var tagIndex: SkillIndex
  /// What a discovery finds, kept between them for its memory.
  var scratch: [UInt32] = []
  /// So that what is read ahead is read (`fetch`).
  var fetched = 0
  /// 0 is this relay.
  public internal(set) var origins: [Origin]
  var originNumbers: [String: UInt32]
  /// Origins that may give way to others before the next step of the clock.
  var evictionsLeft = Limits.registryEvictions
  /// 0: no source.
  var sources = [""]
  var sourceNumbers = ["": UInt16(0)]
  /// Own live entries by their last refresh, and tombstones by their age here.
  var alive = EntryLine()
  var graves = EntryLine()
  /// XOR of the digests of live records, by the top bits of XXH64 of the peer_id.
  var buckets = [UInt64](repeating: 0, count: 1 << Registry.bucketBits)
  public internal(set) var counts = RegistryCounts()
  var writes = WriteSet()
  var dirtyOrigins: Set<UInt32> = []
  /// Rises with every change of what peers could want to know.
  public internal(set) var changes: UInt64 = 0
  var foreignLive = 0
  var isLoading = true
  /// Wall time at which this relay last said that it lives, from the store.
  var lastAlive: Instant?

  public static let bucketBits = 12

  /// Empty, and loading: give it its rows with `load`, then call `finishLoading`. `now`: for an empty
  /// data directory, the incarnation begins here.
  public init(settings: RegistrySettings, at now: Now) {
    self.settings = settings
    peers = NumberTable(seed: settings.seed)
    skillIndex = SkillIndex(seed: settings.seed)
    tagIndex = SkillIndex(seed: settings.seed)
    var own = Origin(
      settings.relayID, incarnation: Registry.counter(now, after: 0), at: now.monotonic)
    own.beat = Registry.counter(now, after: 0)
    origins = [own]
    originNumbers = [settings.relayID: 0]
  }

  /// max(the host's time, the last one + 1).
  static func counter(_ now: Now, after last: UInt64) -> UInt64 {
    max(UInt64(clamping: now.wall.nanoseconds), last &+ 1, 1)
  }

  // MARK: figures

  /// Agents whose home is here, adopted ones included.
  public var localCount: Int { alive.count }
  public var foreignCount: Int { foreignLive }
  public var tombstoneCount: Int { graves.count }
  public var skillCount: Int { skillIndex.keys }

  // MARK: finding

  func find(_ peerID: String) -> UInt32? {
    var peerID = peerID
    return peerID.withUTF8 { unsafe find(UnsafeRawBufferPointer($0)) }
  }

  func find(_ peerID: UnsafeRawBufferPointer) -> UInt32? {
    peers.find(unsafe peers.hash(peerID)) { number in
      unsafe entries[number].body.withUnsafeBytes { body in
        unsafe sameBytes(Record.peerID(in: body), peerID)
      }
    }
  }

  func record(_ number: UInt32) -> Record {
    let e = entries[number]
    let home = origins[Int(e.home)]
    return Record(
      stamp: Stamp(
        version: e.version, origin: home.id, incarnation: home.incarnation, sequence: e.sequence),
      isTombstone: e.isTombstone, isProved: e.flags.contains(.proved),
      registeredAt: e.registeredAt, source: sources[Int(e.source)], body: e.body)
  }

  /// The record of an agent, tombstones included.
  public func record(of peerID: String) -> Record? { find(peerID).map { record($0) } }

  // MARK: storing

  /// Puts a record in the place of what was there. `home` and `source` are known numbers.
  mutating func put(
    _ record: Record, over existing: UInt32?, home: UInt32, source: UInt16, at now: Now
  ) -> UInt32 {
    let number: UInt32
    if let existing {
      // The number of that change goes with its row: it stands with the origin then, or the next start has not heard of it.
      if entries[existing].home == 0, home != 0 { dirtyOrigins.insert(0) }
      detach(existing)
      number = existing
    } else {
      number = entries.make()
    }
    entries[number].body = record.body
    entries[number].version = record.stamp.version
    entries[number].sequence = record.stamp.sequence
    entries[number].registeredAt = record.registeredAt
    entries[number].digest = record.digest
    entries[number].home = home
    entries[number].source = source
    entries[number].time = now.monotonic.nanoseconds
    entries[number].flags = [
      .used, record.isTombstone ? .tombstone : [], record.isProved ? .proved : [],
    ]
    if existing == nil {
      let peerID = Array(record.peerID.utf8)
      entries[number].bucket = UInt16(xxh64(peerID) >> (64 - UInt64(Registry.bucketBits)))
      peers.insert(unsafe peerID.withUnsafeBytes { unsafe peers.hash($0) }, number)
    }
    attach(number)
    if !isLoading {
      writes.put(.registry, key: Registry.key(of: record.peerID), value: record.row)
      changes += 1
    }
    return number
  }

  private mutating func attach(_ number: UInt32) {
    let e = entries[number]
    origins[Int(e.home)].log.add(e.sequence, number)
    if e.isTombstone {
      origins[Int(e.home)].tombstones += 1
      graves.append(number, &entries)
      return
    }
    origins[Int(e.home)].live += 1
    buckets[Int(e.bucket)] ^= e.digest
    if e.home == 0 { alive.append(number, &entries) } else { foreignLive += 1 }
    let group = Registry.group(e)
    // What stands here was checked when it came in.
    guard let registration = try? record(number).registration() else { return }
    var places: [SkillIndex.Place] = []
    var seen: Set<[UInt8]> = []
    for (i, skill) in registration.skills.enumerated() {
      if registration.skills[..<i].contains(where: { isSameText($0.id, skill.id) }) == false {
        places.append(skillIndex.insert(skill.id, group: group, entry: number))
      }
      for tag in skill.tags {
        let key = SkillIndex.key(skill.id, tag)
        guard seen.insert(Array(key.utf8)).inserted else { continue }
        var place = tagIndex.insert(key, group: group, entry: number)
        place.list |= SkillIndex.Place.tagBit
        places.append(place)
      }
    }
    entries[number].places = places
  }

  private mutating func detach(_ number: UInt32) {
    let e = entries[number]
    if e.isTombstone {
      origins[Int(e.home)].tombstones -= 1
      graves.remove(number, &entries)
    } else {
      origins[Int(e.home)].live -= 1
      buckets[Int(e.bucket)] ^= e.digest
      if e.home == 0 { alive.remove(number, &entries) } else { foreignLive -= 1 }
      for place in e.places { leave(place, of: number, Registry.group(e)) }
      entries[number].places = []
    }
    // The log asks where records stand now; this one stands nowhere.
    entries[number].sequence = 0
    origins[Int(e.home)].log.remove { [entries] in
      entries[$0.entry].sequence == $0.sequence && entries[$0.entry].home == e.home
    }
  }

  private mutating func leave(_ place: SkillIndex.Place, of number: UInt32, _ group: UInt32) {
    let isTag = place.list & SkillIndex.Place.tagBit != 0
    let inside = SkillIndex.Place(
      list: place.list & ~SkillIndex.Place.tagBit, position: place.position)
    let moved =
      isTag ? tagIndex.remove(inside, group: group) : skillIndex.remove(inside, group: group)
    guard let moved, moved != number else { return }
    let from = entries[moved].places.firstIndex { $0.list == place.list }
    guard let from else { preconditionFailure("an entry in a list knows its place") }
    entries[moved].places[from].position = place.position
  }

  /// Forgets an entry altogether.
  mutating func drop(_ number: UInt32) {
    let peerID = record(number).peerID
    detach(number)
    peers.remove(unsafe Array(peerID.utf8).withUnsafeBytes { unsafe peers.hash($0) }, number)
    entries.remove(number)
    writes.delete(.registry, key: Registry.key(of: peerID))
    changes += 1
  }

  /// Local agents, adopted ones, then every other home.
  static func group(_ e: Entry) -> UInt32 {
    e.home > 0 ? e.home + 1 : e.source > 0 ? 1 : 0
  }

  // MARK: rows

  static func key(of peerID: String) -> [UInt8] { [UInt8(ascii: "p")] + Array(peerID.utf8) }
  static func key(ofOrigin id: String) -> [UInt8] { [UInt8(ascii: "o")] + Array(id.utf8) }
  static let aliveKey = [UInt8(ascii: "m")]

  public var hasWrites: Bool { !writes.isEmpty || !dirtyOrigins.isEmpty }

  /// What changed since the last call, for the store; written as one.
  public mutating func takeWrites() -> WriteSet {
    for number in dirtyOrigins.sorted() {
      let origin = origins[Int(number)]
      writes.put(
        .registry, key: Registry.key(ofOrigin: origin.id), value: Registry.row(of: origin))
    }
    dirtyOrigins.removeAll()
    defer { writes = WriteSet() }
    return writes
  }
}
