internal import Base

/// Why an HTTP/1.1 request cannot be served: what the client is told before the connection closes.
public struct Http1Refusal: Error, Sendable, Equatable {
  public var status: Int
  public var reason: String
  init(_ status: Int, _ reason: String) {
    self.status = status
    self.reason = reason
  }
}

/// A request as it was parsed.
public struct Http1Request: Sendable, Equatable {
  public var method = ""
  /// Origin form: path and query, as sent.
  public var target = ""
  /// 0 for HTTP/1.0, 1 for HTTP/1.1.
  public var minor = 1
  public var fields: [Http1Field] = []
  public var body: [UInt8] = []
  /// The connection may carry another request.
  public var keepAlive = true
  public var expectsContinue = false
}

public struct Http1Field: Sendable, Equatable {
  /// Lower case.
  public var name: String
  public var value: String
  public init(name: String, value: String) {
    self.name = name
    self.value = value
  }
}

/// Strict incremental parser of HTTP/1.1 requests (RFC 9112). Pure: bytes in, whole requests out.
///
/// Refused: bare CR or LF, folded lines, blanks before the colon, a second differing Content-Length,
/// Content-Length beside Transfer-Encoding, any coding but chunked, control characters, a missing or
/// second Host. Memory is bounded by `headBytes` + `bodyBytes`, whatever is declared.
public struct Http1Parser {
  public struct Bounds: Sendable {
    public var headBytes = Limits.http1HeadBytes
    public var fields = Limits.headerFields
    public var bodyBytes = Limits.httpBodyBytes
    public init() {}
  }

  public enum Outcome {
    /// All bytes were taken.
    case needsMore
    /// A request is complete; bytes after it were not taken.
    case request(Http1Request)
    /// The connection cannot be used any more.
    case refused(Http1Refusal)
  }

  private enum State {
    case head
    case body(left: Int)
    case chunkSize, chunkData(left: Int), chunkEnd, trailers
    case failed(Http1Refusal)
  }

  private let bounds: Bounds
  private var state = State.head
  private var line: [UInt8] = []
  private var headBytes = 0
  private var lines: [[UInt8]] = []
  private var trailerCount = 0
  private var request = Http1Request()

  public init(bounds: Bounds = Bounds()) { self.bounds = bounds }

  /// Between requests: nothing of the next one has come.
  public var isIdle: Bool {
    if case .head = state { return headBytes == 0 && lines.isEmpty }
    return false
  }

  /// A head is being received (the slow head timeout runs).
  public var isInHead: Bool {
    if case .head = state { return true }
    return false
  }

  /// Set once when a head asked for `100 Continue` and its body has not come.
  public private(set) var wantsContinue = false
  public mutating func didContinue() { wantsContinue = false }

  /// Takes bytes from the front of `input`.
  public mutating func receive(_ input: inout UnsafeRawBufferPointer) -> Outcome {
    do throws(Http1Refusal) {
      while true {
        if try step(&input) { return .request(finish()) }
        if input.isEmpty { return .needsMore }
      }
    } catch {
      state = .failed(error)
      return .refused(error)
    }
  }

  /// One step; true when a request is complete.
  private mutating func step(_ input: inout UnsafeRawBufferPointer) throws(Http1Refusal) -> Bool {
    switch state {
    case .failed(let refusal): throw refusal
    case .head:
      guard let text = try takeLine(&input, limit: bounds.headBytes, status: 431) else {
        return false
      }
      if !text.isEmpty {
        // The request line comes beside the fields.
        if lines.count > bounds.fields { throw Http1Refusal(431, "too many header fields") }
        lines.append(text)
      } else if !lines.isEmpty {
        return try finishHead()
      }
    case .body(let left):
      let n = takeBody(&input, left)
      state = .body(left: left - n)
      return left == n
    case .chunkSize:
      guard let text = try takeLine(&input, limit: 256, status: 400) else { return false }
      headBytes = 0
      let size = try chunkSize(text)
      if request.body.count + size > bounds.bodyBytes { throw Http1Refusal.bodyTooLarge }
      state = size == 0 ? .trailers : .chunkData(left: size)
    case .chunkData(let left):
      let n = takeBody(&input, left)
      state = left == n ? .chunkEnd : .chunkData(left: left - n)
    case .chunkEnd:
      guard let text = try takeLine(&input, limit: 2, status: 400) else { return false }
      headBytes = 0
      if !text.isEmpty { throw Http1Refusal(400, "a chunk is longer than it says") }
      state = .chunkSize
    case .trailers:
      guard let text = try takeLine(&input, limit: bounds.headBytes, status: 431) else {
        return false
      }
      if text.isEmpty { return true }
      trailerCount += 1
      if trailerCount > bounds.fields { throw Http1Refusal(431, "too many trailers") }
      _ = try field(text)
    }
    return false
  }

