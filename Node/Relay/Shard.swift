import Base
import Engine
import Loop
import Report
import Settings
import Store
import Token

/// One loop, one engine: turns what arrives on this loop into engine inputs and the engine's effects
/// into frames, writes, reads and mail for the other shards. Everything here runs on its loop's thread.
final class Shard: @unchecked Sendable {
  let index: Int
  let loop: EventLoop
  /// The node holds its shards and stops their loops before it goes.
  @safe unowned(unsafe) let node: NodeHost
  var engine: NodeEngine
  var sessions: SessionTable
  var counts: ShardCounters
  private var outbox: [[Mail]]
  /// Mail for sessions of other nodes: their ids name a link in place of a loop.
  private var linkOutbox: [Mail] = []
  /// Messages for them, by link.
  private var gathered: [LinkGather] = []
  private var hasGathered = false
  /// What sessions of this loop ask of other nodes; nil: this node is alone.
  var far: ShardFar?
  /// Slots of this shard that are about to leave the node.
  var sealing: [UInt16: SlotSealing] = [:]
  /// SLIM publishes for each loop: many, and handed over by themselves.
  private var slimOutbox: [[SlimMessage]]
  private var effects: [Effect] = []
  private var isRunningEffects = false
  /// Writes of this shard: after a failed one those behind it are not tried.
  let chain = WriteChain()
  var writesUnderWay = 0
  private var wakeAt = Instant.distantFuture
  /// Channels by name, so that a stream's name turns into an id once.
  private var channels: [String: ChannelRef] = [:]
  /// Keys and tenants that may not open streams: revoked, suspended, deleted.
  var ended = EndedPrincipals()
  /// Who waits for the end of a channel's deletion, by token.
  private var deletions: [UInt64: (Fault?) -> Void] = [:]
  private var nextDeletion: UInt64 = 1
  /// Tenants over today's quota: their streams are slowed.
  var slowTenants: Set<TenantID> = []
  var streamBudget: StreamBudget
  /// SLIM apps of both families.
  private(set) var slim: SlimHub!
  /// What this loop verifies JWTs with.
  var signingKeys: SigningKeySet
  /// Tenants whose usage this shard may hold, and what was last taken.
  private var lastMetered = TenantID.none
  private var meteredTenants: [TenantID: (day: UInt32, messages: UInt64, bytes: UInt64)] = [:]

  init(
    index: Int, loop: EventLoop, node: NodeHost, engine: NodeEngine, signingKeys: SigningKeySet
  ) {
    self.index = index
    self.loop = loop
    self.node = node
    self.engine = engine
    self.signingKeys = signingKeys
    let rate = node.settings.streamRate
    streamBudget = StreamBudget(perSecond: rate.perSecond, burst: rate.burst)
    sessions = SessionTable(loop: index)
    counts = ShardCounters()
    outbox = Array(repeating: [], count: node.shardCount)
    slimOutbox = Array(repeating: [], count: node.shardCount)
    slim = SlimHub(shard: self, loops: node.shardCount)
  }

  /// Puts mail for another loop with what leaves at the end of the turn.
  @inline(__always) func post(_ mail: Mail, to loop: Int) {
    if loop < outbox.count { return outbox[loop].append(mail) }
    // An answer may pass messages; all else says what they must not pass.
    if case .answer(_, _, _, let mls, _) = mail, mls != .commit {} else { takeGathered() }
    linkOutbox.append(mail)
  }

  /// `sessions`: of one link.
  private func gather(_ sessions: [SessionID], _ channel: ChannelRef, _ delivery: Delivery) {
    let link = sessions[0].loop - LinkHost.firstLoop
    while gathered.count <= link { gathered.append(LinkGather()) }
    gathered[link].add(sessions, channel, delivery)
    hasGathered = true
  }

  private func takeGathered() {
    guard hasGathered else { return }
    hasGathered = false
    for link in gathered.indices where !gathered[link].isEmpty {
      for ready in gathered[link].take() { linkOutbox.append(.deliverFar(ready)) }
    }
  }
  @inline(__always) func post(_ message: borrowing SlimMessage, to shard: Int) {
    slimOutbox[shard].append(copy message)
  }

