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
      me: Member(id: own, address: advertised.description, incarnation: incarnation),
      profile: profile, seeds: seeds, random: Random.uint64(), at: loop.now.monotonic,
      into: &effects)
    carry(out: effects)
  }

  func receivePacket(_ bytes: [UInt8], from sender: NodeID) {
    guard let packet = MemberPacket(bytes), packet.sender.id == sender, !isSealed else { return }
    var effects: [MembershipEffect] = []
    membership?.receive(packet, at: loop.now.monotonic, into: &effects)
    carry(out: effects)
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
        node.log.error("this node was forgotten by an operator; it is no member any more")
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
    let id = linked.first { $0.value.description == address }?.key
    // To somebody the directory does not have yet, word comes by others.
    guard let id else { return }
    calls.ask(id, "Packet", packet.encoded, timeout: .seconds(2)) { _ in }
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
    // Restarted elsewhere: others need not wait for the host of the metadata.
    tellPeers()
    refreshStanding()
  }

  private func keep(_ incarnation: UInt64) {
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
