import Base
import Codec
import Engine
import Grpc
import Loop
import Slim

/// A SLIM publish on its way, as every receiver gets it but for its header MAC. One buffer, shared by all
/// queues of all loops.
struct SlimMessage: Sendable {
  let family: Family
  let destination: SlimName
  /// 1: to one subscriber.
  let isAnycast: Bool
  /// gRPC prefix and message; family B: with a hole for the MAC.
  let frame: Bytes
  /// What a receiver's MAC is made of; nil in family A.
  let hop: SlimHop?
  /// The sender uses this header again and again: its MACs are worth remembering.
  let repeats: Bool
}

/// The signed part of a header behind the link's own, for the next hop.
final class SlimHop: Sendable {
  let rest: [UInt8]
  init(_ rest: [UInt8]) { self.rest = rest }
}

/// One loop's part of SLIM: routes publishes to sessions here and to the loops that have others, and
/// acknowledges subscriptions when every loop knows of them.
final class SlimHub {
  private unowned let shard: Shard
  private(set) var router: SlimRouter
  var counts = SlimCounters()
  /// Bytes sent to each loop and not dealt with there yet.
  private var onTheWay: [Int]
  /// Sessions that wait until a loop has caught up.
  private var waiting: [[SessionID]]
  /// Acknowledgements of this turn, and those that wait for the other loops.
  private var acks: [Ack] = []
  private var syncs: [UInt64: (left: Int, acks: [Ack])] = [:]
  private var nextSync: UInt64 = 1
  /// Streams with publishes not yet metered.
  private var unmetered: [SlimStream] = []

  private struct Ack {
    var session: SessionID
    var frame: Bytes
  }

  init(shard: Shard, loops: Int) {
    self.shard = shard
    router = SlimRouter(loop: shard.index, loops: loops)
    onTheWay = [Int](repeating: 0, count: loops)
    waiting = [[SessionID]](repeating: [], count: loops)
  }

  // MARK: subscribing

  func subscribe(_ session: SessionID, _ family: Family, _ name: SlimName, id: UInt64) {
    let fault = router.receiveSubscribe(session, family, name, id: id)
    acknowledge(session, id: id, fault)
  }

  func unsubscribe(_ session: SessionID, _ family: Family, _ name: SlimName, id: UInt64) {
    router.receiveUnsubscribe(session, family, name, id: id)
    acknowledge(session, id: id, nil)
  }

  /// An id of 0 wants no answer.
  func acknowledge(_ session: SessionID, id: UInt64, _ fault: Fault?) {
    guard id != 0 else { return }
    acks.append(
      Ack(session: session, frame: SlimAnswer.subscriptionAck(id: id, error: fault?.description)))
  }

  func closed(_ stream: SlimStream) {
    router.receiveClose(stream.session.id)
    meter(stream)
  }

  // MARK: publishing

  /// `route`: what the sender's stream knows, looked up for this destination.
  func publish(_ message: SlimMessage, on route: SlimRoute, from sender: Session) {
    if message.isAnycast {
      switch route.pick(from: sender.id) {
      case .none: counts.unrouted &+= 1
      case .local(let id): hand(message, to: id)
      case .loop(let loop): send(message, to: loop, from: sender)
      }
      return
    }
    for id in route.members where id != sender.id { hand(message, to: id) }
    if route.remoteTotal > 0 {
      for loop in route.remote.indices where route.remote[loop] > 0 {
        send(message, to: loop, from: sender)
      }
    }
  }

  @inline(__always) private func hand(_ message: SlimMessage, to id: SessionID) {
    shard.sessions.find(id)?.forward(message)
  }

  private func send(_ message: SlimMessage, to loop: Int, from sender: Session) {
    shard.post(.slimPublish(message), to: loop)
    onTheWay[loop] &+= message.frame.count
    if onTheWay[loop] > Limits.slimMailBytes, !sender.isPaused(by: Session.mailPause) {
      sender.pause(by: Session.mailPause)
      waiting[loop].append(sender.id)
    }
  }

  // MARK: mail

  func receive(_ message: SlimMessage) {
    guard let route = router.route(message.family, message.destination) else { return }
    if message.isAnycast {
      if case .local(let id) = route.pick(from: nil, onlyLocal: true) { hand(message, to: id) }
    } else {
      for id in route.members { hand(message, to: id) }
    }
  }

  func receiveTaken(_ bytes: Int, by loop: Int) {
    onTheWay[loop] &-= bytes
    guard onTheWay[loop] <= Limits.slimMailBytes / 2, !waiting[loop].isEmpty else { return }
    let resumed = waiting[loop]
    waiting[loop] = []
    for id in resumed { shard.sessions.find(id)?.resume(by: Session.mailPause) }
  }

  func receive(_ interest: [SlimInterest], from loop: Int) {
    for change in interest { router.receiveInterest(change, from: loop) }
  }

  func receiveSynced(_ token: UInt64) {
    guard var sync = syncs[token] else { return }
    sync.left -= 1
    if sync.left > 0 {
      syncs[token] = sync
    } else {
      syncs[token] = nil
      send(sync.acks)
    }
  }

  private func send(_ acks: [Ack]) {
    for ack in acks { shard.sessions.find(ack.session)?.call.send(ack.frame) }
  }

  // MARK: the turn

  /// Tells the other loops what changed, and acknowledges it when they have heard.
  func endTurn() {
    for stream in unmetered { meter(stream) }
    unmetered.removeAll(keepingCapacity: true)
    let interest = router.takeInterest()
    let others = shard.node.shardCount - 1
    if !interest.isEmpty {
      forEachOther { shard.post(.slimInterest(interest), to: $0) }
    }
    guard !acks.isEmpty else { return }
    let due = acks
    acks = []
    if others == 0 { return send(due) }
    let token = nextSync
    nextSync &+= 1
    syncs[token] = (others, due)
    forEachOther { shard.post(.slimSync(token), to: $0) }
  }

  private func forEachOther(_ body: (Int) -> Void) {
    for loop in 0..<shard.node.shardCount where loop != shard.index { body(loop) }
  }

  // MARK: usage

  func note(_ stream: SlimStream) { unmetered.append(stream) }

  private func meter(_ stream: SlimStream) {
    let (messages, bytes) = stream.takeUsage()
    guard messages > 0 else { return }
    shard.counts.published &+= Int(messages)
    shard.counts.publishedBytes &+= Int(bytes)
    let tenant = stream.session.principal.tenant
    guard tenant != .none else { return }
    shard.meter(tenant)
    shard.engine.receiveUsage(tenant, messages: messages, bytes: bytes, at: shard.loop.now)
    shard.brake(stream.session)
  }
}

/// Counted on one loop.
struct SlimCounters: Sendable {
  /// Publishes nobody had subscribed to.
  var unrouted = 0
  /// Publishes and subscriptions under another org's name, or with names that contradict each other.
  var withoutRight = 0
  /// Messages with a missing or wrong header MAC.
  var badMacs = 0
  /// Messages whose ttl ran out.
  var expired = 0
  /// Streams ended because their queue ran over.
  var overflows = 0

  static func + (a: SlimCounters, b: SlimCounters) -> SlimCounters {
    var sum = a
    sum.unrouted += b.unrouted
    sum.withoutRight += b.withoutRight
    sum.badMacs += b.badMacs
    sum.expired += b.expired
    sum.overflows += b.overflows
    return sum
  }
}
