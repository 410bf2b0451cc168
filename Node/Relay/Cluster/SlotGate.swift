import Base
import Engine
import LinkMail
import Loop
import Ring
import Store
import Token

// What the loops do while a slot is handed over. Every loop holds what its own sessions ask of the slot's channels, and
// loop 0 what other nodes' sessions ask; each then tells the slot's shard, behind all that it sent before. So the shard
// knows when nothing more comes, finishes what came, and is quiet. When it has gone, the shard tells each loop where the
// cursors of its sessions stand, behind all that it delivered before; and what was held follows them.

/// Who owns a slot, as the loops of this node go by it while its hand-over is under way.
struct SlotOverride: Sendable, Equatable {
  var owner: NodeID
  /// The map of this revision says the same; 0: until told otherwise.
  var until: UInt64
}

/// What a session asks of a slot's channel.
enum SlotAsk {
  case publish(Session, ChannelRef, Publication)
  case subscribe(Session, ChannelRef, Subscription)
  case unsubscribe(Session, ChannelRef)

  var session: Session {
    switch self {
    case .publish(let session, _, _), .subscribe(let session, _, _), .unsubscribe(let session, _):
      session
    }
  }

  /// Bytes that it counts while it is held.
  var cost: Int {
    if case .publish(_, _, let publication) = self { return 64 + publication.frame.count }
    return 64
  }
}

/// What sessions of a loop asked of a slot's channels while it was held.
typealias HeldSlot = SlotHold<SlotAsk>

/// A slot that is being sealed here. On its shard's loop.
struct SlotSealing {
  var serial: UInt64
  /// Loops that have not said yet that they hold.
  var missing: Int
  var done: @Sendable () -> Void
}

/// Seals, opens and releases slots over all loops. Its methods may be called from any thread; per slot in order.
struct SlotGate: Sendable {
  let node: NodeHost
  let links: LinkHost

  private func shard(of slot: UInt16) -> Shard { node.shards[Int(slot) % node.shardCount] }

  /// Until further word the loops go by this owner, whatever the map says. `done` from any thread, once they all do.
  func set(
    _ owner: NodeID, of slot: UInt16, until: UInt64 = 0, _ done: @escaping @Sendable () -> Void
  ) {
    let over = SlotOverride(owner: owner, until: until)
    let left = CountDown(node.shardCount + 1, done)
    links.loop.post {
      links.set(over, of: slot)
      left.step()
    }
    for shard in node.shards {
      shard.loop.post {
        shard.far?.set(over, of: slot)
        left.step()
      }
    }
  }

  /// The loops go by the map again.
  func clear(_ slot: UInt16) {
    links.loop.post { links.set(nil, of: slot) }
    for shard in node.shards { shard.loop.post { shard.far?.set(nil, of: slot) } }
  }

  /// Records of the slot are stamped with this epoch from now on.
  func setEpoch(_ epoch: UInt64, of slots: [UInt16]) {
    for shard in node.shards {
      let own = slots.filter { Int($0) % node.shardCount == shard.index }
      if own.isEmpty { continue }
      shard.loop.post {
        for slot in own { shard.engine.receiveOwnership(slot: slot, epoch: epoch) }
      }
    }
  }

  /// Nothing new comes into the slot, and what came is written and answered when `done` is called; not at all when it
  /// is opened before. `serial`: larger each time.
  func seal(_ slot: UInt16, serial: UInt64, _ both: @escaping @Sendable () -> Void) {
    let home = shard(of: slot)
    let (node, links) = (node, links)
    let left = CountDown(2, both)
    let done: @Sendable () -> Void = { left.step() }
    links.loop.post {
      guard let tokens = node.authority.cluster else { return done() }
      tokens.holdAccounts(slot, serial: serial, done)
    }
    home.loop.post {
      home.sealing[slot] = SlotSealing(serial: serial, missing: node.shardCount + 1, done: done)
      let heard: @Sendable (Shard) -> Void = { $0.receiveHeld(slot, serial: serial) }
      links.loop.post { links.hold(slot, serial: serial, telling: home.index, heard) }
      for shard in node.shards {
        shard.loop.post {
          shard.far?.hold(slot, serial: serial)
          // Behind what it sent before.
          shard.post(.run(heard), to: home.index)
        }
      }
    }
  }

  /// The slot is served as ever: what was held goes into it before anything new.
  func open(_ slot: UInt16) {
    let home = shard(of: slot)
    let (node, links) = (node, links)
    home.loop.post {
      home.sealing[slot] = nil
      home.engine.unsealSlot(slot)
      links.loop.post {
        links.release(slot)
        node.authority.cluster?.releaseAccounts(slot)
      }
      for shard in node.shards { shard.loop.post { shard.far?.release(slot) } }
    }
  }

