public import Base
public import Engine

/// What the node with the sessions is to do. In this order.
public enum FarEffect: Sendable {
  case mail(NodeID, LinkMail)
  // To sessions of this loop, as an engine of this node would say it.
  /// One message for all of these.
  case deliver([SessionID], ChannelRef, Delivery, from: NodeID)
  case answer(SessionID, ChannelRef, token: UInt64, mls: MLSKind, PublishOutcome)
  case written(SessionID, count: Int)
  case subscribed(SessionID, ChannelRef, token: UInt64, head: UInt64, Fault?)
  case readEnded(SessionID, ChannelRef)
  /// The session is gone here too.
  case end(SessionID, Fault)
  case pause(SessionID)
  case resume(SessionID)
  /// Whatever credit the session owed that node is void.
  case forgive(SessionID, NodeID)
  /// A newer map than this revision is needed: then `receiveOwner` for that channel.
  case wantMap(after: UInt64, ChannelRef)
  /// Publishes without a session: nobody waits for them. A peer that sends such breaks the rules, harmlessly.
  case stray(NodeID)
  /// Call `payCredit` within `Limits.farCreditMilliseconds`.
  case creditDue
}

/// The sessions of one loop that use channels owned by other nodes: what each has asked for and how far it came, so that a
/// new owner, or another process of the old one, can be asked again, and nothing is lost, doubled or heard twice.
///
/// A value: no I/O, no clock. A publish keeps a number of its session until it is answered, and goes under a producer id
/// of its own: the owner's table of producers makes the second of two harmless. A subscription remembers the last
/// sequence that came, and begins anew behind it.
public struct FarSessions {
  /// In the token of a publish for whose answer somebody waits.
  public static let awaited: UInt64 = 1 << 63

  private let loop: Int
  private let writer: UInt64
  private var sessions = FarTable()
  /// Numbers of channels, and back: by what is behind the loop in a number; and which of them each node was told.
  private var numbered: [ChannelID: UInt32] = [:]
  private var refs: [ChannelRef?] = []
  private var introduced: [NodeID: Set<ChannelID>] = [:]
  /// Numbers that were taken back; those of the last time rest until the next, so that nothing is under way with them.
  private var freeNumbers: [UInt32] = []
  private var restingNumbers: [UInt32] = []
  /// So many more channels are numbered until the numbers that nobody uses are taken back.
  private let fewestNumbers: Int
  private var untilTakenBack: Int
  private var refusedNumbers = 0
  /// Rises whenever a node is to be told numbers anew: what uses remember of them is void.
  private var told: UInt64 = 1
  /// Sessions with credit that is not paid yet.
  private var indebted: [SessionID] = []
  /// Sessions so far, and cursors asked for: no two share a number.
  private var made: UInt64 = 0
  private var lastAsked: UInt64 = 0
  /// Whose links are crowded: who publishes there is read no further.
  private var crowded: Set<NodeID> = []

  /// - Parameters:
  ///   - loop: at most 255; channel numbers of two loops differ.
  ///   - writer: random, another in each process: producers are told apart by it.
  ///   - numbers: of channels that are given before those that nobody uses are looked for.
  public init(loop: Int, writer: UInt64, numbers: Int = Limits.farChannels) {
    precondition((0..<256).contains(loop), "loop \(loop)")
    self.loop = loop
    fewestNumbers = numbers
    untilTakenBack = numbers
    self.writer = writer
  }

  public var count: Int { sessions.count }

  /// Whether the session has used the channel through this.
  public func uses(_ id: SessionID, _ channel: ChannelID) -> Bool {
    sessions[id]?.find(channel) != nil
  }

  /// Channels in use whose owner, as this was told last, is another than `owner` says.
  public func channels(whoseOwnerIsNot owner: (ChannelID) -> NodeID) -> [ChannelRef] {
    var found: [ChannelID: ChannelRef] = [:]
    for far in sessions.all {
      for (id, use) in far.uses where use.owner != owner(id) { found[id] = use.ref }
    }
    return found.values.sorted { $0.id < $1.id }
  }

  // MARK: from sessions

