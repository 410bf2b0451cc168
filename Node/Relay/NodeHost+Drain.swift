import Base
import Grpc
import Http
import Loop
import Messages
import Report
import Settings
import Store
import Synchronization

/// How a node ends.
struct DrainOrder: Sendable {
  enum Reason: Sendable {
    /// Nobody waits to go on: streams end with UNAVAILABLE.
    case ending
    /// An operator, or a supervisor that keeps the sockets, will have another node serve: streams end with
    /// OK, upon which SLIM apps connect anew.
    case moving
    /// The same, and the successor has the sockets already, the admin socket's path too.
    case successor
  }
  var reason: Reason
  /// For calls under way.
  var grace: Interval
  /// For the log.
  var why: String

  init(_ reason: Reason, grace: Interval, why: String) {
    self.reason = reason
    self.grace = grace
    self.why = why
  }
}

extension NodeHost {
  /// Has whoever runs this node drain it. False: it drains already.
  func requestDrain(_ order: DrainOrder) -> Bool {
    let isFirst = drainOrder.withLock { held in
      if held != nil { return false }
      held = order
      return true
    }
    if isFirst { askForDrain() }
    return isFirst
  }

  /// Stops accepting, lets open calls end, ends agents' streams, closes the store. Blocks for at most the
  /// drain time and a little.
  public func drain() {
    let order = drainOrder.withLock { held in
      let order =
        held
        ?? DrainOrder(
          inheritance.isHeldElsewhere ? .moving : .ending, grace: settings.drain, why: "told to end"
        )
      held = order
      return order
    }
    readiness.setDraining(isMoving: order.reason != .ending)
    health.setAll(.notServing)
    log.info("draining", ["why": .of(order.why)])
    switch order.reason {
    case .ending:
      endServing(order)
      sealRegistry()
      settleShards()
      stopLoops()
      closeStore()
    case .moving, .successor:
      moveAway(order)
      for shard in shards { _ = shard.loop.call { shard.seal() } }
      sealRegistry()
      settleShards()
      closeStore()
      waitForSuccessor(order)
      part()
      stopLoops()
    }
    finishDrain()
  }

  private var servers: [GrpcServer] {
    [listeners.agents, listeners.admin, listeners.registry, listeners.cluster].compactMap { $0 }
  }

  /// Open calls get a moment to end by themselves; agents' streams never do.
  private func endServing(_ order: DrainOrder) {
    let servers = servers
    listeners.http?.drain()
    for server in servers { server.drain() }
    waitUntil(min(order.grace, .milliseconds(NodeLimits.callGraceMilliseconds))) {
      servers.allSatisfy { $0.sessionCount.load(ordering: .relaxed) == 0 }
    }
    for server in servers { server.closeAll(.unavailable, NodeHost.parting) }
    waitUntil(.seconds(1)) {
      servers.allSatisfy { $0.sessionCount.load(ordering: .relaxed) == 0 }
    }
  }

  /// Agents' streams end at once and in good order, but for those of SLIM apps: they go on until the other
  /// node accepts. What else is under way gets its time.
  private func moveAway(_ order: DrainOrder) {
    let servers = servers
    if order.reason == .successor { listeners.adminListener?.leavePath() }
    listeners.http?.drain()
    for server in servers { server.drain(sparingLasting: true) }
    eachShard { $0.retireSessions(finally: false) }
    waitUntil(order.grace) { servers.allSatisfy { $0.callsUnderWay() == 0 } }
    // What is left has no end of its own: watches, reflection, and calls whose time is over.
    for server in servers {
      server.closeAll(.unavailable, NodeHost.parting, sparingLasting: true)
    }
    // Trailers leave, and idle connections after their GOAWAY. Who does not read is not waited for.
    waitUntil(.milliseconds(NodeLimits.partingMilliseconds)) {
      servers.allSatisfy { $0.openConnections(butLasting: true) == 0 }
        && (listeners.http?.connectionCount ?? 0) == 0
    }
  }

  /// The directory is free. Whoever is in line takes it within milliseconds; when nobody is, nobody is
  /// waited for.
  private func waitForSuccessor(_ order: DrainOrder) {
    let line =
      order.reason == .successor
      ? NodeLimits.successorMilliseconds : NodeLimits.lineMilliseconds
    waitUntil(.milliseconds(line)) { store.successorServes() != nil }
    guard store.successorServes() != nil else { return }
    waitUntil(.milliseconds(NodeLimits.successorMilliseconds)) { store.successorServes() == true }
  }

  /// SLIM apps connect to the other node as soon as their streams end.
  private func part() {
    eachShard { $0.retireSessions(finally: true) }
    for server in servers { server.drain() }
    waitUntil(.milliseconds(NodeLimits.partingMilliseconds)) {
      servers.allSatisfy { $0.openConnections(butLasting: false) == 0 }
    }
  }

  private func sealRegistry() {
    if let cluster { _ = cluster.loop.call { cluster.seal() } }
    guard let host = registryHost else { return }
    _ = host.loop.call { host.seal() }
    waitUntil(.seconds(1)) { host.loop.call { host.isQuiet } ?? true }
  }

  private static let parting = "draining: the node is shutting down"

  /// What agents have sent and the loops have read is written before the store closes.
  private func settleShards() {
    var quiet = 0
    waitUntil(.seconds(1)) {
      // Mail may be between two loops while each of them is quiet: seen twice, it is over.
      quiet =
        shards.allSatisfy { shard in shard.loop.call { shard.isQuiet } ?? true } ? quiet + 1 : 0
      return quiet == 2
    }
  }

  /// Polls; false when the time is over first.
  @discardableResult
  private func waitUntil(_ limit: Interval, _ done: () -> Bool) -> Bool {
    let end = Timestamp.now() + limit
    while !done() {
      if Timestamp.now() > end { return false }
      pauseThread(.milliseconds(5))
    }
    return true
  }
}

/// Does nothing for a while. Never on a loop.
func pauseThread(_ interval: Interval) {
  _ = Handoff<Bool>().take(timeout: interval)
}
