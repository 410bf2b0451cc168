internal import Base
internal import Digest
internal import Engine

/// A promise that did not hold.
public struct Violation: Error, CustomStringConvertible, Sendable {
  public let description: String
  public init(_ text: String) { description = text }
}

/// What must be true of a channel, kept beside the engine: what was appended, seen and acknowledged.
final class ChannelModel {
  struct Entry {
    var hash: UInt64
    var id: UInt64
    var mls: MLSKind
    var generation: UInt32
    var epoch: UInt64
    var producer: UInt64
    var producerSequence: UInt64
    var bytes: UInt64
    /// Delivered or acknowledged: from now on it may not change.
    var seen = false
  }
  let ref: ChannelRef
  /// Index: sequence - 1.
  var entries: [Entry] = []
  /// Acknowledged as synced up to here (every sequence below a synced one is durable with it).
  var synced: UInt64 = 0
  var oldest: UInt64 = 1
  /// Entries that a delete of the channel erased, and what was known of their producers and commits.
  var deleted = 0
  init(_ ref: ChannelRef) { self.ref = ref }
}

/// The checkers of the simulator. Everything that the engine's host carries out passes through here.
final class SimModel {
  private(set) var channels: [ChannelModel] = []
  private var byID: [ChannelID: ChannelModel] = [:]
  /// Which sessions sent a message, by its id.
  private var senders: [UInt64: [SessionID]] = [:]
  private(set) var violations: [Violation] = []
  private(set) var delivered = 0
  private(set) var acknowledged = 0
  private(set) var appended = 0

  func add(_ ref: ChannelRef) {
    let made = ChannelModel(ref)
    channels.append(made)
    byID[ref.id] = made
  }

  subscript(_ id: ChannelID) -> ChannelModel? { byID[id] }

  func fail(_ text: String) { violations.append(Violation(text)) }

  // MARK: what clients put in

  func sent(_ id: UInt64, by session: SessionID) {
    senders[id, default: []].append(session)
    if traced == id { print("message \(id) sent by session \(session.value)") }
  }

  /// Commits leave the gate's window in this run: then old bytes at epoch 0 may open a generation again.
  var forgetsCommits = false
  /// A message to print the fate of.
  var traced: UInt64 = 0

  func senders(_ id: UInt64) -> [SessionID] { senders[id] ?? [] }

  // MARK: what the disk takes

  func apply(_ set: WriteSet) {
    set.forEach { op, table, key, value in
      guard table == .records else { return }
      if op == 1 {
        append(Row(key: [UInt8](key), value: [UInt8](value)))
      } else if op == 3, key.count == 24, let k = RecordKey.parse([UInt8](key)),
        let to = RecordKey.parse([UInt8](value)), k.first == 0, let c = byID[k.channel]
      {
        if to.first == .max {
          c.deleted = c.entries.count
          c.oldest = UInt64(c.entries.count) + 1
        } else {
          c.oldest = to.first
        }
      }
    }
  }

  private func append(_ row: Row) {
    guard let key = RecordKey.parse(row.key), let c = byID[key.channel] else {
      return fail("a record of an unknown channel")
    }
    do throws(RecordError) {
      try RecordReader.read(row, channel: key.channel) { sequence, m in
        let entry = ChannelModel.Entry(
          hash: m.frame.withUnsafeBytes { xxh64($0) }, id: SimFrame.id(m.frame), mls: m.mls,
          generation: m.generation, epoch: m.epoch, producer: m.producer,
          producerSequence: m.producerSequence,
          bytes: UInt64(m.frame.count - RecordHeader.framePrefix))
        if traced != 0, entry.id == traced {
          print("message \(traced) stored at \(sequence), producer sequence \(m.producerSequence)")
        }
        let at = Int(sequence) - 1
        if at > c.entries.count {
          fail("gap: \(c.ref.name) \(sequence) appended after \(c.entries.count)")
        } else if at == c.entries.count {
          appended += 1
          c.entries.append(entry)
        } else if c.entries[at].seen, c.entries[at].hash != entry.hash {
          fail("\(c.ref.name) \(sequence) was overwritten after it had been seen")
        } else {
          c.entries.removeSubrange(at...)
          c.entries.append(entry)
        }
      }
    } catch { fail("\(c.ref.name): a record that does not read: \(error)") }
  }