  private mutating func finish() -> Http1Request {
    let done = request
    request = Http1Request()
    state = .head
    headBytes = 0
    trailerCount = 0
    wantsContinue = false
    return done
  }

  private mutating func takeBody(_ input: inout UnsafeRawBufferPointer, _ left: Int) -> Int {
    let n = min(left, input.count)
    request.body.append(contentsOf: input[..<n])
    input = UnsafeRawBufferPointer(rebasing: input[n...])
    return n
  }

  /// A line without its CRLF, or nil when it is not complete yet.
  private mutating func takeLine(
    _ input: inout UnsafeRawBufferPointer, limit: Int, status: Int
  ) throws(Http1Refusal) -> [UInt8]? {
    var i = 0
    while i < input.count {
      let c = input[i]
      headBytes += 1
      if headBytes > limit { throw Http1Refusal(status, "the request head is over \(limit) bytes") }
      if line.last == 0x0d {
        guard c == 0x0a else { throw Http1Refusal(400, "a carriage return without a line feed") }
        line.append(contentsOf: input[..<i])
        line.removeLast()
        input = UnsafeRawBufferPointer(rebasing: input[(i + 1)...])
        defer { line = [] }
        return line
      }
      if c == 0x0d {
        line.append(contentsOf: input[...i])
        input = UnsafeRawBufferPointer(rebasing: input[(i + 1)...])
        i = 0
        continue
      }
      if c == 0x0a { throw Http1Refusal(400, "a line feed without a carriage return") }
      if c < 0x20 && c != 0x09 || c == 0x7f {
        throw Http1Refusal(400, "a control character in the request head")
      }
      i += 1
    }
    line.append(contentsOf: input)
    input = UnsafeRawBufferPointer(start: nil, count: 0)
    return nil
  }
}

extension Http1Refusal {
  static let bodyTooLarge = Http1Refusal(413, "the body is over the limit")
}

// MARK: - the head

extension Http1Parser {
  /// True when the request has no body.
  private mutating func finishHead() throws(Http1Refusal) -> Bool {
    let all = lines
    lines = []
    headBytes = 0
    try requestLine(all[0])
    for text in all.dropFirst() { request.fields.append(try field(text)) }
    try checkHost()
    request.keepAlive = keepsAlive()
    let length = try contentLength()
    let codings = values("transfer-encoding")
    if !codings.isEmpty {
      if request.minor == 0 || length != nil {
        throw Http1Refusal(400, "transfer-encoding does not go with this request")
      }
      guard codings.count == 1, codings[0].lowercasedAscii == "chunked" else {
        throw Http1Refusal(501, "only the chunked coding is supported")
      }
      state = .chunkSize
    } else if let length, length > 0 {
      if length > bounds.bodyBytes { throw Http1Refusal.bodyTooLarge }
      state = .body(left: length)
    } else {
      return true
    }
    if request.minor == 1,
      values("expect").contains(where: { $0.lowercasedAscii == "100-continue" })
    {
      request.expectsContinue = true
      wantsContinue = true
    }
    return false
  }

  private func values(_ name: String) -> [String] {
    request.fields.filter { $0.name == name }.map(\.value)
  }