  public mutating func publish(
    _ id: SessionID, _ principal: Principal, _ kind: SessionKind, _ ref: ChannelRef,
    _ publication: Publication, to owner: NodeID, into effects: inout [FarEffect]
  ) {
    let far = session(id, principal, kind)
    guard let use = use(far, ref, owner, &effects) else { return }
    far.number += 1
    var sent = publication
    sent.token = far.number | (publication.token == 0 ? 0 : FarSessions.awaited)
    if sent.producer == 0 { (sent.producer, sent.producerSequence) = (far.producer, far.number) }
    far.keep(PendingPublish(publication: sent, token: publication.token), for: use)
    if far.pendingBytes > Limits.farPendingBytes { far.isCrowded = true }
    if !crowded.isEmpty, crowded.contains(use.owner) { far.slowedBy.insert(use.owner) }
    judge(far, &effects)
    if !use.waits { send(sent, far, use, &effects) }
  }

  public mutating func subscribe(
    _ id: SessionID, _ principal: Principal, _ kind: SessionKind, _ ref: ChannelRef, start: Start,
    follow: Bool, limit: UInt64, token: UInt64, to owner: NodeID, into effects: inout [FarEffect]
  ) {
    let far = session(id, principal, kind)
    guard let use = use(far, ref, owner, &effects) else { return }
    // One cursor per session and channel: it goes on as it is.
    if let cursor = use.cursor {
      effects.append(.subscribed(id, ref, token: token, head: cursor.last ?? 0, nil))
      return
    }
    use.cursor = FarCursor(start: start, follow: follow, limit: limit, token: token)
    if !use.waits { sendCursor(far, use, &effects) }
  }

  public mutating func unsubscribe(
    _ id: SessionID, _ ref: ChannelRef, into effects: inout [FarEffect]
  ) {
    guard let far = sessions[id], let use = far.find(ref.id), use.cursor != nil else { return }
    use.cursor = nil
    if !use.waits {
      let number = introduce(ref, to: use.owner, &effects)
      effects.append(.mail(use.owner, .unsubscribe(far.id, channel: number)))
    }
  }

  /// Bytes that came from `owner` have left for the socket.
  public mutating func credit(
    _ id: SessionID, bytes: Int, to owner: NodeID, into effects: inout [FarEffect]
  ) {
    guard bytes > 0, let far = sessions[id], far.opened.contains(owner) else { return }
    let due = far.owe(bytes, to: owner)
    if due >= Limits.farCreditBytes {
      effects.append(.mail(owner, .credit(id, bytes: UInt64(far.takeDue(to: owner)))))
    } else if !far.isIndebted {
      far.isIndebted = true
      indebted.append(id)
      if indebted.count == 1 { effects.append(.creditDue) }
    }
  }

  /// All credit that was too little to be worth a word by itself.
  public mutating func payCredit(into effects: inout [FarEffect]) {
    for id in indebted {
      guard let far = sessions[id] else { continue }
      far.isIndebted = false
      for (owner, bytes) in far.takeDue() where far.opened.contains(owner) {
        effects.append(.mail(owner, .credit(id, bytes: UInt64(bytes))))
      }
    }
    indebted.removeAll(keepingCapacity: indebted.count <= 1_024)
  }

  /// Its stream is over: its cursors end, and what it published goes on its way.
  public mutating func close(_ id: SessionID, into effects: inout [FarEffect]) {
    guard let far = sessions[id], !far.isLeaving else { return }
    if far.pending == 0 { return forget(far, &effects) }
    far.isLeaving = true
    for key in far.uses.keys.sorted() {
      if let use = far.uses[key] { unsubscribe(id, use.ref, into: &effects) }
    }
  }

  private mutating func forget(_ far: Far, _ effects: inout [FarEffect]) {
    sessions.remove(far.id)
    for owner in far.opened.sorted() { effects.append(.mail(owner, .closed(far.id))) }
  }

  private mutating func session(
    _ id: SessionID, _ principal: Principal, _ kind: SessionKind
  ) -> Far {
    if let known = sessions[id] { return known }
    // Spread, so that two sessions never share one.
    made += 1
    var word = writer &+ made &* 0x9e37_79b9_7f4a_7c15
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    word ^= word >> 31
    let far = Far(id, principal, kind, producer: word == 0 ? 1 : word)
    sessions.insert(far)
    return far
  }

