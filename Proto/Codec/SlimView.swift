public import Base

/// What a SLIM message of family A says, read in one pass without copying or allocating. Ranges are
/// offsets into the bytes it was read from.
///
/// Stricter than a plain decoder, because what passes is forwarded to readers with other runtimes:
/// known fields must have their wire type, text must be UTF-8 everywhere, a singular embedded
/// message may occur once, and a oneof may have one member (no encoder writes more, and readers
/// would disagree on the meaning). All else throws `malformed`. Repeated scalars: the last one
/// wins.
public struct SlimView: Sendable {
  public enum Kind: UInt8, Sendable {
    case none, subscribe, unsubscribe, publish, link, subscriptionAck
  }

  /// Where the payload of a publish stands.
  public enum Place: UInt8, Sendable {
    case none, application, groupAdd, groupRemove, groupWelcome, groupProposal, joinReply
  }

  public internal(set) var kind = Kind.none
  public internal(set) var hasHeader = false
  public internal(set) var source = SlimNameView()
  public internal(set) var destination = SlimNameView()
  public internal(set) var fanout: UInt32 = 0
  /// The `identity` text.
  public internal(set) var identity: Range<Int>?
  public internal(set) var isError = false
  /// The header asks a node to route it itself; never obeyed, stripped when forwarded.
  public internal(set) var hasRoutingCommand = false

  public internal(set) var subscriptionID: UInt64 = 0

  public internal(set) var sessionType: UInt32 = 0
  /// Names: `SlimView.messageTypeName`.
  public internal(set) var sessionMessageType: UInt32 = 0
  public internal(set) var sessionID: UInt32 = 0
  public internal(set) var messageID: UInt32 = 0

  public internal(set) var place = Place.none
  /// The payload's bytes; nil when there are none (or zero of them).
  public internal(set) var payload: Range<Int>?
  /// The `payload_type` text of an application payload.
  public internal(set) var payloadType: Range<Int>?
  /// Field number of the member of CommandPayload, 0 when there is none.
  public internal(set) var command: UInt32 = 0

  /// One message on the way to the payload, and the record in it that leads on.
  struct Level: Sendable {
    var body = 0..<0
    var record = 0..<0
    var tag: UInt32 = 0
  }
  /// From Message inwards; the last record holds the payload.
  var levels = InlineArray<6, Level>(repeating: Level())
  var depth = 0
  /// Tag, length and body of the publish's header.
  var headerRecord = 0..<0
  var headerBody = 0..<0
  /// Bytes of the header's records that are stripped.
  var strippedBytes = 0

  /// Reads a whole message.
  public init(_ bytes: UnsafeRawBufferPointer) throws(WireError) {
    var r = unsafe WireReader(bytes)
    try readMessage(&r)
    if let range = payload, range.isEmpty { payload = nil }
  }

