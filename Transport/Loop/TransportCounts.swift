public import Synchronization

/// What transport counts, for the whole process. Cold events only, nothing per message.
public final class TransportCounts: Sendable {
  public static let shared = TransportCounts()

  public let accepted = Atomic<Int>(0)
  public let open = Atomic<Int>(0)
  /// Connections refused because the listener is full.
  public let refusedFull = Atomic<Int>(0)
  /// Times accepting paused for want of descriptors or memory.
  public let acceptPauses = Atomic<Int>(0)
  public let tlsFailures = Atomic<Int>(0)
  /// Connections whose first bytes were no protocol we speak, or that broke it later.
  public let protocolErrors = Atomic<Int>(0)
  public let headTimeouts = Atomic<Int>(0)
  public let keepaliveTimeouts = Atomic<Int>(0)
  /// Connections cut for flooding: resets, pings, settings, empty frames.
  public let floods = Atomic<Int>(0)
  /// Calls and requests begun.
  public let calls = Atomic<Int>(0)
  public let requests = Atomic<Int>(0)
  /// Calls ended because a message was too large or a deadline passed.
  public let tooLarge = Atomic<Int>(0)
  public let deadlines = Atomic<Int>(0)

  init() {}

  /// Name and value of each, for the metrics page.
  public var all: [(name: String, value: Int)] {
    [
      ("accepted", accepted.load(ordering: .relaxed)), ("open", open.load(ordering: .relaxed)),
      ("refused_full", refusedFull.load(ordering: .relaxed)),
      ("accept_pauses", acceptPauses.load(ordering: .relaxed)),
      ("tls_failures", tlsFailures.load(ordering: .relaxed)),
      ("protocol_errors", protocolErrors.load(ordering: .relaxed)),
      ("head_timeouts", headTimeouts.load(ordering: .relaxed)),
      ("keepalive_timeouts", keepaliveTimeouts.load(ordering: .relaxed)),
      ("floods", floods.load(ordering: .relaxed)), ("calls", calls.load(ordering: .relaxed)),
      ("requests", requests.load(ordering: .relaxed)),
      ("too_large", tooLarge.load(ordering: .relaxed)),
      ("deadlines", deadlines.load(ordering: .relaxed)),
    ]
  }
}

extension Atomic where Value == Int {
  public func increment() { _ = wrappingAdd(1, ordering: .relaxed) }
  public func decrement() { _ = wrappingSubtract(1, ordering: .relaxed) }
}
