public import Loop

/// A whole request, over HTTP/1.1 or h2.
public struct HttpRequest: Sendable {
  public var method: String
  /// As sent, still percent-encoded; starts with `/`, or is `*`.
  public var path: String
  /// After the first `?`, as sent; empty when there is none.
  public var query: String
  /// Names in lower case; pseudo fields of h2 are left out, `:authority` stands as `host`.
  public var headers: [(name: String, value: String)]
  public var body: [UInt8]
  public var peer: PeerAddress
  public var isSecure: Bool

  /// The first value of a field; `name` in lower case.
  public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

  /// Decodes `%XX`; nil for a broken escape or what is no UTF-8.
  public static func percentDecode(_ text: some StringProtocol) -> String? {
    var out: [UInt8] = []
    var rest = text.utf8.makeIterator()
    while let c = rest.next() {
      guard c == UInt8(ascii: "%") else {
        out.append(c)
        continue
      }
      guard let a = rest.next().flatMap(nibble), let b = rest.next().flatMap(nibble) else {
        return nil
      }
      out.append(a << 4 | b)
    }
    return String(validating: out, as: UTF8.self)
  }

  private static func nibble(_ c: UInt8) -> UInt8? {
    switch c {
    case 0x30...0x39: c - 0x30
    case 0x41...0x46: c - 0x41 + 10
    case 0x61...0x66: c - 0x61 + 10
    default: nil
    }
  }

  /// The parameters of the query, decoded (`+` is a blank); nil when one is malformed.
  public var parameters: [(name: String, value: String)]? {
    var out: [(name: String, value: String)] = []
    for part in query.split(separator: "&") {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let texts = pair.map { side in String(side.map { $0 == "+" ? " " : $0 }) }
      guard let name = HttpRequest.percentDecode(texts[0]),
        let value = texts.count == 2 ? HttpRequest.percentDecode(texts[1]) : ""
      else { return nil }
      out.append((name, value))
    }
    return out
  }
}

public struct HttpResponse: Sendable {
  public var status: Int
  /// Names in lower case. `content-length`, `date` and `connection` are added.
  public var headers: [(String, String)]
  public var body: [UInt8]
  public init(status: Int, headers: [(String, String)] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// The small JSON body of every refusal: `error` says what is wrong, `code` names it.
  public static func refusal(_ status: Int, code: String, _ error: String) -> HttpResponse {
    var text = "{\"error\":\""
    for c in error.unicodeScalars {
      switch c {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case _ where c.value < 0x20: text += " "
      default: text.unicodeScalars.append(c)
      }
    }
    text += "\",\"code\":\"\(code)\"}"
    return HttpResponse(
      status: status, headers: [("content-type", "application/json")], body: Array(text.utf8))
  }
}

/// Serves requests of one loop.
public protocol HttpHandler: AnyObject {
  func receive(_ request: HttpRequest, _ responder: HttpResponder)
}

/// Takes the answer to one request, once, now or later on the same loop. Dropped without an answer it
/// says 500; an answer nobody waits for any more is thrown away.
public final class HttpResponder: @unchecked Sendable {
  private var take: ((HttpResponse) -> Void)?
  // SAFETY: only touched on that loop, which therefore lives.
  @safe public unowned(unsafe) let loop: EventLoop

  init(loop: EventLoop, _ take: @escaping (HttpResponse) -> Void) {
    self.loop = loop
    self.take = take
  }

  public var isAnswered: Bool { take == nil }

  public func respond(_ response: HttpResponse) {
    guard let take else { return }
    self.take = nil
    take(response)
  }

  deinit {
    take?(.refusal(500, code: "internal", "The node failed in a way it should not."))
  }
}
