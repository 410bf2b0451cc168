import Base
import Codec
import Gossip
import Loop
import Messages
import Ring

// Gossip between the nodes of one cluster: the same exchanges as with other relays, over calls between nodes. Each of
// them has shown a certificate of the cluster, so each may hand on records of every origin.
extension RegistryHost {
  static let clusterMethod = "Gossip"

  private enum Kind: UInt8 { case sync = 1, push = 2 }

  /// Before the cluster opens and before `start`.
  func enter(_ cluster: ClusterHost) {
    calls = cluster.calls
    let own = cluster.own
    cluster.calls.serve(Self.clusterMethod) { [self] _, request, reply in
      loop.post { [self] in serve(request, reply) }
    }
    cluster.observers.append { [self] map in
      loop.post { [self] in receive(map, own: own) }
    }
    let known = cluster.map.value
    loop.post { [self] in receive(known, own: own) }
  }

  /// Who is in the cluster by this map is called; who has gone is not.
  private func receive(_ map: RingMap, own: NodeID) {
    for node in map.nodes where node.id != own && node.state != .gone {
      if let at = clusterPeers[node.id] {
        gossip.setPeer(at, isGone: false)
        continue
      }
      let name = node.name.isEmpty ? "\(node.id)" : node.name
      let at = gossip.addPeer(GossipPeer(name: name, trust: .everything))
      clusterPeers[node.id] = at
      clusterNodes[at] = node.id
    }
    for (id, at) in clusterPeers where map.node(id).map({ $0.state == .gone }) ?? true {
      gossip.setPeer(at, isGone: true)
    }
  }

  // MARK: asking

  func ask(_ node: NodeID, _ call: GossipCall) {
    guard let calls else { return }
    let (kind, message): (Kind, [UInt8])
    switch call.request {
    case .sync(let request): (kind, message) = (.sync, request.encoded())
    case .push(let request): (kind, message) = (.push, request.encoded())
    }
    let timeout = Interval.seconds(Int64(Limits.gossipCallSeconds))
    calls.call(node, Self.clusterMethod, [kind.rawValue] + message, timeout: timeout, on: loop) {
      [self] result in
      if isSealed { return }
      let outcome: RelayDialer.Outcome
      switch result {
      case .success(let bytes): outcome = .answer(bytes)
      case .failure(let fault): outcome = .failure(fault.code.grpc, fault.description)
      }
      receive(outcome, to: call, isSync: kind == .sync)
    }
  }

  // MARK: answering

  private func serve(_ request: [UInt8], _ reply: @escaping ClusterCalls.Reply) {
    if isSealed { return reply(.failure(Fault(.draining))) }
    do throws(Fault) {
      guard let first = request.first, let kind = Kind(rawValue: first) else {
        throw Fault(.badRequest, "an exchange of registrations that cannot be read")
      }
      let body = Array(request.dropFirst())
      switch kind {
      case .sync:
        let wanted = try AnycastSyncRegistrationsRequest(request: body)
        let answer = try gossip.receiveSync(wanted, .everything, &registry, at: loop.now).encoded()
        reply(.success(answer))
      case .push:
        let pushed = try AnycastPushRegistrationsRequest(request: body)
        let answer = try gossip.receivePush(pushed, .everything, &registry, at: loop.now).encoded()
        // Once it is on disk here: then the peer need not offer it again.
        afterWrite { fault in reply(fault.map { .failure($0) } ?? .success(answer)) }
      }
    } catch {
      reply(.failure(error))
    }
  }
}
