import Base
import Crypto
import Engine
import Grpc
import Http
import Link
import LinkMail
import Loop
import Report
import Ring
import Tls

/// The links to all other nodes, on loop 0: mail of this node's shards goes out over them, and what comes in is handed to
/// the shards at the end of the turn. Public methods that say so may be called from any thread.
final class LinkHost: ClusterPeers, @unchecked Sendable {
  static let path = "/posthouse.cluster.v1.Cluster/Link"
  /// In place of a loop in the ids of proxies: this and the index of the link.
  static let firstLoop = SessionID.firstLinkLoop

  enum PeerEvent: Sendable {
    case up, down
    /// What was agreed with the peer is void: it is another process, or one had given the other up.
    case forgotten
    case unreachable
    case congested(Bool)
  }

  /// The node ends its loops before it goes, and all of this runs there.
  @safe unowned(unsafe) let node: NodeHost
  let own: NodeID
  let incarnation: UInt64
  let settings: LinkSession<LinkMail>.Settings
  let loop: EventLoop
  private let tls: ClusterTlsContext
  /// By index; the first is this node itself. A peer that was removed keeps its place.
  private(set) var links: [NodeLink] = []
  private var byNode: [NodeID: NodeLink] = [:]
  /// What owners are judged by here.
  private(set) var map: RingMap?
  /// Slots whose hand-over is under way: who owns them here, whatever the map says; and what is held of them.
  var overrides: [UInt16: SlotOverride] = [:]
  var heldMail: [UInt16: HeldLinkMail] = [:]
  /// This node is none of the cluster's: nothing is its own, whatever maps and hand-overs say.
  var isWithheld = false
  /// For each shard, until the turn ends: what other nodes' sessions ask of it, and what its own sessions hear.
  var inbox: [[Mail]]
  var farInbox: [[FarInput]]
  var hasInput = false
  var writer = ByteWriter()
  var numbers = ChannelNumbers()
  /// SLIM between this node and the others. On loop 0.
  private(set) var slim: LinkSlim!
  private var effects: [(NodeLink, LinkEffect<LinkMail>)] = []
  /// Memory for what a link session says, between two calls.
  private var spare: [LinkEffect<LinkMail>] = []
  private var isRunning = false
  private var isTicking = false
  private var isOver = false
  /// Nodes that called and are none of the cluster's.
  private(set) var strangers = 0

  /// Called on loop 0. Set before the first peer.
  var onState: ((NodeID, LinkSession<LinkMail>.State) -> Void)?
  /// A shard knows of a newer map than it has.
  var onWantMap: ((_ after: UInt64) -> Void)?
  var onPeer: ((NodeID, PeerEvent) -> Void)?

  /// Attaches itself to the node's shards. Not from a loop; before the node serves. `incarnation`: larger than that of
  /// any earlier process of this node.
  init(
    node: NodeHost, own: NodeID, incarnation: UInt64, tls: ClusterTlsContext,
    settings: LinkSession<LinkMail>.Settings = LinkHost.linkSettings
  ) {
    self.node = node
    self.own = own
    self.incarnation = incarnation
    self.tls = tls
    self.settings = settings
    loop = node.loops[0]
    inbox = Array(repeating: [], count: node.shardCount)
    farInbox = Array(repeating: [], count: node.shardCount)
    let home = NodeLink(index: 0, shards: node.shardCount, peer: own, isOwn: true)
    links = [home]
    byNode[own] = home
    slim = LinkSlim(self)
    for shard in node.shards {
      let writer = Random.uint64()
      _ = shard.loop.call { shard.far = ShardFar(shard, self, writer: writer) }
    }
    _ = loop.call { self.slim.open() }
  }

  static var linkSettings: LinkSession<LinkMail>.Settings {
    var settings = LinkSession<LinkMail>.Settings()
    settings.versions = LinkFrame.versions
    return settings
  }

