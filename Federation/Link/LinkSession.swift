public import Base

/// What one end tells the other when a connection opens, before anything else.
public struct LinkHello: Hashable, Sendable {
  public var node: NodeID
  /// Of the process: another one has forgotten what this one was told.
  public var incarnation: UInt64
  /// Counts how often this process began anew with this peer; with it numbers start at 1.
  public var epoch: UInt64
  public var versions: ClosedRange<UInt32>
  /// Whose messages this end has, and up to which: of `(incarnation, epoch)` of the one that it speaks to.
  public var heardIncarnation: UInt64
  public var heardEpoch: UInt64
  public var received: UInt64

  public init(
    node: NodeID, incarnation: UInt64, epoch: UInt64, versions: ClosedRange<UInt32>,
    heardIncarnation: UInt64, heardEpoch: UInt64, received: UInt64
  ) {
    self.node = node
    self.incarnation = incarnation
    self.epoch = epoch
    self.versions = versions
    self.heardIncarnation = heardIncarnation
    self.heardEpoch = heardEpoch
    self.received = received
  }
}

/// Why a connection is of no use.
public enum LinkRefusal: Hashable, Sendable {
  /// Its certificate, or its hello, names another node than the one expected.
  case otherNode(NodeID)
  /// No version that both speak.
  case versions(theirs: ClosedRange<UInt32>)
  /// It said no hello in time.
  case silent
  /// It acknowledges what was never sent, or leaves messages out.
  case broken
}

/// What the host is to do. In this order.
public enum LinkEffect<Item: Sendable>: Sendable {
  case connect
  case hello(LinkHello)
  case send(sequence: UInt64, Item)
  case acknowledge(UInt64)
  /// A message of the peer, each once and in order.
  case deliver(Item)
  case disconnect(LinkRefusal?)
  /// Messages go through, in this version. Given again for every connection.
  case up(version: UInt32)
  case down
  /// One has forgotten the other: the peer is another process, or one of both had given the other up. What was agreed
  /// between them is void; what the peer has not confirmed comes back, oldest first, for the host to send again what
  /// still matters. Comes before `up`.
  case forgotten([Item])
  /// The peer is out of reach for too long. What it has not confirmed comes back; it may have got some of it.
  case unreachable([Item])
  /// The queue is full enough that senders should wait, or has room again.
  case congested(Bool)
  /// Call `receiveTick` at this time, if no other is asked for meanwhile.
  case wake(at: Instant)
}

/// One end of the link between two nodes: messages arrive once, in order, over as many connections as it takes, while both
/// processes live and are out of each other's reach for less than `patience`.
///
/// No I/O, no clock. The end with the smaller node id connects. Whatever is sent keeps a number and is kept until the
/// peer confirms it; a new connection begins with a hello that says what has come, and goes on after it.
public struct LinkSession<Item: Sendable>: Sendable {
  public struct Settings: Sendable {
    /// Bytes kept until the peer confirms them; more are refused.
    public var queueBytes = Limits.linkQueueBytes
    public var queueItems = Limits.linkQueueItems
    /// Out of reach for so long, what waits comes back.
    public var patience = Interval.milliseconds(Limits.linkPatienceMilliseconds)
    /// First wait before connecting again, doubled up to the last.
    public var firstRetry = Interval.milliseconds(Limits.linkFirstRetryMilliseconds)
    public var lastRetry = Interval.milliseconds(Limits.linkLastRetryMilliseconds)
    /// How long a connection may take to say hello.
    public var greeting = Interval.milliseconds(Limits.linkGreetingMilliseconds)
    public var versions: ClosedRange<UInt32> = 1...1
    public init() {}
  }

  public enum State: Hashable, Sendable {
    case down, connecting, greeting
    case up(version: UInt32)
  }

  public let me: NodeID
  public let peer: NodeID
  public let incarnation: UInt64
  public let settings: Settings
  public private(set) var state = State.down
  @inlinable public var counts: LinkCounts { tally }
  /// Bytes not confirmed.
  @inlinable public var queuedBytes: Int { heldBytes }