  private mutating func readMessage(_ r: inout WireReader) throws(WireError) {
    let level = enter(r)
    while true {
      let start = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case 10, 18:
        try only(kind == .none)
        kind = tag == 10 ? .subscribe : .unsubscribe
        try r.inside { r throws(WireError) in try readSubscribe(&r) }
      case 26:
        try only(kind == .none)
        kind = .publish
        try r.inside { r throws(WireError) in try readPublish(&r) }
        leave(level, tag, start, r)
      case 42, 50:
        try only(kind == .none)
        kind = tag == 42 ? .link : .subscriptionAck
        try SlimShape.message.check(tag, &r)
      default: try SlimShape.message.check(tag, &r)
      }
    }
  }

  private mutating func readSubscribe(_ r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: try readHeader(&r)
      case 16: subscriptionID = try r.uint64()
      default: try SlimShape.subscribe.check(tag, &r)
      }
    }
  }

  private mutating func readPublish(_ r: inout WireReader) throws(WireError) {
    let level = enter(r)
    var (hasSession, hasContent) = (false, false)
    while true {
      let start = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case 10:
        try readHeader(&r)
        headerRecord = start..<r.position
      case 18:
        try only(!hasSession)
        hasSession = true
        try r.inside { r throws(WireError) in try readSession(&r) }
      case 26:
        try only(!hasContent)
        hasContent = true
        try r.inside { r throws(WireError) in try readContent(&r) }
        leave(level, tag, start, r)
      default: try SlimShape.publish.check(tag, &r)
      }
    }
  }

  // MARK: header and session

  private mutating func readHeader(_ r: inout WireReader) throws(WireError) {
    try only(!hasHeader)
    hasHeader = true
    try r.inside { r throws(WireError) in
      headerBody = r.position..<r.end
      while true {
        let start = r.position
        let tag = try r.nextTag()
        switch tag {
        case 0: return
        case 10: try source.read(&r)
        case 18: try destination.read(&r)
        case 24: fanout = try r.uint32()
        case 34: identity = try r.text()
        case 40, 48, 56:
          _ = try r.uint64()
          hasRoutingCommand = hasRoutingCommand || tag != 56
          strippedBytes += r.position - start
        case 64: isError = try r.bool()
        default: try SlimShape.header.check(tag, &r)
        }
      }
    }
  }

  private mutating func readSession(_ r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 8: sessionType = try r.uint32()
      case 16: sessionMessageType = try r.uint32()
      case 24: sessionID = try r.uint32()
      case 32: messageID = try r.uint32()
      default: try SlimShape.session.check(tag, &r)
      }
    }
  }

  // MARK: content

  private mutating func readContent(_ r: inout WireReader) throws(WireError) {
    let level = enter(r)
    var member: UInt32 = 0
    while true {
      let start = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case 10:
        try only(member == 0)
        member = tag
        try r.inside { r throws(WireError) in
          try readPayload(&r, .application, .application, tag: 18)
        }
        leave(level, tag, start, r)
      case 18:
        try only(member == 0)
        member = tag
        try r.inside { r throws(WireError) in try readCommand(&r) }
        leave(level, tag, start, r)
      default: try SlimShape.content.check(tag, &r)
      }
    }
  }

  private mutating func readCommand(_ r: inout WireReader) throws(WireError) {
    let level = enter(r)
    while true {
      let start = r.position
      let tag = try r.nextTag()
      if tag == 0 { return }
      if (1...14).contains(tag >> 3) {
        try only(command == 0)
        command = tag >> 3
      }
      switch tag {
      case 34:
        try r.inside { r throws(WireError) in try readPayload(&r, .joinReply, .joinReply, tag: 10) }
      case 58:
        try r.inside { r throws(WireError) in try readGroup(&r, .groupAdd, .groupChange, tag: 26) }
      case 66:
        try r.inside { r throws(WireError) in try readGroup(&r, .groupRemove, .groupChange, tag: 26)
        }
      case 74:
        try r.inside { r throws(WireError) in
          try readGroup(&r, .groupWelcome, .groupWelcome, tag: 18)
        }
      case 90:
        try r.inside { r throws(WireError) in
          try readPayload(&r, .groupProposal, .groupProposal, tag: 18)
        }
      default:
        try SlimShape.command.check(tag, &r)
        continue
      }
      leave(level, tag, start, r)
    }
  }

  /// A group command whose field `tag` is the MlsPayload.
  private mutating func readGroup(
    _ r: inout WireReader, _ place: Place, _ shape: SlimShape, tag wanted: UInt32
  ) throws(WireError) {
    let level = enter(r)
    var (hasMls, single) = (false, false)
    while true {
      let start = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case wanted:
        try only(!hasMls)
        hasMls = true
        try r.inside { r throws(WireError) in try readPayload(&r, place, .mls, tag: 18) }
        leave(level, tag, start, r)
      default:
        // Field 1 of a group change is singular, of a welcome repeated.
        if tag == 10, shape == .groupChange {
          try only(!single)
          single = true
        }
        try shape.check(tag, &r)
      }
    }
  }

  /// The innermost message: its field `wanted` is the payload.
  private mutating func readPayload(
    _ r: inout WireReader, _ place: Place, _ shape: SlimShape, tag wanted: UInt32
  ) throws(WireError) {
    let level = enter(r)
    while true {
      let start = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case wanted:
        payload = try r.delimited()
        self.place = place
        leave(level, tag, start, r)
      case 10 where shape == .application: payloadType = try r.text()
      default: try shape.check(tag, &r)
      }
    }
  }

  // MARK: the way to the payload

  private mutating func enter(_ r: WireReader) -> Int {
    let level = depth
    levels[level].body = r.position..<r.end
    depth += 1
    return level
  }

  /// The record that began at `start` leads on; what is deeper belongs to it.
  private mutating func leave(_ level: Int, _ tag: UInt32, _ start: Int, _ r: WireReader) {
    levels[level].record = start..<r.position
    levels[level].tag = tag
  }

  private func only(_ first: Bool) throws(WireError) {
    if !first { throw .malformed }
  }
}