  /// For the server that `register` is given, and for calls: a peer that is gone is missed within seconds.
  static var httpSettings: Http2Settings {
    var settings = Http2Settings()
    settings.streamWindowBytes = Limits.linkWindowBytes
    settings.connectionWindowBytes = Limits.linkWindowBytes * 2
    settings.keepalive = .milliseconds(Limits.linkSilenceMilliseconds / 4)
    settings.keepaliveTimeout = .milliseconds(Limits.linkSilenceMilliseconds)
    settings.stallTimeout = .milliseconds(Limits.linkSilenceMilliseconds)
    return settings
  }

  private static let limits = GrpcLimits(messageBytes: Limits.messageBytes + Limits.linkHeadBytes)

  /// Serves the calls of peers with smaller ids. The server has loop 0 only, and mutual TLS of the cluster.
  func register(on server: GrpcServer) {
    server.register(Self.path, limits: Self.limits) { [self] call in accept(call) }
  }

  // MARK: peers

  /// From any thread: a node of this cluster, and where it listens, by a numeric address.
  func setPeer(_ id: NodeID, name: String, endpoint: Endpoint) {
    if id == own || id == .none { return }
    loop.post { [self] in
      guard let link = link(to: id) else { return }
      let isNew = link.endpoint != endpoint
      (link.name, link.endpoint, link.isPeer) = (name, endpoint, true)
      if isNew {
        link.client?.close()
        link.client = nil
      }
      registerMetrics(of: link)
    }
  }

  /// From any thread: the node is none of the cluster's any more.
  func removePeer(_ id: NodeID) {
    loop.post { [self] in
      guard let link = byNode[id], !link.isOwn else { return }
      link.isPeer = false
      link.endpoint = nil
      abandon(link)
      link.client?.close()
      link.client = nil
    }
  }

  /// Made when something is first sent there, or when it first calls. nil: there are too many.
  func link(to id: NodeID) -> NodeLink? {
    if let known = byNode[id] { return known }
    guard links.count < Limits.links else {
      node.log.error("too many nodes for links", ["node": .of(id)])
      return nil
    }
    let link = NodeLink(
      index: links.count, shards: node.shardCount, peer: id, isOwn: false)
    link.name = id.description
    links.append(link)
    byNode[id] = link
    var made: [LinkEffect<LinkMail>] = []
    link.session = LinkSession(
      me: own, peer: id, incarnation: incarnation, settings: settings, at: now, into: &made)
    run(link, &made)
    watch()
    return link
  }

  var now: Instant { loop.now.monotonic }

  /// From any thread. Older maps than the last are not looked at.
  func receive(map next: RingMap) {
    loop.post { [self] in
      if let map, map.revision >= next.revision { return }
      map = next
      dropOverrides(upTo: next.revision)
      for shard in node.shards {
        if shard.index == 0 {
          shard.far?.receive(next)
        } else {
          shard.loop.post { shard.far?.receive(next) }
        }
      }
    }
  }

  func askForMap(after revision: UInt64) { loop.post { [self] in onWantMap?(revision) } }

  /// From any thread: the node ends; links close and are not made again.
  func stop() {
    loop.post { [self] in
      isOver = true
      for link in links {
        link.stream?.close()
        link.stream = nil
        link.client?.close()
        link.client = nil
      }
    }
  }

  // MARK: sending

  /// On loop 0. For the peer's host; what cannot be sent is dropped, and `onPeer` has told that all is void or will.
  func send(_ mail: LinkMail, to peer: NodeID) {
    guard let link = byNode[peer], !link.isOwn else { return }
    _ = enqueue(mail, on: link)
  }

