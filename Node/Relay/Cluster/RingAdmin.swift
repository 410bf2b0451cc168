import Base
import Codec
import Digest
import Loop
import Membership
import Messages
import Report
import Ring
import Store

/// What operators ask about the ring. Whichever node they ask, the host of the metadata answers; the list of nodes comes
/// from the node that is asked, as it sees them.
struct RingAdmin {
  unowned let host: ClusterHost

  /// Calls that the host of the metadata answers.
  static let forwarded: [MethodDescriptor] = [
    AdminService.planRing, AdminService.stageRing, AdminService.applyRing,
    AdminService.getRingHistory, AdminService.forgetNode,
  ]

  // MARK: where it is asked

  /// Passes the call to the host of the metadata; `reply` on `home`.
  static func ask(
    _ node: NodeHost, _ method: MethodDescriptor, _ request: [UInt8], _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<[UInt8], Fault>) -> Void
  ) {
    guard let cluster = node.cluster else { return reply(.failure(noCluster)) }
    let body = ClusterOperatorRequest(method: method.path, request: request).encoded()
    cluster.loop.post {
      guard cluster.host != .none else {
        let fault = Fault(.unavailable, "\(cluster.name) is not in the cluster yet")
        return home.post { reply(.failure(fault)) }
      }
      let patience = Interval.milliseconds(Limits.clusterCallMilliseconds)
      cluster.calls.ask(cluster.host, "Operator", body, timeout: patience) { result in
        let answer = result.flatMap { bytes -> Result<[UInt8], Fault> in
          guard let body = try? ClusterOperatorResponse(decoding: bytes) else {
            return .failure(Fault(.internal))
          }
          return .success(body.answer)
        }.mapError { fault in
          guard fault.code == .unreachable || fault.code == .deadlineExceeded else { return fault }
          let name =
            cluster.standing.value.nodes[cluster.standing.value.host]?.name ?? "another node"
          return Fault(
            .unavailable,
            "\(name), which hosts the metadata, does not answer (\(fault)): channels are served, the ring "
              + "cannot be changed")
        }
        home.post { reply(answer) }
      }
    }
  }

  /// The ring as the host of the metadata has it, or as this node does when that does not answer.
  static func ring(
    _ node: NodeHost, _ request: AdminGetRingRequest, _ home: EventLoop,
    _ reply: @escaping @Sendable (Result<AdminRing, Fault>) -> Void
  ) {
    guard let cluster = node.cluster else { return reply(.failure(noCluster)) }
    let here: @Sendable () -> Void = {
      let map = cluster.map.value
      let standing = cluster.standing.value
      reply(
        Result { () throws(Fault) in
          var out = try ring(map, request)
          out.metadataHost = standing.nodes[standing.host]?.name ?? ""
          out.shownBy = cluster.name
          return out
        })
    }
    if request.here { return here() }
    ask(node, AdminService.getRing, request.encoded(), home) { result in
      guard case .success(let bytes) = result, let ring = try? AdminRing(decoding: bytes),
        request.name.isEmpty || !ring.slotList.isEmpty
      else {
        if cluster.map.value.version > 0 { return here() }
        return reply(result.flatMap { _ in .failure(Fault(.internal)) })
      }
      reply(.success(ring))
    }
  }

  static let noCluster = Fault(
    .unimplemented, "this node is in no cluster: start it with --cluster and --cert-dir")

  // MARK: at the host of the metadata, on its cluster loop

  func serve(
    _ method: String, _ request: [UInt8], by asker: NodeID,
    _ reply: @escaping ClusterCalls.Reply
  ) {
    guard let keeper = host.keeper else {
      return reply(.failure(Fault(.unavailable, "\(host.name) does not host the metadata")))
    }
    do throws(Fault) {
      switch method {
      case AdminService.getRing.path:
        reply(.success(try ring(keeper, try .init(request: request)).encoded()))
      case AdminService.planRing.path:
        let asked = try AdminPlanRingRequest(request: request)
        try weighed(keeper.now.ledger, try plan(keeper.now.ledger, asked.withMoves), reply)
      case AdminService.getRingHistory.path:
        reply(.success(history(keeper.now.ledger).encoded()))
      case AdminService.stageRing.path: stage(keeper, try .init(request: request), reply)
      case AdminService.applyRing.path: apply(keeper, try .init(request: request), reply)
      case AdminService.forgetNode.path: try forget(keeper, try .init(request: request), reply)
      default: throw Fault(.unimplemented, "no method \(method)")
      }
    } catch {
      reply(.failure(error))
    }
  }

  private func stage(
    _ keeper: RingKeeper, _ request: AdminStageRingRequest, _ reply: @escaping ClusterCalls.Reply
  ) {
    guard request.apply else {
      return change(keeper, reply) { ledger throws(Fault) in
        try RingAdmin.stage(request, &ledger)
        return nil
      }
    }
    var ledger = keeper.now.ledger
    try? RingAdmin.stage(request, &ledger)
    vacancies(ledger) { vacant in
      change(keeper, reply) { ledger throws(Fault) in
        if ledger.staged != nil {
          throw Fault(.conflict, "something else is staged: posthouse ring plan shows it")
        }
        try RingAdmin.stage(request, &ledger)
        return try RingAdmin.apply(ledger.current.version, false, vacant, &ledger)
      }
    }
  }

  private static func stage(
    _ request: AdminStageRingRequest, _ ledger: inout RingLedger
  ) throws(Fault) {
    if request.discard {
      ledger.discard()
      return
    }
    if request.revertTo > 0 {
      try asFault { () throws(RingError) in try ledger.stageRevert(to: request.revertTo) }
      return
    }
    var nodes = ledger.wanted
    if !request.node.isEmpty {
      guard
        let at = nodes.firstIndex(where: {
          $0.name == request.node || $0.id.description == request.node
        })
      else { throw Fault(.notFound, "no node \(request.node) in the ring") }
      if let weight = request.weight { nodes[at].weight = Int(weight) }
      if let zone = request.zone { nodes[at].zone = zone }
      if let region = request.region { nodes[at].region = region }
      switch request.state {
      case "": break
      case "serving": nodes[at].state = .serving
      case "draining": nodes[at].state = .draining
      case "gone": nodes[at].state = .gone
      default: throw Fault(.badRequest, "a node is serving, draining or gone")
      }
    }
    let replicas = request.replicas > 0 ? Int(request.replicas) : nil
    let wanted = nodes
    try asFault { () throws(RingError) in try ledger.stage(wanted, replicas: replicas) }
  }

  private func apply(
    _ keeper: RingKeeper, _ request: AdminApplyRingRequest, _ reply: @escaping ClusterCalls.Reply
  ) {
    vacancies(keeper.now.ledger) { vacant in
      change(keeper, reply) { ledger throws(Fault) in
        try RingAdmin.apply(request.version, request.allowLoss, vacant, &ledger)
      }
    }
  }

  /// The ledger as it was, for its plan.
  private static func apply(
    _ version: UInt64, _ allowLoss: Bool, _ vacant: Set<UInt16>, _ ledger: inout RingLedger
  ) throws(Fault) -> RingLedger {
    let before = ledger
    try asFault { () throws(RingError) in
      try ledger.apply(version: version, allowingLoss: allowLoss)
    }
    try ClusterHost.finish(vacant, &ledger)
    return before
  }

  private func vacancies(_ ledger: RingLedger, _ done: @escaping (Set<UInt16>) -> Void) {
    // What refuses is said by the change itself.
    guard ledger.staged != nil, let plan = try? ledger.plan() else { return done([]) }
    host.vacancies(of: plan, done)
  }

  /// Answers with the plan of the ledger that `work` returns, which was applied; nil: with what is staged now.
  private func change(
    _ keeper: RingKeeper, _ reply: @escaping ClusterCalls.Reply,
    relays: @escaping (inout [NodeID: ClusterRelay]) -> Void = { _ in },
    _ work: @escaping (inout RingLedger) throws(Fault) -> RingLedger?
  ) {
    var applied: RingLedger?
    keeper.change({ draft throws(Fault) in
      relays(&draft.relays)
      applied = try work(&draft.ledger)
    }) { result in
      reply(
        result.flatMap { draft in
          Result { () throws(Fault) in
            var told = try plan(applied ?? draft.ledger, false)
            told.applied = applied != nil
            told.staged = draft.ledger.staged != nil
            told.version = draft.ledger.current.version
            return told.encoded()
          }
        })
    }
  }

  private func forget(
    _ keeper: RingKeeper, _ request: AdminForgetNodeRequest, _ reply: @escaping ClusterCalls.Reply
  ) throws(Fault) {
    guard
      let (id, _) = keeper.now.relays.first(where: {
        $0.value.name == request.node || $0.key.description == request.node
      })
    else { throw Fault(.notFound, "no node \(request.node)") }
    if id == host.own {
      throw Fault(.conflict, "\(request.node) hosts the metadata: it cannot be forgotten")
    }
    if !request.undo, keeper.now.ledger.staged != nil {
      throw Fault(.conflict, "something else is staged: posthouse ring plan shows it")
    }
    let host = host
    change(
      keeper,
      { result in
        if case .success = result, !request.undo { host.loop.post { host.forgetMember(id) } }
        reply(result)
      },
      relays: {
        $0[id]?.forgotten = !request.undo
        // Whatever it says next is news, and so it joins by that.
        if request.undo { $0[id]?.incarnation = 0 }
      }
    ) { ledger throws(Fault) in
      guard !request.undo, var node = ledger.current.node(id) else { return nil }
      node.state = .gone
      let gone = node
      try asFault { () throws(RingError) in try ledger.stage(gone) }
      return try RingAdmin.apply(ledger.current.version, request.allowLoss, [], &ledger)
    }
  }

  // MARK: how it is shown

  private func ring(
    _ keeper: RingKeeper, _ request: AdminGetRingRequest
  ) throws(Fault) -> AdminRing {
    var out = try RingAdmin.ring(keeper.now.ledger.current, request)
    out.staged = keeper.now.ledger.staged != nil
    out.metadataHost = host.name
    out.shownBy = host.name
    return out
  }

  private static func ring(
    _ map: RingMap, _ request: AdminGetRingRequest
  ) throws(Fault) -> AdminRing {
    var out = AdminRing()
    out.version = map.version
    out.revision = map.revision
    out.slots = UInt32(map.slotCount)
    out.replicas = UInt32(map.replicas)
    out.moving = UInt32(map.movingSlots.count)
    out.nodes = RingAdmin.nodes(map)
    if !request.name.isEmpty {
      guard map.version > 0 else { throw Fault(.unavailable, "there is no map yet") }
      out.slotList = [row(try slot(of: request.name, map), map)]
    } else if request.withSlots {
      out.slotList = (0..<map.slotCount).map { row(UInt16($0), map) }
    }
    return out
  }

  private static func slot(of name: String, _ map: RingMap) throws(Fault) -> UInt16 {
    if let (channel, _, _) = ChannelInventory.identity(name) { return map.slot(of: channel) }
    guard isOrgName(name) else {
      throw Fault(
        .badRequest,
        "\"\(name)\" names no channel (org/namespace/service, or a SLIM name) and no org")
    }
    return map.slot(of: TenantID(org: name))
  }

  private static func row(_ number: UInt16, _ map: RingMap) -> AdminRingSlot {
    func name(_ id: NodeID) -> String { map.node(id)?.name ?? id.description }
    let slot = map[number]
    var row = AdminRingSlot()
    row.slot = UInt32(number)
    row.owner = name(slot.owner)
    row.followers = slot.placement.followers.map(name)
    row.epoch = slot.epoch
    row.movingTo = slot.move.map { name($0.target.owner) } ?? ""
    return row
  }

  static func nodes(_ map: RingMap) -> [AdminRingNode] {
    map.nodes.map { node in
      var row = RingAdmin.row(node)
      let load = map.load(of: node.id)
      row.owned = UInt32(load.owned)
      row.copies = UInt32(load.copies)
      return row
    }.sorted { $0.name < $1.name }
  }

  private static func row(_ node: RingNode) -> AdminRingNode {
    var row = AdminRingNode()
    row.nodeID = node.id.description
    row.name = node.name
    row.weight = UInt32(node.weight)
    row.zone = node.zone
    row.region = node.region
    row.state = "\(node.state)"
    return row
  }

  private func plan(_ ledger: RingLedger, _ withMoves: Bool) throws(Fault) -> AdminRingPlan {
    let plan = try asFault { () throws(RingError) in try ledger.plan() }
    let map = ledger.current
    var out = AdminRingPlan()
    out.version = map.version
    out.staged = ledger.staged != nil
    out.moves = UInt32(plan.moves.count)
    out.cancelled = UInt32(plan.cancelled)
    out.continued = UInt32(plan.continued)
    out.founded = UInt32(plan.founded)
    out.abandoned = UInt32(plan.abandoned.count)
    out.newCopies = UInt32(plan.newCopies)
    out.notes = plan.notes.map(\.description)
    out.replicas = UInt32(plan.replicas)
    out.empty = plan.isEmpty
    out.nodes = plan.nodes.map { node in
      var row = RingAdmin.row(node)
      let (now, then) = (map.load(of: node.id), plan.load(of: node.id))
      row.owned = UInt32(now.owned)
      row.copies = UInt32(now.copies)
      row.ownedAfter = UInt32(then.owned)
      row.copiesAfter = UInt32(then.copies)
      return row
    }.sorted { $0.name < $1.name }
    if withMoves {
      func name(_ id: NodeID) -> String {
        plan.nodes.first { $0.id == id }?.name ?? id.description
      }
      out.moveList = plan.moves.map {
        AdminRingMove(slot: UInt32($0.slot), from: name($0.from), to: name($0.to))
      }
    }
    return out
  }

  /// The plan with the bytes that its hand-overs copy.
  private func weighed(
    _ ledger: RingLedger, _ shown: AdminRingPlan, _ reply: @escaping ClusterCalls.Reply
  ) throws(Fault) {
    let plan = try asFault { () throws(RingError) in try ledger.plan() }
    let host = host
    host.weigh(plan) { bytes, silent in
      var shown = shown
      shown.bytes = bytes
      for node in silent {
        let name = plan.nodes.first { $0.id == node }?.name ?? "\(node)"
        shown.notes.append("\(name) does not say how much is in its slots")
      }
      reply(.success(shown.encoded()))
    }
  }

  private func history(_ ledger: RingLedger) -> AdminRingHistory {
    AdminRingHistory(
      versions: (ledger.history + [ledger.current]).map { map in
        var row = AdminRingVersion()
        row.version = map.version
        row.revision = map.revision
        row.current = map.version == ledger.current.version
        row.nodes = RingAdmin.nodes(map)
        return row
      })
  }
}
