import Base
import Codec
import Loop
import Messages
import Report
import Ring
import Settings
import Store

// How a node comes into the cluster, and stays up to date: it asks a seed, hears who hosts the metadata, and asks that
// from then on, once a second. Changes are pushed besides.
extension ClusterHost {
  /// Somebody knows of a newer map than this node has. From any thread.
  func wantMap(after revision: UInt64) {
    loop.post { [self] in
      if newest.revision <= revision, keeper == nil { sync() }
    }
  }

  private var patience: Interval { .milliseconds(Limits.clusterCallMilliseconds) }

  /// Asks for news, the first time for a place in the map.
  func sync() {
    if isSyncing || isSealed { return }
    if newest.version == 0, !checkUnused() { return }
    var request = ClusterSyncRequest()
    request.relay = shown()
    request.joins = !hasJoined
    request.revision = newest.revision
    request.directory = directory
    request.withLoads = syncs % 5 == 1
    isSyncing = true
    exile.noteAsked()
    if host != .none, host != own, linked[host] != nil || introduced == host {
      calls.ask(host, "Sync", request.encoded(), timeout: patience) { [self] result in
        isSyncing = false
        receiveSync(result, by: host)
      }
      return
    }
    let seeds = settings.seeds.filter { $0 != advertised && $0 != settings.listen }
    guard !seeds.isEmpty else {
      isSyncing = false
      return
    }
    let seed = seeds[syncs % seeds.count]
    calls.ask(at: seed, "Sync", request.encoded(), timeout: patience) { [self] result, node in
      isSyncing = false
      // A seed may be this node under another address.
      if node == own { return }
      receiveSync(result, by: node ?? .none, seed: seed)
    }
  }

  /// A directory with messages of its own cannot join: they would be in slots of others.
  private func checkUnused() -> Bool {
    if hasTriedDuty { return true }
    do throws(Fault) {
      if try rows.isUnused() {
        hasTriedDuty = true
        return true
      }
      throw Fault(
        .conflict,
        "\(node.settings.data) has messages or tenants already, and a cluster has its own: join with an empty "
          + "directory, or found the cluster on this one (no seeds)")
    } catch {
      standing.change { $0.fault = error }
      return false
    }
  }

  private func receiveSync(
    _ result: Result<[UInt8], Fault>, by sender: NodeID, seed: HostPort? = nil
  ) {
    if isSealed { return }
    var fault: Fault
    switch result {
    case .success(let bytes):
      guard let state = try? ClusterSyncResponse(decoding: bytes).state else {
        fault = Fault(.internal, "an answer that cannot be read")
        break
      }
      if seed != nil, NodeID(state.host) != sender {
        return redirect(state)
      }
      if seed != nil { introduce(state, sender, seed) }
      receive(state, from: sender)
      hasJoined = true
      exile.receiveTaken()
      comeBack()
      calls.leaveStrangers()
      silence.forget("sync")
      node.readiness.setWaiting(nil)
      return
    case .failure(let refusal): fault = refusal
    }
    standing.change { $0.syncFailures += 1 }
    if fault.code != .forbidden, let member = exile.receiveUnanswered() { withdraw(member) }
    tellWaiting(fault, seed)
    // Whoever hosts the metadata by now, a seed knows.
    if newest.version == 0 { host = .none }
  }

  /// The seed is the host itself: it can be called by its name from now on.
  private func introduce(_ state: ClusterState, _ sender: NodeID, _ seed: HostPort?) {
    guard linked[sender] == nil,
      let relay = state.relays.first(where: { $0.nodeID == sender.value }),
      let address = HostPort(relay.address)
    else { return }
    calls.setAddress(sender, address)
  }

  /// The seed named the host of the metadata.
  private func redirect(_ state: ClusterState) {
    guard let relay = state.relays.first(where: { $0.nodeID == state.host }),
      let address = HostPort(relay.address), address.isNumeric, NodeID(state.host) != own
    else { return }
    host = NodeID(state.host)
    relays[host] = relay
    introduced = host
    calls.setAddress(host, address)
    sync()
  }

