import Base
import Codec
import Crypto
import FoundationEssentials
import Grpc
import Loop
import Membership
import Messages
import Report
import Ring
import Settings
import Store
import Testing

@testable import Relay

/// Nodes of one cluster in this process, with certificates of their own.
final class TestCluster: @unchecked Sendable {
  let folder: TestFolder
  let authority: ClusterAuthority
  let wall = Timestamp.now()
  /// What the nodes logged.
  let lines = Lock("")

  init() throws {
    folder = try TestFolder()
    authority = try ClusterAuthority.make(
      cluster: "test", days: 3_000, at: Timestamp.now() + .seconds(-100 * 86_400))
  }

  /// A certificate of `n1` and so on, with the number as its id, unless it says otherwise.
  func certify(
    _ number: UInt64, by other: ClusterAuthority? = nil, id: UInt64? = nil,
    at wall: Instant? = nil, days: Int = 30
  ) throws {
    let made = try (other ?? authority).issue(
      node: NodeID(id ?? number), name: "n\(number)", days: days, at: wall ?? self.wall)
    let directory = "\(folder.path)/certs-n\(number)"
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true)
    try PrivateFile.write("\(directory)/ca.pem", (other ?? authority).own.certificatePem)
    try PrivateFile.write("\(directory)/node.pem", made.certificatePem)
    try PrivateFile.write("\(directory)/node.key", made.keyPem)
  }

  /// Ports are the system's. Ends when the node has a map, or `patience` is over: then throws.
  func start(
    _ number: UInt64, seeds: [String] = [], cluster: String = "127.0.0.1:0",
    patience: Double = 20, _ more: [String] = []
  ) throws -> NodeHost {
    if !FileManager.default.fileExists(atPath: "\(folder.path)/certs-n\(number)") {
      try certify(number)
    }
    var words = [
      "--data", "\(folder.path)/n\(number)", "--node-name", "n\(number)", "--grpc", "127.0.0.1:0",
      "--http", "127.0.0.1:0", "--registry", "off", "--cluster", cluster, "--cert-dir",
      "\(folder.path)/certs-n\(number)", "--zone", "z\(number)", "--set", "loops=2", "--set",
      "cluster.profile=local",
    ]
    if !seeds.isEmpty { words += ["--seeds", seeds.joined(separator: ",")] }
    guard
      case .run(let settings, _) = try NodeStart.read(arguments: words + more, environment: [:])
    else { throw Fault(.internal) }
    let writer = LogWriter { [lines] bytes in
      let text = String(decoding: bytes, as: UTF8.self)
      lines.withLock { $0 += text }
    }
    let log = Log(minimum: .info, format: .text(color: false), writer: writer)
    let end = Timestamp.now() + Interval(nanoseconds: Int64(patience * 1e9))
    return try NodeHost(
      settings: settings, log: log, goOnWaiting: { Timestamp.now() < end })
  }

  /// Three nodes that agree.
  func three(_ more: [String] = []) throws -> [NodeHost] {
    let first = try start(1, more)
    let seeds = [first.addresses.cluster]
    let nodes = [first, try start(2, seeds: seeds, more), try start(3, seeds: seeds, more)]
    try agree(nodes)
    return nodes
  }

  /// Waits until all have one map, in which all own slots and nothing moves.
  func agree(_ nodes: [NodeHost]) throws {
    try awaitThat {
      let maps = nodes.compactMap { $0.cluster?.map.value }
      return Set(maps).count == 1 && maps[0].movingSlots.isEmpty
        && nodes.allSatisfy { maps[0].load(of: $0.cluster!.own).owned > 0 }
    }
  }

  func logged(_ text: String) -> Bool { lines.withLock { $0.contains(text) } }
}

/// Asks a node's admin service.
func ask<Response: ProtoMessage>(
  _ node: NodeHost, _ method: MethodDescriptor, _ request: some ProtoMessage
) throws -> Response {
  let link = try GrpcBlockingClient(.unix(path: node.addresses.admin))
  return try Response(decoding: link.unary(method.path, request.encoded()))
}

@Suite("Nodes of a cluster", .timeLimit(.minutes(3)), .serialized)
struct ClusterHostTests {
  private func code(_ work: () throws -> Void) -> String? {
    do {
      try work()
      return nil
    } catch {
      // What the admin service says begins with the fault's name.
      let text = (error as? GrpcError)?.message ?? "\(error)"
      return String(text.prefix { $0 != ":" })
    }
  }

