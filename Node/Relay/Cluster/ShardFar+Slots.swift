import Base
import Engine
import LinkMail
import Loop
import Ring

// What sessions of this loop ask of a slot that is being handed over.
extension ShardFar {
  /// The node that loops of this node ask for a slot.
  @inline(__always) func owner(of slot: UInt16, in map: RingMap) -> NodeID {
    let owner =
      if !overrides.isEmpty, let over = overrides[slot] { over.owner } else { map.owner(of: slot) }
    return isWithheld && owner == own ? .none : owner
  }

  /// nil: by the map.
  func set(_ over: SlotOverride?, of slot: UInt16) {
    if let over, over.until == 0 || over.until > (map?.revision ?? 0) {
      overrides[slot] = over
    } else {
      overrides[slot] = nil
    }
    followOwners()
  }

  /// What the map of this revision says itself need not be said.
  func dropOverrides(upTo revision: UInt64) {
    if overrides.isEmpty { return }
    overrides = overrides.filter { $0.value.until == 0 || $0.value.until > revision }
  }

  // MARK: holding

  /// Whether a channel of this node is held; then `hold` takes what is asked of it.
  @inline(__always) func isHeld(_ channel: ChannelID) -> Bool {
    !held.isEmpty && held[channel.slot] != nil
  }

  func hold(_ slot: UInt16, serial: UInt64) {
    held[slot] = HeldSlot(serial: serial, after: held[slot])
    shard.loop.schedule(after: .seconds(Int64(Limits.publishHoldSeconds))) { [self] in
      guard let late = held[slot]?.expire(serial) else { return }
      for one in late { refuse(one) }
      resume(late)
    }
  }

  /// Keeps it, in order; its session is read no further.
  func hold(_ asked: SlotAsk, _ channel: ChannelID) {
    guard held[channel.slot]?.hold(asked, bytes: asked.cost) == true else { return refuse(asked) }
    asked.session.pause(by: Session.movePause)
  }

  /// Whether something that the session asked waits here.
  func holds(_ session: Session) -> Bool {
    !held.isEmpty && held.values.contains { $0.items.contains { $0.session === session } }
  }

  private func refuse(_ asked: SlotAsk) {
    let fault = Fault(.unavailable, "the channel is on its way to another node")
    switch asked {
    case .publish(let session, let channel, let publication):
      if publication.token != 0 {
        session.answer(
          channel, token: publication.token, mls: publication.mls, .refused(fault, winner: 0))
      }
      // Such a stream cannot be told that a publish was lost, other than by its end.
      if session.kind == .skytale { session.end(fault) }
    case .subscribe(let session, let channel, let wanted):
      session.subscribed(channel, token: wanted.token, head: 0, fault)
    case .unsubscribe: break
    }
  }

  /// The slot stays: what was held goes to its shard.
  func release(_ slot: UInt16) {
    guard let was = held.removeValue(forKey: slot) else { return }
    askAgain(was.items)
  }

  /// The slot has gone: cursors of this loop's sessions go on at its owner, then what was held.
  func handOver(_ slot: UInt16, _ over: SlotOverride, _ cursors: [MovedCursor]) {
    let was = held.removeValue(forKey: slot)
    set(over, of: slot)
    for cursor in cursors {
      guard let session = shard.sessions.find(cursor.session) else { continue }
      receiveMoved(cursor, session, to: over.owner)
    }
    askAgain(was?.items ?? [])
  }

  private func askAgain(_ asked: [SlotAsk]) {
    for one in asked {
      switch one {
      case .publish(let session, let channel, let publication):
        shard.publish(session, channel, publication)
      case .subscribe(let session, let channel, let wanted):
        if !session.hasEnded, shard.sessions.find(session.id) === session {
          shard.subscribe(session, channel, wanted)
        }
      case .unsubscribe(let session, let channel): shard.unsubscribe(session, channel)
      }
    }
    resume(asked)
  }

