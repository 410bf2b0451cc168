import Base
import Engine
import Link
import LinkMail
import Loop
import Ring

/// What leaves a shard for a node that owns channels.
struct FarMail: Sendable {
  var node: NodeID
  /// Counts how often what was agreed with that node became void, as the shard has heard: older mail is dropped, and
  /// asked again by `FarSessions`.
  var generation: UInt32
  var mail: LinkMail
}

/// What loop 0 tells a shard of other nodes.
enum FarInput: Sendable {
  case mail(NodeID, LinkMail)
  /// What was agreed with the node is void; from now on mail has this generation.
  case forgotten(NodeID, generation: UInt32)
  /// Nobody waits for the node any longer.
  case unreachable(NodeID, generation: UInt32)
  case congested(NodeID, Bool)
  /// The link was too full for a publish.
  case refused(NodeID, SessionID, channel: UInt32, token: UInt64)
}

/// The sessions of one loop that use channels of other nodes: turns what they ask into mail for links, and what comes back
/// into what an engine of this node would say. Everything here runs on its shard's loop.
final class ShardFar: @unchecked Sendable {
  /// The shard holds it.
  @safe unowned(unsafe) let shard: Shard
  let links: LinkHost
  let own: NodeID
  private(set) var map: RingMap?
  private var sessions: FarSessions
  /// Sessions have channels that this node owns since they were opened: they go on through this.
  private var hasComeHome = false
  private var outbox: [FarMail] = []
  private var generations: [(node: NodeID, generation: UInt32)] = []
  private var isPaying = false
  /// Nodes out of reach.
  private var lost: Set<NodeID> = []
  private var effects: [FarEffect] = []
  private var isRunning = false
  private var waiting: [ChannelID: Waiting] = [:]
  private var isTicking = false
  private(set) var stray = 0
  /// Slots whose hand-over is under way: who owns them here, whatever the map says; and those that are held.
  var overrides: [UInt16: SlotOverride] = [:]
  var held: [UInt16: HeldSlot] = [:]
  /// This node is none of the cluster's: nothing is its own, whatever maps and hand-overs say.
  var isWithheld = false

  /// A channel whose owner is not known, or says that it is none.
  private struct Waiting {
    let ref: ChannelRef
    let since: Instant
    var after: UInt64
    /// It was asked again; when nothing more is heard, all is well.
    var askedAt: Instant?
    var nextTry: Instant
  }

  init(_ shard: Shard, _ links: LinkHost, writer: UInt64) {
    self.shard = shard
    self.links = links
    own = links.own
    sessions = FarSessions(loop: shard.index, writer: writer)
  }

  var count: Int { sessions.count }

  /// The node that a session must ask for a channel; nil: this one. `none`: nobody is known.
  @inline(__always) func owner(of channel: ChannelID, for session: SessionID) -> NodeID? {
    guard let map else { return NodeID.none }
    let owner = owner(of: channel.slot, in: map)
    guard owner == own else { return owner }
    return hasComeHome && sessions.uses(session, channel) ? own : nil
  }

  /// The channel's owner is out of reach: nothing can be archived there.
  @inline(__always) func isLost(_ channel: ChannelID) -> Bool {
    guard !lost.isEmpty, let map else { return false }
    return lost.contains(map.owner(of: map.slot(of: channel)))
  }

  // MARK: from sessions

  func publish(
    _ session: Session, _ channel: ChannelRef, _ publication: Publication, to node: NodeID
  ) {
    sessions.publish(
      session.id, session.principal, session.kind, channel, publication, to: node, into: &effects)
    run()
  }

  func subscribe(
    _ session: Session, _ channel: ChannelRef, _ wanted: Subscription, to node: NodeID
  ) {
    sessions.subscribe(
      session.id, session.principal, session.kind, channel, start: wanted.start,
      follow: wanted.follow, limit: wanted.limit, token: wanted.token, to: node, into: &effects)
    run()
  }

  func unsubscribe(_ session: Session, _ channel: ChannelRef) {
    sessions.unsubscribe(session.id, channel, into: &effects)
    run()
  }

  func credit(_ session: SessionID, bytes: Int, to node: NodeID) {
    sessions.credit(session, bytes: bytes, to: node, into: &effects)
    run()
  }

  func close(_ session: SessionID) {
    sessions.close(session, into: &effects)
    run()
  }

  // MARK: from loop 0

  func receive(_ inputs: [FarInput]) {
    for input in inputs {
      switch input {
      case .mail(let node, let mail): sessions.receive(mail, from: node, into: &effects)
      case .forgotten(let node, let generation):
        note(generation, of: node)
        lost.remove(node)
        sessions.receiveForgotten(node, into: &effects)
      case .unreachable(let node, let generation):
        note(generation, of: node)
        lost.insert(node)
        sessions.receiveUnreachable(node, into: &effects)
      case .congested(let node, let isCongested):
        sessions.receiveCongested(node, isCongested, into: &effects)
      case .refused(let node, let session, let channel, let token):
        sessions.receiveRefused(session, channel: channel, token: token, by: node, into: &effects)
      }
      run()
    }
  }

  /// A newer map. What sessions asked of nodes that own a channel no longer is asked of those that do.
  func receive(_ next: RingMap) {
    if let map, map.revision >= next.revision { return }
    map = next
    dropOverrides(upTo: next.revision)
    followOwners()
  }

