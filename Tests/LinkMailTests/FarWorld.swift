import Base
import Engine
import Link
import TestKit

@testable import LinkMail

/// Two nodes: one owns all channels, on the other are the agents. Between them a link that may fail at any time; the owner's
/// process may end, and its engine goes on from its disk.
final class FarWorld {
  struct End {
    var session: LinkSession<LinkMail>
    var incarnation: UInt64 = 1
    var effects: [LinkEffect<LinkMail>] = []
    var outbox: [[UInt8]] = []
    var wakeAt = Instant.distantFuture
  }

  final class Agent {
    let id: SessionID
    let name: String
    /// By channel: what it got, and the sequence it was subscribed at.
    var got: [ChannelID: [(sequence: UInt64, text: String)]] = [:]
    var since: [ChannelID: UInt64] = [:]
    var sent: [String] = []
    var accepted: [String: UInt64] = [:]
    var refused = 0
    var texts: [UInt64: String] = [:]
    var isPaused = false
    var ended: Fault?
    init(_ id: SessionID, _ name: String) {
      self.id = id
      self.name = name
    }
  }

  static let (home, owner) = (NodeID(1), NodeID(2))
  let rig: EngineRig
  let refs: [ChannelRef]
  var now = Instant(nanoseconds: 1_000_000_000)
  var near = NearProxies()
  var far = FarSessions(loop: 3, writer: 77)
  private var owesCredit = false
  private var places: [(index: Int, generation: UInt32)] = []
  var ends: [End] = []
  var agents: [SessionID: Agent] = [:]
  var isConnected = false
  var isCut = false
  var faults: [String] = []
  private var nextAgent = 1
  private var nextToken: UInt64 = 1
  private var writer = ByteWriter()

  init(channels: Int = 3) {
    rig = EngineRig()
    refs = (0..<channels).map { EngineRig.channel("acme/ns/c\($0)") }
    for (me, peer) in [(Self.home, Self.owner), (Self.owner, Self.home)] {
      var made: [LinkEffect<LinkMail>] = []
      let session = LinkSession<LinkMail>(
        me: me, peer: peer, incarnation: 1, at: now, into: &made)
      ends.append(End(session: session, effects: made))
    }
    run()
  }

  // MARK: agents

  func join() -> Agent {
    // Places are used again, as a node's are.
    let place = places.popLast() ?? (index: nextAgent, generation: 0)
    let id = SessionID(loop: 3, generation: place.generation, index: place.index)
    let agent = Agent(id, "a\(nextAgent)")
    nextAgent += 1
    agents[id] = agent
    return agent
  }

  private var principal: Principal { EngineRig.principal("acme") }

  func subscribe(_ agent: Agent, _ channel: Int, start: Start = .live) {
    var made: [FarEffect] = []
    far.subscribe(
      agent.id, principal, .service, refs[channel], start: start, follow: true, limit: 0, token: 5,
      to: Self.owner, into: &made)
    perform(made)
  }

  func publish(_ agent: Agent, _ channel: Int) {
    guard agent.ended == nil else { return }
    let text = "\(agent.name)-\(agent.sent.count)"
    agent.sent.append(text)
    agent.texts[nextToken] = text
    var made: [FarEffect] = []
    far.publish(
      agent.id, principal, .service, refs[channel],
      Publication(frame: EngineRig.frame(text), hasSuffix: true, type: 1, token: nextToken),
      to: Self.owner, into: &made)
    nextToken += 1
    perform(made)
  }

  func leave(_ agent: Agent) {
    agents[agent.id] = nil
    let generation = UInt32(truncatingIfNeeded: agent.id.value >> 32) & 0xff_ffff
    places.append((agent.id.index, generation + 1))
    var made: [FarEffect] = []
    far.close(agent.id, into: &made)
    perform(made)
  }

  // MARK: the home node's host

  func perform(_ effects: [FarEffect]) {
    for effect in effects { perform(effect) }
    run()
  }

