import Base
import Codec
import Loop
import Membership
import Messages
import Report
import Ring
import Settings
import Store

// What the cluster has agreed on comes here, from the host of the metadata or from its disk: it is kept, then told.
extension ClusterHost {
  /// News from whom it may come. False: the change is not of the map here, the whole one is needed.
  @discardableResult
  func receive(_ state: ClusterState, from sender: NodeID) -> Bool {
    var isWhole = true
    if state.host != 0, NodeID(state.host) != host {
      host = NodeID(state.host)
      keepState()
    }
    if !state.relays.isEmpty, state.directory >= directory {
      take(state.relays, state.directory)
    }
    if !state.map.isEmpty {
      do throws(RingCodecError) {
        receive(try RingMap(state.map))
      } catch {
        node.log.error("a map that cannot be read", ["from": .of(sender), "why": .of("\(error)")])
      }
    } else if !state.change.isEmpty {
      do throws(RingCodecError) {
        receive(try newest.applying(state.change))
      } catch {
        isWhole = false
      }
    }
    return isWhole
  }

  /// A map: the newer of two wins.
  func receive(_ map: RingMap) {
    guard map.revision > newest.revision, map.slotBits == newest.slotBits else { return }
    newest = map
    keepMap()
  }

  /// Writes the newest map, then tells of it. Maps that come meanwhile are written together.
  private func keepMap() {
    if isKeeping || isSealed { return }
    isKeeping = true
    let map = newest
    var set = WriteSet()
    set.put(.meta, key: ClusterRows.mapKey, value: map.encoded)
    node.store.submit(set, synced: true) { [self] result in
      loop.post { [self] in
        isKeeping = false
        if case .failure(let fault) = result {
          node.log.error("the map cannot be kept", ["why": .of(fault)])
          if isSealed { return }
          loop.schedule(after: .seconds(1)) { [unowned self] in keepMap() }
          return
        }
        announce(map)
        if newest.revision > map.revision { keepMap() }
        comeBack()
      }
    }
  }

  /// From here on this node goes by the map.
  func announce(_ map: RingMap) {
    let before = self.map.value
    self.map.value = map
    if map.version != before.version || before.revision == 0 {
      let share = map.load(of: own)
      node.log.info(
        "a map of the ring",
        [
          "version": .of(map.version), "nodes": .of(map.nodes.count),
          "slots_here": .of(share.owned), "moving": .of(map.movingSlots.count),
        ])
    }
    if let links { node.loops[0].post { links.receive(map: map) } }
    for observer in observers { observer(map) }
    beginMembership()
    standing.change { $0.isIn = true }
  }

  // MARK: nodes

  private func take(_ told: [ClusterRelay], _ revision: UInt64) {
    let isNew = revision > directory
    directory = revision
    var next: [NodeID: ClusterRelay] = [:]
    for relay in told.prefix(Limits.clusterRelays) where relay.nodeID != 0 {
      next[NodeID(relay.nodeID)] = relay
    }
    next[own] = shown()
    replace(next)
    if !isNew { return }
    keepState()
    tellPeers()
  }

  /// A newer directory: what a node told the host of the metadata since goes before what it had told here.
  func replace(_ next: [NodeID: ClusterRelay]) {
    for (id, relay) in next
    where relay.address != relays[id]?.address || relay.incarnation != relays[id]?.incarnation {
      told[id] = nil
    }
    relays = next
  }

  /// Who is there, for a start without the host of the metadata.
  func keepState() {
    if isSealed { return }
    var state = ClusterState()
    state.host = host.value
    state.relays = relays.values.sorted { $0.nodeID < $1.nodeID }.map {
      var bare = $0
      bare.load = nil
      return bare
    }
    var set = WriteSet()
    set.put(.meta, key: ClusterRows.stateKey, value: state.encoded())
    node.store.submit(set, synced: false) { [node] result in
      if case .failure(let fault) = result {
        node.log.warn("the nodes of the cluster cannot be kept", ["why": .of(fault)])
      }
    }
  }

  /// Calls and links get the nodes' addresses: what each said last itself, to the host of the metadata, whose directory
  /// it is then in, or to this node. What others say of it moves nothing.
  func tellPeers() {
    calls.bar(Set(relays.filter { $0.value.forgotten }.keys))
    var wanted: [NodeID: HostPort] = [:]
    for (id, relay) in relays where id != own && !relay.forgotten {
      guard let address = HostPort(told[id]?.address ?? relay.address), address.isNumeric else {
        continue
      }
      wanted[id] = address
    }
    for (id, address) in wanted where linked[id] != address {
      calls.setAddress(id, address)
      let name = relays[id]?.name ?? ""
      if let links {
        let endpoint = Endpoint.tcp(host: address.host, port: address.port)
        node.loops[0].post { links.setPeer(id, name: name, endpoint: endpoint) }
      }
    }
    for id in linked.keys where wanted[id] == nil {
      calls.remove(id)
      if let links { node.loops[0].post { links.removePeer(id) } }
    }
    linked = wanted
  }
}
