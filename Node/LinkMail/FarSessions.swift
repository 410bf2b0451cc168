public import Base
public import Engine

/// What the node with the sessions is to do. In this order.
public enum FarEffect: Sendable {
  case mail(NodeID, LinkMail)
  // To a session of this loop, as an engine of this node would say it.
  case deliver(SessionID, ChannelRef, Delivery, from: NodeID)
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
}

/// The sessions of one loop that use channels owned by other nodes: what each has asked for and how far it came, so that a
/// new owner, or another process of the old one, can be asked again, and nothing is lost, doubled or heard twice.
///
/// A value: no I/O, no clock. A publish keeps a number of its session until it is answered, and goes under a producer id
/// of its own: the owner's table of producers makes the second of two harmless. A subscription remembers the last
/// sequence that came, and begins anew behind it.
public struct FarSessions {
  private final class Far {
    let id: SessionID
    let principal: Principal
    let kind: SessionKind
    let producer: UInt64
    /// The number of the last publish.
    var number: UInt64 = 0
    var uses: [ChannelID: Use] = [:]
    /// Publishes not answered, in the order they came.
    var pending = PendingQueue()
    var isPaused = false
    /// Too much of it waits for answers.
    var isCrowded = false
    /// Nodes that have heard of it.
    var opened: Set<NodeID> = []
    /// Those that asked for a pause, and those whose link is crowded.
    var pausedBy: Set<NodeID> = []
    var slowedBy: Set<NodeID> = []

    init(_ id: SessionID, _ principal: Principal, _ kind: SessionKind, producer: UInt64) {
      self.id = id
      self.principal = principal
      self.kind = kind
      self.producer = producer
    }
  }

  private final class Use {
    let ref: ChannelRef
    var owner: NodeID
    /// The owner said that it is none: nothing is sent until a newer map names one.
    var waits = false
    var cursor: Cursor?
    init(_ ref: ChannelRef, _ owner: NodeID) {
      self.ref = ref
      self.owner = owner
    }
  }

  private struct Cursor {
    var start: Start
    var follow: Bool
    var limit: UInt64
    var token: UInt64
    /// The session has heard that it is subscribed.
    var isTold = false
    /// The last sequence that came, or was there where it began; nil: not known yet.
    var last: UInt64?
    var count: UInt64 = 0
    /// What the session published before the channel was another node's: not for it.
    var own: [ClosedRange<UInt64>] = []
  }

  private let loop: Int
  private let writer: UInt64
  private var sessions: [SessionID: Far] = [:]
  /// Numbers of channels, as this loop told each node; and back.
  private var numbers: [NodeID: [ChannelID: UInt32]] = [:]
  private var refs: [UInt32: ChannelRef] = [:]
  private var numbered: [ChannelID: UInt32] = [:]
  /// Whose links are crowded: who publishes there is read no further.
  private var crowded: Set<NodeID> = []

  /// - Parameters:
  ///   - loop: at most 255; channel numbers of two loops differ.
  ///   - writer: random, another in each process: producers are told apart by it.
  public init(loop: Int, writer: UInt64) {
    precondition((0..<256).contains(loop), "loop \(loop)")
    self.loop = loop
    self.writer = writer
  }

  public var count: Int { sessions.count }

  /// Whether the session has used the channel through this.
  public func uses(_ id: SessionID, _ channel: ChannelID) -> Bool {
    sessions[id]?.uses[channel] != nil
  }

