public import Base
internal import Codec
internal import Engine

// A kind, then the case's values in their order: integers big-endian, texts and bytes behind a u32 length, what is
// optional behind a mark.

extension LinkMail {
  public func write(_ w: inout ByteWriter) {
    switch self {
    case .opened(let session, let principal, let kind):
      w.append(UInt8(1))
      w.append(bigEndian: session.value)
      w.append(bigEndian: principal.tenant.value)
      w.append(bigEndian: principal.key.value)
      w.append(UInt8(principal.anonymous ? 1 : 0))
      w.append(kind.rawValue)
      w.append(text: principal.org)
    case .channel(let number, let family, let name):
      w.append(UInt8(2))
      w.append(bigEndian: number)
      w.append(family.rawValue)
      w.append(text: name)
    case .publish(let session, let channel, let p):
      w.append(3, session, channel)
      w.append(p)
    case .subscribe(let session, let channel, let start, let follow, let limit, let token):
      w.append(4, session, channel)
      w.append(start)
      w.append(UInt8(follow ? 1 : 0))
      w.append(bigEndian: limit)
      w.append(bigEndian: token)
    case .unsubscribe(let session, let channel): w.append(5, session, channel)
    case .credit(let session, let bytes):
      w.append(6, session)
      w.append(bigEndian: bytes)
    case .closed(let session): w.append(7, session)
    default: writeBack(&w)
    }
  }

  private func writeBack(_ w: inout ByteWriter) {
    switch self {
    case .deliver(let sessions, let channel, let delivery):
      w.append(UInt8(8))
      w.append(bigEndian: UInt32(sessions.count))
      for session in sessions { w.append(bigEndian: session.value) }
      w.append(bigEndian: channel)
      w.append(delivery)
    case .answer(let session, let channel, let token, let mls, let outcome):
      w.append(9, session, channel)
      w.append(bigEndian: token)
      w.append(mls.rawValue)
      w.append(outcome)
    case .answers(let session, let channel, let token, let sequence, let count):
      w.append(23, session, channel)
      w.append(bigEndian: token)
      w.append(bigEndian: sequence)
      w.append(bigEndian: count)
    case .written(let session, let count):
      w.append(10, session)
      w.append(bigEndian: count)
    case .subscribed(let session, let channel, let token, let head, let fault):
      w.append(11, session, channel)
      w.append(bigEndian: token)
      w.append(bigEndian: head)
      w.append(UInt8(fault == nil ? 0 : 1))
      if let fault { w.append(fault) }
    case .readEnded(let session, let channel): w.append(12, session, channel)
    case .end(let session, let fault):
      w.append(13, session)
      w.append(fault)
    case .pause(let session): w.append(14, session)
    case .resume(let session): w.append(15, session)
    case .notOwner(let session, let channel, let token, let revision):
      w.append(16, session, channel)
      w.append(bigEndian: token)
      w.append(bigEndian: revision)
    default: writeSlim(&w)
    }
  }

  private func writeSlim(_ w: inout ByteWriter) {
    switch self {
    case .live(let message):
      w.append(UInt8(17))
      w.append(message.family.rawValue)
      w.append(message.destination)
      w.append(
        UInt8(
          (message.isAnycast ? 1 : 0) | (message.repeats ? 2 : 0)
            | (message.sender == nil ? 0 : 4)))
      w.append(bigEndian: message.sequence)
      if let sender = message.sender { w.append(bigEndian: sender.value) }
      w.append(bigEndian: message.hole)
      w.append(bigEndian: UInt32(message.hop.count))
      w.append(message.hop)
      w.append(frame: message.frame)
    case .interest(let list):
      w.append(UInt8(18))
      w.append(bigEndian: UInt32(list.count))
      for one in list {
        w.append(one.family.rawValue)
        w.append(one.name)
        w.append(bigEndian: one.count)
      }
    case .sync(let token):
      w.append(UInt8(19))
      w.append(bigEndian: token)
    case .synced(let token):
      w.append(UInt8(20))
      w.append(bigEndian: token)
    case .slimReplay(let session, let family, let name):
      w.append(21, session)
      w.append(family.rawValue)
      w.append(name)
    case .slimReplayable(let session, let family, let name):
      w.append(22, session)
      w.append(family.rawValue)
      w.append(name)
    default: preconditionFailure("a kind of mail without a number")
    }
  }

