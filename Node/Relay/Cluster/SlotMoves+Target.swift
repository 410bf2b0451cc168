import Base
import Engine
import Loop
import Report
import Ring
import Store

/// A slot that comes to this node. On the cluster's loop.
final class SlotComing: @unchecked Sendable {
  let id: SlotMoveID
  /// Of the source's process that it comes from.
  let run: UInt64
  var machine: SlotTarget
  /// The page of rows that comes next, as of which seal.
  var pages: (seal: SlotSeal, next: UInt32)?
  /// Something of it is being written.
  var isWriting = false
  var isEnded = false

  init(_ id: SlotMoveID, run: UInt64, _ machine: SlotTarget) {
    self.id = id
    self.run = run
    self.machine = machine
  }

  var slot: UInt16 { id.slot }
}

extension SlotMoves {
  func withTarget(
    _ slot: UInt16,
    _ body: (inout SlotTarget, Instant, inout [SlotTargetEffect]) -> Void
  ) {
    guard let coming = targets[slot], !coming.isEnded else { return }
    var effects: [SlotTargetEffect] = []
    body(&coming.machine, now, &effects)
    for effect in effects { carry(effect, coming) }
  }

  /// A copy of an earlier run.
  func resume(_ copy: SlotMoveRow.Copy) {
    let slot = copy.id.slot
    if map.owner(of: slot) == own, map.epoch(of: slot) > copy.id.epoch, copy.complete != nil {
      // It was opened, and is served by the map.
      var set = WriteSet()
      set.delete(.meta, key: SlotMoveRow.copyKey(slot))
      return write(set, synced: false) { _ in }
    }
    gate.set(copy.id.source, of: slot) {}
    gate.dropAccounts(slot)
    take(copy)
    withTarget(slot) { [map] machine, now, effects in
      machine.receiveMap(map[slot], revision: map.revision, at: now, into: &effects)
    }
    abandonIfAlone(slot)
  }

  private func take(_ copy: SlotMoveRow.Copy) {
    var effects: [SlotTargetEffect] = []
    let machine = SlotTarget(
      copy.id, have: copy.have, complete: copy.complete.map { ($0.seal, $0.at) }, at: now,
      into: &effects)
    let coming = SlotComing(copy.id, run: copy.run, machine)
    targets[copy.id.slot] = coming
    for effect in effects { carry(effect, coming) }
    tick()
  }

  // MARK: what the source says

  func receiveAsTarget(_ call: SlotMoveCall, _ reply: @escaping ClusterCalls.Reply) {
    let slot = call.id.slot
    if let coming = targets[slot], coming.id == call.id, !coming.isEnded {
      if case .message(let message) = call.body {
        if case .offer = message, coming.run != call.run, !isOpen(coming),
          map.owner(of: slot) != own
        {
          // The source began anew, and its log may have other indexes than before. It offers again when a page of the
          // last copy is still being written.
          if coming.isWriting { return reply(.success([])) }
          coming.isEnded = true
          targets[slot] = nil
          begin(call.id, call.run)
        } else {
          withTarget(slot) { $0.receive(message, at: $1, into: &$2) }
        }
        return reply(.success([]))
      }
      guard coming.run == call.run else { return refuse(reply, "another run of the source") }
      switch call.body {
      case .log(let from, let through, let rows):
        receiveLog(coming, from, through, rows, reply)
      case .rows(let seal, let page, let isLast, let rows):
        receiveRows(coming, seal, page, isLast, rows, reply)
      case .message: break
      }
      return
    }
    guard case .message(let message) = call.body else {
      return refuse(reply, "no such hand-over is known here")
    }
    if case .handed = message, map.epoch(of: slot) > call.id.epoch, targets[slot] == nil,
      !isChanging.contains(slot)
    {
      // Opened, and forgotten; or given on already.
      tell(call.id.source, SlotMoveCall(id: call.id, run: 0, .message(.opened)))
    } else if case .offer = message {
      begin(call.id, call.run)
    }
    reply(.success([]))
  }

  private func isOpen(_ coming: SlotComing) -> Bool {
    coming.machine.phase == .opened || coming.machine.phase == .ended
  }

  private func refuse(_ reply: ClusterCalls.Reply, _ why: String) {
    reply(.failure(Fault(.conflict, why)))
  }

  /// Makes room for a copy: what there is of the slot is none of this try's.
  private func begin(_ id: SlotMoveID, _ run: UInt64) {
    let slot = id.slot
    // Whatever is here of a slot that this node owns, or still hands over, is not to be touched.
    guard SlotMoveID(map, slot: slot) == id, map.owner(of: slot) != own, sources[slot] == nil,
      targets[slot] == nil, isChanging.insert(slot).inserted
    else { return }
    let copy = SlotMoveRow.Copy(id: id, run: run, have: 0, complete: nil)
    var set = WriteSet()
    set.put(.meta, key: SlotMoveRow.copyKey(slot), value: SlotMoveRow.value(copy))
    gate.set(id.source, of: slot) { [self, set] in
      self.erase(SlotRows.copied(slot), set) { [self] result in
        isChanging.remove(slot)
        guard case .success = result, SlotMoveID(map, slot: slot) == id, sources[slot] == nil else {
          return gate.clear(slot)
        }
        take(copy)
      }
    }
  }

