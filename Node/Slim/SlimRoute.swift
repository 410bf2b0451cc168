public import Base
public import Codec

/// Where publishes to one name go: the sessions of this loop that subscribed to it, and how many the other
/// loops and nodes have. The name of an instance reaches those subscribed to just it; the name with the id
/// NULL reaches every session under its prefix.
public final class SlimRoute {
  /// Sessions of this loop, each once.
  public internal(set) var members: [SessionID] = []
  /// Sessions of the other loops, by loop.
  public internal(set) var remote: [UInt32]
  /// Sessions of other nodes, by link; empty until one has any.
  public internal(set) var links: [UInt32] = []
  /// Of all loops and nodes but this loop.
  public internal(set) var remoteTotal: UInt32 = 0
  /// Of all other nodes.
  public internal(set) var linkTotal: UInt32 = 0
  /// False: no longer in the table; look the name up again.
  public internal(set) final var isCurrent = true
  public let family: Family
  public let name: SlimName
  /// The last count the other loops were told, and the last the other nodes were.
  var told: UInt32 = 0
  var toldNodes: UInt32 = 0
  var isChanged = false
  var isChangedForNodes = false
  /// Whose turn it is, for each scope: they go round different numbers of subscribers.
  private var turns: (UInt32, UInt32, UInt32) = (0, 0, 0)

  init(_ family: Family, _ name: SlimName, loops: Int) {
    self.family = family
    self.name = name
    remote = [UInt32](repeating: 0, count: loops)
  }

  /// Sessions of this node.
  public var nodeTotal: UInt32 { UInt32(members.count) + remoteTotal - linkTotal }

  /// Where an anycast goes.
  public enum Pick: Equatable {
    case none
    case local(SessionID)
    /// Of this node; or from `SlimRouter.firstLink` on, of another.
    case loop(Int)
  }

  /// Who may be picked.
  public enum Scope {
    /// Everyone: for a message that comes from its sender.
    case all
    /// Subscribers of this node: for one that came from another node.
    case node
    /// Sessions of this loop: for one that another loop passed on.
    case loop
  }

  /// One of the subscribers but the sender, in turn.
  public func pick(from sender: SessionID?, of scope: Scope = .all) -> Pick {
    let here = UInt32(members.count)
    let total: UInt32
    switch scope {
    case .all: total = here + remoteTotal
    case .node: total = nodeTotal
    case .loop: total = here
    }
    var tries = 0
    while total > 0, tries < 2 {
      var at = next(scope, of: total)
      tries += 1
      if at < here {
        if members[Int(at)] == sender { continue }
        return .local(members[Int(at)])
      }
      at -= here
      for loop in remote.indices {
        if at < remote[loop] { return .loop(loop) }
        at -= remote[loop]
      }
      for link in links.indices {
        if at < links[link] { return .loop(SlimRouter.firstLink + link) }
        at -= links[link]
      }
    }
    return .none
  }

  private func next(_ scope: Scope, of total: UInt32) -> UInt32 {
    func step(_ turn: inout UInt32) -> UInt32 {
      let at = turn % total
      turn = (at + 1) % total
      return at
    }
    switch scope {
    case .all: return step(&turns.0)
    case .node: return step(&turns.1)
    case .loop: return step(&turns.2)
    }
  }

  /// Another loop, or node, has so many sessions now.
  func receive(_ count: UInt32, from place: SlimPlace) {
    switch place {
    case .loop(let loop):
      remoteTotal = remoteTotal - remote[loop] + count
      remote[loop] = count
    case .link(let link):
      if link >= links.count {
        if count == 0 { return }
        links += [UInt32](repeating: 0, count: link + 1 - links.count)
      }
      remoteTotal = remoteTotal - links[link] + count
      linkTotal = linkTotal - links[link] + count
      links[link] = count
    }
  }

  /// What it said last.
  func count(of place: SlimPlace) -> UInt32 {
    switch place {
    case .loop(let loop): remote[loop]
    case .link(let link): link < links.count ? links[link] : 0
    }
  }
}

/// Where sessions are that are not of this loop.
enum SlimPlace {
  case loop(Int)
  case link(Int)
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
