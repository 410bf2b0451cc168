import Base
import Codec
import Engine
import Link
import TestKit
import Testing

@testable import LinkMail

@Suite("Mail between nodes, on the wire") struct LinkMailTests {
  private static func frame(_ count: Int) -> Bytes {
    let message = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + 1) }
    return Bytes([0] + bigEndianBytes(UInt32(count)) + message)
  }

  @Test(
    "A number that one loop gives to another channel leaves the other loops' numbers as they are")
  func numbersOfLoops() {
    var near = NearProxies()
    let node = NodeID(5)
    let (x, y) = (EngineRig.channel("acme/ns/x"), EngineRig.channel("acme/ns/y"))
    let (first, second) = (UInt32(0), UInt32(1 << 24))
    near.introduce(second, x, by: node)
    near.introduce(first, x, by: node)
    #expect(near.number(of: x.id, for: node, loop: 0) == first)
    #expect(near.number(of: x.id, for: node, loop: 1) == second)
    #expect(near.number(of: x.id, for: node, loop: 7) != nil)
    near.introduce(first, y, by: node)
    #expect(near.number(of: x.id, for: node, loop: 0) == second)
    #expect(near.number(of: x.id, for: node, loop: 1) == second)
    #expect(near.number(of: y.id, for: node, loop: 0) == first)
    near.introduce(second, y, by: node)
    #expect(near.number(of: x.id, for: node, loop: 1) == nil)
    #expect(near.channelCount(of: node) == 2)
  }

  @Test("Of several proxies those are found that are open, also when one has just closed")
  func crowd() {
    var near = NearProxies()
    let (node, who) = (NodeID(5), EngineRig.principal("acme"))
    let sessions = (0..<4).map { SessionID(loop: 0, generation: 0, index: $0) }
    let proxies = sessions.map { near.open($0, of: node, who, .skytale) }
    for _ in 0..<2 {
      let found = near.open(among: proxies)
      #expect(found.proxies == proxies && found.sessions == sessions)
    }
    near.close(sessions[1], of: node)
    let again = near.open(SessionID(loop: 0, generation: 1, index: 1), of: node, who, .skytale)
    let found = near.open(among: proxies)
    #expect(found.sessions == [sessions[0], sessions[2], sessions[3]])
    #expect(found.proxies == [proxies[0], proxies[2], proxies[3]])
    #expect(!found.proxies.contains(again))
  }

  private static let session = SessionID(loop: 3, generation: 9, index: 77)
  private static let name = SlimName(c0: 1, c1: 2, c2: 3, idHigh: 4, idLow: 5)

  static let all: [LinkMail] = [
    .opened(
      session, Principal(tenant: TenantID(11), org: "acme", key: RecordID(12), anonymous: true),
      .skytale),
    .opened(session, Principal(tenant: TenantID(1), org: "ö", key: RecordID(2)), .service),
    .channel(5, .slimB, name: "slim-b:1/2/3/*"),
    .publish(
      session, channel: 5,
      Publication(
        frame: frame(40), hasSuffix: true, type: 9, mls: .commit, epoch: 21, digest: (22, 23),
        producer: 24, producerSequence: 25, durability: .synced, token: 26)),
    .publish(session, channel: 6, Publication(frame: frame(0), hasSuffix: false, type: 1)),
    .subscribe(session, channel: 7, start: .live, follow: true, limit: 0, token: 31),
    .subscribe(session, channel: 7, start: .replay, follow: false, limit: 32, token: 0),
    .subscribe(session, channel: 7, start: .last(33), follow: true, limit: 0, token: 1),
    .subscribe(session, channel: 7, start: .sequence(.max), follow: true, limit: 0, token: 1),
    .unsubscribe(session, channel: 8), .credit(session, bytes: 1 << 40), .closed(session),
    .deliver(
      [session, SessionID(1), SessionID(.max)], channel: 9,
      Delivery(
        sequence: 41, frame: frame(100), type: 2, mls: .application, epoch: 42, generation: 43,
        producer: 44, producerSequence: 45, wall: Instant(nanoseconds: -46), hasSuffix: true,
        publisher: SessionID(47))),
    .deliver(
      [session], channel: 9,
      Delivery(
        sequence: 1, frame: frame(3), type: 0, mls: .none, epoch: 0, generation: 0, producer: 0,
        producerSequence: 0, wall: .zero, hasSuffix: false)),
    .answer(
      session, channel: 1, token: 51, mls: .commit, .accepted(sequence: 52, duplicate: false)),
    .answer(session, channel: 1, token: 51, mls: .none, .accepted(sequence: 52, duplicate: true)),
    .answer(
      session, channel: 1, token: 51, mls: .commit,
      .refused(Fault(.epochTaken, "epoch 3"), winner: 53)),
    .written(session, count: 61),
    .subscribed(session, channel: 2, token: 62, head: 63, nil),
    .subscribed(session, channel: 2, token: 62, head: 63, Fault(.forbidden)),
    .readEnded(session, channel: 3), .end(session, Fault(.revoked, "gone")), .pause(session),
    .resume(session), .notOwner(session, channel: 4, token: 71, revision: 72),
    .live(
      LinkMessage(
        family: .slimA, destination: name, isAnycast: true, repeats: false, hole: 0, hop: [],
        frame: frame(60))),
    .live(
      LinkMessage(
        family: .slimB, destination: name, isAnycast: false, repeats: true, hole: 12,
        hop: [1, 2, 3], frame: frame(60), sequence: 82, sender: SessionID(83))),
    .interest([
      LinkInterest(family: .slimA, name: name, count: 81),
      LinkInterest(family: .slimB, name: name.any, count: 0),
    ]), .interest([]), .sync(91), .synced(92), .slimReplay(session, .slimA, name),
    .slimReplayable(session, .slimB, name.any),
    .answers(session, channel: 1, token: 101, sequence: 102, count: 103),
  ]

  static let frames: [LinkFrame] =
    all.enumerated().map { .mail(sequence: UInt64($0.offset) + 100, $0.element) } + [
      .hello(
        LinkHello(
          node: NodeID(1), incarnation: 2, epoch: 3, versions: 4...5, heardIncarnation: 6,
          heardEpoch: 7, received: 8)), .acknowledged(9),
      .mails(first: 200, [.pause(session)]), .mails(first: .max, Array(all.suffix(20))),
    ]

  private func encoded(_ frame: LinkFrame) -> [UInt8] {
    var writer = ByteWriter()
    return frame.encoded(&writer).array()
  }

  private func decoded(_ bytes: [UInt8]) throws -> LinkFrame {
    try bytes.withUnsafeBytes { try LinkFrame($0) }
  }

  /// All that a frame says, payload bytes too.
  private func text(_ frame: LinkFrame) -> String {
    var out = ""
    dump(frame, to: &out)
    switch frame {
    case .mail(_, .publish(_, _, let publication)): out += "\(publication.frame.array())"
    case .mail(_, .deliver(_, _, let delivery)): out += "\(delivery.frame.array())"
    case .mail(_, .live(let message)): out += "\(message.frame.array())"
    default: break
    }
    // Where buffers lie in memory is not part of it.
    return out.split(separator: "\n").filter { !$0.contains("storage") && !$0.contains("Storage") }
      .joined(separator: "\n")
  }

  @Test("Every kind comes back as it went", arguments: 0..<frames.count)
  func returns(which: Int) throws {
    let frame = Self.frames[which]
    let bytes = encoded(frame)
    let prefix = bytes.withUnsafeBytes { GrpcFrame.prefix($0, limit: Limits.messageBytes) }
    #expect(prefix == .message(length: bytes.count - 5, compressed: false))
    let again = try decoded(Array(bytes[5...]))
    #expect(encoded(again) == bytes)
    #expect(text(again) == text(frame))
  }

  @Test("Each kind has a number of its own") func numbers() {
    let kinds = Set(Self.all.map { mail in encoded(.mail(sequence: 1, mail))[14] })
    #expect(kinds == Set(1...23))
  }

  @Test("Bytes that end early, or go on, are refused", arguments: 0..<frames.count)
  func cut(which: Int) {
    let bytes = Array(encoded(Self.frames[which])[5...])
    for end in bytes.indices {
      // Between two mails of a frame it is a shorter frame: gRPC's length says where it ends.
      if case .mails(let first, let all) = Self.frames[which],
        case .mails(first, let some)? = try? decoded(Array(bytes[..<end]))
      {
        #expect(some.count < all.count)
        continue
      }
      #expect(throws: ReadError.self) { try decoded(Array(bytes[..<end])) }
    }
    #expect(throws: ReadError.self) { try decoded(bytes + [0]) }
  }

  @Test("Damaged bytes never crash, and what is accepted is written as it was read")
  func damaged() {
    var state: UInt64 = 5
    func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
    var accepted = 0
    for round in 0..<60_000 {
      var bytes = Array(encoded(Self.frames[round % Self.frames.count])[5...])
      for _ in 0...(next() % 3) {
        let at = Int(next() % UInt64(bytes.count))
        bytes[at] = next() % 2 == 0 ? UInt8(truncatingIfNeeded: next()) : bytes[at] ^ 1
      }
      guard let frame = try? decoded(bytes) else { continue }
      accepted += 1
      guard !holdsUnknownFault(frame) else { continue }
      #expect(Array(encoded(frame)[5...]) == bytes)
    }
    #expect(accepted > 10_000)
  }

  /// A name that this version does not know is read as `internal`; a delivery without a publisher has no use for its id.
  private func holdsUnknownFault(_ frame: LinkFrame) -> Bool {
    switch frame {
    case .mail(_, let mail): holdsUnknownFault(mail)
    case .mails(_, let mails): mails.contains { holdsUnknownFault($0) }
    default: false
    }
  }

  private func holdsUnknownFault(_ mail: LinkMail) -> Bool {
    switch mail {
    case .end, .answer(_, _, _, _, .refused): true
    case .subscribed(_, _, _, _, let fault): fault != nil
    case .deliver(_, _, let delivery): delivery.publisher == nil
    default: false
    }
  }

  @Test("A fault of a later version keeps its name") func laterFault() throws {
    let bytes = encoded(.mail(sequence: 1, .end(Self.session, Fault(.revoked, "x"))))
    let name = Array("revoked".utf8)
    let at = try #require(bytes.indices.first { bytes[$0...].starts(with: name) })
    var other = bytes
    other.replaceSubrange(at..<at + name.count, with: Array("rewoked".utf8))
    guard case .mail(_, .end(_, let fault)) = try decoded(Array(other[5...])) else {
      Issue.record("not an end")
      return
    }
    #expect(fault == Fault(.internal, "rewoked: x"))
  }

  @Test("Counts that no bytes follow allocate nothing") func lies() {
    for kind in [8, 18] as [UInt8] {
      let bytes = [2] + bigEndianBytes(UInt64(1)) + [kind] + bigEndianBytes(UInt32.max)
      #expect(throws: ReadError.truncated) { try decoded(bytes) }
    }
  }
}

