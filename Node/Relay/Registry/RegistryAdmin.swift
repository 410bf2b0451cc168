import Base
import Gossip
import Loop
import Messages
import Registry
import Report
import Settings

/// What operators ask of the registry. Answers come on the loop that asks.
struct RegistryAdmin {
  unowned let node: NodeHost

  /// Runs `work` on the registry's loop.
  func ask<Response: Sendable>(
    _ home: EventLoop, _ reply: @escaping @Sendable (Result<Response, Fault>) -> Void,
    _ work: @escaping @Sendable (RegistryHost) throws(Fault) -> Response
  ) {
    guard let host = node.registryHost else {
      reply(.failure(Fault(.unimplemented, "the registry is off: registry.listen = off")))
      return
    }
    host.loop.post {
      let result = Result { () throws(Fault) in try work(host) }
      home.post { reply(result) }
    }
  }

  static func list(
    _ request: AdminListRegistrationsRequest, _ host: RegistryHost
  ) -> AdminListRegistrationsResponse {
    let limit = request.limit == 0 ? 1_000 : Int(min(request.limit, 1_000))
    let (found, next) = host.registry.listings(
      origin: request.origin, skill: request.skill, tombstones: request.withGone,
      from: request.after, limit: limit, at: host.loop.now)
    var out = AdminListRegistrationsResponse()
    out.registrations = found.map(registration)
    out.next = next ?? 0
    return out
  }

  static func get(
    _ request: AdminGetRegistrationRequest, _ host: RegistryHost
  ) throws(Fault) -> AdminRegistration {
    guard let found = host.registry.listing(of: request.peerID, at: host.loop.now) else {
      throw Fault(.notFound, "no agent \(request.peerID.prefix(128))")
    }
    return registration(found)
  }

  static func discover(
    _ request: AdminDiscoverAgentsRequest, _ host: RegistryHost
  ) throws(Fault) -> AdminListRegistrationsResponse {
    if request.skill.isEmpty { throw Fault(.badRequest, "skill_id is required") }
    let wanted = Discovery(
      skill: request.skill, tags: request.tags.map { Skill.Tag($0.key, $0.value) },
      limit: Int(request.limit), includesOthers: !request.localOnly)
    var out = AdminListRegistrationsResponse()
    let now = host.loop.now
    out.registrations = host.registry.discover(wanted, at: now).compactMap {
      host.registry.listing(of: $0, at: now).map(registration)
    }
    return out
  }

  private static func registration(_ listing: Registry.Listing) -> AdminRegistration {
    let record = listing.record
    var out = AdminRegistration()
    out.peerID = record.peerID
    out.homeRelayID = record.stamp.origin
    out.sourceRelayID = record.source
    out.state = record.isTombstone ? "gone" : listing.isShown ? "live" : "hidden"
    out.version = record.stamp.version
    out.incarnation = record.stamp.incarnation
    out.sequence = record.stamp.sequence
    out.registeredUnixNs = record.registeredAt
    out.expiresUnixNs = listing.expires?.nanoseconds ?? 0
    out.proved = record.isProved
    guard let registration = try? record.registration() else { return out }
    out.agentName = registration.name
    out.agentDescription = registration.description
    out.skills = registration.skills.map { skill in
      var one = AdminRegisteredSkill(skillID: skill.id, description: skill.description)
      for tag in skill.tags { one.tags[tag.key] = tag.value }
      return one
    }
    return out
  }

  static func gossip(_ host: RegistryHost) -> AdminGossip {
    let registry = host.registry
    let now = host.loop.now.monotonic
    var out = AdminGossip()
    out.relayID = host.settings.relayID
    out.incarnation = registry.origins[0].incarnation
    out.digest = registry.rootDigest
    out.local = UInt64(registry.localCount)
    out.federated = UInt64(registry.foreignCount)
    out.tombstones = UInt64(registry.tombstoneCount)
    out.skills = UInt64(registry.skillCount)
    out.rebuilt = UInt64(registry.counts.rebuilt)
    out.refused = UInt64(registry.counts.refused + host.gossip.rejected)
    out.origins = registry.origins.enumerated().map { number, origin in
      var one = AdminGossipOrigin()
      one.relayID = origin.id
      one.incarnation = origin.incarnation
      one.sequence = origin.sequence
      one.floor = origin.floor
      one.hidden = origin.isHidden
      one.live = UInt64(origin.live)
      one.tombstones = UInt64(origin.tombstones)
      one.heardAgoNs = number == 0 ? 0 : (now - origin.heardAt).nanoseconds
      return one
    }
    for (number, peer) in host.gossip.peers.enumerated() where !peer.isGone {
      var one = AdminGossipPeer()
      one.name = peer.name
      one.address =
        host.clusterNodes[number].map { "node \($0)" }
        ?? host.settings.peers[number].address.description
      one.trust = peer.trust == .everything ? "everything" : "own"
      one.kind = peer.kind.rawValue
      one.phase = peer.phase.rawValue
      one.exchanges = UInt64(peer.counts.exchanges)
      one.failures = UInt64(peer.counts.failures)
      one.failing = UInt32(peer.failing)
      one.lastFailure = peer.lastFailure
      one.lastSuccessAgoNs = peer.lastSuccess.map { (now - $0).nanoseconds } ?? -1
      one.received = UInt64(peer.counts.received)
      one.sent = UInt64(peer.counts.sent)
      one.refused = UInt64(peer.counts.refused)
      one.repairs = UInt64(peer.counts.repairs)
      out.peers.append(one)
    }
    return out
  }

  func purge(_ origin: String, _ host: RegistryHost) throws(Fault) -> AdminPurgeOriginResponse {
    let count = try host.registry.purge(origin, at: host.loop.now)
    node.audit.record(
      .init(actor: "operator", action: "registry.purge", subject: origin, outcome: "done"))
    return AdminPurgeOriginResponse(purged: UInt64(count))
  }
}