  private func tellWaiting(_ fault: Fault, _ seed: HostPort?) {
    let asked = seed?.description ?? relays[host]?.name ?? "\(host)"
    if fault.code == .forbidden, newest.version > 0 {
      withdraw("\(asked): \(fault)")
    } else if newest.version == 0 {
      node.readiness.setWaiting("not in the cluster yet: \(asked): \(fault)")
      guard silence.isNews("join \(asked)", at: loop.now.monotonic) else { return }
      node.log.warn(
        "not in the cluster yet; trying on",
        ["asked": .of(asked), "why": .of("\(fault.code.rawValue): \(fault)")])
    } else if silence.isNews("sync", at: loop.now.monotonic) {
      node.log.warn(
        "the host of the metadata does not answer; serving by the last map",
        ["host": .of(asked), "why": .of("\(fault.code.rawValue): \(fault)")])
    }
  }

  // MARK: the calls

  func serveCalls() {
    func serve(
      _ method: String,
      _ work:
        @escaping @Sendable (ClusterHost, NodeID, [UInt8], @escaping ClusterCalls.Reply) ->
        Void
    ) {
      calls.serve(method) { [unowned self] from, request, reply in
        loop.post { [self] in
          if isSealed { return reply(.failure(Fault(.draining))) }
          work(self, from, request, reply)
        }
      }
    }
    serve("Sync") { $0.serveSync($2, from: $1, $3) }
    serve("Push") { host, from, request, reply in
      guard from == host.host, let state = try? ClusterPushRequest(decoding: request).state else {
        return reply(.failure(Fault(.forbidden, "only the host of the metadata pushes")))
      }
      host.standing.change { $0.mapPushes += 1 }
      if !host.receive(state, from: from) { host.sync() }
      reply(.success(ClusterPushResponse().encoded()))
    }
    serve("Packet") { host, from, request, reply in
      host.receivePacket(request, from: from)
      reply(.success([]))
    }
    serve("Move") { $0.serveMove($2, from: $1, $3) }
    serve("Vacant") { host, _, request, reply in
      guard let slots = try? SlotList.read(ClusterVacantRequest(decoding: request).slots) else {
        return reply(.failure(Fault(.badRequest, "a list of slots")))
      }
      host.vacant(slots) { found in
        reply(.success(ClusterVacantResponse(slots: SlotList.write(found)).encoded()))
      }
    }
    serve("Operator") { host, from, request, reply in
      guard let asked = try? ClusterOperatorRequest(decoding: request) else {
        return reply(.failure(Fault(.badRequest)))
      }
      RingAdmin(host: host).serve(asked.method, asked.request, by: from) { result in
        reply(result.map { ClusterOperatorResponse(answer: $0).encoded() })
      }
    }
  }

  private func serveSync(
    _ bytes: [UInt8], from: NodeID, _ reply: @escaping ClusterCalls.Reply
  ) {
    guard let request = try? ClusterSyncRequest(decoding: bytes), let relay = request.relay,
      relay.nodeID == from.value, bytes.count <= Limits.clusterRelayBytes
    else { return reply(.failure(Fault(.badRequest, "a node that names itself otherwise"))) }
    guard let keeper else {
      if let known = relays[from], known.forgotten {
        return reply(.failure(ClusterHost.forgotten(known)))
      }
      guard host != .none, host != own, let known = relays[host] else {
        return reply(
          .failure(Fault(.unavailable, "\(name) is in no cluster itself yet")))
      }
      var state = ClusterState()
      state.host = host.value
      state.relays = [known]
      return reply(.success(ClusterSyncResponse(state: state).encoded()))
    }
    var bare = relay
    bare.load = nil
    if let known = keeper.now.relays[from], !request.joins || known.forgotten {
      if known.forgotten {
        return reply(.failure(ClusterHost.forgotten(known)))
      }
      relays[from]?.load = relay.load
      if known.encoded() == bare.encoded() { return answer(request, reply) }
    }
    joins.append(PendingJoin(relay: bare, request: request, reply: reply))
    advanceJoins()
  }

