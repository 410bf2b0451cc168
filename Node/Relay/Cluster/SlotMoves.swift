import Base
import Crypto
import Engine
import Loop
import Report
import Ring
import Store

/// Hands slots over between this node and others: for each that leaves a `SlotSource`, for each that comes a
/// `SlotTarget`, with what they ask of disk, map, loops and each other. All of it on the cluster's loop.
///
/// A source pushes pages of the slot's log and rows to its target, one call at a time, at a bounded rate while the slot
/// is served; so a target never has more of it in memory than a page. A target keeps with each page how far it came.
final class SlotMoves: @unchecked Sendable {
  static let method = "SlotMove"

  /// The node holds its cluster, and that this.
  @safe unowned(unsafe) let node: NodeHost
  @safe unowned(unsafe) let cluster: ClusterHost
  let gate: SlotGate
  /// Of all slots together, while they are served. Tests have it slower.
  var bytesPerSecond = Limits.moveBytesPerSecond
  /// Pages sent so far are as many as that rate allows until then.
  var paidUntil = Instant.zero
  let own: NodeID
  let loop: EventLoop
  /// Names this run of this node as a source; no other run has had it.
  let run: UInt64
  var sources: [UInt16: SlotLeaving] = [:]
  var targets: [UInt16: SlotComing] = [:]
  /// Slots whose source or target is being made, or unmade, on the disk.
  var isChanging: Set<UInt16> = []
  /// The last map, on disk here.
  private(set) var map = RingMap()
  /// A map came; the first may be the one that an earlier run kept.
  private var hasBegun = false
  /// What records of each slot are stamped with here; 0: not known.
  private var epochs = [UInt64](repeating: 0, count: 1 << Limits.slotBits)
  var waiting = SlotsWaiting()
  private var lastSerial: UInt64 = 0
  /// What sources ask of the map's host next: nil how it is, else to hand over that try.
  var questions: [UInt16: UInt64?] = [:]
  var isAsking = false
  private var isTicking = false
  private var isFlushing = false
  private(set) var isOver = false
  let facts = Guarded(SlotMovesFacts())

  /// Before the node listens for others.
  init(cluster: ClusterHost, links: LinkHost) {
    self.cluster = cluster
    node = cluster.node
    own = cluster.own
    loop = cluster.loop
    gate = SlotGate(node: cluster.node, links: links)
    run = Random.uint64() | 1
    cluster.calls.serve(SlotMoves.method) { [self] from, request, reply in

      // Checksums of pages take a while: not on a loop.
      node.store.read { [self] _ in
        guard let call = try? SlotMoveCall(request) else {
          return reply(
            .failure(Fault(.badRequest, "a hand-over's page or word that cannot be read")))
        }
        self.loop.post { self.receive(call, from: from, reply) }
      }
    }
    cluster.observers.append { [self] map in self.receive(map) }
    serveWeights()
  }

  /// What an earlier run left. Before the cluster opens. Throws when rows are damaged: nobody may guess about ownership.
  func recall(_ kept: RingMap) throws(Fault) {
    var intents: [SlotIntent] = []
    var copies: [SlotMoveRow.Copy] = []
    do {
      for row in try node.store.rows(.meta, prefix: SlotMoveRow.intents) where row.key.count == 4 {
        intents.append(try SlotMoveRow.intent(row.value))
      }
      for row in try node.store.rows(.meta, prefix: SlotMoveRow.copies) where row.key.count == 4 {
        copies.append(try SlotMoveRow.copy(row.value))
      }
    } catch let fault as Fault {
      throw fault
    } catch {
      throw Fault(.damaged, "a row about a slot's hand-over cannot be read")
    }
    let found = (intents, copies)
    _ = loop.call { [self] in
      map = kept
      for intent in found.0 { resume(intent) }
      for copy in found.1 { resume(copy) }
    }
  }

  func nextSerial() -> UInt64 {
    lastSerial += 1
    return lastSerial
  }

  var now: Instant { loop.now.monotonic }

  /// Nothing more is asked or written.
  func stop() { isOver = true }

  // MARK: maps

  /// A newer map; it is on disk here.
  private func receive(_ next: RingMap) {
    guard next.revision > map.revision || !hasBegun, next.slotCount == epochs.count else { return }
    hasBegun = true
    map = next
    stampEpochs()
    for slot in sources.keys.sorted() { tellMap(slot) }
    for slot in targets.keys.sorted() {
      withTarget(slot) { machine, now, effects in
        machine.receiveMap(next[slot], revision: next.revision, at: now, into: &effects)
      }
      abandonIfAlone(slot)
    }
    lookForSources()
  }

  private func stampEpochs() {
    var changed: [UInt64: [UInt16]] = [:]
    for slot in 0..<UInt16(clamping: map.slotCount) where map.owner(of: slot) == own {
      // One that comes is stamped when it is opened.
      if targets[slot] != nil { continue }
      let epoch = map.epoch(of: slot)
      if epochs[Int(slot)] != epoch {
        epochs[Int(slot)] = epoch
        changed[epoch, default: []].append(slot)
      }
    }
    for (epoch, slots) in changed { gate.setEpoch(epoch, of: slots) }
  }

  func noteEpoch(_ epoch: UInt64?, of slot: UInt16) { epochs[Int(slot)] = epoch ?? 0 }

