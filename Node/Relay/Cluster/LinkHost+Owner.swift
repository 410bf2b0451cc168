import Base
import Engine
import LinkMail
import Report
import Ring

// The owner's side: sessions of other nodes that use channels of this one.
extension LinkHost {
  /// What another node's session asks. Answers go back when the shards have done it.
  func receiveAsked(_ mail: LinkMail, on link: NodeLink) {
    switch mail {
    case .opened(let id, let principal, let kind): open(id, principal, kind, on: link)
    case .channel(let number, let family, let name):
      guard let ref = channel(family, name) else { return stray(link) }
      guard link.near.channelCount(of: link.peer) < Limits.linkChannels else {
        node.log.error("link gives up: too many channels", ["peer": .of(link.name)])
        return abandon(link)
      }
      link.refused.remove(number)
      link.near.introduce(number, ref, by: link.peer)
    case .publish(let id, let number, let publication):
      guard let (proxy, origin, ref) = find(id, number, on: link) else { return }
      if isRefused(id, number, publication.token, on: link) || keep(mail, ref, on: link) { return }
      guard owns(ref) else { return refuse(id, number, publication.token, on: link) }
      put(
        .publish(proxy, origin.principal, origin.kind, ref, publication), for: proxy, of: ref,
        on: link)
    case .subscribe(let id, let number, let start, let follow, let limit, let token):
      guard let (proxy, origin, ref) = find(id, number, on: link) else { return }
      if isRefused(id, number, token, on: link) || keep(mail, ref, on: link) { return }
      guard owns(ref) else { return refuse(id, number, token, on: link) }
      let wanted = Subscription(start: start, follow: follow, limit: limit, token: token)
      put(
        .subscribe(proxy, origin.principal, origin.kind, ref, wanted), for: proxy, of: ref,
        on: link)
    case .unsubscribe(let id, let number):
      // Also of a channel that has another owner by now: the cursor is still here.
      guard let (proxy, _, ref) = find(id, number, on: link) else { return }
      if keep(mail, ref, on: link) { return }
      put(.unsubscribe(proxy, ref), for: proxy, of: ref, on: link)
    case .credit(let id, let bytes): credit(id, Int(clamping: bytes), on: link)
    case .closed(let id):
      guard let proxy = link.near.close(id, of: link.peer) else { return }
      end(proxy, on: link)
    default: stray(link)
    }
  }

  private func stray(_ link: NodeLink) { link.traffic.stray &+= 1 }

  private func open(
    _ id: SessionID, _ principal: Principal, _ kind: SessionKind, on link: NodeLink
  ) {
    guard link.near.count < Limits.linkSessions || link.near.proxy(of: id, of: link.peer) != nil
    else {
      _ = enqueue(.end(id, Fault(.unavailable, "too many sessions over one link")), on: link)
      return
    }
    let proxy = link.near.open(id, of: link.peer, principal, kind)
    if link.isOwn { slim.note(proxy, is: id) }
  }

  /// The name must be what this node would call the channel.
  private func channel(_ family: Family, _ name: String) -> ChannelRef? {
    if family == .skytale {
      guard let parsed = ChannelName(name), parsed.description == name else { return nil }
      return node.makeChannel(parsed)
    }
    guard let (parsed, slimName) = SlimChannel.parse(name), parsed == family else { return nil }
    let ref = SlimChannel.ref(family, slimName)
    return ref.name == name ? ref : nil
  }

  private func find(
    _ id: SessionID, _ number: UInt32, on link: NodeLink
  ) -> (SessionID, NearProxies.Origin, ChannelRef)? {
    guard let proxy = link.near.proxy(of: id, of: link.peer), let origin = link.near.origin(proxy),
      let ref = link.near.channel(number, of: link.peer)
    else {
      // It was on its way when its proxy ended, or what was agreed became void.
      stray(link)
      return nil
    }
    return (proxy, origin, ref)
  }

