internal import Base
internal import Digest

/// What a newer map has that an older one has not: slots and nodes that differ.
public struct RingChange: Hashable, Sendable {
  public struct Slot: Hashable, Sendable {
    public var slot: UInt16
    public var before: RingSlot
    public var after: RingSlot
  }
  /// Ascending by slot.
  public var slots: [Slot] = []
  public var nodesAdded: [RingNode] = []
  public var nodesRemoved: [RingNode] = []
  /// Weight, zone, region, name or state differ.
  public var nodesChanged: [(before: RingNode, after: RingNode)] {
    changedBefore.indices.map { (changedBefore[$0], changedAfter[$0]) }
  }
  var changedBefore: [RingNode] = []
  var changedAfter: [RingNode] = []

  public var isEmpty: Bool {
    slots.isEmpty && nodesAdded.isEmpty && nodesRemoved.isEmpty && changedBefore.isEmpty
  }
}

extension RingMap {
  /// What changed from `old` to this map. They must have equally many slots.
  public func changes(since old: RingMap) -> RingChange {
    precondition(slotBits == old.slotBits, "maps of 2^\(old.slotBits) and 2^\(slotBits) slots")
    var change = RingChange()
    for node in nodes {
      guard let before = old.node(node.id) else {
        change.nodesAdded.append(node)
        continue
      }
      if before != node {
        change.changedBefore.append(before)
        change.changedAfter.append(node)
      }
    }
    change.nodesRemoved = old.nodes.filter { node($0.id) == nil }
    for slot in 0..<slotCount where differs(slot, from: old) {
      let slot = UInt16(slot)
      change.slots.append(.init(slot: slot, before: old[slot], after: self[slot]))
    }
    return change
  }

  private func differs(_ slot: Int, from old: RingMap) -> Bool {
    if owners[slot] != old.owners[slot] || epochs[slot] != old.epochs[slot] { return true }
    if moves[UInt16(slot)] != old.moves[UInt16(slot)] { return true }
    return followers(of: slot) != old.followers(of: slot)
  }

  /// The bytes that make `old` this map: what is sent to a node that has `old`. A hand-over that ended takes some
  /// 40 bytes and the nodes.
  ///
  ///     u8 format (1) · u8 slot bits · u8 replicas · u32 CRC-32C of the old map's bytes · varint version,
  ///     revision · nodes · varint slots; each: u16 slot · row as in the map · u32 CRC-32C of all before
  public func encodedChanges(since old: RingMap) -> [UInt8] {
    precondition(slotBits == old.slotBits, "maps of 2^\(old.slotBits) and 2^\(slotBits) slots")
    var out = ByteWriter()
    out.append(RingMap.format)
    out.append(UInt8(slotBits))
    out.append(UInt8(replicas))
    out.append(bigEndian: crc32c(old.encoded))
    out.append(varint: version)
    out.append(varint: revision)
    RingNode.write(nodes, to: &out)
    let changed = (0..<slotCount).filter { differs($0, from: old) }
    out.append(varint: UInt64(changed.count))
    for slot in changed {
      out.append(bigEndian: UInt16(slot))
      writeRow(slot, to: &out)
    }
    out.append(bigEndian: crc32c(out.array))
    return out.array
  }

  /// The map that `bytes`, made by `encodedChanges`, make of this one. `otherBase`: ask for the whole map.
  public func applying(_ bytes: [UInt8]) throws(RingCodecError) -> RingMap {
    let body = try checked(bytes)
    let read: Result<RingMap, RingCodecError> = unsafe body.withUnsafeBytes { raw in
      var r = unsafe ByteReader(raw)
      do { return .success(try changed(from: &r)) } catch {
        return .failure((error as? RingCodecError) ?? .damaged)
      }
    }
    return try read.get()
  }

  private func changed(from r: inout ByteReader) throws -> RingMap {
    guard try r.byte() == RingMap.format else { throw RingCodecError.unknownFormat }
    let bits = Int(try r.byte())
    let copies = Int(try r.byte())
    let base = try r.bigEndian(UInt32.self)
    guard bits == slotBits, base == crc32c(encoded) else { throw RingCodecError.otherBase }
    guard (1...Limits.ringReplicas).contains(copies) else { throw RingCodecError.damaged }
    var next = self
    next.version = try r.varint()
    next.revision = try r.varint()
    guard next.revision > revision, next.version >= version else { throw RingCodecError.damaged }
    next.nodes = try RingNode.read(from: &r)
    next.widen(to: copies)
    var last = -1
    for _ in 0..<(try r.varint(atMost: slotCount)) {
      let slot = Int(try r.bigEndian(UInt16.self))
      guard slot > last, slot < slotCount else { throw RingCodecError.damaged }
      last = slot
      try next.readRow(slot, from: &r)
    }
    guard r.atEnd, next.namesOnlyItsNodes else { throw RingCodecError.damaged }
    return next
  }

  /// Whether every node that a slot names is one of `nodes`.
  private var namesOnlyItsNodes: Bool {
    let known = Set(nodes.map(\.id)).union([.none])
    return owners.allSatisfy(known.contains) && followers.allSatisfy(known.contains)
      && moves.values.allSatisfy { move in
        known.contains(move.target.owner) && move.target.followers.allSatisfy(known.contains)
      }
  }
}
