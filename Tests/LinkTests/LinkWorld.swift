import Base

@testable import Link

/// A small seeded generator (splitmix64), so that a failing case can be run again.
struct Seeded {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
  mutating func below(_ n: Int) -> Int { Int(next() % UInt64(n)) }
  mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

/// Two nodes and what lies between them: connections that end anywhere, processes that end, time.
struct LinkWorld {
  enum Wire {
    case hello(LinkHello)
    case mail(UInt64, Int)
    case acknowledged(UInt64)
  }

  struct Node {
    var session: LinkSession<Int>
    var incarnation: UInt64 = 1
    var effects: [LinkEffect<Int>] = []
    /// On the way to the other, on the connection at hand.
    var outbox: [Wire] = []
    var wakeAt = Instant.distantFuture
    var nextItem = 1
    /// Delivered here since this process began.
    var delivered: [Int] = []
    /// Delivered to any process of this node.
    var everDelivered: Set<Int> = []
    /// Given back as unreachable, or refused: nobody waits for it.
    var givenUp: Set<Int> = []
    var taken: Set<Int> = []
    var ups = 0
    var forgotten = 0
    var refusals: [LinkRefusal] = []
    var isCongested = false
  }

  var now = Instant(nanoseconds: 1_000_000_000)
  var nodes: [Node]
  var isConnected = false
  /// Nothing can be connected.
  var isCut = false
  /// What broke a promise.
  var faults: [String] = []
  let settings: LinkSession<Int>.Settings

  init(_ settings: LinkSession<Int>.Settings = .init(), other: LinkSession<Int>.Settings? = nil) {
    self.settings = settings
    let start = now
    nodes = [(1, settings), (2, other ?? settings)].map {
      (id: UInt64, settings: LinkSession<Int>.Settings) in
      var effects: [LinkEffect<Int>] = []
      let session = LinkSession<Int>(
        me: NodeID(id), peer: NodeID(3 - id), incarnation: 1, settings: settings, at: start,
        into: &effects)
      return Node(session: session, effects: effects)
    }
    run(0)
    run(1)
  }

  /// Lets a node's session do something; what follows from it is kept for `run`.
  @discardableResult
  mutating func at<R>(
    _ i: Int, _ body: (inout LinkSession<Int>, Instant, inout [LinkEffect<Int>]) -> R
  ) -> R {
    var made: [LinkEffect<Int>] = []
    let result = body(&nodes[i].session, now, &made)
    nodes[i].effects += made
    return result
  }

  /// What a node's host does.
  mutating func run(_ i: Int) {
    while !nodes[i].effects.isEmpty {
      let list = nodes[i].effects
      nodes[i].effects = []
      for effect in list { run(i, effect) }
    }
  }

  private mutating func run(_ i: Int, _ effect: LinkEffect<Int>) {
    switch effect {
    case .connect:
      if isCut { disconnected(i) } else { connect() }
    case .hello(let hello): nodes[i].outbox.append(.hello(hello))
    case .send(let sequence, let item): nodes[i].outbox.append(.mail(sequence, item))
    case .acknowledge(let upTo): nodes[i].outbox.append(.acknowledged(upTo))
    case .deliver(let item): deliver(i, item)
    case .disconnect(let why):
      if let why { nodes[i].refusals.append(why) }
      if isConnected {
        isConnected = false
        nodes[0].outbox = []
        nodes[1].outbox = []
        disconnected(1 - i)
      }
    case .up: nodes[i].ups += 1
    case .down: break
    case .forgotten(let items):
      nodes[i].forgotten += 1
      for item in items { enqueue(i, item) }
    case .unreachable(let items): nodes[i].givenUp.formUnion(items)
    case .congested(let on): nodes[i].isCongested = on
    case .wake(let at): nodes[i].wakeAt = min(nodes[i].wakeAt, at)
    }
  }