  private func resume(_ asked: [SlotAsk]) {
    var seen: Set<SessionID> = []
    for one in asked where seen.insert(one.session.id).inserted {
      if one.session.hasEnded {
        // What it published last was taken up again just now.
        shard.closed(one.session)
      } else if shard.sessions.find(one.session.id) === one.session {
        one.session.resume(by: Session.movePause)
      }
    }
  }
}

// MARK: other nodes' sessions

/// What another node's session asks of a slot's channel.
struct LinkAsk {
  var link: NodeLink
  /// Void when the link has begun anew since.
  var generation: UInt32
  var mail: LinkMail
}

/// Mail of other nodes for a slot that is held.
typealias HeldLinkMail = SlotHold<LinkAsk>

extension LinkHost {
  /// nil: by the map. On loop 0.
  func set(_ over: SlotOverride?, of slot: UInt16) {
    if let over, over.until == 0 || over.until > (map?.revision ?? 0) {
      overrides[slot] = over
    } else {
      overrides[slot] = nil
    }
  }

  func dropOverrides(upTo revision: UInt64) {
    if overrides.isEmpty { return }
    overrides = overrides.filter { $0.value.until == 0 || $0.value.until > revision }
  }

  /// Whom loop 0 asks for a slot: the hand-over that is under way says it, else the map. `none`: nobody.
  func owner(of slot: UInt16, byMap owner: NodeID) -> NodeID {
    let owner = overrides[slot]?.owner ?? owner
    return isWithheld && owner == own ? .none : owner
  }

  /// On loop 0. `heard` runs on the slot's shard, behind what was sent to it before.
  func hold(
    _ slot: UInt16, serial: UInt64, telling shard: Int,
    _ heard: @escaping @Sendable (Shard) -> Void
  ) {
    // A session has a bound on what it sends without an answer; this one is for many of them.
    heldMail[slot] = HeldLinkMail(
      serial: serial, after: heldMail[slot], mostItems: Limits.moveHeldMessages * 4,
      mostBytes: Limits.moveHeldBytes * 4)
    inbox[shard].append(.run(heard))
    hasInput = true
    loop.schedule(after: .seconds(Int64(Limits.publishHoldSeconds))) { [self] in
      guard let late = heldMail[slot]?.expire(serial) else { return }
      for one in late where one.generation == one.link.generation { sendBack(one.mail, one.link) }
    }
  }

  /// Keeps mail for a slot that is held, or sends it back when too much is. False: the slot is not held.
  func keep(_ mail: LinkMail, _ ref: ChannelRef, on link: NodeLink) -> Bool {
    if heldMail.isEmpty { return false }
    let ask = LinkAsk(link: link, generation: link.generation, mail: mail)
    guard let isKept = heldMail[ref.id.slot]?.hold(ask, bytes: mail.cost) else { return false }
    if !isKept { sendBack(mail, link) }
    return true
  }

  /// Its sender asks again a little later, here or elsewhere.
  private func sendBack(_ mail: LinkMail, _ link: NodeLink) {
    switch mail {
    case .publish(let id, let channel, let publication):
      refuse(id, channel, publication.token, on: link)
    case .subscribe(let id, let channel, _, _, _, let token): refuse(id, channel, token, on: link)
    default: break
    }
  }

  /// What was held is looked at again: it goes to the shard, or back as `notOwner`. On loop 0.
  func release(_ slot: UInt16) {
    for one in heldMail.removeValue(forKey: slot)?.items ?? []
    where one.generation == one.link.generation {
      receiveAsked(one.mail, on: one.link)
    }
  }

  /// The slot has gone: who has cursors there hears it.
  func disown(_ slot: UInt16, _ over: SlotOverride, _ cursors: [MovedCursor]) {
    set(over, of: slot)
    for cursor in cursors { tellNotOwner(cursor.session, cursor.ref, revision: over.until) }
    release(slot)
  }
}
