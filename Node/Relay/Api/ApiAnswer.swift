import Base
import Report
import Token

/// Status, extra header fields and body of an answer of the token API.
struct ApiAnswer {
  var status: Int
  var headers: [(String, String)] = []
  var body: JsonValue

  // MARK: faults

  /// `wall`: for the time until a quota begins anew.
  init(_ fault: Fault, wall: Instant) {
    self.init(status: fault.code.http, code: fault.code.rawValue, "\(fault)")
    switch fault.code {
    case .rateLimited, .unavailable, .draining: headers.append(("retry-after", "1"))
    case .diskFull: headers.append(("retry-after", "10"))
    case .quotaExceeded:
      let left = 86_400 - wall.nanoseconds / 1_000_000_000 % 86_400
      headers.append(("retry-after", "\(left)"))
    default: break
    }
    if status == 401 { headers.append(("www-authenticate", "Bearer realm=\"posthouse\"")) }
  }

  init(status: Int, code: String, _ error: String) {
    self.status = status
    body = .object([("error", .string(error)), ("code", .string(code))])
  }

  // MARK: replies

  init(_ reply: TokenReply, wall: Instant) {
    status = 200
    body = .null
    switch reply {
    case .account(let tenant, let key): body = Self.account(tenant, key)
    case .token(let token, let expires, let scopes):
      let seconds = max((expires - wall).wholeSeconds, 0)
      body = .object([
        ("token", .string(token)), ("token_type", .string("Bearer")), ("expires_at", time(expires)),
        ("expires_in", .integer(seconds)), ("scope", .string(scopes.claim)),
      ])
    case .keyCreated(let key, let text):
      status = 201
      body = .object(Self.key(key) + [("api_key", .string(text))])
    case .keys(let keys): body = .object([("keys", .array(keys.map { .object(Self.key($0)) }))])
    case .key(let key): body = .object(Self.key(key))
    case .channel(let channel, let created):
      status = created ? 201 : 200
      body = Self.channel(channel)
    case .channels(let channels, let next):
      body = .object([
        ("channels", .array(channels.map(Self.channel))), ("next", .string(next)),
      ])
    case .grants(let grants): body = .object([("grants", .array(grants.map(Self.grant)))])
    case .grant(let grant): body = Self.grant(grant)
    case .inviteCreated(let invite, let token):
      status = 201
      body = .object([("token", .string(token))] + Self.invite(invite))
    case .invites(let invites):
      body = .object([("invites", .array(invites.map { .object(Self.invite($0)) }))])
    case .invite(let invite): body = .object(Self.invite(invite))
    case .joinRequested(let id):
      status = 201
      body = .object([("request_id", .string(id)), ("status", .string("pending"))])
    case .pending(let requests): body = .object([("requests", .array(requests.map(Self.pending)))])
    case .welcomeStored(let id):
      body = .object([("request_id", .string(id)), ("status", .string("completed"))])
    case .welcome(let id, let joinStatus, let welcome):
      var members: [(name: String, value: JsonValue)] = [
        ("request_id", .string(id)), ("status", .string(joinStatus.name)),
      ]
      if joinStatus == .completed {
        members.append(("welcome", .string(StandardBase64.encode(welcome))))
      }
      body = .object(members)
    case .usage(let org, let days): body = Self.usage(org, days)
    case .tenant, .tenantCreated, .tenants, .principal, .proven, .grantsDropped:
      // Asked by operators, streams and other nodes only, who do not come this way.
      self = ApiAnswer(Fault(.internal, "an answer that has no HTTP form"), wall: wall)
    }
  }

  private static func account(_ tenant: TenantView, _ key: KeyView?) -> JsonValue {
    .object([
      ("tenant", .string(tenant.org)), ("tenant_id", .string(tenant.idText)),
      ("state", .string(tenant.state.name)), ("created_at", time(tenant.created)),
      (
        "quota",
        .object([
          ("messages_per_day", .count(tenant.quota.messagesPerDay)),
          ("bytes_per_day", .count(tenant.quota.bytesPerDay)),
          ("tokens_per_day", .count(tenant.quota.tokensPerDay)),
        ])
      ),
      ("keys", .integer(Int64(tenant.keys))), ("channels", .integer(Int64(tenant.channels))),
      ("today", .object(count(tenant.today))), ("key", key.map { .object(Self.key($0)) } ?? .null),
    ])
  }

  private static func key(_ key: KeyView) -> [(name: String, value: JsonValue)] {
    [
      ("id", .string(key.id)), ("label", .string(key.label)),
      ("scopes", .array(key.scopes.names.map { .string($0) })), ("created_at", time(key.created)),
      ("expires_at", time(key.expires)), ("revoked_at", time(key.revoked)),
      ("last_used_at", time(key.lastUsed)),
    ]
  }

  private static func channel(_ channel: ChannelView) -> JsonValue {
    .object([
      ("id", .string(channel.idText)), ("name", .string(channel.name)),
      ("tenant", .string(channel.org)), ("owned", .bool(channel.owned)),
      ("created_at", time(channel.created)),
      ("grants", .array(channel.grants.map { .string($0) })),
    ])
  }

  private static func grant(_ grant: GrantView) -> JsonValue {
    .object([
      ("channel", .string(grant.channel)), ("tenant", .string(grant.org)),
      ("created_at", time(grant.created)), ("joined", .bool(grant.joined)),
    ])
  }

  private static func invite(_ invite: InviteView) -> [(name: String, value: JsonValue)] {
    [
      ("id", .string(invite.id)), ("channel", .string(invite.channel)),
      ("max_uses", .integer(Int64(invite.maxUses))), ("uses", .integer(Int64(invite.uses))),
      ("created_at", time(invite.created)), ("expires_at", time(invite.expires)),
    ]
  }

  private static func pending(_ request: PendingView) -> JsonValue {
    .object([
      ("id", .string(request.id)),
      ("key_package", .string(StandardBase64.encode(request.keyPackage))),
      ("identity", .string(request.identity)), ("created_at", time(request.created)),
    ])
  }

  private static func usage(_ org: String, _ days: [UsageView]) -> JsonValue {
    var total = UsageCount()
    for day in days {
      total.messages &+= day.count.messages
      total.bytes &+= day.count.bytes
      total.tokens &+= day.count.tokens
    }
    return .object([
      ("tenant", .string(org)),
      (
        "days",
        .array(
          days.map { .object([("day", .string(CalendarDay.write($0.day)))] + count($0.count)) })
      ),
      ("total", .object(count(total))),
    ])
  }

  private static func count(_ count: UsageCount) -> [(name: String, value: JsonValue)] {
    [
      ("messages", .count(count.messages)), ("bytes", .count(count.bytes)),
      ("tokens", .count(count.tokens)),
    ]
  }
}

/// RFC 3339, or null.
private func time(_ wall: Instant?) -> JsonValue {
  wall.map { .string(Timestamp.text($0)) } ?? .null
}
