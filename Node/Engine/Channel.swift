internal import Base

/// One agent's stream, as one shard knows it.
final class Session {
  let id: SessionID
  let kind: SessionKind
  var closed = false
  /// Its held publishes are dropped: the stream was ended because of them.
  var dropsHeld = false

  // Publishing.
  var pendingBytes = 0
  var paused = false

  // Subscribing.
  /// Bytes handed out and not yet given back.
  var outstanding = 0
  var subscriptions: [Subscription] = []
  var byChannel: [ChannelID: Subscription] = [:]
  /// Subscriptions that have something to deliver and no credit, in the order in which they ran out.
  var waiting = Ring<Subscription>()
  /// Bytes queued for it from unarchived channels.
  var queuedBytes = 0
  /// Subscriptions that are not live.
  var lagging = 0
  /// Since when it takes nothing: the last credit, or the moment it first had to wait.
  var quietSince = Instant.zero
  var stallTimer = false

  /// False: it takes whatever it gets.
  let hasCredit: Bool

  init(id: SessionID, kind: SessionKind) {
    self.id = id
    self.kind = kind
    hasCredit = kind != .router
  }
}

/// A session's place in a channel: a cursor.
final class Subscription {
  enum State {
    /// At the head: gets each message when it is written.
    case live
    /// Has something to get and no credit; stands in `session.waiting`.
    case credit
    /// Waits for records from the archive.
    case reading
    /// Waits for its pace.
    case pacing
    case ended
  }
  let session: Session
  let channel: Channel
  let tenant: TenantID
  /// By grant, not as a member of the channel's org.
  let byGrant: Bool
  var state = State.live
  /// The next sequence to deliver (or to pass over).
  var next: UInt64
  /// The last sequence wanted.
  let until: UInt64
  /// Messages still wanted.
  var left: UInt64
  /// Where paced delivery ends, and what the running interval still allows.
  var paceUntil: UInt64 = 0
  var paceLeft = 0
  /// Read from the archive, not yet delivered.
  var buffer = Ring<Delivery>()
  var bufferBytes = 0
  /// Runs of sequences that the session published itself, from `next` on. Kept while not live.
  var own = Ring<ClosedRange<UInt64>>()
  /// Unarchived channels: what waits for credit.
  var queue = Ring<Delivery>()
  /// Beyond the tail since it was last live.
  var slow = false
  var indexInSession = 0
  var indexInChannel = 0
  var indexInLive = -1

  init(
    session: Session, channel: Channel, tenant: TenantID, byGrant: Bool, next: UInt64,
    until: UInt64, left: UInt64
  ) {
    self.session = session
    self.channel = channel
    self.tenant = tenant
    self.byGrant = byGrant
    self.next = next
    self.until = until
    self.left = left
  }

  /// Notes that the session published `sequence` itself.
  func publishedItself(_ sequence: UInt64) {
    if let last = own.last, sequence <= last.upperBound { return }
    if let last = own.last, last.upperBound + 1 == sequence {
      own[own.count - 1] = last.lowerBound...sequence
    } else {
      own.append(sequence...sequence)
      if own.count > Limits.ownRunsPerSubscription { own.removeFirst() }
    }
  }

  func isOwn(_ sequence: UInt64) -> Bool {
    while let first = own.first, first.upperBound < sequence { own.removeFirst() }
    return own.first?.contains(sequence) ?? false
  }
}

/// Who published: what of a principal is needed once its right is known.
struct Author {
  /// Whose usage it is: the principal's tenant, or the channel's for an anonymous one.
  var tenant: TenantID
  /// 0 with no tenant: anonymous.
  var key: RecordID
  var anonymous: Bool
}

/// A publish on its way through a channel.
struct Item {
  enum Role {
    case fresh
    /// Takes this place.
    case append(sequence: UInt64, generation: UInt32)
    /// A retry of what stands at this place, whose write is not confirmed yet.
    case duplicate(of: UInt64)
    /// Lost its epoch to a commit whose write is not confirmed yet.
    case loser(to: UInt64)
  }
  var publication: Publication
  let session: Session
  let author: Author
  var role = Role.fresh
  /// When it was first held for disk trouble.
  var heldSince: Instant?

  var bytes: Int { publication.frame.count }
}

