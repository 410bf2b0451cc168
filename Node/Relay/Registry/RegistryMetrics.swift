import Base
import Registry
import Report

extension NodeHost {
  /// Figures of the registry as of its last second.
  func registerRegistryMetrics(_ host: RegistryHost) {
    let facts = host.facts
    func gauge(
      _ name: String, _ help: String, _ read: @escaping @Sendable (RegistryHost.Facts) -> Int
    ) {
      metrics.gauge("posthouse_registry_\(name)", help) { Double(read(facts.value)) }
    }
    func counter(
      _ name: String, _ help: String, _ read: @escaping @Sendable (RegistryHost.Facts) -> Int
    ) {
      metrics.counter("posthouse_\(name)_total", help) { Double(read(facts.value)) }
    }
    gauge("local_agents", "Agents whose home is this relay") { $0.local }
    gauge("federated_agents", "Agents of other relays") { $0.federated }
    gauge("tombstones", "Deletes that are remembered") { $0.tombstones }
    gauge("skills", "Different skills on offer") { $0.skills }
    gauge("origins", "Relays that records came from, this one included") { $0.origins }
    gauge("hidden_origins", "Relays not heard of for origin_timeout") { $0.hidden }
    gauge("failing_peers", "Relays whose last exchange failed") { $0.failing }
    counter("registry_registrations", "RegisterSkills taken") { $0.counts.registered }
    counter("registry_heartbeats", "Heartbeats taken") { $0.counts.refreshed }
    counter("registry_unregistrations", "UnregisterSkills that took something away") {
      $0.counts.unregistered
    }
    counter("registry_expirations", "Agents ended for want of a heartbeat") { $0.counts.expired }
    counter("registry_discoveries", "DiscoverBySkill answered") { $0.counts.discovered }
    counter("registry_records_merged", "Records of other relays that were news") {
      $0.counts.merged
    }
    counter("registry_records_refused", "Records of other relays that were refused") {
      $0.counts.refused + $0.rejected
    }
    counter("registry_origins_refused", "Records refused because too many relays have records here")
    {
      $0.counts.originless
    }
    counter("registry_origins_evicted", "Relays without records that gave way to others") {
      $0.counts.evicted
    }
    counter("federation_vectors_refused", "Vectors of other relays that name too many relays") {
      $0.longVectors
    }
    counter("registry_rebuilds", "Times everything foreign was pulled anew") { $0.counts.rebuilt }
    counter("federation_exchanges", "Exchanges begun with other relays") { $0.exchanges }
    counter("federation_failures", "Exchanges that failed") { $0.failures }
    counter("federation_records_sent", "Records sent to other relays") { $0.sent }
    counter("federation_records_received", "Records taken from other relays") { $0.received }
  }
}
