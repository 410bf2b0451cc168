internal import Messages

/// How an API key looks in every command. Never the key itself.
enum KeyView {
  static let columns: [Column] = [
    .left("KEY ID"), .left("LABEL"), .left("STATE"), .left("CREATED"), .left("EXPIRES"),
    .left("LAST USED"), .wide("SCOPES"), .wide("TENANT"),
  ]

  static func state(_ k: AdminKey) -> String { k.revokedUnixNs == 0 ? "active" : "revoked" }

  static func row(_ k: AdminKey) -> ViewRow {
    ViewRow(
      cells: [
        k.keyID, Shown.orDash(k.label), state(k), Shown.time(k.createdUnixNs),
        k.expiresUnixNs == 0 ? "never" : Shown.time(k.expiresUnixNs), Shown.time(k.lastUsedUnixNs),
        Shown.list(k.scopes), k.tenant,
      ], json: .object(members(k)), name: k.keyID)
  }

  static func fields(_ k: AdminKey) -> [Field] {
    [
      Field("Key id", k.keyID), Field("Tenant", k.tenant), Field("Label", Shown.orDash(k.label)),
      Field("State", state(k)), Field("Scopes", Shown.list(k.scopes)),
      Field("Created", Shown.time(k.createdUnixNs)),
      Field("Expires", k.expiresUnixNs == 0 ? "never" : Shown.time(k.expiresUnixNs)),
      Field("Revoked", Shown.time(k.revokedUnixNs), wide: true),
      Field("Last used", Shown.time(k.lastUsedUnixNs), wide: true),
    ]
  }

  static func members(_ k: AdminKey) -> [JsonMember] {
    [
      JsonMember("key_id", .string(k.keyID)), JsonMember("tenant", .string(k.tenant)),
      JsonMember("label", .string(k.label)), JsonMember("state", .string(state(k))),
      JsonMember("scopes", .strings(k.scopes)),
      JsonMember("created", Shown.timeJson(k.createdUnixNs)),
      JsonMember("expires", Shown.timeJson(k.expiresUnixNs)),
      JsonMember("revoked", Shown.timeJson(k.revokedUnixNs)),
      JsonMember("last_used", Shown.timeJson(k.lastUsedUnixNs)),
    ]
  }
}