  // The path of a message is inlinable, so that it is specialised for the `Item` of whoever uses it: as generic code it
  // looks metadata up for each message, a tenth of what a crossing cost (`perf` under `bench cluster`).
  @usableFromInline struct Entry: Sendable {
    @usableFromInline var item: Item
    @usableFromInline var bytes: Int
    @inlinable init(item: Item, bytes: Int) {
      self.item = item
      self.bytes = bytes
    }
  }
  @usableFromInline var tally = LinkCounts()
  @usableFromInline var heldBytes = 0
  private var epoch: UInt64 = 1
  /// Not confirmed; the first has number `confirmed + 1`.
  @usableFromInline var queue: [Entry] = []
  @usableFromInline var head = 0
  @usableFromInline var confirmed: UInt64 = 0
  /// Up to here sent on the connection at hand.
  @usableFromInline var sent: UInt64 = 0
  private var theirs: (incarnation: UInt64, epoch: UInt64)?
  @usableFromInline var received: UInt64 = 0
  @usableFromInline var acknowledged: UInt64 = 0
  private var downSince: Instant
  @usableFromInline var gaveUp = false
  @usableFromInline var isCongested = false
  private var retryAt: Instant
  private var tries = 0
  private var greetingBy = Instant.distantFuture
  private var askedFor = Instant.distantFuture

  /// `incarnation`: larger than that of any earlier process of this node.
  public init(
    me: NodeID, peer: NodeID, incarnation: UInt64, settings: Settings = Settings(), at now: Instant,
    into effects: inout [LinkEffect<Item>]
  ) {
    precondition(me != peer && me != .none && peer != .none, "a link joins two nodes")
    self.me = me
    self.peer = peer
    self.incarnation = incarnation
    self.settings = settings
    downSince = now
    retryAt = now
    connectIfDue(now, &effects)
    schedule(&effects)
  }

  /// This end connects; the other waits.
  public var connects: Bool { me < peer }
  @inlinable public var isUp: Bool { if case .up = state { true } else { false } }
  @inlinable var end: UInt64 { confirmed &+ UInt64(queue.count - head) }

  // MARK: sending

  public enum Admission: Hashable, Sendable { case taken, full, unreachable }

  /// Takes a message over. `full`: as much as may wait does. `unreachable`: for longer than `patience`.
  /// `isEssential`: one that cannot be refused without breaking what was agreed; there is four times the room for those.
  @inlinable public mutating func enqueue(
    _ item: Item, bytes: Int, isEssential: Bool = false, into effects: inout [LinkEffect<Item>]
  ) -> Admission {
    if gaveUp { return .unreachable }
    let room = isEssential ? 4 : 1
    guard queuedBytes + bytes <= settings.queueBytes * room,
      queue.count - head < settings.queueItems * room
    else {
      tally.refused += 1
      return .full
    }
    queue.append(Entry(item: item, bytes: bytes))
    heldBytes += bytes
    if isUp {
      sent = end
      effects.append(.send(sequence: sent, item))
    }
    judge(&effects)
    return .taken
  }

  @inlinable mutating func judge(_ effects: inout [LinkEffect<Item>]) {
    let isFull =
      queuedBytes > settings.queueBytes / (isCongested ? 4 : 2)
      || queue.count - head > settings.queueItems / (isCongested ? 4 : 2)
    guard isFull != isCongested else { return }
    isCongested = isFull
    effects.append(.congested(isFull))
  }

  // MARK: connections

  /// A connection to the peer is there, whoever made it. One that was there before is over.
  public mutating func receiveConnected(at now: Instant, into effects: inout [LinkEffect<Item>]) {
    lose(at: now, &effects)
    state = .greeting
    greetingBy = now + settings.greeting
    effects.append(.hello(hello))
    schedule(&effects)
  }

  public mutating func receiveDisconnected(at now: Instant, into effects: inout [LinkEffect<Item>])
  {
    lose(at: now, &effects)
    retryLater(now)
    schedule(&effects)
  }

