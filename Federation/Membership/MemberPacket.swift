public import Base
internal import Digest

/// What one packet says, besides the updates that ride on it.
public enum MemberMessage: Hashable, Sendable {
  /// Are you `target`, and there? Only `target` answers.
  case ping(sequence: UInt32, target: NodeID)
  case ack(sequence: UInt32)
  /// Who was asked to ping for another has no answer yet; but is there itself.
  case nack(sequence: UInt32)
  /// Ping that member for me, and send me its `ack` as one of this sequence.
  case pingRequest(sequence: UInt32, target: NodeID, address: String)
  /// Only the updates.
  case gossip
  /// A part of all that the sender knows, as updates. `answer`: send what you know, too.
  case sync(answer: Bool)
}

/// A packet of membership: a value. It goes inside a mutual-TLS link, or sealed under the cluster's key: who can make one
/// is a member.
public struct MemberPacket: Hashable, Sendable {
  /// The sender as it shows itself.
  public var sender: Member
  public var message: MemberMessage
  /// At most `Limits.memberUpdates`.
  public var updates: [MemberUpdate]

  public init(sender: Member, message: MemberMessage, updates: [MemberUpdate] = []) {
    self.sender = sender
    self.message = message
    self.updates = updates
  }
}

// The packet in bytes, at most `Limits.memberPacketBytes`:
//
//   u8 format (1) · member: the sender · u8 kind · what the kind has · u8 updates; each: member · u64 by
//   u32 CRC-32C of all before
//   member: u64 id · u8 state · varint incarnation · counted address

extension MemberPacket {
  static let format: UInt8 = 1
  /// Format, kind, count, checksum, and the most that a kind has.
  static let overhead = 7 + 4 + 8 + 2 + Limits.memberAddressBytes

  public var encoded: [UInt8] {
    var out = ByteWriter(capacity: 512)
    out.append(MemberPacket.format)
    sender.write(to: &out)
    switch message {
    case .ping(let sequence, let target):
      out.append(1)
      out.append(bigEndian: sequence)
      out.append(bigEndian: target.value)
    case .ack(let sequence):
      out.append(2)
      out.append(bigEndian: sequence)
    case .nack(let sequence):
      out.append(3)
      out.append(bigEndian: sequence)
    case .pingRequest(let sequence, let target, let address):
      out.append(4)
      out.append(bigEndian: sequence)
      out.append(bigEndian: target.value)
      out.append(countedUTF8: address)
    case .gossip: out.append(5)
    case .sync(let answer): out.append(answer ? 7 : 6)
    }
    out.append(UInt8(updates.count))
    for update in updates {
      update.member.write(to: &out)
      out.append(bigEndian: update.by.value)
    }
    out.append(bigEndian: crc32c(out.array))
    return out.array
  }

  /// nil when the bytes are damaged, of another format, or break a bound.
  public init?(_ bytes: [UInt8]) {
    guard bytes.count > 4, bytes.count <= Limits.memberPacketBytes else { return nil }
    let body = Array(bytes.dropLast(4))
    guard bigEndianBytes(crc32c(body)) == Array(bytes.suffix(4)) else { return nil }
    let read: MemberPacket? = unsafe body.withUnsafeBytes { raw in
      var r = unsafe ByteReader(raw)
      guard let packet = try? MemberPacket(from: &r), r.atEnd else { return nil }
      return packet
    }
    guard let read else { return nil }
    self = read
  }

  private init(from r: inout ByteReader) throws(ReadError) {
    guard try r.byte() == MemberPacket.format else { throw .malformed }
    sender = try Member(from: &r)
    // Who sends lives, leaves, or was forgotten without knowing.
    guard sender.state == .alive || sender.state == .left else { throw .malformed }
    switch try r.byte() {
    case 1:
      message = .ping(
        sequence: try r.bigEndian(UInt32.self), target: NodeID(try r.bigEndian(UInt64.self)))
    case 2: message = .ack(sequence: try r.bigEndian(UInt32.self))
    case 3: message = .nack(sequence: try r.bigEndian(UInt32.self))
    case 4:
      message = .pingRequest(
        sequence: try r.bigEndian(UInt32.self), target: NodeID(try r.bigEndian(UInt64.self)),
        address: try r.countedUTF8(atMost: Limits.memberAddressBytes))
    case 5: message = .gossip
    case 6: message = .sync(answer: false)
    case 7: message = .sync(answer: true)
    default: throw .malformed
    }
    updates = []
    for _ in 0..<(try r.byte()) {
      let member = try Member(from: &r)
      updates.append(MemberUpdate(member, by: NodeID(try r.bigEndian(UInt64.self))))
    }
    guard updates.count <= Limits.memberUpdates else { throw .malformed }
  }
}

extension Member {
  func write(to out: inout ByteWriter) {
    out.append(bigEndian: id.value)
    out.append(state.rawValue)
    out.append(varint: incarnation)
    out.append(countedUTF8: address)
  }

  init(from r: inout ByteReader) throws(ReadError) {
    let id = NodeID(try r.bigEndian(UInt64.self))
    guard let state = MemberState(rawValue: try r.byte()) else { throw .malformed }
    let incarnation = try r.varint()
    let address = try r.countedUTF8(atMost: Limits.memberAddressBytes)
    self.init(id: id, address: address, incarnation: incarnation, state: state)
    if trouble != nil { throw .malformed }
  }

  /// Bytes of an update of this member.
  var updateBytes: Int { 8 + 1 + 7 + 2 + address.utf8.count + 8 }
}