  private mutating func deliver(_ i: Int, _ item: Int) {
    if let last = nodes[i].delivered.last, item <= last {
      faults.append("node \(i + 1) got \(item) after \(last)")
    }
    nodes[i].delivered.append(item)
    nodes[i].everDelivered.insert(item)
  }

  mutating func publish(_ i: Int) {
    let item = nodes[i].nextItem
    nodes[i].nextItem += 1
    enqueue(i, item)
  }

  private mutating func enqueue(_ i: Int, _ item: Int) {
    switch at(i, { $0.enqueue(item, bytes: 100, into: &$2) }) {
    case .taken: nodes[i].taken.insert(item)
    case .full, .unreachable:
      nodes[i].givenUp.insert(item)
    }
  }

  mutating func connect() {
    if isConnected { cut() }
    isConnected = true
    for i in 0..<2 {
      nodes[i].outbox = []
      at(i) { $0.receiveConnected(at: $1, into: &$2) }
    }
  }

  /// The connection ends; what is on its way is lost.
  mutating func cut() {
    guard isConnected else { return }
    isConnected = false
    for i in 0..<2 {
      nodes[i].outbox = []
      disconnected(i)
    }
  }

  private mutating func disconnected(_ i: Int) {
    at(i) { $0.receiveDisconnected(at: $1, into: &$2) }
  }

  /// The process ends and another begins: what waited in it is lost with it.
  /// `asBefore`: under the number of the one that ended.
  mutating func restart(_ i: Int, asBefore: Bool = false) {
    cut()
    run(1 - i)
    nodes[i].effects = []
    nodes[i].givenUp.formUnion(nodes[i].taken)
    if !asBefore { nodes[i].incarnation += 1 }
    nodes[i].delivered = []
    nodes[i].isCongested = false
    nodes[i].wakeAt = .distantFuture
    let incarnation = nodes[i].incarnation
    at(i) { session, now, made in
      session = LinkSession(
        me: session.me, peer: session.peer, incarnation: incarnation, settings: session.settings,
        at: now, into: &made)
    }
    run(i)
  }

  /// Hands over up to `most` of what lies on the way to node `i`.
  mutating func carry(to i: Int, most: Int = .max) {
    var left = most
    while isConnected, left > 0, !nodes[1 - i].outbox.isEmpty {
      left -= 1
      switch nodes[1 - i].outbox.removeFirst() {
      case .hello(let hello):
        at(i) { $0.receive(hello, at: $1, into: &$2) }
      case .mail(let sequence, let item):
        at(i) { $0.receive(sequence: sequence, item, at: $1, into: &$2) }
      case .acknowledged(let upTo):
        at(i) { $0.receive(acknowledged: upTo, at: $1, into: &$2) }
      }
      run(i)
    }
    at(i) { session, _, made in session.endTurn(into: &made) }
    run(i)
    run(1 - i)
  }

  mutating func advance(_ milliseconds: Int64) {
    now = now + .milliseconds(milliseconds)
    for i in 0..<2 where now >= nodes[i].wakeAt {
      nodes[i].wakeAt = .distantFuture
      at(i) { $0.receiveTick(at: $1, into: &$2) }
      run(i)
      run(1 - i)
    }
  }

  /// Everything works: until nothing is on the way.
  mutating func settle() {
    isCut = false
    for _ in 0..<200 {
      advance(500)
      for _ in 0..<4 {
        carry(to: 0)
        carry(to: 1)
      }
    }
  }

  /// Whatever was taken came, or was given back.
  mutating func account() {
    for i in 0..<2 {
      let missing = nodes[i].taken.subtracting(nodes[1 - i].everDelivered)
        .subtracting(nodes[i].givenUp)
      if !missing.isEmpty {
        faults.append("of node \(i + 1) \(missing.sorted().prefix(5)) is gone")
      }
      if !nodes[i].session.isUp { faults.append("node \(i + 1) is not up") }
      if nodes[i].session.queuedBytes != 0 { faults.append("node \(i + 1) still has a queue") }
      if nodes[i].isCongested { faults.append("node \(i + 1) is still congested") }
    }
  }
}