  public init(_ r: inout ByteReader) throws(ReadError) {
    let kind = try r.byte()
    switch kind {
    case 1: self = try LinkMail.opened(&r)
    case 2:
      self = .channel(try r.bigEndian(), try r.family(), name: try r.text(Limits.channelNameBytes))
    case 3: self = .publish(try r.session(), channel: try r.bigEndian(), try r.publication())
    case 4:
      self = .subscribe(
        try r.session(), channel: try r.bigEndian(), start: try r.start(), follow: try r.mark(),
        limit: try r.bigEndian(), token: try r.bigEndian())
    case 5: self = .unsubscribe(try r.session(), channel: try r.bigEndian())
    case 6: self = .credit(try r.session(), bytes: try r.bigEndian())
    case 7: self = .closed(try r.session())
    case 8:
      let count = try r.count(each: 8)
      guard count > 0 else { throw .malformed }
      var sessions: [SessionID] = []
      sessions.reserveCapacity(count)
      for _ in 0..<count { sessions.append(try r.session()) }
      self = .deliver(sessions, channel: try r.bigEndian(), try r.delivery())
    case 9:
      self = .answer(
        try r.session(), channel: try r.bigEndian(), token: try r.bigEndian(), mls: try r.mls(),
        try r.outcome())
    case 10: self = .written(try r.session(), count: try r.bigEndian())
    case 11:
      self = .subscribed(
        try r.session(), channel: try r.bigEndian(), token: try r.bigEndian(),
        head: try r.bigEndian(), try r.mark() ? try r.fault() : nil)
    case 12: self = .readEnded(try r.session(), channel: try r.bigEndian())
    case 13: self = .end(try r.session(), try r.fault())
    case 14: self = .pause(try r.session())
    case 15: self = .resume(try r.session())
    case 16:
      self = .notOwner(
        try r.session(), channel: try r.bigEndian(), token: try r.bigEndian(),
        revision: try r.bigEndian())
    case 17: self = .live(try r.message())
    case 18: self = .interest(try r.interest())
    case 19: self = .sync(try r.bigEndian())
    case 20: self = .synced(try r.bigEndian())
    case 21: self = .slimReplay(try r.session(), try r.slimFamily(), try r.name())
    case 22: self = .slimReplayable(try r.session(), try r.slimFamily(), try r.name())
    case 23:
      self = .answers(
        try r.session(), channel: try r.bigEndian(), token: try r.bigEndian(),
        sequence: try r.bigEndian(), count: try r.bigEndian())
      if case .answers(_, _, _, _, let count) = self, count > Limits.linkAnswers {
        throw .malformed
      }
    default: throw .malformed
    }
  }

  private static func opened(_ r: inout ByteReader) throws(ReadError) -> LinkMail {
    let session = try r.session()
    let (tenant, key) = (TenantID(try r.bigEndian()), RecordID(try r.bigEndian()))
    let anonymous = try r.mark()
    guard let kind = SessionKind(rawValue: try r.byte()) else { throw .malformed }
    let org = try r.text(Limits.channelNameBytes)
    return .opened(
      session, Principal(tenant: tenant, org: org, key: key, anonymous: anonymous), kind)
  }
}

extension ByteWriter {
  fileprivate mutating func append(_ kind: UInt8, _ session: SessionID) {
    append(kind)
    append(bigEndian: session.value)
  }

  fileprivate mutating func append(_ kind: UInt8, _ session: SessionID, _ channel: UInt32) {
    append(kind, session)
    append(bigEndian: channel)
  }

  fileprivate mutating func append(text: String) {
    append(bigEndian: UInt32(text.utf8.count))
    append(utf8: text)
  }

  /// Without gRPC's prefix, which follows from its length.
  fileprivate mutating func append(frame: Bytes) {
    let prefix = RecordHeader.framePrefix
    append(bigEndian: UInt32(frame.count - prefix))
    unsafe frame.withUnsafeBytes {
      unsafe append(UnsafeRawBufferPointer(rebasing: $0[prefix...]))
    }
  }