  @Test(
    "Three nodes agree on a map in which each owns a third; each knows the others and how far they are"
  )
  func three() throws {
    let cluster = try TestCluster()
    let nodes = try cluster.three()
    defer { for node in nodes { node.drain() } }
    let map = nodes[1].cluster!.map.value
    #expect(map.nodes.map(\.name) == ["n1", "n2", "n3"])
    #expect(map.nodes.map(\.zone) == ["z1", "z2", "z3"])
    for node in nodes {
      #expect((1_365...1_366).contains(map.load(of: node.cluster!.own).owned))
      #expect(node.cluster!.incarnation > 1_700_000_000_000)
    }
    for node in nodes {
      try awaitThat {
        let list: AdminListNodesResponse = try ask(
          node, AdminService.listNodes, AdminListNodesRequest())
        return list.nodes.map(\.name) == ["n1", "n2", "n3"]
          && list.nodes.count { $0.member == "alive" && $0.rttMedianNs > 0 } == 2
          && list.nodes.allSatisfy { !$0.grpc.isEmpty && $0.hasLoad }
      }
    }
    let asked: AdminRing = try ask(nodes[2], AdminService.getRing, AdminGetRingRequest())
    #expect(asked.metadataHost == "n1" && asked.revision == map.revision)
  }

  @Test(
    "A node that has a map needs no seeds; it keeps its id, counts its starts, and tells its new address"
  )
  func restart() throws {
    let cluster = try TestCluster()
    var nodes = try cluster.three()
    let before = nodes[2].cluster!.map.value
    let life = nodes[2].cluster!.incarnation
    nodes.removeLast().drain()
    let again = try cluster.start(3)
    nodes.append(again)
    defer { for node in nodes { node.drain() } }
    #expect(again.cluster!.own == NodeID(3) && again.cluster!.incarnation > life)
    #expect(again.cluster!.map.value == before)
    // Another port than before: the others find it there.
    for node in nodes.prefix(2) {
      try awaitThat {
        let known = node.cluster!.standing.value
        return known.nodes[NodeID(3)]?.address == again.addresses.cluster
          && known.members[NodeID(3)] == .alive
      }
    }
  }

  @Test(
    "With the host of the metadata down the others serve, also after a restart; changes wait for it"
  )
  func withoutHost() throws {
    let cluster = try TestCluster()
    var nodes = try cluster.three()
    let map = nodes[1].cluster!.map.value
    let place = nodes[0].addresses.cluster
    nodes.removeFirst().drain()
    // The second one starts anew while it is away.
    nodes.removeFirst().drain()
    let second = try cluster.start(2)
    defer { second.drain() }
    defer { for node in nodes { node.drain() } }
    #expect(second.cluster!.map.value == map)
    #expect(second.cluster!.owner(of: 0) == map.owner(of: 0))
    let shown: AdminRing = try ask(second, AdminService.getRing, AdminGetRingRequest())
    #expect(shown.shownBy == "n2" && shown.metadataHost == "n1" && shown.revision == map.revision)
    let refusal = code {
      let _: AdminRingPlan = try ask(second, AdminService.planRing, AdminPlanRingRequest())
    }
    #expect(refusal == "unavailable")
    try awaitThat {
      cluster.logged("the host of the metadata does not answer; serving by the last map")
    }
    // It comes back, where it was.
    let first = try cluster.start(1, cluster: place)
    defer { first.drain() }
    try awaitThat {
      let plan: AdminRingPlan? = try? ask(second, AdminService.planRing, AdminPlanRingRequest())
      return plan?.empty == true
    }
    #expect(first.cluster!.map.value == map)
  }

  @Test(
    "Of two who apply at once one wins and the other gets a conflict; all nodes get the new map")
  func apply() throws {
    let cluster = try TestCluster()
    let nodes = try cluster.three()
    defer { for node in nodes { node.drain() } }
    var stage = AdminStageRingRequest()
    stage.node = "n2"
    stage.weight = 200
    let staged: AdminRingPlan = try ask(nodes[0], AdminService.stageRing, stage)
    #expect(staged.staged && (682...683).contains(staged.moves) && staged.version == 3)
    // Both think that they change version 3.
    let results = Lock<[String?]>([])
    let threads = [nodes[1], nodes[2]].map { node in
      WorkerThread(named: "apply") {
        let result = code {
          let _: AdminRingPlan = try ask(
            node, AdminService.applyRing, AdminApplyRingRequest(version: 3))
        }
        results.withLock { $0.append(result) }
      }
    }
    try awaitThat { results.withLock { $0.count } == 2 }
    _ = threads
    #expect(results.withLock { $0.compactMap { $0 } } == ["conflict"])
    // Nothing was ever stored: no hand-over is needed.
    for node in nodes {
      try awaitThat {
        let map = node.cluster!.map.value
        return map.version == 4 && map.movingSlots.isEmpty && map.load(of: NodeID(2)).owned == 2_048
      }
    }
    let history: AdminRingHistory = try ask(
      nodes[1], AdminService.getRingHistory, AdminGetRingHistoryRequest())
    #expect(history.versions.map(\.version) == [1, 2, 3, 4])
    var back = AdminStageRingRequest()
    back.revertTo = 3
    let plan: AdminRingPlan = try ask(nodes[1], AdminService.stageRing, back)
    #expect(plan.nodes.map(\.ownedAfter).sorted() == [1_365, 1_365, 1_366])
  }

