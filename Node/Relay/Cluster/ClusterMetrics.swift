import Base
import Membership
import Report
import Ring
import Tls

extension NodeHost {
  /// The cluster as this node saw it in the last second.
  func registerClusterMetrics(_ host: ClusterHost) {
    let standing = host.standing
    let map = host.map
    let own = host.own
    for state in [MemberState.alive, .suspect, .dead] {
      metrics.gauge(
        "posthouse_cluster_members", "Other nodes by what is believed of them",
        ["state": .init("\(state)")]
      ) { Double(standing.value.members.values.count { $0 == state }) }
    }
    metrics.gauge("posthouse_ring_version", "Layout of the ring that this node goes by") {
      Double(map.value.version)
    }
    metrics.gauge("posthouse_ring_revision", "Change of the ring that this node goes by") {
      Double(map.value.revision)
    }
    metrics.gauge("posthouse_ring_slots_owned", "Slots that this node owns") {
      Double(map.value.load(of: own).owned)
    }
    metrics.gauge("posthouse_ring_slots_moving", "Slots on their way, anywhere") {
      Double(map.value.movingSlots.count)
    }
    metrics.counter(
      "posthouse_cluster_sync_failures_total", "Times the host of the metadata did not answer"
    ) { Double(standing.value.syncFailures) }
    if let moves = host.moves { registerMoveMetrics(moves.facts) }
    let tls = host.tls
    for reason in LinkRefusal.Reason.allCases {
      metrics.counter(
        "posthouse_cluster_handshakes_refused_total", "Handshakes between nodes that failed",
        ["reason": .init(reason.rawValue)]
      ) { Double(tls.count(of: reason)) }
    }
  }
}

extension NodeHost {
  /// Slots on their way from this node and to it.
  private func registerMoveMetrics(_ facts: Guarded<SlotMovesFacts>) {
    func moving(_ state: String, _ read: @escaping @Sendable (SlotMovesFacts) -> Int) {
      metrics.gauge(
        "posthouse_slots_moving", "Slots that leave this node, come to it, and wait to leave",
        ["state": .init(state)]
      ) { Double(read(facts.value)) }
    }
    moving("leaving") { $0.leaving }
    moving("coming") { $0.coming }
    moving("waiting") { $0.waiting }
    metrics.gauge(
      "posthouse_slots_records_left", "Records of leaving slots that are not copied yet"
    ) { Double(facts.value.recordsLeft) }
    metrics.counter("posthouse_slots_moved_total", "Slots handed over", ["way": "out"]) {
      Double(facts.value.left)
    }
    metrics.counter("posthouse_slots_moved_total", "Slots handed over", ["way": "in"]) {
      Double(facts.value.came)
    }
    metrics.counter(
      "posthouse_slots_seals_total", "Times a slot was sealed to be handed over"
    ) { Double(facts.value.seals) }
    metrics.counter(
      "posthouse_slots_copied_bytes_total", "Bytes of slots sent to their new owners"
    ) { Double(facts.value.bytesSent) }
    metrics.gauge(
      "posthouse_slots_last_stall_seconds",
      "How long publishes to the slot handed over last were held"
    ) { Double(facts.value.lastStallMilliseconds) / 1_000 }
  }
}
