import Base
import Codec
import Slim
import Testing

@Suite("SLIM router")
struct SlimRouterTests {
  private func session(_ index: Int, loop: Int = 0) -> SessionID {
    SessionID(loop: loop, generation: 0, index: index)
  }
  private func name(_ service: UInt64, _ id: UInt64) -> SlimName {
    SlimName(c0: 1, c1: 2, c2: service, idHigh: 0, idLow: id)
  }

  @Test("A name reaches who subscribed to it; the NULL id everyone under the prefix")
  func matching() {
    var router = SlimRouter(loop: 0, loops: 1)
    let (a, b) = (name(7, 1), name(7, 2))
    #expect(router.receiveSubscribe(session(1), .slimA, a, id: 10) == nil)
    #expect(router.receiveSubscribe(session(2), .slimA, b, id: 10) == nil)
    #expect(router.receiveSubscribe(session(3), .slimA, a.any, id: 10) == nil)
    #expect(router.route(.slimA, a)?.members == [session(1)])
    #expect(router.route(.slimA, b)?.members == [session(2)])
    #expect(router.route(.slimA, a.any)?.members == [session(1), session(2), session(3)])
    #expect(router.route(.slimA, name(8, 1)) == nil)
    #expect(router.route(.slimB, a) == nil, "families never meet")
  }

  @Test("Two instances of one session are one subscriber of their prefix")
  func once() {
    var router = SlimRouter(loop: 0, loops: 1)
    for id in 1...2 as ClosedRange<UInt64> {
      _ = router.receiveSubscribe(session(1), .slimB, name(7, id), id: 0)
    }
    let any = name(7, 1).any
    _ = router.receiveSubscribe(session(1), .slimB, any, id: 0)
    #expect(router.route(.slimB, any)?.members == [session(1)])
    router.receiveUnsubscribe(session(1), .slimB, name(7, 1), id: 0)
    router.receiveUnsubscribe(session(1), .slimB, any, id: 0)
    #expect(router.route(.slimB, any)?.members == [session(1)])
    router.receiveUnsubscribe(session(1), .slimB, name(7, 2), id: 0)
    #expect(router.route(.slimB, any) == nil)
    #expect(router.names == 0 && router.subscriptions(of: session(1)) == 0)
  }

  @Test("References: a repeated id counts once, an unknown id takes an unnamed one, else nothing")
  func references() {
    var router = SlimRouter(loop: 0, loops: 1)
    let n = name(7, 1)
    for id in [5, 5, 6, 0] as [UInt64] {
      _ = router.receiveSubscribe(session(1), .slimA, n, id: id)
    }
    router.receiveUnsubscribe(session(1), .slimA, n, id: 5)
    router.receiveUnsubscribe(session(1), .slimA, n, id: 99)
    #expect(router.route(.slimA, n) != nil, "6 is left")
    router.receiveUnsubscribe(session(1), .slimA, n, id: 99)
    #expect(router.route(.slimA, n) != nil, "an unknown id takes nothing that has another id")
    router.receiveUnsubscribe(session(1), .slimA, n, id: 6)
    #expect(router.route(.slimA, n) == nil)
    router.receiveUnsubscribe(session(1), .slimA, n, id: 6)
    router.receiveUnsubscribe(session(9), .slimA, n, id: 6)
  }

  @Test("A closed session leaves every route, whatever the order")
  func close() {
    var router = SlimRouter(loop: 0, loops: 1)
    for s in 0..<50 {
      for n in 0..<20 as Range<UInt64> {
        _ = router.receiveSubscribe(session(s), .slimA, name(n % 5, n), id: UInt64(s) + 1)
      }
    }
    var left = Array(0..<50)
    while !left.isEmpty {
      let gone = left.remove(at: (left.count * 7 + 3) % left.count)
      router.receiveClose(session(gone))
      let stay = Set(left.map { session($0) })
      #expect(Set(router.route(.slimA, name(3, 3).any)?.members ?? []) == stay)
    }
    #expect(router.names == 0)
  }

  @Test("Anycast goes round all subscribers but the sender, here and elsewhere")
  func anycast() {
    var router = SlimRouter(loop: 0, loops: 3)
    let any = name(7, 0).any
    for s in 1...3 { _ = router.receiveSubscribe(session(s), .slimA, any, id: 0) }
    router.receiveInterest(SlimInterest(family: .slimA, name: any, count: 2), from: 2)
    let route = router.route(.slimA, any)!
    var counts: [String: Int] = [:]
    for _ in 0..<50 { counts["\(route.pick(from: nil))", default: 0] += 1 }
    #expect(counts.values.sorted() == [10, 10, 10, 20])
    for _ in 0..<20 { #expect(route.pick(from: session(1)) != .local(session(1))) }
    for _ in 0..<20 { #expect(route.pick(from: nil, of: .loop) != .loop(2)) }
  }

  @Test("An only subscriber that sends gets nothing back")
  func alone() {
    var router = SlimRouter(loop: 0, loops: 1)
    _ = router.receiveSubscribe(session(1), .slimA, name(7, 1), id: 0)
    let route = router.route(.slimA, name(7, 1))!
    #expect(route.pick(from: session(1)) == .none)
    #expect(route.pick(from: session(2)) == .local(session(1)))
  }

  @Test("The other loops hear counts, also when a route goes and comes back in one turn")
  func interest() {
    var router = SlimRouter(loop: 0, loops: 2)
    let n = name(7, 0).any
    func said() -> [UInt32] { router.takeInterest().map(\.count) }
    _ = router.receiveSubscribe(session(1), .slimA, n, id: 0)
    _ = router.receiveSubscribe(session(2), .slimA, n, id: 0)
    #expect(said() == [2])
    router.receiveClose(session(1))
    router.receiveClose(session(2))
    _ = router.receiveSubscribe(session(3), .slimA, n, id: 0)
    #expect(said().last == 1)
    router.receiveClose(session(3))
    router.receiveInterest(SlimInterest(family: .slimA, name: n, count: 4), from: 1)
    #expect(said().last == 0)
    #expect(said() == [])
    #expect(router.route(.slimA, n)?.remoteTotal == 4)
    router.receiveInterest(SlimInterest(family: .slimA, name: n, count: 0), from: 1)
    #expect(router.names == 0)
  }

  @Test("Bounds are told, and nothing changes beyond them")
  func bounds() {
    var router = SlimRouter(loop: 0, loops: 1)
    for i in 0..<UInt64(Limits.slimReferences) {
      #expect(router.receiveSubscribe(session(1), .slimA, name(7, 1), id: i + 1) == nil)
    }
    #expect(router.receiveSubscribe(session(1), .slimA, name(7, 1), id: 1 << 40)?.code == .tooLarge)
    var fault: Fault?
    var made: UInt64 = 0
    while fault == nil, made < UInt64(Limits.slimNamesPerSession) + 10 {
      fault = router.receiveSubscribe(session(2), .slimA, name(made, 1).any, id: 0)
      made += 1
    }
    #expect(fault?.code == .tooLarge)
    #expect(router.subscriptions(of: session(2)) == Limits.slimNamesPerSession)
  }
}
