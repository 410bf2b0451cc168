import Base
import Digest
import TestKit
import Testing

@testable import Token

@Suite(.timeLimit(.minutes(1))) struct AccountTests {
  @Test("A tenant is made with a key that works, and made once")
  func create() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    guard case .principal(let principal, let scopes) = try bench.ask(acme, .authenticate) else {
      throw TokenBench.Unexpected()
    }
    #expect(principal.org == "acme" && principal.tenant == TenantID(org: "acme"))
    #expect(scopes == .all && !principal.anonymous)
    #expect(
      try bench.fault(TokenBench.admin, .createTenant(org: "acme", withKey: true)) == .conflict)
    for bad in ["", "Acme", "a/b", "ä", String(repeating: "a", count: 64), "a b"] {
      #expect(
        try bench.fault(TokenBench.admin, .createTenant(org: bad, withKey: false)) == .badRequest)
    }
  }

  @Test("Operators' actions are refused to keys")
  func adminOnly() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    for action: TokenAction in [
      .createTenant(org: "x", withKey: true), .listTenants(after: "", limit: 10),
      .suspendTenant(org: "acme"), .resumeTenant(org: "acme"), .deleteTenant(org: "acme"),
      .setQuota(org: "acme", .unlimited), .grant(channel: "acme/a/b", org: "x"),
      .checkPrincipal(Principal(tenant: TenantID(org: "acme"), org: "acme", key: RecordID(1))),
    ] {
      #expect(try bench.fault(acme, action) == .forbidden, "\(action)")
    }
  }

  @Test("Only the canonical text of a key authenticates, and no secret is kept")
  func secrets() throws {
    var bench = TokenBench()
    guard case .bearer(let text, _) = try bench.tenant("acme") else { return }
    let flipped = text.dropLast(2) + (text.hasSuffix("a") ? "bb" : "aa")
    for bad in [
      "", "sk_live_", text + "a", String(text.dropLast()), text.uppercased(), " " + text,
      text.replacing("sk_live_", with: "skt_inv_"), String(flipped), text + "=",
      "sk_live_" + Text.base32([UInt8](repeating: 0, count: 48)),
    ] {
      #expect(try bench.fault(bench.bearer(bad), .authenticate) == .unauthorized, "\(bad)")
    }
    let secret = try #require(Text.base32Decode(String(text.dropFirst(8)))).suffix(32)
    for row in bench.disk.values.flatMap({ $0 }) {
      let bytes = row.key + row.value
      let holds = bytes.indices.contains { bytes[$0...].starts(with: secret) }
      #expect(!holds)
    }
  }

  @Test("A revoked key is dead at once, and its streams are told")
  func revoke() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    guard
      case .keyCreated(let key, let text) = try bench.ask(
        acme, .createKey(org: nil, label: "ci", scopes: ["channels"], ttlSeconds: nil))
    else { throw TokenBench.Unexpected() }
    let second = bench.bearer(text)
    let token = bench.bearer(try bench.jwt(acme))
    #expect(try bench.fault(second, .authenticate) == nil)
    bench.effects = []
    _ = try bench.ask(acme, .revokeKey(id: key.id))
    let address = try #require(RecordAddress(key.id))
    #expect(
      bench.effects.contains {
        if case .keyEnded(let tenant, let record) = $0 {
          tenant == address.tenant && record == address.record
        } else {
          false
        }
      })
    #expect(try bench.fault(second, .authenticate) == .keyRevoked)
    #expect(try bench.fault(token, .authenticate) == nil)
    bench.restart()
    #expect(try bench.fault(second, .authenticate) == .keyRevoked)
    #expect(try bench.fault(acme, .authenticate) == nil)
    // Again, and from elsewhere.
    #expect(try bench.fault(acme, .revokeKey(id: key.id)) == nil)
    let other = try bench.tenant("other")
    #expect(try bench.fault(other, .revokeKey(id: key.id)) == .notFound)
    guard case .account(_, let own?) = try bench.ask(acme, .account(org: nil)) else { return }
    _ = try bench.ask(TokenBench.admin, .revokeKey(id: own.id))
    #expect(try bench.fault(token, .authenticate) == .keyRevoked, "a JWT dies with its key")
  }

  @Test("A key ends at its time, with its streams")
  func expiry() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    guard
      case .keyCreated(_, let text) = try bench.ask(
        acme, .createKey(org: nil, label: "", scopes: [], ttlSeconds: 60))
    else { throw TokenBench.Unexpected() }
    guard
      case .token(_, let end, _) = try bench.ask(
        bench.bearer(text), .issueToken(ttlSeconds: 3_600, scope: nil))
    else { throw TokenBench.Unexpected() }
    #expect(end <= bench.now.wall + .seconds(60), "no JWT outlives its key")
    bench.live(seconds: 59)
    #expect(try bench.fault(bench.bearer(text), .authenticate) == nil)
    bench.effects = []
    bench.live(seconds: 2)
    #expect(try bench.fault(bench.bearer(text), .authenticate) == .keyRevoked)
    #expect(bench.effects.contains { if case .keyEnded = $0 { true } else { false } })
    for bad: Int64 in [0, -1, .min, .max, 315_360_001] {
      #expect(
        try bench.fault(acme, .createKey(org: nil, label: "", scopes: [], ttlSeconds: bad))
          == .badRequest)
    }
  }

  @Test("A key does what its scopes say, and gives no scope it has not")
  func scopes() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let name = "acme/a/b"
    let needs: [(TokenAction, String)] = [
      (.registerChannel(name: name), "channels"),
      (.listChannels(prefix: "", after: "", limit: 9), "channels"),
      (.getChannel(name: name), "channels"), (.pending(channel: name), "channels"),
      (.createInvite(channel: name, maxUses: 1, ttlSeconds: 60), "invites"),
      (.listInvites(channel: ""), "invites"), (.listGrants(channel: name), "invites"),
      (.issueToken(ttlSeconds: nil, scope: nil), "tokens"),
      (.usage(org: nil, from: nil, to: nil), "usage"),
      (.listKeys(org: nil), "keys"),
      (.createKey(org: nil, label: "", scopes: [], ttlSeconds: nil), "keys"),
      (.endChannel(name: name), "channels"),
    ]
    _ = try bench.ask(acme, .registerChannel(name: name))
    for scope in Scopes.all.names {
      guard
        case .keyCreated(let view, let text) = try bench.ask(
          acme, .createKey(org: nil, label: scope, scopes: [scope], ttlSeconds: nil))
      else { throw TokenBench.Unexpected() }
      #expect(view.scopes.names == [scope])
      for (action, needed) in needs {
        let fault = try bench.fault(bench.bearer(text), action)
        #expect(
          (fault == nil) == (scope == needed), "\(scope): \(action) \(String(describing: fault))")
      }
      if scope == "channels" { _ = try bench.ask(acme, .registerChannel(name: name)) }
      #expect(
        try bench.fault(
          bench.bearer(text), .createKey(org: nil, label: "", scopes: ["usage"], ttlSeconds: nil))
          == .forbidden)
    }
    #expect(
      try bench.fault(acme, .createKey(org: nil, label: "", scopes: ["root"], ttlSeconds: nil))
        == .badRequest)
  }

  @Test("A JWT has the rights it asked for, makes no keys and no JWTs")
  func jwtRights() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let all = bench.bearer(try bench.jwt(acme))
    let usage = bench.bearer(try bench.jwt(acme, ttl: 86_400, scope: "usage"))
    #expect(try bench.fault(all, .registerChannel(name: "acme/a/b")) == nil)
    #expect(try bench.fault(usage, .registerChannel(name: "acme/a/c")) == .forbidden)
    #expect(try bench.fault(usage, .usage(org: nil, from: nil, to: nil)) == nil)
    #expect(try bench.fault(all, .issueToken(ttlSeconds: nil, scope: nil)) == .forbidden)
    #expect(
      try bench.fault(all, .createKey(org: nil, label: "", scopes: [], ttlSeconds: nil))
        == .forbidden)
    for (ttl, scope) in [(0, nil), (-5, nil), (2_592_001, nil), (60, "root"), (60, "usage,keys")]
      as [(Int64, String?)]
    {
      #expect(try bench.fault(acme, .issueToken(ttlSeconds: ttl, scope: scope)) == .badRequest)
    }
    bench.pass(.seconds(400))
    #expect(try bench.fault(all, .usage(org: nil, from: nil, to: nil)) == .unauthorized)
    #expect(try bench.fault(usage, .usage(org: nil, from: nil, to: nil)) == nil)
  }

  @Test("A suspended tenant does nothing until it is resumed; its streams are ended")
  func suspend() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let token = bench.bearer(try bench.jwt(acme))
    bench.effects = []
    _ = try bench.admin(.suspendTenant(org: "acme"))
    #expect(bench.effects.contains { if case .tenantEnded = $0 { true } else { false } })
    bench.restart()
    #expect(try bench.fault(acme, .authenticate) == .tenantSuspended)
    #expect(try bench.fault(token, .authenticate) == .tenantSuspended)
    _ = try bench.admin(.resumeTenant(org: "acme"))
    #expect(try bench.fault(acme, .authenticate) == nil)
    #expect(try bench.fault(TokenBench.admin, .suspendTenant(org: "nobody")) == .notFound)
  }

  @Test(
    "A deleted tenant leaves nothing behind, and its keys stay dead when the name is taken again")
  func delete() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let other = try bench.tenant("other")
    let third = try bench.tenant("third")
    let token = bench.bearer(try bench.jwt(acme))
    let invite = try bench.invite(acme, "acme/a/b", uses: 5)
    let foreign = try bench.invite(other, "other/a/b", uses: 5)
    _ = try bench.joined(other, "acme/a/b", invite)
    _ = try bench.joined(acme, "other/a/b", foreign)
    _ = try bench.joined(third, "other/a/b", foreign)
    #expect(bench.disk[.state]?.count == 3)
    bench.effects = []
    _ = try bench.admin(.deleteTenant(org: "acme"))
    let revoked = bench.effects.compactMap {
      if case .grantRevoked(_, let tenant) = $0 { tenant } else { nil }
    }
    #expect(Set(revoked) == [TenantID(org: "other"), TenantID(org: "acme")])
    #expect(bench.disk[.state]?.count == 1, "the grant it did not take part in stays")
    for restarts in 0..<2 {
      if restarts > 0 { bench.restart() }
      #expect(try bench.fault(acme, .authenticate) == .unauthorized)
      #expect(try bench.fault(token, .authenticate) == .unauthorized)
      #expect(try bench.fault(other, bench.join("acme/a/b", invite)) == .notFound)
      #expect(try bench.fault(other, .pending(channel: "acme/a/b")) == .forbidden)
    }
    guard
      case .tenantCreated(let view, _, let key?) = try bench.admin(
        .createTenant(org: "acme", withKey: true))
    else { throw TokenBench.Unexpected() }
    #expect(view.generation == 2 && view.keys == 1 && view.channels == 0)
    #expect(try bench.fault(acme, .authenticate) == .unauthorized)
    #expect(try bench.fault(token, .authenticate) == .unauthorized)
    #expect(try bench.fault(bench.bearer(key), .pending(channel: "other/a/b")) == .forbidden)
    #expect(try bench.fault(third, .pending(channel: "other/a/b")) == nil)
  }

  @Test("Tenants and channels are listed in pages, in order")
  func lists() throws {
    var bench = TokenBench()
    let names = (0..<25).map { "t\($0 < 10 ? "0" : "")\($0)" }
    var owner = TokenBench.admin
    for name in names.shuffled(using: &bench.random) {
      let caller = try bench.tenant(name)
      if name == "t07" { owner = caller }
    }
    for restarts in 0..<2 {
      if restarts > 0 { bench.restart() }
      var found: [String] = []
      var after = ""
      repeat {
        guard
          case .tenants(let page, let next) = try bench.admin(.listTenants(after: after, limit: 10))
        else { throw TokenBench.Unexpected() }
        found += page.map(\.org)
        after = next
      } while !after.isEmpty
      #expect(found == names)
    }
    for number in 0..<25 {
      _ = try bench.ask(owner, .registerChannel(name: "t07/n/c\(number + 100)"))
    }
    _ = try bench.admin(.grant(channel: "t07/n/c100", org: "t01"))
    for caller in [owner, TokenBench.admin] {
      for prefix in ["", "t07/n/c11"] {
        var found: [String] = []
        var after = ""
        repeat {
          guard
            case .channels(let page, let next) = try bench.ask(
              caller, .listChannels(prefix: prefix, after: after, limit: 7))
          else { throw TokenBench.Unexpected() }
          #expect(page.count <= 7)
          found += page.map(\.name)
          after = next
        } while !after.isEmpty
        #expect(found == (100..<125).map { "t07/n/c\($0)" }.filter { $0.hasPrefix(prefix) })
      }
    }
  }

  @Test("A quota of tokens holds for the day, over restarts")
  func tokenQuota() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    _ = try bench.admin(.setQuota(org: "acme", TokenQuota(tokensPerDay: 3)))
    _ = try bench.jwt(acme)
    _ = try bench.jwt(acme)
    bench.restart()
    _ = try bench.jwt(acme)
    #expect(try bench.fault(acme, .issueToken(ttlSeconds: nil, scope: nil)) == .quotaExceeded)
    guard case .usage(_, let days) = try bench.ask(acme, .usage(org: nil, from: nil, to: nil))
    else {
      throw TokenBench.Unexpected()
    }
    #expect(days.map(\.count.tokens) == [3])
    bench.pass(.seconds(86_400))
    _ = try bench.jwt(acme)
    guard
      case .usage(_, let two) = try bench.ask(
        acme, .usage(org: nil, from: UsageRow.day(bench.now.wall) - 1, to: nil))
    else { throw TokenBench.Unexpected() }
    #expect(two.map(\.count.tokens) == [3, 1])
  }

  @Test("A tenant over its messages makes nothing new but may finish what it began")
  func overQuota() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let invite = try bench.invite(acme, "acme/a/b", uses: 2)
    let id = try bench.joined(acme, "acme/a/b", invite)
    _ = try bench.admin(.setQuota(org: "acme", TokenQuota(messagesPerDay: 10)))
    let tenant = TenantID(org: "acme")
    let day = UsageRow.day(bench.now.wall)
    bench.engine.receiveUsageAdded(tenant, day: day, messages: 9, bytes: 100)
    #expect(!bench.engine.isOverQuota(tenant, wall: bench.now.wall))
    bench.engine.receiveUsageAdded(tenant, day: day, messages: 1, bytes: 1)
    #expect(bench.engine.isOverQuota(tenant, wall: bench.now.wall))
    for action: TokenAction in [
      .registerChannel(name: "acme/a/c"),
      .createInvite(channel: "acme/a/b", maxUses: 1, ttlSeconds: 9),
      bench.join("acme/a/b", invite), .issueToken(ttlSeconds: nil, scope: nil),
      .createKey(org: nil, label: "", scopes: [], ttlSeconds: nil),
    ] {
      #expect(try bench.fault(acme, action) == .quotaExceeded, "\(action)")
    }
    #expect(try bench.fault(acme, .registerChannel(name: "acme/a/b")) == nil)
    #expect(try bench.poll(acme, "acme/a/b").count == 1)
    #expect(try bench.fault(acme, .putWelcome(request: id, welcome: [1])) == nil)
    #expect(try bench.welcome(acme, id).0 == .completed)
    #expect(!bench.engine.isOverQuota(tenant, wall: bench.now.wall + .seconds(86_400)))
    #expect(try bench.fault(acme, .usage(org: nil, from: day, to: day - 1)) == .badRequest)
    #expect(try bench.fault(acme, .usage(org: nil, from: 0, to: .max)) == .badRequest)
  }

  @Test("Usage rows of all writers are summed")
  func usageRows() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let day = UsageRow.day(bench.now.wall)
    for writer: UInt64 in [50, 51] {
      bench.disk[.tokens]![UsageRow.key(tenant: TenantID(org: "acme"), day: day, writer: writer)] =
        UsageRow.value(messages: 10, bytes: 100, tokens: writer - 49)
    }
    bench.restart()
    #expect(bench.engine.damagedRows == 0)
    guard case .account(let view, _) = try bench.ask(acme, .account(org: nil)) else { return }
    #expect(view.today == UsageCount(messages: 20, bytes: 200, tokens: 3))
  }

  @Test("A key that calls too often is told so; its polls have a budget of their own")
  func rates() throws {
    var settings = TokenSettings(writer: 1)
    settings.callsPerSecond = 10
    settings.callsBurst = 20
    var bench = TokenBench(settings: settings)
    let acme = try bench.tenant("acme")
    let other = try bench.tenant("other")
    var answers = try (0..<40).map { _ in try bench.fault(acme, .account(org: nil)) }
    #expect(answers.filter { $0 == nil }.count == 20)
    #expect(answers.last == .rateLimited)
    #expect(try bench.fault(other, .account(org: nil)) == nil)
    for _ in 0..<500 { #expect(try bench.fault(acme, .pending(channel: "acme/a/b")) == nil) }
    bench.pass(.seconds(1))
    answers = try (0..<40).map { _ in try bench.fault(acme, .account(org: nil)) }
    #expect(answers.filter { $0 == nil }.count == 10)
  }

  @Test("Failed authentications are limited by peer and never keep a good key out")
  func failures() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let answers = try (0..<100).map { _ in
      try bench.fault(.bearer("sk_live_x", peer: "10.0.0.1"), .authenticate)
    }
    #expect(answers.filter { $0 == .unauthorized }.count == Limits.failuresBurst)
    #expect(answers.last == .rateLimited)
    #expect(try bench.fault(acme, .authenticate) == nil)
    #expect(try bench.fault(.bearer("x", peer: "10.0.0.2"), .authenticate) == .unauthorized)
  }

  @Test("A hidden key acts for the only tenant, and for nobody among several")
  func redacted() throws {
    var bench = TokenBench()
    #expect(try bench.fault(.redacted(peer: "p"), .authenticate) == .unauthorized)
    _ = try bench.tenant("acme")
    #expect(try bench.fault(.redacted(peer: "p"), .registerChannel(name: "acme/a/b")) == nil)
    #expect(try bench.fault(.redacted(peer: "p"), .issueToken(ttlSeconds: nil, scope: nil)) == nil)
    _ = try bench.tenant("other")
    #expect(try bench.fault(.redacted(peer: "p"), .authenticate) == .unauthorized)
  }

  @Test("Keys have a bound; dead ones make room")
  func keyBound() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    var last = ""
    for _ in 1..<Limits.keysPerTenant {
      guard
        case .keyCreated(let view, _) = try bench.ask(
          acme, .createKey(org: nil, label: "", scopes: [], ttlSeconds: nil))
      else { throw TokenBench.Unexpected() }
      last = view.id
    }
    let more = TokenAction.createKey(org: nil, label: "", scopes: [], ttlSeconds: nil)
    #expect(try bench.fault(acme, more) == .conflict)
    _ = try bench.ask(acme, .revokeKey(id: last))
    #expect(try bench.fault(acme, more) == nil)
    #expect(try bench.fault(acme, more) == .conflict)
  }

  @Test("A damaged row stands for nothing and is counted")
  func damage() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let key = try #require(bench.disk[.tokens]!.keys.first { $0.first == RowKind.key })
    bench.disk[.tokens]![key]!.removeLast()
    bench.disk[.tokens]![[0x7a, 1, 2]] = [1]
    bench.disk[.tokens]![[]] = []
    bench.restart()
    #expect(bench.engine.damagedRows == 3)
    #expect(try bench.fault(acme, .authenticate) == .unauthorized)
    #expect(try bench.fault(TokenBench.admin, .account(org: "acme")) == nil)
  }
}