  /// The loop that has a channel of this node.
  @inline(__always) func owner(of channel: ChannelID) -> Int { Int(channel.slot) % node.shardCount }

  // MARK: channels

  /// The channel of a name, made once.
  func channel(_ name: ChannelName) -> ChannelRef {
    let text = name.description
    if let known = channels[text] { return known }
    if channels.count >= NodeLimits.channelRefs { channels.removeAll(keepingCapacity: true) }
    let made = node.makeChannel(name)
    channels[text] = made
    return made
  }

  /// The channel that a text names: `org/namespace/service`, or a SLIM name. nil: neither.
  func channel(named text: String) -> ChannelRef? {
    if let (family, name) = SlimChannel.parse(text) { return SlimChannel.ref(family, name) }
    return ChannelName(text).map { channel($0) }
  }

  // MARK: inputs from sessions of this loop

  func publish(_ session: Session, _ channel: ChannelRef, _ publication: Publication) {
    if let far, let node = far.owner(of: channel.id, for: session.id) {
      return far.publish(session, channel, publication, to: node)
    }
    if let far, far.isHeld(channel.id) {
      return far.hold(.publish(session, channel, publication), channel.id)
    }
    let to = owner(of: channel.id)
    session.knownTo(to)
    if to == index {
      let principal = session.principal
      if channel.family != .skytale { slim.attach(channel) }
      meter(principal.anonymous ? channel.tenant : principal.tenant)
      engine.receivePublish(
        session.id, kind: session.kind, principal: principal, channel: channel, publication,
        at: loop.now)
      runEffects()
    } else {
      outbox[to].append(.publish(session.id, session.principal, session.kind, channel, publication))
    }
  }

  func subscribe(_ session: Session, _ channel: ChannelRef, _ wanted: Subscription) {
    if let far, let node = far.owner(of: channel.id, for: session.id) {
      return far.subscribe(session, channel, wanted, to: node)
    }
    if let far, far.isHeld(channel.id) {
      return far.hold(.subscribe(session, channel, wanted), channel.id)
    }
    let to = owner(of: channel.id)
    session.knownTo(to)
    if to == index {
      receiveSubscribe(session.id, session.principal, session.kind, channel, wanted)
      runEffects()
    } else {
      outbox[to].append(.subscribe(session.id, session.principal, session.kind, channel, wanted))
    }
  }

  func unsubscribe(_ session: Session, _ channel: ChannelRef) {
    if let far, far.owner(of: channel.id, for: session.id) != nil {
      return far.unsubscribe(session, channel)
    }
    if let far, far.isHeld(channel.id) {
      return far.hold(.unsubscribe(session, channel), channel.id)
    }
    let to = owner(of: channel.id)
    if to == index {
      engine.receiveUnsubscribe(session.id, channel: channel, at: loop.now)
      runEffects()
    } else {
      outbox[to].append(.unsubscribe(session.id, channel))
    }
  }

  func credit(_ session: SessionID, bytes: Int, to shard: Int) {
    if shard == index {
      engine.receiveCredit(session, bytes: bytes, at: loop.now)
      runEffects()
    } else {
      outbox[shard].append(.credit(session, bytes: bytes))
    }
  }

  func closed(_ session: Session) {
    session.hasEnded = true
    // Another session in its place would be taken for it, when what is held goes on.
    if let far, far.holds(session) { return }
    sessions.remove(session.id)
    session.forEachKnownShard { to in
      if to == index {
        engine.receiveClose(session.id, at: loop.now)
      } else {
        outbox[to].append(.closed(session.id))
      }
    }
    far?.close(session.id)
    runEffects()
  }

  func receiveSubscribe(
    _ session: SessionID, _ principal: Principal, _ kind: SessionKind, _ channel: ChannelRef,
    _ wanted: Subscription
  ) {
    engine.receiveSubscribe(
      session, kind: kind, principal: principal, channel: channel, start: wanted.start,
      follow: wanted.follow, limit: wanted.limit, token: wanted.token, at: loop.now)
  }

