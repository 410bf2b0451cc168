import Base
import Engine
import Link
import TestKit
import Testing

@testable import LinkMail

@Suite("Sessions that use another node's channels") struct FarSessionsTests {
  private func open() -> FarWorld {
    let world = FarWorld()
    for _ in 0..<3 { for i in 0..<2 { world.carry(to: i) } }
    return world
  }

  @Test("A publish crosses, gets its place, and comes back to the others") func plain() {
    let world = open()
    let (alice, bob) = (world.join(), world.join())
    world.subscribe(alice, 0)
    world.subscribe(bob, 0)
    world.settle()
    for _ in 0..<3 { world.publish(alice, 0) }
    world.publish(bob, 0)
    world.settle()
    #expect(bob.got[world.refs[0].id]?.map(\.text) == ["a1-0", "a1-1", "a1-2"])
    #expect(alice.got[world.refs[0].id]?.map(\.text) == ["a2-0"])
    #expect(alice.accepted == ["a1-0": 1, "a1-1": 2, "a1-2": 3])
    world.check()
    #expect(world.faults.isEmpty)
  }

  @Test(
    "Another process of the owner: cursors go on behind what came, publishes keep their one place")
  func ownerRestarts() {
    let world = open()
    let (alice, bob) = (world.join(), world.join())
    world.subscribe(alice, 0)
    world.subscribe(bob, 0)
    world.settle()
    for _ in 0..<4 { world.publish(alice, 0) }
    // Written there, and the answers are lost.
    world.carry(to: 1)
    world.restartOwner()
    world.publish(bob, 0)
    world.settle()
    #expect(world.archive(world.refs[0]).count == 5)
    #expect(alice.accepted.count == 4)
    #expect(bob.got[world.refs[0].id]?.count == 4)
    world.check()
    #expect(world.faults.isEmpty)
  }

  @Test("An agent never hears itself, though what it sent is read from the archive for it")
  func noEcho() {
    let world = open()
    let (alice, bob) = (world.join(), world.join())
    world.subscribe(alice, 0)
    world.settle()
    world.publish(alice, 0)
    world.publish(bob, 0)
    world.carry(to: 1)
    world.restartOwner()
    world.settle()
    #expect(alice.got[world.refs[0].id]?.map(\.text) == ["a2-0"])
    world.check()
    #expect(world.faults.isEmpty)
  }

  @Test(
    "An owner out of reach for too long: who waits for it ends with unavailable, and may come again"
  )
  func unreachable() {
    let world = open()
    let alice = world.join()
    world.subscribe(alice, 0)
    world.settle()
    world.isCut = true
    world.cut()
    world.publish(alice, 0)
    world.advance(10_500)
    #expect(alice.ended?.code == .unavailable)
    #expect(world.far.count == 0)
    let again = world.join()
    world.settle()
    world.subscribe(again, 0)
    world.publish(again, 0)
    world.settle()
    #expect(again.accepted.count == 1)
    world.check()
    #expect(world.faults.isEmpty)
  }

  @Test("A late joiner gets what its start says, across another process of the owner")
  func replays() {
    let world = open()
    let alice = world.join()
    for _ in 0..<5 { world.publish(alice, 1) }
    world.settle()
    let bob = world.join()
    world.subscribe(bob, 1, start: .last(3))
    world.carry(to: 1)
    world.restartOwner()
    world.settle()
    #expect(bob.got[world.refs[1].id]?.map(\.sequence) == [3, 4, 5])
    #expect(world.faults.isEmpty)
  }