@Suite("Mail gathered into frames") struct LinkBatchTests {
  @Test("A batch is read as the mails that were put in, and is empty then") func gathers() throws {
    var batch = LinkBatch()
    for round in 0..<3 as Range<UInt64> {
      var (count, bytes) = (batch.count, batch.bytes)
      #expect(count == 0 && bytes == 0)
      for i in 0..<40 as Range<UInt64> {
        let hasRoom = batch.hasRoom(for: round * 100 + i, bytes: 20)
        #expect(hasRoom)
        batch.append(sequence: round * 100 + i, .credit(SessionID(i), bytes: i))
      }
      (count, bytes) = (batch.count, batch.bytes)
      let frame = batch.take().array()
      #expect(count == 40 && bytes == frame.count)
      guard
        case .mails(let first, let mails) = try frame[5...].withUnsafeBytes({ try LinkFrame($0) })
      else {
        Issue.record("another kind of frame")
        return
      }
      #expect(first == round * 100 && mails.count == 40)
      for (i, mail) in mails.enumerated() {
        guard case .credit(SessionID(UInt64(i)), bytes: UInt64(i)) = mail else {
          Issue.record("mail \(i) is \(mail)")
          continue
        }
      }
    }
  }

  @Test("A number left out, or a full frame, asks for the next frame") func room() {
    var batch = LinkBatch()
    batch.append(sequence: 7, .sync(1))
    let tries: [(UInt64, Int)] = [
      (8, 100), (9, 100), (7, 100), (8, Limits.linkBatchBytes - batch.bytes),
      (8, Limits.linkBatchBytes),
    ]
    var room: [Bool] = []
    for (sequence, bytes) in tries { room.append(batch.hasRoom(for: sequence, bytes: bytes)) }
    #expect(room == [true, false, false, true, false])
    // One that is longer than a frame should be goes alone.
    _ = batch.take()
    let alone = batch.hasRoom(for: 99, bytes: Limits.messageBytes)
    #expect(alone)
  }
}