  private func perform(_ effect: FarEffect) {
    switch effect {
    case .mail(_, let mail): enqueue(0, mail)
    case .deliver(let ids, let ref, let delivery, _):
      for id in ids { deliver(id, ref, delivery) }
    case .answer(let id, let ref, let token, _, let outcome): answer(id, ref, token, outcome)
    case .subscribed(let id, let ref, _, let head, let fault):
      guard fault == nil else { return faults.append("a subscription was refused") }
      agents[id]?.since[ref.id] = head
    case .end(let id, let fault):
      guard let agent = agents[id] else { return }
      agent.ended = fault
      leave(agent)
    case .pause(let id): agents[id]?.isPaused = true
    case .resume(let id): agents[id]?.isPaused = false
    case .stray: faults.append("stray mail")
    case .creditDue: owesCredit = true
    case .written, .readEnded, .forgive, .wantMap: break
    }
  }

  private func deliver(_ id: SessionID, _ ref: ChannelRef, _ delivery: Delivery) {
    guard let agent = agents[id] else { return }
    let text = EngineRig.text(delivery.frame)
    if let last = agent.got[ref.id]?.last, delivery.sequence <= last.sequence {
      faults.append("\(agent.name) got \(delivery.sequence) after \(last.sequence)")
    }
    if text.hasPrefix(agent.name + "-") { faults.append("\(agent.name) heard itself: \(text)") }
    agent.got[ref.id, default: []].append((delivery.sequence, text))
    var made: [FarEffect] = []
    far.credit(id, bytes: delivery.frame.count, to: Self.owner, into: &made)
    for effect in made { perform(effect) }
  }

  private func answer(
    _ id: SessionID, _ ref: ChannelRef, _ token: UInt64, _ outcome: PublishOutcome
  ) {
    guard let agent = agents[id], let text = agent.texts.removeValue(forKey: token) else { return }
    switch outcome {
    case .accepted(let sequence, let duplicate):
      agent.accepted[text] = sequence
      if duplicate { faults.append("\(text) was called a duplicate") }
    case .refused: agent.refused += 1
    }
  }

  // MARK: the owner's host

  private func receive(_ mail: LinkMail) {
    switch mail {
    case .opened(let id, let principal, let kind):
      near.open(id, of: Self.home, principal, kind)
    case .channel(let number, _, let name):
      guard let ref = refs.first(where: { $0.name == name }) else { return }
      near.introduce(number, ref, by: Self.home)
    case .publish(let id, let channel, let publication):
      use(id, channel) { engine, proxy, origin, ref, now in
        engine.receivePublish(
          proxy, kind: origin.kind, principal: origin.principal, channel: ref, publication, at: now)
      }
    case .subscribe(let id, let channel, let start, let follow, let limit, let token):
      use(id, channel) { engine, proxy, origin, ref, now in
        engine.receiveSubscribe(
          proxy, kind: origin.kind, principal: origin.principal, channel: ref, start: start,
          follow: follow, limit: limit, token: token, at: now)
      }
    case .unsubscribe(let id, let channel):
      use(id, channel) { engine, proxy, _, ref, now in
        engine.receiveUnsubscribe(proxy, channel: ref, at: now)
      }
    case .credit(let id, let bytes):
      guard let proxy = near.proxy(of: id, of: Self.home) else { return }
      rig.turn { $0.receiveCredit(proxy, bytes: Int(clamping: bytes), at: $1) }
    case .closed(let id):
      guard let proxy = near.close(id, of: Self.home) else { return }
      rig.turn { $0.receiveClose(proxy, at: $1) }
    default: faults.append("the owner was sent what it cannot do")
    }
    answerAgents()
  }

  private func use(
    _ id: SessionID, _ channel: UInt32,
    _ body: (inout NodeEngine, SessionID, NearProxies.Origin, ChannelRef, Now) -> Void
  ) {
    guard let proxy = near.proxy(of: id, of: Self.home), let origin = near.origin(proxy),
      let ref = near.channel(channel, of: Self.home)
    else { return faults.append("mail for nobody") }
    rig.turn { body(&$0, proxy, origin, ref, $1) }
  }

