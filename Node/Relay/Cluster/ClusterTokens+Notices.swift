import Base
import Loop
import Report
import Ring
import Store
import Token

/// A grant, as its row is named.
struct GrantKey: Hashable, Sendable {
  var channel: ChannelID
  var tenant: TenantID
}

/// A book on its way to a node.
struct Telling {
  /// More was said meanwhile.
  var again = false
}

/// What a node still says of tenants whose slot has left.
struct Parting {
  /// Tells it from the next of the same slot.
  var serial: UInt64
  var said: [Notice]
}

/// A reply that waits until these nodes have heard what is in the book up to `number`.
struct Untold {
  var number: UInt64
  var nodes: Set<NodeID>
  var reply: () -> Void
}

// Keys and tenants that end, grants, quotas: said by the tenant's node in its book, which every other node has. News
// is sent at once; every second each node reads on by itself, so that what was lost is made up for. A node that
// starts reads whole books.
extension ClusterTokens {
  /// How long a node still says what it said of tenants that left.
  static let parting = Interval.seconds(3)

  // MARK: telling

  /// Tells all nodes, at the end of this turn.
  func say(_ notice: Notice, stands: Bool = true) {
    if case .granted(let channel, let tenant, _) = notice {
      // The accounts have written the row themselves.
      let key = GrantKey(channel: channel, tenant: tenant)
      if stands { grants.insert(key) } else { grants.remove(key) }
    }
    guard board.say(notice, stands: stands) else { return }
    scheduleTelling()
  }

  /// Whoever asks before knows this node's last telling: it may have been away while tenants went elsewhere, and must not
  /// say again what has ended since. After the map of this run is here.
  func openBook() {
    let isKnown = map.version > 0
    board.own.replace(
      authority.notices { !isKnown || host.owner(of: $0.slot) == host.own })
    isSaying = true
    scheduleTelling()
  }

  private func scheduleTelling() {
    if isTelling { return }
    isTelling = true
    loop.post { [self] in
      isTelling = false
      for peer in others { tell(peer) }
    }
  }

  private func tell(_ peer: NodeID) {
    guard isSaying else { return giveUpTelling(peer) }
    if telling[peer] != nil {
      telling[peer]!.again = true
      return
    }
    let page = board.own.page(epoch: board.own.epoch, after: told[peer] ?? 0)
    if page.lines.isEmpty { return receiveTold(peer, upTo: page.to) }
    telling[peer] = Telling()
    host.calls.call(peer, "Told", page.encoded, timeout: .seconds(1), on: loop) { [self] result in
      let again = telling.removeValue(forKey: peer)?.again ?? false
      guard case .success(let bytes) = result, let place = try? NoticeQuery(decoding: bytes) else {
        // It reads for itself when it can be reached.
        return giveUpTelling(peer)
      }
      let isHere = place.epoch == board.own.epoch
      let moved = isHere && place.after > (told[peer] ?? 0)
      told[peer] = isHere ? place.after : 0
      if isHere { receiveTold(peer, upTo: place.after) }
      if again || page.more && moved {
        tell(peer)
      } else if !isHere || place.after < page.to {
        giveUpTelling(peer)
      }
    }
  }

  /// Calls `reply` once every other node has heard what is in the book now, or cannot be reached.
  func whenTold(_ reply: @escaping () -> Void) {
    let number = board.own.last
    let nodes = Set(others.filter { told[$0] ?? 0 < number })
    if nodes.isEmpty { return reply() }
    untold.append(Untold(number: number, nodes: nodes, reply: reply))
    // Who was given up before may not be asked by itself any more.
    scheduleTelling()
  }

  private func receiveTold(_ peer: NodeID, upTo number: UInt64) {
    release(peer) { $0.number <= number }
  }

  private func giveUpTelling(_ peer: NodeID) { release(peer) { _ in true } }

  private func release(_ peer: NodeID, where isDone: (Untold) -> Bool) {
    var ready: [() -> Void] = []
    for place in untold.indices where isDone(untold[place]) {
      untold[place].nodes.remove(peer)
      if untold[place].nodes.isEmpty { ready.append(untold[place].reply) }
    }
    untold.removeAll { $0.nodes.isEmpty }
    for reply in ready { reply() }
  }

  // MARK: hearing

  func serveNotices(_ bytes: [UInt8], from peer: NodeID, _ reply: @escaping ClusterCalls.Reply) {
    guard let query = try? NoticeQuery(decoding: bytes) else {
      return reply(.failure(Fault(.badRequest)))
    }
    guard isSaying else { return reply(.failure(Fault(.unavailable, "this node starts"))) }
    if query.epoch == board.own.epoch, query.after <= board.own.last {
      told[peer] = query.after
      receiveTold(peer, upTo: query.after)
    }
    reply(.success(board.own.page(epoch: query.epoch, after: query.after).encoded))
  }

  func receiveTold(_ bytes: [UInt8], from peer: NodeID, _ reply: @escaping ClusterCalls.Reply) {
    guard let page = try? NoticePage(decoding: bytes) else {
      return reply(.failure(Fault(.badRequest)))
    }
    // News that does not go on where the reading stopped: it is read from there.
    let place = board.place(peer)
    if page.epoch == place.epoch ? page.from <= place.last : page.from == 0 {
      take(page, from: peer)
    } else {
      readBook(of: peer)
    }
    let now = board.place(peer)
    reply(.success(NoticeQuery(epoch: now.epoch, after: now.last).encoded))
  }

