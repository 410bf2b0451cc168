import Base
import Link
import LinkMail
import Report

// What metrics and inspection show of the links.
extension LinkHost {
  /// On loop 0.
  var facts: [LinkFacts] {
    links.filter { !$0.isOwn }.map { link in
      var facts = LinkFacts()
      facts.node = link.peer
      facts.name = link.name
      if let session = link.session {
        facts.isUp = session.isUp
        facts.queuedBytes = session.queuedBytes
        facts.counts = session.counts
        switch session.state {
        case .down: facts.state = "down"
        case .connecting: facts.state = "connecting"
        case .greeting: facts.state = "greeting"
        case .up(let version):
          facts.state = "up"
          facts.version = version
        }
      }
      facts.outputBytes = link.stream?.queuedBytes ?? 0
      facts.proxies = link.near.count
      facts.isCongested = link.isCongested
      facts.traffic = link.traffic
      return facts
    }
  }

  /// On loop 0, before a scrape.
  func refreshFacts() {
    for (link, facts) in zip(links.filter { !$0.isOwn }, facts) { link.facts.value = facts }
  }

  func registerMetrics(of link: NodeLink) {
    let facts = link.facts
    let labels: Metrics.Labels = ["peer": .init(link.name)]
    func gauge(_ name: String, _ help: String, _ read: @escaping @Sendable (LinkFacts) -> Int) {
      node.metrics.gauge(name, help, labels) { Double(read(facts.value)) }
    }
    func counter(_ name: String, _ help: String, _ read: @escaping @Sendable (LinkFacts) -> Int) {
      node.metrics.counter(name, help, labels) { Double(read(facts.value)) }
    }
    gauge("posthouse_link_up", "1 when messages go through to the node") { $0.isUp ? 1 : 0 }
    gauge("posthouse_link_version", "The link's version that both ends speak; 0: none yet") {
      Int($0.version)
    }
    gauge("posthouse_link_queued_bytes", "Bytes the node has not confirmed") { $0.queuedBytes }
    gauge("posthouse_link_output_bytes", "Bytes on their way into the connection") {
      $0.outputBytes
    }
    gauge("posthouse_link_congested", "1 while publishers to the node wait") {
      $0.isCongested ? 1 : 0
    }
    gauge("posthouse_link_sessions", "Sessions of the node that use channels here") { $0.proxies }
    counter("posthouse_link_connections_total", "Connections that came to stand") {
      $0.counts.connections
    }
    counter("posthouse_link_lost_total", "Connections lost") { $0.counts.lost }
    counter("posthouse_link_refusals_total", "Connections refused for what the peer said") {
      $0.counts.refusals + $0.traffic.malformed
    }
    counter("posthouse_link_resets_total", "Times that what was agreed became void") {
      $0.counts.resets
    }
    counter("posthouse_link_gave_up_total", "Times the node was out of reach for too long") {
      $0.counts.gaveUp
    }
    counter("posthouse_link_refused_total", "Publishes refused because too much waited") {
      $0.traffic.refused
    }
    counter("posthouse_link_stray_total", "Mail that fitted nothing here") { $0.traffic.stray }
    counter("posthouse_link_sent_total", "Frames sent") { $0.traffic.framesSent }
    counter("posthouse_link_sent_bytes_total", "Bytes of those frames") { $0.traffic.bytesSent }
    counter("posthouse_link_received_total", "Frames received") { $0.traffic.framesReceived }
    counter("posthouse_link_received_bytes_total", "Bytes of those frames") {
      $0.traffic.bytesReceived
    }
    counter("posthouse_link_messages_total", "Messages sent for sessions of the node, each once") {
      $0.traffic.messagesSent
    }
    counter("posthouse_link_deliveries_total", "Sessions that those messages were for") {
      $0.traffic.deliveriesSent
    }
  }
}