  private func owns(_ ref: ChannelRef) -> Bool {
    guard let map else { return false }
    return owner(of: ref.id.slot, byMap: map.owner(of: ref.id.slot)) == own
  }

  /// What comes behind a refused publish must not go before it, when the slot is this node's a moment later: all is refused
  /// until the sender, who has heard that, introduces the channel anew and sends everything again.
  private func isRefused(
    _ id: SessionID, _ number: UInt32, _ token: UInt64, on link: NodeLink
  ) -> Bool {
    guard !link.refused.isEmpty, link.refused.contains(number) else { return false }
    refuse(id, number, token, on: link)
    return true
  }

  func refuse(_ id: SessionID, _ number: UInt32, _ token: UInt64, on link: NodeLink) {
    link.refused.insert(number)
    flushAnswers(link)
    _ = enqueue(
      .notOwner(id, channel: number, token: token, revision: map?.revision ?? 0), on: link)
  }

  /// Mail for the shard of a channel.
  private func put(_ mail: Mail, for proxy: SessionID, of ref: ChannelRef, on link: NodeLink) {
    let shard = Int(ref.id.slot) % node.shardCount
    link.with(proxy) { $0.known |= 1 << UInt64(shard) }
    inbox[shard].append(mail)
    hasInput = true
  }

  /// Gives the shards their credit back, as `Session.settle` does.
  private func credit(_ id: SessionID, _ bytes: Int, on link: NodeLink) {
    guard let proxy = link.near.proxy(of: id, of: link.peer) else { return stray(link) }
    link.settle(bytes, proxy) { shard, paid in
      inbox[shard].append(.credit(proxy, bytes: paid))
    }
    hasInput = true
  }

  /// A proxy has gone: the shards hear of it, but for one.
  private func end(_ proxy: SessionID, on link: NodeLink, sparing spared: Int = -1) {
    if link.isOwn { slim.note(proxy, is: nil) }
    let known = link.forget(proxy)
    for shard in inbox.indices where shard != spared && known & (1 << UInt64(shard)) != 0 {
      inbox[shard].append(.closed(proxy))
      hasInput = true
    }
  }

  func closeProxies(of link: NodeLink) {
    for proxy in link.near.removeAll(of: link.peer) { end(proxy, on: link) }
  }

  /// A cursor has gone with its slot.
  func tellNotOwner(_ proxy: SessionID, _ ref: ChannelRef, revision: UInt64) {
    tell(proxy, ref) { .notOwner($0, channel: $1, token: 0, revision: revision) }
  }

  // MARK: back

  /// What a shard says to sessions of other nodes.
  func reply(_ mail: Mail, from shard: Int) {
    switch mail {
    case .deliverFar(let ready): deliver(ready, from: shard)
    case .answer(let id, let ref, let token, let mls, let outcome):
      answer(id, ref, token, mls, outcome)
    case .written(let id, let count):
      tell(id) { .written($0, count: UInt32(clamping: count)) }
    case .subscribed(let id, let ref, let token, let head, let fault):
      tell(id, ref) { .subscribed($0, channel: $1, token: token, head: head, fault) }
    case .readEnded(let id, let ref): tell(id, ref) { .readEnded($0, channel: $1) }
    case .end(let id, let fault):
      guard let (link, origin) = place(id) else { return }
      flushAnswers(link)
      _ = enqueue(.end(origin.session, fault), on: link)
      link.near.close(origin.session, of: link.peer)
      end(id, on: link, sparing: shard)
    case .pause(let id, let reason):
      guard let (link, _) = place(id) else { return }
      let isFirst = link.with(id) { proxy in
        defer { proxy.pauses |= 1 << UInt64(reason) }
        return proxy.pauses == 0
      }
      if isFirst { tell(id) { .pause($0) } }
    case .resume(let id, let reason):
      guard let (link, _) = place(id) else { return }
      let isLast = link.with(id) { proxy in
        guard proxy.pauses & (1 << UInt64(reason)) != 0 else { return false }
        proxy.pauses &= ~(1 << UInt64(reason))
        return proxy.pauses == 0
      }
      if isLast { tell(id) { .resume($0) } }
    case .disown(let slot, let over, let cursors): disown(slot, over, cursors)
    default: break
    }
  }

