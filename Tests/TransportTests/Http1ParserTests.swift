internal import Base
internal import Http
import Testing

/// Feeds text in pieces and gives back what came out.
private func parse(_ text: String, pieces: Int = .max, bounds: Http1Parser.Bounds = .init())
  -> (requests: [Http1Request], refusal: Http1Refusal?, rest: Int)
{
  var parser = Http1Parser(bounds: bounds)
  var requests: [Http1Request] = []
  var bytes = Array(text.utf8)[...]
  while !bytes.isEmpty {
    let part = Array(bytes.prefix(pieces))
    bytes = bytes.dropFirst(part.count)
    var refusal: Http1Refusal?
    part.withUnsafeBytes { all in
      var input = all
      while !input.isEmpty, refusal == nil {
        switch parser.receive(&input) {
        case .needsMore: break
        case .request(let request): requests.append(request)
        case .refused(let why): refusal = why
        }
      }
    }
    if let refusal { return (requests, refusal, bytes.count) }
  }
  return (requests, nil, 0)
}

@Suite("HTTP/1.1 requests", .timeLimit(.minutes(1))) struct Http1ParserTests {
  @Test("whole requests come out however the bytes are cut", arguments: [1, 2, 3, 7, 64, .max])
  func pieces(size: Int) throws {
    let text =
      "\r\nPOST /a?b=c HTTP/1.1\r\nHost: x\r\nX-One:  two \t\r\nContent-Length: 5\r\n\r\nhello"
      + "GET http://y/z HTTP/1.1\r\nhost: y\r\nconnection: Close\r\n\r\n"
      + "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
      + "3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nt: v\r\n\r\n"
      + "GET / HTTP/1.0\r\n\r\n"
    let (requests, refusal, _) = parse(text, pieces: size)
    #expect(refusal == nil)
    try #require(requests.count == 4)
    #expect(requests[0].method == "POST")
    #expect(requests[0].target == "/a?b=c")
    #expect(requests[0].fields[1] == Http1Field(name: "x-one", value: "two"))
    #expect(requests[0].body == Array("hello".utf8))
    #expect(requests[0].keepAlive)
    #expect(requests[1].target == "/z")
    #expect(!requests[1].keepAlive)
    #expect(requests[2].body == Array("abc0123456789".utf8))
    #expect(requests[3].minor == 0 && !requests[3].keepAlive)
  }

  @Test(
    "what breaks the rules is refused with a status",
    arguments: [
      ("GET / HTTP/1.1\r\n\r\n", 400), ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
      ("GET / HTTP/1.1\nHost: x\n\n", 400), ("GET / HTTP/1.1\r\nHost: x\r\n\rX", 400),
      ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400), ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
      ("GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400), ("GET /\u{1} HTTP/1.1\r\nHost: x\r\n\r\n", 400),
      ("GET /é HTTP/1.1\r\nHost: x\r\n\r\n", 400), ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
      ("GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413),
      ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
      (
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400
      ), ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
      ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", 413),
      ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", 413),
    ])
  func refusals(text: String, status: Int) {
    for pieces in [1, .max] {
      let (requests, refusal, _) = parse(text, pieces: pieces)
      #expect(requests.isEmpty)
      #expect(refusal?.status == status, "\(text.debugDescription) in pieces of \(pieces)")
    }
  }

  @Test("a head is bounded in bytes and in fields") func bounds() {
    var bounds = Http1Parser.Bounds()
    bounds.headBytes = 200
    bounds.fields = 3
    let head = "GET / HTTP/1.1\r\nHost: x\r\n"
    #expect(parse(head + "a: b\r\nc: d\r\n\r\n", bounds: bounds).requests.count == 1)
    #expect(parse(head + "a: b\r\nc: d\r\ne: f\r\n\r\n", bounds: bounds).refusal?.status == 431)
    let long = head + "a: " + String(repeating: "x", count: 200) + "\r\n\r\n"
    #expect(parse(long, bounds: bounds).refusal?.status == 431)
    #expect(parse(String(repeating: "x", count: 300), bounds: bounds).refusal?.status == 431)
  }

  @Test("a refused parser stays refused") func stays() {
    #expect(parse("BAD\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").requests.isEmpty)
  }

  @Test("percent escapes are decoded or refused") func percent() {
    #expect(HttpRequest.percentDecode("a%20b%C3%A9") == "a bé")
    for bad in ["%", "%1", "%zz", "%ff"] { #expect(HttpRequest.percentDecode(bad) == nil) }
  }
}