  private var hello: LinkHello {
    LinkHello(
      node: me, incarnation: incarnation, epoch: epoch, versions: settings.versions,
      heardIncarnation: theirs?.incarnation ?? 0, heardEpoch: theirs?.epoch ?? 0, received: received
    )
  }

  private mutating func lose(at now: Instant, _ effects: inout [LinkEffect<Item>]) {
    let wasUp = isUp
    state = .down
    greetingBy = .distantFuture
    sent = confirmed
    if wasUp {
      downSince = now
      tally.lost += 1
      effects.append(.down)
    }
  }

  private mutating func retryLater(_ now: Instant) {
    let wait = min(
      settings.lastRetry.nanoseconds, settings.firstRetry.nanoseconds << min(tries, 16))
    tries += 1
    // Nodes that lost the same peer at once do not come back at once: a quarter of the wait is their own.
    let own = (me.value ^ peer.value &* 0x9e37_79b9_7f4a_7c15 ^ UInt64(tries)) % 1_024
    retryAt = now + Interval(nanoseconds: wait - wait / 4 + wait / 4 * Int64(own) / 1_024)
  }

  @usableFromInline mutating func refuse(
    _ why: LinkRefusal, at now: Instant, _ effects: inout [LinkEffect<Item>]
  ) {
    tally.refusals += 1
    effects.append(.disconnect(why))
    lose(at: now, &effects)
    retryLater(now)
    schedule(&effects)
  }

  // MARK: receiving

  public mutating func receive(
    _ hello: LinkHello, at now: Instant, into effects: inout [LinkEffect<Item>]
  ) {
    guard state == .greeting else { return refuse(.broken, at: now, &effects) }
    guard hello.node == peer else { return refuse(.otherNode(hello.node), at: now, &effects) }
    let version = min(settings.versions.upperBound, hello.versions.upperBound)
    guard settings.versions.contains(version), hello.versions.contains(version) else {
      return refuse(.versions(theirs: hello.versions), at: now, &effects)
    }
    // Another process than the last has nothing from this one yet, though a connection that failed may have told it
    // who this is.
    let isOther = theirs?.incarnation != hello.incarnation
    let knowsMe =
      !isOther && hello.heardIncarnation == incarnation && hello.heardEpoch == epoch
    if knowsMe {
      guard hello.received >= confirmed, hello.received <= end else {
        return refuse(.broken, at: now, &effects)
      }
      confirm(hello.received)
    }
    // One that sent messages had heard of this process; one under the same name that has not is another: started from a
    // copy of its disk, say.
    let isCopy = received > 0 && hello.heardIncarnation == 0
    let isNew = theirs.map { $0 != (hello.incarnation, hello.epoch) || isCopy } ?? false
    if theirs == nil || isNew {
      theirs = (hello.incarnation, hello.epoch)
      received = 0
      acknowledged = 0
    }
    greetingBy = .distantFuture
    tries = 0
    let forgot = isNew || gaveUp || (!knowsMe && confirmed > 0)
    gaveUp = false
    if forgot {
      tally.resets += 1
      effects.append(.forgotten(takeQueue()))
    }
    // It has nothing of this epoch: numbers begin where it expects them to.
    if !knowsMe { confirmed = 0 }
    state = .up(version: version)
    tally.connections += 1
    effects.append(.up(version: version))
    var number = confirmed
    for entry in queue[head...] {
      number += 1
      effects.append(.send(sequence: number, entry.item))
    }
    sent = number
    judge(&effects)
    schedule(&effects)
  }

  /// Empties the queue; numbers go on after what was confirmed.
  private mutating func takeQueue() -> [Item] {
    let items = queue[head...].map(\.item)
    queue = []
    head = 0
    heldBytes = 0
    return items
  }

  /// A message. Those that came before are dropped; one that leaves others out ends the connection.
  @inlinable public mutating func receive(
    sequence: UInt64, _ item: Item, at now: Instant, into effects: inout [LinkEffect<Item>]
  ) {
    guard isUp, sequence <= received + 1 else { return refuse(.broken, at: now, &effects) }
    guard sequence == received + 1 else {
      tally.repeated += 1
      return
    }
    received = sequence
    effects.append(.deliver(item))
  }

