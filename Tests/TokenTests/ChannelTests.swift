import Base
import Digest
import TestKit
import Testing

@testable import Token

@Suite(.timeLimit(.minutes(1))) struct ChannelTests {
  private let name = "acme/team/general"

  @Test("The handshake: invite, join, poll, welcome")
  func handshake() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let bob = try bench.tenant("bob")
    #expect(
      try bench.poll(acme, name).isEmpty, "an unregistered channel of one's own has no requests")
    let invite = try bench.invite(acme, name)
    #expect(invite.hasPrefix("skt_inv_"))
    bench.effects = []
    let id = try bench.joined(bob, name, invite)
    #expect(id.hasPrefix("jr_"))
    let channel = ChannelID(family: .skytale, name: name)
    #expect(
      bench.effects.contains {
        if case .granted(channel, TenantID(org: "bob"), org: "bob") = $0 { true } else { false }
      })
    let grant = GrantRow.key(channel: channel, tenant: TenantID(org: "bob"))
    #expect(bench.disk[.state]?[grant] == Array("bob".utf8))
    #expect(try bench.welcome(bob, id).0 == .pending)
    let served = try bench.poll(acme, name)
    #expect(served.map(\.id) == [id] && served[0].identity == "bob")
    #expect(served[0].keyPackage.starts(with: TokenBench.keyPackage))
    #expect(try bench.poll(acme, name).isEmpty, "leased")
    #expect(try bench.poll(bob, name).isEmpty, "whoever joined polls too, and has nothing to serve")
    #expect(try bench.fault(acme, .putWelcome(request: id, welcome: [1, 2])) == nil)
    #expect(try bench.fault(acme, .putWelcome(request: id, welcome: [1, 2])) == nil)
    #expect(try bench.fault(acme, .putWelcome(request: id, welcome: [1, 3])) == .conflict)
    bench.restart()
    let (status, welcome) = try bench.welcome(bob, id)
    #expect(status == .completed && welcome == [1, 2])
    bench.live(seconds: 10)
    #expect(try bench.poll(acme, name).isEmpty)
    guard case .channel(let view, false) = try bench.ask(bob, .registerChannel(name: name)) else {
      throw TokenBench.Unexpected()
    }
    #expect(!view.owned && view.grants.isEmpty)
  }

  @Test("Names: what is a channel, and whose")
  func names() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    for good in [
      name, "acme/a/b/c/d", "acme/ü/x y", "acme/\u{338}/\u{301}",
      "acme/a/" + String(repeating: "x", count: 249),
    ] {
      #expect(try bench.fault(acme, .registerChannel(name: good)) == nil, "\(good)")
      guard case .channel(let view, false) = try bench.ask(acme, .registerChannel(name: good))
      else {
        throw TokenBench.Unexpected()
      }
      #expect(view.name.utf8.elementsEqual(good.utf8))
    }
    for bad in [
      "", "acme", "acme/a", "acme//b", "/a/b", "acme/a/", "Acme/a/b",
      "acme/a/" + String(repeating: "x", count: 250),
    ] {
      #expect(try bench.fault(acme, .registerChannel(name: bad)) == .badChannelName, "\(bad)")
    }
    #expect(try bench.fault(acme, .registerChannel(name: "other/a/b")) == .forbidden)
    // Two spellings of one letter are two channels.
    _ = try bench.ask(acme, .registerChannel(name: "acme/\u{e9}/x"))
    guard case .channel(_, true) = try bench.ask(acme, .registerChannel(name: "acme/e\u{301}/x"))
    else { throw TokenBench.Unexpected() }
  }

  @Test("Invites that do not fit are refused, and spend nothing")
  func badInvites() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let bob = try bench.tenant("bob")
    for (uses, seconds) in [(0, 60), (-1, 60), (10_001, 60), (1, 0), (1, -1), (1, 2_592_001)]
      as [(Int, Int64)]
    {
      let action = TokenAction.createInvite(channel: name, maxUses: uses, ttlSeconds: seconds)
      #expect(try bench.fault(acme, action) == .badRequest)
    }
    let make = TokenAction.createInvite(channel: name, maxUses: 1, ttlSeconds: 60)
    #expect(try bench.fault(bob, make) == .forbidden)
    let invite = try bench.invite(acme, name, seconds: 60)
    let flipped = invite.dropLast(2) + (invite.hasSuffix("a") ? "bb" : "aa")
    for bad in ["", "skt_inv_", String(flipped), invite.uppercased(), invite + "a"] {
      #expect(try bench.fault(bob, bench.join(name, bad)) == .notFound)
    }
    #expect(try bench.fault(bob, bench.join("acme/team/other", invite)) == .notFound)
    #expect(try bench.fault(bob, bench.join("bob/team/general", invite)) == .notFound)
    for (bytes, fault) in [
      ([], .badRequest), ([0, 1, 0, 3, 1], .badRequest), ([0, 1, 0], .badRequest),
      ([0, 1, 0, 5] + [UInt8](repeating: 0, count: Limits.keyPackageBytes), .tooLarge),
    ] as [([UInt8], FaultCode)] {
      let join = TokenAction.join(channel: name, token: invite, keyPackage: bytes, identity: "b")
      #expect(try bench.fault(bob, join) == fault)
    }
    let longName = String(repeating: "b", count: Limits.identityBytes + 1)
    #expect(try bench.fault(bob, bench.join(name, invite, identity: longName)) == .badRequest)
    bench.pass(.seconds(59))
    _ = try bench.joined(bob, name, invite)
    #expect(try bench.fault(bob, bench.join(name, invite)) == .notFound, "used up")
    let short = try bench.invite(acme, name, uses: 9, seconds: 60)
    bench.pass(.seconds(60))
    #expect(try bench.fault(bob, bench.join(name, short)) == .notFound, "expired")
    let revoked = try bench.invite(acme, name, uses: 9)
    guard case .invites(let list) = try bench.ask(acme, .listInvites(channel: name)) else { return }
    #expect(list.count == 1)
    #expect(try bench.fault(bob, .revokeInvite(id: list[0].id)) == .notFound)
    _ = try bench.ask(acme, .revokeInvite(id: list[0].id))
    #expect(try bench.fault(bob, bench.join(name, revoked)) == .notFound)
  }

  @Test(
    "The last use of an invite is won once, however the writes go",
    arguments: 0..<40 as Range<UInt64>)
  func races(seed: UInt64) throws {
    var bench = TokenBench()
    bench.random = SimRandom(seed: seed)
    let acme = try bench.tenant("acme")
    let uses = bench.random.within(1...4)
    let invite = try bench.invite(acme, name, uses: uses)
    let joiners = try (0..<4).map { try bench.tenant("joiner\($0)") }
    bench.holdsWrites = true
    var asked: Set<UInt64> = []
    // Joins that a written change has let in; over crashes the rows tell.
    for _ in 0..<40 {
      switch bench.random.below(6) {
      case 0...2: asked.insert(bench.send(bench.random.pick(joiners), bench.join(name, invite)))
      case 3: if !bench.waiting.isEmpty { bench.failWrite() }
      case 4: bench.finishWrites()
      default: if bench.random.oneIn(4) { bench.restart(losing: bench.random.oneIn(2)) }
      }
      let won = bench.disk[.tokens]!.keys.count { $0.first == RowKind.join }
      #expect(won <= uses)
    }
    bench.finishWrites()
    #expect(bench.engine.isIdle)
    let stored = bench.disk[.tokens]!.keys.count { $0.first == RowKind.join }
    #expect(stored <= uses)
    for token in asked {
      if case .success(let reply) = bench.replies[token], case .joinRequested(let id) = reply {
        let record = try #require(JoinText.read(id)).record
        #expect(
          bench.disk[.tokens]!.keys.contains {
            $0.suffix(8).elementsEqual(bigEndianBytes(record.value))
          })
      }
    }
    bench.holdsWrites = false
    // What is left can be spent, and no more.
    var left = 0
    while try bench.fault(joiners[0], bench.join(name, invite)) == nil { left += 1 }
    #expect(stored + left == uses)
  }

  @Test("Nothing is seen or answered before it is written, and a failed write leaves nothing")
  func writeFirst() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    bench.holdsWrites = true
    let first = bench.send(acme, .registerChannel(name: name))
    let second = bench.send(acme, .registerChannel(name: name))
    #expect(bench.replies[first] == nil && bench.replies[second] == nil)
    #expect(try bench.fault(acme, .getChannel(name: name)) == .notFound)
    #expect(bench.waiting.count == 1, "the second waits for the first")
    bench.failWrite()
    guard case .failure(let fault)? = bench.replies[first] else { throw TokenBench.Unexpected() }
    #expect(fault.code == .diskFull)
    #expect(bench.waiting.count == 1)
    bench.finishWrites()
    guard case .success(.channel(_, created: true))? = bench.replies[second] else {
      throw TokenBench.Unexpected()
    }
    // Written but the answer was never given: the rows stand, and asking again is harmless.
    _ = bench.send(acme, .registerChannel(name: "acme/a/lost"))
    _ = bench.send(acme, .registerChannel(name: "acme/a/next"))
    bench.restart(losing: false)
    bench.holdsWrites = false
    #expect(try bench.fault(acme, .getChannel(name: "acme/a/lost")) == nil)
    #expect(try bench.fault(acme, .getChannel(name: "acme/a/next")) == .notFound)
  }

  @Test("Tenants do not wait for one another; deleting one waits for all")
  func locks() throws {
    var bench = TokenBench()
    let a = try bench.tenant("a")
    let b = try bench.tenant("b")
    bench.holdsWrites = true
    bench.send(a, .registerChannel(name: "a/x/y"))
    bench.send(b, .registerChannel(name: "b/x/y"))
    #expect(bench.waiting.count == 2)
    let delete = bench.send(TokenBench.admin, .deleteTenant(org: "a"))
    let late = bench.send(b, .registerChannel(name: "b/x/z"))
    let dead = bench.send(a, .registerChannel(name: "a/x/z"))
    #expect(bench.waiting.count == 2)
    bench.finishWrites()
    #expect(bench.engine.isIdle)
    guard case .success? = bench.replies[delete], case .success? = bench.replies[late],
      case .failure(let fault)? = bench.replies[dead]
    else { throw TokenBench.Unexpected() }
    #expect(fault.code == .unauthorized)
    #expect(
      !bench.disk[.tokens]!.keys.contains {
        $0.first == RowKind.channel
          && $0[1...].starts(with: bigEndianBytes(TenantID(org: "a").value))
      })
  }

  @Test("One request a poll, the least served first, leased in between")
  func rotation() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let invite = try bench.invite(acme, name, uses: 10)
    var ids: [String] = []
    for number in 0..<3 {
      ids.append(try bench.joined(acme, name, invite, identity: "agent\(number)"))
      bench.pass(.milliseconds(10))
    }
    var served: [String] = []
    for _ in 0..<3 { served += try bench.poll(acme, name).map(\.id) }
    #expect(served == ids, "oldest first, each to one poller only")
    #expect(try bench.poll(acme, name).isEmpty)
    for id in ids { _ = try bench.welcome(acme, id) }
    bench.pass(.seconds(Int64(Limits.pendingLeaseSeconds)))
    // A newcomer was served least.
    let late = try bench.joined(acme, name, invite, identity: "late")
    #expect(try bench.poll(acme, name).map(\.id) == [late])
    #expect(try bench.poll(acme, name).map(\.id) == [ids[0]])
  }

  @Test("A request that nobody polls for expires; one that is polled for does not")
  func expiry() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let invite = try bench.invite(acme, name, uses: 10)
    let left = try bench.joined(acme, name, invite, identity: "left")
    let kept = try bench.joined(acme, name, invite, identity: "kept")
    for _ in 0..<130 {
      bench.live(seconds: 1)
      #expect(try bench.welcome(acme, kept).0 == .pending)
    }
    #expect(try bench.poll(acme, name).map(\.id) == [kept])
    #expect(try bench.poll(acme, name).isEmpty)
    #expect(try bench.welcome(acme, left).0 == .expired)
    bench.restart()
    #expect(try bench.welcome(acme, left).0 == .expired)
    #expect(
      try bench.fault(acme, .putWelcome(request: left, welcome: [7])) == nil,
      "the owner's commit stands")
    #expect(try bench.welcome(acme, left) == (.completed, [7]))
    #expect(try bench.welcome(acme, kept).0 == .pending)
    bench.live(seconds: Limits.joinKeptSeconds + Limits.pendingExpirySeconds + 10)
    #expect(try bench.fault(acme, .getWelcome(request: left)) == .notFound)
    bench.live(seconds: 2 * Limits.joinKeptSeconds)
    #expect(!bench.disk[.tokens]!.keys.contains { $0.first == RowKind.join })
    bench.live(seconds: 3_600)
    #expect(!bench.disk[.tokens]!.keys.contains { $0.first == RowKind.invite })
  }

  @Test("A sweep that cannot be written is made later")
  func sweepFails() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let invite = try bench.invite(acme, name, uses: 10)
    let id = try bench.joined(acme, name, invite)
    bench.holdsWrites = true
    bench.live(seconds: Limits.pendingExpirySeconds + 1)
    #expect(bench.waiting.count == 1)
    bench.failWrite()
    #expect(try bench.welcome(acme, id).0 == .expired)
    bench.live(seconds: 6)
    #expect(bench.waiting.count == 1)
    bench.holdsWrites = false
    bench.finishWrites()
    bench.live(seconds: Limits.joinKeptSeconds + 5)
    #expect(try bench.fault(acme, .getWelcome(request: id)) == .notFound)
  }

  @Test(
    "Who may do what with a channel: its tenant, one that was granted it, one that lost it, a stranger"
  )
  func matrix() throws {
    var bench = TokenBench()
    let own = try bench.tenant("acme")
    let granted = try bench.tenant("granted")
    let revoked = try bench.tenant("revoked")
    let foreign = try bench.tenant("foreign")
    let invite = try bench.invite(own, name, uses: 10)
    let id = try bench.joined(granted, name, invite)
    _ = try bench.joined(revoked, name, invite)
    bench.effects = []
    _ = try bench.ask(own, .revokeGrant(channel: name, org: "revoked"))
    #expect(
      bench.effects.contains {
        if case .grantRevoked(_, TenantID(org: "revoked")) = $0 { true } else { false }
      })
    let table: [(TokenAction, FaultCode?, FaultCode?, FaultCode?)] = [
      // own, granted, foreign (and revoked)
      (.registerChannel(name: name), nil, nil, .forbidden),
      (.getChannel(name: name), nil, nil, .forbidden),
      (.listGrants(channel: name), nil, .forbidden, .forbidden),
      (.listInvites(channel: name), nil, .forbidden, .forbidden),
      (.createInvite(channel: name, maxUses: 1, ttlSeconds: 60), nil, .forbidden, .forbidden),
      (.pending(channel: name), nil, nil, .forbidden),
      (.putWelcome(request: id, welcome: [5]), nil, .notFound, .notFound),
      (.getWelcome(request: id), .notFound, nil, .notFound),
      (.revokeGrant(channel: name, org: "nobody"), .notFound, .forbidden, .forbidden),
    ]
    for (action, forOwn, forGranted, forOthers) in table {
      #expect(try bench.fault(own, action) == forOwn, "own \(action)")
      #expect(try bench.fault(granted, action) == forGranted, "granted \(action)")
      #expect(try bench.fault(foreign, action) == forOthers, "foreign \(action)")
      #expect(try bench.fault(revoked, action) == forOthers, "revoked \(action)")
    }
    #expect(try bench.fault(foreign, .endChannel(name: name)) == .forbidden)
    #expect(try bench.fault(granted, .endChannel(name: name)) == .forbidden)
    bench.restart()
    #expect(try bench.fault(revoked, .getChannel(name: name)) == .forbidden)
    #expect(try bench.fault(granted, .getChannel(name: name)) == nil)
    _ = try bench.ask(own, .endChannel(name: name))
    #expect(bench.disk[.state]!.isEmpty)
    #expect(try bench.fault(granted, .getChannel(name: name)) == .forbidden)
    #expect(try bench.fault(own, .getChannel(name: name)) == .notFound)
    #expect(try bench.fault(foreign, bench.join(name, invite)) == .notFound)
  }

  @Test("An operator's grant is a grant, and is made once")
  func operatorGrant() throws {
    var bench = TokenBench()
    _ = try bench.tenant("acme")
    let bob = try bench.tenant("bob")
    _ = try bench.admin(.grant(channel: name, org: "bob"))
    let rows = bench.disk
    _ = try bench.admin(.grant(channel: name, org: "bob"))
    #expect(bench.disk == rows)
    #expect(try bench.fault(bob, .getChannel(name: name)) == nil)
    #expect(try bench.fault(TokenBench.admin, .grant(channel: name, org: "nobody")) == .notFound)
    #expect(try bench.fault(TokenBench.admin, .grant(channel: name, org: "acme")) == .badRequest)
    #expect(
      try bench.fault(TokenBench.admin, .grant(channel: "nobody/a/b", org: "bob")) == .notFound)
    _ = try bench.admin(.revokeGrant(channel: name, org: "bob"))
    #expect(try bench.fault(bob, .getChannel(name: name)) == .forbidden)
  }

  @Test("Waiting joins of a channel have a bound")
  func pendingBound() throws {
    var bench = TokenBench()
    let acme = try bench.tenant("acme")
    let invite = try bench.invite(acme, name, uses: Limits.inviteMaxUses)
    for _ in 0..<Limits.pendingPerChannel { _ = try bench.joined(acme, name, invite) }
    #expect(try bench.fault(acme, bench.join(name, invite)) == .conflict)
    let served = try bench.poll(acme, name)
    _ = try bench.ask(acme, .putWelcome(request: served[0].id, welcome: [1]))
    #expect(try bench.fault(acme, bench.join(name, invite)) == nil)
  }

  @Test(
    "A random life of many tenants is the same after a restart", arguments: 0..<10 as Range<UInt64>)
  func reload(seed: UInt64) throws {
    var bench = TokenBench()
    bench.random = SimRandom(seed: seed)
    var callers: [TokenCaller] = []
    for number in 0..<4 { callers.append(try bench.tenant("t\(number)")) }
    var invites: [(String, String)] = []
    var ids: [String] = []
    for _ in 0..<150 {
      let org = bench.random.below(4)
      let channel = "t\(org)/n/c\(bench.random.below(3))"
      let caller = callers[bench.random.below(4)]
      switch bench.random.below(9) {
      case 0: _ = try bench.fault(callers[org], .registerChannel(name: channel))
      case 1, 2:
        invites.append((channel, try bench.invite(callers[org], channel, uses: 2)))
      case 3, 4:
        guard let (name, token) = invites.randomElement(using: &bench.random) else { continue }
        let sent = bench.send(caller, bench.join(name, token))
        if case .success(.joinRequested(let id))? = bench.replies[sent] { ids.append(id) }
      case 5:
        if let id = ids.randomElement(using: &bench.random) {
          _ = try bench.fault(callers[org], .putWelcome(request: id, welcome: [1]))
        }
      case 6: _ = try bench.fault(callers[org], .revokeGrant(channel: channel, org: "t1"))
      case 7: _ = try bench.fault(callers[org], .endChannel(name: channel))
      default: bench.live(seconds: 20)
      }
    }
    let before = try picture(&bench, ids)
    bench.restart()
    #expect(bench.engine.damagedRows == 0)
    #expect(try picture(&bench, ids) == before)
    // The two copies of a grant agree.
    let copies = bench.disk[.tokens]!.keys.filter { $0.first == RowKind.grant }.map {
      $0.suffix(24)
    }
    #expect(Set(copies) == Set((bench.disk[.state] ?? [:]).keys.map { $0.suffix(24) }))
  }

  private func picture(_ bench: inout TokenBench, _ ids: [String]) throws -> [String] {
    var lines: [String] = []
    guard
      case .channels(let channels, _) = try bench.admin(
        .listChannels(prefix: "", after: "", limit: 0))
    else { throw TokenBench.Unexpected() }
    for channel in channels { lines.append("\(channel.name) \(channel.grants)") }
    for id in ids {
      switch Result(catching: { try bench.ask(TokenBench.admin, .getWelcome(request: id)) }) {
      case .success(.welcome(_, let status, let bytes)): lines.append("\(id) \(status) \(bytes)")
      default: lines.append("\(id) gone")
      }
    }
    for number in 0..<4 {
      for channel in 0..<3 {
        guard
          case .invites(let list) = try bench.admin(
            .listInvites(channel: "t\(number)/n/c\(channel)"))
        else { throw TokenBench.Unexpected() }
        lines += list.map { "\($0.id) \($0.uses) \($0.maxUses)" }
      }
    }
    return lines
  }
}
