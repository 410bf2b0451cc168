import Base
import Loop
import Report
import Ring
import Store
import Token

/// Whose count it is: of one tenant on one day by one writer.
struct UsageKey: Hashable, Sendable {
  var tenant: TenantID
  var day: UInt32
  var writer: UInt64
  init(_ report: UsageReport) {
    tenant = report.tenant
    day = report.day
    writer = report.writer
  }
}

/// Another node's reports that wait to be counted.
struct UsageCall {
  var reports: [UsageReport]
  var reply: ClusterCalls.Reply
}

// Messages are counted where their channel is, accounts are where their tenant is. A shard reports what it has counted
// for a tenant on a day in all, until the tenant's node has confirmed it: a report that comes twice, or late, changes
// nothing, as its row holds the total of that one writer.
extension ClusterTokens {
  /// Reports kept until they are confirmed. More: the least is not lost, as the next count of the tenant brings its
  /// total, but nothing is sent of those that do not publish again before the node restarts and reads its rows.
  static let mostReports = 200_000

  func report(_ count: UsageDelta) { note(count.total) }

  private func note(_ report: UsageReport) {
    let key = UsageKey(report)
    if reports[key] == nil, reports.count >= ClusterTokens.mostReports { return }
    reports[key] = report
  }

  /// Counts of earlier runs: nobody knows which of them were confirmed.
  func readUsage() {
    let (first, end) = ([UsageRow.kind], [UsageRow.kind + 1])
    let oldest = UsageRow.day(loop.now.wall) &- UInt32(Limits.usageDays)
    try? unsafe node.store.scan(.tokens, from: first, to: end) { key, value in
      if let report = unsafe UsageReport(row: [UInt8](key), [UInt8](value)), report.day >= oldest {
        note(report)
      }
      return true
    }
  }

  func sendReports() {
    if reports.isEmpty || map.version == 0 { return }
    var byNode: [NodeID: [UsageReport]] = [:]
    for report in reports.values {
      let to = owner(report.tenant)
      if to == host.own {
        // Its row is here already.
        reports[UsageKey(report)] = nil
      } else if to != .none, !reporting.contains(to) {
        byNode[to, default: []].append(report)
      }
    }
    for (peer, list) in byNode { send(Array(list.prefix(UsageReport.most)), to: peer) }
  }

  private func send(_ list: [UsageReport], to peer: NodeID) {
    reporting.insert(peer)
    host.calls.call(
      peer, "Usage", UsageReport.encode(list), timeout: .seconds(5), on: loop
    ) { [self] result in
      reporting.remove(peer)
      // Not confirmed: they are sent again in a second, to whoever has the tenant then.
      guard case .success = result else { return }
      for report in list where reports[UsageKey(report)] == report {
        reports[UsageKey(report)] = nil
      }
    }
  }

  // MARK: counting

  func serveUsage(_ bytes: [UInt8], _ reply: @escaping ClusterCalls.Reply) {
    guard let list = try? UsageReport.decode(bytes) else {
      return reply(.failure(Fault(.badRequest)))
    }
    guard list.allSatisfy({ owns($0.tenant) && held[$0.tenant.slot] == nil }) else {
      return reply(.failure(Fault(.unavailable, "a tenant is not this node's")))
    }
    usageQueue.append(UsageCall(reports: list, reply: reply))
    if !isCountingUsage { countNext() }
  }

  /// One call after the other: each looks at the rows that the one before it wrote.
  private func countNext() {
    guard !usageQueue.isEmpty else {
      isCountingUsage = false
      return
    }
    isCountingUsage = true
    let call = usageQueue.removeFirst()
    node.store.read { [self] store in
      let found = Result { () throws(Fault) -> ([UsageReport], WriteSet) in
        var rises: [UsageReport] = []
        var set = WriteSet()
        for report in call.reports {
          let key = UsageRow.key(tenant: report.tenant, day: report.day, writer: report.writer)
          let old = try store.get(.tokens, key: key).flatMap { UsageReport(row: key, $0) }
          guard report.messages > old?.messages ?? 0 || report.bytes > old?.bytes ?? 0 else {
            continue
          }
          var rise = report
          rise.messages -= min(rise.messages, old?.messages ?? 0)
          rise.bytes -= min(rise.bytes, old?.bytes ?? 0)
          rises.append(rise)
          set.put(
            .tokens, key: key,
            value: UsageRow.value(messages: report.messages, bytes: report.bytes, tokens: 0))
        }
        return (rises, set)
      }
      loop.post { [self] in count(found, call.reply) }
    }
  }

  private func count(
    _ found: Result<([UsageReport], WriteSet), Fault>, _ reply: @escaping ClusterCalls.Reply
  ) {
    func end(_ result: Result<[UInt8], Fault>) {
      reply(result)
      countNext()
    }
    switch found {
    case .failure(let fault): end(.failure(fault))
    case .success(let (rises, set)):
      if rises.isEmpty { return end(.success([])) }
      node.store.submit(set, synced: true) { [self] result in
        loop.post { [self] in
          if case .failure(let fault) = result {
            reply(.failure(fault))
            return countNext()
          }
          for rise in rises {
            authority.receiveUsage(
              rise.tenant, day: rise.day, messages: rise.messages, bytes: rise.bytes)
          }
          reply(.success([]))
          countNext()
        }
      }
    }
  }
}

extension UsageReport {
  /// nil: not a usage row.
  init?(row key: [UInt8], _ value: [UInt8]) {
    guard key.count == 21, key[0] == UsageRow.kind, value.count == 24 else { return nil }
    self.init(
      tenant: TenantID(UInt64(bigEndianBytes: key[1..<9])),
      day: UInt32(bigEndianBytes: key[9..<13]), writer: UInt64(bigEndianBytes: key[13..<21]),
      messages: UInt64(bigEndianBytes: value[0..<8]), bytes: UInt64(bigEndianBytes: value[8..<16]))
  }
}
