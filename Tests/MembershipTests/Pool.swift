import Base

@testable import Membership

/// Nodes that talk over a network that loses, delays, cuts and pauses; every packet goes through its bytes.
struct Pool {
  struct Node {
    var engine: MembershipEngine?
    var pausedUntil: Int64 = 0
    var wakeAt: Int64 = .max
    var waiting: [MemberPacket] = []
    /// Verdicts of death that this node believed, by member.
    var deaths: [NodeID: Int] = [:]
    var left = false
    var forgotten = false
    var life = 0
  }
  private struct Event {
    var at: Int64
    var serial: Int
    var node: Int
    var packet: MemberPacket?
    var life: Int
  }

  let profile: MembershipProfile
  var nodes: [Node] = []
  var lossPercent = 0
  var delay: ClosedRange<Int> = 1...5
  /// Pairs (from, to) that nothing passes.
  var cut: Set<[Int]> = []
  var sent = 0
  var sentBytes = 0
  var troubles: [String] = []
  private(set) var now: Int64 = 0
  private var heap: [Event] = []
  private var serial = 0
  var random: MemberRandom

  init(_ count: Int, profile: MembershipProfile = .lan, seed: UInt64) {
    self.profile = profile
    random = MemberRandom(seed: seed)
    for i in 0..<count {
      nodes.append(Node())
      start(i)
    }
  }

  static func id(_ node: Int) -> NodeID { NodeID(UInt64(node + 1)) }
  static func address(_ node: Int) -> String { "10.0.0.\(node):7000" }
  private var time: Instant { Instant(nanoseconds: now * 1_000_000) }

  /// All join by node 0 and 1.
  mutating func start(_ node: Int, incarnation: UInt64 = 1) {
    nodes[node] = Node(life: nodes[node].life + 1)
    var effects: [MembershipEffect] = []
    nodes[node].engine = MembershipEngine(
      me: Member(id: Pool.id(node), address: Pool.address(node), incarnation: incarnation),
      profile: profile, seeds: [Pool.address(0), Pool.address(1)], random: random.next(), at: time,
      into: &effects)
    carry(effects, node)
  }

  mutating func stop(_ node: Int) {
    nodes[node].engine = nil
    nodes[node].life += 1
  }

  mutating func pause(_ node: Int, milliseconds: Int64) {
    nodes[node].pausedUntil = now + milliseconds
    push(Event(at: now + milliseconds, serial: 0, node: node, packet: nil, life: nodes[node].life))
  }

  mutating func act(
    _ node: Int, _ body: (inout MembershipEngine, Instant, inout [MembershipEffect]) -> Void
  ) {
    guard var engine = nodes[node].engine else { return }
    var effects: [MembershipEffect] = []
    body(&engine, time, &effects)
    nodes[node].engine = engine
    carry(effects, node)
  }

  mutating func run(milliseconds: Int64, until done: ((Pool) -> Bool)? = nil) {
    let end = now + milliseconds
    var nextLook = now
    while let first = heap.first, first.at <= end {
      pop()
      now = max(now, first.at)
      handle(first)
      if let done, now >= nextLook {
        nextLook = now + 100
        if done(self) { return }
      }
    }
    now = end
  }

  private mutating func handle(_ event: Event) {
    guard nodes[event.node].engine != nil, nodes[event.node].life == event.life else { return }
    if nodes[event.node].pausedUntil > now {
      if let packet = event.packet { nodes[event.node].waiting.append(packet) }
      return
    }
    let waiting = nodes[event.node].waiting
    nodes[event.node].waiting = []
    for packet in waiting + (event.packet.map { [$0] } ?? []) {
      act(event.node) { $0.receive(packet, at: $1, into: &$2) }
    }
    if event.packet == nil, nodes[event.node].wakeAt <= now {
      nodes[event.node].wakeAt = .max
      act(event.node) { $0.receiveTick(at: $1, into: &$2) }
    }
  }

  private mutating func carry(_ effects: [MembershipEffect], _ node: Int) {
    for effect in effects {
      switch effect {
      case .send(let address, let packet): send(packet, from: node, address)
      case .wake(let at):
        let milliseconds = (at.nanoseconds + 999_999) / 1_000_000
        if milliseconds < nodes[node].wakeAt {
          nodes[node].wakeAt = milliseconds
          push(
            Event(at: milliseconds, serial: 0, node: node, packet: nil, life: nodes[node].life))
        }
      case .changed(let member):
        if member.state == .dead { nodes[node].deaths[member.id, default: 0] += 1 }
      case .left: nodes[node].left = true
      case .forgotten: nodes[node].forgotten = true
      case .refuted, .twin: break
      }
    }
  }

  private mutating func send(_ packet: MemberPacket, from node: Int, _ address: String) {
    let bytes = packet.encoded
    sent += 1
    sentBytes += bytes.count
    if bytes.count > Limits.memberPacketBytes { troubles.append("\(bytes.count) bytes") }
    guard let read = MemberPacket(bytes), read == packet else {
      troubles.append("reads otherwise: \(packet)")
      return
    }
    guard let to = nodes.indices.first(where: { Pool.address($0) == address }),
      !cut.contains([node, to]), random.below(100) >= lossPercent
    else { return }
    let late = delay.lowerBound + random.below(delay.count)
    push(Event(at: now + Int64(late), serial: 0, node: to, packet: read, life: nodes[to].life))
  }

  // MARK: what all believe

  var running: [Int] { nodes.indices.filter { nodes[$0].engine?.phase == .member } }

  /// Whether every running node believes that exactly these live.
  func allSee(alive: [Int]) -> Bool {
    for node in running {
      guard let engine = nodes[node].engine else { continue }
      let seen = Set(engine.members.filter { $0.state == .alive }.map(\.id))
      if seen != Set(alive.filter { $0 != node }.map(Pool.id)) { return false }
    }
    return true
  }

  func allSee(_ node: Int, _ state: MemberState?) -> Bool {
    running.allSatisfy { other in
      other == node || nodes[other].engine?.member(Pool.id(node))?.state == state
    }
  }

  var deaths: Int { nodes.reduce(0) { $0 + $1.deaths.values.reduce(0, +) } }

  // MARK: events

  private func before(_ a: Event, _ b: Event) -> Bool { (a.at, a.serial) < (b.at, b.serial) }

  private mutating func push(_ event: Event) {
    var event = event
    serial += 1
    event.serial = serial
    heap.append(event)
    var i = heap.count - 1
    while i > 0, before(heap[i], heap[(i - 1) / 2]) {
      heap.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  private mutating func pop() {
    let last = heap.removeLast()
    if heap.isEmpty { return }
    heap[0] = last
    var i = 0
    while true {
      var least = i
      for child in [2 * i + 1, 2 * i + 2]
      where child < heap.count && before(heap[child], heap[least]) {
        least = child
      }
      if least == i { return }
      heap.swapAt(i, least)
      i = least
    }
  }
}
