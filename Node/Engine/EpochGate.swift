internal import Base

/// The commit order of one channel: per (generation, epoch) the first commit wins. It holds commits that
/// are written and, after them, those that still wait for their write.
struct EpochGate {
  struct Place: Hashable {
    var generation: UInt32
    var epoch: UInt64
  }
  struct Commit {
    var place: Place
    var sequence: UInt64
    var digest: (UInt64, UInt64)
    var wall: Instant
  }
  enum Verdict {
    /// The first of its epoch. `opens`: in a new generation.
    case first(generation: UInt32, opens: Bool)
    /// The same bytes as this commit.
    case same(sequence: UInt64)
    /// Another commit has it. 0: it is no longer known which.
    case taken(winner: UInt64)
  }
  /// Older generations in which the same bytes are still recognised.
  static let generationsBack: UInt32 = 8

  private(set) var generation: UInt32 = 0
  private(set) var opener: HeadRow.Opener?
  /// Epochs of this generation below it are forgotten.
  private(set) var floor: UInt64 = 0
  private var byPlace: [Place: Commit] = [:]
  /// By sequence.
  private var order = Ring<Place>()
  /// Generation, opener and floor before the first pending commit that changed them, by its sequence.
  private var undo:
    [(sequence: UInt64, generation: UInt32, opener: HeadRow.Opener?, floor: UInt64)] = []

  var count: Int { order.count }

  init() {}

  init(head: HeadRow, commits: [CommitRow]) {
    generation = head.generation
    opener = head.opener
    floor = head.commitFloor
    for c in commits.sorted(by: { $0.sequence < $1.sequence }) {
      insert(
        Commit(
          place: Place(generation: c.generation, epoch: c.epoch), sequence: c.sequence,
          digest: c.digest, wall: c.wall))
    }
  }

  private mutating func insert(_ commit: Commit) {
    byPlace[commit.place] = commit
    order.append(commit.place)
  }

  /// What is to become of a commit. `mayOpen`: its sender may begin a new generation at epoch 0.
  func judge(epoch: UInt64, digest: (UInt64, UInt64), mayOpen: Bool) -> Verdict {
    let here = byPlace[Place(generation: generation, epoch: epoch)]
    if let here, here.digest == digest { return .same(sequence: here.sequence) }
    if generation > 0 {
      let back = min(generation, EpochGate.generationsBack)
      for g in (generation - back..<generation).reversed() {
        if let old = byPlace[Place(generation: g, epoch: epoch)], old.digest == digest {
          return .same(sequence: old.sequence)
        }
      }
    }
    // A generation that has commits but no epoch 0 began before this node saw it.
    let begun = here != nil || floor > 0 || !isEmptyGeneration
    if epoch == 0, begun, mayOpen {
      return .first(generation: generation &+ 1, opens: true)
    }
    if let here { return .taken(winner: here.sequence) }
    if epoch < floor { return .taken(winner: 0) }
    return .first(generation: generation, opens: false)
  }

  private var isEmptyGeneration: Bool {
    guard let last = order.last else { return true }
    return last.generation != generation
  }

  /// Takes a commit that was judged `first`.
  mutating func accept(
    epoch: UInt64, digest: (UInt64, UInt64), sequence: UInt64, generation g: UInt32,
    by: HeadRow.Opener
  ) {
    if epoch == 0 || g != generation {
      undo.append((sequence, generation, opener, floor))
      if g != generation { floor = 0 }
      generation = g
      opener = by
    }
    insert(
      Commit(
        place: Place(generation: g, epoch: epoch), sequence: sequence, digest: digest, wall: .zero))
  }

  /// A delete: what comes next is another group.
  mutating func reset(generation next: UInt32) {
    self = EpochGate()
    generation = next
  }

  /// The write of everything up to `sequence` was confirmed.
  mutating func settle(through sequence: UInt64) {
    while let first = undo.first, first.sequence <= sequence { undo.removeFirst() }
  }

  mutating func stamp(epoch: UInt64, generation: UInt32, wall: Instant) {
    byPlace[Place(generation: generation, epoch: epoch)]?.wall = wall
  }

  /// Takes back every commit after `sequence`.
  mutating func rollBack(to sequence: UInt64) {
    while let place = order.last, let commit = byPlace[place], commit.sequence > sequence {
      byPlace[place] = nil
      order.removeLast()
    }
    if let at = undo.firstIndex(where: { $0.sequence > sequence }) {
      (_, generation, opener, floor) = undo[at]
      undo.removeSubrange(at...)
    }
  }

  /// Forgets the oldest written commit if there are more than `bound`, and says which.
  mutating func trim(to bound: Int, written: UInt64) -> Place? {
    guard order.count > bound else { return nil }
    return dropFirst(before: written &+ 1)
  }

  /// Forgets the oldest commit if it stands before `sequence`.
  mutating func dropFirst(before sequence: UInt64) -> Place? {
    guard let place = order.first, let commit = byPlace[place], commit.sequence < sequence else {
      return nil
    }
    order.removeFirst()
    byPlace[place] = nil
    if place.generation == generation {
      let (above, over) = place.epoch.addingReportingOverflow(1)
      floor = max(floor, over ? .max : above)
    }
    for i in undo.indices where undo[i].generation == place.generation {
      undo[i].floor = max(undo[i].floor, place.epoch &+ 1)
    }
    return place
  }

  /// Where a replay begins: the oldest commit not older than `since` with at most `messages` behind it
  /// (at least the newest such commit); nil when none is that young.
  func replayStart(since: Instant, messages: UInt64, written: UInt64) -> UInt64? {
    var best: UInt64?
    var i = order.count - 1
    while i >= 0 {
      let place = order[i]
      i -= 1
      guard let commit = byPlace[place], commit.sequence <= written else { continue }
      if commit.wall < since { break }
      if best != nil, written - commit.sequence >= messages { break }
      best = commit.sequence
    }
    return best
  }
}
