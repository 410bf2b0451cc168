public import Base

/// What the process ends with: scripts decide by it.
public enum ExitCode: Int32, Sendable {
  case done = 0
  case failed = 1
  case usage = 2
  case notFound = 3
  case refused = 4
  case unreachable = 5
  case conflict = 6
  case timedOut = 7

  public init(_ code: FaultCode) {
    self =
      switch code {
      case .usage, .badSetting, .badRequest, .badChannelName: .usage
      case .notFound, .retentionPassed: .notFound
      case .unauthorized, .forbidden, .quotaExceeded, .registryFull, .rateLimited, .tooLarge,
        .diskFull,
        .tenantSuspended, .keyRevoked, .revoked, .notConfirmed:
        .refused
      case .unreachable, .unavailable, .draining: .unreachable
      case .conflict, .epochTaken, .producerStale, .nameCollision: .conflict
      case .deadlineExceeded: .timedOut
      case .stalled, .damaged, .unimplemented, .internal, .badCertificate: .failed
      }
  }
}
