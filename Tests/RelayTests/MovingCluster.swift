import Base
import Codec
import Crypto
import Digest
import FoundationEssentials
import Grpc
import Loop
import Messages
import Report
import Settings
import Testing

@testable import Relay
@testable import Ring

/// Three real nodes of one cluster in this process, whose slots a test moves one by one.
final class MovingCluster: @unchecked Sendable {
  private let folder: TestFolder
  private let authority: ClusterAuthority
  private var seeds: [String] = []
  private var stopped: Set<Int> = []
  private(set) var nodes: [NodeHost] = []
  /// What the nodes logged.
  let lines = Lock("")

  private let more: [String]

  /// `more`: settings of every node.
  init(_ count: Int = 3, _ more: [String] = []) throws {
    self.more = more
    folder = try TestFolder()
    authority = try ClusterAuthority.make(
      cluster: "test", days: 100, at: Timestamp.now() + .seconds(-86_400))
    for place in 0..<count { nodes.append(try start(place)) }
    try settle()
  }
  deinit { for place in nodes.indices { stop(place) } }

  private func certificates(_ place: Int) throws -> String {
    let certs = "\(folder.path)/certs-\(place)"
    if FileManager.default.fileExists(atPath: certs) { return certs }
    let made = try authority.issue(
      node: NodeID(UInt64(place + 1)), name: "n\(place + 1)", days: 30, at: Timestamp.now())
    try FileManager.default.createDirectory(atPath: certs, withIntermediateDirectories: true)
    try PrivateFile.write("\(certs)/ca.pem", authority.own.certificatePem)
    try PrivateFile.write("\(certs)/node.pem", made.certificatePem)
    try PrivateFile.write("\(certs)/node.key", made.keyPem)
    return certs
  }

  func data(_ place: Int) -> String { "\(folder.path)/n\(place + 1)" }

  private func start(_ place: Int) throws -> NodeHost {
    var words = [
      "--data", data(place), "--node-name", "n\(place + 1)", "--grpc",
      "127.0.0.1:0", "--http", "127.0.0.1:0", "--registry", "off", "--auth", "open", "--cluster",
      "127.0.0.1:0", "--cert-dir", try certificates(place), "--zone", "z\(place + 1)", "--set",
      "loops=2", "--set", "cluster.profile=local",
    ]
    words += more
    if !seeds.isEmpty { words += ["--seeds", seeds.joined(separator: ",")] }
    guard case .run(let settings, _) = try NodeStart.read(arguments: words, environment: [:])
    else { throw Fault(.internal) }
    let writer = LogWriter { [lines] bytes in
      let text = String(decoding: bytes, as: UTF8.self)
      lines.withLock { $0 += "n\(place + 1) \(text)" }
    }
    let log = Log(minimum: .info, format: .text(color: false), writer: writer)
    let end = Timestamp.now() + .seconds(30)
    let node = try NodeHost(settings: settings, log: log, goOnWaiting: { Timestamp.now() < end })
    if seeds.isEmpty { seeds = [node.addresses.cluster] }
    return node
  }

  func stop(_ place: Int) {
    if stopped.insert(place).inserted { nodes[place].drain() }
  }

  func start(again place: Int) throws {
    nodes[place] = try start(place)
    stopped.remove(place)
  }

  var living: [NodeHost] { nodes.indices.filter { !stopped.contains($0) }.map { nodes[$0] } }

  /// One map for all, and nothing moves.
  func settle() throws {
    // On a busy machine nodes do not say in time that their slots are empty, and all of them are handed over.
    try until("one map, and nothing moves", seconds: 120) {
      let maps = living.compactMap { $0.cluster?.map.value }
      return Set(maps).count == 1 && maps[0].movingSlots.isEmpty
        && maps[0].nodes.count == nodes.count && living.allSatisfy { idle($0) }
    }
  }

  /// No slot leaves the node or comes to it.
  private func idle(_ node: NodeHost) -> Bool {
    guard let moves = node.cluster?.moves else { return false }
    return moves.loop.call { moves.sources.isEmpty && moves.targets.isEmpty } ?? false
  }

  func until(_ what: String, seconds: Int64 = 30, _ done: () -> Bool) throws {
    if eventually(seconds: seconds, done) { return }
    throw Fault(.deadlineExceeded, "not in time: \(what)\n\(lines.withLock { $0 })")
  }

  // MARK: slots

  var map: RingMap { nodes[0].cluster!.map.value }

  func slot(_ channel: String) -> UInt16 {
    ChannelID(family: .skytale, name: channel).slot
  }

  func place(of slot: UInt16) -> Int { Int(map.owner(of: slot).value) - 1 }

  /// A channel of which this node is the owner now.
  func channel(at place: Int, _ prefix: String) -> String {
    (0...).lazy.map { "acme/t/\(prefix)\($0)" }.first { self.place(of: self.slot($0)) == place }!
  }

  /// Has the map ask for moves, as a plan that is applied does: each slot to the node at a place.
  func ask(_ wanted: [(slot: UInt16, to: Int)]) throws {
    try change { map in
      for (slot, to) in wanted {
        let next = NodeID(UInt64(to + 1))
        let now = map.placement(of: slot)
        if now.owner == next { continue }
        let followers = ([now.owner] + now.followers).filter { $0 != next }
        map.moves[slot] = RingMove(
          target: Placement(owner: next, followers: Array(followers.prefix(map.replicas - 1))),
          attempt: map.revision)
      }
    }
  }

  /// The operator has thought better of it: the slots stay.
  func revert(_ slots: [UInt16]) throws {
    try change { map in for slot in slots { map.moves[slot] = nil } }
  }

