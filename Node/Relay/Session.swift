import Base
import Engine
import Grpc
import Http

/// One agent's stream, on the loop of its connection. Subclasses speak a wire; this class keeps what
/// every wire needs: identity, credit owed to the shards that send to it, and the reasons it is paused.
class Session {
  let id: SessionID
  /// Shards live as long as their node, and that as long as any stream.
  @safe unowned(unsafe) let shard: Shard
  let principal: Principal
  let kind: SessionKind
  let call: GrpcCall
  /// Of a SLIM app: what speaks its wire.
  final var slim: SlimStream? {
    didSet { borrowedSlim = slim.map { Borrowed($0) } }
  }
  /// The same: this session holds it.
  final private(set) var borrowedSlim: Borrowed<SlimStream>?
  /// Its stream is over. It keeps its place while something that it asked is held.
  final var hasEnded = false
  /// Cost of what each shard has sent and this stream has not yet put on the socket.
  private var owed: [Int]
  /// The same of other nodes.
  private var farOwed: [(node: NodeID, bytes: Int)] = []
  /// Shards that have heard of this session and must hear of its end.
  private var known: UInt64 = 0
  /// Why reading is paused: a bit per shard (`Limits.loops`), and the reasons below.
  private var pauses: UInt64 = 0
  static let quotaPause = 63
  static let checkPause = 62
  static let mailPause = 61
  static let holdPause = 60
  static let grantPause = 59
  static let replyPause = 58
  static let openingPause = 57
  static let farPause = 56
  static let movePause = 55
  /// Bytes of replies in the queue, and how many bytes have left when the last of them is gone.
  private var replies = (bytes: 0, until: 0)
  /// Bytes that have left for the socket.
  final private(set) var bytesLeft = 0

  init(id: SessionID, shard: Shard, principal: Principal, kind: SessionKind, call: GrpcCall) {
    self.id = id
    self.shard = shard
    self.principal = principal
    self.kind = kind
    self.call = call
    owed = [Int](repeating: 0, count: shard.node.shardCount)
  }

  // MARK: what shards send

  func deliver(_ channel: ChannelRef, _ delivery: Delivery) {}
  func answer(_ channel: ChannelRef, token: UInt64, mls: MLSKind, _ outcome: PublishOutcome) {}
  func subscribed(_ channel: ChannelRef, token: UInt64, head: UInt64, _ fault: Fault?) {}
  func readEnded(_ channel: ChannelRef) {}

  /// Ends the stream with a fault. The transport then reports the close.
  /// `discarding`: what is queued goes too, for a peer that does not read.
  func end(_ fault: Fault, discarding: Bool = false) {
    takeNoMore()
    call.finish(
      fault.code.grpc, "\(fault.code.rawValue): \(fault)", discarding: discarding)
    // The peer may not even take the end: what was queued for it is free now all the same.
    if discarding, let slim, !slim.isClosed { slim.noteQueue() }
  }

  /// The same from the engine, which knows the session no more.
  final func receiveEnd(_ fault: Fault) {
    end(fault)
    slim?.receiveEnd()
  }

  /// Another node goes on: the stream ends with OK once what is queued has left. `finally`: that node
  /// serves already; before, streams stay that can do without the store.
  func retire(finally: Bool) {
    takeNoMore()
    call.finish(.ok)
  }

  /// What is sent to this stream from now on would be lost: a SLIM message for one of many goes to another.
  final func takeNoMore() { if let slim { shard.slim.leave(slim) } }

  // MARK: replies

  /// Queues the answer to something the peer sent. From one that asks and does not read nothing more is taken until
  /// the answers have left.
  final func reply(_ frame: Bytes) {
    call.send(frame)
    replies.bytes &+= frame.count
    replies.until = bytesLeft &+ call.queuedBytes
    if replies.bytes > Limits.replyBytes { pause(by: Session.replyPause) }
  }

  final func repliesLeft(_ bytes: Int) {
    bytesLeft &+= bytes
    guard bytesLeft >= replies.until || call.queuedBytes == 0, replies.bytes > 0 else { return }
    replies.bytes = 0
    resume(by: Session.replyPause)
  }

  // MARK: credit

  @inline(__always) final func owe(_ cost: Int, to shard: Int) { owed[shard] &+= cost }

  /// Bytes left for the socket: gives the shards their credit back. The wire form of a delivery and
  /// its cost differ a little, so an empty queue settles everything.
  final func settle(_ bytes: Int) {
    var left = call.queuedBytes == 0 ? Int.max : bytes
    for index in owed.indices where owed[index] > 0 && left > 0 {
      let paid = min(left, owed[index])
      owed[index] -= paid
      left -= paid
      shard.credit(id, bytes: paid, to: index)
    }
    if !farOwed.isEmpty { settleFar(left) }
  }

  /// A delivery that is not sent after all: its credit goes back.
  final func forgive(_ cost: Int, of channel: ChannelID) {
    if let node = shard.far?.owner(of: channel, for: id) {
      oweFar(-cost, to: node)
      shard.far?.credit(id, bytes: cost, to: node)
      return
    }
    let index = shard.owner(of: channel)
    owed[index] &-= cost
    shard.credit(id, bytes: cost, to: index)
  }

  final func oweFar(_ cost: Int, to node: NodeID) {
    if let at = farOwed.firstIndex(where: { $0.node == node }) {
      farOwed[at].bytes = max(0, farOwed[at].bytes + cost)
    } else if cost > 0 {
      farOwed.append((node, cost))
    }
  }

  private func settleFar(_ bytes: Int) {
    var left = bytes
    for at in farOwed.indices where farOwed[at].bytes > 0 && left > 0 {
      let paid = min(left, farOwed[at].bytes)
      farOwed[at].bytes -= paid
      left -= paid
      shard.far?.credit(id, bytes: paid, to: farOwed[at].node)
    }
  }

  /// What was owed to a node is void.
  final func forgetOwed(to node: NodeID) { farOwed.removeAll { $0.node == node } }

  @inline(__always) final func knownTo(_ index: Int) { known |= 1 << UInt64(index) }

  final func forEachKnownShard(_ body: (Int) -> Void) {
    for index in owed.indices where known & (1 << UInt64(index)) != 0 { body(index) }
  }

  // MARK: pausing

  final func pause(by reason: Int) {
    if pauses == 0 { call.pauseReading() }
    pauses |= 1 << UInt64(reason)
  }

  final func resume(by reason: Int) {
    guard pauses & (1 << UInt64(reason)) != 0 else { return }
    pauses &= ~(1 << UInt64(reason))
    if pauses == 0 { takeHeld() }
    if pauses == 0 { call.resumeReading() }
  }

  /// Reading is about to go on: the place for what was read before.
  func takeHeld() {}
}
