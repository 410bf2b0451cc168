import Base
import Codec
import Engine
import Slim

// The archive's way: publishes to groups are written first, and what came after them waits for that.
extension SlimStream {
  /// A publish that waits for its turn.
  enum Outgoing {
    case direct(SlimMessage)
    case archived(ChannelRef, Publication)
    var bytes: Int {
      switch self {
      case .direct(let message): message.frame.count
      case .archived(_, let publication): publication.frame.count
      }
    }
  }

  var archives: Bool { hubAtHand.with { $0.archives } }

  /// The archived channel a publish goes to; nil: it is relayed at once. Kept are the messages of groups; what
  /// changes a group (GROUP_ADD, GROUP_UPDATE, ...) goes the same way, since it must not change places with them.
  func channel(
    _ envelope: SlimEnvelope, _ header: SlimKnownHeader, _ destination: SlimName
  ) -> ChannelRef? {
    guard let channel = channelOfGroup(envelope, header, destination), !isLost(channel) else {
      return nil
    }
    return channel
  }

  /// Its owner is out of reach: members hear each other all the same.
  private func isLost(_ channel: ChannelRef) -> Bool {
    session.shard.far?.isLost(channel.id) == true
  }

  private func channelOfGroup(
    _ envelope: SlimEnvelope, _ header: SlimKnownHeader, _ destination: SlimName
  ) -> ChannelRef? {
    if envelope.isToGroup {
      if let known = header.channel { return known }
      let made = hub.channel(family, destination)
      header.channel = made
      return made
    }
    return envelope.changesGroup(family) ? hub.knownChannel(family, destination) : nil
  }

  /// A message to a group under the same header as the one before it, with nothing left to find out.
  /// - Returns: false: it needs a closer look.
  func archiveAgain(
    _ bytes: UnsafeRawBufferPointer, _ known: Borrowed<SlimKnownHeader>, _ glance: SlimGlance
  ) -> Bool {
    guard bytes.count <= Limits.messageBytes, !membersOnly, archives else { return false }
    return known.with { header in
      guard header.isAllowed, let patch = header.patch, let channel = header.channel,
        !isLost(channel)
      else { return false }
      header.isRepeated = true
      let (frame, mac) = unsafe SlimForward.again(bytes, headerAt: glance.headerAt, patch)
      if mac > 0 { frame.makeHole(at: mac) }
      archive(frame, channel, type: glance.messageType)
      return true
    }
  }

  /// Has a publish written, in its turn.
  func archive(_ frame: Bytes, _ channel: ChannelRef, type: UInt32) {
    let publication = Publication(
      frame: frame, hasSuffix: false, type: UInt8(clamping: type), token: Publication.counted)
    guard held.isEmpty else { return hold(.archived(channel, publication)) }
    unwritten += 1
    session.shard.publish(session, channel, publication)
    session.shard.brake(session)
  }

  func hold(_ outgoing: Outgoing) {
    held.append(outgoing)
    heldBytes += outgoing.bytes
    if heldBytes > Limits.slimHeldBytes { session.pause(by: Session.holdPause) }
  }

  /// An archived publish is refused for good.
  func receiveRefused() {
    hub.counts.refused &+= 1
    receiveWritten(1)
  }

  /// Archived publishes are written.
  func receiveWritten(_ count: Int) {
    unwritten = max(0, unwritten - count)
    if !held.isEmpty { releaseHeld() }
  }

  /// The engine has ended this session, and answers no more: what waits for answers is lost with the stream.
  func receiveEnd() {
    hub.counts.refused &+= held.count
    unwritten = 0
    let waited = !held.isEmpty
    held.removeAll()
    heldBytes = 0
    if isClosed, waited, !isReleasing {
      hub.parting -= 1
      session.shard.closed(session)
    }
  }

  /// Lets go what waited, up to the next that must be written first.
  private func releaseHeld() {
    // A publish may be refused at once, which leads back here.
    if isReleasing { return }
    isReleasing = true
    var taken = 0
    release: while taken < held.count {
      let next = held[taken]
      switch next {
      case .direct(let message):
        if unwritten > 0 { break release }
        if let route = hub.router.route(family, message.course.destination) {
          hub.publish(message, on: route, from: session.id)
        } else {
          hub.receiveUnrouted(message, from: session.id)
        }
      case .archived(let channel, let publication):
        unwritten += 1
        session.shard.publish(session, channel, publication)
      }
      heldBytes = max(0, heldBytes - next.bytes)
      taken += 1
    }
    // The engine may have ended the session at one of them: then nothing is left.
    held.removeFirst(min(taken, held.count))
    isReleasing = false
    if isClosed {
      guard held.isEmpty else { return }
      hub.parting -= 1
      session.shard.closed(session)
      return
    }
    if heldBytes <= Limits.slimHeldBytes / 2 { session.resume(by: Session.holdPause) }
  }

  /// The stream is closed. Publishes that wait for others to be written still do.
  func receiveClosed() {
    isClosed = true
    if held.isEmpty { session.shard.closed(session) } else { hub.parting += 1 }
  }
}
