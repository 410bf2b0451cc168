import Base
import Testing

@testable import Link

@Suite("A link between two nodes") struct LinkSessionTests {
  private func open(_ settings: LinkSession<Int>.Settings = .init()) -> LinkWorld {
    var world = LinkWorld(settings)
    for _ in 0..<3 {
      world.carry(to: 0)
      world.carry(to: 1)
    }
    return world
  }

  @Test("The smaller id connects, both say hello, messages come once and in order")
  func plain() {
    var world = open()
    #expect(world.nodes.allSatisfy { $0.session.isUp && $0.ups == 1 && $0.forgotten == 0 })
    for _ in 0..<10 { for i in 0..<2 { world.publish(i) } }
    world.run(0)
    world.run(1)
    for _ in 0..<2 { for i in 0..<2 { world.carry(to: i) } }
    #expect(world.nodes[0].delivered == Array(1...10))
    #expect(world.nodes[1].delivered == Array(1...10))
    #expect(world.nodes.allSatisfy { $0.session.queuedBytes == 0 })
  }

  @Test("What came is confirmed when it is much or due; several at once are taken in order, once")
  func confirms() {
    var world = open()
    func confirmed(_ first: UInt64, _ items: Range<Int>, isDue: Bool) -> [UInt64] {
      world.at(1) { session, now, made in
        session.receive(first: first, Array(items), at: now, into: &made)
        let isDone = session.endTurn(isDue: isDue, into: &made)
        let words = made.compactMap { effect -> UInt64? in
          if case .acknowledge(let upTo) = effect { upTo } else { nil }
        }
        #expect(isDone == !words.isEmpty)
        return words
      }
    }
    let many = Int(Limits.linkConfirmItems)
    #expect(confirmed(1, 1..<11, isDue: false) == [])
    #expect(confirmed(11, 11..<12, isDue: true) == [11])
    #expect(confirmed(12, 12..<(12 + many), isDue: false) == [UInt64(11 + many)])
    // A part that came before is not taken again; what leaves some out ends the connection.
    #expect(
      confirmed(UInt64(10 + many), (10 + many)..<(13 + many), isDue: true) == [UInt64(12 + many)])
    world.run(1)
    #expect(world.nodes[1].delivered == Array(1...(12 + many)))
    #expect(world.nodes[1].session.counts.repeated == 2)
    world.at(1) { $0.receive(first: UInt64(20 + many), [1, 2], at: $1, into: &$2) }
    #expect(!world.nodes[1].session.isUp)
    #expect(world.nodes[1].session.counts.refusals == 1)
  }

  private final class Load: Sendable {}

  @Test("What is confirmed is let go, however much was sent before")
  func letsGo() {
    let now = Instant(nanoseconds: 1)
    var made: [LinkEffect<Load>] = []
    var session = LinkSession<Load>(
      me: NodeID(1), peer: NodeID(2), incarnation: 1, at: now, into: &made)
    session.receiveConnected(at: now, into: &made)
    session.receive(
      LinkHello(
        node: NodeID(2), incarnation: 1, epoch: 0, versions: 1...2, heardIncarnation: 0,
        heardEpoch: 0, received: 0), at: now, into: &made)
    #expect(session.isUp)
    weak var last: Load?
    var total: UInt64 = 0
    for sent in [1, 60, 300] as [UInt64] {
      total += sent
      for _ in 0..<sent {
        let load = Load()
        last = load
        _ = session.enqueue(load, bytes: 1, into: &made)
      }
      made = []
      #expect(last != nil)
      session.receive(acknowledged: total, at: now, into: &made)
      #expect(last == nil)
    }
  }

  @Test(
    "A connection that ends costs nothing: what was not confirmed comes again, what came is not doubled"
  )
  func resumes() {
    var world = open()
    for _ in 0..<10 { world.publish(0) }
    world.run(0)
    // Six arrive, and their confirmation is lost.
    world.carry(to: 1, most: 6)
    world.cut()
    for _ in 0..<5 { world.publish(0) }
    world.settle()
    #expect(world.nodes[1].delivered == Array(1...15))
    #expect(world.nodes[0].session.counts.resets == 0)
    #expect(world.faults.isEmpty)
  }

  @Test(
    "A process with the number of an earlier one, from a copy of its disk, is another all the same")
  func copied() {
    var world = open()
    for _ in 0..<6 { for i in 0..<2 { world.publish(i) } }
    world.run(0)
    world.run(1)
    for _ in 0..<2 { for i in 0..<2 { world.carry(to: i) } }
    world.restart(1, asBefore: true)
    world.settle()
    for _ in 0..<3 { for i in 0..<2 { world.publish(i) } }
    world.settle()
    #expect(world.nodes[0].forgotten == 1)
    #expect(world.nodes[1].delivered == [7, 8, 9])
    #expect(world.nodes[0].delivered.suffix(3) == [7, 8, 9])
    #expect(world.nodes.allSatisfy { $0.session.queuedBytes == 0 })
  }

  @Test(
    "Another process of the peer: what it has not confirmed comes back, and what follows starts at 1"
  )
  func restarts() {
    var world = open()
    for _ in 0..<4 { world.publish(0) }
    world.run(0)
    world.carry(to: 1, most: 2)
    world.restart(1)
    world.settle()
    // The first two went to the process that is gone; unconfirmed, they were sent again.
    #expect(world.nodes[1].delivered == [1, 2, 3, 4])
    #expect(world.nodes[0].forgotten == 1)
    world.account()
    #expect(world.faults.isEmpty)
  }

  @Test(
    "Out of reach for longer than the patience: what waits comes back, more is refused, later both begin anew"
  )
  func unreachable() {
    var world = open()
    world.isCut = true
    world.cut()
    world.publish(0)
    world.publish(1)
    world.advance(9_000)
    #expect(world.nodes[0].givenUp.isEmpty)
    world.advance(1_500)
    #expect(world.nodes[0].givenUp == [1])
    #expect(world.nodes[1].givenUp == [1])
    world.publish(0)
    #expect(world.nodes[0].givenUp == [1, 2])
    world.settle()
    #expect(world.nodes.allSatisfy { $0.forgotten == 1 && $0.session.isUp })
    world.publish(0)
    world.settle()
    #expect(world.nodes[1].delivered == [3])
    world.account()
    #expect(world.faults.isEmpty)
  }

  @Test("When only one gives the other up, both learn that what they agreed is void")
  func oneGivesUp() {
    var impatient = LinkSession<Int>.Settings()
    impatient.patience = .milliseconds(300)
    var world = LinkWorld(impatient, other: .init())
    for _ in 0..<3 { for i in 0..<2 { world.carry(to: i) } }
    world.isCut = true
    world.cut()
    world.publish(1)
    world.advance(400)
    world.settle()
    #expect(world.nodes.allSatisfy { $0.forgotten == 1 })
    #expect(world.nodes[0].delivered == [1])
    world.account()
    #expect(world.faults.isEmpty)
  }

  @Test("The queue is bounded, and says when senders should wait")
  func bounded() {
    var settings = LinkSession<Int>.Settings()
    settings.queueItems = 8
    var world = open(settings)
    for _ in 0..<5 { world.publish(0) }
    world.run(0)
    #expect(world.nodes[0].isCongested)
    for _ in 0..<5 { world.publish(0) }
    world.run(0)
    #expect(world.nodes[0].givenUp == [9, 10])
    world.settle()
    #expect(!world.nodes[0].isCongested)
    #expect(world.nodes[1].delivered == Array(1...8))
  }

  @Test(
    "Peers without a common version, or with another's name, are refused, and tried again later")
  func refusals() {
    var newer = LinkSession<Int>.Settings()
    newer.versions = 3...4
    var world = LinkWorld(.init(), other: newer)
    for _ in 0..<3 { for i in 0..<2 { world.carry(to: i) } }
    #expect(
      world.nodes[0].refusals.contains(.versions(theirs: 3...4))
        || world.nodes[1].refusals
          .contains(.versions(theirs: 1...1))
    )
    #expect(!world.nodes[0].session.isUp)
    var one = LinkWorld()
    let stranger = LinkHello(
      node: NodeID(77), incarnation: 1, epoch: 1, versions: 1...1, heardIncarnation: 0,
      heardEpoch: 0, received: 0)
    one.at(0) { $0.receive(stranger, at: $1, into: &$2) }
    one.run(0)
    #expect(one.nodes[0].refusals == [.otherNode(NodeID(77))])
  }

  @Test("Nodes of two versions that overlap speak the newest both know")
  func versions() {
    var newer = LinkSession<Int>.Settings()
    newer.versions = 1...2
    var world = LinkWorld(.init(), other: newer)
    for _ in 0..<3 { for i in 0..<2 { world.carry(to: i) } }
    #expect(world.nodes.allSatisfy { $0.session.state == .up(version: 1) })
  }

  static let broken:
    [(String, @Sendable (inout LinkSession<Int>, Instant, inout [LinkEffect<Int>]) -> Void)] = [
      ("a gap", { $0.receive(sequence: 5, 1, at: $1, into: &$2) }),
      ("a confirmation of what was never sent", { $0.receive(acknowledged: 9, at: $1, into: &$2) }),
      (
        "a second hello",
        {
          $0.receive(
            LinkHello(
              node: NodeID(2), incarnation: 1, epoch: 1, versions: 1...1, heardIncarnation: 1,
              heardEpoch: 1, received: 0), at: $1, into: &$2)
        }
      ),
    ]

  @Test("A peer that breaks the rules loses its connection, nothing else", arguments: 0..<3)
  func breaks(which: Int) {
    var world = open()
    world.publish(0)
    world.at(0, Self.broken[which].1)
    world.run(0)
    #expect(world.nodes[0].refusals == [.broken], "\(Self.broken[which].0)")
    world.settle()
    #expect(world.nodes[1].delivered == [1])
    world.account()
    #expect(world.faults.isEmpty)
  }

  @Test("A hello that claims more than was sent is refused") func liar() {
    var world = open()
    world.cut()
    world.isConnected = true
    world.at(0) { $0.receiveConnected(at: $1, into: &$2) }
    let liar = LinkHello(
      node: NodeID(2), incarnation: 1, epoch: 1, versions: 1...1, heardIncarnation: 1,
      heardEpoch: 1, received: 1_000)
    world.at(0) { $0.receive(liar, at: $1, into: &$2) }
    world.run(0)
    #expect(world.nodes[0].refusals == [.broken])
  }

  @Test(
    "Whatever ends when, messages come once per process and in order, and none is gone",
    .timeLimit(.minutes(2)))
  func anything() {
    var (resets, gaveUp, deliveries) = (0, 0, 0)
    for seed in 0..<400 as Range<UInt64> {
      var random = Seeded(seed)
      var settings = LinkSession<Int>.Settings()
      settings.queueItems = 64
      var world = LinkWorld(settings)
      for _ in 0..<300 {
        switch random.below(100) {
        case 0..<45: world.publish(random.below(2))
        case 45..<85: world.carry(to: random.below(2), most: 1 + random.below(8))
        case 85..<90: world.cut()
        case 90..<92: world.restart(random.below(2))
        case 92..<94: world.isCut.toggle()
        default: world.advance(Int64(random.below(random.chance(10) ? 12_000 : 300)))
        }
        world.run(0)
        world.run(1)
      }
      world.settle()
      world.account()
      #expect(world.faults.isEmpty, "seed \(seed): \(world.faults)")
      for node in world.nodes {
        resets += node.session.counts.resets
        gaveUp += node.session.counts.gaveUp
        deliveries += node.everDelivered.count
      }
      if !world.faults.isEmpty { break }
    }
    // The world is rough enough to mean something.
    #expect(resets > 200 && gaveUp > 20 && deliveries > 10_000)
  }
}
