public import Base
public import Codec

/// Where publishes to one name go: the sessions of this loop that subscribed to it, and how many the other
/// loops have. The name of an instance reaches those subscribed to just it; the name with the id NULL
/// reaches every session under its prefix.
public final class SlimRoute {
  /// Sessions of this loop, each once.
  public internal(set) var members: [SessionID] = []
  /// Sessions of the other loops, by loop.
  public internal(set) var remote: [UInt32]
  public internal(set) var remoteTotal: UInt32 = 0
  /// False: no longer in the table; look the name up again.
  public internal(set) final var isCurrent = true
  public let family: Family
  public let name: SlimName
  /// The last count the other loops were told.
  var told: UInt32 = 0
  var isChanged = false
  var turn: UInt = 0

  init(_ family: Family, _ name: SlimName, loops: Int) {
    self.family = family
    self.name = name
    remote = [UInt32](repeating: 0, count: loops)
  }

  /// Where an anycast goes.
  public enum Pick: Equatable {
    case none
    case local(SessionID)
    case loop(Int)
  }

  /// One of all subscribers but the sender, in turn. `onlyLocal`: for a message another loop passed on.
  public func pick(from sender: SessionID?, onlyLocal: Bool = false) -> Pick {
    let here = UInt(members.count)
    let total = here + (onlyLocal ? 0 : UInt(remoteTotal))
    var tries = 0
    while total > 0, tries < 2 {
      var at = turn % total
      turn = (at &+ 1) % total
      tries += 1
      if at < here {
        if members[Int(at)] == sender { continue }
        return .local(members[Int(at)])
      }
      at -= here
      for loop in remote.indices {
        if at < UInt(remote[loop]) { return .loop(loop) }
        at -= UInt(remote[loop])
      }
    }
    return .none
  }
}

/// Tells the other loops how many sessions of this one a name has.
public struct SlimInterest: Sendable, Equatable {
  public var family: Family
  public var name: SlimName
  public var count: UInt32

  public init(family: Family, name: SlimName, count: UInt32) {
    self.family = family
    self.name = name
    self.count = count
  }
}

/// The SLIM names of one loop's sessions, for both wire families, which never meet: who subscribed to
/// what, and which other loops have subscribers. No I/O, no clock; a host asks it for a route and does
/// the sending.
public struct SlimRouter {
  public let loop: Int
  public let loops: Int
  /// Rises whenever a route is made: a look-up that found nothing holds until then.
  public private(set) var version: UInt64 = 0
  /// Names with subscribers, here or elsewhere.
  public var names: Int { tables[0].count + tables[1].count }
  private var tables: [[SlimName: SlimRoute]] = [[:], [:]]
  private var peers: [SessionID: Peer] = [:]
  private var changed: [SlimRoute] = []

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
    guard loops > 1, !route.isChanged else { return }
    route.isChanged = true
    changed.append(route)
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

  /// Another loop has so many sessions for a name now.
  public mutating func receiveInterest(_ interest: SlimInterest, from other: Int) {
    guard other != loop, (0..<loops).contains(other) else { return }
    if interest.count == 0, tables[table(interest.family)][interest.name] == nil { return }
    let route = made(interest.family, interest.name)
    route.remoteTotal = route.remoteTotal - route.remote[other] + interest.count
    route.remote[other] = interest.count
    drop(route)
  }
}
