import Base
import Engine
import Grpc
import Link
import LinkMail
import Loop

/// The link to one other node, and the sessions of that node that use channels of this one. On loop 0 only.
final class NodeLink {
  let index: Int
  let peer: NodeID
  /// This node itself: sessions whose channels have come home ask this way, and nothing leaves the process.
  let isOwn: Bool
  /// Of the peer, for logs.
  var name = ""
  /// Where to call it; nil: not known, or it is no peer any more.
  var endpoint: Endpoint?
  /// It belongs to the cluster, as this node was told.
  var isPeer = false
  /// nil: this node itself.
  var session: LinkSession<LinkMail>?
  var stream: LinkStream?
  var client: GrpcClient?
  /// Rises whenever what was agreed became void.
  var generation: UInt32 = 0
  var near: NearProxies
  private let shards: Int
  /// By the index of their ids.
  private var proxies: [Proxy] = []
  /// Cost of what each shard has sent and the session has not yet put on its socket; `shards` figures for each proxy.
  private var owed: [Int] = []
  /// Who got the last message from there, together and by loop.
  var crowd: (all: [SessionID], byLoop: [[SessionID]]) = ([], [])
  /// Answers for a session over there that make one word so far.
  var answers: AnswerRun?
  /// What both ends speak; 0: not known yet. One process of the peer never changes it.
  var version: UInt32 = 0
  /// Channels, by the peer's numbers, of which something was refused as another node's: all is until the peer introduces
  /// them anew.
  var refused: Set<UInt32> = []
  var isCongested = false
  /// Something came in this turn that is to be confirmed.
  var hasHeard = false
  /// What comes is not confirmed: a loop is behind with it.
  var isHeld = false
  /// What can wait for a moment has waited: answers and confirmations leave at the end of the turn.
  var isDue = true
  var isDueSoon = false
  /// What was confirmed last on this connection: said again when there is nothing else to say.
  var confirmed: UInt64 = 0
  /// The last refusal logged: the same one again is not news.
  var refusal = ""
  var traffic = LinkTraffic()
  let facts = Guarded(LinkFacts())

  /// What the host keeps of a proxy beside its id.
  struct Proxy {
    /// Shards that have heard of it.
    var known: UInt64 = 0
    /// Reasons to read no further, as `Session.pause(by:)` has them.
    var pauses: UInt64 = 0
  }

  init(index: Int, shards: Int, peer: NodeID, isOwn: Bool) {
    self.index = index
    self.shards = shards
    self.peer = peer
    self.isOwn = isOwn
    near = NearProxies(loop: LinkHost.firstLoop + index)
  }

  // MARK: proxies

  /// `id`: of a proxy that is open.
  func with<R>(_ id: SessionID, _ body: (inout Proxy) -> R) -> R {
    reach(id)
    return body(&proxies[id.index])
  }

  @inline(__always) private func reach(_ id: SessionID) {
    while proxies.count <= id.index {
      proxies.append(Proxy())
      for _ in 0..<shards { owed.append(0) }
    }
  }

  /// `cost`: of what `shard` sends to a proxy that is open.
  @inline(__always) func owe(_ cost: Int, _ id: SessionID, to shard: Int) {
    reach(id)
    owed[id.index * shards + shard] &+= cost
  }

  /// The session has put so many bytes on its socket. `pay`: what of it each shard gets back.
  func settle(_ bytes: Int, _ id: SessionID, _ pay: (_ shard: Int, _ bytes: Int) -> Void) {
    reach(id)
    var left = bytes
    for shard in 0..<shards where left > 0 {
      let at = id.index * shards + shard
      let paid = min(left, owed[at])
      if paid <= 0 { continue }
      owed[at] -= paid
      left -= paid
      pay(shard, paid)
    }
  }

  /// The proxy is closed. Returns the shards that know of it.
  func forget(_ id: SessionID) -> UInt64 {
    reach(id)
    for shard in 0..<shards { owed[id.index * shards + shard] = 0 }
    defer { proxies[id.index] = Proxy() }
    return proxies[id.index].known
  }
}

/// Publishes of a session with tokens in a row, that took sequences in a row.
struct AnswerRun {
  let session: SessionID
  let channel: UInt32
  let token: UInt64
  let sequence: UInt64
  /// Nobody waits for them but the memory of what was published; and a second of two would be noticed.
  let isQuiet: Bool
  var count: UInt32 = 1

  /// Whether that is the next of them.
  mutating func takes(
    _ session: SessionID, _ channel: UInt32, token: UInt64, sequence: UInt64
  ) -> Bool {
    guard session == self.session, channel == self.channel,
      token == self.token &+ UInt64(count),
      sequence == self.sequence &+ UInt64(count),
      count < Limits.linkAnswers
    else { return false }
    count += 1
    return true
  }
}

/// Counted for one link since the process began.
struct LinkTraffic: Sendable {
  var framesSent = 0
  var bytesSent = 0
  var framesReceived = 0
  var bytesReceived = 0
  /// Messages sent for sessions over there, and the sessions they were for.
  var messagesSent = 0
  var deliveriesSent = 0
  /// Connections that ended because of what came over them.
  var malformed = 0
  /// Mail that fits nothing here: its session has ended, or the peer breaks the rules.
  var stray = 0
  /// Publishes refused because the link was full.
  var refused = 0
}

/// A link as metrics and inspection show it.
struct LinkFacts: Sendable {
  var node = NodeID.none
  var name = ""
  var isUp = false
  /// `down`, `connecting`, `greeting`, `up`.
  var state = "down"
  /// What both ends speak; 0 while it is not up.
  var version: UInt32 = 0
  /// Bytes the peer has not confirmed.
  var queuedBytes = 0
  /// Bytes on their way into the connection.
  var outputBytes = 0
  /// Sessions of the peer that use channels here.
  var proxies = 0
  var isCongested = false
  var counts = LinkCounts()
  var traffic = LinkTraffic()
}
