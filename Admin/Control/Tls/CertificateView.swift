internal import Base
internal import Crypto

/// How a certificate looks in every command.
enum CertificateView {
  static func kind(_ c: Certificate) -> String {
    c.cluster != nil
      ? "cluster authority" : c.isAuthority ? "authority" : c.node != nil ? "node" : "other"
  }

  static func fields(_ c: Certificate, at wall: Instant) -> [Field] {
    var fields = [Field("Subject", c.subject), Field("Kind", kind(c))]
    if let cluster = c.cluster ?? c.node?.cluster { fields.append(Field("Cluster", cluster)) }
    if let node = c.node { fields.append(Field("Node id", node.node.description)) }
    if !c.hosts.isEmpty { fields.append(Field("Hosts", Shown.list(c.hosts))) }
    return fields + [
      Field("Valid from", Shown.time(c.notBefore.nanoseconds)),
      Field("Valid until", "\(Shown.time(c.notAfter.nanoseconds)) (\(left(c, wall)))"),
      Field("Issuer", c.issuer, wide: true), Field("Serial", c.serial, wide: true),
    ]
  }

  static func daysLeft(_ c: Certificate, _ wall: Instant) -> Int64 {
    (c.notAfter - wall).wholeSeconds / 86_400
  }

  private static func left(_ c: Certificate, _ wall: Instant) -> String {
    if wall > c.notAfter { return "expired" }
    let days = daysLeft(c, wall)
    return days == 1 ? "1 day left" : "\(days) days left"
  }

  static func members(_ c: Certificate, at wall: Instant) -> [JsonMember] {
    [
      JsonMember("subject", .string(c.subject)), JsonMember("kind", .string(kind(c))),
      JsonMember("cluster", (c.cluster ?? c.node?.cluster).map { .string($0) } ?? .null),
      JsonMember("node_id", (c.node?.node.description).map { .string($0) } ?? .null),
      JsonMember("hosts", .strings(c.hosts)),
      JsonMember("not_before", .string(Shown.exactTime(c.notBefore.nanoseconds))),
      JsonMember("not_after", .string(Shown.exactTime(c.notAfter.nanoseconds))),
      JsonMember("days_left", .integer(max(0, daysLeft(c, wall)))),
      JsonMember("state", .string(c.age(at: wall).rawValue)),
      JsonMember("issuer", .string(c.issuer)), JsonMember("serial", .string(c.serial)),
    ]
  }

  /// What is wrong with its age; nil for a valid one.
  static func warning(_ c: Certificate, at wall: Instant) -> Note? {
    let renewal =
      c.isAuthority
      ? "see \"Certificates of a cluster\" in docs/operating.md"
      : "posthouse tls issue --node \(c.subject) --out DIR --yes"
    switch c.age(at: wall) {
    case .valid: return nil
    case .expired: return Note("EXPIRED: every node refuses it. Renew it: \(renewal)", .bad)
    case .notYetValid:
      return Note("NOT YET VALID: every node refuses it until then, or a clock is wrong.", .bad)
    case .endsSoon:
      return Note("Expires soon (\(left(c, wall))). Renew it: \(renewal)", .bad)
    }
  }
}