/// A `Name`: what is there of its two forms.
public struct SlimNameView: Sendable {
  public internal(set) var isPresent = false
  public internal(set) var hasEncodedName = false
  /// The four components of the EncodedName; zero where absent.
  public internal(set) var components: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
  /// The whole StringName message.
  public internal(set) var stringName: Range<Int>?
  public internal(set) var org = 0..<0
  public internal(set) var namespace = 0..<0
  public internal(set) var service = 0..<0

  public var hasStringName: Bool { stringName != nil }

  /// The three parts as a channel's name; nil when they are not one. `bytes` are those the view was
  /// read from.
  public func channelName(in bytes: UnsafeRawBufferPointer) -> ChannelName? {
    guard hasStringName else { return nil }
    func text(_ range: Range<Int>) -> String {
      // Checked to be UTF-8 when it was read.
      unsafe String(decoding: UnsafeRawBufferPointer(rebasing: bytes[range]), as: UTF8.self)
    }
    return ChannelName(org: text(org), namespace: text(namespace), service: text(service))
  }

  mutating func read(_ r: inout WireReader) throws(WireError) {
    guard !isPresent else { throw .malformed }
    isPresent = true
    try r.inside { r throws(WireError) in
      while case let tag = try r.nextTag(), tag != 0 {
        switch tag {
        case 10: try readEncoded(&r)
        case 18: try readString(&r)
        default: try SlimShape.name.check(tag, &r)
        }
      }
    }
  }

  private mutating func readEncoded(_ r: inout WireReader) throws(WireError) {
    guard !hasEncodedName else { throw .malformed }
    hasEncodedName = true
    try r.inside { r throws(WireError) in
      while case let tag = try r.nextTag(), tag != 0 {
        switch tag {
        case 8: components.0 = try r.uint64()
        case 16: components.1 = try r.uint64()
        case 24: components.2 = try r.uint64()
        case 32: components.3 = try r.uint64()
        default: try SlimShape.encodedName.check(tag, &r)
        }
      }
    }
  }

  private mutating func readString(_ r: inout WireReader) throws(WireError) {
    guard !hasStringName else { throw .malformed }
    try r.inside { r throws(WireError) in
      stringName = r.position..<r.end
      while case let tag = try r.nextTag(), tag != 0 {
        switch tag {
        case 10: org = try r.text()
        case 18: namespace = try r.text()
        case 26: service = try r.text()
        default: try SlimShape.stringName.check(tag, &r)
        }
      }
    }
  }
}

extension SlimView {
  /// The name of a session message type of family A, for logs.
  public static func messageTypeName(_ type: UInt32) -> String {
    let i = Int(type)
    return i < messageTypeNames.count ? messageTypeNames[i] : "UNKNOWN_\(type)"
  }
  private static let messageTypeNames = [
    "UNSPECIFIED", "MSG", "MSG_ACK", "RTX_REQUEST", "RTX_REPLY", "DISCOVERY_REQUEST",
    "DISCOVERY_REPLY", "JOIN_REQUEST", "JOIN_REPLY", "LEAVE_REQUEST", "LEAVE_REPLY", "GROUP_ADD",
    "GROUP_REMOVE", "GROUP_WELCOME", "GROUP_CLOSE", "GROUP_PROPOSAL", "GROUP_ACK", "GROUP_NACK",
    "PING",
  ]
}