  /// nil: the session uses too many channels, and has ended.
  private mutating func use(
    _ far: Far, _ ref: ChannelRef, _ owner: NodeID, _ effects: inout [FarEffect]
  ) -> FarUse? {
    if let known = far.find(ref.id) { return known }
    if far.uses.count >= Limits.farChannelsPerSession { far.dropIdle() }
    if far.uses.count >= Limits.farChannelsPerSession {
      giveUp(far, Fault(.unavailable, "one stream uses too many channels"), &effects)
      return nil
    }
    if numbered.count >= fewestNumbers * 8 {
      // Now and then: others may have left.
      if refusedNumbers % 1_024 == 0 { takeNumbersBack() }
      refusedNumbers += 1
    }
    if numbered.count >= fewestNumbers * 8 {
      giveUp(far, Fault(.unavailable, "too many channels of other nodes are in use"), &effects)
      return nil
    }
    let made = FarUse(ref, owner)
    far.uses[ref.id] = made
    if owner == .none { wait(made, after: 0, &effects) }
    return made
  }

  /// Nothing is sent for it until `receiveOwner` names somebody.
  private func wait(_ use: FarUse, after revision: UInt64, _ effects: inout [FarEffect]) {
    use.waits = true
    effects.append(.wantMap(after: revision, use.ref))
  }

  /// One pause, for whatever reasons.
  private func judge(_ far: Far, _ effects: inout [FarEffect]) {
    let wanted = far.isCrowded || !far.pausedBy.isEmpty || !far.slowedBy.isEmpty
    guard wanted != far.isPaused else { return }
    far.isPaused = wanted
    effects.append(wanted ? .pause(far.id) : .resume(far.id))
  }

  /// A cursor that a session had at an engine of this node: its channel is `owner`'s now, and there it goes on.
  public mutating func receiveMoved(
    _ moved: MovedCursor, _ principal: Principal, _ kind: SessionKind, to owner: NodeID,
    into effects: inout [FarEffect]
  ) {
    let far = session(moved.session, principal, kind)
    guard let use = use(far, moved.ref, owner, &effects), use.cursor == nil else { return }
    let start = moved.ref.archived ? Start.sequence(moved.next) : .live
    var cursor = FarCursor(start: start, follow: moved.follow, limit: moved.limit, token: 0)
    cursor.isTold = true
    cursor.last = moved.ref.archived ? moved.next - 1 : nil
    cursor.own = moved.own
    use.cursor = cursor
    if !use.waits { sendCursor(far, use, &effects) }
  }

  // MARK: to owners

  private mutating func introduce(
    _ ref: ChannelRef, to owner: NodeID, _ effects: inout [FarEffect]
  ) -> UInt32 {
    let number: UInt32
    if let known = numbered[ref.id] {
      if introduced[owner]?.contains(ref.id) == true { return known }
      number = known
    } else {
      if untilTakenBack <= 0 { takeNumbersBack() }
      untilTakenBack -= 1
      let at = freeNumbers.popLast() ?? UInt32(refs.count)
      if at == refs.count { refs.append(ref) } else { refs[Int(at)] = ref }
      number = UInt32(loop) << 24 | at
      numbered[ref.id] = number
    }
    introduced[owner, default: []].insert(ref.id)
    effects.append(.mail(owner, .channel(number, ref.family, name: ref.name)))
    return number
  }

  /// Channels that no session of this loop uses lose their numbers. What is still under way with one may be for sessions of
  /// other loops: it must not mean another channel when it comes.
  private mutating func takeNumbersBack() {
    var used: Set<ChannelID> = []
    for far in sessions.all { used.formUnion(far.uses.keys) }
    freeNumbers += restingNumbers
    restingNumbers = []
    for at in refs.indices {
      guard let ref = refs[at], !used.contains(ref.id) else { continue }
      refs[at] = nil
      restingNumbers.append(UInt32(at))
    }
    numbered = numbered.filter { used.contains($0.key) }
    introduced = introduced.mapValues { $0.intersection(used) }
    untilTakenBack = max(fewestNumbers, used.count)
  }

  private func open(_ far: Far, at owner: NodeID, _ effects: inout [FarEffect]) {
    if far.opened.contains(owner) { return }
    far.opened.append(owner)
    effects.append(.mail(owner, .opened(far.id, far.principal, far.kind)))
  }

