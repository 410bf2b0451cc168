internal import Base
public import Codec
internal import Http
public import Messages

/// Server reflection, v1 and v1alpha, over the schema the node was built with.
public final class ReflectionServer: Sendable {
  private let files: [FileDescriptor]
  private let services: [String]

  /// `services` are shown by the list; every file can be asked for.
  public init(files: [FileDescriptor] = DescriptorSet.files, services: [String]) {
    self.files = files
    self.services = services.sorted()
  }

  /// `admits` decides who may ask; others get PERMISSION_DENIED.
  public func register(
    on server: GrpcServer, admits: @escaping @Sendable (GrpcCall) -> Bool = { _ in true }
  ) {
    // Both versions have one wire form: only the package's name differs.
    for method in [
      ReflectionService.serverReflectionInfo, ReflectionAlphaService.serverReflectionInfo,
    ] {
      server.register(method) { [self] call in
        guard admits(call) else {
          call.refuse(.permissionDenied, "reflection is for operators")
          return nil
        }
        return ReflectionHandler(self)
      }
    }
  }

  func answer(_ request: ReflectionRequest) -> ReflectionResponse {
    var response = ReflectionResponse()
    response.validHost = request.host
    response.originalRequest = request
    switch request.messageRequest {
    case .listServices:
      var list = ReflectionListServiceResponse()
      for name in services {
        var entry = ReflectionServiceResponse()
        entry.name = name
        list.service.append(entry)
      }
      response.messageResponse = .listServicesResponse(list)
    case .fileByFilename(let name):
      response.messageResponse = closure(files.first { $0.name == name }, name)
    case .fileContainingSymbol(let symbol):
      let file = files.first { $0.symbols.contains(symbol) || $0.services.contains(symbol) }
      response.messageResponse = closure(file, symbol)
    case .fileContainingExtension(let wanted):
      response.messageResponse = missing("an extension of \(wanted.containingType)")
    case .allExtensionNumbersOfType(let type):
      guard files.contains(where: { $0.symbols.contains(type) }) else {
        response.messageResponse = missing(type)
        break
      }
      var none = ReflectionExtensionNumberResponse()
      none.baseTypeName = type
      response.messageResponse = .allExtensionNumbersResponse(none)
    case nil:
      response.messageResponse = failure(.invalidArgument, "the request asks for nothing")
    }
    return response
  }

  /// A file and everything it imports.
  private func closure(
    _ file: FileDescriptor?, _ asked: String
  ) -> ReflectionResponse.MessageResponse {
    guard let file else { return missing(asked) }
    var found: [FileDescriptor] = [file]
    var i = 0
    while i < found.count {
      for name in found[i].dependencies where !found.contains(where: { $0.name == name }) {
        if let next = files.first(where: { $0.name == name }) { found.append(next) }
      }
      i += 1
    }
    var response = ReflectionFileDescriptorResponse()
    response.fileDescriptorProto = found.map(\.bytes)
    return .fileDescriptorResponse(response)
  }

  private func missing(_ what: String) -> ReflectionResponse.MessageResponse {
    failure(.notFound, "not known here: \(what)")
  }

  private func failure(
    _ status: GrpcStatus, _ message: String
  ) -> ReflectionResponse.MessageResponse {
    var error = ReflectionErrorResponse()
    error.errorCode = Int32(status.rawValue)
    error.errorMessage = message
    return .errorResponse(error)
  }
}

private final class ReflectionHandler: GrpcHandler {
  private let reflection: ReflectionServer
  init(_ reflection: ReflectionServer) { self.reflection = reflection }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    guard let request = try? unsafe ReflectionRequest(decoding: bytes) else {
      call.finish(.invalidArgument, "no valid ServerReflectionRequest")
      return
    }
    call.send(reflection.answer(request).framed())
    // Many requests with large answers: read on only as fast as they are taken.
    if call.queuedBytes > Limits.connectionQueueBytes { call.pauseReading() }
  }
  func receiveHalfClose(on call: GrpcCall) { call.finish(.ok) }
  func receiveDrained(_ bytes: Int, on call: GrpcCall) {
    if call.queuedBytes == 0 { call.resumeReading() }
  }
  func receiveClosed(on call: GrpcCall) {}
}
