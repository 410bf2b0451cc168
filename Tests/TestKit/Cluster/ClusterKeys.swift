internal import Base
internal import Digest
internal import Token

/// Streams that live by keys of one tenant, whose node has them revoked while the others have streams of them. Within five
/// seconds no node that can hear that one has such a stream.
final class ClusterKeys {
  private static let tenant = TenantID(org: "acme")
  private static let promise: Int64 = 5_000_000_000
  private unowned let world: ClusterWorld
  /// The node that has the tenant.
  let home: Int
  private let count: Int
  /// On the home's disk.
  private var revoked: [RecordID: Int64] = [:]
  /// Since when each node and the home hear each other, and run.
  private var contact: [Int64]

  init(_ world: ClusterWorld) {
    self.world = world
    home = world.random.below(world.config.nodes)
    count = world.random.within(2...8)
    contact = Array(repeating: 0, count: world.config.nodes)
  }

  func start(seconds: Int64) {
    for number in 1...count {
      let key = RecordID(UInt64(number))
      live(key)
      let at = Int64(world.random.below(Int(seconds) * 1_200_000_000))
      world.clock.after(at) { [self] in revoke(key) }
    }
    watch()
  }

  static func notice(_ key: RecordID) -> Notice { .keyEnded(tenant, key) }

  /// What the home says when it starts.
  var notices: [Notice] { revoked.keys.sorted().map(ClusterKeys.notice) }

  // MARK: streams

  /// Somebody with this key opens a stream on some node, again and again.
  private func live(_ key: RecordID) {
    world.clock.after(Int64(world.random.within(50_000_000...4_000_000_000))) { [self] in
      let node = world.random.pick(world.nodes)
      node.enter { [self] in open(key, $0) }
      live(key)
    }
  }

  /// The home is asked about every stream; what it has said meanwhile counts as well.
  private func open(_ key: RecordID, _ node: ClusterNode) {
    guard !node.keys.contains(key) else { return }
    world.call(from: node.index, to: home, seconds: 2, isReliable: true) {
      [self] (_: ClusterNode, answer: @escaping (Bool) -> Void) in
      answer(revoked[key] == nil)
    } _: { [self] node, isGood in
      guard isGood == true else { return }
      // The word that it has ended may have come before the answer.
      if node.board.stands(.key(key, ClusterKeys.tenant)) { return }
      node.keys.insert(key)
      world.note(4, key.value)
    }
  }

  // MARK: the end of a key

  private func revoke(_ key: RecordID) {
    let node = world.nodes[home]
    guard node.isAlive else {
      // Who asked is told that it is unavailable, and asks again.
      return world.clock.after(1_000_000_000) { [self] in revoke(key) }
    }
    node.enter { [self] node in
      guard revoked[key] == nil else { return }
      world.tell("key \(key.value) is revoked on node \(home)")
      revoked[key] = world.clock.nanoseconds
      _ = node.board.say(ClusterKeys.notice(key))
      node.keys.remove(key)
      for other in world.nodes where other.index != home {
        world.send(from: home, to: other.index) { [home] in $0.readBook(of: home) }
      }
    }
  }

  /// Beside the run.
  private func watch() {
    world.clock.after(100_000_000) { [self] in
      check()
      watch()
    }
  }

  private func check() {
    let now = world.clock.nanoseconds
    let isHomeWell = world.nodes[home].isRunning
    for node in world.nodes {
      let i = node.index
      if !isHomeWell || !node.isRunning || !world.reaches(i, home) || !world.reaches(home, i) {
        contact[i] = now
      }
      for key in node.keys.sorted() {
        guard let at = revoked[key] else { continue }
        if now - max(at, contact[i]) > ClusterKeys.promise {
          world.fail(
            "key \(key.value), revoked at \(at / 1_000_000) ms, still has a stream on node \(i)")
        }
      }
    }
  }

  var unrest: String? {
    for node in world.nodes {
      if let key = node.keys.first(where: { revoked[$0] != nil }) {
        return "key \(key.value) is revoked and has a stream on node \(node.index)"
      }
    }
    return nil
  }
}

extension ClusterNode {
  func startBoard() {
    keys = []
    board = NoticeBoard(epoch: world.random.next())
    if index == world.keys?.home, world.plant != .revocationForgotten {
      board.own.replace(world.keys?.notices ?? [])
    }
  }

  func readBooks() {
    if world.plant == .noticesToldOnce { return }
    for j in 0..<world.config.nodes where j != index { readBook(of: j) }
  }

  /// Reads on in another node's book from where this node stopped.
  func readBook(of j: Int) {
    let id = ClusterNode.id(j)
    let place = board.place(id)
    world.call(from: index, to: j, seconds: 2, isReliable: true) {
      (node: ClusterNode, answer: @escaping ([UInt8]) -> Void) in
      answer(node.board.own.page(epoch: place.epoch, after: place.last).encoded)
    } _: { node, bytes in
      guard let bytes, let page = try? NoticePage(decoding: bytes) else { return }
      guard let changes = node.board.receive(page, from: id) else { return node.readBook(of: j) }
      for change in changes where change.stands {
        if case .keyEnded(_, let key) = change.notice { node.keys.remove(key) }
      }
      if page.more { node.readBook(of: j) }
    }
  }
}
