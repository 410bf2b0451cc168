internal import Base
internal import Engine
internal import Registry

/// Bugs to plant in a simulated cluster: of its engines, or of the host that carries out what they say.
public enum ClusterPlant: String, Sendable, CaseIterable {
  /// Subscribers get a message before its write is confirmed.
  case deliverBeforeAppend = "deliver-before-append"
  /// The gate lets a second commit of an epoch through.
  case secondCommit = "second-commit"
  case tombstoneDropped = "tombstone-dropped"
  case lwwByWallClock = "lww-by-wall-clock"
  /// A node does what others ask of a slot that it does not own.
  case staleMapAccepted = "stale-map-accepted"
  /// When a link has forgotten, what was asked over it is not asked again.
  case interestLost = "interest-lost-on-reconnect"
  /// Writes are confirmed before they are made.
  case acknowledgedBeforeAppend = "ack-before-append"
  /// Writes are said to be synced, and are not.
  case syncSkipped = "sync-skipped"
  /// The map is written without comparing what was read.
  case mapWithoutCompare = "map-without-compare"
  /// A restarted node begins its links with its last life's number, and says that it has heard of its peers.
  case incarnationReused = "incarnation-reused"
  /// What was asked of a slot while it was sealed is forgotten when that is over.
  case heldLost = "held-lost"
  /// Credit that a session gives back is lost on its way to the owner.
  case creditLost = "credit-lost"
  /// A subscription that is asked again begins at the head.
  case cursorFromHead = "cursor-from-head"
  /// A node hears of a revoked key when that happens, or never.
  case noticesToldOnce = "notices-told-once"
  /// A node that starts does not say again which keys it has ended.
  case revocationForgotten = "revocation-forgotten"

  var engine: EngineFaults {
    switch self {
    case .deliverBeforeAppend: .deliverBeforeAppend
    case .secondCommit: .secondCommit
    default: []
    }
  }

  var registry: RegistryFaults {
    switch self {
    case .tombstoneDropped: .tombstoneDropped
    case .lwwByWallClock: .wallClock
    default: []
    }
  }
}

/// What a seed decides before a run begins. Times in nanoseconds.
struct ClusterConfig {
  var nodes: Int
  var channels: Int
  var agents: Int
  var messages: Int
  var peers: Int
  var latency: ClosedRange<Int>
  var lossPercent: Int
  var writeDelay: ClosedRange<Int>
  /// Mean time between two of each; 0: none.
  var crashEvery: Int64
  var powerCuts: Bool
  var cutEvery: Int64
  var pauseEvery: Int64
  var breakEvery: Int64
  var mapEvery: Int64
  var skewSeconds: [Int64]
  var settings = EngineSettings()
  var think: Int

  init(nodes: Int, _ r: inout SimRandom) {
    self.nodes = nodes
    channels = r.within(2...6)
    agents = r.within(3...8)
    messages = r.pick([40, 150, 400])
    peers = r.within(4...14)
    latency = 100_000...r.pick([400_000, 5_000_000, 80_000_000])
    lossPercent = r.pick([0, 5, 20])
    writeDelay = 10_000...r.pick([100_000, 2_000_000, 20_000_000])
    crashEvery = Int64(r.pick([0, 5, 15])) * 1_000_000_000
    powerCuts = r.oneIn(2)
    cutEvery = Int64(r.pick([0, 3, 10])) * 1_000_000_000
    pauseEvery = Int64(r.pick([0, 4, 15])) * 1_000_000_000
    breakEvery = Int64(r.pick([0, 1, 5])) * 1_000_000_000
    mapEvery = Int64(r.pick([2, 6, 20])) * 1_000_000_000
    let isSkewed = r.oneIn(2)
    skewSeconds = (0..<nodes).map { _ in isSkewed ? Int64(r.within(-3_600...3_600)) : 0 }
    think = r.pick([5_000_000, 50_000_000, 300_000_000])
    settings.creditBytes = r.pick([400, 20_000, 512 << 10])
    settings.tailBytes = r.pick([0, 2_000, 1 << 20])
    settings.readBytes = r.pick([1, 4_000, 256 << 10])
    settings.recordMessages = r.pick([1, 50, 1_024])
    settings.commitsInFlight = r.within(1...3)
    settings.stallTimeout = .seconds(600)
  }
}

/// Frames and packets between two nodes, in both directions of one connection.
final class ClusterWire {
  let ends: (Int, Int)
  var isOpen = true
  /// When the last frame of a direction arrives; by the sender.
  var arrives: [Int: Int64] = [:]
  /// Directions in which something was lost: nothing after it arrives.
  var lost: Set<Int> = []
  init(_ a: Int, _ b: Int) { ends = (a, b) }
  func other(_ i: Int) -> Int { ends.0 == i ? ends.1 : ends.0 }
}