  // MARK: what the engine says

  func delivered(_ ref: ChannelRef, _ d: Delivery) {
    delivered += 1
    guard ref.archived, let c = byID[ref.id] else { return }
    guard d.sequence >= 1, d.sequence <= c.entries.count else {
      return fail("\(ref.name) \(d.sequence) delivered before it was appended")
    }
    let at = Int(d.sequence) - 1
    if c.entries[at].hash != d.frame.withUnsafeBytes({ xxh64($0) }) {
      fail("\(ref.name) \(d.sequence): delivered bytes are not those appended")
    }
    if c.entries[at].generation != d.generation || c.entries[at].mls != d.mls {
      fail("\(ref.name) \(d.sequence): delivered with other marks than appended")
    }
    if d.hasSuffix, SimFrame.suffix(d.frame) != d.sequence {
      fail("\(ref.name) \(d.sequence): suffix \(SimFrame.suffix(d.frame))")
    }
    c.entries[at].seen = true
  }

  func accepted(_ ref: ChannelRef, _ sequence: UInt64, id: UInt64, synced: Bool) {
    acknowledged += 1
    guard ref.archived, let c = byID[ref.id] else { return }
    guard sequence >= 1, sequence <= c.entries.count else {
      return fail("\(ref.name) \(sequence) acknowledged before it was appended")
    }
    let at = Int(sequence) - 1
    if c.entries[at].id != id {
      fail("\(ref.name) \(sequence): acknowledged message \(id), appended \(c.entries[at].id)")
    }
    c.entries[at].seen = true
    if synced { c.synced = max(c.synced, sequence) }
  }

  /// A commit lost to `winner`.
  func lost(_ ref: ChannelRef, epoch: UInt64, winner: UInt64, id: UInt64) {
    guard let c = byID[ref.id], winner > 0 else { return }
    guard winner <= c.entries.count else {
      return fail("\(ref.name): commit lost to \(winner), which is not appended")
    }
    let entry = c.entries[Int(winner) - 1]
    if entry.mls != .commit || entry.epoch != epoch || entry.id == id {
      fail("\(ref.name): commit of epoch \(epoch) lost to \(winner), which is none of that epoch")
    }
  }

  // MARK: audits

  /// After a crash: what is on disk is what remains.
  func crashed(_ disk: SimDisk, power: Bool) {
    for c in channels where c.ref.archived {
      let head =
        (try? HeadRow(decoding: disk.get(.state, HeadRow.key(c.ref.id)) ?? [])) ?? HeadRow()
      if head.last < c.entries.count {
        if !power { fail("\(c.ref.name): a killed process lost written messages") }
        if head.last < c.synced {
          fail("\(c.ref.name): synced \(c.synced) lost, the head is \(head.last)")
        }
        c.entries.removeSubrange(Int(head.last)...)
      }
      c.oldest = min(c.oldest, head.oldest)
      c.deleted = min(c.deleted, c.entries.count, Int(head.oldest) - 1)
    }
  }

