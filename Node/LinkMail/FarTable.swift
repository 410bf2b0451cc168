internal import Base
internal import Engine

/// A session that uses channels of other nodes.
final class Far {
  let id: SessionID
  let principal: Principal
  let kind: SessionKind
  let producer: UInt64
  /// The number of the last publish.
  var number: UInt64 = 0
  var uses: [ChannelID: FarUse] = [:]
  /// The one that was last looked for: most sessions have one.
  private var recent: FarUse?
  /// Publishes not answered, and the bytes of their frames.
  private(set) var pending = 0
  private(set) var pendingBytes = 0
  var isPaused = false
  /// Too much of it waits for answers.
  var isCrowded = false
  /// Nodes that have heard of it: few.
  var opened: [NodeID] = []
  /// Those that asked for a pause, and those whose link is crowded.
  var pausedBy: Set<NodeID> = []
  var slowedBy: Set<NodeID> = []
  /// Bytes of credit that nodes have not been told of yet.
  private var due: [(node: NodeID, bytes: Int)] = []
  /// It stands in the list of those that are to pay.
  var isIndebted = false
  /// Its stream is over; it stays until what it published is answered.
  var isLeaving = false

  init(_ id: SessionID, _ principal: Principal, _ kind: SessionKind, producer: UInt64) {
    self.id = id
    self.principal = principal
    self.kind = kind
    self.producer = producer
  }

  @inline(__always) func find(_ channel: ChannelID) -> FarUse? {
    if let recent, recent.ref.id == channel { return recent }
    guard let found = uses[channel] else { return nil }
    recent = found
    return found
  }

  func keep(_ one: PendingPublish, for use: FarUse) {
    use.pending.append(one)
    pending += 1
    pendingBytes += one.publication.frame.count
  }

  func take(_ token: UInt64, of use: FarUse) -> PendingPublish? {
    guard let found = use.pending.take(token) else { return nil }
    pending -= 1
    pendingBytes -= found.publication.frame.count
    return found
  }

  /// Nobody will answer what that node was asked.
  func dropPending(of owner: NodeID) {
    for use in uses.values where use.owner == owner {
      use.pending.forEach { pendingBytes -= $0.publication.frame.count }
      pending -= use.pending.count
      use.pending = PendingQueue()
    }
  }

  /// Forgets channels of which nothing is wanted any more.
  func dropIdle() {
    uses = uses.filter { $0.value.cursor != nil || !$0.value.pending.isEmpty || $0.value.waits }
    recent = nil
  }

  /// The node has forgotten it, and whatever credit it owed there. Whether it had heard of it.
  func isOpened(noMore node: NodeID) -> Bool {
    due.removeAll { $0.node == node }
    guard let at = opened.firstIndex(of: node) else { return false }
    opened.remove(at: at)
    return true
  }

  /// - Returns: all that is due to the node now.
  func owe(_ bytes: Int, to node: NodeID) -> Int {
    if let at = due.firstIndex(where: { $0.node == node }) {
      due[at].bytes += bytes
      return due[at].bytes
    }
    due.append((node, bytes))
    return bytes
  }

  func takeDue(to node: NodeID) -> Int {
    guard let at = due.firstIndex(where: { $0.node == node }) else { return 0 }
    defer { due[at].bytes = 0 }
    return due[at].bytes
  }

  func takeDue() -> [(node: NodeID, bytes: Int)] {
    defer { for at in due.indices { due[at].bytes = 0 } }
    return due.filter { $0.bytes > 0 }
  }
}

/// A session's use of a channel.
final class FarUse {
  let ref: ChannelRef
  var owner: NodeID
  /// The owner said that it is none: nothing is sent until a newer map names one.
  var waits = false
  var cursor: FarCursor?
  /// In the order they came.
  fileprivate(set) var pending = PendingQueue()
  /// Its number, as `toldTo` was told when `FarSessions.told` stood at `told`: it knows the session too.
  var number: UInt32 = 0
  var told: UInt64 = 0
  var toldTo = NodeID.none

  init(_ ref: ChannelRef, _ owner: NodeID) {
    self.ref = ref
    self.owner = owner
  }

  /// Whether the message is one for the session's cursor: it did not come before, and is not the session's own.
  func takes(_ delivery: Delivery, from own: UInt64) -> Bool {
    cursor?.takes(delivery, isArchived: ref.archived, from: own) == true
  }
}

/// How far a session has come in a channel.
struct FarCursor {
  var start: Start
  var follow: Bool
  var limit: UInt64
  var token: UInt64
  /// Tells one asking from the next, in the owner's answer; nothing that comes before that is for this cursor.
  var asked: UInt64 = 0
  /// The first asking for this cursor: an answer to any since is one for it.
  var first: UInt64 = 0
  var isAnswered = false
  /// The session has heard that it is subscribed.
  var isTold = false
  /// The last sequence that came, or was there where it began; nil: not known yet.
  var last: UInt64?
  var count: UInt64 = 0
  /// What the session published before the channel was another node's: not for it.
  var own: [ClosedRange<UInt64>] = []

  mutating func takes(_ delivery: Delivery, isArchived: Bool, from own: UInt64) -> Bool {
    let sequence = delivery.sequence
    // A channel that nobody keeps counts anew with another owner.
    guard isAnswered, sequence > last ?? 0 || !isArchived else { return false }
    last = sequence
    // Read again from the archive, where nobody knows any more who sent it.
    if delivery.producer == own || isOwn(sequence) { return false }
    count += 1
    return true
  }

  private func isOwn(_ sequence: UInt64) -> Bool {
    !own.isEmpty && own.contains { $0.contains(sequence) }
  }
}

/// The sessions of a loop by the index of their ids.
struct FarTable {
  private var slots: [Far?] = []
  /// Those whose place another one has: what an ended session has published may still wait for its answer.
  private var others: [SessionID: Far] = [:]
  private(set) var count = 0

  @inline(__always) subscript(_ id: SessionID) -> Far? {
    let index = id.index
    if index < slots.count, let found = slots[index], found.id == id { return found }
    return others.isEmpty ? nil : others[id]
  }

  mutating func insert(_ far: Far) {
    while slots.count <= far.id.index { slots.append(nil) }
    count += 1
    if slots[far.id.index] == nil {
      slots[far.id.index] = far
    } else {
      others[far.id] = far
    }
  }

  @discardableResult
  mutating func remove(_ id: SessionID) -> Far? {
    guard let found = self[id] else { return nil }
    if others.removeValue(forKey: id) == nil { slots[id.index] = nil }
    count -= 1
    return found
  }

  /// In an order that depends on nothing but what they are.
  var all: [Far] {
    slots.compactMap(\.self) + others.values.sorted { $0.id.value < $1.id.value }
  }
}
