public import Base

/// What a publish is changed in before it goes on, where nothing of it moves. Offsets count from its header's record.
public struct SlimPatch: Sendable {
  /// Family B: the ttl to write, where, and where the MAC stands; `mac` 0: family A, nothing changes.
  var ttl: UInt32 = 0
  var ttlPlace = 0..<0
  var mac = 0
}

/// Publishes as they go on to the next hop.
public enum SlimForward {
  /// The gRPC frame of a publish that goes on: every byte as it came, but recv_from, forward_to and incoming_conn
  /// are left out; in B the ttl is one lower and there is a header_mac of 32 bytes, zero for now, at `macOffset` of
  /// the frame (A: -1). It is as long for every receiver.
  ///
  /// `header` is the envelope's, or the one kept from earlier when that one is known. nil: not a publish with a
  /// header, larger than `Limits.messageBytes`, or no hop is left (`hasHopLeft`).
  public static func frame(
    _ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope, header: SlimHeader, family: Family
  ) -> (frame: Bytes, macOffset: Int)? {
    guard envelope.kind == .publish, !envelope.headerRecord.isEmpty,
      bytes.count <= Limits.messageBytes
    else { return nil }
    let isB = family == .slimB
    guard hasHopLeft(header, family) else { return nil }
    guard let patch = patch(header, family: family) else {
      return unsafe rebuilt(bytes, envelope, header, isB)
    }
    return unsafe again(bytes, headerAt: envelope.headerRecord.lowerBound, patch)
  }

  /// What to change in messages under this header; nil: something in them moves, or no hop is left.
  public static func patch(_ header: SlimHeader, family: Family) -> SlimPatch? {
    let isB = family == .slimB
    guard hasHopLeft(header, family), canPatch(header, isB) else { return nil }
    if !isB { return SlimPatch() }
    return SlimPatch(
      ttl: header.ttl - 1, ttlPlace: header.ttlPlace, mac: header.mac?.lowerBound ?? 0)
  }

  /// The same as `frame` for one more message under a header whose patch is known. `bytes` is a publish of at most
  /// `Limits.messageBytes`, `headerAt` the offset of that header's record in it.
  @inline(__always)
  public static func again(
    _ bytes: UnsafeRawBufferPointer, headerAt: Int, _ patch: SlimPatch
  ) -> (frame: Bytes, macOffset: Int) {
    let prefix = GrpcFrame.prefixBytes
    let start = prefix + headerAt
    let frame = unsafe Bytes(count: prefix + bytes.count) { buffer in
      unsafe GrpcFrame.writePrefix(bytes.count, to: buffer)
      unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[prefix...]).copyMemory(from: bytes)
      if patch.mac > 0 {
        var w = unsafe WireWriter(
          UnsafeMutableRawBufferPointer(rebasing: buffer[patch.ttlPlace.shifted(start)]))
        w.uint32(patch.ttl)
        let mac = start + patch.mac
        w = unsafe WireWriter(
          UnsafeMutableRawBufferPointer(rebasing: buffer[mac..<mac + SlimHeader.macBytes]))
        w.zeros(SlimHeader.macBytes)
      }
    }
    return (frame, patch.mac > 0 ? start + patch.mac : -1)
  }

  /// Whoever receives a message over a link takes one from its ttl and drops it at 0; so did this node. A has no ttl.
  public static func hasHopLeft(_ header: SlimHeader, _ family: Family) -> Bool {
    family != .slimB || header.ttl > 1
  }

  /// Nothing moves: there is nothing to leave out and everything to change is there once, in its final length.
  private static func canPatch(_ header: SlimHeader, _ isB: Bool) -> Bool {
    guard header.strippedBytes == 0 else { return false }
    if !isB { return true }
    return header.mac != nil && header.macCount == 1 && header.ttlCount == 1
      && WireSize.uint32(header.ttl - 1) == header.ttlPlace.count
  }

  private static func rebuilt(
    _ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope, _ header: SlimHeader, _ isB: Bool
  ) -> (frame: Bytes, macOffset: Int)? {
    let body = header.body.shifted(envelope.headerRecord.lowerBound)
    let kept = unsafe keptBytes(bytes, body, isB)
    var headerSize = kept
    if isB { headerSize += 1 + WireSize.uint32(header.ttl - 1) + macRecordBytes }
    let publishSize =
      envelope.body.count - envelope.headerRecord.count + 1 + WireSize.delimited(headerSize)
    let size = bytes.count - envelope.record.count + 1 + WireSize.delimited(publishSize)
    guard size <= Limits.messageBytes else { return nil }
    var macOffset = -1
    let frame = unsafe Bytes(count: GrpcFrame.prefixBytes + size) { buffer in
      unsafe GrpcFrame.writePrefix(size, to: buffer)
      var w = unsafe WireWriter(
        UnsafeMutableRawBufferPointer(rebasing: buffer[GrpcFrame.prefixBytes...]))
      unsafe w.raw(part(bytes, 0..<envelope.record.lowerBound))
      w.tag(26)
      w.length(publishSize)
      unsafe w.raw(part(bytes, envelope.body.lowerBound..<envelope.headerRecord.lowerBound))
      w.tag(10)
      w.length(headerSize)
      unsafe eachKept(bytes, body, isB) { unsafe w.raw(part(bytes, $0)) }
      if isB {
        w.tag(48)
        w.uint32(header.ttl - 1)
        w.tag(90)
        w.length(SlimHeader.macBytes)
        macOffset = GrpcFrame.prefixBytes + w.position
        w.zeros(SlimHeader.macBytes)
      }
      unsafe w.raw(part(bytes, envelope.headerRecord.upperBound..<envelope.body.upperBound))
      unsafe w.raw(part(bytes, envelope.record.upperBound..<bytes.count))
      precondition(w.position == size, "a forwarded message is smaller than its computed size")
    }
    return (frame, macOffset)
  }

  /// Tag, length and value of a MAC.
  private static var macRecordBytes: Int { 2 + SlimHeader.macBytes }

  private static func keptBytes(
    _ bytes: UnsafeRawBufferPointer, _ body: Range<Int>, _ isB: Bool
  ) -> Int {
    var n = 0
    unsafe eachKept(bytes, body, isB) { n += $0.count }
    return n
  }

  /// Calls `keep` for every record of a header that goes on as it is, in order. The header was read before.
  private static func eachKept(
    _ bytes: UnsafeRawBufferPointer, _ body: Range<Int>, _ isB: Bool, _ keep: (Range<Int>) -> Void
  ) {
    var r = unsafe WireReader(bytes, range: body)
    while true {
      let start = r.position
      guard let tag = try? r.nextTag(), tag != 0, (try? r.skip(tag)) != nil else { return }
      let field = tag >> 3
      // B: ttl, recv_from, forward_to, incoming_conn, header_mac. A: the middle three.
      let leftOut = isB ? (6...9).contains(field) || field == 11 : (5...7).contains(field)
      if !leftOut { keep(start..<r.position) }
    }
  }

  private static func part(
    _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>
  ) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
  }
}
