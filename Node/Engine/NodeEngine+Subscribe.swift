public import Base

// A subscription is a cursor: it begins somewhere, gets every sequence from there in order, and is live
// while it stands at the head.
extension NodeEngine {
  /// - Parameters:
  ///   - follow: false: ends (`readEnded`) at the head as it is now.
  ///   - limit: messages after which it ends; 0: none.
  ///   - token: comes back in `subscribed`.
  public mutating func receiveSubscribe(
    _ id: SessionID, kind: SessionKind, principal: Principal, channel ref: ChannelRef, start: Start,
    follow: Bool = true, limit: UInt64 = 0, token: UInt64 = 0, at now: Now
  ) {
    let session = session(id) ?? open(id, kind: kind, at: now)
    guard let c = touch(ref) else {
      effects.append(.subscribed(id, ref, token: token, head: 0, Fault(.nameCollision)))
      return
    }
    perform(
      .subscribe(session, principal, start, follow: follow, limit: limit, token: token), on: c,
      at: now)
  }

  public mutating func receiveUnsubscribe(_ id: SessionID, channel ref: ChannelRef, at now: Now) {
    guard let session = session(id), let c = channels[ref.id] else { return }
    perform(.unsubscribe(session), on: c, at: now)
  }

  mutating func subscribe(
    _ session: Session, _ principal: Principal, _ c: Channel, start: Start, follow: Bool,
    limit: UInt64, token: UInt64, at now: Now
  ) {
    guard !session.closed else { return }
    func answer(_ fault: Fault?) {
      effects.append(
        .subscribed(session.id, c.ref, token: token, head: c.written.last, fault))
    }
    if case .broken(let fault) = c.phase { return answer(fault) }
    guard mayUse(principal, c) else {
      effects.append(.note(.subscribeWithoutRight(c.ref, session.id)))
      return answer(Fault(.forbidden))
    }
    // One cursor per session and channel: it goes on as it is.
    if session.byChannel[c.ref.id] != nil { return answer(nil) }
    let head = c.written.last
    var next = head + 1
    var paced: UInt64 = 0
    if c.ref.archived {
      switch start {
      case .live: break
      case .replay:
        next = replayStart(c, at: now)
        paced = head
      case .last(let wanted):
        next = max(head + 1 - min(wanted, head), c.sealed.oldest)
      case .sequence(let wanted):
        if wanted > 1, wanted < c.sealed.oldest { return answer(Fault(.retentionPassed)) }
        // A peer may name any number: no channel comes this far, and sums stay inside 64 bits.
        next = min(max(wanted, c.sealed.oldest), Limits.maxSequence)
      }
    }
    answer(nil)
    let s = Subscription(
      session: session, channel: c, tenant: principal.tenant,
      byGrant: !principal.anonymous
        && !(principal.tenant == c.ref.tenant && principal.org == c.ref.org),
      next: next, until: follow ? .max : head, left: limit == 0 ? .max : limit)
    if next <= paced {
      s.paceUntil = paced
      s.paceLeft = settings.replayBurst
    }
    add(s)
    pump(s, at: now)
  }

  private func replayStart(_ c: Channel, at now: Now) -> UInt64 {
    let head = c.written.last
    switch settings.replayWindow {
    case .none: return head + 1
    case .all: return c.sealed.oldest
    case .last(let window):
      let since = Instant(nanoseconds: now.wall.nanoseconds &- window.nanoseconds)
      let start = c.gate.replayStart(
        since: since, messages: settings.replayMessages, written: head)
      return max(start ?? head + 1, c.sealed.oldest)
    }
  }

  private mutating func add(_ s: Subscription) {
    s.indexInSession = s.session.subscriptions.count
    s.session.subscriptions.append(s)
    s.session.byChannel[s.channel.ref.id] = s
    s.indexInChannel = s.channel.subscriptions.count
    s.channel.subscriptions.append(s)
    counters.subscriptions += 1
    s.channel.addToLive(s)
  }

  /// Takes a subscription out of everything it stands in.
  mutating func remove(_ s: Subscription) {
    guard s.state != .ended else { return }
    if s.state == .live {
      s.channel.removeFromLive(s)
    } else {
      s.session.lagging -= 1
      counters.lagging -= 1
    }
    s.state = .ended
    counters.subscriptions -= 1
    counters.bufferBytes -= s.bufferBytes
    s.bufferBytes = 0
    s.buffer.removeAll()
    while !s.queue.isEmpty { s.session.queuedBytes -= s.queue.removeFirst().frame.count }
    s.session.byChannel[s.channel.ref.id] = nil
    let inSession = s.session.subscriptions.removeLast()
    if inSession !== s {
      s.session.subscriptions[s.indexInSession] = inSession
      inSession.indexInSession = s.indexInSession
    }
    let inChannel = s.channel.subscriptions.removeLast()
    if inChannel !== s {
      s.channel.subscriptions[s.indexInChannel] = inChannel
      inChannel.indexInChannel = s.indexInChannel
    }
  }