  private func place(_ proxy: SessionID) -> (NodeLink, NearProxies.Origin)? {
    let index = proxy.loop - Self.firstLoop
    guard index >= 0, index < links.count, let origin = links[index].near.origin(proxy) else {
      return nil
    }
    return (links[index], origin)
  }

  /// The link of a proxy and the session behind it: cheaper than all of its origin.
  private func find(_ proxy: SessionID) -> (NodeLink, SessionID)? {
    let index = proxy.loop - Self.firstLoop
    guard index >= 0, index < links.count, let session = links[index].near.session(proxy) else {
      return nil
    }
    return (links[index], session)
  }

  private func tell(_ proxy: SessionID, _ make: (SessionID) -> LinkMail) {
    guard let (link, session) = find(proxy) else { return }
    flushAnswers(link)
    _ = enqueue(make(session), on: link)
  }

  private func tell(
    _ proxy: SessionID, _ ref: ChannelRef, _ make: (SessionID, UInt32) -> LinkMail
  ) {
    guard let (link, session) = find(proxy),
      let number = link.near.number(of: ref.id, for: link.peer, loop: session.loop)
    else { return }
    flushAnswers(link)
    _ = enqueue(make(session, number), on: link)
  }

  /// Mostly one of a row, which makes one word.
  private func answer(
    _ proxy: SessionID, _ ref: ChannelRef, _ token: UInt64, _ mls: MLSKind,
    _ outcome: PublishOutcome
  ) {
    guard let (link, session) = find(proxy),
      let number = link.near.number(of: ref.id, for: link.peer, loop: session.loop)
    else { return }
    if case .accepted(let sequence, false) = outcome, mls != .commit, link.version >= 2 {
      if link.answers?.takes(session, number, token: token, sequence: sequence) == true { return }
      flushAnswers(link)
      link.answers = AnswerRun(
        session: session, channel: number, token: token, sequence: sequence,
        isQuiet: token & FarSessions.awaited == 0 && ref.archived)
      return
    }
    flushAnswers(link)
    _ = enqueue(
      .answer(session, channel: number, token: token, mls: mls, LinkOutcome(outcome)), on: link)
  }

  /// One message for several sessions of a node goes there once.
  private func deliver(_ ready: LinkGather.Ready, from shard: Int) {
    let index = ready.sessions[0].loop - Self.firstLoop
    guard index >= 0, index < links.count else { return }
    let link = links[index]
    let cost = ready.delivery.frame.count
    let (proxies, sessions) = link.near.open(among: ready.sessions)
    // Whatever loop it is of, the node knows the channel by it.
    guard let first = sessions.first,
      let number = link.near.number(of: ready.channel.id, for: link.peer, loop: first.loop)
    else { return }
    for proxy in proxies { link.owe(cost, proxy, to: shard) }
    link.traffic.deliveriesSent &+= sessions.count
    link.traffic.messagesSent &+= 1
    _ = enqueue(.deliver(sessions, channel: number, ready.delivery), on: link)
  }

  /// What was put together of answers leaves.
  func flushAnswers(_ link: NodeLink) {
    guard let run = link.answers else { return }
    link.answers = nil
    _ = enqueue(
      run.count == 1
        ? .answer(
          run.session, channel: run.channel, token: run.token, mls: .none,
          .accepted(sequence: run.sequence, duplicate: false))
        : .answers(
          run.session, channel: run.channel, token: run.token, sequence: run.sequence,
          count: run.count), on: link)
  }
}

extension LinkOutcome {
  init(_ outcome: PublishOutcome) {
    switch outcome {
    case .accepted(let sequence, let duplicate):
      self = .accepted(sequence: sequence, duplicate: duplicate)
    case .refused(let fault, let winner): self = .refused(fault, winner: winner)
    }
  }
}
