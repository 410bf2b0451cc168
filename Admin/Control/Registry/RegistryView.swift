internal import Base
internal import Messages

/// How an agent looks in every command.
enum RegistryView {
  static let columns: [Column] = [
    .left("AGENT"), .left("NAME"), .left("SKILLS"), .left("RELAY"), .left("STATE"),
    .left("REGISTERED"), .wide("EXPIRES"), .wide("SOURCE"), .wide("PROVED"),
    .wide("VERSION", right: true), .wide("SEQUENCE", right: true),
  ]

  static func row(_ r: AdminRegistration) -> ViewRow {
    ViewRow(
      cells: [
        r.peerID, Shown.orDash(r.agentName), Shown.list(r.skills.map(\.skillID)), r.homeRelayID,
        r.state, Shown.time(r.registeredUnixNs), Shown.time(r.expiresUnixNs),
        Shown.orDash(r.sourceRelayID), r.proved ? "yes" : "no", "\(r.version)", "\(r.sequence)",
      ], json: json(r), name: r.peerID)
  }

  static func fields(_ r: AdminRegistration) -> [Field] {
    var fields = [
      Field("Agent", r.peerID), Field("Name", Shown.orDash(r.agentName)),
      Field("Description", Shown.orDash(r.agentDescription)), Field("State", r.state),
      Field("Relay", r.homeRelayID), Field("Registered", Shown.time(r.registeredUnixNs)),
      Field("Expires", r.expiresUnixNs == 0 ? "by its relay" : Shown.time(r.expiresUnixNs)),
      Field("Proved", r.proved ? "yes" : "no"),
    ]
    if !r.sourceRelayID.isEmpty { fields.append(Field("Adopted from", r.sourceRelayID)) }
    for skill in r.skills {
      let tags = skill.tags.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
      fields.append(
        Field(
          "Skill",
          skill.skillID + (tags.isEmpty ? "" : " [\(tags.joined(separator: ", "))]")
            + (skill.description.isEmpty ? "" : ": \(skill.description)")))
    }
    fields.append(
      Field(
        "Stamp", "version \(r.version), incarnation \(r.incarnation), sequence \(r.sequence)",
        wide: true))
    return fields
  }

  static func json(_ r: AdminRegistration) -> JsonValue {
    .object([
      JsonMember("peer_id", .string(r.peerID)), JsonMember("agent_name", .string(r.agentName)),
      JsonMember("agent_description", .string(r.agentDescription)),
      JsonMember("state", .string(r.state)), JsonMember("home_relay_id", .string(r.homeRelayID)),
      JsonMember("source_relay_id", .string(r.sourceRelayID)),
      JsonMember("registered_at", Shown.timeJson(r.registeredUnixNs)),
      JsonMember("expires_at", Shown.timeJson(r.expiresUnixNs)),
      JsonMember("proved", .boolean(r.proved)), JsonMember("version", .unsigned(r.version)),
      JsonMember("incarnation", .unsigned(r.incarnation)),
      JsonMember("sequence", .unsigned(r.sequence)),
      JsonMember(
        "skills",
        .array(
          r.skills.map { skill in
            .object([
              JsonMember("skill_id", .string(skill.skillID)),
              JsonMember("description", .string(skill.description)),
              JsonMember(
                "tags",
                .object(
                  skill.tags.sorted { $0.key < $1.key }.map {
                    JsonMember($0.key, .string($0.value))
                  }
                )),
            ])
          })),
    ])
  }

  /// `key=value` options as tags.
  static func tags(_ texts: [String]) throws(Fault) -> [String: String] {
    var tags: [String: String] = [:]
    for text in texts {
      guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
        throw Fault(.usage, "--tag wants KEY=VALUE, not \"\(text)\"")
      }
      tags[String(text[..<equals])] = String(text[text.index(after: equals)...])
    }
    return tags
  }
}