  /// Reads on in a node's book, to its end.
  func readBook(of peer: NodeID) {
    guard asking.insert(peer).inserted else { return }
    let place = board.place(peer)
    let query = NoticeQuery(epoch: place.epoch, after: place.last)
    host.calls.call(peer, "Notices", query.encoded, timeout: .seconds(2), on: loop) {
      [self] result in
      asking.remove(peer)
      guard case .success(let bytes) = result else { return }
      guard let page = try? NoticePage(decoding: bytes) else {
        node.log.error("a node's notices cannot be read", ["peer": .of("\(peer)")])
        return
      }
      take(page, from: peer)
      if page.more { readBook(of: peer) }
    }
  }

  private func take(_ page: NoticePage, from peer: NodeID) {
    var page = page
    let place = board.place(peer)
    if page.epoch == place.epoch, page.from < place.last, page.to <= place.last { return }
    if page.epoch == place.epoch, page.from != 0, page.from < place.last {
      // The two ways crossed: lines that are known already change nothing when they come again.
      page.from = place.last
    }
    guard let lines = board.receive(page, from: peer) else { return }
    carry(out: lines)
  }

  func carry(out lines: [NoticeLine]) {
    for line in lines { carry(out: line) }
  }

  private func carry(out line: NoticeLine) {
    switch line.notice {
    case .keyEnded(_, let key):
      // A key never comes back.
      if line.stands { authority.end(key) }
    case .tenant(let tenant, let state, let created):
      if line.stands, state != .active { authority.end(tenant) } else { authority.letBack(tenant) }
      guard line.stands else { return }
      authority.submitHere(
        TokenRequest(
          .admin(actor: "cluster"),
          .dropGrantee(tenant, before: state == .deleted ? nil : created))
      ) { [node] result in
        if case .failure(let fault) = result {
          node.log.error("grants of a tenant that is gone stay", ["why": .of(fault)])
        }
      }
    case .granted(let channel, let tenant, let org):
      keep(GrantKey(channel: channel, tenant: tenant), org, granted: line.stands)
    case .slow(let tenant):
      if line.stands { slowElsewhere.insert(tenant) } else { slowElsewhere.remove(tenant) }
    }
  }

  // MARK: accounts that move

  /// The accounts of tenants of these slots came here.
  func sayArrived(_ slots: Set<UInt16>) {
    let notices = authority.notices { slots.contains($0.slot) }
    let standing = Set(notices.map(\.subject))
    for slot in slots {
      // It was here a moment ago: what ended elsewhere meanwhile.
      for old in partings.removeValue(forKey: slot)?.said ?? []
      where !standing.contains(old.subject) {
        takeBack(old)
      }
    }
    for notice in notices {
      if case .granted(let channel, let tenant, let org) = notice {
        // A node that came a moment ago may not have its copy yet.
        keep(GrantKey(channel: channel, tenant: tenant), org, granted: true)
      }
      say(notice)
    }
  }

  /// The accounts of the slot are another node's, who says from now on what this one `said`. Until the other nodes have
  /// read it there, this one says it too: nothing must seem taken back on the way. What that node does take back stands
  /// so much longer.
  func sayDeparted(_ slot: UInt16, _ said: [Notice]) {
    let said = said.filter { board.own.stands($0.subject) }
    if said.isEmpty { return }
    lastParting += 1
    let serial = lastParting
    partings[slot] = Parting(serial: serial, said: said)
    loop.schedule(after: ClusterTokens.parting) { [self] in
      guard partings[slot]?.serial == serial else { return }
      for old in partings.removeValue(forKey: slot)?.said ?? [] { takeBack(old) }
    }
  }

  private func takeBack(_ notice: Notice) {
    if board.say(notice, stands: false) { scheduleTelling() }
    if !board.stands(notice.subject) { carry(out: NoticeLine(notice, stands: false)) }
  }

  // MARK: copies of grants

  /// What the store has, from before this start.
  func readGrants() {
    let (first, end) = ([GrantRow.kind], [GrantRow.kind + 1])
    try? unsafe node.store.scan(.state, from: first, to: end) { key, _ in
      if let grant = unsafe GrantKey(row: [UInt8](key)) { grants.insert(grant) }
      return true
    }
  }

  /// The channel's shard and the streams of this node look grants up in rows here, whoever's the channel is.
  private func keep(_ key: GrantKey, _ org: String, granted: Bool) {
    let row = GrantRow.key(channel: key.channel, tenant: key.tenant)
    var set = WriteSet()
    if granted {
      guard grants.insert(key).inserted else { return }
      set.put(.state, key: row, value: Array(org.utf8))
    } else {
      guard grants.remove(key) != nil else { return }
      set.delete(.state, key: row)
    }
    node.store.submit(set, synced: false) { [self] result in
      loop.post { [self] in
        if case .failure(let fault) = result {
          node.log.error("a grant of another node's channel cannot be kept", ["why": .of(fault)])
        }
        authority.changeGrant(key.channel, key.tenant, granted: granted)
      }
    }
  }

  /// Once every node's book is read: copies that nobody says any more are from before, and end.
  func compareGrants() {
    let revision = map.revision
    guard isSaying, compared != revision, others.allSatisfy({ board.isWhole($0) }) else { return }
    compared = revision
    for key in grants where !board.stands(.grant(key.channel, key.tenant)) {
      keep(key, "", granted: false)
    }
  }
}

extension GrantKey {
  /// nil: not a grant row's key.
  init?(row key: [UInt8]) {
    guard key.count == 25, key[0] == GrantRow.kind else { return nil }
    self.init(
      channel: SlotRows.channel(key), tenant: TenantID(UInt64(bigEndianBytes: key[17..<25])))
  }
}
