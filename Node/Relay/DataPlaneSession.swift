import Base
import Codec
import Crypto
import Digest
import Engine
import Grpc
import Http
import Loop

/// `dataplane.proto.v1.DataPlaneService/OpenChannel`: one stream per agent. The first message tells the
/// wire family: Skytale, or SLIM A or B.
final class DataPlaneSession: Session, GrpcHandler {
  private enum Wire { case unknown, skytale }
  private var wire = Wire.unknown
  /// The bytes of the last `StringName` seen, and its channel: agents mostly stay on one.
  private var lastName: [UInt8] = []
  private var lastChannel: ChannelRef?
  /// A message that is read before all others.
  private var held: Bytes?

  // MARK: from the agent

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    if let stream = borrowedSlim {
      stream.with { unsafe $0.receive(bytes) }
      return
    }
    let view: SlimView
    do {
      view = try unsafe SlimView(bytes)
    } catch {
      end(Fault(.badRequest, "not a dataplane.proto.v1.Message: \(error)"))
      return
    }
    if case .unknown = wire {
      guard unsafe recognise(view, bytes) else { return }
    }
    switch view.kind {
    case .subscribe:
      guard let channel = unsafe channel(view, bytes) else { return }
      shard.subscribe(
        self, channel, Subscription(start: .replay, follow: true, limit: 0, token: 0))
    case .unsubscribe:
      guard let channel = unsafe channel(view, bytes) else { return }
      shard.unsubscribe(self, channel)
    case .publish:
      unsafe receivePublish(view, bytes)
    case .link, .subscriptionAck, .none:
      break
    }
  }

  /// Skytale: the first message names its destination by `str_name` and has no EncodedName. SLIM B: it is
  /// a Link with a key. All else is SLIM A.
  /// - Returns: true when this class goes on with the message.
  private func recognise(_ view: SlimView, _ bytes: UnsafeRawBufferPointer) -> Bool {
    switch view.kind {
    case .subscribe, .publish, .unsubscribe:
      if view.destination.hasStringName && !view.destination.hasEncodedName {
        wire = .skytale
        return true
      }
    case .link, .subscriptionAck, .none: break
    }
    let stream = speakSlim(view.kind == .link ? unsafe SlimStream.family(ofLink: bytes) : .slimA)
    unsafe stream.receive(bytes)
    return false
  }

  @discardableResult
  private func speakSlim(_ family: Family, linkMac: LinkMac? = nil) -> SlimStream {
    let stream = SlimStream(self, family, linkMac: linkMac)
    slim = stream
    shard.sessions.note(stream, of: id)
    return stream
  }

  /// While the store opened, somebody else has taken this stream's first message.
  func receiveHandover(on call: GrpcCall) {
    if let before = call.userData as? OpeningStream {
      call.userData = nil
      if let link = before.link { speakSlim(link.family, linkMac: link.mac) }
      held = before.first
    }
    resume(by: Session.openingPause)
  }

  override func takeHeld() {
    guard let message = held else { return }
    held = nil
    unsafe message.withUnsafeBytes { unsafe receiveMessage($0, on: call) }
  }

  private func receivePublish(_ view: SlimView, _ bytes: UnsafeRawBufferPointer) {
    if unsafe isCover(view, bytes) {
      shard.counts.coverFrames &+= 1
      return
    }
    guard let channel = unsafe channel(view, bytes) else { return }
    guard let built = unsafe SkytaleFrame.build(from: bytes, view: view) else {
      end(Fault(.badRequest, "a publish this node cannot forward"))
      return
    }
    var publication = Publication(
      frame: built.frame, hasSuffix: built.hasSuffix,
      type: UInt8(truncatingIfNeeded: view.sessionMessageType))
    if let range = view.payload {
      unsafe describe(UnsafeRawBufferPointer(rebasing: bytes[range]), in: &publication)
    }
    shard.publish(self, channel, publication)
    shard.brake(self)
  }

  /// 0.5.2 agents send noise to hide when they talk: dropped, counted, never stored or metered.
  private func isCover(_ view: SlimView, _ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let range = view.payloadType, range.count == Self.coverType.count else { return false }
    return unsafe Self.coverType.withUnsafeBytes {
      unsafe sameBytes(bytes, at: range.lowerBound, $0, at: 0, count: range.count)
    }
  }
  private static let coverType = Array("application/x-skytale-cover".utf8)

  /// nil: the message names no usable channel; it is dropped and counted, the stream goes on.
  private func channel(_ view: SlimView, _ bytes: UnsafeRawBufferPointer) -> ChannelRef? {
    guard let range = view.destination.stringName else {
      shard.counts.withoutRight &+= 1
      return nil
    }
    let raw = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
    if let lastChannel, unsafe lastName.withUnsafeBytes({ unsafe sameBytes(raw, $0) }) {
      return lastChannel
    }
    guard let name = unsafe view.destination.channelName(in: bytes) else {
      shard.counts.withoutRight &+= 1
      shard.node.refusals.note(
        "name", from: call.peer.text, org: principal.org,
        "not org/namespace/service of at most \(Limits.channelNameBytes) bytes",
        at: shard.loop.now.monotonic)
      return nil
    }
    let found = shard.channel(name)
    lastName = unsafe [UInt8](raw)
    lastChannel = found
    return found
  }

  func receiveHalfClose(on call: GrpcCall) {
    takeNoMore()
    call.finish(.ok)
  }

  func receiveClosed(on call: GrpcCall) {
    guard let stream = slim else {
      shard.closed(self)
      return
    }
    shard.slim.closed(stream)
    stream.receiveClosed()
  }

  func receiveDrained(_ bytes: Int, on call: GrpcCall) {
    if let stream = slim { stream.noteQueue() }
    repliesLeft(bytes)
    settle(bytes)
  }

  /// SLIM apps raise an error when they publish while they have no connection.
  var isLasting: Bool { slim != nil }

  override func retire(finally: Bool) {
    if finally || !isLasting { super.retire(finally: finally) }
  }

  // MARK: to the agent

  override func deliver(_ channel: ChannelRef, _ delivery: Delivery) {
    if let stream = slim {
      stream.deliver(channel, delivery)
    } else {
      call.send(delivery.frame)
    }
  }

  override func subscribed(
    _ channel: ChannelRef, token: UInt64, head: UInt64, _ fault: Fault?
  ) {
    slim?.cursorBegins(channel, token: token, head: head, fault)
  }

  /// Commits are answered with GROUP_ACK or GROUP_NACK, as SLIM names it; the Skytale SDK ignores both.
  override func answer(
    _ channel: ChannelRef, token: UInt64, mls: MLSKind, _ outcome: PublishOutcome
  ) {
    if let stream = slim {
      stream.receiveRefused()
      return
    }
    guard mls == .commit, call.isOpen, let name = ChannelName(channel.name) else { return }
    switch outcome {
    case .accepted:
      reply(SkytaleFrame.ack(org: name.org, namespace: name.namespace, service: name.service))
    case .refused(let fault, _):
      if fault.code == .epochTaken {
        reply(
          SkytaleFrame.nack(org: name.org, namespace: name.namespace, service: name.service))
      }
    }
  }
}

/// Reads the clear header of an MLS message into a publication; a commit also gets its digest.
func describe(_ payload: UnsafeRawBufferPointer, in publication: inout Publication) {
  guard let header = unsafe MLSHeader.read(payload) else { return }
  publication.mls = MLSKind(rawValue: header.content.rawValue) ?? .other
  publication.epoch = header.epoch
  if publication.mls == .commit {
    let digest = unsafe sha256(payload)
    publication.digest = (
      UInt64(bigEndianBytes: digest[..<8]), UInt64(bigEndianBytes: digest[8..<16])
    )
  }
}
