internal import Base

extension MembershipEngine {
  /// Members that live or may, in random order, without `not`.
  mutating func reachable(not: NodeID = .none) -> [Member] {
    var list = peers.values.map(\.member).filter { $0.state <= .suspect && $0.id != not }
      .sorted { $0.id < $1.id }
    random.shuffle(&list)
    return list
  }

  /// Whether a member that shows itself like `shown` does not know what is believed of it here: it goes by an earlier
  /// life than somebody has told of. Then only its own word helps.
  func isContradiction(_ believed: Member, to shown: Member) -> Bool {
    if believed.state >= .suspect, believed.state != .left { return !shown.overrides(believed) }
    return believed.incarnation > shown.incarnation
  }

  /// A packet with the updates that fit; what is said against the receiver comes first, so that it can contradict.
  mutating func send(
    _ message: MemberMessage, to member: Member, _ effects: inout [MembershipEffect]
  ) {
    var updates: [MemberUpdate] = []
    var bytes = Limits.memberPacketBytes - MemberPacket.overhead - me.updateBytes
    if let peer = peers[member.id],
      peer.member.state >= .suspect && peer.member.state != .left
        || isContradiction(peer.member, to: member)
    {
      updates.append(MemberUpdate(peer.member, by: peer.suspectors.first ?? me.id))
      bytes -= peer.member.updateBytes
    }
    updates += gossip.take(
      bytes: bytes, count: Limits.memberUpdates - updates.count,
      limit: retransmitLimit(members: size), not: member.id)
    effects.append(
      .send(to: member.address, MemberPacket(sender: me, message: message, updates: updates)))
  }

  mutating func answer(
    _ packet: MemberPacket, at now: Instant, _ effects: inout [MembershipEffect]
  ) {
    let sender = packet.sender
    switch packet.message {
    case .ping(let sequence, let target):
      guard target == me.id else { return }
      send(.ack(sequence: sequence), to: sender, &effects)
    case .ack(let sequence): receiveAck(sequence, from: sender, at: now, &effects)
    case .nack(let sequence):
      if probe?.sequence == sequence { probe?.nacks += 1 }
    case .pingRequest(let theirs, let target, let address):
      guard errands.count < Limits.memberErrands, target != me.id, !address.isEmpty else { return }
      sequence &+= 1
      // Early enough to be there before who asks gives up.
      let (whole, part) = (profile.probeInterval.nanoseconds, profile.probeTimeout.nanoseconds)
      errands[sequence] = Errand(
        from: sender.id, address: sender.address, theirs: theirs,
        nackAt: now + Interval(nanoseconds: min(part, whole - part) * 4 / 5),
        endsAt: now + profile.probeInterval)
      let known = peers[target]?.member ?? Member(id: target, address: address)
      send(.ping(sequence: sequence, target: target), to: known, &effects)
    case .gossip: return
    case .sync(let wants):
      if wants { sendAll(to: sender.address, answer: false, &effects) }
    }
  }

  private mutating func receiveAck(
    _ sequence: UInt32, from sender: Member, at now: Instant,
    _ effects: inout [MembershipEffect]
  ) {
    if let errand = errands.removeValue(forKey: sequence) {
      let known =
        peers[errand.from]?.member ?? Member(id: errand.from, address: errand.address)
      send(.ack(sequence: errand.theirs), to: known, &effects)
      return
    }
    guard let current = probe, current.sequence == sequence else { return }
    // From the member itself and before others were asked: that is the way there and back.
    if sender.id == current.target, !current.isAsked {
      peers[sender.id]?.roundTrip.add(now - current.sentAt)
    }
    probe = nil
    worsen(-1)
  }

  // MARK: probes

  mutating func probeTick(at now: Instant, _ effects: inout [MembershipEffect]) {
    for sequence in errands.keys.sorted() {
      guard let errand = errands[sequence] else { continue }
      if now >= errand.endsAt {
        errands[sequence] = nil
      } else if now >= errand.nackAt, !errand.isNacked {
        errands[sequence]?.isNacked = true
        let known =
          peers[errand.from]?.member ?? Member(id: errand.from, address: errand.address)
        send(.nack(sequence: errand.theirs), to: known, &effects)
      }
    }
    if let current = probe {
      if now >= current.endsAt {
        fail(current, at: now, &effects)
      } else if now >= current.askAt, !current.isAsked {
        askOthers(current, &effects)
      }
    }
    guard now >= nextProbe, phase == .member else { return }
    nextProbe = now + stretched(profile.probeInterval)
    if probe == nil { startProbe(at: now, &effects) }
  }

