import Base
import Codec
import Slim
import Testing

/// Names between loops and nodes.
@Suite("SLIM router, with other nodes")
struct SlimNodesTests {
  private static let link = SlimRouter.firstLink

  private static func session(_ index: Int, loop: Int = 0) -> SessionID {
    SessionID(loop: loop, generation: 0, index: index)
  }
  private static func name(_ service: UInt64, _ id: UInt64 = .max) -> SlimName {
    let high: UInt64 = id == .max ? .max : 0
    return SlimName(c0: 1, c1: 2, c2: service, idHigh: high, idLow: id)
  }

  private struct Key: Hashable {
    var family: Family
    var name: SlimName
  }

  /// The loops of one node, and what other nodes hear of it and say to it.
  private struct World {
    var routers: [SlimRouter]
    /// Mail between loops, in order for each pair.
    var mail: [[[SlimInterest]]]
    /// What other nodes said to each loop, by link; nil: that the node is gone.
    var fromNodes: [[[SlimInterest?]]]
    /// What the other nodes know, by link, and what they have.
    var theirView: [[Key: UInt32]]
    var theirs: [[Key: UInt32]]
    /// Plain sets: who has subscribed to what.
    var sets: [[Key: Set<SessionID>]]
    var random: UInt64

    init(loops: Int, links: Int, seed: UInt64) {
      routers = (0..<loops).map { SlimRouter(loop: $0, loops: loops) }
      if seed % 2 == 0 { routers[0].tellNodes() }
      mail = [[[SlimInterest]]](
        repeating: [[SlimInterest]](repeating: [], count: loops), count: loops)
      fromNodes = [[[SlimInterest?]]](
        repeating: [[SlimInterest?]](repeating: [], count: loops), count: links)
      theirView = [[Key: UInt32]](repeating: [:], count: links)
      theirs = theirView
      sets = [[Key: Set<SessionID>]](repeating: [:], count: loops)
      random = seed
    }

    mutating func next(_ bound: Int) -> Int {
      random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((random >> 33) % UInt64(bound))
    }

    mutating func someName() -> Key {
      let id = UInt64(next(3))
      return Key(family: .slimA, name: SlimNodesTests.name(UInt64(next(4)), id == 0 ? .max : id))
    }

    mutating func step() {
      let loop = next(routers.count)
      switch next(10) {
      case 0...2:
        let (key, id) = (someName(), SlimNodesTests.session(next(5), loop: loop))
        guard !routers[loop].isSubscribed(id, key.name) else { return }
        _ = routers[loop].receiveSubscribe(id, key.family, key.name, id: 0)
        sets[loop][key, default: []].insert(id)
      case 3...4:
        let (key, id) = (someName(), SlimNodesTests.session(next(5), loop: loop))
        routers[loop].receiveUnsubscribe(id, key.family, key.name, id: 0)
        sets[loop][key]?.remove(id)
      case 5:
        let id = SlimNodesTests.session(next(5), loop: loop)
        routers[loop].receiveClose(id)
        for key in sets[loop].keys { sets[loop][key]?.remove(id) }
      case 6:
        let (link, key, count) = (next(theirs.count), someName(), UInt32(next(3)))
        theirs[link][key] = count
        say(SlimInterest(family: key.family, name: key.name, count: count), from: link)
      case 7:
        guard next(5) == 0 else { return endTurn(loop) }
        let link = next(theirs.count)
        theirs[link] = [:]
        say(nil, from: link)
        // What is lost with the process that heard it is told anew.
        theirView[link] = [:]
        for one in routers[0].toldNames() { hear(routers[0].toldNodes(one.family, one.name), link) }
      case 8: endTurn(loop)
      default: deliver(to: loop)
      }
    }

    mutating func say(_ interest: SlimInterest?, from link: Int) {
      for loop in routers.indices { fromNodes[link][loop].append(interest) }
    }

    mutating func hear(_ interest: SlimInterest, _ link: Int) {
      theirView[link][Key(family: interest.family, name: interest.name)] = interest.count
    }

    mutating func endTurn(_ loop: Int) {
      let out = routers[loop].takeInterest()
      for to in routers.indices where to != loop { mail[loop][to] += out }
      guard loop == 0 else { return }
      for one in routers[0].takeNodeInterest() { for link in theirView.indices { hear(one, link) } }
    }

    mutating func deliver(to loop: Int) {
      for from in routers.indices {
        for one in mail[from][loop] { routers[loop].receiveInterest(one, from: from) }
        mail[from][loop] = []
      }
      for link in theirs.indices {
        for one in fromNodes[link][loop] {
          if let one {
            routers[loop].receiveInterest(one, from: SlimNodesTests.link + link)
          } else {
            routers[loop].receiveGone(SlimNodesTests.link + link)
          }
        }
        fromNodes[link][loop] = []
      }
    }