  /// Messages with numbers in a row.
  @inlinable public mutating func receive(
    first: UInt64, _ items: consuming [Item], at now: Instant,
    into effects: inout [LinkEffect<Item>]
  ) {
    var sequence = first
    // Taken out, not copied: a copy counts references.
    items.reverse()
    while let item = items.popLast() {
      receive(sequence: sequence, item, at: now, into: &effects)
      guard isUp else { return }
      sequence &+= 1
    }
  }

  @inlinable public mutating func receive(
    acknowledged upTo: UInt64, at now: Instant, into effects: inout [LinkEffect<Item>]
  ) {
    guard isUp, upTo <= sent else { return refuse(.broken, at: now, &effects) }
    confirm(upTo)
    judge(&effects)
  }

  @inlinable mutating func confirm(_ upTo: UInt64) {
    while confirmed < upTo, head < queue.count {
      heldBytes -= queue[head].bytes
      head += 1
      confirmed += 1
    }
    if head == queue.count {
      queue.removeAll(keepingCapacity: head <= 1_024)
      head = 0
    } else if head >= 64, head * 2 >= queue.count {
      queue.removeFirst(head)
      head = 0
    }
  }

  // MARK: time

  /// The host has handled what was read: what came is confirmed, once for all of it.
  /// `isDue` false: only if it is much.
  /// - Returns: false when something waits for a call that is due.
  @discardableResult
  @inlinable public mutating func endTurn(
    isDue: Bool = true, into effects: inout [LinkEffect<Item>]
  ) -> Bool {
    guard isUp, received > acknowledged else { return true }
    guard isDue || received - acknowledged >= Limits.linkConfirmItems else { return false }
    acknowledged = received
    effects.append(.acknowledge(received))
    return true
  }

  public mutating func receiveTick(at now: Instant, into effects: inout [LinkEffect<Item>]) {
    askedFor = .distantFuture
    if state == .greeting, now >= greetingBy { return refuse(.silent, at: now, &effects) }
    if mayGiveUp, now - downSince >= settings.patience { giveUp(&effects) }
    connectIfDue(now, &effects)
    schedule(&effects)
  }

  /// Gives the peer up at once, as if it had been out of reach for too long: what was agreed is void.
  public mutating func abandon(at now: Instant, into effects: inout [LinkEffect<Item>]) {
    if state != .down {
      effects.append(.disconnect(nil))
      lose(at: now, &effects)
    }
    if !gaveUp { giveUp(&effects) }
    retryLater(now)
    schedule(&effects)
  }

  private mutating func giveUp(_ effects: inout [LinkEffect<Item>]) {
    gaveUp = true
    tally.gaveUp += 1
    // Some of it may have arrived: numbers that were used are not used again.
    epoch += 1
    confirmed = 0
    sent = 0
    effects.append(.unreachable(takeQueue()))
    judge(&effects)
  }

  /// Not while a hello is on its way: what it says must stay true.
  private var mayGiveUp: Bool { !gaveUp && (state == .down || state == .connecting) }

  private mutating func connectIfDue(_ now: Instant, _ effects: inout [LinkEffect<Item>]) {
    guard connects, state == .down, now >= retryAt else { return }
    state = .connecting
    effects.append(.connect)
  }

  private mutating func schedule(_ effects: inout [LinkEffect<Item>]) {
    var at = greetingBy
    if connects, state == .down { at = min(at, retryAt) }
    if mayGiveUp { at = min(at, downSince + settings.patience) }
    guard at < askedFor else { return }
    askedFor = at
    effects.append(.wake(at: at))
  }
}

/// Counted since the process began.
public struct LinkCounts: Hashable, Sendable {
  public init() {}
  public var connections = 0
  public var lost = 0
  public var refusals = 0
  /// Messages that came twice: the confirmation of the first was lost.
  public var repeated = 0
  /// Messages refused because the queue was full.
  public var refused = 0
  /// The peer had forgotten this node.
  public var resets = 0
  public var gaveUp = 0
}
