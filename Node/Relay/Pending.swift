import Base
import Grpc
import Http
import Token
final class TokenApi {
  init(submit: @escaping (TokenRequest, @escaping (Result<TokenReply, Fault>) -> Void) -> Void, allowRedacted: Bool) {}
  func receive(_ request: HttpRequest, _ responder: HttpResponder) {
    responder.respond(.refusal(404, code: "not_found", "nothing here"))
  }
}
extension NodeHost {
  func registerHealth(on server: GrpcServer) {}
  func registerReflection(on server: GrpcServer, _ gate: StreamGate) {}
}
