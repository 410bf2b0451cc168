import Base
import Http
import Loop
import Token

/// The token API over HTTP: parses, asks the token engine, answers JSON. Every refusal is a JSON object
/// with `error` and `code`.
final class TokenApi {
  typealias Submit = (TokenRequest, @escaping (Result<TokenReply, Fault>) -> Void) -> Void

  /// What a client sends that hides its key in its own log.
  private static let redacted = "***REDACTED***"

  private let submit: Submit
  private let allowRedacted: Bool
  private let relays: (@escaping @Sendable ([UInt8]) -> Void) -> Void

  /// `relays` makes the JSON of `GET /v1/relays`, on the loop that `receive` is called on.
  /// `submit` runs a request and calls back once, on the loop that `receive` is called on.
  init(
    submit: @escaping Submit, allowRedacted: Bool,
    relays: @escaping (@escaping @Sendable ([UInt8]) -> Void) -> Void = {
      $0(JsonValue.object([("relays", .array([]))]).bytes)
    }
  ) {
    self.submit = submit
    self.relays = relays
    self.allowRedacted = allowRedacted
  }

  func receive(_ request: HttpRequest, _ responder: HttpResponder) {
    do throws(Fault) {
      guard let route = try ApiRouter.route(request.path) else {
        throw Fault(.notFound, "no such path; /openapi.yaml lists them")
      }
      guard route.methods.contains(request.method) else {
        var answer = ApiAnswer(
          status: 405, code: "bad_request",
          "this path takes \(route.methods.joined(separator: ", "))")
        answer.headers.append(("allow", route.methods.joined(separator: ", ")))
        respond(answer, responder)
        return
      }
      if route == .openapi {
        responder.respond(
          HttpResponse(
            status: 200, headers: [("content-type", "application/yaml")],
            body: Array(openApiText.utf8)))
        return
      }
      try ask(route, request, responder)
    } catch {
      respond(ApiAnswer(error, wall: responder.loop.now.wall), responder)
    }
  }

  private func ask(
    _ route: ApiRouter.Route, _ request: HttpRequest, _ responder: HttpResponder
  ) throws(Fault) {
    guard let text = ApiRouter.credential(request.header("authorization")) else {
      throw Fault(.unauthorized)
    }
    let peer = Self.host(request.peer.text)
    let caller: TokenCaller =
      allowRedacted && text == Self.redacted ? .redacted(peer: peer) : .bearer(text, peer: peer)
    if route == .relays { return listRelays(caller, responder) }
    if request.method == "POST", !request.body.isEmpty,
      !ApiRouter.isJson(request.header("content-type"))
    {
      refuse(
        ApiAnswer(status: 415, code: "bad_request", "the body must be application/json"), caller,
        responder)
      return
    }
    let action: TokenAction
    do throws(Fault) {
      let query = try ApiQuery(request.query)
      guard
        let read = try ApiRouter.action(route, request.method, query: query, body: request.body)
      else { throw Fault(.internal, "a route without an action") }
      action = read
    } catch {
      refuse(ApiAnswer(error, wall: responder.loop.now.wall), caller, responder)
      return
    }
    submit(TokenRequest(caller, action)) { [self] result in
      let wall = responder.loop.now.wall
      switch result {
      case .success(let reply): respond(ApiAnswer(reply, wall: wall), responder)
      case .failure(let fault): respond(ApiAnswer(fault, wall: wall), responder)
      }
    }
  }

  private func listRelays(_ caller: TokenCaller, _ responder: HttpResponder) {
    submit(TokenRequest(caller, .authenticate)) { [self] result in
      if case .failure(let fault) = result {
        respond(ApiAnswer(fault, wall: responder.loop.now.wall), responder)
        return
      }
      let holder = ResponderHolder(responder)
      relays { body in
        holder.responder.respond(
          HttpResponse(
            status: 200,
            headers: [("content-type", "application/json"), ("cache-control", "no-store")],
            body: body))
      }
    }
  }

  /// What is wrong with a request is told, and counted, to those who may ask at all.
  private func refuse(_ answer: ApiAnswer, _ caller: TokenCaller, _ responder: HttpResponder) {
    submit(TokenRequest(caller, .authenticate)) { [self] result in
      switch result {
      case .success: respond(answer, responder)
      case .failure(let fault):
        respond(ApiAnswer(fault, wall: responder.loop.now.wall), responder)
      }
    }
  }

  private func respond(_ answer: ApiAnswer, _ responder: HttpResponder) {
    responder.respond(
      HttpResponse(
        status: answer.status,
        headers: [("content-type", "application/json"), ("cache-control", "no-store")]
          + answer.headers, body: answer.body.bytes))
  }

  /// A peer's address without its port; of IPv6 the first 64 bits, which one customer has.
  static func host(_ text: String) -> String {
    guard let colon = text.lastIndex(of: ":"), !text.hasPrefix("unix:") else { return text }
    let host = text[..<colon]
    guard host.hasPrefix("[") else { return String(host) }
    let groups = host.dropFirst().split(separator: ":", omittingEmptySubsequences: false)
    return groups.prefix { !$0.isEmpty }.prefix(4).joined(separator: ":") + "::"
  }
}

/// A responder that waits for an answer that comes by other loops, back on its own.
private final class ResponderHolder: @unchecked Sendable {
  let responder: HttpResponder
  init(_ responder: HttpResponder) { self.responder = responder }
}