  private func ref(_ number: UInt32) -> ChannelRef? {
    let at = Int(number & 0xff_ffff)
    return Int(number >> 24) == loop && at < refs.count ? refs[at] : nil
  }

  private mutating func send(
    _ publication: Publication, _ far: Far, _ use: FarUse, _ effects: inout [FarEffect]
  ) {
    // What was told once holds until anything is void.
    if use.told != told || use.toldTo != use.owner {
      open(far, at: use.owner, &effects)
      use.number = introduce(use.ref, to: use.owner, &effects)
      (use.told, use.toldTo) = (told, use.owner)
    }
    effects.append(.mail(use.owner, .publish(far.id, channel: use.number, publication)))
  }

  /// Asks for the cursor as it stands: behind what came, for what is left of its limit.
  private mutating func sendCursor(_ far: Far, _ use: FarUse, _ effects: inout [FarEffect]) {
    guard var cursor = use.cursor else { return }
    // It had all it wanted, and the word of that was lost.
    if cursor.limit != 0, cursor.count >= cursor.limit {
      use.cursor = nil
      return effects.append(.readEnded(far.id, use.ref))
    }
    lastAsked += 1
    // Asked again, it is the same cursor: what its owner sent before it heard that goes on in order.
    cursor.asked = lastAsked
    if cursor.first == 0 { cursor.first = lastAsked }
    use.cursor = cursor
    open(far, at: use.owner, &effects)
    let number = introduce(use.ref, to: use.owner, &effects)
    let start = cursor.last.map { Start.sequence(min($0, Limits.maxSequence) + 1) } ?? cursor.start
    let limit = cursor.limit == 0 ? 0 : cursor.limit - cursor.count
    effects.append(
      .mail(
        use.owner,
        .subscribe(
          far.id, channel: number, start: start, follow: cursor.follow, limit: limit,
          token: cursor.asked)))
  }

  // MARK: from owners

  public mutating func receive(
    _ mail: LinkMail, from owner: NodeID, into effects: inout [FarEffect]
  ) {
    switch mail {
    case .deliver(let ids, let channel, let delivery):
      guard let ref = ref(channel) else { return effects.append(.stray(owner)) }
      deliver(ids, ref, delivery, owner, &effects)
    case .answer(let id, let channel, let token, let mls, let outcome):
      answer(id, channel, token, mls, outcome, owner, &effects)
    case .answers(let id, let channel, let token, let sequence, let count):
      guard let (far, use) = find(id, channel, owner) else { return }
      for i in 0..<UInt64(count) {
        let outcome = LinkOutcome.accepted(sequence: sequence &+ i, duplicate: false)
        _ = settle(far, use, token &+ i, .none, outcome, &effects)
      }
      answered(far, &effects)
    case .subscribed(let id, let channel, let token, let head, let fault):
      subscribed(id, channel, token, head, fault, owner, &effects)
    case .readEnded(let id, let channel):
      guard let (_, use) = find(id, channel, owner), use.cursor?.isAnswered == true else { return }
      use.cursor = nil
      effects.append(.readEnded(id, use.ref))
    case .end(let id, let fault):
      guard let far = sessions[id], far.isOpened(noMore: owner) else { return }
      told &+= 1
      far.dropPending(of: owner)
      effects.append(.end(id, fault))
      answered(far, &effects)
    case .pause(let id):
      guard let far = sessions[id], far.opened.contains(owner) else { return }
      far.pausedBy.insert(owner)
      judge(far, &effects)
    case .resume(let id):
      guard let far = sessions[id], far.pausedBy.remove(owner) != nil else { return }
      judge(far, &effects)
    case .notOwner(_, let channel, _, let revision):
      receiveNotOwner(channel, revision, owner, &effects)
    default: effects.append(.stray(owner))
    }
  }

  /// The owner refuses what it is asked of the channel until it is introduced anew, also if it could take it by then: else
  /// what was sent behind a refused publish would go before it. So nobody here sends any more, and all ask again
  /// together, each in its order.
  private mutating func receiveNotOwner(
    _ channel: UInt32, _ revision: UInt64, _ owner: NodeID, _ effects: inout [FarEffect]
  ) {
    guard let ref = ref(channel), introduced[owner]?.remove(ref.id) != nil else {
      return
    }
    told &+= 1
    for far in sessions.all {
      guard let use = far.find(ref.id), use.owner == owner, !use.waits else { continue }
      wait(use, after: revision, &effects)
    }
  }

