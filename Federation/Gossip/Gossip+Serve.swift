public import Base
public import Messages
public import Registry

// What other relays ask of this one.
extension Gossip {
  /// Answers SyncRegistrations. `trust` is what the caller has shown; it names itself in the request.
  public mutating func receiveSync(
    _ request: AnycastSyncRegistrationsRequest, _ trust: GossipTrust, _ registry: inout Registry,
    at now: Now
  ) throws(Fault) -> AnycastSyncRegistrationsResponse {
    try check(request.relayID)
    served += 1
    var response = AnycastSyncRegistrationsResponse()
    if request.protocol == 0 {
      let asked = request.limit <= 0 ? 500 : min(Int(request.limit), Limits.upstreamPage)
      let (page, next) = registry.upstreamPage(
        since: request.since?.wall ?? .min, limit: asked, to: request.relayID, at: now)
      response.registrations = upstream(page, asked, registry, now)
      response.syncTimestamp = .init(wall: next)
      return response
    }
    try check(request.vector)
    let theirs = request.vector.map(\.element)
    let (delta, damaged) = Gossip.delta(request.registrations, request.coverage)
    let (_, refused) = merge(delta, trust, theirs, &registry, at: now)
    rejected += refused + damaged
    response.protocol = Gossip.protocolVersion
    response.ownOnly = trust != .everything
    response.syncTimestamp = .init(wall: now.wall.nanoseconds)
    if !request.partDigests.isEmpty || !request.parts.isEmpty {
      if trust == .everything, !registry.isStale(theirs) {
        answerRepair(request, registry, now, &response)
      }
    } else if !request.ownOnly, registry.isStale(theirs) {
      // It sees from the vector that it must begin anew, and then asks again.
      response.hasMore = true
    } else {
      let delta = registry.delta(beyond: theirs, ownOnly: request.ownOnly)
      response.registrations = wire(delta.records, registry, now)
      response.coverage = delta.coverage.map { AnycastCoverage($0) }
      response.hasMore = delta.hasMore
    }
    response.vector = registry.nextVector(at: now).map { AnycastVectorElement($0) }
    response.digest = registry.rootDigest
    return response
  }

  private func answerRepair(
    _ request: AnycastSyncRegistrationsRequest, _ registry: Registry, _ now: Now,
    _ response: inout AnycastSyncRegistrationsResponse
  ) {
    if request.parts.isEmpty {
      let bytes = request.partDigests
      let digests = stride(from: 0, to: bytes.count - bytes.count % 8, by: 8).map { at in
        UInt64(bigEndianBytes: bytes[at..<at + 8])
      }
      response.parts = registry.differingBuckets(digests)
    } else {
      response.parts = request.parts
    }
    let (records, next) = registry.records(in: response.parts, from: request.partsFrom)
    response.registrations = wire(records, registry, now)
    response.partsNext = next ?? 0
  }

  /// Answers PushRegistrations. Who is not known may not push.
  public mutating func receivePush(
    _ request: AnycastPushRegistrationsRequest, _ trust: GossipTrust, _ registry: inout Registry,
    at now: Now
  ) throws(Fault) -> AnycastPushRegistrationsResponse {
    try check(request.relayID)
    served += 1
    var response = AnycastPushRegistrationsResponse()
    if request.protocol == 0 {
      guard case .own(let name) = trust else {
        rejected += request.registrations.count
        throw Fault(.forbidden, "relay \(request.relayID) may not push here")
      }
      for one in request.registrations {
        if Gossip.adopt(one, name, &registry, at: now) {
          response.accepted += 1
        } else {
          response.rejected += 1
          rejected += 1
        }
      }
      return response
    }
    if trust == .nothing {
      rejected += request.registrations.count
      throw Fault(.forbidden, "relay \(request.relayID) may not push here")
    }
    try check(request.vector)
    let (delta, damaged) = Gossip.delta(request.registrations, request.coverage)
    let (accepted, refused) = merge(
      delta, trust, request.vector.map(\.element), &registry, at: now)
    rejected += refused + damaged
    response.accepted = Int32(accepted)
    response.rejected = Int32(refused + damaged)
    response.protocol = Gossip.protocolVersion
    response.vector = registry.nextVector(at: now).map { AnycastVectorElement($0) }
    return response
  }

  /// A vector that is too long is not looked at, nor what comes with it.
  private mutating func check(_ vector: [AnycastVectorElement]) throws(Fault) {
    if let trouble = Gossip.trouble(vector) {
      longVectors += 1
      throw Fault(.tooLarge, trouble)
    }
  }

  /// nil: it is no longer than one may be.
  static func trouble(_ vector: [AnycastVectorElement]) -> String? {
    vector.count <= Limits.registryOrigins
      ? nil : "a vector of \(vector.count) origins, where \(Limits.registryOrigins) are possible"
  }

  private func check(_ relayID: String) throws(Fault) {
    if relayID.isEmpty { throw Fault(.badRequest, "relay_id is required") }
    if relayID.utf8.count > Limits.relayIDBytes {
      throw Fault(.tooLarge, "relay_id is over \(Limits.relayIDBytes) bytes")
    }
    if relayID == settings.relayID {
      throw Fault(.badRequest, "relay \(relayID) is this relay: two have one relay id")
    }
  }
}