  fileprivate mutating func append(_ p: Publication) {
    append(p.type)
    append(p.mls.rawValue)
    append(UInt8((p.hasSuffix ? 1 : 0) | (p.durability == .synced ? 2 : 0)))
    append(bigEndian: p.epoch)
    append(bigEndian: p.digest.0)
    append(bigEndian: p.digest.1)
    append(bigEndian: p.producer)
    append(bigEndian: p.producerSequence)
    append(bigEndian: p.token)
    append(frame: p.frame)
  }

  fileprivate mutating func append(_ d: Delivery) {
    append(d.type)
    append(d.mls.rawValue)
    append(UInt8((d.hasSuffix ? 1 : 0) | (d.publisher == nil ? 0 : 2)))
    append(bigEndian: d.generation)
    append(bigEndian: d.sequence)
    append(bigEndian: d.epoch)
    append(bigEndian: d.producer)
    append(bigEndian: d.producerSequence)
    append(bigEndian: d.wall.nanoseconds)
    append(bigEndian: d.publisher?.value ?? 0)
    append(frame: d.frame)
  }

  fileprivate mutating func append(_ start: Start) {
    let (kind, value): (UInt8, UInt64) =
      switch start {
      case .live: (0, 0)
      case .replay: (1, 0)
      case .last(let count): (2, count)
      case .sequence(let sequence): (3, sequence)
      }
    append(kind)
    append(bigEndian: value)
  }

  fileprivate mutating func append(_ fault: Fault) {
    append(text: fault.code.rawValue)
    // Never so long by itself; but it may hold what a peer sent.
    append(text: shortened(fault.detail))
  }

  /// At most `Limits.faultTextBytes`, cut between characters.
  private func shortened(_ text: String) -> String {
    guard text.utf8.count > Limits.faultTextBytes else { return text }
    for spare in 0..<4 {
      if let part = String(text.utf8.prefix(Limits.faultTextBytes - spare)) { return part }
    }
    return ""
  }

  fileprivate mutating func append(_ outcome: LinkOutcome) {
    switch outcome {
    case .accepted(let sequence, let duplicate):
      append(UInt8(duplicate ? 2 : 1))
      append(bigEndian: sequence)
    case .refused(let fault, let winner):
      append(UInt8(3))
      append(bigEndian: winner)
      append(fault)
    }
  }

  fileprivate mutating func append(_ name: SlimName) {
    for word in [name.c0, name.c1, name.c2, name.idHigh, name.idLow] { append(bigEndian: word) }
  }
}

extension ByteReader {
  fileprivate mutating func session() throws(ReadError) -> SessionID { SessionID(try bigEndian()) }

  fileprivate mutating func mark() throws(ReadError) -> Bool {
    let byte = try byte()
    guard byte < 2 else { throw .malformed }
    return byte == 1
  }

  /// How many of `each` bytes follow; no more than there are bytes for.
  fileprivate mutating func count(each: Int) throws(ReadError) -> Int {
    let count = Int(try bigEndian(UInt32.self))
    guard count <= remaining / each else { throw .truncated }
    return count
  }

  fileprivate mutating func text(_ most: Int) throws(ReadError) -> String {
    let bytes = try array(try count(each: 1))
    guard bytes.count <= most, let text = String(validating: bytes, as: UTF8.self) else {
      throw .malformed
    }
    return text
  }

  fileprivate mutating func family() throws(ReadError) -> Family {
    guard let family = Family(rawValue: try byte()) else { throw .malformed }
    return family
  }

  fileprivate mutating func mls() throws(ReadError) -> MLSKind {
    guard let kind = MLSKind(rawValue: try byte()) else { throw .malformed }
    return kind
  }