  @Test("A newer map: what the last owner has not done is asked of the new one, in order")
  func moves() {
    var far = FarSessions(loop: 0, writer: 1)
    let (old, new) = (NodeID(5), NodeID(6))
    let (id, ref) = (SessionID(1), EngineRig.channel("acme/ns/c"))
    let who = EngineRig.principal("acme")
    var made: [FarEffect] = []
    far.subscribe(
      id, who, .skytale, ref, start: .replay, follow: true, limit: 0, token: 9, to: old, into: &made
    )
    for n in 1...3 as ClosedRange<UInt64> {
      far.publish(
        id, who, .skytale, ref,
        Publication(frame: EngineRig.frame("m\(n)"), hasSuffix: true, type: 1, token: n), to: old,
        into: &made)
    }
    let number = made.compactMap { effect -> UInt32? in
      if case .mail(_, .channel(let number, _, _)) = effect { number } else { nil }
    }[0]
    far.receive(
      .subscribed(id, channel: number, token: 1, head: 0, nil), from: old, into: &made)
    far.receive(
      .answer(
        id, channel: number, token: 1 | FarSessions.awaited, mls: .none,
        .accepted(sequence: 1, duplicate: false)), from: old, into: &made)
    made = []
    far.receive(.notOwner(id, channel: number, token: 2, revision: 40), from: old, into: &made)
    guard case .wantMap(after: 40, _)? = made.first else {
      Issue.record("no newer map is asked for")
      return
    }
    made = []
    far.receiveOwner(of: ref, new, into: &made)
    let lines = made.map { effect -> String in
      guard case .mail(let node, let mail) = effect, node == new else { return "?" }
      switch mail {
      case .opened: return "opened"
      case .channel: return "channel"
      case .subscribe(_, _, .replay, _, _, _): return "subscribe"
      case .publish(_, _, let p): return "publish \(EngineRig.text(p.frame)) \(p.producerSequence)"
      default: return "?"
      }
    }
    #expect(lines == ["opened", "channel", "subscribe", "publish m2 2", "publish m3 3"])
    // The old owner's late word means nothing any more.
    made = []
    far.receive(
      .answer(
        id, channel: number, token: 2 | FarSessions.awaited, mls: .none,
        .accepted(sequence: 7, duplicate: false)), from: old, into: &made)
    #expect(made.isEmpty)
  }

  @Test(
    "An owner that refuses one publish as not its own is sent nothing more until all is asked again"
  )
  func refusedTogether() {
    var far = FarSessions(loop: 0, writer: 1)
    let (owner, ref) = (NodeID(5), EngineRig.channel("acme/ns/c"))
    let who = EngineRig.principal("acme")
    let (alice, bob) = (SessionID(1), SessionID(2))
    var made: [FarEffect] = []
    func publish(_ id: SessionID, _ text: String, _ token: UInt64) {
      far.publish(
        id, who, .service, ref,
        Publication(frame: EngineRig.frame(text), hasSuffix: true, type: 1, token: token),
        to: owner, into: &made)
    }
    func mails() -> [String] {
      defer { made = [] }
      return made.compactMap { effect in
        guard case .mail(_, let mail) = effect else { return nil }
        switch mail {
        case .channel: return "channel"
        case .publish(_, _, let p): return EngineRig.text(p.frame)
        default: return nil
        }
      }
    }
    publish(alice, "a1", 1)
    publish(bob, "b1", 1)
    publish(alice, "a2", 2)
    #expect(mails() == ["channel", "a1", "b1", "a2"])
    far.receive(.notOwner(alice, channel: 0, token: 1, revision: 40), from: owner, into: &made)
    publish(bob, "b2", 2)
    publish(alice, "a3", 3)
    #expect(mails() == [])
    // The refusals of what was on its way.
    far.receive(.notOwner(bob, channel: 0, token: 1, revision: 40), from: owner, into: &made)
    far.receiveOwner(of: ref, owner, into: &made)
    #expect(mails() == ["channel", "a1", "a2", "a3", "b1", "b2"])
  }

  @Test("One word answers publishes in a row, each as it was asked") func answersInARow() {
    var far = FarSessions(loop: 0, writer: 1)
    let (owner, ref) = (NodeID(5), EngineRig.channel("acme/ns/c"))
    let (id, who) = (SessionID(1), EngineRig.principal("acme"))
    var made: [FarEffect] = []
    // The fourth is one that nobody waits for.
    for token in [11, 12, 13, 0, 15] as [UInt64] {
      far.publish(
        id, who, .service, ref,
        Publication(frame: EngineRig.frame("m"), hasSuffix: true, type: 1, token: token), to: owner,
        into: &made)
    }
    let tokens = made.compactMap { effect -> UInt64? in
      if case .mail(_, .publish(_, _, let p)) = effect { p.token } else { nil }
    }
    #expect(tokens.map { $0 & FarSessions.awaited == 0 } == [false, false, false, true, false])
    made = []
    func answered() -> [String] {
      defer { made = [] }
      return made.map { effect in
        guard case .answer(id, _, let token, _, .accepted(let sequence, false)) = effect else {
          return "\(effect)"
        }
        return "\(token) at \(sequence)"
      }
    }
    far.receive(
      .answers(id, channel: 0, token: tokens[0], sequence: 7, count: 3), from: owner, into: &made)
    #expect(answered() == ["11 at 7", "12 at 8", "13 at 9"])
    far.receive(
      .answers(id, channel: 0, token: tokens[3], sequence: 10, count: 1), from: owner, into: &made)
    #expect(answered() == [])
    // Twice is as good as once, and what was never asked is no answer.
    far.receive(
      .answers(id, channel: 0, token: tokens[2], sequence: 9, count: 1), from: owner, into: &made)
    #expect(answered() == [])
    far.receive(
      .answers(id, channel: 0, token: tokens[4], sequence: 11, count: 4_000), from: owner,
      into: &made)
    #expect(answered() == ["15 at 11"])
  }