  /// On loop 0. Publishes only up to the queue's bound; all else is bounded by what sessions are owed, and when even that
  /// is far too much, what was agreed with the peer is void and begins anew.
  func enqueue(
    _ mail: LinkMail, on link: NodeLink
  ) -> LinkSession<LinkMail>.Admission {
    if link.isOwn {
      receive(mail, on: link)
      return .taken
    }
    var isPublish = false
    switch mail {
    case .publish, .live: isPublish = true
    default: break
    }
    var made: [LinkEffect<LinkMail>] = []
    swap(&made, &spare)
    let admission =
      link.session?.enqueue(mail, bytes: mail.cost, isEssential: !isPublish, into: &made)
      ?? .unreachable
    run(link, &made)
    made.removeAll(keepingCapacity: made.count <= 4_096)
    swap(&made, &spare)
    if admission == .full, !isPublish {
      node.log.error("link gives up: far too much waits", ["peer": .of(link.name)])
      abandon(link)
    }
    return admission
  }

  func abandon(_ link: NodeLink) {
    var made: [LinkEffect<LinkMail>] = []
    link.session?.abandon(at: now, into: &made)
    run(link, &made)
  }

  // MARK: effects of link sessions

  private func run(_ link: NodeLink, _ made: inout [LinkEffect<LinkMail>]) {
    // What one of them brings about comes after those at hand: sequences leave in order.
    if isRunning {
      for effect in made { effects.append((link, effect)) }
      return
    }
    isRunning = true
    for at in made.indices {
      // Taken out, not copied: a copy counts references.
      var effect = LinkEffect<LinkMail>.acknowledge(0)
      swap(&effect, &made[at])
      perform(effect, link)
    }
    var at = 0
    while at < effects.count {
      let (link, effect) = effects[at]
      at += 1
      perform(effect, link)
    }
    effects.removeAll(keepingCapacity: at <= 4_096)
    isRunning = false
  }

  private func perform(_ effect: LinkEffect<LinkMail>, _ link: NodeLink) {
    switch effect {
    case .connect: connect(link)
    case .hello(let hello): link.stream?.send(.hello(hello))
    case .send(let sequence, let mail): link.stream?.send(sequence: sequence, mail)
    case .acknowledge(let upTo):
      link.confirmed = upTo
      link.stream?.send(.acknowledged(upTo))
    case .deliver(let mail): receive(mail, on: link)
    case .disconnect(let why): disconnect(link, why)
    case .up(let version):
      link.confirmed = 0
      link.version = version
      link.refusal = ""
      node.log.info("link up", ["peer": .of(link.name), "version": .of(version)])
      tell(link, .up)
    case .down:
      node.log.warn("link down", ["peer": .of(link.name)])
      tell(link, .down)
    case .forgotten(let items):
      slim.lost(items)
      void(link) { .forgotten(link.peer, generation: $0) }
      tell(link, .forgotten)
    case .unreachable(let items):
      if link.isPeer {
        node.log.error(
          "node out of reach", ["peer": .of(link.name), "waiting": .of(items.count)])
      }
      slim.lost(items)
      void(link) { .unreachable(link.peer, generation: $0) }
      tell(link, .unreachable)
    case .congested(let isCongested):
      link.isCongested = isCongested
      tellShards(.congested(link.peer, isCongested))
      tell(link, .congested(isCongested))
    case .wake(let at): wake(link, at)
    }
  }

  private func tell(_ link: NodeLink, _ event: PeerEvent) {
    slim.receive(event, on: link)
    onPeer?(link.peer, event)
    if let state = link.session?.state { onState?(link.peer, state) }
  }

  func tellShards(_ input: FarInput) {
    for index in farInbox.indices { farInbox[index].append(input) }
    hasInput = true
  }

  /// Nothing holds that was agreed with the peer.
  private func void(_ link: NodeLink, _ input: (UInt32) -> FarInput) {
    link.generation &+= 1
    link.answers = nil
    link.refused = []
    closeProxies(of: link)
    tellShards(input(link.generation))
  }

  // Timers hold what they are for: a weak reference, once made, slows down every count of the references to it, and a
  // loop that ends lets go of its timers.

