import Base
import Grpc
import Http
import Loop
import Report
import Settings
import Token

/// What the HTTP listener serves beside the token API: probes and metrics.
final class HttpFront: HttpHandler, @unchecked Sendable {
  private unowned let node: NodeHost
  private let api: TokenApi

  init(node: NodeHost) {
    self.node = node
    api = TokenApi(
      submit: { [unowned node] request, reply in
        node.authority.submit(request) { result in
          if case .failure(let fault) = result { node.noteRefusal(request.caller, fault) }
          reply(result)
        }
      },
      allowRedacted: node.settings.allowRedacted,
      relays: { [unowned node] done in ClusterAdmin.relays(node, done) })
  }

  func receive(_ request: HttpRequest, _ responder: HttpResponder) {
    switch request.path {
    case "/livez": probe(request, responder, [])
    case "/readyz": probe(request, responder, node.readiness.reasons)
    case "/metrics": metrics(request, responder)
    default: api.receive(request, responder)
    }
  }

  private func probe(_ request: HttpRequest, _ responder: HttpResponder, _ reasons: [String]) {
    guard isRead(request, responder) else { return }
    let text = reasons.isEmpty ? "ok\n" : reasons.map { "\($0)\n" }.joined()
    responder.respond(
      HttpResponse(
        status: reasons.isEmpty ? 200 : 503,
        headers: [("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store")],
        body: Array(text.utf8)))
  }

  private func metrics(_ request: HttpRequest, _ responder: HttpResponder) {
    guard isRead(request, responder) else { return }
    let node = node
    guard node.isOperator(request.header("authorization"), request.peer, at: node.loops[0].now)
    else {
      refuse(responder, Fault(.forbidden, node.operatorRule))
      return
    }
    node.gatherFacts { facts in
      if node.shards[0].isSealed { return self.refuse(responder, Fault(.draining)) }
      node.lastFacts.value = facts
      responder.respond(
        HttpResponse(
          status: 200, headers: [("content-type", Metrics.contentType)],
          body: Array(node.metrics.render().utf8)))
    }
  }

  private func isRead(_ request: HttpRequest, _ responder: HttpResponder) -> Bool {
    if request.method == "GET" || request.method == "HEAD" { return true }
    responder.respond(
      HttpResponse(
        status: 405, headers: [("allow", "GET, HEAD"), ("content-type", "application/json")],
        body: Array(#"{"error":"only GET and HEAD are served here","code":"bad_request"}"#.utf8)))
    return false
  }

  private func refuse(_ responder: HttpResponder, _ fault: Fault) {
    responder.respond(
      HttpResponse(
        status: fault.code.http, headers: [("content-type", "application/json")],
        body: Array(#"{"error":"\#(fault)","code":"\#(fault.code.rawValue)"}"#.utf8)))
  }
}
