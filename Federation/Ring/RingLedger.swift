internal import Base

/// What operators work on: the current map, what is staged, and earlier layouts. A value: who hosts the metadata keeps
/// `current` and `staged` as two rows and each of `history` as one, and writes them by compare-and-swap.
public struct RingLedger: Hashable, Sendable {
  public private(set) var current: RingMap
  /// The nodes as they are to be. nil: nothing staged.
  public private(set) var staged: [RingNode]?
  public private(set) var stagedReplicas: Int?
  /// Earlier layouts as they were when the next was applied, oldest first, at most `Limits.ringHistory`.
  public private(set) var history: [RingMap]
  /// The version that a staged revert goes back to.
  public private(set) var reverting: UInt64?

  public init(
    current: RingMap = RingMap(), staged: [RingNode]? = nil, stagedReplicas: Int? = nil,
    history: [RingMap] = [], reverting: UInt64? = nil
  ) {
    self.current = current
    self.staged = staged
    self.stagedReplicas = stagedReplicas
    self.history = Array(history.suffix(Limits.ringHistory))
    self.reverting = reverting
  }

  /// The nodes that a change starts from: the staged ones, else the current ones.
  public var wanted: [RingNode] { staged ?? current.nodes }

  /// Adds a node, or changes the one with its id.
  public mutating func stage(_ node: RingNode) throws(RingError) {
    var nodes = wanted
    if let i = nodes.firstIndex(where: { $0.id == node.id }) {
      nodes[i] = node
    } else {
      nodes.append(node)
    }
    try stage(nodes)
  }

  /// Replaces all nodes.
  public mutating func stage(_ nodes: [RingNode], replicas: Int? = nil) throws(RingError) {
    let sorted = nodes.sorted { $0.id < $1.id }
    try RingMap.check(sorted, replicas: replicas ?? stagedReplicas ?? current.replicas)
    staged = sorted
    if let replicas { stagedReplicas = replicas }
  }

  /// What applying now would do. With nothing staged: an evening-out of the current nodes, mostly empty.
  public func plan() throws(RingError) -> RingPlan {
    let like = reverting.flatMap { version in history.last { $0.version == version } }
    return try current.plan(nodes: wanted, replicas: stagedReplicas, like: like)
  }

  /// Makes the plan the map. `version` is that of the current map: when another apply came first it is another, and
  /// this one is refused with `conflict`. `allowingLoss`: also when slots begin empty since their owner is gone.
  @discardableResult
  public mutating func apply(version: UInt64, allowingLoss: Bool = false) throws(RingError)
    -> RingPlan
  {
    guard version == current.version else { throw .conflict(current: current.version) }
    if staged == nil { throw .nothingStaged }
    let plan = try plan()
    if !plan.abandoned.isEmpty, !allowingLoss { throw .wouldLose(slots: plan.abandoned.count) }
    guard let next = plan.applied(to: current) else {
      preconditionFailure("a plan of this map is refused by it")
    }
    if current.version > 0 { history = Array((history + [current]).suffix(Limits.ringHistory)) }
    current = next
    discard()
    return plan
  }

  /// Drops what is staged.
  public mutating func discard() {
    staged = nil
    stagedReplicas = nil
    reverting = nil
  }

  /// Stages the nodes and placements of an earlier version, to be planned and applied like any change. Nodes that are
  /// gone stay gone.
  public mutating func stageRevert(to version: UInt64) throws(RingError) {
    guard let old = history.last(where: { $0.version == version }) else { throw .unknownVersion }
    let gone = Set(current.nodes.filter { $0.state == .gone }.map(\.id))
    var nodes = old.nodes.filter { !gone.contains($0.id) }
    // What joined since keeps its slots until they are handed back.
    for node in current.nodes where !nodes.contains(where: { $0.id == node.id }) {
      var leaving = node
      if leaving.state != .gone { leaving.state = .draining }
      nodes.append(leaving)
    }
    try stage(nodes, replicas: old.replicas)
    reverting = version
  }

  /// Takes a map that another wrote: a hand-over that ended, or a layout applied elsewhere. False when it is not newer.
  @discardableResult
  public mutating func receive(_ map: RingMap) -> Bool {
    guard map.revision > current.revision, map.slotBits == current.slotBits else { return false }
    if map.version > current.version, current.version > 0 {
      history = Array((history + [current]).suffix(Limits.ringHistory))
    }
    current = map
    return true
  }
}
