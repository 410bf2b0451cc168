internal import Base
internal import Engine
internal import LinkMail
internal import Ring

// What agents of this node ask, and what other nodes ask over links.
extension ClusterNode {
  private func owner(of ref: ChannelRef) -> NodeID { map.owner(of: map.slot(of: ref.id)) }

  /// What becomes of a use of a channel that the map says is this node's.
  private func admits(_ ref: ChannelRef, _ bytes: Int) -> Bool {
    let slot = map.slot(of: ref.id)
    if let target = targets[slot], target.phase != .opened { return false }
    guard var source = sources[slot] else { return true }
    let admission = source.admit(bytes: bytes)
    sources[slot] = source
    return admission == .serve
  }

  // MARK: agents

  func publish(_ agent: ClusterAgent, _ ref: ChannelRef, _ publication: Publication) {
    guard let id = agent.session else { return }
    let principal = agent.principal
    let owner = owner(of: ref)
    if owner == me {
      guard admits(ref, publication.frame.count) else {
        return agent.answer(
          ref, publication.token, .refused(Fault(.unavailable), winner: 0))
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
      guard admits(ref, 0) else { return agent.subscribed(ref, Fault(.unavailable)) }
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
      case .subscribed(let id, let ref, _, _, let fault): agents[id]?.subscribed(ref, fault)
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
      guard serves(ref, publication.frame.count) else {
        return enqueue(
          j,
          .notOwner(id, channel: channel, token: publication.token, revision: map.revision))
      }
      input {
        $0.receivePublish(
          proxy, kind: origin.kind, principal: origin.principal, channel: ref, publication, at: $1)
      }
    case .subscribe(let id, let channel, let start, let follow, let limit, let token):
      guard let (proxy, origin, ref) = use(id, channel, peer) else { return }
      guard serves(ref, 0) else {
        return enqueue(
          j, .notOwner(id, channel: channel, token: token, revision: map.revision))
      }
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

  private func serves(_ ref: ChannelRef, _ bytes: Int) -> Bool {
    if world.plant == .staleMapAccepted { return true }
    return owner(of: ref) == me && admits(ref, bytes)
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
