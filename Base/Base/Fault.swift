/// gRPC status codes.
public enum GrpcStatus: UInt8, Sendable {
  case ok = 0, cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists
  case permissionDenied, resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented
  case `internal`, unavailable, dataLoss, unauthenticated
}

/// A fault a user can see: a row of `Proto/errors.json` and, where it helps, what exactly was wrong.
public struct Fault: Error, Sendable, Equatable, CustomStringConvertible {
  public var code: FaultCode
  /// Never holds a secret or a payload.
  public var detail: String
  public init(_ code: FaultCode, _ detail: String = "") {
    self.code = code
    self.detail = detail
  }
  /// The catalogue's sentence, then the detail.
  public var description: String { detail.isEmpty ? code.what : detail }
}