    mutating func settle() {
      routers[0].tellNodes()
      for _ in 0..<2 {
        for loop in routers.indices { endTurn(loop) }
        for loop in routers.indices { deliver(to: loop) }
      }
      endTurn(0)
    }

    /// Sessions a name reaches on a loop: those under its prefix too, when it is the one of all.
    func members(_ key: Key, _ loop: Int) -> Set<SessionID> {
      guard key.name.isAny else { return sets[loop][key] ?? [] }
      var all: Set<SessionID> = []
      for (other, ids) in sets[loop] where other.name.any == key.name { all.formUnion(ids) }
      return all
    }
  }

  @Test(
    "Interest from many loops and nodes, in any order, is what plain sets say", arguments: 0..<60)
  func model(seed: Int) {
    var world = World(loops: 1 + seed % 4, links: 1 + seed % 3, seed: UInt64(seed) &* 77 &+ 1)
    let keys = (0..<4 as Range<UInt64>).flatMap { service in
      [UInt64.max, 1, 2].map { Key(family: .slimA, name: Self.name(service, $0)) }
    }
    for _ in 0..<6 {
      for _ in 0..<300 { world.step() }
      world.settle()
      for key in keys {
        let counts = world.routers.indices.map { UInt32(world.members(key, $0).count) }
        let links = world.theirs.map { $0[key] ?? 0 }
        let node = counts.reduce(0, +)
        for loop in world.routers.indices {
          let route = world.routers[loop].route(key.family, key.name)
          guard node + links.reduce(0, +) > 0 else {
            #expect(route == nil)
            continue
          }
          #expect(Set(route?.members ?? []) == world.members(key, loop))
          var remote = counts
          remote[loop] = 0
          #expect(route?.remote == remote)
          #expect(route?.remoteTotal == node - counts[loop] + links.reduce(0, +))
          #expect(route?.linkTotal == links.reduce(0, +))
          for (link, count) in links.enumerated() {
            let said = route.map { link < $0.links.count ? $0.links[link] : 0 }
            #expect(said == count)
          }
        }
        for view in world.theirView { #expect(view[key] ?? 0 == node) }
      }
    }
  }

  @Test("Without other nodes nothing is kept for them, and nothing is told") func alone() {
    var router = SlimRouter(loop: 0, loops: 1)
    _ = router.receiveSubscribe(Self.session(1), .slimB, Self.name(7), id: 0)
    #expect(router.takeNodeInterest() == [] && router.takeInterest() == [])
    #expect(router.route(.slimB, Self.name(7))?.links == [])
  }

  @Test(
    "Anycast goes round all nodes by how many subscribers they have; what came from one stays here")
  func anycast() throws {
    var router = SlimRouter(loop: 0, loops: 2)
    let any = Self.name(7)
    for s in 1...2 { _ = router.receiveSubscribe(Self.session(s), .slimA, any, id: 0) }
    router.receiveInterest(SlimInterest(family: .slimA, name: any, count: 3), from: 1)
    router.receiveInterest(SlimInterest(family: .slimA, name: any, count: 5), from: Self.link + 2)
    let route = try #require(router.route(.slimA, any))
    var all: [String: Int] = [:]
    var node: [String: Int] = [:]
    var loop: [String: Int] = [:]
    for _ in 0..<300 {
      all["\(route.pick(from: nil))", default: 0] += 1
      node["\(route.pick(from: nil, of: .node))", default: 0] += 1
      loop["\(route.pick(from: nil, of: .loop))", default: 0] += 1
    }
    #expect(all.values.sorted() == [30, 30, 90, 150] && all["loop(\(Self.link + 2))"] == 150)
    #expect(node.values.sorted() == [60, 60, 180] && node["loop(1)"] == 180)
    #expect(loop.values.sorted() == [150, 150])
  }

  @Test("A node that claims too much takes no more than its part, and none that has no number")
  func claims() throws {
    var router = SlimRouter(loop: 0, loops: 1)
    let any = Self.name(7)
    for link in 0..<SlimRouter.links {
      router.receiveInterest(
        SlimInterest(family: .slimA, name: any, count: .max), from: Self.link + link)
    }
    for strange in [-1, 0, 1, 127, Self.link + SlimRouter.links, 255, Int.max] {
      router.receiveInterest(SlimInterest(family: .slimA, name: any, count: 1), from: strange)
      router.receiveGone(strange)
    }
    let route = try #require(router.route(.slimA, any))
    #expect(route.remoteTotal == UInt32(SlimRouter.links) << 24 && route.nodeTotal == 0)
    for link in 0..<SlimRouter.links { router.receiveGone(Self.link + link) }
    #expect(router.names == 0 && !route.isCurrent)
  }
}