  /// What sessions asked of nodes that own a channel no longer is asked of those that do.
  func followOwners() {
    guard let next = map else { return }
    for ref in sessions.channels(whoseOwnerIsNot: { owner(of: $0.slot, in: next) }) {
      let owner = owner(of: ref.id.slot, in: next)
      if owner == own { hasComeHome = true }
      if owner != .none { waiting[ref.id] = nil }
      sessions.receiveOwner(of: ref, owner, into: &effects)
    }
    for one in waiting.values where one.askedAt == nil && one.after <= next.revision { ask(one) }
    run()
    shard.slim.receiveMap()
  }

  /// A cursor of a channel of this node: its slot has gone to `owner`, and there it goes on.
  func receiveMoved(_ cursor: MovedCursor, _ session: Session, to owner: NodeID) {
    sessions.receiveMoved(cursor, session.principal, session.kind, to: owner, into: &effects)
    run()
  }

  // MARK: effects

  private func run() {
    // What one of them brings about comes after those at hand.
    if isRunning { return }
    isRunning = true
    var at = 0
    while at < effects.count {
      // Taken out, not copied: a copy counts references.
      var effect = FarEffect.creditDue
      swap(&effect, &effects[at])
      at += 1
      perform(effect)
    }
    effects.removeAll(keepingCapacity: at <= 4_096)
    isRunning = false
  }

  private func perform(_ effect: FarEffect) {
    switch effect {
    case .mail(let node, let mail):
      outbox.append(FarMail(node: node, generation: generation(of: node), mail: mail))
    case .deliver(let ids, let channel, let delivery, let node):
      shard.deliver(ids, channel, delivery, from: node)
    case .answer(let id, let channel, let token, let mls, let outcome):
      shard.sessions.find(id)?.answer(channel, token: token, mls: mls, outcome)
    case .written(let id, let count):
      shard.sessions.find(id)?.slim?.receiveWritten(count)
    case .subscribed(let id, let channel, let token, let head, let fault):
      shard.sessions.find(id)?.subscribed(channel, token: token, head: head, fault)
    case .readEnded(let id, let channel): shard.sessions.find(id)?.readEnded(channel)
    case .end(let id, let fault): shard.sessions.find(id)?.receiveEnd(fault)
    case .pause(let id): shard.sessions.find(id)?.pause(by: Session.farPause)
    case .resume(let id): shard.sessions.find(id)?.resume(by: Session.farPause)
    case .forgive(let id, let node): shard.sessions.find(id)?.forgetOwed(to: node)
    case .wantMap(let revision, let ref): wait(for: ref, after: revision)
    case .stray: stray &+= 1
    case .creditDue: payLater()
    }
  }

  private func generation(of node: NodeID) -> UInt32 {
    for one in generations where one.node == node { return one.generation }
    return 0
  }

  private func note(_ generation: UInt32, of node: NodeID) {
    generations.removeAll { $0.node == node }
    generations.append((node, generation))
  }

  private func payLater() {
    if isPaying { return }
    isPaying = true
    shard.loop.schedule(after: .milliseconds(Limits.farCreditMilliseconds)) { [self] in
      isPaying = false
      sessions.payCredit(into: &effects)
      run()
    }
  }

  // MARK: channels without an owner

  private func wait(for ref: ChannelRef, after revision: UInt64) {
    let now = shard.loop.now.monotonic
    let since = waiting[ref.id]?.since ?? now
    waiting[ref.id] = Waiting(
      ref: ref, since: since, after: revision, askedAt: nil,
      nextTry: now + .milliseconds(NodeLimits.farRetryMilliseconds))
    if (map?.revision ?? 0) < revision { links.askForMap(after: revision) }
    tickLater()
  }

  private func tickLater() {
    if isTicking || waiting.isEmpty { return }
    isTicking = true
    shard.loop.schedule(after: .milliseconds(NodeLimits.farRetryMilliseconds)) { [self] in
      isTicking = false
      tick()
    }
  }

  /// Asks again who has the newer map now, and ends what has waited for too long.
  private func tick() {
    let now = shard.loop.now.monotonic
    for (id, one) in waiting {
      if let asked = one.askedAt {
        if now - asked > .seconds(1) { waiting[id] = nil }
      } else if now - one.since >= links.settings.patience {
        waiting[id] = nil
        sessions.receiveUnowned(one.ref, into: &effects)
      } else if let map, map.revision >= one.after, now >= one.nextTry {
        ask(one)
      }
    }
    run()
    tickLater()
  }

  private func ask(_ one: Waiting) {
    guard let map else { return }
    let owner = owner(of: one.ref.id.slot, in: map)
    guard owner != .none else { return }
    waiting[one.ref.id]?.askedAt = shard.loop.now.monotonic
    sessions.receiveOwner(of: one.ref, owner, into: &effects)
  }

  // MARK: the turn

  /// Hands loop 0 what gathered for other nodes. `mail`: for sessions of theirs.
  func endTurn(_ mail: inout [Mail]) {
    guard !outbox.isEmpty || !mail.isEmpty else { return }
    let (asked, said) = (outbox, mail)
    outbox = []
    mail = []
    outbox.reserveCapacity(min(asked.count, 256))
    mail.reserveCapacity(min(said.count, 256))
    let (links, index) = (links, shard.index)
    if index == 0 {
      links.receive(asked, said, from: 0)
    } else {
      links.loop.post { links.receive(asked, said, from: index) }
    }
  }
}
