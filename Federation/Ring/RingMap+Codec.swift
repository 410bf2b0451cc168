internal import Base
internal import Digest

// The map in bytes, as nodes keep it on disk and send it:
//
//   u8 format (1) · u8 slot bits · u8 replicas · varint version, revision
//   varint nodes; each: u64 id · u8 state · varint weight · counted name, zone, region
//   each slot: row · u32 CRC-32C of all before
//   row: varint 2 x owner (1 + index of the node, 0: nobody) + (1: a move) · the followers in the same
//   form, 0 past the last · varint epoch · with a move: its owner, followers, varint attempt
//
// One form per map: what decodes encodes to the same bytes. A map of 4,096 slots on 10 nodes takes 16 KiB.

/// Why bytes are no map.
public enum RingCodecError: Error, Equatable, Sendable {
  case damaged
  /// Made by a later release, or by none.
  case unknownFormat
  /// The change is not of this map.
  case otherBase
}

extension RingMap {
  static let format: UInt8 = 1

  /// Whole map, with its checksum.
  public var encoded: [UInt8] {
    var out = ByteWriter(capacity: 32 << 10)
    out.append(RingMap.format)
    out.append(UInt8(slotBits))
    out.append(UInt8(replicas))
    out.append(varint: version)
    out.append(varint: revision)
    RingNode.write(nodes, to: &out)
    for slot in 0..<slotCount { writeRow(slot, to: &out) }
    out.append(bigEndian: crc32c(out.array))
    return out.array
  }

  /// Throws when the bytes are damaged, or break any bound or rule of a map.
  public init(_ bytes: [UInt8]) throws(RingCodecError) {
    let body = try checked(bytes)
    let read: Result<RingMap, RingCodecError> = unsafe body.withUnsafeBytes { raw in
      var r = unsafe ByteReader(raw)
      do { return .success(try RingMap(from: &r)) } catch {
        return .failure((error as? RingCodecError) ?? .damaged)
      }
    }
    self = try read.get()
  }

  private init(from r: inout ByteReader) throws {
    guard try r.byte() == RingMap.format else { throw RingCodecError.unknownFormat }
    let bits = Int(try r.byte())
    let copies = Int(try r.byte())
    guard Limits.ringSlotBits.contains(bits), (1...Limits.ringReplicas).contains(copies) else {
      throw RingCodecError.damaged
    }
    self.init(slotBits: bits, replicas: copies)
    version = try r.varint()
    revision = try r.varint()
    nodes = try RingNode.read(from: &r)
    for slot in 0..<slotCount { try readRow(slot, from: &r) }
    guard r.atEnd else { throw RingCodecError.damaged }
  }

  func writeRow(_ slot: Int, to out: inout ByteWriter) {
    let move = moves[UInt16(slot)]
    let owner = index(owners[slot])
    out.append(varint: UInt64(owner * 2 + (move == nil ? 0 : 1)))
    for i in 0..<replicas - 1 {
      out.append(varint: UInt64(index(followers[slot * (replicas - 1) + i])))
    }
    out.append(varint: epochs[slot])
    guard let move else { return }
    out.append(varint: UInt64(index(move.target.owner)))
    for i in 0..<replicas - 1 {
      let follower = i < move.target.followers.count ? move.target.followers[i] : .none
      out.append(varint: UInt64(index(follower)))
    }
    out.append(varint: move.attempt)
  }

  mutating func readRow(_ slot: Int, from r: inout ByteReader) throws {
    let first = try r.varint(atMost: nodes.count * 2 + 1)
    let placement = try readPlacement(owner: first / 2, from: &r)
    set(placement, of: slot)
    epochs[slot] = try r.varint()
    moves[UInt16(slot)] = nil
    if first & 1 == 0 { return }
    let target = try readPlacement(owner: r.varint(atMost: nodes.count), from: &r)
    let attempt = try r.varint()
    guard target.owner != .none, placement.owner != .none, target.owner != placement.owner,
      attempt <= revision
    else { throw RingCodecError.damaged }
    moves[UInt16(slot)] = RingMove(target: target, attempt: attempt)
  }

  /// Followers are distinct, none is the owner, and none comes after a gap.
  private func readPlacement(owner: Int, from r: inout ByteReader) throws -> Placement {
    var placement = Placement(owner: id(owner), followers: [])
    var ended = owner == 0
    for _ in 0..<replicas - 1 {
      let follower = id(try r.varint(atMost: nodes.count))
      if follower == .none {
        ended = true
      } else if ended || follower == placement.owner || placement.followers.contains(follower) {
        throw RingCodecError.damaged
      } else {
        placement.followers.append(follower)
      }
    }
    return placement
  }

  private func index(_ id: NodeID) -> Int {
    if id == .none { return 0 }
    guard let place = place(of: id) else {
      preconditionFailure("the map names \(id), not its node")
    }
    return place + 1
  }

  private func id(_ index: Int) -> NodeID { index == 0 ? .none : nodes[index - 1].id }
}

extension RingNode {
  /// A list of nodes on its own, as a staged change is kept: checksummed like a map.
  public static func encode(_ nodes: [RingNode]) -> [UInt8] {
    var out = ByteWriter()
    out.append(RingMap.format)
    write(nodes, to: &out)
    out.append(bigEndian: crc32c(out.array))
    return out.array
  }

  public static func decode(_ bytes: [UInt8]) throws(RingCodecError) -> [RingNode] {
    let body = try checked(bytes)
    let read: Result<[RingNode], RingCodecError> = unsafe body.withUnsafeBytes { raw in
      var r = unsafe ByteReader(raw)
      do {
        guard try r.byte() == RingMap.format else { return .failure(.unknownFormat) }
        let nodes = try RingNode.read(from: &r)
        return r.atEnd ? .success(nodes) : .failure(.damaged)
      } catch { return .failure(.damaged) }
    }
    return try read.get()
  }

  static func write(_ nodes: [RingNode], to out: inout ByteWriter) {
    out.append(varint: UInt64(nodes.count))
    for node in nodes {
      out.append(bigEndian: node.id.value)
      out.append(node.state.rawValue)
      out.append(varint: UInt64(node.weight))
      for text in [node.name, node.zone, node.region] { out.append(countedUTF8: text) }
    }
  }

  /// Ids ascend, names are distinct.
  static func read(from r: inout ByteReader) throws -> [RingNode] {
    var nodes: [RingNode] = []
    var names: Set<String> = []
    for _ in 0..<(try r.varint(atMost: Limits.ringNodes)) {
      let id = NodeID(try r.bigEndian(UInt64.self))
      guard let state = State(rawValue: try r.byte()) else { throw RingCodecError.damaged }
      let weight = try r.varint(atMost: Limits.nodeWeight)
      let name = try r.countedUTF8(atMost: Limits.nodeLabelBytes)
      let zone = try r.countedUTF8(atMost: Limits.nodeLabelBytes)
      let region = try r.countedUTF8(atMost: Limits.nodeLabelBytes)
      let node = RingNode(
        id: id, name: name, weight: weight, zone: zone, region: region, state: state)
      guard node.outOfBounds == nil, names.insert(name).inserted,
        nodes.last.map({ $0.id < id }) ?? true
      else { throw RingCodecError.damaged }
      nodes.append(node)
    }
    return nodes
  }
}

/// The bytes before their checksum.
func checked(_ bytes: [UInt8]) throws(RingCodecError) -> [UInt8] {
  guard bytes.count > 4 else { throw .damaged }
  let body = Array(bytes.dropLast(4))
  guard bigEndianBytes(crc32c(body)) == Array(bytes.suffix(4)) else { throw .damaged }
  return body
}