  private func answer(_ request: ClusterSyncRequest, _ reply: ClusterCalls.Reply) {
    guard let keeper else { return reply(.failure(Fault(.unavailable))) }
    var state = ClusterState()
    state.host = own.value
    let map = keeper.now.ledger.current
    if map.revision != request.revision { state.map = map.encoded }
    state.directory = keeper.directory
    if request.directory != keeper.directory || request.withLoads {
      state.relays = relays.values.sorted { $0.nodeID < $1.nodeID }
    }
    reply(.success(ClusterSyncResponse(state: state).encoded()))
  }

  // MARK: hosting the metadata

  /// Becomes the host of the metadata with the first map, of this node alone.
  func found(_ done: @escaping (Fault?) -> Void) {
    node.log.info("founding a cluster", ["cluster": .of(cluster)])
    host = own
    keepState()
    takeUpMetadata { done(nil) }
  }

  /// Hosts what is on this node's disk, and shows itself in it.
  func takeUpMetadata(_ done: @escaping () -> Void) {
    let keeper: RingKeeper
    do throws(Fault) {
      let store = try EmbeddedMetadata(store: node.store, loop: loop, log: node.log)
      keeper = RingKeeper(store: store)
      store.client = keeper
    } catch {
      standing.change { $0.fault = error }
      return done()
    }
    keeper.load { [self] fault in
      if let fault {
        standing.change { $0.fault = fault }
        return done()
      }
      self.keeper = keeper
      keeper.onChange = { [unowned self] in receiveKept() }
      hasJoined = true
      receiveKept()
      showSelf()
      done()
    }
  }

  /// The host of the metadata has nobody to tell where it is but itself.
  func showSelf() {
    guard let keeper, !isSealed, joins.isEmpty, !isJoining else { return }
    var me = shown()
    me.load = nil
    if keeper.now.relays[own]?.encoded() == me.encoded() { return }
    joins.append(
      PendingJoin(relay: me, request: nil) { [self] result in
        // Without a map there is nothing to serve by.
        guard case .failure(let fault) = result, newest.version == 0 else { return }
        standing.change { $0.fault = fault }
      })
    advanceJoins()
  }

  /// What was changed here is told to all.
  private func receiveKept() {
    guard let keeper else { return }
    let isNewDirectory = keeper.directory != directory
    directory = keeper.directory
    var next = keeper.now.relays
    for id in next.keys { next[id]?.load = relays[id]?.load }
    next[own] = shown()
    replace(next)
    if isNewDirectory {
      keepState()
      tellPeers()
    }
    let before = newest
    let map = keeper.now.ledger.current
    receive(map)
    push(map, since: before, withNodes: isNewDirectory)
  }

  private func push(_ map: RingMap, since before: RingMap, withNodes: Bool) {
    guard map.revision != before.revision || withNodes else { return }
    var state = ClusterState()
    state.host = own.value
    state.directory = directory
    if map.revision != before.revision {
      if before.version > 0 {
        state.change = map.encodedChanges(since: before)
      } else {
        state.map = map.encoded
      }
    }
    if withNodes { state.relays = relays.values.sorted { $0.nodeID < $1.nodeID } }
    let bytes = ClusterPushRequest(state: state).encoded()
    for id in linked.keys { calls.ask(id, "Push", bytes, timeout: patience) { _ in } }
  }
}

/// Slots in two bytes each, the high one first.
enum SlotList {
  static func write(_ slots: [UInt16]) -> [UInt8] { slots.flatMap { bigEndianBytes($0) } }

  static func read(_ bytes: [UInt8]) throws(Fault) -> [UInt16] {
    guard bytes.count % 2 == 0, bytes.count <= 2 << Limits.ringSlotBits.upperBound else {
      throw Fault(.badRequest, "a list of slots of \(bytes.count) bytes")
    }
    return stride(from: 0, to: bytes.count, by: 2).map {
      UInt16(bigEndianBytes: bytes[$0..<$0 + 2])
    }
  }
}
