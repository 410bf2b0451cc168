import Base
import Engine
import Loop
import Messages
import Report
import Ring
import Store

/// A slot that leaves this node. On the cluster's loop.
final class SlotLeaving: @unchecked Sendable {
  enum Job {
    /// What answers retries of messages that retention dropped.
    case leftovers
    case log(from: UInt64, through: UInt64)
    case state(SlotSeal)
  }
  let id: SlotMoveID
  var machine: SlotSource
  var jobs: [Job] = []
  /// A page is read or on its way.
  var isSending = false
  /// The map's host was asked; it has a map of this revision.
  var freshAt: UInt64?
  var isLooking = false
  var isEnded = false
  var sealSerial: UInt64 = 0
  var sealedSince: Instant?
  /// Nothing is under way in the slot, and nothing comes into it.
  var isQuiet = false
  /// Tenants of the slot have something here, as far as is known.
  var hasAccounts = true
  /// The map gave the slot away without this node's word: an operator said that the node is gone.
  var wasTaken = false
  /// What is done when the rate allows it again.
  fileprivate var delayed: HeldClosure?
  /// The oldest sequence of each channel when leftovers were sent.
  var precopied: [ChannelID: UInt64] = [:]

  init(_ id: SlotMoveID, _ machine: SlotSource) {
    self.id = id
    self.machine = machine
  }

  var slot: UInt16 { id.slot }
  /// It takes part of what is allowed at once; one that only waits for the map does not.
  var isCopying: Bool {
    switch machine.phase {
    case .committing, .handed, .ended: false
    default: true
    }
  }

  /// The target says where to go on: the machine sends from there.
  func receiveReady() {
    switch machine.phase {
    case .offering, .copying, .asking, .handed: jobs.removeAll()
    case .sealing, .completing, .intending, .committing, .ended: break
    }
  }
}

extension SlotMoves {
  func withSource(
    _ slot: UInt16,
    _ body: (inout SlotSource, Instant, inout [SlotSourceEffect]) -> Void
  ) {
    guard let leaving = sources[slot], !leaving.isEnded else { return }
    var effects: [SlotSourceEffect] = []
    body(&leaving.machine, now, &effects)
    for effect in effects { carry(effect, leaving) }
  }

  func beginSource(_ id: SlotMoveID) {
    isChanging.insert(id.slot)
    // From here on the loops go by what the hand-over says, not by the map.
    gate.set(own, of: id.slot) { [self] in
      self.node.store.read { [self] store in
        let look = Result { () throws(Fault) in try SlotRows.look(id.slot, after: 0, in: store) }
        self.loop.post { self.begin(id, look) }
      }
    }
  }

  private func begin(_ id: SlotMoveID, _ look: Result<SlotLook, Fault>) {
    guard SlotMoveID(map, slot: id.slot) == id, case .success(let look) = look else {
      gate.clear(id.slot)
      // A disk that does not answer is not asked again at once.
      loop.schedule(after: .seconds(1)) { [self] in end(beginning: id.slot) }
      return
    }
    isChanging.remove(id.slot)
    waiting.beginning[id.slot] = nil
    var effects: [SlotSourceEffect] = []
    let leaving = SlotLeaving(
      id,
      SlotSource(
        id, head: look.head, behind: look.behind, run: run, at: now, into: &effects))
    sources[id.slot] = leaving
    for effect in effects { carry(effect, leaving) }
    tick()
  }

  private func end(beginning slot: UInt16) {
    isChanging.remove(slot)
    waiting.beginning[slot] = nil
    freed(slot)
  }

  /// An intent of an earlier run: the slot stays sealed until a map says how that ended.
  func resume(_ intent: SlotIntent) {
    let slot = intent.move.slot
    gate.set(own, of: slot) {}
    gate.seal(slot, serial: nextSerial()) {}
    var effects: [SlotSourceEffect] = []
    let leaving = SlotLeaving(
      intent.move,
      SlotSource(
        intent.move, head: intent.sealedAt, run: run, resuming: intent, at: now, into: &effects))
    leaving.sealedSince = now
    // Nobody has used it since the start.
    leaving.isQuiet = true
    sources[slot] = leaving
    for effect in effects { carry(effect, leaving) }
    tick()
  }

  // MARK: effects

