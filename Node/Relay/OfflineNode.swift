public import Base
import Report
import Settings

/// A data directory opened without serving agents: one loop and an admin socket, so that operators'
/// commands work on a stopped node through the same calls as on a running one.
public final class OfflineNode: Sendable {
  private let host: NodeHost
  /// Where its admin service answers.
  public var adminSocket: String { host.addresses.admin }

  /// - Throws: `.notFound` when there is no node's data, `.conflict` when a node has it open.
  public init(data: String) throws(Fault) {
    let start = try NodeStart.read(
      arguments: ["--data", data, "--set", "loops=1"], environment: [:])
    guard case .run(let settings, _) = start else { throw Fault(.internal) }
    host = try NodeHost(settings: settings, log: .silent, serving: .admin)
  }

  public func close() { host.drain() }
}