  /// The operator gives a node up: what it owned goes to where it was on its way, or to the first node, by force.
  func lose(_ place: Int) throws {
    try change { map in
      let gone = NodeID(UInt64(place + 1))
      for slot in 0..<UInt16(map.slotCount) where map.owner(of: slot) == gone {
        let next = map.moves[slot]?.target.owner ?? NodeID(1)
        map.moves[slot] = nil
        map.set(Placement(owner: next, followers: []), of: Int(slot))
        map.epochs[Int(slot)] += 1
      }
      for at in map.nodes.indices where map.nodes[at].id == gone { map.nodes[at].state = .gone }
    }
  }

  /// As if a node had not heard of the map in which the slot was a third one's: it is the second next owner's at once.
  func skip(_ slot: UInt16, to place: Int) throws {
    try change { map in
      map.moves[slot] = nil
      map.set(Placement(owner: NodeID(UInt64(place + 1)), followers: []), of: Int(slot))
      map.epochs[Int(slot)] += 2
    }
  }

  func logged(_ text: String) -> Bool { lines.withLock { $0.contains(text) } }

  private func change(_ work: @escaping @Sendable (inout RingMap) -> Void) throws {
    let answer = Handoff<Result<Void, Fault>>()
    let cluster = nodes[0].cluster!
    cluster.loop.post {
      cluster.keeper!.change({ draft throws(Fault) in
        var map = draft.ledger.current
        map.revision += 1
        work(&map)
        draft.ledger.receive(map)
      }) { result in answer.put(result.map { _ in () }) }
    }
    guard case .element(let result) = answer.take(timeout: .seconds(10)) else {
      throw Fault(.deadlineExceeded)
    }
    try result.get()
  }

  /// Until each of them is where it was asked to be, and serves there.
  func moved(_ wanted: [(slot: UInt16, to: Int)]) throws {
    try until("\(wanted.count) slots moved", seconds: 60) {
      wanted.allSatisfy { self.place(of: $0.slot) == $0.to } && living.allSatisfy { idle($0) }
    }
  }

  /// Has slots leave this node slowly enough to be met on the way.
  func slow(_ place: Int) {
    let moves = nodes[place].cluster!.moves!
    moves.loop.call { moves.bytesPerSecond = 2 << 20 }
  }

  func facts(_ place: Int) -> SlotMovesFacts { nodes[place].cluster!.moves!.facts.value }
}

/// One who publishes to a channel over one stream until told to stop; a thread of its own.
final class MovingPublisher: @unchecked Sendable {
  let name: String
  private let client: GrpcBlockingClient
  private let call: GrpcBlockingStream
  private let thread = Handoff<Void>()
  private struct State {
    /// The sequence of each message, in the order they were sent.
    var places: [UInt64] = []
    var refusals: [String] = []
    /// Messages whose answer never came, as the stream ended.
    var open = 0
    var longest: Int64 = 0
    var isOver = false
  }
  private let state = Lock(State())

  init(_ node: NodeHost, _ channel: String, _ name: String) throws {
    self.name = name
    let made = try GrpcBlockingClient(try #require(Endpoint(node.addresses.grpc)))
    client = made
    call = made.bidi(ChannelService.publish.path)
    _ = WorkerThread(named: "publisher") { [self] in
      run(channel)
      thread.put(())
    }
  }

  private func run(_ channel: String) {
    var sent = 0
    while !state.withLock({ $0.isOver }) {
      let began = Timestamp.now()
      for _ in 0..<4 {
        var request = PublishRequest()
        request.channel = channel
        request.payload = Array("\(name) \(sent)".utf8)
        call.send(request)
        sent += 1
      }
      for left in (0..<4).reversed() {
        let answer = try? call.next(PublishResponse.self, timeout: .seconds(20))
        guard let answer else {
          state.withLock {
            $0.open = left + 1
            $0.isOver = true
          }
          return
        }
        state.withLock {
          if answer.sequence == 0 { $0.refusals.append(answer.refusal?.code ?? "?") }
          $0.places.append(answer.sequence)
        }
      }
      let took = (Timestamp.now() - began).nanoseconds / 1_000_000
      state.withLock { $0.longest = max($0.longest, took) }
      pauseThread(.milliseconds(1))
    }
  }

  var count: Int { state.withLock { $0.places.count } }

  /// Where its messages are, in their order; what was refused; how many it does not know of; the longest it waited.
  func finish() -> (places: [UInt64], refusals: [String], open: Int, longest: Int64) {
    state.withLock { $0.isOver = true }
    _ = thread.take(timeout: .seconds(60))
    call.cancel()
    return state.withLock { ($0.places, $0.refusals, $0.open, $0.longest) }
  }
}

/// Follows a channel from its first message.
final class MovingReader {
  private let client: GrpcBlockingClient
  private let call: GrpcBlockingStream
  private(set) var sequences: [UInt64] = []
  private(set) var texts: [String] = []

  init(_ node: NodeHost, _ channel: String, follow: Bool = true) throws {
    client = try GrpcBlockingClient(try #require(Endpoint(node.addresses.grpc)))
    var request = ReadRequest()
    request.channel = channel
    request.fromSequence = 1
    request.follow = follow
    call = client.serverStream(ChannelService.read.path, request.encoded())
  }

  func read(_ count: Int) throws {
    while sequences.count < count {
      guard let message = try call.next(ReadResponse.self, timeout: .seconds(30)) else { return }
      sequences.append(message.sequence)
      texts.append(String(decoding: message.payload, as: UTF8.self))
    }
  }
}
