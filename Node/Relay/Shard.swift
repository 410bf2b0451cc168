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
  /// SLIM publishes for each loop: many, and handed over by themselves.
  private var slimOutbox: [[SlimMessage]]
  private var effects: [Effect] = []
  private var isRunningEffects = false
  /// Writes of this shard: after a failed one those behind it are not tried.
  private let chain = WriteChain()
  private var writesUnderWay = 0
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
  @inline(__always) func post(_ mail: Mail, to shard: Int) { outbox[shard].append(mail) }
  @inline(__always) func post(_ message: borrowing SlimMessage, to shard: Int) {
    slimOutbox[shard].append(copy message)
  }

  @inline(__always) func owner(of channel: ChannelID) -> Int { Int(channel.slot) % node.shardCount }

  // MARK: channels

  /// The channel of a name, made once. nil when the name breaks the rules.
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
    sessions.remove(session.id)
    session.forEachKnownShard { to in
      if to == index {
        engine.receiveClose(session.id, at: loop.now)
      } else {
        outbox[to].append(.closed(session.id))
      }
    }
    runEffects()
  }

  private func receiveSubscribe(
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

  // MARK: mail

  func receive(_ mail: [Mail], _ messages: [SlimMessage], from sender: Int) {
    if !messages.isEmpty {
      // Before the mail: a session's own cursor begins with mail, and what came earlier came this way.
      let bytes = slim.receive(messages)
      post(.slimTaken(bytes: bytes), to: sender)
    }
    for item in mail { receive(item, from: sender) }
    runEffects()
  }

  private func receive(_ mail: Mail, from sender: Int) {
    switch mail {
    case .publish(let session, let principal, let kind, let channel, let publication):
      meter(principal.anonymous ? channel.tenant : principal.tenant)
      if channel.family != .skytale { slim.attach(channel) }
      engine.receivePublish(
        session, kind: kind, principal: principal, channel: channel, publication, at: loop.now)
    case .subscribe(let session, let principal, let kind, let channel, let wanted):
      receiveSubscribe(session, principal, kind, channel, wanted)
    case .unsubscribe(let session, let channel):
      engine.receiveUnsubscribe(session, channel: channel, at: loop.now)
    case .credit(let session, let bytes):
      engine.receiveCredit(session, bytes: bytes, at: loop.now)
    case .closed(let session):
      engine.receiveClose(session, at: loop.now)
    case .deliver(let session, let channel, let delivery):
      deliver(session, channel, delivery, from: sender)
    case .answer(let session, let channel, let token, let mls, let outcome):
      sessions.find(session)?.answer(channel, token: token, mls: mls, outcome)
    case .written(let session, let count):
      sessions.find(session)?.slim?.receiveWritten(count)
    case .subscribed(let session, let channel, let token, let head, let fault):
      sessions.find(session)?.subscribed(channel, token: token, head: head, fault)
    case .readEnded(let session, let channel):
      sessions.find(session)?.readEnded(channel)
    case .end(let session, let fault):
      sessions.find(session)?.receiveEnd(fault)
    case .pause(let session, let by):
      sessions.find(session)?.pause(by: by)
    case .resume(let session, let by):
      sessions.find(session)?.resume(by: by)
    case .slimReplay(let session, let channel): slim.receiveReplay(session, channel)
    case .slimReplayable(let session, let channel): slim.receiveReplayable(session, channel)
    case .slimTaken(let bytes): slim.receiveTaken(bytes, by: sender)
    case .slimInterest(let interest): slim.receive(interest, from: sender)
    case .slimSync(let token): post(.slimSynced(token), to: sender)
    case .slimSynced(let token): slim.receiveSynced(token)
    }
  }

  @inline(__always) private func deliver(
    _ id: SessionID, _ channel: ChannelRef, _ delivery: Delivery, from sender: Int
  ) {
    guard let session = sessions.find(id) else { return }
    session.owe(delivery.frame.count, to: sender)
    session.deliver(channel, delivery)
    counts.delivered &+= 1
    counts.deliveredBytes &+= delivery.frame.count
  }

  // MARK: the turn

  /// The loop's last step before it flushes its connections: seals what gathered, sends the mail.
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
      hand(mail, to: to)
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
      for effect in effects { run(effect) }
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
      } else {
        outbox[session.loop].append(.deliver(session, channel, delivery))
      }
    case .answer(let session, let channel, let token, let mls, let outcome):
      count(outcome)
      if session.loop == index {
        sessions.find(session)?.answer(channel, token: token, mls: mls, outcome)
      } else {
        outbox[session.loop].append(.answer(session, channel, token: token, mls: mls, outcome))
      }
    case .written(let session, let count):
      counts.answersAccepted &+= count
      if session.loop == index {
        sessions.find(session)?.slim?.receiveWritten(count)
      } else {
        outbox[session.loop].append(.written(session, count: count))
      }
    case .subscribed(let session, let channel, let token, let head, let fault):
      if session.loop == index {
        sessions.find(session)?.subscribed(channel, token: token, head: head, fault)
      } else if session == SlimHub.session {
        if fault != nil { slim.receiveNotFollowed(channel) }
      } else {
        outbox[session.loop].append(
          .subscribed(session, channel, token: token, head: head, fault))
      }
    case .readEnded(let session, let channel):
      if session.loop == index {
        sessions.find(session)?.readEnded(channel)
      } else {
        outbox[session.loop].append(.readEnded(session, channel))
      }
    case .end(let session, let fault):
      if session.loop == index {
        sessions.find(session)?.receiveEnd(fault)
      } else if session == SlimHub.session {
        slim.receiveEnd(fault)
      } else {
        outbox[session.loop].append(.end(session, fault))
      }
    case .pause(let session):
      if session.loop == index {
        sessions.find(session)?.pause(by: index)
      } else {
        outbox[session.loop].append(.pause(session, by: index))
      }
    case .resume(let session):
      if session.loop == index {
        sessions.find(session)?.resume(by: index)
      } else {
        outbox[session.loop].append(.resume(session, by: index))
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

  // MARK: store

  private func write(_ ticket: UInt64, _ set: WriteSet, synced: Bool) {
    writesUnderWay += 1
    node.store.submit(set, synced: synced, chain: chain) { [self] result in
      loop.post { [self] in
        writesUnderWay -= 1
        if writesUnderWay == 0 { chain.mend() }
        switch result {
        case .success: engine.receiveWritten(ticket: ticket, at: loop.now)
        case .failure(let fault): engine.receiveWriteFailed(ticket: ticket, fault, at: loop.now)
        }
        runEffects()
      }
    }
  }

  private func load(_ channel: ChannelRef) {
    node.store.read { [self] store in
      let rows = Result { () throws(Fault) in try store.stateRows(of: channel.id) }
      loop.post { [self] in
        switch rows {
        case .success(let rows): engine.receiveLoaded(channel, rows: rows, at: loop.now)
        case .failure(let fault): engine.receiveLoadFailed(channel, fault, at: loop.now)
        }
        runEffects()
      }
    }
  }

  private func read(_ ticket: UInt64, _ channel: ChannelRef, from: UInt64, limitBytes: Int) {
    node.store.read { [self] store in
      let rows = Result { () throws(Fault) in
        try store.records(of: channel.id, from: from, limitBytes: limitBytes)
      }
      loop.post { [self] in
        switch rows {
        case .success(let rows): engine.receiveRecords(ticket: ticket, rows: rows, at: loop.now)
        case .failure(let fault):
          engine.receiveReadFailed(ticket: ticket, fault, at: loop.now)
          node.log.error("archive read failed", ["channel": .of(channel.name), "why": .of(fault)])
        }
        runEffects()
      }
    }
  }

  private func seek(_ ticket: UInt64, key: [UInt8], prefix: Int) {
    node.store.read { [self] store in
      let row = Result { () throws(Fault) in
        try store.lastRow(.state, atOrBefore: key, prefix: prefix)
      }
      loop.post { [self] in
        switch row {
        case .success(let row): engine.receiveRow(ticket: ticket, row: row, at: loop.now)
        case .failure(let fault): engine.receiveReadFailed(ticket: ticket, fault, at: loop.now)
        }
        runEffects()
      }
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
    loop.schedule(after: .milliseconds(NodeLimits.overQuotaPauseMilliseconds)) { [weak self] in
      self?.sessions.find(id)?.resume(by: Session.quotaPause)
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
          bytes: total.bytes - before.bytes))
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
      && outbox.allSatisfy(\.isEmpty) && slimOutbox.allSatisfy(\.isEmpty)
  }

  // MARK: notes

  private func count(_ outcome: PublishOutcome) {
    switch outcome {
    case .accepted: counts.answersAccepted &+= 1
    case .refused: counts.answersRefused &+= 1
    }
  }

  private func receive(_ note: EngineNote) {
    switch note {
    case .accepted(let messages, let bytes):
      counts.published &+= messages
      counts.publishedBytes &+= bytes
    case .generationOpened(let channel, let generation, let sequence):
      counts.generations &+= 1
      node.log.info(
        "generation opened",
        ["channel": .of(channel.name), "generation": .of(generation), "sequence": .of(sequence)])
    case .commitRefused(let channel, let epoch, let winner):
      counts.commitsRefused &+= 1
      node.log.info(
        "commit refused",
        ["channel": .of(channel.name), "epoch": .of(epoch), "winner": .of(winner)])
    case .publishWithoutRight: counts.withoutRight &+= 1
    case .subscribeWithoutRight: counts.withoutRight &+= 1
    case .nameCollision(let channel):
      node.log.error("channel name collision", ["channel": .of(channel.name)])
    case .damagedRecord(let channel, let sequence):
      counts.damaged &+= 1
      node.log.error(
        "damaged record", ["channel": .of(channel.name), "sequence": .of(sequence)])
    case .damagedState(let channel, let kind):
      counts.damaged &+= 1
      node.log.error(
        "damaged state row", ["channel": .of(channel.name), "kind": .of(UnicodeScalar(kind))])
    case .retained: break
    case .writeFailed(let fault, let messages):
      if isSealed { break }
      node.log.error(
        "write failed", ["why": .of(fault), "messages": .of(messages)])
    case .slowSubscriber: counts.slowSubscribers &+= 1
    case .subscriberDropped(let channel, _):
      counts.dropped &+= 1
      node.log.warn("subscriber disconnected", ["channel": .of(channel.name)])
    }
  }
}

