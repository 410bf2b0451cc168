import Base
import Codec
import Loop
import Messages
import Report
import Ring
import Settings
import Store

/// A node that wants to be in, or shows itself anew.
struct PendingJoin: Sendable {
  /// Without its load.
  var relay: ClusterRelay
  var request: ClusterSyncRequest?
  var reply: ClusterCalls.Reply
}

// What the host of the metadata changes for others: nodes that join, slots that were handed over.
extension ClusterHost {
  /// One after the other: where nothing was ever stored in a slot it changes its owner at once, and for that its owner is
  /// asked first.
  func advanceJoins() {
    guard !isJoining, !joins.isEmpty, let keeper else { return }
    isJoining = true
    let join = joins.removeFirst()
    vacancies(for: join.relay) { [self] vacant in
      let relay = join.relay
      keeper.change({ draft throws(Fault) in
        try ClusterHost.admit(relay, vacant, &draft)
      }) { [self] result in
        isJoining = false
        switch result {
        case .success(let draft): receiveAdmitted(join, draft)
        case .failure(let fault):
          node.log.warn(
            "a node may not join", ["peer": .of(relay.name), "why": .of(fault)])
          join.reply(.failure(fault))
        }
        advanceJoins()
      }
    }
  }

  private func receiveAdmitted(_ join: PendingJoin, _ draft: RingKeeper.Draft) {
    let id = NodeID(join.relay.nodeID)
    if draft.ledger.current.node(id) == nil {
      node.log.warn(
        "a node has joined and waits for a share of the ring: something else is staged (posthouse ring plan)",
        ["peer": .of(join.relay.name)])
    }
    var state = ClusterState()
    state.host = own.value
    state.directory = keeper?.directory ?? 0
    let map = draft.ledger.current
    if map.revision != join.request?.revision { state.map = map.encoded }
    state.relays = relays.values.sorted { $0.nodeID < $1.nodeID }
    join.reply(.success(ClusterSyncResponse(state: state).encoded()))
  }

  /// The node into the directory, and into the map when it is new or tells other facts than before.
  private static func admit(
    _ relay: ClusterRelay, _ vacant: Set<UInt16>, _ draft: inout RingKeeper.Draft
  ) throws(Fault) {
    let id = NodeID(relay.nodeID)
    let known = draft.relays[id]
    if known?.forgotten == true {
      throw Fault(.forbidden, "an operator had this node forgotten")
    }
    if known == nil, draft.relays.count >= Limits.clusterRelays {
      throw Fault(.conflict, "the cluster remembers \(Limits.clusterRelays) nodes already")
    }
    for (other, shown) in draft.relays
    where other != id && shown.name == relay.name && !shown.forgotten {
      throw Fault(.conflict, "the name \(relay.name) is that of node \(other)")
    }
    draft.relays[id] = relay
    guard let node = wanted(relay, in: draft.ledger) else { return }
    if let trouble = node.trouble { throw Fault(.badRequest, trouble) }
    let isFree = draft.ledger.staged == nil
    try asFault { () throws(RingError) in
      try draft.ledger.stage(node)
      if !isFree { return }
      let version = draft.ledger.current.version
      try draft.ledger.apply(version: version)
    }
    if isFree { try finish(vacant, &draft.ledger) }
  }

  /// The node as the ring is to have it; nil: it has it so.
  private static func wanted(_ relay: ClusterRelay, in ledger: RingLedger) -> RingNode? {
    let id = NodeID(relay.nodeID)
    guard var known = ledger.wanted.first(where: { $0.id == id }) else {
      return RingNode(
        id: id, name: relay.name, weight: Int(relay.weight), zone: relay.zone, region: relay.region)
    }
    let before = known
    // The weight is the operators' once the node is in.
    known.name = relay.name
    known.zone = relay.zone
    known.region = relay.region
    // Forgotten, taken in again, and still named in some move.
    if known.state == .gone { known.state = .serving }
    return known == before ? nil : known
  }

  /// Slots with nothing in them need no hand-over.
  static func finish(_ vacant: Set<UInt16>, _ ledger: inout RingLedger) throws(Fault) {
    let map = ledger.current
    let tries = map.movingSlots.filter(vacant.contains).compactMap { slot in
      map.move(of: slot).map { (slot: slot, attempt: $0.attempt) }
    }
    if tries.isEmpty { return }
    let next = try asFault { () throws(RingError) in try map.finishing(tries) }
    ledger.receive(next)
  }

  // MARK: vacancy

  /// The slots that would move for this node, and have never held anything.
  private func vacancies(
    for relay: ClusterRelay, _ done: @escaping (Set<UInt16>) -> Void
  ) {
    guard let keeper, let node = ClusterHost.wanted(relay, in: keeper.now.ledger),
      keeper.now.ledger.staged == nil, keeper.now.ledger.current.version > 0
    else { return done([]) }
    var ledger = keeper.now.ledger
    guard (try? ledger.stage(node)) != nil, let plan = try? ledger.plan() else { return done([]) }
    vacancies(of: plan, done)
  }

