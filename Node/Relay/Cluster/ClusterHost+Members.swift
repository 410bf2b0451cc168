import Base
import Crypto
import Loop
import Membership
import Messages
import Report
import Settings
import Store

// Who is there and how far away: packets are calls whose answer nobody waits for. Nothing here decides who owns what.
extension ClusterHost {
  func beginMembership() {
    guard membership == nil, !isSealed else { return }
    var effects: [MembershipEffect] = []
    let others = relays.filter { $0.key != own && !$0.value.forgotten }
    let seeds = linked.filter { others[$0.key] != nil }.values.map(\.description).sorted()
    let profile: MembershipProfile =
      switch settings.profile {
      case .local: .local
      case .lan: .lan
      case .wan: .wan
      }
    membership = MembershipEngine(
      me: Member(
        id: own, address: advertised.description, incarnation: max(incarnation, exile.incarnation)),
      profile: profile, seeds: seeds, random: Random.uint64(), at: loop.now.monotonic,
      into: &effects)
    carry(out: effects)
  }

  func receivePacket(_ bytes: [UInt8], from sender: NodeID) {
    guard let packet = MemberPacket(bytes), packet.sender.id == sender, !isSealed else { return }
    noteAddress(packet.sender)
    var effects: [MembershipEffect] = []
    membership?.receive(packet, at: loop.now.monotonic, into: &effects)
    carry(out: effects)
  }

  /// Restarted elsewhere: others need not wait for the host of the metadata. Its certificate has proved who says so.
  private func noteAddress(_ sender: Member) {
    guard let relay = relays[sender.id], !relay.forgotten, sender.id != own,
      HostPort(sender.address)?.isNumeric == true
    else { return }
    if sender.address == told[sender.id]?.address ?? relay.address {
      if told[sender.id] != nil { told[sender.id] = sender }
      return
    }
    // Of two that run at once with one certificate, and of two lives of one node, the later.
    guard sender.incarnation > told[sender.id]?.incarnation ?? relay.incarnation else { return }
    told[sender.id] = sender
    tellPeers()
  }

  private func memberTick() {
    var effects: [MembershipEffect] = []
    membership?.receiveTick(at: loop.now.monotonic, into: &effects)
    carry(out: effects)
  }

  /// An operator's word that a node will not come back.
  func forgetMember(_ id: NodeID) {
    var effects: [MembershipEffect] = []
    _ = membership?.forget(id, at: loop.now.monotonic, into: &effects)
    carry(out: effects)
  }

  /// The others need not find out by themselves.
  func leave() {
    var effects: [MembershipEffect] = []
    membership?.leave(at: loop.now.monotonic, into: &effects)
    for case .send(let address, let packet) in effects { send(packet, to: address) }
    loop.cancel(memberTimer)
  }

  private func carry(out effects: [MembershipEffect]) {
    for effect in effects {
      switch effect {
      case .send(let address, let packet): send(packet, to: address)
      case .changed(let member): receiveChanged(member)
      case .refuted(let incarnation): keep(incarnation)
      case .twin(let other):
        if silence.isNews("twin", at: loop.now.monotonic) {
          node.log.error(
            "another node has this node's id: one of them runs on a copy of the other's data or certificate",
            ["id": .of(other.id), "address": .of(other.address)])
        }
      case .forgotten:
        receiveForgotten()
      case .left: break
      case .wake(let at):
        loop.cancel(memberTimer)
        let wait = max(0, (at - loop.now.monotonic).nanoseconds)
        memberTimer = loop.schedule(after: Interval(nanoseconds: wait)) { [unowned self] in
          if !isSealed { memberTick() }
        }
      }
    }
  }

  private func send(_ packet: MemberPacket, to address: String) {
    // A member goes by its name also where somebody gave another address for it.
    let id =
      linked.first { $0.value.description == address }?.key
      ?? membership?.members.first { $0.address == address }?.id
    // To somebody the directory does not have yet, word comes by others.
    guard let id, linked[id] != nil else { return }
    let times = exile.timesTaken
    calls.ask(id, "Packet", packet.encoded, timeout: .seconds(2)) { [self] result in
      guard case .failure(let fault) = result, fault.code == .forbidden, !isSealed else { return }
      // Its directory may be behind: the host of the metadata is asked, and only without its answer this counts.
      exile.receiveWord("\(relays[id]?.name ?? "\(id)"): \(fault)", sentAfter: times)
    }
  }

  private func receiveChanged(_ member: Member) {
    let name = relays[member.id]?.name ?? "\(member.id)"
    switch member.state {
    case .suspect: node.log.info("a node is suspected", ["peer": .of(name)])
    case .dead: node.log.warn("a node does not answer", ["peer": .of(name)])
    case .alive: node.log.info("a node is there", ["peer": .of(name)])
    case .left: node.log.info("a node has left", ["peer": .of(name)])
    case .forgotten: node.log.info("a node was forgotten", ["peer": .of(name)])
    }
    refreshStanding()
  }

  func keep(_ incarnation: UInt64) {
    let identity = ClusterRows.Identity(node: own, incarnation: incarnation, cluster: cluster)
    let rows = rows
    node.store.upkeep { [node] _ in
      do throws(Fault) {
        try rows.keep(identity)
      } catch {
        node.log.warn("the incarnation cannot be kept", ["why": .of(error)])
      }
    }
  }
}