  /// Leaves the head.
  private mutating func fallBehind(_ s: Subscription, _ state: Subscription.State) {
    guard s.state == .live else {
      s.state = state
      return
    }
    s.channel.removeFromLive(s)
    s.state = state
    s.session.lagging += 1
    counters.lagging += 1
    // What the tail still knows to be its own, the archive will not.
    let c = s.channel
    let first = c.tailFirst
    var i = s.next > first ? Int(s.next - first) : 0
    while i < c.tail.count {
      let entry = c.tail[i]
      if entry.publisher == s.session.id { s.publishedItself(entry.delivery.sequence) }
      i += 1
    }
  }

  private mutating func becomeLive(_ s: Subscription) {
    guard s.state != .live else { return }
    s.state = .live
    s.session.lagging -= 1
    counters.lagging -= 1
    s.own.removeAll()
    s.slow = false
    counters.bufferBytes -= s.bufferBytes
    s.bufferBytes = 0
    s.buffer.removeAll()
    s.channel.addToLive(s)
  }

  /// No credit: waits for it, and the session may stall.
  private mutating func waitForCredit(_ s: Subscription, at now: Now) {
    let session = s.session
    fallBehind(s, .credit)
    if session.waiting.isEmpty { session.quietSince = now.monotonic }
    session.waiting.append(s)
    if !session.stallTimer {
      session.stallTimer = true
      timers.set(now.monotonic + settings.stallTimeout, .stall(session))
    }
  }

  @inline(__always)
  private func hasCredit(_ session: Session, _ bytes: Int) -> Bool {
    session.outstanding == 0 || session.outstanding &+ bytes <= settings.creditBytes
  }

  @inline(__always)
  private mutating func hand(_ delivery: Delivery, to s: Subscription) {
    let bytes = delivery.frame.count
    if s.session.hasCredit { s.session.outstanding &+= bytes }
    counters.deliveries &+= 1
    counters.deliveredBytes &+= UInt64(bytes)
    effects.append(.deliver(s.session.id, s.channel.ref, delivery))
  }

  // MARK: live

  /// Gives the newest entries of the tail to every live subscriber. One without credit falls behind and
  /// costs nothing from then on.
  mutating func deliverLive(_ c: Channel, from: Int, at now: Now) {
    let end = c.tail.count
    // Made for the first session behind a link: most channels have none.
    var crossing: Crossing?
    var i = 0
    while i < c.live.count {
      let s = c.live[i]
      let session = s.session
      if session.id.isBehindLink {
        var all = crossing ?? Crossing(c, from: from)
        crossing = nil
        let takes = all.takes(s, within: settings.creditBytes)
        crossing = all
        if takes {
          counters.deliveries &+= UInt64(end - from)
          counters.deliveredBytes &+= UInt64(all.bytes)
          i += 1
          continue
        }
      }
      var at = from
      // The first in the tail that it wants: all of them, but for a start beyond the head.
      var next = c.tailFirst + UInt64(at)
      if s.next > next {
        at += min(end - at, Int(clamping: s.next - next))
        next = s.next
      }
      while at < end {
        if c.tail[at].publisher != session.id {
          let bytes = c.tail[at].delivery.frame.count
          guard hasCredit(session, bytes) else { break }
          if session.hasCredit { session.outstanding &+= bytes }
          counters.deliveries &+= 1
          counters.deliveredBytes &+= UInt64(bytes)
          effects.append(.deliver(session.id, c.ref, c.tail[at].delivery))
          s.left &-= 1
        }
        next &+= 1
        at += 1
        if s.left == 0 { break }
      }
      s.next = max(s.next, next)
      if s.left == 0 {
        finish(s)
      } else if at < end {
        waitForCredit(s, at: now)
      } else {
        i += 1
      }
    }
    guard let crossing else { return }
    for at in from..<end {
      for far in crossing.links {
        effects.append(.deliverFar(far.sessions, c.ref, c.tail[at].delivery))
      }
    }
  }