  /// The slot is `owner`'s, by the map of that revision: its cursors and what was held go on there. It is sealed.
  func handOver(_ slot: UInt16, to owner: NodeID, revision: UInt64, hasAccounts: Bool) {
    let home = shard(of: slot)
    let node = node
    links.loop.post {
      node.authority.cluster?.partAccounts(
        slot, SlotOverride(owner: owner, until: revision), areAny: hasAccounts)
    }
    home.loop.post {
      home.sealing[slot] = nil
      home.handOver(slot, SlotOverride(owner: owner, until: revision))
    }
  }

  /// This node is none of the cluster's: nothing is served, whoever asks, and streams end. Hand-overs that go on meanwhile
  /// serve nothing either.
  func withhold(why: String) {
    let fault = Fault(.unavailable, why)
    let (node, links) = (node, links)
    links.loop.post {
      links.isWithheld = true
      for shard in node.shards {
        shard.loop.post {
          shard.far?.isWithheld = true
          shard.endSessions(fault) { _ in true }
        }
      }
    }
  }

  /// It is again: the loops go by maps and hand-overs. Accounts of slots that others have by now are theirs.
  func restore(owning: @escaping @Sendable (UInt16) -> Bool) {
    let (node, links) = (node, links)
    links.loop.post {
      links.isWithheld = false
      var departed: Set<UInt16> = []
      // Of slots without accounts there is nothing to part with.
      _ = node.authority.notices { tenant in
        if !owning(tenant.slot) { departed.insert(tenant.slot) }
        return false
      }
      if !departed.isEmpty { node.authority.receiveDeparted(departed) }
      for shard in node.shards {
        shard.loop.post {
          shard.far?.isWithheld = false
          shard.far?.followOwners()
        }
      }
    }
  }

  /// What an earlier run read of accounts that are not this node's yet is forgotten.
  func dropAccounts(_ slot: UInt16) {
    let node = node
    links.loop.post { node.authority.cluster?.dropAccounts(slot) }
  }

  /// The slot's tenants are here. `done` from loop 0, before anybody asks for them.
  func takeAccounts(_ slot: UInt16, _ rows: [Row], _ done: @escaping @Sendable () -> Void) {
    let node = node
    links.loop.post {
      node.authority.cluster?.takeAccounts(slot, rows)
      done()
    }
  }

  /// The slot came from another node: it is served here. `next`: where its log goes on.
  func adopt(
    _ slot: UInt16, next: UInt64, epoch: UInt64, revision: UInt64,
    _ done: @escaping @Sendable () -> Void
  ) {
    let home = shard(of: slot)
    home.loop.post {
      home.engine.adoptSlot(slot, next: next, epoch: epoch, at: home.loop.now)
      home.runEffects()
      set(links.own, of: slot, until: revision, done)
    }
  }
}

/// Calls once when all have stepped. From any thread.
final class CountDown: Sendable {
  private let left: Guarded<Int>
  private let done: @Sendable () -> Void
  init(_ count: Int, _ done: @escaping @Sendable () -> Void) {
    left = Guarded(count)
    self.done = done
  }
  func step() {
    var isLast = false
    left.change {
      $0 -= 1
      isLast = $0 == 0
    }
    if isLast { done() }
  }
}

// MARK: the slot's shard

extension Shard {
  /// A loop holds the slot; what it sent before has come.
  func receiveHeld(_ slot: UInt16, serial: UInt64) {
    guard var state = sealing[slot], state.serial == serial else { return }
    state.missing -= 1
    sealing[slot] = state
    guard state.missing == 0 else { return }
    engine.sealSlot(slot)
    waitForQuiet(slot, serial)
  }

  private func waitForQuiet(_ slot: UInt16, _ serial: UInt64) {
    guard let state = sealing[slot], state.serial == serial else { return }
    if engine.slotIsQuiet(slot) {
      sealing[slot] = nil
      return state.done()
    }
    loop.schedule(after: .milliseconds(1)) { [weak self] in self?.waitForQuiet(slot, serial) }
  }

  /// Tells every loop where the cursors of its sessions stand, behind all that was delivered to them.
  fileprivate func handOver(_ slot: UInt16, _ over: SlotOverride) {
    // A slot that was sealed before a restart holds nothing here.
    var moved = engine.releaseSlot(slot, at: loop.now)
    runEffects()
    slim.forget(moved.filter { $0.session == SlimHub.session }.map(\.ref))
    moved.removeAll { $0.session == SlimHub.session }
    for to in 0..<node.shardCount {
      let cursors = moved.filter { $0.session.loop == to }
      if to == index {
        far?.handOver(slot, over, cursors)
      } else {
        post(.run { $0.far?.handOver(slot, over, cursors) }, to: to)
      }
    }
    post(
      .disown(slot, over, moved.filter { $0.session.isBehindLink }),
      to: LinkHost.firstLoop)
  }
}
