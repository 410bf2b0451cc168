public import Base

/// A node as the ring knows it. Addresses are not here: they are membership's.
public struct RingNode: Hashable, Sendable {
  /// Where a node stands in its life.
  public enum State: UInt8, Sendable, CaseIterable {
    /// Staged, not in an applied map yet; applying makes it `serving`.
    case joining = 1
    case serving = 2
    /// Keeps what it has until it is handed over, and gets nothing.
    case draining = 3
    /// Will not come back: what it owns is given away without a hand-over.
    case gone = 4
  }

  public var id: NodeID
  /// 1 to `Limits.nodeLabelBytes` bytes of UTF-8, like `n1`.
  public var name: String
  /// 0 to `Limits.nodeWeight`: its share of the slots is its part of the sum of all weights.
  public var weight: Int
  /// What fails together. A slot's copies are put in distinct zones where that is possible.
  public var zone: String
  public var region: String
  public var state: State

  public init(
    id: NodeID, name: String, weight: Int = 100, zone: String = "", region: String = "",
    state: State = .joining
  ) {
    self.id = id
    self.name = name
    self.weight = weight
    self.zone = zone
    self.region = region
    self.state = state
  }

  /// Whether a plan puts slots on it.
  public var takesSlots: Bool { weight > 0 && (state == .joining || state == .serving) }

  /// What zones are told apart by: equal zone names in two regions are two zones.
  var place: Place { Place(region: region, zone: zone) }

  /// nil when a plan may take it, else why not.
  public var trouble: String? {
    if let outOfBounds { return outOfBounds }
    for (what, text) in [("name", name), ("zone", zone), ("region", region)]
    where text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
      return "node \(id): its \(what) has control characters"
    }
    return nil
  }

  /// nil when it keeps the bounds of its fields, else what breaks them. A map that is stored has to keep only these.
  var outOfBounds: String? {
    if id == .none { return "a node without an id" }
    if name.isEmpty { return "a node without a name" }
    if !(0...Limits.nodeWeight).contains(weight) {
      return
        "node \(name.prefix(Limits.nodeLabelBytes)): weight \(weight), where 0 to \(Limits.nodeWeight) is possible"
    }
    for text in [name, zone, region] where text.utf8.count > Limits.nodeLabelBytes {
      return
        "node \(name.prefix(Limits.nodeLabelBytes)): a name of \(text.utf8.count) bytes, where "
        + "\(Limits.nodeLabelBytes) are possible"
    }
    return nil
  }
}

/// A zone of a region.
struct Place: Hashable, Comparable {
  var region: String
  var zone: String
  static func < (a: Place, b: Place) -> Bool { (a.region, a.zone) < (b.region, b.zone) }
  var text: String { region.isEmpty ? zone : "\(region)/\(zone)" }
}

/// Why the ring refuses.
public enum RingError: Error, Equatable, Sendable {
  /// The ring is at another version than the caller thinks; look again, then decide.
  case conflict(current: UInt64)
  /// No node takes slots.
  case noNode
  /// A node or the list of nodes breaks a bound; the text says which.
  case badNodes(String)
  /// Nothing is staged.
  case nothingStaged
  /// Some slots' only archive is on a node that is gone: their number. Apply says so on purpose or not at all.
  case wouldLose(slots: Int)
  /// No such version is remembered.
  case unknownVersion
  /// No such slot, or no such move of it.
  case noSuchMove
}