/// Who may not open a stream although a JWT of theirs may still be in date.
struct EndedPrincipals: Sendable {
  var keys: Set<RecordID> = []
  var tenants: Set<TenantID> = []

  func contains(_ principal: Principal) -> Bool {
    keys.contains(principal.key) || tenants.contains(principal.tenant)
  }
}

/// Counted on one loop, read by the scrape through the loop.
struct ShardCounters: Sendable {
  var published = 0
  var publishedBytes = 0
  var delivered = 0
  var deliveredBytes = 0
  var answersAccepted = 0
  var answersRefused = 0
  var commitsRefused = 0
  var generations = 0
  var withoutRight = 0
  var coverFrames = 0
  var slowSubscribers = 0
  var dropped = 0
  var damaged = 0
  var streamsOpened = 0
  var streamsRefused = 0

  static func + (a: ShardCounters, b: ShardCounters) -> ShardCounters {
    var sum = a
    sum.published += b.published
    sum.publishedBytes += b.publishedBytes
    sum.delivered += b.delivered
    sum.deliveredBytes += b.deliveredBytes
    sum.answersAccepted += b.answersAccepted
    sum.answersRefused += b.answersRefused
    sum.commitsRefused += b.commitsRefused
    sum.generations += b.generations
    sum.withoutRight += b.withoutRight
    sum.coverFrames += b.coverFrames
    sum.slowSubscribers += b.slowSubscribers
    sum.dropped += b.dropped
    sum.damaged += b.damaged
    sum.streamsOpened += b.streamsOpened
    sum.streamsRefused += b.streamsRefused
    return sum
  }
}

/// Bounds of the host itself.
enum NodeLimits {
  /// Channel names remembered per loop; beyond, the memory is emptied and fills again.
  static let channelRefs = 100_000
  /// Keys whose stream opens are counted per loop; beyond, full budgets are forgotten.
  static let streamBuckets = 100_000
  /// Milliseconds that open calls get to end before the node ends them.
  static let callGraceMilliseconds: Int64 = 300
  /// Milliseconds that ended streams and idle connections get to go when another node takes over; beyond,
  /// they are cut.
  static let partingMilliseconds: Int64 = 500
  /// How long a node that drains looks for one in line that takes its directory.
  static let lineMilliseconds: Int64 = 150
  /// How long it waits for one that has the sockets or the directory to serve; beyond, it ends all the same.
  static let successorMilliseconds: Int64 = 10_000
  /// What the running node has to answer a successor; beyond, the takeover fails.
  static let takeoverAnswer = Interval.seconds(5)
  /// Pause after each message of a stream whose tenant is over quota.
  static let overQuotaPauseMilliseconds: Int64 = 250
}
