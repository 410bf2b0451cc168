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
    let tls = host.tls
    for reason in LinkRefusal.Reason.allCases {
      metrics.counter(
        "posthouse_cluster_handshakes_refused_total", "Handshakes between nodes that failed",
        ["reason": .init(reason.rawValue)]
      ) { Double(tls.count(of: reason)) }
    }
  }
}
