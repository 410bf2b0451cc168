public import Base
public import Codec

/// The SLIM names of one loop's sessions, for both wire families, which never meet: who subscribed to
/// what, and which other loops have subscribers. No I/O, no clock; a host asks it for a route and does
/// the sending.
///
/// Another node is one more loop, numbered from `firstLink` on. Every loop hears what other nodes have; one loop, for
/// which `tellsNodes` is set, tells them what this node has, since it hears of all loops.
public struct SlimRouter {
  /// The number of the first link, as other loops have numbers.
  public static let firstLink = 128
  /// Links that have numbers: further up are those of no loop at all.
  public static let links = 126
  public let loop: Int
  public let loops: Int
  /// Rises whenever a route is made: a look-up that found nothing holds until then.
  public private(set) var version: UInt64 = 0
  /// Names with subscribers, here or elsewhere.
  public var names: Int { tables[0].count + tables[1].count }
  private var tables: [[SlimName: SlimRoute]] = [[:], [:]]
  private var peers: [SessionID: Peer] = [:]
  private var changed: [SlimRoute] = []
  private var changedForNodes: [SlimRoute] = []
  /// Sums up what all loops of this node have: `takeNodeInterest`.
  public private(set) var tellsNodes = false

  /// A session's subscriptions.
  private final class Peer {
    let family: Family
    var places: [SlimName: Place] = [:]
    init(_ family: Family) { self.family = family }
  }
  /// Why a session stands in a route, and where.
  private struct Place {
    /// References without an id, and those with one: a Subscribe that is repeated counts once.
    var unnamed: UInt32 = 0
    var ids: [UInt64] = []
    /// Instances under this name, when it is the one with the id NULL.
    var implied: UInt32 = 0
    var index = 0
    var isEmpty: Bool { unnamed == 0 && ids.isEmpty && implied == 0 }
  }

  public init(loop: Int, loops: Int) {
    precondition(loops > 0 && (0..<loops).contains(loop), "loop \(loop) of \(loops)")
    self.loop = loop
    self.loops = loops
  }

  private func table(_ family: Family) -> Int { family == .slimB ? 1 : 0 }

  /// The route of a name; nil: nobody subscribed to it.
  public func route(_ family: Family, _ name: SlimName) -> SlimRoute? {
    tables[table(family)][name]
  }

  /// Names a session subscribed to.
  public func subscriptions(of session: SessionID) -> Int { peers[session]?.places.count ?? 0 }

  public func isSubscribed(_ session: SessionID, _ name: SlimName) -> Bool {
    guard let place = peers[session]?.places[name] else { return false }
    return place.unnamed > 0 || !place.ids.isEmpty
  }

  // MARK: subscribing

  /// Adds a reference. `id`: the message's subscription_id, 0 for none.
  /// - Returns: the fault when a bound is reached; nothing has changed then.
  public mutating func receiveSubscribe(
    _ session: SessionID, _ family: Family, _ name: SlimName, id: UInt64
  ) -> Fault? {
    let peer = peers[session] ?? Peer(family)
    var place = peer.places[name] ?? Place()
    let isNew = place.isEmpty
    if id != 0, place.ids.contains(id) { return nil }
    if isNew, peer.places.count >= Limits.slimNamesPerSession {
      return Fault(.tooLarge, "a stream has at most \(Limits.slimNamesPerSession) subscriptions")
    }
    if isNew, names >= Limits.slimNames {
      return Fault(.tooLarge, "the node routes at most \(Limits.slimNames) names")
    }
    guard place.ids.count < Limits.slimReferences, place.unnamed < Limits.slimReferences else {
      return Fault(.tooLarge, "a name has at most \(Limits.slimReferences) references of a stream")
    }
    peers[session] = peer
    let wasExplicit = place.unnamed > 0 || !place.ids.isEmpty
    if id == 0 { place.unnamed += 1 } else { place.ids.append(id) }
    if isNew { place.index = join(session, family, name) }
    peer.places[name] = place
    if !wasExplicit, !name.isAny { imply(session, peer, name.any) }
    return nil
  }

  /// An instance's name also stands under its prefix.
  private mutating func imply(_ session: SessionID, _ peer: Peer, _ any: SlimName) {
    var place = peer.places[any] ?? Place()
    if place.isEmpty { place.index = join(session, peer.family, any) }
    place.implied += 1
    peer.places[any] = place
  }

  /// Takes a reference back. After a reconnect apps subscribe without an id and later unsubscribe with the
  /// first one: an unknown id takes an unnamed reference.
  public mutating func receiveUnsubscribe(
    _ session: SessionID, _ family: Family, _ name: SlimName, id: UInt64
  ) {
    guard let peer = peers[session], var place = peer.places[name],
      place.unnamed > 0 || !place.ids.isEmpty
    else { return }
    if id != 0, let at = place.ids.firstIndex(of: id) {
      place.ids.remove(at: at)
    } else if place.unnamed > 0 {
      place.unnamed -= 1
    } else if id == 0 {
      place.ids.removeLast()
    } else {
      return
    }
    peer.places[name] = place
    if place.unnamed == 0, place.ids.isEmpty {
      settle(session, peer, name)
      if !name.isAny {
        peer.places[name.any]?.implied -= 1
        settle(session, peer, name.any)
      }
    }
    if peer.places.isEmpty { peers[session] = nil }
  }

  /// Takes the session out of a route it has no reason to stand in any more.
  private mutating func settle(_ session: SessionID, _ peer: Peer, _ name: SlimName) {
    guard let place = peer.places[name], place.isEmpty else { return }
    leave(session, peer.family, name, at: place.index)
    peer.places[name] = nil
  }