  private func stretched(_ interval: Interval) -> Interval {
    Interval(nanoseconds: interval.nanoseconds * Int64(localHealth + 1))
  }

  private mutating func startProbe(at now: Instant, _ effects: inout [MembershipEffect]) {
    // Round robin in random order: everybody is pinged within a bound, and nobody knows when.
    var target: Member?
    for _ in 0..<2 where target == nil {
      while let id = round.popLast(), target == nil {
        if let member = peers[id]?.member, member.state <= .suspect { target = member }
      }
      if target == nil { round = reachable().map(\.id) }
    }
    guard let target else { return }
    sequence &+= 1
    probe = Probe(
      target: target.id, sequence: sequence, sentAt: now,
      askAt: now + stretched(profile.probeTimeout), endsAt: now + stretched(profile.probeInterval))
    send(.ping(sequence: sequence, target: target.id), to: target, &effects)
  }

  private mutating func askOthers(_ current: Probe, _ effects: inout [MembershipEffect]) {
    probe?.isAsked = true
    guard let target = peers[current.target]?.member else { return }
    let helpers = reachable(not: target.id).filter { $0.state == .alive }
      .prefix(profile.indirectProbes)
    probe?.asked = helpers.count
    for helper in helpers {
      send(
        .pingRequest(sequence: current.sequence, target: target.id, address: target.address),
        to: helper, &effects)
    }
    // Once more ourselves: the first may just have been lost.
    send(.ping(sequence: current.sequence, target: target.id), to: target, &effects)
  }

  /// No answer, directly or by others. When those who were asked did not say a word either, the fault may be here.
  private mutating func fail(
    _ current: Probe, at now: Instant, _ effects: inout [MembershipEffect]
  ) {
    probe = nil
    worsen(current.asked > 0 ? current.asked - min(current.asked, current.nacks) : 1)
    suspect(current.target, at: now, &effects)
  }

  // MARK: gossip and exchange

  mutating func gossipTick(at now: Instant, _ effects: inout [MembershipEffect]) {
    guard now >= nextGossip else { return }
    nextGossip = now + profile.gossipInterval
    if gossip.isEmpty { return }
    var listeners = reachable()
    // The newly dead may contradict.
    let dying = peers.values.filter {
      $0.member.state == .dead
        && now - $0.since < Interval(nanoseconds: profile.syncInterval.nanoseconds)
    }
    listeners += dying.map(\.member).sorted { $0.id < $1.id }
    random.shuffle(&listeners)
    for listener in listeners.prefix(profile.gossipNodes) where !gossip.isEmpty {
      send(.gossip, to: listener, &effects)
    }
  }

  mutating func syncTick(at now: Instant, _ effects: inout [MembershipEffect]) {
    if now >= nextSync {
      // With many members rarer, so that the load of one stays.
      let scale = size <= 32 ? 1 : Int64(log10(Double(size) / 32) / log10(2) + 1)
      nextSync = now + Interval(nanoseconds: profile.syncInterval.nanoseconds * scale)
      if phase == .member, let other = reachable().first {
        sendAll(to: other.address, answer: true, &effects)
      }
    }
    guard now >= nextReconnect else { return }
    nextReconnect = now + profile.reconnectInterval
    if phase != .member { return }
    if size == 1 { joinSeeds(&effects) }
    let dead = peers.values.map(\.member).filter { $0.state == .dead }.sorted { $0.id < $1.id }
    if !dead.isEmpty {
      sendAll(to: dead[random.below(dead.count)].address, answer: true, &effects)
    }
  }

  /// Asks the seeds who is there.
  mutating func joinSeeds(_ effects: inout [MembershipEffect]) {
    for seed in seeds { sendAll(to: seed, answer: true, &effects) }
  }

  /// All that is known, in as many packets as that takes; the first asks for an answer.
  mutating func sendAll(
    to address: String, answer: Bool, _ effects: inout [MembershipEffect]
  ) {
    let room = Limits.memberPacketBytes - MemberPacket.overhead - me.updateBytes
    var updates: [MemberUpdate] = []
    var bytes = 0
    var asks = answer
    func flush() {
      effects.append(
        .send(
          to: address, MemberPacket(sender: me, message: .sync(answer: asks), updates: updates)))
      asks = false
      updates = []
      bytes = 0
    }
    for (_, peer) in peers.sorted(by: { $0.key < $1.key }) {
      if bytes + peer.member.updateBytes > room || updates.count == Limits.memberUpdates { flush() }
      updates.append(MemberUpdate(peer.member, by: peer.suspectors.first ?? me.id))
      bytes += peer.member.updateBytes
    }
    if !updates.isEmpty || asks || !answer && peers.isEmpty { flush() }
  }
}