  private func find(_ id: SessionID, _ channel: UInt32, _ owner: NodeID) -> (Far, FarUse)? {
    guard let far = sessions[id], let ref = ref(channel), let use = far.find(ref.id),
      use.owner == owner
    else { return nil }
    return (far, use)
  }

  private mutating func deliver(
    _ ids: [SessionID], _ ref: ChannelRef, _ delivery: Delivery, _ owner: NodeID,
    _ effects: inout [FarEffect]
  ) {
    var passed = 0
    // Mostly all of them get it.
    while passed < ids.count, take(ids[passed], ref, delivery, owner, &effects) { passed += 1 }
    if passed == ids.count { return effects.append(.deliver(ids, ref, delivery, from: owner)) }
    var some = Array(ids[..<passed])
    for id in ids[(passed + 1)...] where take(id, ref, delivery, owner, &effects) {
      some.append(id)
    }
    if !some.isEmpty { effects.append(.deliver(some, ref, delivery, from: owner)) }
  }

  /// Whether the message is one for the session. If it is not, its credit goes back.
  private mutating func take(
    _ id: SessionID, _ ref: ChannelRef, _ delivery: Delivery, _ owner: NodeID,
    _ effects: inout [FarEffect]
  ) -> Bool {
    guard let far = sessions[id] else { return false }
    if let use = far.find(ref.id), use.owner == owner, use.takes(delivery, from: far.producer) {
      return true
    }
    credit(id, bytes: delivery.frame.count, to: owner, into: &effects)
    return false
  }

  private func subscribed(
    _ id: SessionID, _ channel: UInt32, _ token: UInt64, _ head: UInt64, _ fault: Fault?,
    _ owner: NodeID, _ effects: inout [FarEffect]
  ) {
    guard let (_, use) = find(id, channel, owner), var cursor = use.cursor, cursor.first > 0,
      (cursor.first...cursor.asked).contains(token)
    else { return }
    if let fault {
      use.cursor = nil
      // Once told that it is subscribed, a session cannot be told that it is not.
      if cursor.isTold { return effects.append(.end(id, fault)) }
    } else {
      if cursor.last == nil {
        switch cursor.start {
        case .live: cursor.last = head
        case .last(let count): cursor.last = head - min(count, head)
        // Where a replay begins only the owner knows.
        case .replay, .sequence: break
        }
      }
      let wasTold = cursor.isTold
      cursor.isAnswered = true
      cursor.isTold = true
      use.cursor = cursor
      if wasTold { return }
    }
    effects.append(.subscribed(id, use.ref, token: cursor.token, head: head, fault))
  }

  private mutating func answer(
    _ id: SessionID, _ channel: UInt32, _ number: UInt64, _ mls: MLSKind, _ outcome: LinkOutcome,
    _ owner: NodeID, _ effects: inout [FarEffect]
  ) {
    guard let (far, use) = find(id, channel, owner) else { return }
    if settle(far, use, number, mls, outcome, &effects) { answered(far, &effects) }
  }

  /// It may have room again, or nothing to wait for.
  private mutating func answered(_ far: Far, _ effects: inout [FarEffect]) {
    if far.isCrowded, far.pendingBytes <= Limits.farPendingBytes / 2 {
      far.isCrowded = false
      judge(far, &effects)
    }
    if far.isLeaving, far.pending == 0 { forget(far, &effects) }
  }

  /// False: nothing was waiting for that.
  private func settle(
    _ far: Far, _ use: FarUse, _ number: UInt64, _ mls: MLSKind, _ outcome: LinkOutcome,
    _ effects: inout [FarEffect]
  ) -> Bool {
    guard let pending = far.take(number, of: use) else { return false }
    let result: PublishOutcome
    switch outcome {
    case .accepted(let sequence, let duplicate):
      // The second of two that this node sent is not the publisher's doing.
      let isOurs = pending.publication.producer == far.producer
      result = .accepted(sequence: sequence, duplicate: duplicate && !isOurs)
      if pending.token == Publication.counted {
        effects.append(.written(far.id, count: 1))
        return true
      }
    case .refused(let fault, let winner): result = .refused(fault, winner: winner)
    }
    if pending.token != 0 || mls == .commit {
      effects.append(.answer(far.id, use.ref, token: pending.token, mls: mls, result))
    }
    return true
  }