  /// The stream is gone, and its subscriptions with it.
  public mutating func receiveClose(_ session: SessionID) {
    guard let peer = peers.removeValue(forKey: session) else { return }
    for (name, place) in peer.places { leave(session, peer.family, name, at: place.index) }
  }

  // MARK: routes

  private mutating func join(_ session: SessionID, _ family: Family, _ name: SlimName) -> Int {
    let route = made(family, name)
    route.members.append(session)
    note(route)
    return route.members.count - 1
  }

  private mutating func leave(
    _ session: SessionID, _ family: Family, _ name: SlimName, at index: Int
  ) {
    guard let route = tables[table(family)][name] else { return }
    precondition(
      index < route.members.count && route.members[index] == session, "a place in a route is lost")
    let last = route.members.removeLast()
    if last != session {
      route.members[index] = last
      peers[last]?.places[name]?.index = index
    }
    note(route)
    drop(route)
  }

  private mutating func made(_ family: Family, _ name: SlimName) -> SlimRoute {
    let t = table(family)
    if let known = tables[t][name] { return known }
    let route = SlimRoute(family, name, loops: loops)
    tables[t][name] = route
    version &+= 1
    return route
  }

  private mutating func drop(_ route: SlimRoute) {
    guard route.members.isEmpty, route.remoteTotal == 0 else { return }
    route.isCurrent = false
    tables[table(route.family)][route.name] = nil
  }

  private mutating func note(_ route: SlimRoute) {
    if tellsNodes { noteForNodes(route) }
    guard loops > 1, !route.isChanged else { return }
    route.isChanged = true
    changed.append(route)
  }

  private mutating func noteForNodes(_ route: SlimRoute) {
    guard !route.isChangedForNodes else { return }
    route.isChangedForNodes = true
    changedForNodes.append(route)
  }

  // MARK: other loops

  /// What the other loops must hear since the last call.
  public mutating func takeInterest() -> [SlimInterest] {
    if changed.isEmpty { return [] }
    var out: [SlimInterest] = []
    for route in changed {
      route.isChanged = false
      // One that was dropped may have been made again: the one in the table speaks.
      let now = tables[table(route.family)][route.name]
      let count = UInt32(now?.members.count ?? 0)
      if now !== route || count != route.told {
        out.append(SlimInterest(family: route.family, name: route.name, count: count))
      }
      now?.told = count
    }
    changed.removeAll(keepingCapacity: true)
    return out
  }

  /// Another loop has so many sessions for a name now; or another node, whose count is checked.
  public mutating func receiveInterest(_ interest: SlimInterest, from other: Int) {
    guard let place = place(other) else { return }
    var count = interest.count
    let isKnown = tables[table(interest.family)][interest.name] != nil
    if case .link = place {
      // So that no sum overflows, and no node fills the table of another.
      count = min(count, SlimRouter.mostOfNode)
      if !isKnown, names >= Limits.slimNames { return }
    }
    if count == 0, !isKnown { return }
    let route = made(interest.family, interest.name)
    route.receive(count, from: place)
    if tellsNodes, case .loop = place { noteForNodes(route) }
    drop(route)
  }

  /// Subscribers of one name that one node may claim; more count as so many.
  private static let mostOfNode: UInt32 = 1 << 24

  private func place(_ other: Int) -> SlimPlace? {
    if other >= SlimRouter.firstLink {
      return other < SlimRouter.firstLink + SlimRouter.links
        ? .link(other - SlimRouter.firstLink) : nil
    }
    return other != loop && (0..<loops).contains(other) ? .loop(other) : nil
  }

  // MARK: other nodes

  /// Another node is out of reach, or has forgotten what it said: it has no subscribers.
  /// - Parameter link: from `firstLink` on.
  public mutating func receiveGone(_ link: Int) {
    guard let place = place(link), case .link = place else { return }
    for table in tables.indices {
      var empty: [SlimRoute] = []
      for route in tables[table].values where route.count(of: place) > 0 {
        route.receive(0, from: place)
        if route.members.isEmpty, route.remoteTotal == 0 { empty.append(route) }
      }
      for route in empty { drop(route) }
    }
  }

  /// This loop tells the other nodes what all loops of this one have, from now on.
  public mutating func tellNodes() {
    if tellsNodes { return }
    tellsNodes = true
    for route in tables.joined().lazy.map(\.value) where route.nodeTotal > 0 {
      noteForNodes(route)
    }
  }

  /// What the other nodes must hear since the last call.
  public mutating func takeNodeInterest() -> [SlimInterest] {
    if changedForNodes.isEmpty { return [] }
    var out: [SlimInterest] = []
    for route in changedForNodes {
      route.isChangedForNodes = false
      let now = tables[table(route.family)][route.name]
      let count = now?.nodeTotal ?? 0
      if now !== route || count != route.toldNodes {
        out.append(SlimInterest(family: route.family, name: route.name, count: count))
      }
      now?.toldNodes = count
    }
    changedForNodes.removeAll(keepingCapacity: true)
    return out
  }

  /// What the other nodes were told of a name: what one must hear that was not there yet. Later changes follow from it.
  public func toldNodes(_ family: Family, _ name: SlimName) -> SlimInterest {
    SlimInterest(family: family, name: name, count: route(family, name)?.toldNodes ?? 0)
  }

  /// The names they were told of, without counts: those may change until they are asked for.
  public func toldNames() -> [SlimInterest] {
    tables.joined().lazy.filter { $0.value.toldNodes > 0 }
      .map { SlimInterest(family: $0.value.family, name: $0.key, count: 0) }
  }
}
