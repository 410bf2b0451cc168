import Base
import Testing

@testable import Token

@Suite("Token requests between nodes", .timeLimit(.minutes(1))) struct TokenWireTests {
  private static let proven = ProvenCaller(
    principal: TokenRouteTests.principal, scopes: [.keys, .usage], viaToken: true,
    isOverQuota: true)
  private static let callers: [TokenCaller] = [
    .bearer(TokenRouteTests.key("bob"), peer: "10.0.0.1"), .redacted(peer: "::1"),
    .admin(actor: "operator"), .proven(proven),
  ]

  @Test("Every request comes over as it was, and every cut or changed one is refused or is another")
  func requests() throws {
    for row in TokenRouteTests.rows {
      for caller in Self.callers {
        let sent = TokenForward(revision: 77, TokenRequest(caller, row.action))
        let bytes = sent.encoded
        let came = try TokenForward(decoding: bytes)
        #expect("\(came)" == "\(sent)")
        #expect(came.encoded == bytes)
        for cut in 0..<bytes.count {
          #expect(throws: ReadError.self) { try TokenForward(decoding: Array(bytes[..<cut])) }
        }
        #expect(throws: ReadError.self) { try TokenForward(decoding: bytes + [0]) }
      }
    }
  }

  @Test("Bytes of strangers end nothing")
  func noise() {
    var seed: UInt64 = 7
    func next() -> UInt64 {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return seed >> 33
    }
    for row in TokenRouteTests.rows {
      let good = TokenForward(revision: 1, TokenRequest(.admin(actor: "x"), row.action)).encoded
      for _ in 0..<200 {
        var bytes = good
        for _ in 0..<(1 + next() % 4) {
          bytes[Int(next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: next())
        }
        _ = try? TokenForward(decoding: bytes)
        _ = try? TokenAnswer(decoding: bytes)
        _ = try? NoticePage(decoding: bytes)
        _ = try? UsageReport.decode(bytes)
      }
    }
  }

  private static let tenant = TenantView(
    org: "acme", id: TokenRouteTests.acme, state: .suspended, generation: 3,
    created: Instant(nanoseconds: 5),
    quota: TokenQuota(messagesPerDay: 1, bytesPerDay: 2, tokensPerDay: 3), keys: 4, channels: 5,
    today: UsageCount(messages: 6, bytes: 7, tokens: 8))
  private static let key = KeyView(
    id: "id", org: "acme", label: "é", scopes: .all, created: Instant(nanoseconds: 1),
    expires: Instant(nanoseconds: 2), revoked: nil, lastUsed: Instant(nanoseconds: 3))
  private static let channel = ChannelView(
    id: ChannelID(high: 1, low: 2), name: "acme/a/b", org: "acme", created: .zero, owned: true,
    grants: ["bob", "zeta"])
  private static let grant = GrantView(channel: "c", org: "o", created: .zero, joined: true)
  private static let invite = InviteView(
    id: "i", channel: "c", maxUses: 3, uses: 1, created: .zero, expires: Instant(nanoseconds: 9))
  private static let pending = PendingView(
    id: "jr", keyPackage: [0, 1, 0, 5], identity: "me", created: .zero)
  static let replies: [TokenReply] = [
    .tenant(tenant), .tenantCreated(tenant, key, apiKey: "sk"),
    .tenantCreated(tenant, nil, apiKey: nil), .tenants([tenant, tenant], next: "x"),
    .account(tenant, nil), .account(tenant, key), .keyCreated(key, apiKey: "sk"),
    .keys([key]), .key(key), .principal(TokenRouteTests.principal, [.usage]), .proven(proven),
    .grantsDropped(4), .token("jwt", expiresAt: Instant(nanoseconds: 4), .all),
    .channel(channel, created: true), .channels([channel], next: ""), .grants([grant]),
    .grant(grant), .inviteCreated(invite, token: "skt"), .invites([invite]), .invite(invite),
    .joinRequested(id: "jr"), .pending([pending]), .pending([]), .welcomeStored(id: "jr"),
    .welcome(id: "jr", .completed, [1, 2]), .welcome(id: "jr", .pending, []),
    .usage(
      org: "acme", [UsageView(day: 9, count: UsageCount(messages: 1, bytes: 2, tokens: 3))]),
  ]

  @Test("Every reply and every refusal comes over as it was")
  func answers() throws {
    #expect(Set(Self.replies.map { String("\($0)".prefix { $0 != "(" }) }).count == 23)
    var all = Self.replies.map { TokenAnswer.done(.success($0)) }
    all += FaultCode.allCases.map { .done(.failure(Fault($0, "because \($0)"))) }
    all.append(.notOwner(revision: 8))
    for answer in all {
      let bytes = answer.encoded
      let came = try TokenAnswer(decoding: bytes)
      #expect("\(came)" == "\(answer)")
      for cut in 0..<bytes.count {
        #expect(throws: ReadError.self) { try TokenAnswer(decoding: Array(bytes[..<cut])) }
      }
      #expect(throws: ReadError.self) { try TokenAnswer(decoding: bytes + [0]) }
    }
  }

  @Test("Usage reports come over as they were")
  func reports() throws {
    let reports = (0..<5).map {
      UsageReport(
        tenant: TenantID($0), day: 20_000, writer: 9 + $0, messages: $0 * 3, bytes: $0 * 1_000)
    }
    let bytes = UsageReport.encode(reports)
    #expect(try UsageReport.decode(bytes) == reports)
    #expect(throws: ReadError.self) { try UsageReport.decode(bytes + [1]) }
  }
}
