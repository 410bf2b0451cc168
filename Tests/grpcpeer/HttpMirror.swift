internal import Base
internal import Http
internal import Loop

/// Answers every request with what it was: method, path, query and size, and the body itself.
final class HttpMirror: HttpHandler {
  func receive(_ request: HttpRequest, _ responder: HttpResponder) {
    if request.path == "/dropped" { return }
    if request.path == "/late" {
      responder.loop.schedule(after: .milliseconds(200)) {
        responder.respond(HttpResponse(status: 200, body: Array("late".utf8)))
      }
      return
    }
    if request.path == "/big" {
      responder.respond(
        HttpResponse(status: 200, body: [UInt8](repeating: UInt8(ascii: "b"), count: 8 << 20)))
      return
    }
    var headers = [("content-type", "application/octet-stream")]
    headers.append(("x-method", request.method))
    headers.append(("x-path", request.path))
    headers.append(("x-query", request.query))
    headers.append(("x-size", "\(request.body.count)"))
    responder.respond(HttpResponse(status: 200, headers: headers, body: request.body))
  }
}
