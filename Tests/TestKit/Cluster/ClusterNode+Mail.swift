internal import Base
internal import Engine
internal import LinkMail
internal import Ring

// What agents of this node ask, and what other nodes ask over links.
extension ClusterNode {
  private func owner(of ref: ChannelRef) -> NodeID { map.owner(of: map.slot(of: ref.id)) }

  private enum Admission { case serve, held, refused }

  /// What becomes of what is asked of a channel that the map says is this node's.
  private func admit(_ ref: ChannelRef, _ ask: ClusterAsk) -> Admission {
    let slot = map.slot(of: ref.id)
    if let target = targets[slot], target.phase != .opened { return .refused }
    guard let source = sources[slot], !source.serves else { return .serve }
    return holds[slot]?.hold(ask, bytes: ask.bytes) == true ? .held : .refused
  }

  /// From now on, until `release`.
  func hold(_ slot: UInt16) {
    lastHold += 1
    let serial = lastHold
    holds[slot] = SlotHold(serial: serial, after: holds[slot])
    after(Int64(Limits.publishHoldSeconds) * 1_000_000_000) { node in
      for ask in node.holds[slot]?.expire(serial) ?? [] { node.refuse(ask) }
    }
  }

  /// What was held is asked again: it goes into the slot, or to its new owner.
  func release(_ slot: UInt16) {
    for ask in holds.removeValue(forKey: slot)?.items ?? [] where world.plant != .heldLost {
      switch ask {
      case .publish(let agent, let id, let ref, let publication):
        if agents[id] === agent { publish(agent, ref, publication) }
      case .subscribe(let agent, let id, let ref, let from):
        if agents[id] === agent { subscribe(agent, ref, from: from) }
      case .mail(let mail, _, let j, let generation):
        if generations[j] == generation { receive(mail, from: j) }
      }
    }
  }

  private func refuse(_ ask: ClusterAsk) {
    switch ask {
    case .publish(let agent, let id, let ref, let publication):
      guard agents[id] === agent else { return }
      agent.answer(ref, publication.token, .refused(Fault(.unavailable), winner: 0))
    case .subscribe(let agent, let id, _, _):
      if agents[id] === agent { agent.subscribed(Fault(.unavailable)) }
    case .mail(let mail, _, let j, let generation):
      if generations[j] == generation { sendBack(mail, to: j) }
    }
  }

  private func sendBack(_ mail: LinkMail, to j: Int) {
    switch mail {
    case .publish(let id, let channel, let publication):
      enqueue(
        j,
        .notOwner(id, channel: channel, token: publication.token, revision: map.revision))
    case .subscribe(let id, let channel, _, _, _, let token):
      enqueue(j, .notOwner(id, channel: channel, token: token, revision: map.revision))
    default: break
    }
  }

  // MARK: agents

  func publish(_ agent: ClusterAgent, _ ref: ChannelRef, _ publication: Publication) {
    guard let id = agent.session else { return }
    let principal = agent.principal
    let owner = owner(of: ref)
    if owner == me {
      let ask = ClusterAsk.publish(agent, id, ref, publication)
      switch admit(ref, ask) {
      case .serve: break
      case .held: return
      case .refused: return refuse(ask)
      }
      input {
        $0.receivePublish(
          id, kind: .service, principal: principal, channel: ref, publication, at: $1)
      }
    } else {
      var made: [FarEffect] = []
      far.publish(id, principal, .service, ref, publication, to: owner, into: &made)
      perform(made)
    }
  }

  func subscribe(_ agent: ClusterAgent, _ ref: ChannelRef, from: UInt64) {
    guard let id = agent.session else { return }
    let principal = agent.principal
    let owner = owner(of: ref)
    if owner == me {
      let ask = ClusterAsk.subscribe(agent, id, ref, from: from)
      switch admit(ref, ask) {
      case .serve: break
      case .held: return
      case .refused: return refuse(ask)
      }
      input {
        $0.receiveSubscribe(
          id, kind: .service, principal: principal, channel: ref, start: .sequence(from),
          follow: true, limit: 0, token: 1, at: $1)
      }
    } else {
      var made: [FarEffect] = []
      far.subscribe(
        id, principal, .service, ref, start: .sequence(from), follow: true, limit: 0, token: 1,
        to: owner, into: &made)
      perform(made)
    }
  }

  /// The agent has read so many bytes of a channel.
  func credit(_ agent: ClusterAgent, _ ref: ChannelRef, _ bytes: Int) {
    guard let id = agent.session else { return }
    let owner = owner(of: ref)
    if owner == me {
      input { $0.receiveCredit(id, bytes: bytes, at: $1) }
    } else if world.plant != .creditLost || !world.random.oneIn(4) {
      var made: [FarEffect] = []
      far.credit(id, bytes: bytes, to: owner, into: &made)
      perform(made)
    }
  }

  func leave(_ id: SessionID) {
    agents[id] = nil
    input { $0.receiveClose(id, at: $1) }
    var made: [FarEffect] = []
    far.close(id, into: &made)
    perform(made)
  }

  // MARK: far effects