  /// Erases a channel of this shard; `done` is called on this loop.
  func delete(_ channel: ChannelRef, _ done: @escaping (Fault?) -> Void) {
    let token = nextDeletion
    nextDeletion += 1
    deletions[token] = done
    engine.receiveDelete(channel, token: token, at: loop.now)
    runEffects()
  }

  // MARK: the turn

  /// The loop's last step before it flushes its connections. Loop 0 has the links.
  func turnEnds() {
    if index == 0, let far { far.links.endTurn(self) } else { endTurn() }
  }

  /// Seals what gathered, sends the mail.
  func endTurn() {
    slim.endTurn()
    engine.endTurn(at: loop.now)
    runEffects()
    // With a third loop: a stream that hears that a message of its own is written sends the next one from there, and
    // that must find the first one delivered. So messages leave before any mail.
    if outbox.count > 2 {
      for to in slimOutbox.indices where !slimOutbox[to].isEmpty { hand([], to: to) }
    }
    for to in outbox.indices where !outbox[to].isEmpty || !slimOutbox[to].isEmpty {
      let mail = outbox[to]
      outbox[to] = []
      outbox[to].reserveCapacity(min(mail.count, 256))
      hand(mail, to: to)
    }
    if let far {
      slim.handToNodes(far.links)
      takeGathered()
      far.endTurn(&linkOutbox)
    }
    // Last: what went before may still hold one of them unretained.
    sessions.endTurn()
  }

  /// Mail for another loop, and the messages gathered for it.
  private func hand(_ mail: [Mail], to: Int) {
    let messages = slimOutbox[to]
    slimOutbox[to] = []
    if !messages.isEmpty { slimOutbox[to].reserveCapacity(min(messages.count, 256)) }
    let other = node.shards[to]
    let sender = index
    other.loop.post { other.receive(mail, messages, from: sender) }
  }

  func runEffects() {
    // What an effect brings about inside the engine comes after the effects at hand.
    if isRunningEffects { return }
    isRunningEffects = true
    while !engine.effects.isEmpty {
      engine.drainEffects(into: &effects)
      for at in effects.indices {
        // Taken out, not copied: a copy counts references.
        var effect = Effect.wake(.distantFuture)
        swap(&effect, &effects[at])
        run(effect)
      }
      effects.removeAll(keepingCapacity: true)
    }
    isRunningEffects = false
  }

  private func run(_ effect: Effect) {
    switch effect {
    case .deliver(let session, let channel, let delivery):
      if session.loop == index {
        deliver(session, channel, delivery, from: index)
      } else if session == SlimHub.session {
        slim.receive(delivery, of: channel)
      } else if session.isBehindLink {
        gather([session], channel, delivery)
      } else {
        post(.deliver(session, channel, delivery), to: session.loop)
      }
    case .deliverFar(let sessions, let channel, let delivery):
      gather(sessions, channel, delivery)
    case .answer(let session, let channel, let token, let mls, let outcome):
      count(outcome)
      if session.loop == index {
        sessions.find(session)?.answer(channel, token: token, mls: mls, outcome)
      } else {
        post(.answer(session, channel, token: token, mls: mls, outcome), to: session.loop)
      }
    case .written(let session, let count):
      counts.answersAccepted &+= count
      if session.loop == index {
        sessions.find(session)?.slim?.receiveWritten(count)
      } else {
        post(.written(session, count: count), to: session.loop)
      }
    case .subscribed(let session, let channel, let token, let head, let fault):
      if session.loop == index {
        sessions.find(session)?.subscribed(channel, token: token, head: head, fault)
      } else if session == SlimHub.session {
        if fault != nil { slim.receiveNotFollowed(channel) }
      } else {
        post(
          .subscribed(session, channel, token: token, head: head, fault), to: session.loop)
      }
    case .readEnded(let session, let channel):
      if session.loop == index {
        sessions.find(session)?.readEnded(channel)
      } else {
        post(.readEnded(session, channel), to: session.loop)
      }
    case .end(let session, let fault):
      if session.loop == index {
        sessions.find(session)?.receiveEnd(fault)
      } else if session == SlimHub.session {
        slim.receiveEnd(fault)
      } else {
        post(.end(session, fault), to: session.loop)
      }
    case .pause(let session):
      if session.loop == index {
        sessions.find(session)?.pause(by: index)
      } else {
        post(.pause(session, by: index), to: session.loop)
      }
    case .resume(let session):
      if session.loop == index {
        sessions.find(session)?.resume(by: index)
      } else {
        post(.resume(session, by: index), to: session.loop)
      }
    case .write(let ticket, let set, let synced):
      write(ticket, set, synced: synced)
    case .load(let channel):
      load(channel)
    case .read(let ticket, let channel, let from, let limitBytes):
      read(ticket, channel, from: from, limitBytes: limitBytes)
    case .seekBefore(let ticket, let key, let prefix):
      seek(ticket, key: key, prefix: prefix)
    case .deleted(let channel, let token, let fault):
      deletions.removeValue(forKey: token)?(fault)
      if fault == nil { channels.removeValue(forKey: channel.name) }
    case .wake(let at):
      wake(at)
    case .note(let note):
      receive(note)
    }
  }

