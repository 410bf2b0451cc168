import Base
import Codec
import Engine
import Link
import LinkMail

/// Frames between nodes: what is read is written again as it was.
struct LinkTarget: FuzzTarget {
  static let name = "link"
  static let wantedShare = 50_000
  let corpus: [[UInt8]]
  private var writer = ByteWriterBox()

  init() {
    let (session, name) = (SessionID(77), SlimName(c0: 1, c1: 2, c2: 3, idHigh: 4, idLow: 5))
    let frame = Bytes([0, 0, 0, 0, 60] + [UInt8](repeating: 0x5a, count: 60))
    let delivery = Delivery(
      sequence: 5, frame: frame, type: 1, mls: .application, epoch: 2, generation: 1, producer: 3,
      producerSequence: 4, wall: .zero, hasSuffix: true, publisher: session)
    let mail: [LinkMail] = [
      .opened(
        session, Principal(tenant: TenantID(1), org: "acme", key: RecordID(2)), .skytale),
      .channel(1, .skytale, name: "acme/ns/service"),
      .publish(session, channel: 1, Publication(frame: frame, hasSuffix: true, type: 1)),
      .subscribe(session, channel: 1, start: .last(9), follow: true, limit: 0, token: 1),
      .unsubscribe(session, channel: 1), .credit(session, bytes: 9), .closed(session),
      .deliver([session, session], channel: 1, delivery),
      .answer(session, channel: 1, token: 1, mls: .commit, .accepted(sequence: 1, duplicate: true)),
      .answer(
        session, channel: 1, token: 1, mls: .none, .refused(Fault(.forbidden, "no"), winner: 1)),
      .written(session, count: 3), .subscribed(session, channel: 1, token: 1, head: 2, nil),
      .subscribed(session, channel: 1, token: 1, head: 2, Fault(.notFound)),
      .readEnded(session, channel: 1), .end(session, Fault(.revoked)), .pause(session),
      .resume(session), .notOwner(session, channel: 1, token: 1, revision: 7),
      .live(
        LinkMessage(
          family: .slimB, destination: name, isAnycast: true, repeats: true, hole: 10, hop: [1, 2],
          frame: frame, sequence: 3, sender: session)),
      .interest([LinkInterest(family: .slimA, name: name, count: 2)]), .sync(1), .synced(2),
      .slimReplay(session, .slimA, name), .slimReplayable(session, .slimB, name),
      .answers(session, channel: 1, token: 3, sequence: 4, count: 5),
    ]
    let hello = LinkHello(
      node: NodeID(1), incarnation: 2, epoch: 3, versions: 1...2, heardIncarnation: 4,
      heardEpoch: 5, received: 6)
    let frames: [LinkFrame] =
      mail.map { .mail(sequence: 9, $0) } + [
        .hello(hello), .acknowledged(8),
        .mails(first: 3, [.credit(session, bytes: 1), .deliver([session], channel: 1, delivery)]),
        .mails(first: 4, [.pause(session), .resume(session), .sync(2)]),
      ]
    corpus = frames.map { frame in
      var writer = ByteWriter()
      return Array(frame.encoded(&writer).array()[5...])
    }
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let frame = try? LinkFrame(input) else { return false }
    let again = writer.encode(frame)
    try check(again.count >= 5 && again.count <= input.count + 16 + 5, "it grew")
    let second = again[5...].withUnsafeBytes { try? LinkFrame($0) }
    guard let second else { throw Finding("what was written is not read") }
    try check(writer.encode(second) == again, "it is not written the same twice")
    return true
  }
}

/// One buffer for all of a run.
private final class ByteWriterBox {
  private var writer = ByteWriter()
  func encode(_ frame: LinkFrame) -> [UInt8] { frame.encoded(&writer).array() }
}
