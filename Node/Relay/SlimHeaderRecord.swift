import Base
import Codec
import Crypto

/// The header of a message that is on its way to receivers: what they need of it.
final class SlimHeaderRecord: Sendable {
  private let bytes: Bytes
  /// Offset of the MAC in the record; 0: family A.
  private let mac: Int
  /// Offset of the record in the last frame it was met in.
  private let start: Int
  let fanout: UInt32
  /// What a receiver's MAC is made of (family B).
  let hop: SlimHop?

  /// Worth keeping for the messages after it.
  var isShort: Bool { bytes.count <= Limits.slimKnownHeaderBytes }

  private init(
    _ record: UnsafeRawBufferPointer, at start: Int, _ header: SlimHeader, _ family: Family
  ) {
    bytes = unsafe Bytes(record)
    self.start = start
    fanout = header.fanout
    guard family == .slimB, let place = header.mac else {
      mac = 0
      hop = nil
      return
    }
    mac = place.lowerBound
    hop = unsafe SlimHop(SlimMac.rest(record: record, header: header, forNextHop: false))
  }

  /// The record of a frame that this node made: `known`, when it is that one again.
  static func of(
    _ frame: Bytes, _ family: Family, _ known: SlimHeaderRecord?
  ) -> (record: SlimHeaderRecord?, repeats: Bool) {
    unsafe frame.withUnsafeBytes { all in
      guard all.count > GrpcFrame.prefixBytes else { return (nil, false) }
      if let known, unsafe known.stands(in: all) { return (known, true) }
      let message = unsafe UnsafeRawBufferPointer(rebasing: all[GrpcFrame.prefixBytes...])
      let none = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
      guard let envelope = try? unsafe SlimEnvelope(message, family: family, knownHeader: none)
      else {
        return (nil, false)
      }
      let record = unsafe UnsafeRawBufferPointer(rebasing: message[envelope.headerRecord])
      let start = GrpcFrame.prefixBytes + envelope.headerRecord.lowerBound
      return (unsafe SlimHeaderRecord(record, at: start, envelope.header, family), false)
    }
  }

  /// The same header at the same place, but for the MAC, which each receiver gets anew. Only where the header is the
  /// publish's first record: elsewhere the same bytes may stand inside something else.
  private func stands(in frame: UnsafeRawBufferPointer) -> Bool {
    guard start + bytes.count <= frame.count, unsafe start == Self.firstRecord(of: frame) else {
      return false
    }
    let other = unsafe UnsafeRawBufferPointer(rebasing: frame[start..<start + bytes.count])
    return unsafe bytes.withUnsafeBytes { mine in
      guard mac > 0 else { return unsafe equal(mine, other, 0..<mine.count) }
      let after = mac + HoleFilling.bytes
      return unsafe equal(mine, other, 0..<mac) && equal(mine, other, after..<mine.count)
    }
  }

  /// Where the body of a message's publish begins, when that is its first record; nil when it is not.
  private static func firstRecord(of frame: UnsafeRawBufferPointer) -> Int? {
    var r = unsafe WireReader(frame, range: GrpcFrame.prefixBytes..<frame.count)
    guard (try? r.nextTag()) == 26, let body = try? r.delimited() else { return nil }
    return body.lowerBound
  }

  private func equal(
    _ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer, _ range: Range<Int>
  ) -> Bool {
    unsafe sameBytes(a, at: range.lowerBound, b, at: range.lowerBound, count: range.count)
  }

  /// The frame with its hole: from the archive it comes without.
  func holed(_ frame: Bytes) -> Bytes {
    if mac == 0 || frame.hole > 0 { return frame }
    let copy = unsafe frame.withUnsafeBytes { unsafe Bytes($0) }
    copy.makeHole(at: start + mac)
    return copy
  }
}