  @Test(
    "Slots with messages are not given away without a hand-over: the map says where they are to go")
  func used() throws {
    let cluster = try TestCluster()
    let first = try cluster.start(1, ["--auth", "open"])
    defer { first.drain() }
    let client = try GrpcBlockingClient(try #require(Endpoint(first.addresses.grpc)))
    let call = client.bidi(ChannelService.publish.path)
    var request = PublishRequest()
    request.channel = "acme/team/used"
    request.payload = [1, 2, 3]
    call.send(request)
    call.halfClose()
    _ = try call.next(PublishResponse.self, timeout: .seconds(20))
    let second = try cluster.start(
      2, seeds: [first.addresses.cluster], ["--auth", "open"])
    defer { second.drain() }
    try awaitThat { second.cluster!.map.value.node(NodeID(2)) != nil }
    let map = second.cluster!.map.value
    // Some may have gone by now.
    #expect(map.load(of: NodeID(1)).owned == 2_048 + map.movingSlots.count)
    try awaitThat { second.cluster!.map.value.movingSlots.isEmpty }
    try awaitThat {
      first.cluster!.moves!.facts.value.left == 2_048
        && second.cluster!.moves!.facts.value.came == 2_048
    }
    let other = try GrpcBlockingClient(try #require(Endpoint(second.addresses.grpc)))
    let read = other.bidi(ChannelService.read.path)
    var wanted = ReadRequest()
    wanted.channel = "acme/team/used"
    wanted.fromSequence = 1
    read.send(wanted)
    read.halfClose()
    #expect(try read.next(ReadResponse.self, timeout: .seconds(20))?.payload == [1, 2, 3])
  }

  @Test("A directory of another node is refused, and so is one with messages that wants to join")
  func directories() throws {
    let cluster = try TestCluster()
    let first = try cluster.start(1)
    let seed = first.addresses.cluster
    defer { first.drain() }
    // A node of its own has a tenant.
    do {
      let start = try NodeStart.read(
        arguments: [
          "--data", "\(cluster.folder.path)/n2", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
          "--registry", "off",
        ], environment: [:])
      guard case .run(let settings, _) = start else { throw Fault(.internal) }
      let single = try NodeHost(settings: settings, log: .silent)
      let made: AdminCreateTenantResponse = try ask(
        single, AdminService.createTenant, AdminCreateTenantRequest(tenant: "acme"))
      #expect(made.tenant != nil)
      single.drain()
    }
    let used = #expect(throws: Fault.self) { try cluster.start(2, seeds: [seed]) }
    #expect(used?.code == .conflict)
    // The same directory under another id.
    try cluster.certify(2, id: 99)
    let other = #expect(throws: Fault.self) { try cluster.start(2, seeds: [seed]) }
    #expect(other?.code == .badSetting)
    #expect(other?.detail.contains("0000000000000002") == true)
    // Alone a node of a cluster would take every slot for its own.
    let start = try NodeStart.read(
      arguments: [
        "--data", "\(cluster.folder.path)/n2", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
        "--registry", "off",
      ], environment: [:])
    guard case .run(let settings, _) = start else { throw Fault(.internal) }
    let alone = #expect(throws: Fault.self) { try NodeHost(settings: settings, log: .silent) }
    #expect(alone?.code == .badSetting)
  }

  @Test("A node of another authority does not get in, and the reason is in the logs of both")
  func strangers() throws {
    let cluster = try TestCluster()
    let first = try cluster.start(1)
    defer { first.drain() }
    let stranger = try ClusterAuthority.make(cluster: "test", days: 30, at: cluster.wall)
    try cluster.certify(2, by: stranger)
    let refused = #expect(throws: Fault.self) {
      try cluster.start(2, seeds: [first.addresses.cluster], patience: 2)
    }
    #expect(refused?.code == .draining)
    try awaitThat { cluster.logged("other_authority") && cluster.logged("not in the cluster yet") }
    #expect(first.cluster!.map.value.nodes.map(\.name) == ["n1"])
  }

  @Test("A node with an expired certificate does not even start")
  func expired() throws {
    let cluster = try TestCluster()
    try cluster.certify(1, at: cluster.wall + .seconds(-20 * 86_400), days: 10)
    let refused = #expect(throws: Fault.self) { try cluster.start(1) }
    #expect(refused?.code == .badCertificate)
    #expect(refused?.detail.contains("expired") == true)
  }

  @Test("Without a seed that answers a node waits, says so, and gets in when one is there")
  func unreachableSeeds() throws {
    let cluster = try TestCluster()
    // A port where nobody listens: bound, then let go.
    let first = try cluster.start(1)
    let place = first.addresses.cluster
    first.drain()
    let late = Lock<NodeHost?>(nil)
    let thread = WorkerThread(named: "late") {
      let node = try? cluster.start(2, seeds: [place], patience: 60)
      late.withLock { $0 = node }
    }
    try awaitThat { cluster.logged("not in the cluster yet; trying on") }
    #expect(cluster.logged(place))
    #expect(late.withLock { $0 == nil })
    let again = try cluster.start(1, cluster: place)
    defer { again.drain() }
    try awaitThat { late.withLock { $0 != nil } }
    _ = thread
    late.withLock { $0 }?.drain()
  }

  @Test("A forgotten node is refused until an operator takes it in again")
  func forgotten() throws {
    let cluster = try TestCluster()
    var nodes = try cluster.three()
    let third = nodes.removeLast()
    third.drain()
    defer { for node in nodes { node.drain() } }
    // Its slots' archive would be lost: that wants to be said.
    let refusal = code {
      let _: AdminRingPlan = try ask(
        nodes[0], AdminService.forgetNode, AdminForgetNodeRequest(node: "n3"))
    }
    #expect(refusal == "not_confirmed")
    let done: AdminRingPlan = try ask(
      nodes[1], AdminService.forgetNode, AdminForgetNodeRequest(node: "n3", allowLoss: true))
    #expect(done.applied && done.abandoned > 1_300)
    try awaitThat { nodes[1].cluster!.map.value.load(of: NodeID(3)).owned == 0 }
    let back = try cluster.start(3)
    defer { back.drain() }
    try awaitThat { cluster.logged("posthouse node join n3") }
    let undone: AdminRingPlan = try ask(
      nodes[0], AdminService.forgetNode, AdminForgetNodeRequest(node: "n3", undo: true))
    _ = undone
    try awaitThat { nodes[0].cluster!.map.value.load(of: NodeID(3)).owned > 0 }
  }

  @Test("A peer that hangs costs its own calls their deadline, and no other call anything")
  func hanging() throws {
    let cluster = try TestCluster()
    let nodes = try cluster.three()
    defer { for node in nodes { node.drain() } }
    let calls = nodes[0].cluster!.calls
    let loop = nodes[0].loops[0]
    // The second node's loop stands still: its calls are taken by the kernel, and nobody answers.
    let wake = Signal()
    nodes[1].loops[0].post { wake.wait() }
    let slow = Lock<[Result<[UInt8], Fault>]>([])
    let fast = Lock<[Result<[UInt8], Fault>]>([])
    for _ in 0..<20 {
      calls.call(NodeID(2), "Packet", [], timeout: .seconds(1), on: loop) { result in
        slow.withLock { $0.append(result) }
      }
    }
    for _ in 0..<20 {
      calls.call(NodeID(3), "Packet", [], timeout: .seconds(1), on: loop) { result in
        fast.withLock { $0.append(result) }
      }
    }
    try awaitThat { fast.withLock { $0.count } == 20 }
    #expect(fast.withLock { $0.allSatisfy { (try? $0.get()) != nil } })
    #expect(slow.withLock { $0.isEmpty })
    try awaitThat { slow.withLock { $0.count } == 20 }
    #expect(
      slow.withLock {
        $0.allSatisfy {
          if case .failure(let f) = $0 { f.code == .deadlineExceeded } else { false }
        }
      })
    wake.raise()
  }

