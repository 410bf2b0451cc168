import Base
import Digest
import Testing

@testable import Token

@Suite("Which node decides", .timeLimit(.minutes(1))) struct TokenRouteTests {
  static let acme = TenantID(org: "acme")
  static let bob = TenantID(org: "bob")
  static let record = RecordAddress(tenant: acme, record: RecordID(7))
  static let invite = Credential(address: record, secret: [UInt8](repeating: 3, count: 32))
    .text(.invite)
  static let join = JoinText.write(record)
  static let principal = Principal(tenant: acme, org: "acme", key: RecordID(7))

  /// Who decides: for an operator, and for a key of `bob`.
  struct Row: Sendable {
    var action: TokenAction
    var admin: TokenSubject
    var caller: TokenSubject
    init(_ action: TokenAction, _ admin: TokenSubject, _ caller: TokenSubject) {
      self.action = action
      self.admin = admin
      self.caller = caller
    }
    /// The tenant that the action names.
    init(named action: TokenAction) { self.init(action, .tenant(acme), .tenant(acme)) }
    /// The caller's own.
    init(own action: TokenAction) { self.init(action, .local, .tenant(bob)) }
  }

  static let channel = "acme/a/b"
  static let rows: [Row] = [
    Row(named: .createTenant(org: "acme", withKey: true)), Row(named: .suspendTenant(org: "acme")),
    Row(named: .resumeTenant(org: "acme")), Row(named: .deleteTenant(org: "acme")),
    Row(named: .setQuota(org: "acme", TokenQuota(messagesPerDay: 1))),
    Row(.listTenants(after: "a", limit: 5), .everyNode, .everyNode),
    Row(named: .grant(channel: channel, org: "zeta")),
    Row(named: .grantKnown(channel: channel, org: "zeta")),
    Row(.dropGrantee(acme, before: nil), .everyNode, .everyNode),
    Row(.dropGrantee(acme, before: Instant(nanoseconds: -5)), .everyNode, .everyNode),
    Row(named: .account(org: "acme")), Row(own: .account(org: nil)),
    Row(named: .createKey(org: "acme", label: "é", scopes: ["usage", "x"], ttlSeconds: 9)),
    Row(own: .createKey(org: nil, label: "", scopes: [], ttlSeconds: nil)),
    Row(named: .listKeys(org: "acme")), Row(own: .listKeys(org: nil)),
    Row(named: .revokeKey(id: "\(record)")), Row(own: .revokeKey(id: "nothing")),
    Row(own: .authenticate), Row(own: .prove(polling: true)),
    Row(own: .issueToken(ttlSeconds: 60, scope: "usage")),
    Row(own: .issueToken(ttlSeconds: nil, scope: nil)), Row(named: .checkPrincipal(principal)),
    Row(named: .registerChannel(name: channel)), Row(own: .registerChannel(name: "nonsense")),
    Row(.listChannels(prefix: "", after: "a", limit: 3), .everyNode, .everyNode),
    Row(.listChannels(prefix: "acm", after: "", limit: -1), .everyNode, .everyNode),
    Row(named: .listChannels(prefix: "acme/x", after: "", limit: 3)),
    Row(named: .getChannel(name: channel)), Row(named: .endChannel(name: channel)),
    Row(named: .listGrants(channel: channel)),
    Row(named: .revokeGrant(channel: channel, org: "zeta")),
    Row(named: .createInvite(channel: channel, maxUses: 5, ttlSeconds: -1)),
    Row(named: .listInvites(channel: channel)), Row(own: .listInvites(channel: "")),
    Row(named: .revokeInvite(id: "\(record)")), Row(own: .revokeInvite(id: "")),
    Row(named: .join(channel: "x/y/z", token: invite, keyPackage: [0, 1, 0, 5], identity: "i")),
    Row(own: .join(channel: channel, token: "skt_inv_", keyPackage: [], identity: "")),
    Row(named: .pending(channel: channel)),
    Row(named: .putWelcome(request: join, welcome: [1, 2, 3])),
    Row(own: .putWelcome(request: "jr_", welcome: [])), Row(named: .getWelcome(request: join)),
    Row(own: .getWelcome(request: "\(record)")),
    Row(named: .usage(org: "acme", from: 1, to: nil)), Row(own: .usage(org: nil, from: nil, to: 2)),
  ]

  /// The name of an action's case.
  private static func kind(_ action: TokenAction) -> String {
    String("\(action)".prefix { $0 != "(" })
  }

  static func key(_ org: String) -> String {
    let address = RecordAddress(tenant: TenantID(org: org), record: RecordID(1))
    return Credential(address: address, secret: [UInt8](repeating: 9, count: 32)).text(.apiKey)
  }

  @Test("Every action has its tenant, or is its caller's, or every node's")
  func table() {
    // One row at least of each of the actions.
    #expect(Set(Self.rows.map { Self.kind($0.action) }).count == 31)
    for row in Self.rows {
      let admin = TokenRequest(.admin(actor: "a"), row.action)
      #expect(admin.subject == row.admin && admin.home == nil, "\(row.action)")
      let bearer = TokenRequest(.bearer(Self.key("bob"), peer: "p"), row.action)
      #expect(bearer.subject == row.caller && bearer.home == Self.bob, "\(row.action)")
      let proven = TokenRequest(
        .proven(
          ProvenCaller(
            principal: Principal(tenant: Self.bob, org: "bob", key: RecordID(1)), scopes: .all,
            viaToken: false, isOverQuota: false)), row.action)
      #expect(proven.subject == row.caller && proven.home == nil, "\(row.action)")
      let hidden = TokenRequest(.redacted(peer: "p"), row.action)
      #expect(hidden.subject == .local, "\(row.action)")
      let nobody = TokenRequest(.bearer("who", peer: "p"), row.action)
      #expect(nobody.subject == .local && nobody.home == nil, "\(row.action)")
    }
  }

  @Test("A JWT says whose it is, before anything of it is believed")
  func claimed() {
    let keys = SigningKeySet(current: "k", secrets: ["k": [UInt8](repeating: 1, count: 32)])
    let claims = TokenClaims(
      tenant: Self.bob, org: "bob", key: RecordID(1), scopes: .all, issuedAt: 1, expiresAt: 2)
    let text = JWT.sign(claims, with: keys)
    #expect(TokenRequest(.bearer(text, peer: ""), .authenticate).home == Self.bob)
    for bad in ["", "a.b.c", "..", text + ".", String(repeating: "x", count: 5_000), "sk_live_x"] {
      #expect(TokenRequest(.bearer(bad, peer: ""), .authenticate).home == nil, "\(bad.prefix(9))")
    }
  }

  @Test("Lists of several nodes become one, page after page, in order")
  func merged() throws {
    // Three nodes, names dealt out, pages of each possible size: whoever pages through sees each name once, in order.
    let all = (0..<40).map { "t\(10 + $0)" }
    func view(_ org: String) -> TenantView {
      TenantView(
        org: org, id: TenantID(org: org), state: .active, generation: 1, created: .zero,
        quota: .unlimited, keys: 0, channels: 0, today: UsageCount())
    }
    for limit in 1...41 {
      var seen: [String] = []
      var after = ""
      repeat {
        let pages = (0..<3).map { node -> TokenReply in
          // The last one is on two nodes: it is moving.
          let mine = all.enumerated().filter { $0.offset % 3 == node || $0.offset == 39 }
            .map(\.element).filter { $0 > after }
          let page = mine.prefix(limit)
          return .tenants(page.map(view), next: mine.count > limit ? page.last! : "")
        }
        guard case .tenants(let rows, let next)? = TokenLists.merge(pages, limit: limit) else {
          Issue.record("no list")
          return
        }
        #expect(rows.count <= limit && (next.isEmpty || !rows.isEmpty))
        seen += rows.map(\.org)
        after = next
      } while !after.isEmpty && seen.count < 100
      #expect(seen == all, "pages of \(limit)")
    }
    #expect(TokenLists.merge([.welcomeStored(id: "")], limit: 1) == nil)
  }
}