  // MARK: trouble

  /// The link told that what was agreed with that node is void (`LinkEffect.forgotten`): everything is asked again.
  public mutating func receiveForgotten(_ owner: NodeID, into effects: inout [FarEffect]) {
    introduced[owner] = nil
    told &+= 1
    for far in sessions.all where far.isOpened(noMore: owner) {
      effects.append(.forgive(far.id, owner))
      far.pausedBy.remove(owner)
      judge(far, &effects)
      for key in far.uses.keys.sorted() {
        if let use = far.uses[key], use.owner == owner, !use.waits { ask(far, use, &effects) }
      }
    }
  }

  /// The link gave the node up: who waits for it there waits no more.
  public mutating func receiveUnreachable(_ owner: NodeID, into effects: inout [FarEffect]) {
    introduced[owner] = nil
    told &+= 1
    for far in sessions.all {
      guard far.uses.values.contains(where: { $0.owner == owner }) else { continue }
      _ = far.isOpened(noMore: owner)
      giveUp(far, Fault(.unavailable, "the node that owns the channel is out of reach"), &effects)
    }
  }

  /// No map names an owner that takes the channel, for too long.
  public mutating func receiveUnowned(_ ref: ChannelRef, into effects: inout [FarEffect]) {
    for far in sessions.all {
      guard far.find(ref.id)?.waits == true else { continue }
      giveUp(far, Fault(.unavailable, "no node takes the channel at the moment"), &effects)
    }
  }

  private mutating func giveUp(_ far: Far, _ fault: Fault, _ effects: inout [FarEffect]) {
    sessions.remove(far.id)
    for other in far.opened.sorted() { effects.append(.mail(other, .closed(far.id))) }
    effects.append(.end(far.id, fault))
  }

  /// The link to that node holds much, or has room again: who publishes there waits.
  public mutating func receiveCongested(
    _ owner: NodeID, _ isCongested: Bool, into effects: inout [FarEffect]
  ) {
    if isCongested {
      crowded.insert(owner)
      return
    }
    guard crowded.remove(owner) != nil else { return }
    for far in sessions.all where far.slowedBy.remove(owner) != nil { judge(far, &effects) }
  }

  /// The link took a publish no more: nothing of it has left. What has an answer gets it; a stream without answers
  /// cannot go on behind a gap.
  public mutating func receiveRefused(
    _ id: SessionID, channel: UInt32, token number: UInt64, by owner: NodeID,
    into effects: inout [FarEffect]
  ) {
    guard let (far, use) = find(id, channel, owner), let pending = use.pending.find(number) else {
      return
    }
    let fault = Fault(.unavailable, "too much waits for the node that owns the channel")
    if pending.token == 0 { return giveUp(far, fault, &effects) }
    let mls = pending.publication.mls
    answer(id, channel, number, mls, .refused(fault, winner: 0), owner, &effects)
  }

  /// A newer map: who owns the channel now. What the last owner was asked and has not done is asked of the new one.
  public mutating func receiveOwner(
    of ref: ChannelRef, _ owner: NodeID, into effects: inout [FarEffect]
  ) {
    for far in sessions.all {
      guard let use = far.find(ref.id) else { continue }
      guard use.owner != owner || use.waits else { continue }
      if use.owner != owner, !use.waits, use.cursor != nil, far.opened.contains(use.owner) {
        let number = introduce(ref, to: use.owner, &effects)
        effects.append(.mail(use.owner, .unsubscribe(far.id, channel: number)))
      }
      far.slowedBy.remove(use.owner)
      judge(far, &effects)
      use.owner = owner
      use.waits = false
      if owner == .none {
        wait(use, after: 0, &effects)
      } else {
        ask(far, use, &effects)
      }
    }
  }

  /// The cursor first: what the publishes bring about is then heard.
  private mutating func ask(_ far: Far, _ use: FarUse, _ effects: inout [FarEffect]) {
    sendCursor(far, use, &effects)
    use.pending.forEach { send($0.publication, far, use, &effects) }
  }
}