  private func wake(_ link: NodeLink, _ at: Instant) {
    let delay = at > now ? at - now : Interval(nanoseconds: 0)
    loop.schedule(after: delay) { [self] in
      guard !isOver else { return }
      var made: [LinkEffect<LinkMail>] = []
      link.session?.receiveTick(at: now, into: &made)
      run(link, &made)
    }
  }

  // MARK: connections

  private func connect(_ link: NodeLink) {
    guard let endpoint = link.endpoint, !isOver else { return fail(link) }
    let (tls, peer) = (tls, link.peer)
    let client =
      link.client
      ?? GrpcClient(
        loop: loop, endpoint: endpoint, tls: { _ in tls.makeClientWire(expecting: peer) },
        settings: Self.httpSettings)
    link.client = client
    let stream = LinkStream(self, link)
    link.stream = stream
    stream.calls(client.call(Self.path, limits: Self.limits, stream))
    loop.schedule(after: settings.greeting) { [self] in
      guard link.stream === stream, !stream.isOpen else { return }
      drop(stream, "no answer to the call")
    }
  }

  /// There is nobody to call yet.
  private func fail(_ link: NodeLink) {
    var made: [LinkEffect<LinkMail>] = []
    link.session?.receiveDisconnected(at: now, into: &made)
    run(link, &made)
  }

  private func accept(_ call: GrpcCall) -> (any GrpcHandler)? {
    guard let peer = call.peerNode, !isOver else {
      call.refuse(.unauthenticated, "links are between nodes of a cluster")
      return nil
    }
    let isKnown =
      byNode[peer.node]?.isPeer == true || map?.node(peer.node).map { $0.state != .gone } == true
    guard isKnown, peer.node < own, let link = link(to: peer.node) else {
      strangers &+= 1
      node.log.warn(
        "link refused: not a node of this cluster's map, or one that is to be called",
        ["peer": .of(peer.description)])
      call.refuse(.permissionDenied, "node \(peer.node) is not expected to call node \(own)")
      return nil
    }
    link.stream?.close()
    let stream = LinkStream(self, link, serving: call)
    link.stream = stream
    receiveConnected(stream)
    return stream
  }

  func receiveConnected(_ stream: LinkStream) {
    let link = stream.link
    guard link.stream === stream else { return stream.close() }
    var made: [LinkEffect<LinkMail>] = []
    link.session?.receiveConnected(at: now, into: &made)
    run(link, &made)
  }

  func receiveDisconnected(_ stream: LinkStream, _ why: String) {
    let link = stream.link
    guard link.stream === stream else { return }
    link.stream = nil
    if link.refusal != why, !isOver {
      link.refusal = why
      node.log.warn("link connection ended", ["peer": .of(link.name), "why": .of(why)])
    }
    fail(link)
  }

  /// This end has had enough of a connection.
  private func drop(_ stream: LinkStream, _ why: String) {
    stream.close()
    if stream.link.stream === stream { stream.link.client?.close() }
    receiveDisconnected(stream, why)
  }

  /// The session says so, and has counted it.
  private func disconnect(_ link: NodeLink, _ why: Link.LinkRefusal?) {
    if let why {
      node.log.warn("link refused", ["peer": .of(link.name), "why": .of("\(why)")])
    }
    guard let stream = link.stream else { return }
    link.stream = nil
    stream.close()
    link.client?.close()
  }

  // MARK: receiving

  func receive(_ bytes: UnsafeRawBufferPointer, on stream: LinkStream) {
    let link = stream.link
    guard link.stream === stream else { return }
    link.traffic.framesReceived &+= 1
    link.traffic.bytesReceived &+= bytes.count
    let frame: LinkFrame
    do {
      frame = try unsafe LinkFrame(bytes)
    } catch {
      link.traffic.malformed &+= 1
      return drop(stream, "a frame that cannot be read: \(error)")
    }
    var made: [LinkEffect<LinkMail>] = []
    swap(&made, &spare)
    switch consume frame {
    case .hello(let hello): link.session?.receive(hello, at: now, into: &made)
    case .mail(let sequence, let mail):
      link.session?.receive(sequence: sequence, mail, at: now, into: &made)
    case .mails(let first, let mails):
      link.session?.receive(first: first, mails, at: now, into: &made)
    case .acknowledged(let upTo):
      link.session?.receive(acknowledged: upTo, at: now, into: &made)
    }
    link.hasHeard = true
    run(link, &made)
    made.removeAll(keepingCapacity: made.count <= 4_096)
    swap(&made, &spare)
  }