  /// The map as it is, to a source; it is an answer when the source asked and the map is as new as that.
  func tellMap(_ slot: UInt16) {
    guard let leaving = sources[slot] else { return }
    let isFresh = leaving.freshAt.map { $0 <= map.revision } ?? false
    if isFresh { leaving.freshAt = nil }
    withSource(slot) { [map] machine, now, effects in
      machine.receiveMap(
        map[slot], revision: map.revision, fresh: isFresh, at: now, into: &effects)
    }
  }

  // MARK: time

  /// While anything moves: what waits for a time, and how far the logs have grown.
  func tick() {
    if isTicking || isOver || (sources.isEmpty && targets.isEmpty) { return }
    isTicking = true
    loop.schedule(after: .milliseconds(Limits.moveTickMilliseconds)) { [self] in
      isTicking = false
      if isOver { return }
      for slot in sources.keys.sorted() {
        withSource(slot) { $0.receiveTick(at: $1, into: &$2) }
        lookAtHead(slot)
      }
      for slot in targets.keys.sorted() {
        withTarget(slot) { $0.receiveTick(at: $1, into: &$2) }
      }
      // One that rests, or waits for the map only, has given its place up.
      beginSources()
      tick()
    }
  }

  /// How far the log of a slot that is copied has grown.
  private func lookAtHead(_ slot: UInt16) {
    guard let leaving = sources[slot], !leaving.isLooking,
      leaving.machine.phase == .copying || leaving.machine.phase == .asking
    else { return }
    leaving.isLooking = true
    let copied = leaving.machine.copied
    node.store.read { [self] store in
      let look = try? SlotRows.look(slot, after: copied, in: store)
      self.loop.post {
        leaving.isLooking = false
        guard let look, self.sources[slot] === leaving else { return }
        self.withSource(slot) {
          $0.receiveHead(look.head, behind: look.behind, at: $1, into: &$2)
        }
      }
    }
  }

  func refreshFacts() {
    var facts = facts.value
    facts.waiting = waiting.count
    facts.leaving = sources.count
    facts.coming = targets.count
    facts.recordsLeft = sources.values.reduce(0) {
      $0 + ($1.machine.head - min($1.machine.copied, $1.machine.head))
    }
    self.facts.value = facts
  }

  func count(_ change: (inout SlotMovesFacts) -> Void) { facts.change(change) }

  // MARK: what others say

  private func receive(
    _ call: SlotMoveCall, from: NodeID, _ reply: @escaping ClusterCalls.Reply
  ) {
    if isOver { return reply(.failure(Fault(.draining))) }
    if call.id.target == own, from == call.id.source {
      receiveAsTarget(call, reply)
    } else if call.id.source == own, from == call.id.target, case .message(let message) = call.body
    {
      if let leaving = sources[call.id.slot], leaving.id == call.id, !leaving.isEnded {
        if case .ready = message { leaving.receiveReady() }
        withSource(call.id.slot) { $0.receive(message, at: $1, into: &$2) }
      }
      reply(.success([]))
    } else {
      reply(.failure(Fault(.forbidden, "that hand-over is not between these two nodes")))
    }
  }

  /// A word to the other side; lost ones are said again.
  func tell(_ peer: NodeID, _ call: SlotMoveCall) {
    cluster.calls.ask(
      peer, SlotMoves.method, call.encoded, timeout: .milliseconds(Limits.moveCallMilliseconds)
    ) { [self] result in
      if case .failure(let fault) = result { noteUnheard(call.id, fault) }
    }
  }

  /// A page or a word did not come over, or was not taken.
  func noteUnheard(_ id: SlotMoveID, _ fault: Fault) {
    node.log.debug(
      "another node did not take what it was told of a slot",
      ["slot": .of(Int(id.slot)), "from": .of(id.source), "to": .of(id.target), "why": .of(fault)])
  }

  /// Deletes what there is in these ranges, together with what else is in `set`, and hears of it on this loop. Not synced:
  /// what is written later comes later in the log, too.
  func erase(
    _ ranges: [SlotRange], _ set: WriteSet,
    _ done: @escaping @Sendable (Result<Void, Fault>) -> Void
  ) {
    node.store.read { [self] store in
      var set = set
      let isWhole = store.delete(ranges, into: &set)
      store.submit(set, synced: false) { [self] result in
        self.loop.post {
          if isWhole { self.flushSoon() }
          done(result.map { _ in () })
        }
      }
    }
  }

  /// Large parts were deleted: reads near them are slow until that is in files.
  func flushSoon() {
    if isFlushing || isOver { return }
    isFlushing = true
    loop.schedule(after: .seconds(Limits.moveFlushSeconds)) { [self] in
      if isOver { return }
      node.store.upkeep { [self] store in
        do throws(Fault) {
          try store.flush()
        } catch {
          self.node.log.warn("memory cannot be flushed to files", ["why": .of(error)])
        }
        self.loop.post { self.isFlushing = false }
      }
    }
  }

  /// Writes, and hears of it on this loop.
  func write(
    _ set: WriteSet, synced: Bool, _ done: @escaping @Sendable (Result<Void, Fault>) -> Void
  ) {
    node.store.submit(set, synced: synced) { [self] result in
      self.loop.post { done(result.map { _ in () }) }
    }
  }
}

/// Hand-overs of a node, for metrics.
struct SlotMovesFacts: Sendable {
  /// Slots that leave, come, and wait until others have left.
  var leaving = 0
  var coming = 0
  var waiting = 0
  var recordsLeft: UInt64 = 0
  /// Since the process began.
  var left = 0
  var came = 0
  var seals = 0
  var opens = 0
  var bytesSent = 0
  /// From the seal until the map named another owner, of the last slot that left.
  var lastStallMilliseconds: Int64 = 0
}
