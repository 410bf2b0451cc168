/// The messages of `dataplane.proto.v1` (both families), as far as one must know them to tell whether a
/// receiver will be able to decode a message.
///
/// Receivers' runtimes differ: some skip a known field with an unexpected wire type, the agents'
/// one ends the stream. So a relay must let nothing through that any of them chokes on.
enum SlimShape {
  case message, subscribe, ack, link, negotiation, publish, header, name, encodedName, stringName
  case session, content, application, command, discovery, joinRequest, joinReply, groupChange
  case groupWelcome, groupClose, groupProposal, empty, mls, timer, entry
  // Family B, where it differs: SlimShapeB.swift.
  case headerB, encodedNameB, nameID, nameB, negotiationB, commandB, joinRequestB, joinReplyB
  case participant, participantSettings, mlsSettings, groupUpdate, groupWelcomeB, groupCloseB
  case groupProposalB, heartbeat, participantState, rejoinRequest, rejoinReply

  enum Field {
    case unknown, varint, text, bytes
    case message(SlimShape)
  }

  func field(_ number: UInt32) -> Field {
    switch (self, number) {
    case (.message, 1), (.message, 2): .message(.subscribe)
    case (.message, 3): .message(.publish)
    case (.message, 4): .message(.entry)
    case (.message, 5): .message(.link)
    case (.message, 6): .message(.ack)
    case (.subscribe, 1): .message(.header)
    case (.subscribe, 2): .varint
    case (.ack, 1), (.ack, 2): .varint
    case (.ack, 3): .text
    case (.link, 1): .message(.negotiation)
    case (.negotiation, 1), (.negotiation, 2): .text
    case (.negotiation, 3): .varint
    case (.publish, 1): .message(.header)
    case (.publish, 2): .message(.session)
    case (.publish, 3): .message(.content)
    case (.header, 1), (.header, 2): .message(.name)
    case (.header, 4): .text
    case (.header, 3), (.header, 5...8): .varint
    case (.name, 1): .message(.encodedName)
    case (.name, 2): .message(.stringName)
    case (.encodedName, 1...4): .varint
    case (.stringName, 1...3): .text
    case (.session, 1...4): .varint
    case (.content, 1): .message(.application)
    case (.content, 2): .message(.command)
    case (.application, 1): .text
    case (.application, 2): .bytes
    case (.entry, 1), (.entry, 2): .text
    default: commandField(number)
    }
  }

  private func commandField(_ number: UInt32) -> Field {
    switch (self, number) {
    case (.command, 1), (.command, 5): .message(.discovery)
    case (.command, 3): .message(.joinRequest)
    case (.command, 4): .message(.joinReply)
    case (.command, 7), (.command, 8): .message(.groupChange)
    case (.command, 9): .message(.groupWelcome)
    case (.command, 10): .message(.groupClose)
    case (.command, 11): .message(.groupProposal)
    case (.command, 2), (.command, 6), (.command, 12...14): .message(.empty)
    case (.discovery, 1): .message(.name)
    case (.joinRequest, 1): .varint
    case (.joinRequest, 2): .message(.timer)
    case (.joinRequest, 3): .message(.name)
    case (.joinReply, 1): .bytes
    case (.groupChange, 1), (.groupChange, 2): .message(.name)
    case (.groupChange, 3), (.groupWelcome, 2): .message(.mls)
    case (.groupWelcome, 1), (.groupClose, 1): .message(.name)
    case (.groupProposal, 1): .message(.name)
    case (.groupProposal, 2): .bytes
    case (.mls, 1): .varint
    case (.mls, 2): .bytes
    case (.timer, 1), (.timer, 2): .varint
    default: fieldB(number)
    }
  }

  /// Reads the value behind `tag` and refuses what a receiver could not decode. Unknown fields
  /// pass.
  func check(_ tag: UInt32, _ r: inout WireReader) throws(WireError) {
    let type = tag & 7
    switch field(tag >> 3) {
    case .unknown: try r.skip(tag)
    case .varint:
      guard type == WireType.varint else { throw .malformed }
      _ = try r.uint64()
    case .bytes:
      guard type == WireType.delimited else { throw .malformed }
      _ = try r.delimited()
    case .text:
      guard type == WireType.delimited else { throw .malformed }
      _ = try r.text()
    case .message(let shape):
      guard type == WireType.delimited else { throw .malformed }
      // The schema is no deeper than eight levels, so this ends.
      try r.inside { r throws(WireError) in
        var seen: UInt64 = 0
        while case let tag = try r.nextTag(), tag != 0 {
          guard shape.isFirst(tag >> 3, &seen) else { throw .malformed }
          try shape.check(tag, &r)
        }
      }
    }
  }
}

extension WireReader {
  /// The offsets of a text, which must be UTF-8. Allocates nothing.
  mutating func text() throws(WireError) -> Range<Int> {
    let range = try delimited()
    guard unsafe isUTF8(UnsafeRawBufferPointer(rebasing: whole[range])) else { throw .malformed }
    return range
  }

  /// Reads an embedded message with `body`, which must use it up.
  mutating func inside(
    _ body: (inout WireReader) throws(WireError) -> Void
  ) throws(WireError) {
    let range = try delimited()
    let outer = limit
    (at, limit) = (range.lowerBound, range.upperBound)
    try body(&self)
    (at, limit) = (range.upperBound, outer)
  }
}

/// True for well-formed UTF-8 (RFC 3629). Allocates nothing.
func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
  var high: UInt8 = 0
  for i in 0..<bytes.count { high |= unsafe bytes[i] }
  if high < 0x80 { return true }
  var decoder = UTF8()
  var iterator = unsafe bytes.makeIterator()
  while true {
    switch unsafe decoder.decode(&iterator) {
    case .scalarValue: continue
    case .emptyInput: return true
    case .error: return false
    }
  }
}