  private func receiveLog(
    _ coming: SlotComing, _ from: UInt64, _ through: UInt64, _ rows: [SlotMoveCall.LogRow],
    _ reply: @escaping ClusterCalls.Reply
  ) {
    if through <= coming.machine.have { return reply(.success([])) }
    guard coming.machine.accepts(from: from, through: through), !coming.isWriting else {
      return refuse(reply, "records that do not go on where the copy ends")
    }
    coming.isWriting = true
    let copy = SlotMoveRow.Copy(id: coming.id, run: coming.run, have: through, complete: nil)
    put(
      coming,
      { set, _ in
        SlotRows.put(copy.id.slot, rows, into: &set)
        set.put(.meta, key: SlotMoveRow.copyKey(copy.id.slot), value: SlotMoveRow.value(copy))
        return false
      }, reply
    ) { machine, now, effects in
      machine.receiveWritten(upTo: through, at: now, into: &effects)
    }
  }

  private func receiveRows(
    _ coming: SlotComing, _ seal: SlotSeal, _ page: UInt32, _ isLast: Bool,
    _ rows: [SlotMoveCall.TableRow], _ reply: @escaping ClusterCalls.Reply
  ) {
    guard !isOpen(coming), !coming.isWriting, page == 0 || coming.pages?.seal == seal,
      page == 0 || coming.pages?.next == page
    else { return refuse(reply, "a page of rows out of its turn") }
    coming.isWriting = true
    coming.pages = (seal, page + 1)
    let slot = coming.slot
    let isFirst = page == 0 && seal.count > 0
    put(
      coming,
      { set, store throws(Fault) in
        try SlotRows.put(slot, rows, isFirst: isFirst, in: store, into: &set)
      }, reply
    ) { machine, now, effects in
      guard isLast, seal.count > 0 else { return }
      machine.receiveStateWritten(seal: seal, at: now, into: &effects)
    }
  }

  /// Makes a page's rows beside the loop, writes them, answers, and then tells the machine. `fill`: whether a large part
  /// is deleted.
  private func put(
    _ coming: SlotComing,
    _ fill: @escaping @Sendable (inout WriteSet, Store) throws(Fault) -> Bool,
    _ reply: @escaping ClusterCalls.Reply,
    _ then: @escaping @Sendable (inout SlotTarget, Instant, inout [SlotTargetEffect]) -> Void
  ) {
    node.store.read { [self] store in
      var set = WriteSet()
      let isWhole: Bool
      do throws(Fault) {
        isWhole = try fill(&set, store)
      } catch {
        let fault = error
        self.loop.post { self.written(coming, .failure(fault), reply, then) }
        return
      }
      store.submit(set, synced: false) { [self] result in
        let result = result.map { _ in () }
        self.loop.post {
          if isWhole { self.flushSoon() }
          self.written(coming, result, reply, then)
        }
      }
    }
  }

  private func written(
    _ coming: SlotComing, _ result: Result<Void, Fault>, _ reply: ClusterCalls.Reply,
    _ then: (inout SlotTarget, Instant, inout [SlotTargetEffect]) -> Void
  ) {
    coming.isWriting = false
    guard targets[coming.slot] === coming, !coming.isEnded else {
      return reply(.failure(Fault(.conflict, "the hand-over has ended")))
    }
    switch result {
    case .success:
      withTarget(coming.slot, then)
      reply(.success([]))
    case .failure(let fault): reply(.failure(fault))
    }
  }

  // MARK: effects

  private func carry(_ effect: SlotTargetEffect, _ coming: SlotComing) {
    let slot = coming.slot
    switch effect {
    case .send(let message):
      tell(coming.id.source, SlotMoveCall(id: coming.id, run: 0, .message(message)))
    case .writeComplete(let at, let seal): complete(coming, at, seal)
    case .open(let epoch, _): open(coming, epoch)
    case .discard:
      coming.isEnded = true
      discard(coming)
    case .stranded:
      node.log.error(
        "a slot is this node's and not all of it is here: it is not served until its last owner sent the rest",
        ["slot": .of(Int(slot)), "from": .of(coming.id.source)])
    case .wake: break
    }
  }