  private func delivery(_ sequence: UInt64) -> Delivery {
    Delivery(
      sequence: sequence, frame: EngineRig.frame("m\(sequence)"), type: 1, mls: .none, epoch: 0,
      generation: 1, producer: 0, producerSequence: 0, wall: .zero, hasSuffix: true)
  }

  /// What the owner is asked, and what sessions hear.
  private func words(_ made: inout [FarEffect]) -> [String] {
    defer { made = [] }
    return made.map { effect in
      switch effect {
      case .mail(_, .opened(let id, _, _)): "opened \(id.value)"
      case .mail(_, .channel(let number, _, let name)): "\(name) is \(number)"
      case .mail(_, .publish(let id, let channel, let p)):
        "publish \(id.value) \(channel) \(p.producerSequence)"
      case .mail(_, .subscribe(let id, let channel, let start, _, let limit, let token)):
        "subscribe \(id.value) \(channel) \(start) \(limit) as \(token)"
      case .mail(_, .unsubscribe(let id, let channel)): "unsubscribe \(id.value) \(channel)"
      case .mail(_, .closed(let id)): "closed \(id.value)"
      case .mail(_, .credit(let id, _)): "credit \(id.value)"
      case .deliver(let ids, _, let delivery, _): "deliver \(delivery.sequence) \(ids.map(\.value))"
      case .answer(let id, _, let token, _, _): "answer \(id.value) \(token)"
      case .subscribed(let id, _, let token, _, _): "subscribed \(id.value) \(token)"
      case .readEnded(let id, _): "ended \(id.value)"
      case .end(let id, let fault): "end \(id.value): \(fault.code.rawValue)"
      case .creditDue: "credit due"
      default: "\(effect)"
      }
    }
  }

