import Base
import Report
import Store

extension NodeHost {
  /// What `/metrics` shows; the shards' part is gathered right before each scrape.
  func registerMetrics() {
    ProcessFacts.register(in: metrics)
    registerShardMetrics()
    registerStoreMetrics()
    if let host = registryHost { registerRegistryMetrics(host) }
    if let cluster { registerClusterMetrics(cluster) }
    metrics.gauge("posthouse_ready", "1 when /readyz says yes") { [readiness] in
      readiness.reasons.isEmpty ? 1 : 0
    }
    metrics.gauge(
      "posthouse_info", "Version of the node", ["version": .init(PosthouseVersion.text)]
    ) {
      1
    }
    metrics.counter("posthouse_log_lines_dropped_total", "Log lines that found the queue full") {
      [log] in Double(log.droppedLines)
    }
    metrics.counter("posthouse_audit_failures_total", "Audit entries that could not be written") {
      [audit] in Double(audit.failures)
    }
  }

  private func registerShardMetrics() {
    let facts = lastFacts
    func counter(_ name: String, _ help: String, _ read: @escaping @Sendable (ShardCounters) -> Int)
    {
      metrics.counter(name, help) { Double(read(facts.value.counts)) }
    }
    counter("posthouse_messages_published_total", "Messages ordered into channels") { $0.published }
    counter("posthouse_published_bytes_total", "Bytes of those messages") { $0.publishedBytes }
    counter("posthouse_messages_delivered_total", "Messages handed to subscribers") { $0.delivered }
    counter("posthouse_delivered_bytes_total", "Bytes handed to subscribers") { $0.deliveredBytes }
    counter("posthouse_publishes_refused_total", "Publishes answered with a refusal") {
      $0.answersRefused
    }
    counter("posthouse_commits_refused_total", "MLS commits that lost their epoch") {
      $0.commitsRefused
    }
    counter("posthouse_generations_total", "MLS group generations opened") { $0.generations }
    counter("posthouse_dropped_without_right_total", "Messages dropped for want of a right") {
      $0.withoutRight
    }
    counter("posthouse_cover_frames_total", "Cover frames dropped") { $0.coverFrames }
    counter("posthouse_slow_subscribers_total", "Times a subscriber fell behind memory") {
      $0.slowSubscribers
    }
    counter("posthouse_subscribers_dropped_total", "Subscribers disconnected for falling behind") {
      $0.dropped
    }
    counter("posthouse_damaged_records_total", "Records and rows that failed their check") {
      $0.damaged
    }
    counter("posthouse_streams_opened_total", "Agent streams opened") { $0.streamsOpened }
    counter("posthouse_streams_refused_total", "Agent streams refused at open") {
      $0.streamsRefused
    }
    func slim(_ name: String, _ help: String, _ read: @escaping @Sendable (SlimCounters) -> Int) {
      metrics.counter(name, help) { Double(read(facts.value.slim)) }
    }
    slim("posthouse_slim_unrouted_total", "SLIM publishes nobody had subscribed to") { $0.unrouted }
    slim("posthouse_slim_without_right_total", "SLIM messages under names that are not the app's") {
      $0.withoutRight
    }
    slim("posthouse_slim_bad_macs_total", "SLIM messages with a missing or wrong header MAC") {
      $0.badMacs
    }
    slim("posthouse_slim_expired_total", "SLIM publishes whose ttl ran out") { $0.expired }
    slim("posthouse_slim_overflows_total", "SLIM streams ended because their queue ran over") {
      $0.overflows
    }
    slim("posthouse_slim_dropped_total", "SLIM anycasts dropped from full queues") { $0.dropped }
    slim("posthouse_slim_unreachable_total", "SLIM messages that another node could not be sent") {
      $0.unreachable
    }
    slim("posthouse_slim_lagging_total", "SLIM streams that read an archived channel on") {
      $0.lagging
    }
    slim("posthouse_slim_refused_total", "SLIM messages that could not be archived") { $0.refused }
    metrics.gauge("posthouse_slim_names", "SLIM names with subscribers, summed over loops") {
      Double(facts.value.slimNames)
    }
    metrics.gauge("posthouse_sessions", "Agent streams open") { Double(facts.value.sessions) }
    metrics.gauge("posthouse_tenants", "Tenants") { Double(facts.value.tenants) }
    metrics.gauge("posthouse_channels_loaded", "Channels in memory") {
      Double(facts.value.channels)
    }
  }

  private func registerStoreMetrics() {
    let store: Store = store
    metrics.gauge("posthouse_disk_free_bytes", "Free bytes on the data volume") {
      Double(store.diskFree())
    }
    metrics.counter("posthouse_store_batches_total", "Commit batches written") {
      Double(store.figures().batches)
    }
    metrics.counter("posthouse_store_syncs_total", "Commit batches synced") {
      Double(store.figures().syncs)
    }
    metrics.counter("posthouse_store_refused_total", "Write sets refused") {
      Double(store.figures().refusedSets)
    }
  }
}