  /// With gRPC's prefix before it.
  fileprivate mutating func frame() throws(ReadError) -> Bytes {
    let length = Int(try bigEndian(UInt32.self))
    guard length <= Limits.messageBytes else { throw .malformed }
    let part = try unsafe take(length)
    let prefix = GrpcFrame.prefixBytes
    return unsafe Bytes(count: prefix + length) { buffer in
      unsafe GrpcFrame.writePrefix(length, to: buffer)
      unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[prefix...]).copyMemory(from: part)
    }
  }

  /// A frame whose last bytes take the sequence must have them.
  private func suffixed(_ frame: Bytes, _ marks: UInt8) throws(ReadError) -> Bool {
    guard marks < 4 else { throw .malformed }
    guard marks & 1 != 0 else { return false }
    guard frame.count >= GrpcFrame.prefixBytes + Limits.suffixBytes else { throw .malformed }
    return true
  }

  fileprivate mutating func publication() throws(ReadError) -> Publication {
    let (type, kind, marks) = (try byte(), try mls(), try byte())
    let epoch = try bigEndian(UInt64.self)
    let digest = (try bigEndian(UInt64.self), try bigEndian(UInt64.self))
    let (producer, number) = (try bigEndian(UInt64.self), try bigEndian(UInt64.self))
    let token = try bigEndian(UInt64.self)
    let frame = try frame()
    return Publication(
      frame: frame, hasSuffix: try suffixed(frame, marks), type: type, mls: kind, epoch: epoch,
      digest: digest, producer: producer, producerSequence: number,
      durability: marks & 2 != 0 ? .synced : .written, token: token)
  }

  fileprivate mutating func delivery() throws(ReadError) -> Delivery {
    let (type, kind, marks) = (try byte(), try mls(), try byte())
    let generation = try bigEndian(UInt32.self)
    let (sequence, epoch) = (try bigEndian(UInt64.self), try bigEndian(UInt64.self))
    let (producer, number) = (try bigEndian(UInt64.self), try bigEndian(UInt64.self))
    let wall = Instant(nanoseconds: try bigEndian())
    let publisher = try session()
    let frame = try frame()
    return Delivery(
      sequence: sequence, frame: frame, type: type, mls: kind, epoch: epoch,
      generation: generation, producer: producer, producerSequence: number, wall: wall,
      hasSuffix: try suffixed(frame, marks), publisher: marks & 2 != 0 ? publisher : nil)
  }

  fileprivate mutating func start() throws(ReadError) -> Start {
    let (kind, value) = (try byte(), try bigEndian(UInt64.self))
    switch kind {
    case 0 where value == 0: return .live
    case 1 where value == 0: return .replay
    case 2: return .last(value)
    case 3: return .sequence(value)
    default: throw .malformed
    }
  }

  /// One that this version does not know is `internal`, with its name.
  fileprivate mutating func fault() throws(ReadError) -> Fault {
    let (name, detail) = (try text(Limits.faultTextBytes), try text(Limits.faultTextBytes))
    guard let code = FaultCode(rawValue: name) else {
      return Fault(.internal, detail.isEmpty ? name : "\(name): \(detail)")
    }
    return Fault(code, detail)
  }

  fileprivate mutating func outcome() throws(ReadError) -> LinkOutcome {
    let kind = try byte()
    let number = try bigEndian(UInt64.self)
    switch kind {
    case 1, 2: return .accepted(sequence: number, duplicate: kind == 2)
    case 3: return .refused(try fault(), winner: number)
    default: throw .malformed
    }
  }

  fileprivate mutating func name() throws(ReadError) -> SlimName {
    SlimName(
      c0: try bigEndian(), c1: try bigEndian(), c2: try bigEndian(), idHigh: try bigEndian(),
      idLow: try bigEndian())
  }

  fileprivate mutating func slimFamily() throws(ReadError) -> Family {
    let family = try family()
    guard family != .skytale else { throw .malformed }
    return family
  }

  fileprivate mutating func message() throws(ReadError) -> LinkMessage {
    let (family, name, marks) = (try slimFamily(), try name(), try byte())
    guard marks < 8 else { throw .malformed }
    let sequence = try bigEndian(UInt64.self)
    let sender = marks & 4 != 0 ? try session() : nil
    let hole = try bigEndian(UInt32.self)
    let hop = try array(try count(each: 1))
    let frame = try frame()
    // Family B signs each hop, family A none; the hole lies inside the message.
    let end = Int(hole) + HoleFilling.bytes
    guard
      family == .slimB
        ? hole >= GrpcFrame.prefixBytes && end <= frame.count : hole == 0 && hop.isEmpty
    else { throw .malformed }
    return LinkMessage(
      family: family, destination: name, isAnycast: marks & 1 != 0, repeats: marks & 2 != 0,
      hole: hole, hop: hop, frame: frame, sequence: sequence, sender: sender)
  }

  fileprivate mutating func interest() throws(ReadError) -> [LinkInterest] {
    var list: [LinkInterest] = []
    for _ in 0..<(try count(each: 45)) {
      list.append(
        LinkInterest(family: try slimFamily(), name: try name(), count: try bigEndian()))
    }
    return list
  }
}