  private func carry(_ effect: SlotSourceEffect, _ leaving: SlotLeaving) {
    let slot = leaving.slot
    switch effect {
    case .send(let message):
      tell(leaving.id.target, SlotMoveCall(id: leaving.id, run: run, .message(message)))
    case .copy(let from, let through):
      if from == 1 { leaving.jobs.append(.leftovers) }
      leaving.jobs.append(.log(from: from, through: through))
      send(leaving)
    case .copyState(_, let seal):
      leaving.jobs.append(.state(seal))
      send(leaving)
    case .readMap: askMap(slot, attempt: nil)
    case .commit: askMap(slot, attempt: leaving.id.attempt)
    case .seal: seal(leaving)
    case .unseal:
      node.log.debug(
        "a slot that was sealed is served again", ["slot": .of(Int(slot))])
      leaving.sealedSince = nil
      leaving.isQuiet = false
      leaving.jobs.removeAll()
      count { $0.opens += 1 }
      gate.open(slot)
    case .writeIntent(let intent): write(intent, leaving)
    case .clearIntent:
      var set = WriteSet()
      set.delete(.meta, key: SlotMoveRow.intentKey(slot))
      write(set, synced: true) { _ in }
    case .forwardHeld: handOver(leaving)
    case .finish: finish(leaving)
    case .cancelled:
      leaving.isEnded = true
      sources[slot] = nil
      gate.clear(slot)
      waiting.noteProgress(to: leaving.id.target, at: now)
      freed(slot)
    // There is a tick.
    case .wake: break
    }
  }

  /// Asks the host of the map; with the number of a try, to hand over. One call at a time, for all who ask meanwhile.
  private func askMap(_ slot: UInt16, attempt: UInt64?) {
    questions.updateValue(attempt, forKey: slot)
    if isAsking { return }
    isAsking = true
    loop.post { [self] in askNext() }
  }

  private func askNext() {
    let asked = questions
    questions = [:]
    guard !asked.isEmpty, !isOver else {
      isAsking = false
      return
    }
    let tries = asked.compactMap { slot, attempt in
      attempt.map { (slot: slot, attempt: $0) }
    }.sorted { $0.slot < $1.slot }
    ask(tries, for: asked.keys.sorted()) { [self] in askNext() }
  }

  /// All of the tries succeed or none does.
  private func ask(
    _ tries: [(slot: UInt16, attempt: UInt64)], for slots: [UInt16],
    _ done: @escaping @Sendable () -> Void
  ) {
    cluster.move(.finish, tries, on: loop) { [self] result in
      switch result {
      case .success(let map):
        // What the map is now is told once it is on disk here.
        for slot in slots {
          sources[slot]?.freshAt = map.revision
          tellMap(slot)
        }
        done()
      case .failure(let fault):
        guard fault.code == .conflict, !tries.isEmpty else { return done() }
        if tries.count == 1 {
          // Somebody was faster, or this was heard before: the map tells.
          return ask([], for: slots, done)
        }
        let left = CountDown(tries.count + 1, done)
        for one in tries { ask([one], for: [one.slot]) { left.step() } }
        let others = Set(slots).subtracting(tries.map(\.slot))
        ask([], for: others.sorted()) { left.step() }
      }
    }
  }

  private func seal(_ leaving: SlotLeaving) {
    let slot = leaving.slot
    let serial = nextSerial()
    leaving.sealSerial = serial
    leaving.sealedSince = now
    leaving.isQuiet = false
    count { $0.seals += 1 }
    // From here on nobody waits for a rate.
    goOn(leaving)
    gate.seal(slot, serial: serial) { [self] in
      self.node.store.read { [self] store in
        let head = try? store.slotHead(slot)
        self.loop.post {
          guard let head, leaving.sealSerial == serial, !leaving.isEnded else { return }
          leaving.isQuiet = true
          self.withSource(slot) { $0.receiveSealed(at: head, now: $1, into: &$2) }
        }
      }
    }
  }

  private func write(_ intent: SlotIntent, _ leaving: SlotLeaving) {
    var set = WriteSet()
    set.put(
      .meta, key: SlotMoveRow.intentKey(leaving.slot), value: SlotMoveRow.value(intent))
    write(set, synced: true) { [self] result in
      guard !leaving.isEnded else { return }
      switch result {
      case .success:
        withSource(leaving.slot) { $0.receiveIntentWritten(at: $1, into: &$2) }
      case .failure:
        withSource(leaving.slot) { $0.receiveIntentFailed(at: $1, into: &$2) }
      }
    }
  }