  private func wake(_ at: Instant) {
    guard at < wakeAt else { return }
    wakeAt = at
    let now = loop.now.monotonic
    let delay = at > now ? at - now : Interval(nanoseconds: 0)
    loop.schedule(after: delay) { [self] in
      guard wakeAt <= loop.now.monotonic else { return }
      wakeAt = .distantFuture
      engine.receiveTick(at: loop.now)
      runEffects()
    }
  }

  // MARK: policy

  /// An over-quota tenant's stream is slowed to a few messages a second, never dropped.
  func brake(_ session: Session) {
    guard !slowTenants.isEmpty, slowTenants.contains(session.principal.tenant) else { return }
    session.pause(by: Session.quotaPause)
    let id = session.id
    loop.schedule(after: .milliseconds(NodeLimits.overQuotaPauseMilliseconds)) { [self] in
      sessions.find(id)?.resume(by: Session.quotaPause)
    }
  }

  func endSessions(_ fault: Fault, where matches: (Principal) -> Bool) {
    var found: [Session] = []
    sessions.forEach { if matches($0.principal) { found.append($0) } }
    for session in found { session.end(fault) }
  }

  /// Remembers whose usage to report.
  @inline(__always) func meter(_ tenant: TenantID) {
    if tenant == lastMetered { return }
    lastMetered = tenant
    if meteredTenants[tenant] == nil { meteredTenants[tenant] = (0, 0, 0) }
  }

  /// What was counted since the last call, by tenant.
  func takeUsage() -> [UsageDelta] {
    let day = UsageRow.day(loop.now.wall)
    var out: [UsageDelta] = []
    for (tenant, last) in meteredTenants {
      let total = engine.usageToday(tenant, at: loop.now)
      let before = last.day == day ? last : (day: day, messages: 0, bytes: 0)
      guard total.messages > before.messages || total.bytes > before.bytes else { continue }
      out.append(
        UsageDelta(
          tenant: tenant, day: day, messages: total.messages - before.messages,
          bytes: total.bytes - before.bytes,
          total: UsageReport(
            tenant: tenant, day: day, writer: engine.writer, messages: total.messages,
            bytes: total.bytes)))
      meteredTenants[tenant] = (day, total.messages, total.bytes)
    }
    return out
  }

  // MARK: the end

  /// The store is about to close, or closed: SLIM is relayed without it until the successor serves.
  private(set) var isSealed = false

  func seal() {
    isSealed = true
    slim.seal()
  }

  func retireSessions(finally: Bool) { sessions.forEach { $0.retire(finally: finally) } }

  /// Nothing read from agents waits here to be written.
  var isQuiet: Bool {
    writesUnderWay == 0 && engine.counters.pendingBytes == 0 && slim.parting == 0
      && outbox.allSatisfy(\.isEmpty) && slimOutbox.allSatisfy(\.isEmpty) && linkOutbox.isEmpty
      && !hasGathered
  }
}