  func perform(_ made: [FarEffect]) {
    for effect in made {
      switch effect {
      case .mail(let node, var mail):
        if world.plant == .cursorFromHead,
          case .subscribe(
            let id, let channel, .sequence(let from), let follow, let limit, let token) = mail,
          from > 1
        {
          mail = .subscribe(
            id, channel: channel, start: .live, follow: follow, limit: limit, token: token)
        }
        enqueue(ClusterNode.index(node), mail)
      case .deliver(let ids, let ref, let delivery, _):
        for id in ids { agents[id]?.deliver(ref, delivery) }
      case .answer(let id, let ref, let token, _, let outcome):
        agents[id]?.answer(ref, token, outcome)
      case .subscribed(let id, _, _, _, let fault): agents[id]?.subscribed(fault)
      case .end(let id, let fault): agents[id]?.end(fault)
      case .stray(let node): world.fail("stray mail from \(node)")
      case .wantMap(_, let ref):
        // A newer map may be here already.
        if owner(of: ref) == me {
          leaveFar(ref)
        } else {
          after(50_000_000) { node in
            node.readMap()
            let owner = node.owner(of: ref)
            if owner == node.me { return node.leaveFar(ref) }
            var again: [FarEffect] = []
            node.far.receiveOwner(of: ref, owner, into: &again)
            node.perform(again)
          }
        }
      case .creditDue:
        after(Limits.farCreditMilliseconds * 1_000_000) { node in
          var made: [FarEffect] = []
          node.far.payCredit(into: &made)
          node.perform(made)
        }
      case .written, .readEnded, .forgive, .pause, .resume: break
      }
    }
  }

  /// Channels whose owner is another: what was asked of the last one is asked of the new one. Who used a channel that
  /// has come here, or has gone, begins anew.
  func ownersChanged(_ changed: [(ref: ChannelRef, from: NodeID, to: NodeID)]) {
    for (ref, from, to) in changed {
      if from == me || to == me {
        leaveFar(ref)
      } else {
        var made: [FarEffect] = []
        far.receiveOwner(of: ref, to, into: &made)
        perform(made)
      }
    }
  }

  private func leaveFar(_ ref: ChannelRef) {
    let users = agents.values.filter { $0.uses(ref) }.sorted { $0.number < $1.number }
    for agent in users { agent.end(Fault(.unavailable)) }
  }

  // MARK: mail

  func receive(_ mail: LinkMail, from j: Int) {
    let peer = ClusterNode.id(j)
    switch mail {
    case .opened(let id, let principal, let kind): near.open(id, of: peer, principal, kind)
    case .channel(let number, _, let name):
      guard let ref = world.refs.first(where: { $0.name == name }) else { return }
      near.introduce(number, ref, by: peer)
    case .publish(let id, let channel, let publication):
      guard let (proxy, origin, ref) = use(id, channel, peer) else { return }
      guard serves(ref, mail, publication.frame.count, from: j) else { return }
      input {
        $0.receivePublish(
          proxy, kind: origin.kind, principal: origin.principal, channel: ref, publication, at: $1)
      }
    case .subscribe(let id, let channel, let start, let follow, let limit, let token):
      guard let (proxy, origin, ref) = use(id, channel, peer) else { return }
      guard serves(ref, mail, 0, from: j) else { return }
      input {
        $0.receiveSubscribe(
          proxy, kind: origin.kind, principal: origin.principal, channel: ref, start: start,
          follow: follow, limit: limit, token: token, at: $1)
      }
    case .unsubscribe(let id, let channel):
      guard let (proxy, _, ref) = use(id, channel, peer) else { return }
      input { $0.receiveUnsubscribe(proxy, channel: ref, at: $1) }
    case .credit(let id, let bytes):
      guard let proxy = near.proxy(of: id, of: peer) else { return }
      input { $0.receiveCredit(proxy, bytes: Int(clamping: bytes), at: $1) }
    case .closed(let id):
      guard let proxy = near.close(id, of: peer) else { return }
      input { $0.receiveClose(proxy, at: $1) }
    default:
      var made: [FarEffect] = []
      far.receive(mail, from: peer, into: &made)
      perform(made)
    }
  }

  /// Whether it is done here and now; else it waits, or has been sent back.
  private func serves(_ ref: ChannelRef, _ mail: LinkMail, _ bytes: Int, from j: Int) -> Bool {
    if world.plant == .staleMapAccepted { return true }
    let ask = ClusterAsk.mail(mail, bytes: bytes, from: j, generation: generations[j])
    switch owner(of: ref) == me ? admit(ref, ask) : .refused {
    case .serve: return true
    case .held: return false
    case .refused:
      sendBack(mail, to: j)
      return false
    }
  }

  private func use(
    _ id: SessionID, _ channel: UInt32, _ peer: NodeID
  ) -> (SessionID, NearProxies.Origin, ChannelRef)? {
    // Its session may have ended here meanwhile.
    guard let proxy = near.proxy(of: id, of: peer), let origin = near.origin(proxy),
      let ref = near.channel(channel, of: peer)
    else { return nil }
    return (proxy, origin, ref)
  }
}

/// What somebody asks of a channel.
enum ClusterAsk {
  case publish(ClusterAgent, SessionID, ChannelRef, Publication)
  case subscribe(ClusterAgent, SessionID, ChannelRef, from: UInt64)
  /// Void when what was agreed with the node became void since.
  case mail(LinkMail, bytes: Int, from: Int, generation: Int?)

  var bytes: Int {
    switch self {
    case .publish(_, _, _, let publication): publication.frame.count
    case .subscribe: 0
    case .mail(_, let bytes, _, _): bytes
    }
  }
}
