internal import Base

extension MembershipEngine {
  /// Hears of a member: what is news is believed, told on, and maybe contradicted.
  mutating func take(
    _ update: MemberUpdate, at now: Instant, _ effects: inout [MembershipEffect]
  ) {
    let said = update.member
    if said.id == me.id {
      takeOfMe(said, &effects)
      return
    }
    guard let peer = peers[said.id] else {
      if peers.count >= Limits.members { return }
      // Who was forgotten before this node came is nobody to it, and stays so.
      believe(update, at: now, &effects)
      return
    }
    if said.overrides(peer.member) {
      believe(update, at: now, &effects)
    } else if said.state == .suspect, peer.member.state == .suspect,
      said.incarnation == peer.member.incarnation
    {
      confirm(update)
    } else if said.state == .alive, said.incarnation == peer.member.incarnation,
      said.address != peer.member.address, update.by == said.id
    {
      effects.append(.twin(said))
    }
  }

  private mutating func takeOfMe(_ said: Member, _ effects: inout [MembershipEffect]) {
    if phase == .leaving || said.incarnation < me.incarnation { return }
    switch said.state {
    case .alive:
      // An earlier life of this node had a higher incarnation, or another address.
      if said.incarnation > me.incarnation || said.address != me.address {
        refute(said.incarnation, &effects)
      }
    case .suspect:
      // Others miss this node: it may well be slow.
      worsen(1)
      refute(said.incarnation, &effects)
    case .dead, .left: refute(said.incarnation, &effects)
    case .forgotten:
      // The next life has to be newer than all that is remembered of this one.
      end(said.incarnation, &effects)
    }
  }

  private mutating func believe(
    _ update: MemberUpdate, at now: Instant, _ effects: inout [MembershipEffect]
  ) {
    let said = update.member
    let before = peers[said.id]?.member
    var peer = peers[said.id] ?? Peer(member: said, since: now)
    peer.member = said
    if before?.state != said.state { peer.since = now }
    peer.suspectors = said.state == .suspect ? [update.by] : []
    peers[said.id] = peer
    if before == nil || before?.state == .forgotten, said.state <= .suspect {
      // Somewhere in the round, so that not all ping a new member at once.
      round.insert(said.id, at: random.below(round.count + 1))
    }
    if let probe, probe.target == said.id, said.state > .suspect { self.probe = nil }
    gossip.put(update)
    effects.append(.changed(said))
  }

  /// One more suspects: the suspicion is shorter for it.
  private mutating func confirm(_ update: MemberUpdate) {
    let wanted = profile.suspicionMultiplier - 1
    guard var peer = peers[update.member.id], !peer.suspectors.contains(update.by),
      peer.suspectors.count < wanted
    else { return }
    peer.suspectors.append(update.by)
    peers[update.member.id] = peer
    gossip.put(update)
  }

  func suspicionEnds(_ peer: Peer) -> Instant {
    let lasts = profile.suspicion(members: size, confirmations: peer.suspectors.count - 1)
    return peer.since + lasts
  }

  mutating func suspect(
    _ id: NodeID, at now: Instant, _ effects: inout [MembershipEffect]
  ) {
    guard var member = peers[id]?.member, member.state <= .suspect else { return }
    member.state = .suspect
    take(MemberUpdate(member, by: me.id), at: now, &effects)
  }

  mutating func expireSuspicions(at now: Instant, _ effects: inout [MembershipEffect]) {
    for id in peers.keys.sorted() {
      guard let peer = peers[id] else { continue }
      if peer.member.state == .suspect, suspicionEnds(peer) <= now {
        var member = peer.member
        member.state = .dead
        take(MemberUpdate(member, by: me.id), at: now, &effects)
      } else if peer.member.state == .forgotten,
        now - peer.since >= .seconds(Limits.forgottenSeconds)
      {
        peers[id] = nil
        gossip.remove(id)
      }
    }
  }
}