  private func handOver(_ leaving: SlotLeaving) {
    noteEpoch(nil, of: leaving.slot)
    waiting.noteProgress(to: leaving.id.target, at: now)
    guard leaving.isQuiet else {
      leaving.wasTaken = true
      node.log.error(
        "a slot was given to another node without this one: what it has of it is kept, and not served",
        ["slot": .of(Int(leaving.slot)), "owner": .of(map.owner(of: leaving.slot))])
      gate.open(leaving.slot)
      return gate.clear(leaving.slot)
    }
    if let since = leaving.sealedSince {
      let stall = (now - since).nanoseconds / 1_000_000
      count { $0.lastStallMilliseconds = stall }
    }
    let owner = map.owner(of: leaving.slot)
    gate.handOver(
      leaving.slot, to: owner, revision: map.revision, hasAccounts: leaving.hasAccounts)
    node.log.debug(
      "a slot was handed over",
      ["slot": .of(Int(leaving.slot)), "to": .of(owner), "revision": .of(map.revision)])
  }

  /// The target serves: what is here of the slot goes. The map that says so is on disk.
  private func finish(_ leaving: SlotLeaving) {
    let slot = leaving.slot
    leaving.isEnded = true
    var set = WriteSet()
    set.delete(.meta, key: SlotMoveRow.intentKey(slot))
    erase(leaving.wasTaken ? [] : SlotRows.all(slot), set) { [self] result in
      if case .failure(let fault) = result {
        node.log.warn(
          "rows of a slot that has gone are kept", ["slot": .of(Int(slot)), "why": .of(fault)])
        loop.schedule(after: .seconds(1)) { [self] in
          if self.sources[slot] === leaving { self.finish(leaving) }
        }
        return
      }
      sources[slot] = nil
      count { $0.left += 1 }
      freed(slot)
    }
  }

  // MARK: pages

  private func send(_ leaving: SlotLeaving) {
    guard !leaving.isSending, !leaving.isEnded, !leaving.jobs.isEmpty else { return }
    leaving.isSending = true
    let job = leaving.jobs.removeFirst()
    switch job {
    case .leftovers: sendLeftovers(leaving)
    case .log(let from, let through): sendLog(leaving, from, through)
    case .state(let seal): sendState(leaving, seal)
    }
  }

  /// The job is done. Failed: what is left waits for the target's word where to go on.
  private func end(_ leaving: SlotLeaving, failed: Bool = false) {
    leaving.isSending = false
    if failed { leaving.jobs.removeAll() }
    send(leaving)
  }

  private func sendLog(_ leaving: SlotLeaving, _ from: UInt64, _ through: UInt64) {
    let (id, run) = (leaving.id, run)
    node.store.read { [self] store in
      let page = Result { () throws(Fault) in
        try store.slotLog(
          id.slot, from: from, through: through, limitBytes: Limits.movePageBytes)
      }
      var bytes: [UInt8] = []
      var deleted: [ChannelID] = []
      var reached: UInt64 = 0
      if case .success(let page) = page {
        reached = page.through
        let rows = page.rows.map {
          SlotMoveCall.LogRow(index: $0.index, key: $0.key, record: $0.record)
        }
        deleted = rows.compactMap { SlotRows.deletion($0) }
        bytes = SlotMoveCall(id: id, run: run, .log(from: from, through: reached, rows)).encoded
      }
      let made = (bytes, deleted, reached)
      self.loop.post {
        if made.0.isEmpty { return self.end(leaving, failed: true) }
        // What was sent of it before goes with its deletion there.
        for channel in made.1 { leaving.precopied[channel] = nil }
        self.push(made.0, leaving) {
          if made.2 < through {
            self.sendLog(leaving, made.2 + 1, through)
          } else {
            self.end(leaving)
          }
        }
      }
    }
  }