  private mutating func requestLine(_ text: [UInt8]) throws(Http1Refusal) {
    let parts = text.split(separator: 0x20, omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(isToken) else {
      throw Http1Refusal(400, "the request line is malformed")
    }
    guard parts[2].count == 8, parts[2].starts(with: Array("HTTP/".utf8)),
      parts[2].dropFirst(6).first == UInt8(ascii: ".")
    else { throw Http1Refusal(400, "the request line is malformed") }
    switch Array(parts[2].dropFirst(5)) {
    case Array("1.1".utf8): request.minor = 1
    case Array("1.0".utf8): request.minor = 0
    default: throw Http1Refusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    }
    request.method = String(decoding: parts[0], as: UTF8.self)
    request.target = try originForm(Array(parts[1]))
  }

  /// Path and query of an origin-form, absolute-form or asterisk-form target.
  private func originForm(_ target: [UInt8]) throws(Http1Refusal) -> String {
    guard target.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "#") }) else {
      throw Http1Refusal(400, "the request target is malformed")
    }
    let text = String(decoding: target, as: UTF8.self)
    if text.hasPrefix("/") { return text }
    if text == "*", request.method == "OPTIONS" { return text }
    for scheme in ["http://", "https://"] where text.lowercasedAscii.hasPrefix(scheme) {
      let rest = text.utf8.dropFirst(scheme.utf8.count)
      let start = rest.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") }
      guard let start else { return "/" }
      if start == rest.startIndex { break }
      let path = String(decoding: rest[start...], as: UTF8.self)
      return path.hasPrefix("?") ? "/" + path : path
    }
    throw Http1Refusal(400, "the request target is malformed")
  }

  private func field(_ text: [UInt8]) throws(Http1Refusal) -> Http1Field {
    if text[0] == 0x20 || text[0] == 0x09 {
      throw Http1Refusal(400, "folded header lines are not accepted")
    }
    guard let colon = text.firstIndex(of: UInt8(ascii: ":")), colon > 0,
      text[..<colon].allSatisfy(isToken)
    else { throw Http1Refusal(400, "a header field is malformed") }
    var value = text[(colon + 1)...]
    while let c = value.first, c == 0x20 || c == 0x09 { value.removeFirst() }
    while let c = value.last, c == 0x20 || c == 0x09 { value.removeLast() }
    return Http1Field(
      name: String(decoding: text[..<colon].map(lower), as: UTF8.self),
      value: String(decoding: value, as: UTF8.self))
  }

  private func checkHost() throws(Http1Refusal) {
    let hosts = values("host")
    if hosts.count > 1 || (hosts.isEmpty && request.minor == 1) {
      throw Http1Refusal(400, "a request names its host once")
    }
    if let host = hosts.first,
      !host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && !"/?#@\\".utf8.contains($0) })
    {
      throw Http1Refusal(400, "the host is malformed")
    }
  }

  private func keepsAlive() -> Bool {
    var options: [String] = []
    for value in values("connection") {
      for part in value.lowercasedAscii.split(separator: ",") {
        options.append(part.filter { $0 != " " && $0 != "\t" })
      }
    }
    if options.contains("close") { return false }
    return request.minor == 1 || options.contains("keep-alive")
  }

  private func contentLength() throws(Http1Refusal) -> Int? {
    let all = values("content-length")
    guard let first = all.first else { return nil }
    guard all.allSatisfy({ $0 == first }), !first.isEmpty,
      first.utf8.allSatisfy({ (0x30...0x39).contains($0) })
    else { throw Http1Refusal(400, "content-length is malformed") }
    // More digits than any body we take.
    guard first.utf8.count <= 18, let n = Int(first) else { throw Http1Refusal.bodyTooLarge }
    return n
  }

  private func chunkSize(_ text: [UInt8]) throws(Http1Refusal) -> Int {
    var n = 0
    var digits = 0
    for c in text {
      let value: UInt8
      switch c {
      case 0x30...0x39: value = c - 0x30
      case 0x41...0x46: value = c - 0x41 + 10
      case 0x61...0x66: value = c - 0x61 + 10
      case UInt8(ascii: ";") where digits > 0: return n
      default: throw Http1Refusal(400, "a chunk size is malformed")
      }
      digits += 1
      if digits > 8 { throw Http1Refusal.bodyTooLarge }
      n = n << 4 | Int(value)
    }
    if digits == 0 { throw Http1Refusal(400, "a chunk size is malformed") }
    return n
  }
}

private func lower(_ c: UInt8) -> UInt8 { (0x41...0x5a).contains(c) ? c | 0x20 : c }

/// RFC 9110 section 5.6.2.
private func isToken(_ c: UInt8) -> Bool {
  switch c {
  case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
  default: "!#$%&'*+-.^_`|~".utf8.contains(c)
  }
}

extension String {
  var lowercasedAscii: String { String(decoding: utf8.map(lower), as: UTF8.self) }
}