  @Test(
    "A session that has a closed one's place takes nothing of it; what that published is answered")
  func places() {
    var far = FarSessions(loop: 0, writer: 1)
    let (owner, ref) = (NodeID(5), EngineRig.channel("acme/ns/c"))
    let who = EngineRig.principal("acme")
    let (old, new) = (
      SessionID(loop: 0, generation: 0, index: 1), SessionID(loop: 0, generation: 1, index: 1)
    )
    var made: [FarEffect] = []
    func publish(_ id: SessionID, _ token: UInt64) {
      far.publish(
        id, who, .service, ref,
        Publication(frame: EngineRig.frame("m"), hasSuffix: true, type: 1, token: token), to: owner,
        into: &made)
    }
    publish(old, 7)
    far.close(old, into: &made)
    made = []
    publish(new, 8)
    #expect(words(&made) == ["opened \(new.value)", "publish \(new.value) 0 1"])
    // Late, and in a place that is another's by now: held while its slot moved, say.
    publish(old, 9)
    #expect(words(&made) == ["publish \(old.value) 0 2"])
    for token in [1, 2] as [UInt64] {
      far.receive(
        .answer(
          old, channel: 0, token: token | FarSessions.awaited, mls: .none,
          .accepted(sequence: token, duplicate: false)), from: owner, into: &made)
    }
    #expect(
      words(&made) == ["answer \(old.value) 7", "answer \(old.value) 9", "closed \(old.value)"])
    far.receive(
      .answer(
        new, channel: 0, token: 1 | FarSessions.awaited, mls: .none,
        .accepted(sequence: 3, duplicate: false)), from: owner, into: &made)
    #expect(words(&made) == ["answer \(new.value) 8"])
    far.close(new, into: &made)
    #expect(words(&made) == ["closed \(new.value)"])
    #expect(far.count == 0)
  }

  private func subscribe(
    _ id: SessionID, _ ref: ChannelRef, from start: UInt64, at owner: NodeID,
    _ far: inout FarSessions, into made: inout [FarEffect]
  ) {
    far.subscribe(
      id, EngineRig.principal("acme"), .service, ref, start: .sequence(start), follow: true,
      limit: 0, token: 77, to: owner, into: &made)
  }

  /// A session that has the first message of nine from its first cursor.
  private func reading(
    _ id: SessionID, _ ref: ChannelRef, at owner: NodeID, into made: inout [FarEffect]
  ) -> FarSessions {
    var far = FarSessions(loop: 0, writer: 1)
    subscribe(id, ref, from: 1, at: owner, &far, into: &made)
    far.receive(.subscribed(id, channel: 0, token: 1, head: 9, nil), from: owner, into: &made)
    far.receive(.deliver([id], channel: 0, delivery(1)), from: owner, into: &made)
    return far
  }

  @Test("A new cursor takes nothing that was for the last one, and the credit of that goes back")
  func cursorsApart() {
    let (id, owner, ref) = (SessionID(1), NodeID(5), EngineRig.channel("acme/ns/c"))
    var made: [FarEffect] = []
    var far = reading(id, ref, at: owner, into: &made)
    far.unsubscribe(id, ref, into: &made)
    subscribe(id, ref, from: 5, at: owner, &far, into: &made)
    made = []
    // On its way when the first cursor ended, with the end of that.
    for n in 2...8 as ClosedRange<UInt64> {
      far.receive(.deliver([id], channel: 0, delivery(n)), from: owner, into: &made)
    }
    far.receive(.readEnded(id, channel: 0), from: owner, into: &made)
    #expect(words(&made) == ["credit due"])
    far.payCredit(into: &made)
    #expect(words(&made) == ["credit 1"])
    far.receive(.subscribed(id, channel: 0, token: 2, head: 9, nil), from: owner, into: &made)
    for n in 5...9 as ClosedRange<UInt64> {
      far.receive(.deliver([id], channel: 0, delivery(n)), from: owner, into: &made)
    }
    #expect(words(&made) == ["subscribed 1 77"] + (5...9).map { "deliver \($0) [1]" })
  }

  @Test("A cursor that is asked for again at its owner takes what was on its way")
  func askedAgain() {
    let (id, owner, ref) = (SessionID(1), NodeID(5), EngineRig.channel("acme/ns/c"))
    var made: [FarEffect] = []
    var far = reading(id, ref, at: owner, into: &made)
    // The owner refused something else of the channel, and has kept the cursor.
    far.receive(
      .notOwner(SessionID(9), channel: 0, token: 4, revision: 3), from: owner, into: &made)
    far.receiveOwner(of: ref, owner, into: &made)
    made = []
    far.receive(.deliver([id], channel: 0, delivery(2)), from: owner, into: &made)
    far.receive(.subscribed(id, channel: 0, token: 2, head: 9, nil), from: owner, into: &made)
    far.receive(.deliver([id], channel: 0, delivery(3)), from: owner, into: &made)
    #expect(words(&made) == ["deliver 2 [1]", "deliver 3 [1]"])
  }

  @Test("A cursor that has all it wanted is not asked for again; the largest sequence ends nothing")
  func limits() {
    var far = FarSessions(loop: 0, writer: 1)
    let (owner, ref) = (NodeID(5), EngineRig.channel("acme/ns/c"))
    let who = EngineRig.principal("acme")
    var made: [FarEffect] = []
    for (id, limit) in [(SessionID(1), 2), (SessionID(2), 0)] as [(SessionID, UInt64)] {
      far.subscribe(
        id, who, .service, ref, start: .sequence(1), follow: true, limit: limit, token: 77,
        to: owner, into: &made)
      far.receive(
        .subscribed(id, channel: 0, token: id.value, head: 9, nil), from: owner, into: &made)
    }
    // More than was asked for: an owner that breaks the rules ends nothing here.
    for n in 1...3 as ClosedRange<UInt64> {
      far.receive(.deliver([SessionID(1)], channel: 0, delivery(n)), from: owner, into: &made)
    }
    far.receive(.deliver([SessionID(2)], channel: 0, delivery(.max)), from: owner, into: &made)
    made = []
    far.receiveForgotten(owner, into: &made)
    #expect(
      words(&made).filter { $0.hasPrefix("ended") || $0.hasPrefix("subscribe") } == [
        "ended 1", "subscribe 2 0 sequence(\(Limits.maxSequence + 1)) 0 as 3",
      ])
  }

  @Test("Numbers of channels that nobody uses any more are given to others; one stream has a bound")
  func numbers() {
    var far = FarSessions(loop: 0, writer: 1, numbers: 64)
    let (owner, who) = (NodeID(5), EngineRig.principal("acme"))
    var made: [FarEffect] = []
    let kept = EngineRig.channel("acme/ns/kept")
    func use(_ id: SessionID, _ ref: ChannelRef) {
      far.subscribe(
        id, who, .service, ref, start: .live, follow: true, limit: 0, token: 1, to: owner,
        into: &made)
    }
    use(SessionID(1), kept)
    // When each number was given last: it rests for as many as are given in between.
    var given: [UInt32: Int] = [:]
    var rests: [Int] = []
    for n in 0..<1_000 {
      let id = SessionID(loop: 0, generation: UInt32(n), index: 2)
      made = []
      use(id, EngineRig.channel("acme/ns/c\(n)"))
      for case .mail(_, .channel(let number, _, _)) in made {
        if let before = given.updateValue(n, forKey: number) { rests.append(n - before) }
      }
      far.close(id, into: &made)
    }
    #expect(given.keys.max() == 128 && given[0] == nil)
    #expect(rests.min() ?? 0 > 64)
    made = []
    use(SessionID(3), kept)
    #expect(words(&made).last == "subscribe 3 0 live 0 as 1002")
  }

  @Test("What all sessions use of others' channels has a bound, and room again when some have gone")
  func manyChannels() {
    var far = FarSessions(loop: 0, writer: 1, numbers: 64)
    let (owner, who) = (NodeID(5), EngineRig.principal("acme"))
    var made: [FarEffect] = []
    func use(_ id: SessionID, _ n: Int) {
      far.subscribe(
        id, who, .service, EngineRig.channel("acme/x/c\(n)"), start: .live, follow: true, limit: 0,
        token: 1, to: owner, into: &made)
    }
    for n in 0..<512 { use(SessionID(1), n) }
    made = []
    use(SessionID(2), 512)
    #expect(words(&made) == ["end 2: unavailable"])
    far.close(SessionID(1), into: &made)
    for n in 0..<1_024 {
      made = []
      use(SessionID(3), n)
    }
    #expect(words(&made).contains { $0.hasPrefix("subscribe 3") })
  }

  @Test("One stream has a bound on channels; those it has left do not count")
  func channelsOfOne() {
    var far = FarSessions(loop: 0, writer: 1)
    let (owner, who) = (NodeID(5), EngineRig.principal("acme"))
    var made: [FarEffect] = []
    func use(_ id: SessionID, _ ref: ChannelRef) {
      far.subscribe(
        id, who, .service, ref, start: .live, follow: true, limit: 0, token: 1, to: owner,
        into: &made)
    }
    for n in 0...(Limits.farChannelsPerSession + 10) {
      let ref = EngineRig.channel("acme/x/c\(n)")
      use(SessionID(3), ref)
      far.unsubscribe(SessionID(3), ref, into: &made)
    }
    #expect(words(&made).last?.hasPrefix("unsubscribe 3") == true)
    for n in 0...Limits.farChannelsPerSession {
      use(SessionID(4), EngineRig.channel("acme/x/c\(n)"))
    }
    #expect(words(&made).last == "end 4: unavailable")
  }

  @Test("An owner that ends a session answers it no more: nothing of it is kept for that owner")
  func ended() {
    var far = FarSessions(loop: 0, writer: 1)
    let (owner, other, who) = (NodeID(5), NodeID(6), EngineRig.principal("acme"))
    let id = SessionID(1)
    var made: [FarEffect] = []
    for (name, to) in [("one", owner), ("one", owner), ("two", other)] {
      far.publish(
        id, who, .service, EngineRig.channel("acme/ns/\(name)"),
        Publication(frame: EngineRig.frame("m"), hasSuffix: true, type: 1, token: 9), to: to,
        into: &made)
    }
    made = []
    far.receive(.end(id, Fault(.unavailable, "too many")), from: owner, into: &made)
    #expect(words(&made) == ["end 1: unavailable"])
    // The host ends its stream; the other owner's answer is still to come.
    far.close(id, into: &made)
    #expect(far.count == 1)
    far.receive(
      .answer(
        id, channel: 1, token: 3 | FarSessions.awaited, mls: .none,
        .accepted(sequence: 1, duplicate: false)),
      from: other, into: &made)
    #expect(far.count == 0)
    #expect(words(&made) == ["answer 1 9", "closed 1"])
  }

  @Test("Small credit is gathered, much is told at once, and none is told of a node that forgot")
  func credit() {
    var far = FarSessions(loop: 0, writer: 1)
    let (one, two) = (NodeID(5), NodeID(6))
    let who = EngineRig.principal("acme")
    var made: [FarEffect] = []
    func credits() -> [String] {
      defer { made = [] }
      return made.compactMap { effect in
        switch effect {
        case .mail(let node, .credit(let id, let bytes)): "\(node.value): \(id.value) \(bytes)"
        case .creditDue: "due"
        default: nil
        }
      }
    }
    for (id, owner) in [(SessionID(1), one), (SessionID(2), one), (SessionID(2), two)] {
      let ref = EngineRig.channel("acme/ns/c\(owner.value)")
      far.subscribe(
        id, who, .skytale, ref, start: .live, follow: true, limit: 0, token: 1, to: owner,
        into: &made)
    }
    made = []
    far.credit(SessionID(1), bytes: 100, to: one, into: &made)
    far.credit(SessionID(2), bytes: 50, to: one, into: &made)
    far.credit(SessionID(1), bytes: 11, to: one, into: &made)
    far.credit(SessionID(2), bytes: Limits.farCreditBytes, to: two, into: &made)
    #expect(credits() == ["due", "6: 2 \(Limits.farCreditBytes)"])
    far.payCredit(into: &made)
    #expect(credits() == ["5: 1 111", "5: 2 50"])
    far.payCredit(into: &made)
    #expect(credits() == [])
    far.credit(SessionID(1), bytes: 5, to: one, into: &made)
    far.credit(SessionID(2), bytes: 6, to: two, into: &made)
    #expect(credits() == ["due"])
    far.receiveForgotten(one, into: &made)
    made = []
    far.payCredit(into: &made)
    #expect(credits() == ["6: 2 6"])
  }

  @Test("Too much without an answer pauses the session, and answers let it go on") func paused() {
    let world = open()
    let alice = world.join()
    world.settle()
    world.isCut = true
    world.cut()
    let big = Limits.farPendingBytes / 4
    for n in 0..<5 as Range<UInt64> {
      var made: [FarEffect] = []
      let frame = Bytes(
        [0] + bigEndianBytes(UInt32(big)) + [UInt8](repeating: 1, count: big))
      world.far.publish(
        alice.id, EngineRig.principal("acme"), .service, world.refs[0],
        Publication(frame: frame, hasSuffix: true, type: 1, token: 900 + n), to: FarWorld.owner,
        into: &made)
      world.perform(made)
    }
    #expect(alice.isPaused)
    world.settle()
    #expect(!alice.isPaused)
  }

  @Test(
    "Whatever fails when, channels have no gap and no message twice, and every subscriber gets every message once",
    .timeLimit(.minutes(3)))
  func anything() {
    var (restarts, deliveries, unreachable) = (0, 0, 0)
    for seed in 0..<120 as Range<UInt64> {
      var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1
      func below(_ n: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % UInt64(n))
      }
      let world = FarWorld()
      for _ in 0..<250 {
        let living = world.agents.values.sorted { $0.id.value < $1.id.value }
        switch below(100) {
        case 0..<4: if living.count < 6 { _ = world.join() }
        case 4..<12:
          if let agent = living.isEmpty ? nil : living[below(living.count)] {
            let channel = below(3)
            if agent.since[world.refs[channel].id] == nil { world.subscribe(agent, channel) }
          }
        case 12..<45:
          if let agent = living.isEmpty ? nil : living[below(living.count)] {
            world.publish(agent, below(3))
          }
        case 45..<86: world.carry(to: below(2), most: 1 + below(6))
        case 86..<90: world.cut()
        case 90..<92:
          restarts += 1
          world.restartOwner()
        case 92..<93: world.isCut.toggle()
        case 93..<94: if let agent = living.first { world.leave(agent) }
        default: world.advance(Int64(below(below(12) == 0 ? 11_000 : 200)))
        }
        unreachable += living.count { $0.ended?.code == .unavailable }
      }
      world.settle()
      world.check()
      #expect(world.faults.isEmpty, "seed \(seed): \(world.faults.prefix(4))")
      deliveries += world.agents.values.reduce(0) { $0 + $1.got.values.reduce(0) { $0 + $1.count } }
      if !world.faults.isEmpty { break }
    }
    #expect(restarts > 200 && deliveries > 2_000 && unreachable > 10)
  }
}
