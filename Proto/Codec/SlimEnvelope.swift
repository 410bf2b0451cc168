public import Base

/// What a SLIM message of either family says, read in one pass without copying or allocating. Ranges are offsets
/// into the bytes it was read from, those of `header` into its record.
///
/// As strict as `SlimView`, because what passes is forwarded to decoders that end their stream when they choke:
/// known fields must have their wire type, text must be UTF-8, a singular embedded message may occur once, and a
/// oneof may have one member. All else throws. Unknown fields pass. Repeated scalars: the last one wins.
public struct SlimEnvelope: Sendable {
  public enum Kind: UInt8, Sendable {
    case none, subscribe, unsubscribe, publish, link, subscriptionAck
  }

  public internal(set) var kind = Kind.none
  /// Tag, length and body of the header; empty when there is none.
  public internal(set) var headerRecord = 0..<0
  /// The header's record equals `knownHeader`: `header` was not read, the caller has the earlier one.
  public internal(set) var headerIsKnown = false
  public internal(set) var header = SlimHeader()
  /// Of subscribe, unsubscribe and subscriptionAck.
  public internal(set) var subscriptionID: UInt64 = 0

  public internal(set) var sessionType: UInt32 = 0
  /// Names: `SlimNames`.
  public internal(set) var messageType: UInt32 = 0
  public internal(set) var sessionID: UInt32 = 0
  public internal(set) var messageID: UInt32 = 0

  /// Of an application payload; nil when there are none, or zero, of them.
  public internal(set) var payloadType: Range<Int>?
  public internal(set) var payload: Range<Int>?
  /// Field number of the member of CommandPayload, 0 when there is none.
  public internal(set) var command: UInt32 = 0
  public internal(set) var link = SlimLink()

  /// Of a publish: tag, length and body, and the body alone.
  var record = 0..<0
  var body = 0..<0

  /// Reads a whole message. `knownHeader`: the header's record of an earlier message of the same family that was
  /// accepted, or empty. Family `skytale` is A.
  public init(
    _ bytes: UnsafeRawBufferPointer, family: Family, knownHeader: UnsafeRawBufferPointer
  ) throws(WireError) {
    var r = unsafe WireReader(bytes)
    try unsafe readMessage(&r, family == .slimB, bytes, knownHeader)
  }

  private mutating func readMessage(
    _ r: inout WireReader, _ isB: Bool, _ bytes: UnsafeRawBufferPointer,
    _ known: UnsafeRawBufferPointer
  ) throws(WireError) {
    while true {
      let start = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case 26:
        guard kind == .none else { throw .malformed }
        kind = .publish
        let outer = try r.enter()
        body = r.position..<r.end
        try unsafe readPublish(&r, isB, bytes, known)
        r.leave(outer)
        record = start..<r.position
      case 10, 18:
        guard kind == .none else { throw .malformed }
        kind = tag == 10 ? .subscribe : .unsubscribe
        try unsafe readSubscribe(&r, isB, bytes, known)
      case 42:
        guard kind == .none else { throw .malformed }
        kind = .link
        try readLink(&r, isB)
      case 50:
        guard kind == .none else { throw .malformed }
        kind = .subscriptionAck
        try readAck(&r)
      default: try SlimShape.message.check(tag, &r)
      }
    }
  }

  private mutating func readPublish(
    _ r: inout WireReader, _ isB: Bool, _ bytes: UnsafeRawBufferPointer,
    _ known: UnsafeRawBufferPointer
  ) throws(WireError) {
    var (hasSession, hasContent) = (false, false)
    while true {
      let start = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case 10: try unsafe readHeader(&r, isB, start, bytes, known)
      case 18:
        guard !hasSession else { throw .malformed }
        hasSession = true
        try readSession(&r)
      case 26:
        guard !hasContent else { throw .malformed }
        hasContent = true
        try readContent(&r, isB)
      default: try SlimShape.publish.check(tag, &r)
      }
    }
  }

  private mutating func readSubscribe(
    _ r: inout WireReader, _ isB: Bool, _ bytes: UnsafeRawBufferPointer,
    _ known: UnsafeRawBufferPointer
  ) throws(WireError) {
    let outer = try r.enter()
    while true {
      let start = r.position
      let tag = try r.nextTag()
      if tag == 0 { break }
      switch tag {
      case 10: try unsafe readHeader(&r, isB, start, bytes, known)
      case 16: subscriptionID = try r.uint64()
      default: try SlimShape.subscribe.check(tag, &r)
      }
    }
    r.leave(outer)
  }

  private mutating func readHeader(
    _ r: inout WireReader, _ isB: Bool, _ start: Int, _ bytes: UnsafeRawBufferPointer,
    _ known: UnsafeRawBufferPointer
  ) throws(WireError) {
    guard headerRecord.isEmpty else { throw .malformed }
    if unsafe !known.isEmpty, r.end - start >= known.count,
      unsafe sameBytes(bytes, at: start, known, at: 0, count: known.count)
    {
      headerIsKnown = true
      r.skip(to: start + known.count)
    } else {
      try header.read(&r, isB: isB, start: start)
    }
    headerRecord = start..<r.position
  }

  private mutating func readSession(_ r: inout WireReader) throws(WireError) {
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 8: sessionType = try r.uint32()
      case 16: messageType = try r.uint32()
      case 24: sessionID = try r.uint32()
      case 32: messageID = try r.uint32()
      default: try SlimShape.session.check(tag, &r)
      }
    }
    r.leave(outer)
  }

  private mutating func readContent(_ r: inout WireReader, _ isB: Bool) throws(WireError) {
    var hasMember = false
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10:
        guard !hasMember else { throw .malformed }
        hasMember = true
        try readApplication(&r)
      case 18:
        guard !hasMember else { throw .malformed }
        hasMember = true
        try readCommand(&r, isB)
      default: try SlimShape.content.check(tag, &r)
      }
    }
    r.leave(outer)
  }

  private mutating func readApplication(_ r: inout WireReader) throws(WireError) {
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10:
        let range = try r.text()
        payloadType = range.isEmpty ? nil : range
      case 18:
        let range = try r.delimited()
        payload = range.isEmpty ? nil : range
      default: try SlimShape.application.check(tag, &r)
      }
    }
    r.leave(outer)
  }

  private mutating func readCommand(_ r: inout WireReader, _ isB: Bool) throws(WireError) {
    let shape: SlimShape = isB ? .commandB : .command
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      if case .message = shape.field(tag >> 3) {
        guard command == 0 else { throw .malformed }
        command = tag >> 3
      }
      try shape.check(tag, &r)
    }
    r.leave(outer)
  }

  private mutating func readAck(_ r: inout WireReader) throws(WireError) {
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 8: subscriptionID = try r.uint64()
      default: try SlimShape.ack.check(tag, &r)
      }
    }
    r.leave(outer)
  }

  private mutating func readLink(_ r: inout WireReader, _ isB: Bool) throws(WireError) {
    var hasNegotiation = false
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10:
        guard !hasNegotiation else { throw .malformed }
        hasNegotiation = true
        try link.read(&r, isB: isB)
      default: try SlimShape.link.check(tag, &r)
      }
    }
    r.leave(outer)
  }
}

