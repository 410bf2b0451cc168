public import Base
internal import Codec

/// A connection to a node's services, blocking. Calls end with a fault: the node's own (its code and
/// text), `unreachable` or `deadline_exceeded`.
public protocol AdminLink: AnyObject {
  /// One request, one response, both protobuf bytes.
  func unary(path: String, request: [UInt8], timeout: Interval) throws(Fault) -> [UInt8]
  /// One request, many responses; `each` returns false to stop. `timeout` nil: as long as it takes.
  func stream(
    path: String, request: [UInt8], timeout: Interval?, each: ([UInt8]) throws(Fault) -> Bool
  ) throws(Fault)
  /// True for a data directory opened without a running node.
  var isOffline: Bool { get }
  /// Ends the connection; an offline node is closed.
  func close()
}

extension AdminLink {
  func call<Response: ProtoMessage>(
    _ method: MethodDescriptor, _ request: some ProtoMessage, timeout: Interval,
    as: Response.Type = Response.self
  ) throws(Fault) -> Response {
    let bytes = try unary(path: method.path, request: request.encoded(), timeout: timeout)
    return try decode(bytes, method)
  }

  func stream<Response: ProtoMessage>(
    _ method: MethodDescriptor, _ request: some ProtoMessage, of: Response.Type,
    timeout: Interval? = nil,
    each: (Response) throws(Fault) -> Bool
  ) throws(Fault) {
    try stream(path: method.path, request: request.encoded(), timeout: timeout) {
      bytes throws(Fault) in try each(try decode(bytes, method))
    }
  }

  private func decode<Response: ProtoMessage>(
    _ bytes: [UInt8], _ method: MethodDescriptor
  ) throws(Fault) -> Response {
    do {
      return try Response(decoding: bytes)
    } catch {
      throw Fault(
        .internal, "the answer to \(method.path) is not what this version knows: \(error)")
    }
  }
}

/// Turns a gRPC status into a fault. A node writes `code: text` as the message; anything else is
/// named by its status.
enum StatusFault {
  /// `code` came beside the message, which may repeat it.
  static func fault(_ code: FaultCode, message: String) -> Fault {
    if message == code.rawValue { return Fault(code) }
    let prefix = code.rawValue + ": "
    return Fault(
      code, message.hasPrefix(prefix) ? String(message.dropFirst(prefix.utf8.count)) : message)
  }

  static func fault(_ status: GrpcStatus, message: String) -> Fault {
    if let colon = message.firstIndex(of: ":"),
      let code = FaultCode(rawValue: String(message[..<colon]))
    {
      let text = message[message.index(after: colon)...].drop { $0 == " " }
      return Fault(code, String(text))
    }
    if let code = FaultCode(rawValue: message) { return Fault(code) }
    return Fault(code(status), message)
  }

  private static func code(_ status: GrpcStatus) -> FaultCode {
    switch status {
    case .invalidArgument: .badRequest
    case .deadlineExceeded: .deadlineExceeded
    case .notFound: .notFound
    case .alreadyExists, .aborted, .failedPrecondition: .conflict
    case .permissionDenied: .forbidden
    case .resourceExhausted: .rateLimited
    case .outOfRange: .retentionPassed
    case .unimplemented: .unimplemented
    case .unavailable: .unavailable
    case .dataLoss: .damaged
    case .unauthenticated: .unauthorized
    case .ok, .cancelled, .unknown, .internal: .internal
    }
  }
}