  private mutating func finish(_ s: Subscription) {
    let (session, ref) = (s.session.id, s.channel.ref)
    remove(s)
    effects.append(.readEnded(session, ref))
  }

  /// Unarchived: what finds no credit queues in the session, up to a bound.
  mutating func deliverUnarchived(
    _ delivery: Delivery, from publisher: Session, _ c: Channel, at now: Now
  ) {
    for s in c.subscriptions where s.session !== publisher && s.state != .ended {
      if s.queue.isEmpty, hasCredit(s.session, delivery.frame.count) {
        hand(delivery, to: s)
        s.left &-= 1
        if s.left == 0 { finish(s) }
        continue
      }
      s.queue.append(delivery)
      s.session.queuedBytes += delivery.frame.count
      if s.session.queuedBytes > settings.unarchivedQueueBytes {
        effects.append(.note(.subscriberDropped(c.ref, s.session.id)))
        end(s.session, Fault(.stalled))
      } else if s.state == .live {
        waitForCredit(s, at: now)
      }
    }
  }

  // MARK: cursors

  /// Bytes of delivered frames that have left.
  public mutating func receiveCredit(_ id: SessionID, bytes: Int, at now: Now) {
    guard let session = session(id) else { return }
    session.outstanding = max(0, session.outstanding - bytes)
    session.quietSince = now.monotonic
    var turns = session.waiting.count
    while turns > 0, !session.closed, let s = session.waiting.first {
      turns -= 1
      session.waiting.removeFirst()
      guard s.state == .credit else { continue }
      pump(s, at: now)
      // Out of credit again: the others have none either.
      if s.state == .credit { break }
    }
  }

  /// Delivers what a cursor can get now, and leaves it in the state that says what it waits for.
  mutating func pump(_ s: Subscription, at now: Now) {
    guard s.channel.ref.archived else {
      pumpQueue(s, at: now)
      return
    }
    let c = s.channel
    while s.state != .ended {
      if s.left == 0 || s.next > s.until { return finish(s) }
      if s.next > c.written.last { return becomeLive(s) }
      if s.next <= s.paceUntil, s.paceLeft == 0 { return pace(s, at: now) }
      let delivery: Delivery
      if let first = s.buffer.first {
        if first.sequence < s.next {
          dropBuffered(s)
          continue
        }
        delivery = first
      } else if s.next >= c.tailFirst {
        c.tailUsed = true
        let entry = c.tail[Int(s.next - c.tailFirst)]
        if entry.publisher == s.session.id {
          s.next += 1
          continue
        }
        delivery = entry.delivery
      } else {
        return readOn(s)
      }
      if s.state != .live, s.isOwn(delivery.sequence) {
        s.next += 1
        continue
      }
      guard hasCredit(s.session, delivery.frame.count) else { return waitForCredit(s, at: now) }
      if !s.buffer.isEmpty { dropBuffered(s) }
      s.next = delivery.sequence + 1
      s.left &-= 1
      if delivery.sequence <= s.paceUntil { s.paceLeft -= 1 }
      hand(delivery, to: s)
    }
  }

  private mutating func dropBuffered(_ s: Subscription) {
    let bytes = s.buffer.removeFirst().frame.count
    s.bufferBytes -= bytes
    counters.bufferBytes -= bytes
  }

  private mutating func pumpQueue(_ s: Subscription, at now: Now) {
    if s.until != .max { return finish(s) }
    while let delivery = s.queue.first {
      guard hasCredit(s.session, delivery.frame.count) else { return waitForCredit(s, at: now) }
      s.queue.removeFirst()
      s.session.queuedBytes -= delivery.frame.count
      hand(delivery, to: s)
      s.left &-= 1
      if s.left == 0 { return finish(s) }
    }
    becomeLive(s)
  }

  private mutating func pace(_ s: Subscription, at now: Now) {
    fallBehind(s, .pacing)
    timers.set(now.monotonic + settings.replayInterval, .pace(s))
  }

  /// The next interval of a paced replay.
  mutating func receivePace(_ s: Subscription, at now: Now) {
    guard s.state == .pacing else { return }
    s.paceLeft = settings.replayBurst
    pump(s, at: now)
  }

  /// Beyond the tail: from the archive.
  private mutating func readOn(_ s: Subscription) {
    fallBehind(s, .reading)
    if !s.slow {
      s.slow = true
      effects.append(
        .note(
          .slowSubscriber(
            s.channel.ref, s.session.id, behind: s.channel.written.last + 1 - s.next)))
    }
    let ticket = ticket()
    lookups[ticket] = .cursor(s)
    s.channel.lookups += 1
    counters.reads += 1
    effects.append(
      .read(ticket: ticket, s.channel.ref, from: s.next, limitBytes: settings.readBytes))
  }