  /// What the engine said goes back over the link.
  private func answerAgents() {
    let said = rig.said
    rig.said = []
    for effect in said {
      switch effect {
      case .deliver(let proxy, let ref, let delivery):
        guard let (origin, number) = place(proxy, ref) else { continue }
        enqueue(1, .deliver([origin.session], channel: number, delivery))
      case .deliverFar(let proxies, let ref, let delivery):
        for proxy in proxies {
          guard let (origin, number) = place(proxy, ref) else { continue }
          enqueue(1, .deliver([origin.session], channel: number, delivery))
        }
      case .answer(let proxy, let ref, let token, let mls, let outcome):
        guard let (origin, number) = place(proxy, ref) else { continue }
        let result: LinkOutcome =
          switch outcome {
          case .accepted(let sequence, let duplicate):
            .accepted(sequence: sequence, duplicate: duplicate)
          case .refused(let fault, let winner): .refused(fault, winner: winner)
          }
        enqueue(1, .answer(origin.session, channel: number, token: token, mls: mls, result))
      case .subscribed(let proxy, let ref, let token, let head, let fault):
        guard let (origin, number) = place(proxy, ref) else { continue }
        enqueue(
          1, .subscribed(origin.session, channel: number, token: token, head: head, fault))
      case .end(let proxy, let fault):
        guard let origin = near.origin(proxy) else { continue }
        near.close(origin.session, of: Self.home)
        enqueue(1, .end(origin.session, fault))
      default: break
      }
    }
  }

  private func place(_ proxy: SessionID, _ ref: ChannelRef) -> (NearProxies.Origin, UInt32)? {
    guard let origin = near.origin(proxy),
      let number = near.number(of: ref.id, for: Self.home, loop: origin.session.loop)
    else { return nil }
    return (origin, number)
  }

  private func forgetHome() {
    for proxy in near.removeAll(of: Self.home) { rig.turn { $0.receiveClose(proxy, at: $1) } }
    rig.said = []
  }

  // MARK: the link

  @discardableResult func at<R>(
    _ i: Int, _ body: (inout LinkSession<LinkMail>, Instant, inout [LinkEffect<LinkMail>]) -> R
  ) -> R {
    var made: [LinkEffect<LinkMail>] = []
    let result = body(&ends[i].session, now, &made)
    ends[i].effects += made
    return result
  }

  private func enqueue(_ i: Int, _ mail: LinkMail) {
    _ = at(i) { $0.enqueue(mail, bytes: 64, into: &$2) }
  }

  func run() {
    while let i = ends.indices.first(where: { !ends[$0].effects.isEmpty }) {
      let effect = ends[i].effects.removeFirst()
      run(i, effect)
    }
  }

  private func put(_ i: Int, _ frame: LinkFrame) {
    ends[i].outbox.append(Array(frame.encoded(&writer).array()[5...]))
  }

  private func run(_ i: Int, _ effect: LinkEffect<LinkMail>) {
    switch effect {
    case .connect: if isCut { disconnected(i) } else { connect() }
    case .hello(let hello): put(i, .hello(hello))
    case .send(let sequence, let mail):
      put(i, sequence % 2 == 0 ? .mails(first: sequence, [mail]) : .mail(sequence: sequence, mail))
    case .acknowledge(let upTo): put(i, .acknowledged(upTo))
    case .deliver(let mail):
      if i == 1 { return receive(mail) }
      var made: [FarEffect] = []
      far.receive(mail, from: Self.owner, into: &made)
      for effect in made { perform(effect) }
    case .disconnect(let why):
      if case .broken? = why { faults.append("node \(i + 1) calls the link broken") }
      if isConnected {
        isConnected = false
        ends[0].outbox = []
        ends[1].outbox = []
        disconnected(1 - i)
      }
    case .up, .down, .congested: break
    case .forgotten: lost(i, forGood: false)
    case .unreachable: lost(i, forGood: true)
    case .wake(let at): ends[i].wakeAt = min(ends[i].wakeAt, at)
    }
  }

  private func lost(_ i: Int, forGood: Bool) {
    if i == 1 { return forgetHome() }
    var made: [FarEffect] = []
    if forGood {
      far.receiveUnreachable(Self.owner, into: &made)
    } else {
      far.receiveForgotten(Self.owner, into: &made)
    }
    for effect in made { perform(effect) }
  }

