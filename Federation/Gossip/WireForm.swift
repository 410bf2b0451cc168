internal import Base
internal import Messages
internal import Registry

// Records and vectors as `agentanycast.v1` messages.

extension ProtoTimestamp {
  init(wall: Int64) {
    let (seconds, rest) = wall.quotientAndRemainder(dividingBy: 1_000_000_000)
    self.init(
      seconds: rest < 0 ? seconds - 1 : seconds,
      nanos: Int32(rest < 0 ? rest + 1_000_000_000 : rest))
  }

  /// Saturates: a year that nobody means is as good as the end of time.
  var wall: Int64 {
    let (product, over) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if over { return seconds < 0 ? .min : .max }
    let (sum, overAgain) = product.addingReportingOverflow(Int64(nanos))
    return overAgain ? .max : sum
  }
}

extension AnycastFederatedRegistration {
  /// `expires`: wall ns, for upstream relays; Posthouse's go by the origin's tombstones.
  init(_ record: Record, expires: Int64) {
    self.init()
    // What is held was checked when it came.
    if let registration = try? record.registration() {
      peerID = registration.peerID
      skills = registration.skills.map { skill in
        var out = AnycastSkillInfo(skillID: skill.id, description: skill.description)
        for tag in skill.tags { out.tags[tag.key] = tag.value }
        return out
      }
      agentName = registration.name
      agentDescription = registration.description
    }
    originRelayID = record.stamp.origin
    registeredAt = ProtoTimestamp(wall: record.registeredAt)
    expiresAt = ProtoTimestamp(wall: expires)
    version = record.stamp.version
    tombstone = record.isTombstone
    incarnation = record.stamp.incarnation
    sequence = record.stamp.sequence
    sourceRelayID = record.source
    proved = record.isProved
    checksum = record.checksum
  }

  var registration: Registration {
    Registration(
      peerID: peerID,
      skills: skills.map { skill in
        Skill(
          id: skill.skillID, description: skill.description,
          tags: skill.tags.map { Skill.Tag($0.key, $0.value) })
      }, name: agentName, description: agentDescription)
  }

  /// nil: what came is not what was sent.
  var record: Record? {
    let record = Record(
      stamp: Stamp(
        version: version, origin: originRelayID, incarnation: incarnation, sequence: sequence),
      isTombstone: tombstone, isProved: proved, registeredAt: registeredAt?.wall ?? 0,
      source: sourceRelayID, body: registration.encoded())
    // Names over two bytes of length have no row.
    guard originRelayID.utf8.count <= Limits.relayIDBytes,
      sourceRelayID.utf8.count <= Limits.relayIDBytes, record.checksum == checksum
    else { return nil }
    return record
  }
}

extension AnycastVectorElement {
  init(_ element: VectorElement) {
    self.init(
      originRelayID: element.origin, incarnation: element.incarnation, sequence: element.sequence,
      horizon: element.horizon, floor: element.floor, beat: element.beat)
  }
  var element: VectorElement {
    VectorElement(
      origin: originRelayID, incarnation: incarnation, sequence: sequence, horizon: horizon,
      floor: floor, beat: beat)
  }
}

extension AnycastCoverage {
  init(_ coverage: Coverage) {
    self.init(
      originRelayID: coverage.origin, incarnation: coverage.incarnation, from: coverage.from,
      through: coverage.through)
  }
  var coverage: Coverage {
    Coverage(origin: originRelayID, incarnation: incarnation, from: from, through: through)
  }
}