  /// Answers `.read`.
  public mutating func receiveRecords(ticket: UInt64, rows: [Row], at now: Now) {
    guard let lookup = lookups.removeValue(forKey: ticket) else { return }
    switch lookup {
    case .cursor(let s):
      s.channel.lookups -= 1
      if s.state == .reading { take(rows, into: s, at: now) }
    case .retention(let c):
      c.lookups -= 1
      decide(rows, c, at: now)
    case .producer, .retry: preconditionFailure("records for a read of a row")
    }
  }

  private mutating func take(_ rows: [Row], into s: Subscription, at now: Now) {
    let c = s.channel
    var expected = s.next
    let written = c.written.last
    var buffered = 0
    for row in rows {
      let before = (expected: expected, buffered: buffered, count: s.buffer.count)
      do throws(RecordError) {
        let header = try RecordReader.read(row, channel: c.ref.id) { sequence, m in
          guard sequence == expected, sequence <= written else { return }
          expected += 1
          buffered += m.frame.count
          s.buffer.append(
            Delivery(
              sequence: sequence, frame: m.frame, type: m.type, mls: m.mls, epoch: m.epoch,
              generation: m.generation, producer: m.producer, producerSequence: m.producerSequence,
              wall: .zero, hasSuffix: m.hasSuffix))
        }
        stampBuffered(s, header)
        if header.first > expected { break }
      } catch {
        // What stands before it is good; nothing of it is, as when it does not follow the one before.
        while s.buffer.count > before.count { _ = s.buffer.removeLast() }
        (expected, buffered) = (before.expected, before.buffered)
        if expected == s.next { return damaged(s, at: RecordKey.parse(row.key)?.first ?? s.next) }
        break
      }
    }
    s.bufferBytes += buffered
    counters.bufferBytes += buffered
    if expected == s.next { return damaged(s, at: s.next) }
    pump(s, at: now)
  }

  /// The wall clock of a record, for what was just read of it.
  private func stampBuffered(_ s: Subscription, _ header: RecordHeader) {
    var i = s.buffer.count - 1
    while i >= 0, s.buffer[i].sequence >= header.first {
      s.buffer[i].wall = header.wall
      i -= 1
    }
  }

  /// Nothing came where something must be: dropped by retention, or damaged. Never passed over.
  private mutating func damaged(_ s: Subscription, at sequence: UInt64) {
    if s.next < s.channel.sealed.oldest {
      effects.append(.note(.subscriberDropped(s.channel.ref, s.session.id)))
      end(s.session, Fault(.retentionPassed))
      return
    }
    effects.append(.note(.damagedRecord(s.channel.ref, sequence: sequence)))
    end(s.session, Fault(.damaged, "\(s.channel.ref.name) at \(sequence)"))
  }
}

/// The newest entries of a channel's tail, and the sessions of other nodes that get all of them. Mostly those are all there
/// are: one that misses some of them gets the others by itself.
private struct Crossing {
  private let tail: Range<Int>
  private let first: UInt64
  private let publishers: [SessionID]
  let bytes: Int
  /// By link.
  private(set) var links: [(loop: Int, sessions: [SessionID])] = []

  init(_ c: Channel, from: Int) {
    tail = from..<c.tail.count
    first = c.tailFirst + UInt64(from)
    var (bytes, publishers) = (0, [SessionID]())
    for at in tail {
      bytes &+= c.tail[at].delivery.frame.count
      let publisher = c.tail[at].publisher
      if publisher.isBehindLink, publisher != publishers.last { publishers.append(publisher) }
    }
    (self.bytes, self.publishers) = (bytes, publishers)
  }

  /// Whether the session gets all of it; then its cursor stands behind it.
  mutating func takes(_ s: Subscription, within creditBytes: Int) -> Bool {
    let session = s.session
    let count = UInt64(tail.count)
    guard s.next <= first, s.left > count, !publishers.contains(session.id),
      !session.hasCredit || session.outstanding &+ bytes <= creditBytes
    else { return false }
    if session.hasCredit { session.outstanding &+= bytes }
    s.left &-= count
    s.next = first + count
    if let at = links.firstIndex(where: { $0.loop == session.id.loop }) {
      links[at].sessions.append(session.id)
    } else {
      links.append((session.id.loop, [session.id]))
    }
    return true
  }
}
