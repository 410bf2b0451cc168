internal import Messages
internal import Settings

/// How the ring looks in every command.
enum RingView {
  static let nodeColumns: [Column] = [
    .left("NODE"), .left("STATE"), .right("WEIGHT"), .right("SLOTS"), .right("COPIES"),
    .left("ZONE"), .left("REGION"), .wide("ID"),
  ]

  static func row(_ n: AdminRingNode) -> ViewRow {
    ViewRow(
      cells: [
        n.name, n.state, "\(n.weight)", "\(n.owned)", "\(n.copies)", Shown.orDash(n.zone),
        Shown.orDash(n.region), n.nodeID,
      ], json: json(n, plan: false), name: n.name)
  }

  static let planColumns: [Column] = [
    .left("NODE"), .left("STATE"), .right("WEIGHT"), .right("SLOTS"), .right("AFTER"),
    .right("CHANGE"), .right("COPIES"), .right("AFTER"), .left("ZONE"), .wide("REGION"),
    .wide("ID"),
  ]

  static func planRow(_ n: AdminRingNode) -> ViewRow {
    let change = Int(n.ownedAfter) - Int(n.owned)
    return ViewRow(
      cells: [
        n.name, n.state, "\(n.weight)", "\(n.owned)", "\(n.ownedAfter)",
        change > 0 ? "+\(change)" : "\(change)", "\(n.copies)", "\(n.copiesAfter)",
        Shown.orDash(n.zone), Shown.orDash(n.region), n.nodeID,
      ], json: json(n, plan: true), name: n.name)
  }

  static func json(_ n: AdminRingNode, plan: Bool) -> JsonValue {
    var members = [
      JsonMember("node_id", .string(n.nodeID)), JsonMember("name", .string(n.name)),
      JsonMember("state", .string(n.state)), JsonMember("weight", .unsigned(UInt64(n.weight))),
      JsonMember("zone", .string(n.zone)), JsonMember("region", .string(n.region)),
      JsonMember("slots", .unsigned(UInt64(n.owned))),
      JsonMember("copies", .unsigned(UInt64(n.copies))),
    ]
    if plan {
      members.append(JsonMember("slots_after", .unsigned(UInt64(n.ownedAfter))))
      members.append(JsonMember("copies_after", .unsigned(UInt64(n.copiesAfter))))
    }
    return .object(members)
  }

  /// A plan as fields: what applying it does.
  static func fields(_ p: AdminRingPlan) -> [Field] {
    var fields = [
      Field("Version", "\(p.version)"), Field("Staged", p.staged ? "yes" : "no"),
      Field("Slots to move", "\(p.moves)"),
    ]
    if p.bytes > 0 { fields.append(Field("To copy", "\(p.bytes) bytes")) }
    if p.continued > 0 { fields.append(Field("On their way", "\(p.continued)")) }
    if p.cancelled > 0 { fields.append(Field("Moves given up", "\(p.cancelled)")) }
    if p.founded > 0 { fields.append(Field("First owners", "\(p.founded)")) }
    if p.abandoned > 0 { fields.append(Field("Slots lost", "\(p.abandoned)")) }
    fields.append(Field("New copies", "\(p.newCopies)", wide: true))
    fields.append(
      Field(
        "Nodes",
        Shown.list(
          p.nodes.map { n in
            n.owned == n.ownedAfter
              ? "\(n.name) \(n.owned)" : "\(n.name) \(n.owned) to \(n.ownedAfter)"
          })))
    return fields
  }

  static func json(_ p: AdminRingPlan) -> JsonValue {
    .object([
      JsonMember("version", .unsigned(p.version)), JsonMember("staged", .boolean(p.staged)),
      JsonMember("applied", .boolean(p.applied)), JsonMember("empty", .boolean(p.empty)),
      JsonMember("replicas", .unsigned(UInt64(p.replicas))),
      JsonMember("moves", .unsigned(UInt64(p.moves))),
      JsonMember("bytes_to_copy", .unsigned(p.bytes)),
      JsonMember("continued", .unsigned(UInt64(p.continued))),
      JsonMember("cancelled", .unsigned(UInt64(p.cancelled))),
      JsonMember("founded", .unsigned(UInt64(p.founded))),
      JsonMember("abandoned", .unsigned(UInt64(p.abandoned))),
      JsonMember("new_copies", .unsigned(UInt64(p.newCopies))),
      JsonMember("notes", .strings(p.notes)),
      JsonMember("nodes", .array(p.nodes.map { json($0, plan: true) })),
      JsonMember(
        "move_list",
        .array(
          p.moveList.map { m in
            .object([
              JsonMember("slot", .unsigned(UInt64(m.slot))), JsonMember("from", .string(m.from)),
              JsonMember("to", .string(m.to)),
            ])
          })),
    ])
  }

  /// What every command that changes something ends with.
  static func show(_ call: Call, _ p: AdminRingPlan) {
    var notes = p.notes.map { Note($0, .bad) }
    if p.applied {
      notes.append(Note("Applied: version \(p.version).", .good))
      notes.append(Note("Next: posthouse ring show"))
    } else if p.staged {
      notes.append(Note("Next: posthouse ring apply --version \(p.version)"))
    } else {
      notes.append(Note("Nothing is staged."))
    }
    call.renderer.show(.record(fields(p), json(p), name: "\(p.version)", notes: notes))
  }
}