  @Test(
    "A fault crosses between nodes with its name and text; large requests and unknown methods end the call"
  )
  func faults() throws {
    let cluster = try TestCluster()
    let nodes = try cluster.three()
    defer { for node in nodes { node.drain() } }
    let loop = nodes[0].loops[0]
    func outcome(_ method: String, _ request: [UInt8]) throws -> Fault? {
      let answer = Lock<Result<[UInt8], Fault>?>(nil)
      nodes[0].cluster!.calls.call(
        NodeID(2), method, request, timeout: .seconds(10), on: loop
      ) { result in answer.withLock { $0 = result } }
      try awaitThat { answer.withLock { $0 != nil } }
      if case .failure(let fault) = answer.withLock({ $0 }) { return fault }
      return nil
    }
    // Only the host of the metadata has that.
    let moved = try outcome("Move", ClusterMoveRequest().encoded())
    #expect(moved?.code == .unavailable)
    #expect(moved?.detail == "n2 does not host the metadata")
    #expect(try outcome("Nothing", [])?.code == .unimplemented)
    let large = [UInt8](repeating: 0, count: Limits.clusterCallBytes + 1)
    #expect(try outcome("Packet", large)?.code == .tooLarge)
    #expect(try outcome("Packet", [1, 2, 3]) == nil)
  }
}