  /// Channels in use whose owner, as this was told last, is another than `owner` says.
  public func channels(whoseOwnerIsNot owner: (ChannelID) -> NodeID) -> [ChannelRef] {
    var found: [ChannelID: ChannelRef] = [:]
    for far in sessions.values {
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
    let use = use(far, ref, owner, &effects)
    far.number += 1
    var sent = publication
    sent.token = far.number
    if sent.producer == 0 { (sent.producer, sent.producerSequence) = (far.producer, far.number) }
    far.pending.append(
      PendingPublish(channel: ref.id, publication: sent, token: publication.token))
    if far.pending.bytes > Limits.farPendingBytes { far.isCrowded = true }
    if !crowded.isEmpty, crowded.contains(use.owner) { far.slowedBy.insert(use.owner) }
    judge(far, &effects)
    if !use.waits { send(sent, far, use, &effects) }
  }

  public mutating func subscribe(
    _ id: SessionID, _ principal: Principal, _ kind: SessionKind, _ ref: ChannelRef, start: Start,
    follow: Bool, limit: UInt64, token: UInt64, to owner: NodeID, into effects: inout [FarEffect]
  ) {
    let far = session(id, principal, kind)
    let use = use(far, ref, owner, &effects)
    // One cursor per session and channel: it goes on as it is.
    if let cursor = use.cursor {
      effects.append(.subscribed(id, ref, token: token, head: cursor.last ?? 0, nil))
      return
    }
    use.cursor = Cursor(start: start, follow: follow, limit: limit, token: token)
    if !use.waits { sendCursor(far, use, &effects) }
  }

  public mutating func unsubscribe(
    _ id: SessionID, _ ref: ChannelRef, into effects: inout [FarEffect]
  ) {
    guard let far = sessions[id], let use = far.uses[ref.id], use.cursor != nil else { return }
    use.cursor = nil
    if !use.waits {
      let number = introduce(ref, to: use.owner, &effects)
      effects.append(.mail(use.owner, .unsubscribe(id, channel: number)))
    }
  }

  /// Bytes that came from `owner` have left for the socket.
  public mutating func credit(
    _ id: SessionID, bytes: Int, to owner: NodeID, into effects: inout [FarEffect]
  ) {
    guard bytes > 0, sessions[id]?.opened.contains(owner) == true else { return }
    effects.append(.mail(owner, .credit(id, bytes: UInt64(bytes))))
  }

  public mutating func close(_ id: SessionID, into effects: inout [FarEffect]) {
    guard let far = sessions.removeValue(forKey: id) else { return }
    for owner in far.opened.sorted() { effects.append(.mail(owner, .closed(id))) }
  }

  private mutating func session(
    _ id: SessionID, _ principal: Principal, _ kind: SessionKind
  ) -> Far {
    if let known = sessions[id] { return known }
    // Spread, so that two sessions never share one.
    var word = writer &+ id.value &* 0x9e37_79b9_7f4a_7c15
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    word ^= word >> 31
    let made = Far(id, principal, kind, producer: word == 0 ? 1 : word)
    sessions[id] = made
    return made
  }

  private func use(
    _ far: Far, _ ref: ChannelRef, _ owner: NodeID, _ effects: inout [FarEffect]
  ) -> Use {
    if let known = far.uses[ref.id] { return known }
    let made = Use(ref, owner)
    far.uses[ref.id] = made
    if owner == .none { wait(made, after: 0, &effects) }
    return made
  }

  /// Nothing is sent for it until `receiveOwner` names somebody.
  private func wait(_ use: Use, after revision: UInt64, _ effects: inout [FarEffect]) {
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
    let use = use(far, moved.ref, owner, &effects)
    guard use.cursor == nil else { return }
    let start = moved.ref.archived ? Start.sequence(moved.next) : .live
    var cursor = Cursor(start: start, follow: moved.follow, limit: moved.limit, token: 0)
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
    if let known = numbers[owner]?[ref.id] { return known }
    let number: UInt32
    if let known = numbered[ref.id] {
      number = known
    } else {
      number = UInt32(loop) << 24 | UInt32(numbered.count & 0xff_ffff)
      numbered[ref.id] = number
      refs[number] = ref
    }
    numbers[owner, default: [:]][ref.id] = number
    effects.append(.mail(owner, .channel(number, ref.family, name: ref.name)))
    return number
  }

  private func open(_ far: Far, at owner: NodeID, _ effects: inout [FarEffect]) {
    if far.opened.insert(owner).inserted {
      effects.append(.mail(owner, .opened(far.id, far.principal, far.kind)))
    }
  }

  private mutating func send(
    _ publication: Publication, _ far: Far, _ use: Use, _ effects: inout [FarEffect]
  ) {
    open(far, at: use.owner, &effects)
    let number = introduce(use.ref, to: use.owner, &effects)
    effects.append(.mail(use.owner, .publish(far.id, channel: number, publication)))
  }

  /// Asks for the cursor as it stands: behind what came, for what is left of its limit.
  private mutating func sendCursor(_ far: Far, _ use: Use, _ effects: inout [FarEffect]) {
    guard let cursor = use.cursor else { return }
    open(far, at: use.owner, &effects)
    let number = introduce(use.ref, to: use.owner, &effects)
    let start = cursor.last.map { Start.sequence($0 + 1) } ?? cursor.start
    let limit = cursor.limit == 0 ? 0 : cursor.limit - cursor.count
    effects.append(
      .mail(
        use.owner,
        .subscribe(
          far.id, channel: number, start: start, follow: cursor.follow, limit: limit,
          token: cursor.token)))
  }

  // MARK: from owners

  public mutating func receive(
    _ mail: LinkMail, from owner: NodeID, into effects: inout [FarEffect]
  ) {
    switch mail {
    case .deliver(let ids, let channel, let delivery):
      guard let ref = refs[channel] else { return effects.append(.stray(owner)) }
      for id in ids { deliver(id, ref, delivery, owner, &effects) }
    case .answer(let id, let channel, let token, let mls, let outcome):
      answer(id, channel, token, mls, outcome, owner, &effects)
    case .subscribed(let id, let channel, let token, let head, let fault):
      subscribed(id, channel, token, head, fault, owner, &effects)
    case .readEnded(let id, let channel):
      guard let (_, use) = find(id, channel, owner), use.cursor != nil else { return }
      use.cursor = nil
      effects.append(.readEnded(id, use.ref))
    case .end(let id, let fault):
      guard let far = sessions[id], far.opened.remove(owner) != nil else { return }
      end(far, fault, &effects)
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
    guard let ref = refs[channel], numbers[owner]?.removeValue(forKey: ref.id) != nil else {
      return
    }
    for id in sessions.keys.sorted(by: { $0.value < $1.value }) {
      guard let use = sessions[id]?.uses[ref.id], use.owner == owner, !use.waits else { continue }
      wait(use, after: revision, &effects)
    }
  }

  private func find(_ id: SessionID, _ channel: UInt32, _ owner: NodeID) -> (Far, Use)? {
    guard let far = sessions[id], let ref = refs[channel], let use = far.uses[ref.id],
      use.owner == owner
    else { return nil }
    return (far, use)
  }

  private func deliver(
    _ id: SessionID, _ ref: ChannelRef, _ delivery: Delivery, _ owner: NodeID,
    _ effects: inout [FarEffect]
  ) {
    guard let far = sessions[id], let use = far.uses[ref.id], use.owner == owner,
      var cursor = use.cursor
    else { return }
    let cost = delivery.frame.count
    // Read again from the archive, where nobody knows any more who sent it.
    let isOwn =
      delivery.producer == far.producer
      || cursor.own.contains { $0.contains(delivery.sequence) }
    // A channel that nobody keeps counts anew with another owner.
    let isNew = delivery.sequence > cursor.last ?? 0 || !ref.archived
    guard isNew, !isOwn else {
      if isNew {
        cursor.last = delivery.sequence
        use.cursor = cursor
      }
      effects.append(.mail(owner, .credit(id, bytes: UInt64(cost))))
      return
    }
    cursor.last = delivery.sequence
    cursor.count += 1
    use.cursor = cursor
    effects.append(.deliver(id, ref, delivery, from: owner))
  }

  private func subscribed(
    _ id: SessionID, _ channel: UInt32, _ token: UInt64, _ head: UInt64, _ fault: Fault?,
    _ owner: NodeID, _ effects: inout [FarEffect]
  ) {
    guard let (_, use) = find(id, channel, owner), var cursor = use.cursor, cursor.token == token
    else { return }
    if let fault {
      use.cursor = nil
      // Once told that it is subscribed, a session cannot be told that it is not.
      if cursor.isTold, let far = sessions[id] { return end(far, fault, &effects) }
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
      cursor.isTold = true
      use.cursor = cursor
      if wasTold { return }
    }
    effects.append(.subscribed(id, use.ref, token: token, head: head, fault))
  }

  private func answer(
    _ id: SessionID, _ channel: UInt32, _ number: UInt64, _ mls: MLSKind, _ outcome: LinkOutcome,
    _ owner: NodeID, _ effects: inout [FarEffect]
  ) {
    guard let (far, use) = find(id, channel, owner), let pending = far.pending.take(number)
    else { return }
    if far.isCrowded, far.pending.bytes <= Limits.farPendingBytes / 2 {
      far.isCrowded = false
      judge(far, &effects)
    }
    let result: PublishOutcome
    switch outcome {
    case .accepted(let sequence, let duplicate):
      // The second of two that this node sent is not the publisher's doing.
      let isOurs = pending.publication.producer == far.producer
      result = .accepted(sequence: sequence, duplicate: duplicate && !isOurs)
      if pending.token == Publication.counted {
        effects.append(.written(id, count: 1))
        return
      }
    case .refused(let fault, let winner): result = .refused(fault, winner: winner)
    }
    if pending.token != 0 || mls == .commit {
      effects.append(.answer(id, use.ref, token: pending.token, mls: mls, result))
    }
  }

  /// What a session asked of a node cannot be had: its stream ends, everywhere.
  private func end(_ far: Far, _ fault: Fault, _ effects: inout [FarEffect]) {
    effects.append(.end(far.id, fault))
  }

  // MARK: trouble

  /// The link told that what was agreed with that node is void (`LinkEffect.forgotten`): everything is asked again.
  public mutating func receiveForgotten(_ owner: NodeID, into effects: inout [FarEffect]) {
    numbers[owner] = nil
    for id in sessions.keys.sorted(by: { $0.value < $1.value }) {
      guard let far = sessions[id], far.opened.remove(owner) != nil else { continue }
      effects.append(.forgive(id, owner))
      far.pausedBy.remove(owner)
      judge(far, &effects)
      ask(far, { $0.owner == owner && !$0.waits }, &effects)
    }
  }

  /// The link gave the node up: who waits for it there waits no more.
  public mutating func receiveUnreachable(_ owner: NodeID, into effects: inout [FarEffect]) {
    numbers[owner] = nil
    for id in sessions.keys.sorted(by: { $0.value < $1.value }) {
      guard let far = sessions[id], far.uses.values.contains(where: { $0.owner == owner }) else {
        continue
      }
      far.opened.remove(owner)
      giveUp(far, Fault(.unavailable, "the node that owns the channel is out of reach"), &effects)
    }
  }

  /// No map names an owner that takes the channel, for too long.
  public mutating func receiveUnowned(_ ref: ChannelRef, into effects: inout [FarEffect]) {
    for id in sessions.keys.sorted(by: { $0.value < $1.value }) {
      guard let far = sessions[id], far.uses[ref.id]?.waits == true else { continue }
      giveUp(far, Fault(.unavailable, "no node takes the channel at the moment"), &effects)
    }
  }

  private mutating func giveUp(_ far: Far, _ fault: Fault, _ effects: inout [FarEffect]) {
    sessions[far.id] = nil
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
    for id in sessions.keys.sorted(by: { $0.value < $1.value }) {
      guard let far = sessions[id], far.slowedBy.remove(owner) != nil else { continue }
      judge(far, &effects)
    }
  }

  /// The link took a publish no more: nothing of it has left. What has an answer gets it; a stream without answers
  /// cannot go on behind a gap.
  public mutating func receiveRefused(
    _ id: SessionID, channel: UInt32, token number: UInt64, by owner: NodeID,
    into effects: inout [FarEffect]
  ) {
    guard let far = sessions[id], let pending = far.pending.find(number) else { return }
    let fault = Fault(.unavailable, "too much waits for the node that owns the channel")
    if pending.token == 0 { return giveUp(far, fault, &effects) }
    let mls = pending.publication.mls
    answer(id, channel, number, mls, .refused(fault, winner: 0), owner, &effects)
  }

  /// A newer map: who owns the channel now. What the last owner was asked and has not done is asked of the new one.
  public mutating func receiveOwner(
    of ref: ChannelRef, _ owner: NodeID, into effects: inout [FarEffect]
  ) {
    for id in sessions.keys.sorted(by: { $0.value < $1.value }) {
      guard let far = sessions[id], let use = far.uses[ref.id] else { continue }
      guard use.owner != owner || use.waits else { continue }
      if use.owner != owner, !use.waits, use.cursor != nil, far.opened.contains(use.owner) {
        let number = introduce(ref, to: use.owner, &effects)
        effects.append(.mail(use.owner, .unsubscribe(id, channel: number)))
      }
      far.slowedBy.remove(use.owner)
      judge(far, &effects)
      use.owner = owner
      use.waits = false
      if owner == .none {
        wait(use, after: 0, &effects)
      } else {
        ask(far, { $0 === use }, &effects)
      }
    }
  }

  /// Cursors first: what the publishes bring about is then heard.
  private mutating func ask(
    _ far: Far, _ which: (Use) -> Bool, _ effects: inout [FarEffect]
  ) {
    for key in far.uses.keys.sorted() {
      if let use = far.uses[key], which(use) { sendCursor(far, use, &effects) }
    }
    far.pending.forEach { pending in
      if let use = far.uses[pending.channel], which(use) {
        send(pending.publication, far, use, &effects)
      }
    }
  }
}
