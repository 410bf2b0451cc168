public import Base
public import Engine

/// The owner's side: sessions of other nodes, each under an id of this node's own, so that the engine knows no difference.
/// Never copied: a look at one that a class holds would copy all of it.
public struct NearProxies: ~Copyable, Sendable {
  /// Who stands behind a proxy.
  public struct Origin: Sendable, Equatable {
    public var node: NodeID
    public var session: SessionID
    public var principal: Principal
    public var kind: SessionKind
  }
  private struct Key: Hashable, Sendable {
    var node: NodeID
    var session: SessionID
  }

  private struct Slot: Sendable {
    var id: SessionID
    var origin: Origin
  }

  /// In the ids of these proxies: no loop has that number.
  public let loop: Int
  private var slots: [Slot?] = []
  private var generations: [UInt32] = []
  private var free: [Int] = []
  private var ids: [Key: SessionID] = [:]
  private var channels: [NodeID: [UInt32: ChannelRef]] = [:]
  /// Each loop over there has a number of its own for a channel: few.
  private var numbers: [NodeID: [ChannelID: [UInt32]]] = [:]
  /// What was looked for last: mostly the same is next.
  private var lastProxy: (key: Key, id: SessionID)?
  private var lastChannel: (node: NodeID, number: UInt32, ref: ChannelRef)?
  private var lastNumber: (node: NodeID, channel: ChannelID, loop: Int, number: UInt32)?
  private var lastCrowd = (asked: [SessionID](), open: [SessionID](), sessions: [SessionID]())

  /// `loop`: at most 253; the ids of two tables differ by it.
  public init(loop: Int = 253) {
    precondition((0..<254).contains(loop), "loop \(loop)")
    self.loop = loop
  }

  public var count: Int { ids.count }

  /// - Returns: the id for the engine.
  @discardableResult
  public mutating func open(
    _ session: SessionID, of node: NodeID, _ principal: Principal, _ kind: SessionKind
  ) -> SessionID {
    let key = Key(node: node, session: session)
    if let known = ids[key] { return known }
    let index: Int
    if let reused = free.popLast() {
      index = reused
    } else {
      index = slots.count
      slots.append(nil)
      generations.append(0)
    }
    let id = SessionID(loop: loop, generation: generations[index], index: index)
    slots[index] = Slot(
      id: id, origin: Origin(node: node, session: session, principal: principal, kind: kind))
    ids[key] = id
    return id
  }

  public mutating func proxy(of session: SessionID, of node: NodeID) -> SessionID? {
    let key = Key(node: node, session: session)
    if let lastProxy, lastProxy.key == key { return lastProxy.id }
    guard let id = ids[key] else { return nil }
    lastProxy = (key, id)
    return id
  }

  public func origin(_ proxy: SessionID) -> Origin? {
    let index = proxy.index
    guard index < slots.count, let found = slots[index], found.id == proxy else { return nil }
    return found.origin
  }

  /// The session behind a proxy alone: cheaper than all of its origin.
  public func session(_ proxy: SessionID) -> SessionID? {
    let index = proxy.index
    guard index < slots.count, slots[index]?.id == proxy else { return nil }
    return slots[index]?.origin.session
  }

  /// Those of the proxies that are open, and the sessions behind them.
  public mutating func open(
    among proxies: [SessionID]
  ) -> (proxies: [SessionID], sessions: [SessionID]) {
    // Messages that follow each other are mostly for the same ones.
    if proxies != lastCrowd.asked {
      let open = proxies.filter { session($0) != nil }
      lastCrowd = (proxies, open, open.compactMap { session($0) })
    }
    return (lastCrowd.open, lastCrowd.sessions)
  }

  /// - Returns: the proxy that ended.
  @discardableResult
  public mutating func close(_ session: SessionID, of node: NodeID) -> SessionID? {
    guard let id = ids.removeValue(forKey: Key(node: node, session: session)) else { return nil }
    lastProxy = nil
    lastCrowd = ([], [], [])
    slots[id.index] = nil
    generations[id.index] = (generations[id.index] &+ 1) & 0xff_ffff
    free.append(id.index)
    return id
  }

  /// What was agreed with a node is void.
  /// - Returns: its proxies, for the engine to close.
  public mutating func removeAll(of node: NodeID) -> [SessionID] {
    channels[node] = nil
    numbers[node] = nil
    (lastChannel, lastNumber) = (nil, nil)
    let gone = ids.filter { $0.key.node == node }.sorted { $0.value.value < $1.value.value }
    return gone.compactMap { close($0.key.session, of: node) }
  }

  // MARK: channels

  public mutating func introduce(_ number: UInt32, _ ref: ChannelRef, by node: NodeID) {
    // The loop has taken the number back and gives it to another channel.
    if let old = channels[node]?[number]?.id {
      numbers[node]?[old]?.removeAll { $0 == number }
      if numbers[node]?[old]?.isEmpty == true { numbers[node]?[old] = nil }
    }
    channels[node, default: [:]][number] = ref
    numbers[node, default: [:]][ref.id, default: []].removeAll { $0 >> 24 == number >> 24 }
    numbers[node, default: [:]][ref.id, default: []].append(number)
    (lastChannel, lastNumber) = (nil, nil)
  }

  /// Numbers that the node has given.
  public func channelCount(of node: NodeID) -> Int { channels[node]?.count ?? 0 }

  public mutating func channel(_ number: UInt32, of node: NodeID) -> ChannelRef? {
    if let lastChannel, lastChannel.number == number, lastChannel.node == node {
      return lastChannel.ref
    }
    guard let ref = channels[node]?[number] else { return nil }
    lastChannel = (node, number, ref)
    return ref
  }

  /// The number that a loop of the node gave the channel; when it gave none, that of another.
  public mutating func number(of channel: ChannelID, for node: NodeID, loop: Int) -> UInt32? {
    if let lastNumber, lastNumber.channel == channel, lastNumber.loop == loop,
      lastNumber.node == node
    {
      return lastNumber.number
    }
    guard let all = numbers[node]?[channel],
      let number = all.first(where: { Int($0 >> 24) == loop }) ?? all.first
    else { return nil }
    lastNumber = (node, channel, loop, number)
    return number
  }
}