  private func complete(_ coming: SlotComing, _ at: UInt64, _ seal: SlotSeal) {
    let copy = SlotMoveRow.Copy(
      id: coming.id, run: coming.run, have: coming.machine.have,
      complete: SlotMoveRow.Complete(at: at, seal: seal))
    var set = WriteSet()
    set.put(.meta, key: SlotMoveRow.copyKey(coming.slot), value: SlotMoveRow.value(copy))
    write(set, synced: true) { [self] result in
      guard targets[coming.slot] === coming, !coming.isEnded else { return }
      switch result {
      case .success:
        withTarget(coming.slot) { $0.receiveCompleteWritten(seal: seal, at: $1, into: &$2) }
      case .failure:
        loop.schedule(after: .milliseconds(Limits.moveRetryMilliseconds)) { [self] in
          if self.targets[coming.slot] === coming { self.complete(coming, at, seal) }
        }
      }
    }
  }

  private func open(_ coming: SlotComing, _ epoch: UInt64) {
    let (slot, revision) = (coming.slot, map.revision)
    isChanging.insert(slot)
    node.store.read { [self] store in
      let found = Result { () throws(Fault) in
        var accounts: [Row] = []
        for range in SlotRows.accounts(slot) {
          accounts += try store.rows(in: range, limitBytes: .max)
        }
        // Not what the mark says: of an opening that a crash ended, more may be written already.
        return (head: try store.slotHead(slot), accounts: accounts)
      }
      self.loop.post {
        guard case .success(let found) = found else {
          self.loop.schedule(after: .seconds(1)) { [self] in self.open(coming, epoch) }
          return
        }
        self.noteEpoch(epoch, of: slot)
        self.gate.takeAccounts(slot, found.accounts) { [self] in
          self.gate.adopt(slot, next: found.head + 1, epoch: epoch, revision: revision) {
            [self] in self.loop.post { self.opened(coming) }
          }
        }
      }
    }
  }

  private func opened(_ coming: SlotComing) {
    let slot = coming.slot
    var set = WriteSet()
    set.delete(.meta, key: SlotMoveRow.copyKey(slot))
    write(set, synced: false) { [self] _ in
      isChanging.remove(slot)
      coming.isEnded = true
      targets[slot] = nil
      count { $0.came += 1 }
      node.log.debug(
        "a slot has come", ["slot": .of(Int(slot)), "from": .of(coming.id.source)])
      // What the map asks for meanwhile.
      freed(slot)
    }
  }

  /// The map gave the slot to this node by force, as its last owner is gone: what is missing will never come, and a part of an
  /// archive is none. It begins empty.
  func abandonIfAlone(_ slot: UInt16) {
    guard let coming = targets[slot], !coming.isEnded, coming.machine.phase == .stranded,
      map.owner(of: slot) == own,
      map.node(coming.id.source).map({ $0.state == .gone }) ?? true
    else { return }
    node.log.error(
      "a slot begins empty: its last owner is gone, and had not sent all of it",
      ["slot": .of(Int(slot)), "from": .of(coming.id.source)])
    openAnew(coming)
  }

  /// The slot is this node's, and not by this try: what was copied is none of it.
  private func openAnew(_ coming: SlotComing) {
    coming.isEnded = true
    isChanging.insert(coming.slot)
    erase(coming, map.epoch(of: coming.slot))
  }

  private func erase(_ coming: SlotComing, _ epoch: UInt64) {
    if coming.isWriting {
      loop.schedule(after: .milliseconds(5)) { [self] in self.erase(coming, epoch) }
      return
    }
    var set = WriteSet()
    let copy = SlotMoveRow.Copy(nothingOf: coming.id, run: coming.run)
    set.put(.meta, key: SlotMoveRow.copyKey(coming.slot), value: SlotMoveRow.value(copy))
    erase(SlotRows.copied(coming.slot), set) { [self] result in
      if case .success = result { return open(coming, epoch) }
      loop.schedule(after: .seconds(1)) { [self] in self.erase(coming, epoch) }
    }
  }

  private func discard(_ coming: SlotComing) {
    let slot = coming.slot
    if map.owner(of: slot) == own { return openAnew(coming) }
    isChanging.insert(slot)
    if coming.isWriting {
      // What comes to the disk behind the deletion would stay there.
      loop.schedule(after: .milliseconds(5)) { [self] in self.discard(coming) }
      return
    }
    var set = WriteSet()
    set.delete(.meta, key: SlotMoveRow.copyKey(slot))
    erase(SlotRows.copied(slot), set) { [self] result in
      isChanging.remove(slot)
      if case .failure = result {
        loop.schedule(after: .seconds(1)) { [self] in
          if self.targets[slot] === coming { self.discard(coming) }
        }
        return
      }
      // Meanwhile the map has given it to this node all the same.
      if map.owner(of: slot) == own, targets[slot] === coming {
        return open(coming, map.epoch(of: slot))
      }
      if targets[slot] === coming { targets[slot] = nil }
      gate.clear(slot)
      freed(slot)
    }
  }
}
