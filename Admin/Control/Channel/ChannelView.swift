internal import Messages

/// How a channel looks in every command.
enum ChannelView {
  static let columns: [Column] = [
    .left("CHANNEL"), .right("FIRST"), .right("LAST"), .right("SIZE"), .right("EPOCH"),
    .right("SUBSCRIBERS"), .left("STATE"), .wide("GENERATION", right: true),
    .wide("SLOT", right: true),
    .wide("FAMILY"), .wide("GRANTS"), .wide("ID"),
  ]

  static func row(_ c: AdminChannel) -> ViewRow {
    ViewRow(
      cells: [
        c.name, "\(c.firstSequence)", "\(c.lastSequence)", Shown.size(c.bytes), "\(c.mlsEpoch)",
        "\(c.subscribers)", Shown.orDash(c.state), "\(c.generation)", "\(c.slot)",
        Shown.orDash(c.family),
        Shown.list(c.grants), c.channelID,
      ], json: json(c), name: c.name)
  }

  static func fields(_ c: AdminChannel) -> [Field] {
    let kept = c.lastSequence >= c.firstSequence && c.lastSequence > 0
    return [
      Field("Channel", c.name), Field("State", Shown.orDash(c.state)),
      Field(
        "Kept", kept ? "\(c.firstSequence) to \(c.lastSequence), \(Shown.size(c.bytes))" : "nothing"
      ),
      Field("MLS", "generation \(c.generation), epoch \(c.mlsEpoch)"),
      Field("Subscribers", "\(c.subscribers)"), Field("Granted to", Shown.list(c.grants)),
      Field("Family", Shown.orDash(c.family), wide: true), Field("Slot", "\(c.slot)", wide: true),
      Field("Id", c.channelID, wide: true),
    ]
  }

  static func json(_ c: AdminChannel) -> JsonValue {
    .object([
      JsonMember("channel", .string(c.name)), JsonMember("channel_id", .string(c.channelID)),
      JsonMember("family", .string(c.family)), JsonMember("slot", .unsigned(UInt64(c.slot))),
      JsonMember("state", .string(c.state)),
      JsonMember("first_sequence", .unsigned(c.firstSequence)),
      JsonMember("last_sequence", .unsigned(c.lastSequence)),
      JsonMember("bytes", .unsigned(c.bytes)),
      JsonMember("generation", .unsigned(UInt64(c.generation))),
      JsonMember("mls_epoch", .unsigned(c.mlsEpoch)),
      JsonMember("subscribers", .unsigned(c.subscribers)), JsonMember("grants", .strings(c.grants)),
    ])
  }
}