  // MARK: the turn

  /// The end of a turn of loop 0, with its shard's.
  func endTurn(_ shard: Shard) {
    // Before other mail: a session's own cursor begins with mail, and what came earlier came this way.
    slim.handOut()
    var rounds = 0
    repeat {
      if hasInput { handOut(shard) }
      shard.endTurn()
      rounds += 1
    } while hasInput && rounds < 4
    if hasInput { loop.post {} }
    for link in links {
      if link.isDue { flushAnswers(link) }
      if link.hasHeard && !link.isHeld { confirm(link) }
      link.isDue = false
      link.stream?.flush()
    }
  }

  /// What came is confirmed, if it is much or has waited.
  private func confirm(_ link: NodeLink) {
    var made: [LinkEffect<LinkMail>] = []
    guard link.session?.endTurn(isDue: link.isDue, into: &made) != false else {
      return dueSoon(link)
    }
    link.hasHeard = false
    run(link, &made)
  }

  /// Answers that nobody waits for leave with others, when they are many, or in a moment.
  func answersGathered(_ link: NodeLink) {
    guard let run = link.answers else { return }
    if run.isQuiet, run.count < Limits.linkQuietAnswers {
      dueSoon(link)
    } else {
      flushAnswers(link)
    }
  }

  private func dueSoon(_ link: NodeLink) {
    if link.isDueSoon { return }
    link.isDueSoon = true
    loop.schedule(after: .milliseconds(Limits.linkDueMilliseconds)) {
      link.isDueSoon = false
      link.isDue = true
    }
  }

  private func handOut(_ home: Shard) {
    hasInput = false
    for shard in node.shards {
      let (mail, inputs) = (inbox[shard.index], farInbox[shard.index])
      if mail.isEmpty, inputs.isEmpty { continue }
      inbox[shard.index] = []
      farInbox[shard.index] = []
      // The next turn mostly brings as much.
      inbox[shard.index].reserveCapacity(min(mail.count, 256))
      farInbox[shard.index].reserveCapacity(min(inputs.count, 256))
      if shard === home {
        hand(mail, inputs, to: shard)
      } else {
        shard.loop.post { [self] in hand(mail, inputs, to: shard) }
      }
    }
  }

  private func hand(_ mail: [Mail], _ inputs: [FarInput], to shard: Shard) {
    if !mail.isEmpty { shard.receive(mail, [], from: Self.firstLoop) }
    if !inputs.isEmpty { shard.far?.receive(inputs) }
  }

  // MARK: silence

  /// Once a second: says something on links that are still, and ends connections that say nothing.
  private func watch() {
    if isTicking { return }
    isTicking = true
    loop.schedule(after: .milliseconds(Limits.linkSilenceMilliseconds / 8)) { [self] in
      guard !isOver else { return }
      isTicking = false
      let silence = Interval.milliseconds(Limits.linkSilenceMilliseconds)
      for link in links {
        guard let stream = link.stream, stream.isOpen, link.session?.isUp == true else { continue }
        if now - stream.lastHeard > silence {
          drop(stream, "nothing was heard for \(Limits.linkSilenceMilliseconds) ms")
        } else if now - stream.lastSaid > .milliseconds(Limits.linkSilenceMilliseconds / 4) {
          stream.send(.acknowledged(link.confirmed))
        }
      }
      watch()
    }
  }
}