  /// Everything on disk against itself and against what was seen.
  func audit(_ disk: SimDisk) {
    var messages: UInt64 = 0
    var bytes: UInt64 = 0
    var slotKeys = Set<[UInt8]>()
    for c in channels where c.ref.archived {
      let head = disk.get(.state, HeadRow.key(c.ref.id))
      if let row = head.flatMap({ try? HeadRow(decoding: $0) }) {
        messages += row.last
        bytes += row.bytesEver
      }
      var verifier = ChannelVerifier(c.ref.id)
      for row in disk.rows(.records, prefix: c.ref.id.bytes) {
        for finding in verifier.feed(row, { self.compare($0, $1, c) }) {
          fail("\(c.ref.name): \(finding)")
        }
        if let header = try? RecordReader.header(row, channel: c.ref.id) {
          let key = SlotRow.key(c.ref.id.slot, header.slotIndex)
          if disk.get(.slots, key) != row.key { fail("\(c.ref.name): slot index row is missing") }
          if !slotKeys.insert(key).inserted { fail("\(c.ref.name): slot index used twice") }
        }
      }
      for finding in verifier.finish(head: head) { fail("\(c.ref.name): \(finding)") }
      unique(c)
    }
    var metered: (messages: UInt64, bytes: UInt64) = (0, 0)
    for row in disk.rows(.tokens, prefix: [UsageRow.kind]) where row.value.count == 24 {
      metered.messages += row.value.withUnsafeBytes {
        UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self))
      }
      metered.bytes += row.value.withUnsafeBytes {
        UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      }
    }
    if metered != (messages, bytes) {
      fail("metered \(metered), appended \((messages, bytes))")
    }
  }

  /// What a stream sent that never broke must all be there.
  func complete(_ ref: ChannelRef, _ ids: [UInt64]) {
    guard let c = byID[ref.id], c.deleted == 0 else { return }
    let there = Set(c.entries.map(\.id))
    for id in ids where !there.contains(id) {
      fail("\(ref.name): message \(id) of an unbroken stream is missing")
    }
  }

  private func compare(_ sequence: UInt64, _ m: RecordMessage, _ c: ChannelModel) {
    guard sequence <= c.entries.count else {
      return fail("\(c.ref.name) \(sequence) came from nowhere")
    }
    if c.entries[Int(sequence) - 1].hash != m.frame.withUnsafeBytes({ xxh64($0) }) {
      fail("\(c.ref.name) \(sequence): bytes on disk changed")
    }
  }

  /// Each message once, each producer sequence once and in order, each epoch one commit.
  private func unique(_ c: ChannelModel) {
    struct Epoch: Hashable {
      var generation: UInt32
      var epoch: UInt64
    }
    var ids = Set<UInt64>()
    var epochs = Set<Epoch>()
    var producers: [UInt64: UInt64] = [:]
    var bySession: [SessionID: UInt64] = [:]
    for (i, e) in c.entries.enumerated().dropFirst(c.deleted) {
      if !ids.insert(e.id).inserted, e.mls != .commit || !forgetsCommits {
        fail("\(c.ref.name) \(i + 1): message \(e.id) stands twice")
      }
      if e.mls == .commit,
        !epochs.insert(Epoch(generation: e.generation, epoch: e.epoch)).inserted
      {
        fail("\(c.ref.name) \(i + 1): second commit of epoch \(e.generation)/\(e.epoch)")
      }
      if e.producer != 0 {
        if let last = producers[e.producer], e.producerSequence <= last {
          fail("\(c.ref.name) \(i + 1): producer sequence \(e.producerSequence) after \(last)")
        }
        producers[e.producer] = e.producerSequence
      }
      // A stream's messages stand in the order in which it sent them.
      if e.producer == 0, e.mls == .application, let s = senders(e.id).first {
        if let last = bySession[s], e.id < last {
          fail("\(c.ref.name) \(i + 1): message \(e.id) after \(last) of one stream")
        }
        bySession[s] = e.id
      }
    }
  }
}

/// Frames of the simulator: gRPC prefix, message id, filling that follows from the id, suffix.
enum SimFrame {
  static func make(id: UInt64, size: Int) -> Bytes {
    let length = 8 + size + Limits.suffixBytes
    return Bytes(count: RecordHeader.framePrefix + length) { b in
      b[0] = 0
      b.storeBytes(of: UInt32(length).bigEndian, toByteOffset: 1, as: UInt32.self)
      b.storeBytes(of: id.bigEndian, toByteOffset: 5, as: UInt64.self)
      for i in 0..<size { b[13 + i] = UInt8(truncatingIfNeeded: id &* 31 &+ UInt64(i)) }
      for i in b.count - 8..<b.count { b[i] = 0 }
    }
  }
  static func id(_ frame: Bytes) -> UInt64 {
    guard frame.count >= 13 else { return 0 }
    return UInt64(bigEndian: (frame.base + 5).loadUnaligned(as: UInt64.self))
  }
  static func suffix(_ frame: Bytes) -> UInt64 {
    UInt64(bigEndian: (frame.base + (frame.count - 8)).loadUnaligned(as: UInt64.self))
  }
}