/// Something that waits until the channel is loaded (or unblocked).
enum Operation {
  case subscribe(Session, Principal, Start, follow: Bool, limit: UInt64, token: UInt64)
  case unsubscribe(Session)
  case publish(Item, Principal)
  /// A publish whose right is known already.
  case admitted(Item)
  case grant(TenantID, granted: Bool)
  case delete(token: UInt64)
  case retention
}

struct TailEntry {
  var delivery: Delivery
  var publisher: SessionID
}

/// Where a channel stands: what a head row says, in one of three views (assigned, sealed, written).
struct Mark {
  var last: UInt64 = 0
  var hash = RecordHash()
  var oldest: UInt64 = 1
  var bytesKept: UInt64 = 0
  var bytesEver: UInt64 = 0
  var deleted = false
  var named = false
}

/// What retention is about to drop: whole records up to `oldest`.
struct Trim {
  var oldest: UInt64
  var records: Int
  var bytes: UInt64
  var slotIndexes: [UInt64]
  /// Per producer, in the order met: its last first-producer-sequence in the dropped part.
  var producers: [(producer: UInt64, first: UInt64)]
  /// The first record that stays, when it is known.
  var next: OldestRecord?
}

struct OldestRecord {
  var count: UInt64
  var bytes: UInt64
  var wall: Instant
}

/// A channel's share of one write.
struct Part {
  let channel: Channel
  var items: [Item]
  /// Where the channel stands once this is written.
  var mark: Mark
  var wall: Instant
  var appended: UInt64
  var trim: Trim?
  var deletes: Bool
}

/// A loaded channel.
final class Channel {
  enum Phase {
    case loading
    case ready
    /// Every operation gets this fault.
    case broken(Fault)
  }
  let ref: ChannelRef
  let slot: UInt16
  var phase = Phase.loading
  var waiting = Ring<Operation>()
  /// A seek or a delete that everything after it waits for.
  var blocked = false
  var blockedItem: Item?

  /// Last sequence assigned.
  var last: UInt64 = 0
  var sealed = Mark()
  var written = Mark()
  var gate = EpochGate()
  var producers = ProducerTable(complete: true)
  var grants: Set<TenantID> = []

  var pending: [Item] = []
  var inDirty = false
  /// Writes in flight that have a part of this channel.
  var partsInFlight = 0
  /// Duplicates and losers that wait for writes in flight only.
  var latecomers: [Item] = []
  var held = Ring<Item>()
  var inHeld = false

  var tail = Ring<TailEntry>()
  var tailBytes = 0
  var subscriptions: [Subscription] = []
  var live: [Subscription] = []

  // Retention.
  var oldestRecord: OldestRecord?
  var trim: Trim?
  var retentionBusy = false
  var retention: Retention?

  var deleteToken: UInt64?
  /// Reads and seeks in flight.
  var lookups = 0
  /// Used since the sweep came by last: for forgetting channels, and tails.
  var used = true
  var tailUsed = true
  var indexInLoaded = 0

  init(_ ref: ChannelRef) {
    self.ref = ref
    slot = ref.id.slot
  }

  /// The sequence of the first entry of the tail.
  var tailFirst: UInt64 { written.last + 1 - UInt64(tail.count) }

  var isIdle: Bool {
    guard case .loading = phase else {
      return subscriptions.isEmpty && pending.isEmpty && latecomers.isEmpty && partsInFlight == 0
        && held.isEmpty && waiting.isEmpty && !blocked && trim == nil && lookups == 0
        && deleteToken == nil && !inDirty
    }
    return false
  }

  func removeFromLive(_ s: Subscription) {
    let at = s.indexInLive
    guard at >= 0 else { return }
    let moved = live.removeLast()
    if moved !== s {
      live[at] = moved
      moved.indexInLive = at
    }
    s.indexInLive = -1
  }

  func addToLive(_ s: Subscription) {
    s.indexInLive = live.count
    live.append(s)
  }

  func head(_ mark: Mark) -> HeadRow {
    var row = HeadRow()
    row.deleted = mark.deleted
    row.last = mark.last
    row.hash = mark.hash
    row.generation = gate.generation
    row.opener = gate.opener
    row.oldest = mark.oldest
    row.commitFloor = gate.floor
    row.bytesKept = mark.bytesKept
    row.bytesEver = mark.bytesEver
    return row
  }
}
