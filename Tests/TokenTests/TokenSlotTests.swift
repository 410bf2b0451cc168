import Base
import Digest
import TestKit
import Testing

@testable import Token

@Suite("Tenants on several nodes", .timeLimit(.minutes(1))) struct TokenSlotTests {
  private let name = "acme/team/general"

  /// What a tenant's own node says of its key.
  private func proven(_ bench: inout TokenBench, _ key: TokenCaller) throws -> TokenCaller {
    guard
      case .proven(let proven) = try bench.ask(key, .prove(polling: false))
    else { throw TokenBench.Unexpected() }
    return .proven(proven)
  }

  private func ask(
    _ bench: inout TokenBench, _ caller: TokenCaller, _ action: TokenAction
  ) -> Result<TokenReply, Fault> {
    let token = bench.send(caller, action)
    return bench.replies.removeValue(forKey: token) ?? .failure(Fault(.internal, "no reply"))
  }

  @Test("A join of another node's tenant: proved there, decided here")
  func join() throws {
    var (one, two) = (TokenBench(), TokenBench())
    let acme = try one.tenant("acme")
    let bob = try two.tenant("bob")
    let invite = try one.invite(acme, name)
    let caller = try proven(&two, bob)
    one.effects = []
    guard
      case .success(.joinRequested(let id)) = ask(
        &one, caller,
        .join(channel: name, token: invite, keyPackage: TokenBench.keyPackage, identity: "b"))
    else { throw TokenBench.Unexpected() }
    let channel = ChannelID(family: .skytale, name: name)
    #expect(
      one.effects.contains {
        if case .granted(channel, TenantID(org: "bob"), org: "bob") = $0 { true } else { false }
      })
    guard case .success(.welcome(_, .pending, [])) = ask(&one, caller, .getWelcome(request: id))
    else { throw TokenBench.Unexpected() }
    // What it was granted it sees, and nothing of its own is looked for here.
    guard
      case .success(.channels(let list, next: "")) = ask(
        &one, caller, .listChannels(prefix: "", after: "", limit: 10))
    else { throw TokenBench.Unexpected() }
    #expect(list.map(\.name) == [name] && !list[0].owned)
    for action: TokenAction in [
      .endChannel(name: name), .createInvite(channel: name, maxUses: 1, ttlSeconds: 9),
      .revokeGrant(channel: name, org: "bob"), .account(org: "acme"),
      .suspendTenant(org: "acme"), .grantKnown(channel: name, org: "zeta"),
      .dropGrantee(TenantID(org: "bob"), before: nil),
    ] {
      guard case .failure(let fault) = ask(&one, caller, action) else {
        Issue.record("\(action) was done for another tenant")
        continue
      }
      #expect(fault.code == .forbidden, "\(action)")
    }
    // Over its quota at home: it makes nothing here.
    guard case .proven(var told) = caller else { throw TokenBench.Unexpected() }
    told.isOverQuota = true
    guard
      case .failure(let over) = ask(
        &one, .proven(told),
        .join(channel: name, token: invite, keyPackage: TokenBench.keyPackage, identity: "b"))
    else { throw TokenBench.Unexpected() }
    #expect(over.code == .quotaExceeded || over.code == .notFound)
    // Its tenant is deleted at home: nothing of it is left.
    guard
      case .success(.grantsDropped(0)) = ask(
        &one, .admin(actor: "cluster"),
        .dropGrantee(TenantID(org: "bob"), before: Instant(nanoseconds: 5))),
      case .success(.grantsDropped(1)) = ask(
        &one, .admin(actor: "cluster"), .dropGrantee(TenantID(org: "bob"), before: nil))
    else { throw TokenBench.Unexpected() }
    guard case .failure(let gone) = ask(&one, caller, .getChannel(name: name)) else {
      throw TokenBench.Unexpected()
    }
    #expect(gone.code == .forbidden)
  }

  @Test("A proof is refused to what may not ask, and counts against the budget")
  func proofs() throws {
    var settings = TokenSettings(writer: 1)
    settings.callsPerSecond = 1
    settings.callsBurst = 3
    settings.pollsPerSecond = 1
    settings.pollsBurst = 5
    var bench = TokenBench(settings: settings)
    let key = try bench.tenant("acme")
    for _ in 0..<3 { _ = try proven(&bench, key) }
    #expect(try bench.fault(key, .prove(polling: false)) == .rateLimited)
    #expect(try bench.fault(key, .prove(polling: true)) == nil)
    #expect(try bench.fault(bench.bearer("sk_live_x"), .prove(polling: true)) == .unauthorized)
    guard case .failure(let fault) = ask(&bench, .admin(actor: "a"), .prove(polling: false)) else {
      throw TokenBench.Unexpected()
    }
    #expect(fault.code == .badRequest)
  }

  @Test("A grant to a tenant that another node vouches for")
  func grant() throws {
    var bench = TokenBench()
    _ = try bench.tenant("acme")
    guard
      case .failure(let unknown) = ask(
        &bench, .admin(actor: "a"), .grant(channel: name, org: "zeta")),
      case .success(.grant(let view)) = ask(
        &bench, .admin(actor: "a"), .grantKnown(channel: name, org: "zeta"))
    else { throw TokenBench.Unexpected() }
    #expect(unknown.code == .notFound && view.org == "zeta" && !view.joined)
  }

  @Test(
    "Accounts move with their slot: as they were there, gone here, and what all must know with them"
  )
  func move() throws {
    var (one, two) = (TokenBench(), TokenBench())
    let acme = try one.tenant("acme")
    let bob = try one.tenant("bob")
    let invite = try one.invite(acme, name)
    _ = try one.joined(bob, name, invite)
    guard
      case .keyCreated(let extra, _) = try one.ask(
        acme, .createKey(org: nil, label: "x", scopes: [], ttlSeconds: nil)),
      try one.fault(acme, .revokeKey(id: extra.id)) == nil
    else { throw TokenBench.Unexpected() }
    let tenant = TenantID(org: "acme")
    let before = Set(one.engine.notices(wall: one.now.wall))
    #expect(before.count == 2)
    // Exactly what the ranges of its slot hold.
    let ranges = TokenRows.ranges(tenant.slot)
    let rows = (one.disk[.tokens] ?? [:]).filter { row in
      ranges.contains {
        !row.key.lexicographicallyPrecedes($0.from) && row.key.lexicographicallyPrecedes($0.to)
      }
    }.map { Row(key: $0.key, value: $0.value) }
    let theirs = (one.disk[.tokens] ?? [:]).keys.filter {
      Array($0[1..<9]) == bigEndianBytes(tenant.value)
    }
    #expect(rows.count == theirs.count && !rows.isEmpty)
    #expect(!one.engine.isChanging { $0.slot == tenant.slot })
    two.engine.receiveRows(rows.shuffled(using: &two.random), at: two.now)
    one.engine.forget { $0.slot == tenant.slot }
    #expect(!one.engine.knows(tenant) && one.engine.knows(TenantID(org: "bob")))
    #expect(two.engine.knows(tenant) && two.engine.damagedRows == 0)
    #expect(Set(two.engine.notices(wall: two.now.wall)) == before)
    #expect(one.engine.notices(wall: one.now.wall).isEmpty)
    #expect(try one.fault(acme, .account(org: nil)) == .unauthorized)
    guard case .account(let view, _) = try two.ask(acme, .account(org: nil)) else {
      throw TokenBench.Unexpected()
    }
    #expect(view.channels == 1 && view.keys == 1)
    #expect(try two.poll(acme, name).count == 1, "joins wait on")
    let list = try one.admin(.listTenants(after: "", limit: 9))
    guard case .tenants(let left, next: "") = list else { throw TokenBench.Unexpected() }
    #expect(left.map(\.org) == ["bob"])
    // Back again, beside what is there.
    one.engine.receiveRows(rows, at: one.now)
    #expect(Set(one.engine.notices(wall: one.now.wall)) == before)
  }

  @Test("While a change of a tenant is written its slot is not handed over")
  func changing() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    bench.holdsWrites = true
    bench.send(acme, .registerChannel(name: name))
    #expect(bench.engine.isChanging { $0 == TenantID(org: "acme") })
    #expect(!bench.engine.isChanging { $0 == TenantID(org: "bob") })
    bench.holdsWrites = false
    bench.finishWrites()
    #expect(!bench.engine.isChanging { _ in true })
  }

  @Test("The ranges of all slots hold every tenant once")
  func ranges() {
    for value: UInt64 in [1, 0xfff, 1 << 52, (1 << 52) - 1, .max, .max - 1, 1 << 63] {
      let tenant = TenantID(value)
      let key = [RowKind.tenant] + bigEndianBytes(value)
      let holders = (0..<4_096).filter { slot in
        TokenRows.ranges(UInt16(slot)).contains {
          !key.lexicographicallyPrecedes($0.from) && key.lexicographicallyPrecedes($0.to)
        }
      }
      #expect(holders == [Int(tenant.slot)])
    }
  }
}