/// A LinkNegotiation. All of it is read in both families, because it is what tells them apart: a link with a public
/// key is B's.
public struct SlimLink: Sendable {
  public internal(set) var linkID = 0..<0
  /// The sender's SLIM version.
  public internal(set) var version = 0..<0
  public internal(set) var isReply = false
  /// X25519, exactly 32 bytes; nil when absent or of another length.
  public internal(set) var publicKey: Range<Int>?
  /// 0 remote, 1 peer, 2 edge.
  public internal(set) var connectionType: UInt32 = 0
  public internal(set) var nodeID = 0..<0
  /// ML-KEM-768 key or ciphertext: the sender would agree on a hybrid key.
  public internal(set) var kemKey: Range<Int>?

  mutating func read(_ r: inout WireReader, isB: Bool) throws(WireError) {
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: linkID = try r.text()
      case 18: version = try r.text()
      case 24: isReply = try r.bool()
      case 34:
        let range = try r.delimited()
        publicKey = range.count == 32 ? range : nil
      case 40: connectionType = try r.uint32()
      // In A an unknown field, which may hold anything.
      case 50 where isB: nodeID = try r.text()
      case 66:
        let range = try r.delimited()
        kemKey = range.isEmpty ? nil : range
      default: try (isB ? SlimShape.negotiationB : SlimShape.negotiation).check(tag, &r)
      }
    }
    r.leave(outer)
  }
}

extension WireReader {
  /// Steps forward inside the message, over what is known to be whole.
  mutating func skip(to position: Int) {
    precondition(position >= at && position <= limit, "a step outside the message")
    at = position
  }
}

extension SlimEnvelope {
  /// Of a group's session.
  public var isMulticast: Bool { sessionType == 2 }

  /// A message of a group to all of it. A message_id above 31 bits is one to a single member.
  public var isToGroup: Bool {
    isMulticast && messageType == SlimNames.message && messageID <= 0x7fff_ffff
  }

  /// GROUP_ADD, GROUP_REMOVE, GROUP_CLOSE, GROUP_PROPOSAL of A; GROUP_UPDATE, GROUP_CLOSE, GROUP_PROPOSAL of B.
  public func changesGroup(_ family: Family) -> Bool {
    guard isMulticast else { return false }
    switch messageType {
    case 11, 14: return true
    case 12, 15: return family != .slimB
    case 13: return family == .slimB
    default: return false
    }
  }
}
