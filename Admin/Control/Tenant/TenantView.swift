internal import Base
internal import Messages

/// How a tenant looks in every command.
enum TenantView {
  static let columns: [Column] = [
    .left("TENANT"), .left("STATE"), .right("KEYS"), .right("CHANNELS"), .right("MESSAGES TODAY"),
    .right("BYTES TODAY"), .wide("ID"), .wide("CREATED"), .wide("QUOTA"),
  ]

  static func row(_ t: AdminTenant) -> ViewRow {
    ViewRow(
      cells: [
        t.tenant, t.state, "\(t.keys)", "\(t.channels)", "\(t.messagesToday)",
        Shown.size(t.bytesToday),
        t.tenantID, Shown.time(t.createdUnixNs), quotaText(t.quota ?? AdminQuota()),
      ], json: json(t), name: t.tenant)
  }

  static func fields(_ t: AdminTenant) -> [Field] {
    let quota = t.quota ?? AdminQuota()
    return [
      Field("Tenant", t.tenant), Field("State", t.state), Field("Id", t.tenantID, wide: true),
      Field("Created", Shown.time(t.createdUnixNs)), Field("Keys", "\(t.keys)"),
      Field("Channels", "\(t.channels)"),
      Field("Today", "\(t.messagesToday) messages, \(Shown.size(t.bytesToday))"),
      Field("Quota a day", quotaText(quota)),
    ]
  }

  static func quotaText(_ q: AdminQuota) -> String {
    if q.messagesPerDay == 0, q.bytesPerDay == 0, q.tokensPerDay == 0 { return "no limit" }
    return
      "messages \(Shown.limit(q.messagesPerDay)), bytes \(Shown.limitSize(q.bytesPerDay)), "
      + "tokens \(Shown.limit(q.tokensPerDay))"
  }

  static func json(_ t: AdminTenant) -> JsonValue { .object(members(t)) }

  static func members(_ t: AdminTenant) -> [JsonMember] {
    let quota = t.quota ?? AdminQuota()
    return [
      JsonMember("tenant", .string(t.tenant)), JsonMember("tenant_id", .string(t.tenantID)),
      JsonMember("state", .string(t.state)), JsonMember("created", Shown.timeJson(t.createdUnixNs)),
      JsonMember("keys", .unsigned(t.keys)), JsonMember("channels", .unsigned(t.channels)),
      JsonMember("messages_today", .unsigned(t.messagesToday)),
      JsonMember("bytes_today", .unsigned(t.bytesToday)),
      JsonMember(
        "quota",
        .object([
          JsonMember("messages_per_day", .unsigned(quota.messagesPerDay)),
          JsonMember("bytes_per_day", .unsigned(quota.bytesPerDay)),
          JsonMember("tokens_per_day", .unsigned(quota.tokensPerDay)),
        ])),
    ]
  }

  static func record(_ t: AdminTenant, notes: [Note] = []) -> View {
    .record(fields(t), json(t), name: t.tenant, notes: notes)
  }
}
