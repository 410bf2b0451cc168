import Base
import Http

/// HTTP/1.1 requests: the same bytes in other pieces give the same requests and the same refusal.
struct Http1Target: FuzzTarget {
  static let name = "http1"
  static let wantedShare = 50_000
  private var bounds = Http1Parser.Bounds()
  let corpus: [[UInt8]] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v1/usage?from=2026-01-01&to=2026-01-31 HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n",
    "POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\nAuthorization: Bearer sk_live_x\r\n\r\n{\"ttl\":300,\"a\":1",
    "POST /v1/channels HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n1e;x=y\r\n"
      + "012345678901234567890123456789\r\n0\r\nTrailer: x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\nconnection: close, te\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nX:\t v \t\r\n\r\n",
    "\r\n\r\nDELETE /v1/keys/abc HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PUT /" + String(repeating: "long/", count: 60) + " HTTP/1.1\r\nHost: a\r\nCookie: "
      + String(repeating: "c", count: 300) + "\r\n\r\n",
  ].map { Array($0.utf8) }
  let words: [[UInt8]] = [
    "\r\n", "\r\n\r\n", "\n", "\r", "\r\n ", ": ", "Host: a\r\n", "Content-Length: 3\r\n",
    "Content-Length: 4\r\n",
    "Transfer-Encoding: chunked\r\n", "chunked", "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "0\r\n\r\n", "ffffffff\r\n", "7fffffff", "100000\r\n", ";",
    "http://",
    "18446744073709551616", "9223372036854775807", "1048577", "%00", "\u{0}", "\u{7f}", "é",
  ].map { Array($0.utf8) }

  init() {}

  private struct Result: Equatable {
    var requests: [Http1Request] = []
    var refusal: Http1Refusal?
    var idle = false
    var continues: [Bool] = []
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    // Half of the inputs meet small bounds, so that these are hit.
    if random.oneIn(2) {
      bounds.headBytes = 40 + random.below(400)
      bounds.fields = 1 + random.below(4)
      bounds.bodyBytes = random.below(64)
    } else {
      bounds = Http1Parser.Bounds()
    }
    var whole = Result()
    var one = Http1Parser(bounds: bounds)
    try feed(&one, input, &whole)
    var pieces = Result()
    var other = Http1Parser(bounds: bounds)
    var rest = input
    let longest = random.oneIn(2) ? 4 : 64
    while !rest.isEmpty, pieces.refusal == nil {
      let n = min(1 + random.below(longest), rest.count)
      try feed(&other, UnsafeRawBufferPointer(rebasing: rest[..<n]), &pieces)
      rest = UnsafeRawBufferPointer(rebasing: rest[n...])
    }
    whole.idle = one.isIdle
    pieces.idle = other.isIdle
    try check(whole == pieces, "whole: \(whole)\nin pieces: \(pieces)")
    return !whole.requests.isEmpty
  }

  private func feed(
    _ parser: inout Http1Parser, _ bytes: UnsafeRawBufferPointer, _ result: inout Result
  ) throws(Finding) {
    var input = bytes
    while true {
      let before = input.count
      switch parser.receive(&input) {
      case .needsMore:
        try check(input.isEmpty, "more is wanted and bytes are left")
        return
      case .request(let request):
        try check(before > input.count, "a request out of nothing")
        try check(request.body.count <= bounds.bodyBytes, "a body of \(request.body.count) bytes")
        try check(request.fields.count <= bounds.fields, "\(request.fields.count) fields")
        try check(
          request.target.hasPrefix("/") || request.target == "*", "target \(request.target)")
        let names = request.fields.map(\.name)
        try check(names.count { $0 == "host" } <= 1, "two hosts")
        try check(
          !(names.contains("content-length") && names.contains("transfer-encoding")), "two framings"
        )
        for field in request.fields {
          try check(
            !field.name.isEmpty && field.value.utf8.allSatisfy { $0 >= 0x20 || $0 == 9 },
            "field \(field)")
        }
        result.requests.append(request)
        if input.isEmpty { return }
      case .refused(let refusal):
        try check((400...505).contains(refusal.status), "status \(refusal.status)")
        result.refusal = refusal
        return
      }
    }
  }
}

/// Percent-encoded text, queries, gRPC messages and timeouts.
struct HttpTextTarget: FuzzTarget {
  static let name = "http-text"
  static let wantedShare = 50_000
  let corpus: [[UInt8]] = [
    "a=1&b=two+words&c=%C3%A9%20x", "channel=org%2Fns%2Fc1&after=&limit=100", "no such channel",
    "a%20b%25",
    "100m", "99999999H", "5S", "1n", "%F0%9F%99%82", "plain",
  ].map { Array($0.utf8) }
  let words: [[UInt8]] = ["%", "%2", "%zz", "%00", "%FF", "&", "=", "+", "99999999", "H"].map {
    Array($0.utf8)
  }

  init() {}

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let text = String(decoding: input, as: UTF8.self)
    try check(
      GrpcTextChecks.percentSurvives(text), "a status message does not survive its percent encoding"
    )
    if let seconds = GrpcTextChecks.timeout(input) {
      try check(seconds >= 0, "a timeout before now")
    }
    guard let decoded = HttpRequest.percentDecode(text) else { return false }
    try check(decoded.utf8.count <= text.utf8.count, "decoding made text longer")
    return true
  }
}