  /// Asks the owners of what the plan moves; who does not answer soon has vacant nothing.
  func vacancies(of plan: RingPlan, _ done: @escaping (Set<UInt16>) -> Void) {
    let bySource = Dictionary(grouping: plan.moves, by: \.from)
    let gathering = VacancyGathering(left: bySource.count, done)
    if bySource.isEmpty { return done([]) }
    for (source, moves) in bySource {
      let request = ClusterVacantRequest(slots: SlotList.write(moves.map(\.slot)))
      calls.ask(source, "Vacant", request.encoded(), timeout: .seconds(1)) { result in
        var slots: [UInt16] = []
        if case .success(let bytes) = result,
          let answer = try? ClusterVacantResponse(decoding: bytes),
          let list = try? SlotList.read(answer.slots)
        {
          slots = list
        }
        gathering.receive(slots.filter { slot in moves.contains { $0.slot == slot } })
      }
    }
  }

  /// Which of this node's slots have never held anything. While any agent is connected here, or any channel is in
  /// memory, none: it might be about to.
  func vacant(
    _ slots: [UInt16], _ done: @escaping @Sendable ([UInt16]) -> Void
  ) {
    if let vacancy { return vacancy(slots, done) }
    let node = node
    node.gatherFacts { facts in
      guard facts.sessions == 0, facts.channels == 0, facts.tenants == 0 else { return done([]) }
      node.store.read { store in
        guard let heads = try? store.slotHeads() else { return done([]) }
        let used = Set(heads.map(\.slot))
        done(slots.filter { !used.contains($0) })
      }
    }
  }

  // MARK: hand-overs

  /// A slot's owner, and nobody else, says how its hand-over went.
  func serveMove(_ bytes: [UInt8], from: NodeID, _ reply: @escaping ClusterCalls.Reply) {
    guard let keeper else {
      return reply(.failure(Fault(.unavailable, "\(name) does not host the metadata")))
    }
    guard let request = try? ClusterMoveRequest(decoding: bytes) else {
      return reply(.failure(Fault(.badRequest)))
    }
    func answer(_ map: RingMap) { reply(.success(ClusterMoveResponse(map: map.encoded).encoded())) }
    if request.tries.isEmpty { return answer(keeper.now.ledger.current) }
    let step = request.step
    let tries = request.tries.map { (slot: UInt16(clamping: $0.slot), attempt: $0.attempt) }
    keeper.change({ draft throws(Fault) in
      var map = draft.ledger.current
      for (slot, attempt) in tries {
        guard Int(slot) < map.slotCount, map.move(of: slot)?.attempt == attempt else {
          throw Fault(RingError.noSuchMove)
        }
        if map.owner(of: slot) != from {
          throw Fault(.forbidden, "slot \(slot) is not that node's")
        }
      }
      try asFault { () throws(RingError) in
        switch step {
        case .finish: map = try map.finishing(tries)
        case .retry: for one in tries { map = try map.retrying(one.slot, attempt: one.attempt) }
        case .cancel:
          for one in tries { map = try map.cancelling(one.slot, attempt: one.attempt) }
        default: throw .noSuchMove
        }
      }
      draft.ledger.receive(map)
    }) { result in
      switch result {
      case .success(let draft): answer(draft.ledger.current)
      case .failure(let fault): reply(.failure(fault))
      }
    }
  }

  /// Asks the map to hand over slots of this node, or to begin their moves anew; with no tries: for the map as it is at
  /// its host now. From any thread; `done` on `home`, with a map at least as new as the change. `conflict`: the map
  /// asks for no such move any more.
  func move(
    _ step: ClusterMoveRequestStep, _ tries: [(slot: UInt16, attempt: UInt64)],
    on home: EventLoop, _ done: @escaping @Sendable (Result<RingMap, Fault>) -> Void
  ) {
    var request = ClusterMoveRequest()
    request.step = step
    request.tries = tries.map { ClusterSlotTry(slot: UInt32($0.slot), attempt: $0.attempt) }
    let bytes = request.encoded()
    loop.post { [self] in
      calls.ask(
        host, "Move", bytes, timeout: .milliseconds(Limits.clusterCallMilliseconds)
      ) { [self] result in
        let answer = result.flatMap { bytes -> Result<RingMap, Fault> in
          guard let body = try? ClusterMoveResponse(decoding: bytes),
            let map = try? RingMap(body.map)
          else { return .failure(Fault(.internal, "a map that cannot be read")) }
          return .success(map)
        }
        if case .success(let map) = answer { receive(map) }
        home.post { done(answer) }
      }
    }
  }
}

/// Sums what owners say. On the cluster's loop.
private final class VacancyGathering: @unchecked Sendable {
  private var left: Int
  private var found: Set<UInt16> = []
  private let done: (Set<UInt16>) -> Void
  init(left: Int, _ done: @escaping (Set<UInt16>) -> Void) {
    self.left = left
    self.done = done
  }
  func receive(_ slots: [UInt16]) {
    found.formUnion(slots)
    left -= 1
    if left == 0 { done(found) }
  }
}