  /// One page, then `next`; while the slot is served, not faster than is allowed.
  private func push(_ bytes: [UInt8], _ leaving: SlotLeaving, _ next: @escaping () -> Void) {
    if leaving.isEnded { return }
    count { $0.bytesSent += bytes.count }
    let after = HeldClosure(next)
    cluster.calls.ask(
      leaving.id.target, SlotMoves.method, bytes,
      timeout: .milliseconds(Limits.moveCallMilliseconds)
    ) { [self] result in
      if case .failure(let fault) = result {
        noteUnheard(leaving.id, fault)
        return end(leaving, failed: true)
      }
      guard leaving.machine.serves else { return after.call() }
      // All pages one after the other, at the rate that is allowed.
      let cost = Interval(nanoseconds: Int64(bytes.count * 1_000_000_000 / bytesPerSecond))
      paidUntil = max(paidUntil, now) + cost
      leaving.delayed = after
      loop.schedule(after: paidUntil - now) { [self] in goOn(leaving) }
    }
  }

  private func goOn(_ leaving: SlotLeaving) {
    guard let next = leaving.delayed else { return }
    leaving.delayed = nil
    next.call()
  }

  private func sendLeftovers(_ leaving: SlotLeaving) {
    let (id, run) = (leaving.id, run)
    node.store.read { [self] store in
      let found = Result { () throws(Fault) in
        let oldest = try SlotRows.oldest(id.slot, in: store)
        var rows: [SlotMoveCall.TableRow] = []
        for (channel, first) in oldest where first > 1 {
          rows += try SlotRows.leftovers(of: channel, before: first, in: store).map {
            SlotMoveCall.TableRow(table: .state, row: $0)
          }
        }
        return (oldest, SlotPages.cut(rows, SlotSeal(run: run, count: 0), id, run))
      }
      self.loop.post {
        guard case .success(let (oldest, pages)) = found else {
          return self.end(leaving, failed: true)
        }
        self.sendAll(pages[...], leaving) { leaving.precopied = oldest }
      }
    }
  }

  /// Everything beside the log. The slot is sealed: it is as the log is.
  private func sendState(_ leaving: SlotLeaving, _ seal: SlotSeal) {
    let (id, run, precopied) = (leaving.id, run, leaving.precopied)
    node.store.read { [self] store in
      let found = Result { () throws(Fault) in
        var rows: [SlotMoveCall.TableRow] = []
        for range in SlotRows.sealed(id.slot) {
          rows += try store.rows(in: range, limitBytes: .max).map {
            SlotMoveCall.TableRow(table: range.table, row: $0)
          }
        }
        let hasAccounts = rows.contains { $0.table == .tokens }
        for (channel, first) in try SlotRows.oldest(id.slot, in: store)
        where first > 1 && precopied[channel] != first {
          rows += try SlotRows.leftovers(of: channel, before: first, in: store).map {
            SlotMoveCall.TableRow(table: .state, row: $0)
          }
        }
        return (SlotPages.cut(rows, seal, id, run), hasAccounts)
      }
      self.loop.post {
        guard case .success(let (pages, hasAccounts)) = found else {
          return self.end(leaving, failed: true)
        }
        leaving.hasAccounts = hasAccounts
        self.sendAll(pages[...], leaving) {}
      }
    }
  }

  private func sendAll(
    _ pages: ArraySlice<[UInt8]>, _ leaving: SlotLeaving, _ done: @escaping () -> Void
  ) {
    guard let page = pages.first else {
      done()
      return end(leaving)
    }
    push(page, leaving) { [self] in self.sendAll(pages.dropFirst(), leaving, done) }
  }
}

/// Rows as calls: at least one page, each within its bound but for a row that is larger by itself.
enum SlotPages {
  static func cut(
    _ rows: [SlotMoveCall.TableRow], _ seal: SlotSeal, _ id: SlotMoveID, _ run: UInt64
  ) -> [[UInt8]] {
    var parts: [[SlotMoveCall.TableRow]] = [[]]
    var bytes = 0
    for row in rows {
      let size = row.row.key.count + row.row.value.count + 9
      if bytes + size > Limits.movePageBytes, bytes > 0 {
        parts.append([])
        bytes = 0
      }
      parts[parts.count - 1].append(row)
      bytes += size
    }
    return parts.enumerated().map { at, part in
      SlotMoveCall(
        id: id, run: run, .rows(seal, page: UInt32(at), isLast: at == parts.count - 1, part)
      ).encoded
    }
  }
}

/// A closure of one loop that passes through a call made there.
private final class HeldClosure: @unchecked Sendable {
  private let work: () -> Void
  init(_ work: @escaping () -> Void) { self.work = work }
  func call() { work() }
}