  func connect() {
    if isConnected { cut() }
    isConnected = true
    for i in 0..<2 {
      ends[i].outbox = []
      at(i) { $0.receiveConnected(at: $1, into: &$2) }
    }
  }

  func cut() {
    guard isConnected else { return }
    isConnected = false
    for i in 0..<2 {
      ends[i].outbox = []
      disconnected(i)
    }
    run()
  }

  private func disconnected(_ i: Int) { at(i) { $0.receiveDisconnected(at: $1, into: &$2) } }

  /// The owner's process ends; another goes on from its disk.
  func restartOwner() {
    cut()
    ends[1].effects = []
    ends[1].incarnation += 1
    ends[1].wakeAt = .distantFuture
    near = NearProxies()
    rig.restart()
    let incarnation = ends[1].incarnation
    at(1) { session, now, made in
      session = LinkSession(
        me: Self.owner, peer: Self.home, incarnation: incarnation, at: now, into: &made)
    }
    run()
  }

  func carry(to i: Int, most: Int = .max) {
    var left = most
    while isConnected, left > 0, !ends[1 - i].outbox.isEmpty {
      left -= 1
      let bytes = ends[1 - i].outbox.removeFirst()
      guard let frame = bytes.withUnsafeBytes({ try? LinkFrame($0) }) else {
        return faults.append("a frame is not read")
      }
      switch frame {
      case .hello(let hello): at(i) { $0.receive(hello, at: $1, into: &$2) }
      case .mail(let sequence, let mail):
        at(i) { $0.receive(sequence: sequence, mail, at: $1, into: &$2) }
      case .mails(let first, let mails):
        at(i) { $0.receive(first: first, mails, at: $1, into: &$2) }
      case .acknowledged(let upTo): at(i) { $0.receive(acknowledged: upTo, at: $1, into: &$2) }
      }
      run()
    }
    at(i) { session, _, made in session.endTurn(into: &made) }
    run()
  }

  func advance(_ milliseconds: Int64) {
    now = now + .milliseconds(milliseconds)
    if owesCredit {
      owesCredit = false
      var made: [FarEffect] = []
      far.payCredit(into: &made)
      perform(made)
    }
    rig.pass(.milliseconds(milliseconds))
    answerAgents()
    for i in 0..<2 where now >= ends[i].wakeAt {
      ends[i].wakeAt = .distantFuture
      at(i) { $0.receiveTick(at: $1, into: &$2) }
    }
    run()
  }

  func settle() {
    isCut = false
    for _ in 0..<120 {
      advance(300)
      for _ in 0..<3 {
        carry(to: 0)
        carry(to: 1)
      }
    }
  }

  // MARK: what must hold

  /// Every message of a channel, from the owner's disk.
  func archive(_ ref: ChannelRef) -> [UInt64: String] {
    var found: [UInt64: String] = [:]
    for row in rig.disk.records(ref.id, from: 1, limit: .max) {
      _ = try? RecordReader.read(row, channel: ref.id) { sequence, message in
        found[sequence] = EngineRig.text(message.frame)
      }
    }
    return found
  }

  func check() {
    for ref in refs {
      let all = archive(ref)
      if !all.isEmpty, all.keys.sorted() != Array(1...UInt64(all.count)) {
        faults.append("\(ref.name) has gaps")
      }
      if Set(all.values).count != all.count { faults.append("\(ref.name) holds a message twice") }
      for agent in agents.values {
        for (text, sequence) in agent.accepted where all.values.contains(text) {
          if all[sequence] != text { faults.append("\(text) does not stand at \(sequence)") }
        }
        guard let since = agent.since[ref.id] else { continue }
        let due = all.filter { $0.key > since && !$0.value.hasPrefix(agent.name + "-") }
          .keys.sorted()
        let got = (agent.got[ref.id] ?? []).map(\.sequence)
        if got != due {
          faults.append("\(agent.name) got \(got.suffix(8)) of \(due.suffix(8)) in \(ref.name)")
        }
      }
    }
    for agent in agents.values where !agent.texts.isEmpty {
      faults.append("\(agent.name) waits for \(agent.texts.count) answers")
    }
  }
}
