import Base
import FoundationEssentials
import TestKit
import Testing
import Token

@testable import Relay

@Suite("Token API", .timeLimit(.minutes(1))) struct ApiTests {
  private func route(_ path: String) -> ApiRouter.Route? {
    (try? ApiRouter.route(path)) ?? nil
  }

  private func action(
    _ method: String, _ path: String, query: String = "", body: String = ""
  ) throws -> TokenAction? {
    let found = try #require(route(path))
    #expect(found.methods.contains(method))
    return try ApiRouter.action(
      found, method, query: ApiQuery(query), body: Array(body.utf8))
  }

  private func refusal(
    _ method: String, _ path: String, query: String = "", body: String = ""
  ) -> FaultCode? {
    do {
      _ = try action(method, path, query: query, body: body)
      return nil
    } catch let fault as Fault {
      return fault.code
    } catch {
      return nil
    }
  }

  private var description: String {
    get throws {
      let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
      let file = "/\(root)/Proto/openapi/token.yaml"
      return String(decoding: try Data(contentsOf: URL(filePath: file)), as: UTF8.self)
    }
  }

  @Test("The description served is the one in the tree")
  func fresh() throws {
    #expect(try description == openApiText, "run ops/dev/regen")
  }

  @Test("Every path and method of the description is a route, and the other methods are not")
  func described() throws {
    let lines = try description.split(separator: "\n", omittingEmptySubsequences: false)
    let paths = try #require(lines.firstIndex(of: "paths:"))
    let end = try #require(lines.firstIndex(of: "components:"))
    var methods: [String: Set<String>] = [:]
    var path = ""
    for line in lines[paths..<end] {
      if line.hasPrefix("  /"), line.hasSuffix(":") {
        path = String(line.dropFirst(2).dropLast())
      } else if let verb = ["get", "post", "put", "delete"].first(where: { line == "    \($0):" }) {
        methods[path, default: []].insert(verb.uppercased())
      }
    }
    #expect(methods.count == 17)
    for (path, wanted) in methods {
      let filled = path.replacing("{name}", with: "a%2Fb%2Fc").replacing("{tenant}", with: "t")
        .replacing("{id}", with: "i").replacing("{request_id}", with: "r")
      #expect(Set(try #require(route(filled), "\(path)").methods) == wanted, "\(path)")
    }
  }

  @Test("Paths: what is a route and what is not")
  func routes() {
    #expect(route("/v1/channels/a%2Fb%2Fc") == .channel("a/b/c"))
    #expect(route("/v1/channels/a%2Fb%2Fc/grants") == .grants("a/b/c"))
    #expect(route("/v1/channels/a%2Fb%2Fc/grants/t") == .grant("a/b/c", "t"))
    #expect(route("/v1/channels/pending") == .pending)
    #expect(route("/v1/channels/welcome/jr_x") == .welcome("jr_x"))
    #expect(route("/v1/channels/%C3%BC") == .channel("ü"))
    #expect(route("/v1/channels/a+b") == .channel("a+b"))
    for bad in [
      "", "/", "/v1", "/v1/", "/v2/tokens", "/v1/tokens/", "//v1/tokens", "/v1//tokens", "*",
      "/v1/channels/a%2Fb%2Fc/grant", "/v1/channels/a/b/c/d/e", "/v1/keys/a/b", "/v1/tokens/x",
      "/openapi.yaml/", "/V1/tokens",
    ] {
      #expect(route(bad) == nil, "\(bad)")
    }
    for broken in ["/v1/channels/%", "/v1/channels/%4", "/v1/channels/%zz", "/v1/keys/%ff"] {
      #expect(throws: Fault.self, "\(broken)") { try ApiRouter.route(broken) }
    }
  }

  @Test("Bodies: members by name and type, what is wrong is named")
  func bodies() throws {
    guard
      case .createInvite("a/b/c", 1, 3_600)? = try action(
        "POST", "/v1/channels/invites", body: #"{"channel":"a/b/c","unknown":[{"x":null}]}"#),
      case .createInvite(_, 5, 60)? = try action(
        "POST", "/v1/channels/invites",
        body: #"{"channel":"a/b/c","max_uses":5.0,"ttl_seconds":60}"#),
      case .issueToken(nil, nil)? = try action("POST", "/v1/tokens"),
      case .issueToken(60, "usage")? = try action(
        "POST", "/v1/tokens", body: #"{"ttl_seconds":60,"scope":"usage"}"#),
      case .join("a/b/c", "t", [0, 1, 0, 5], "é")? = try action(
        "POST", "/v1/channels/join",
        body: #"{"channel":"a/b/c","token":"t","key_package":"AAEABQ==","identity":"é"}"#),
      case .createKey(nil, "x", ["usage"], nil)? = try action(
        "POST", "/v1/keys", body: #"{"label":"x","scopes":["usage"]}"#)
    else {
      Issue.record("a body was read as another action")
      return
    }
    for body in [
      "{", "[]", "1", "null", "\"x\"", "{}", #"{"name":5}"#, #"{"name":null}"#, #"{"name":["a"]}"#,
      #"{"name":"a"}{"#, "\u{0}",
    ] {
      #expect(refusal("POST", "/v1/channels", body: body) == .badRequest, "\(body)")
    }
    for body in [
      #"{"ttl_seconds":"60"}"#, #"{"ttl_seconds":1.5}"#, #"{"ttl_seconds":true}"#,
      #"{"ttl_seconds":1e300}"#, #"{"ttl_seconds":null}"#, #"{"scope":1}"#,
    ] {
      #expect(refusal("POST", "/v1/tokens", body: body) == .badRequest, "\(body)")
    }
    #expect(refusal("POST", "/v1/keys", body: #"{"scopes":"usage"}"#) == .badRequest)
    #expect(refusal("POST", "/v1/keys", body: #"{"scopes":[1]}"#) == .badRequest)
    #expect(
      refusal("POST", "/v1/channels", body: String(repeating: "[", count: 100_000)) == .badRequest)
  }

  @Test("Queries: decoded once, days and limits checked")
  func queries() throws {
    guard
      case .pending("a/b c/d")? = try action(
        "GET", "/v1/channels/pending", query: "channel=a%2Fb+c%2Fd&x"),
      case .usage(nil, 0, 20_000)? = try action(
        "GET", "/v1/usage", query: "from=1970-01-01&to=2024-10-04"),
      case .listChannels("p", "a", 7)? = try action(
        "GET", "/v1/channels", query: "prefix=p&after=a&limit=7"),
      case .listChannels("", "", Limits.listRows)? = try action(
        "GET", "/v1/channels", query: "limit=99999999")
    else {
      Issue.record("a query was read as another action")
      return
    }
    #expect(refusal("GET", "/v1/channels/pending") == .badRequest)
    for query in ["channel=%", "channel=%ff", "%zz=1"] {
      #expect(throws: Fault.self) { try ApiQuery(query) }
    }
    for limit in ["0", "-1", "x", "", "1.5", "99999999999999999999"] {
      #expect(refusal("GET", "/v1/channels", query: "limit=\(limit)") == .badRequest, "\(limit)")
    }
    for day in [
      "2024-02-30", "2023-02-29", "2024-13-01", "2024-00-01", "2024-1-1", "1969-12-31", "20240101",
      "2024-01-01x", "-024-01-01", "2024--1-01",
    ] {
      #expect(refusal("GET", "/v1/usage", query: "from=\(day)") == .badRequest, "\(day)")
    }
  }

  @Test("Days are those of the calendar")
  func calendar() {
    for (text, day) in [
      ("1970-01-01", 0), ("1999-12-31", 10_956), ("2000-02-29", 11_016), ("2026-11-21", 20_778),
      ("2100-03-01", 47_541),
    ] as [(String, UInt32)] {
      #expect(CalendarDay.read(text) == day)
      #expect(CalendarDay.write(day) == text)
    }
    for day: UInt32 in stride(from: 0, through: 200_000, by: 37) {
      #expect(CalendarDay.read(CalendarDay.write(day)) == day)
    }
  }

  @Test("Standard base64 has one form for every value")
  func base64() {
    for (bytes, text) in [
      ([], ""), ([0], "AA=="), ([0, 1], "AAE="), ([0xfb, 0xff, 0xfe], "+//+"),
    ] as [([UInt8], String)] {
      #expect(StandardBase64.encode(bytes) == text)
      #expect(StandardBase64.decode(text) == bytes)
    }
    for bad in [
      "A", "AA", "AA=", "AB==", "AAF=", "-__-", "AA==\n", " AA==", "A===", "====", "AA==AA==",
    ] {
      #expect(StandardBase64.decode(bad) == nil, "\(bad)")
    }
  }

  @Test("Credentials and content types")
  func headers() {
    #expect(ApiRouter.credential("Bearer x") == "x")
    #expect(ApiRouter.credential("bearer x") == "x")
    for bad in ["", "Bearer", "Bearer ", "Basic x", "Bearer a b", "x", "Bearer  x"] {
      #expect(ApiRouter.credential(bad) == nil, "\(bad)")
    }
    #expect(ApiRouter.credential(nil) == nil)
    for good in [nil, "application/json", "Application/JSON; charset=utf-8", "application/x+json"] {
      #expect(ApiRouter.isJson(good))
    }
    for bad in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"]
    {
      #expect(!ApiRouter.isJson(bad), "\(bad)")
    }
    #expect(TokenApi.host("10.0.0.7:53210") == "10.0.0.7")
    #expect(TokenApi.host("[2001:db8:1:2:3:4:5:6]:53210") == "2001:db8:1:2::")
    #expect(TokenApi.host("unix:uid=1000") == "unix:uid=1000")
  }

  @Test("Refusals carry error, code and what the client should do")
  func refusals() {
    let wall = Instant(nanoseconds: 1_800_000_000_000_000_000)
    for code in FaultCode.allCases {
      let answer = ApiAnswer(Fault(code, "a \"detail\"\n"), wall: wall)
      #expect(answer.status == code.http)
      guard case .object(let members)? = JsonValue(parsing: answer.body.bytes) else {
        Issue.record("the body of \(code) is not an object")
        continue
      }
      let texts = Dictionary(uniqueKeysWithValues: members.map { ($0.name, $0.value) })
      #expect(texts["code"] == .string(code.rawValue))
      #expect(texts["error"] == .string("a \"detail\"\n"))
      let names = answer.headers.map(\.0)
      #expect(names.contains("www-authenticate") == (answer.status == 401))
      if answer.status == 429 { #expect(names.contains("retry-after")) }
    }
    let quota = ApiAnswer(Fault(.quotaExceeded), wall: wall)
    #expect(quota.headers.first { $0.0 == "retry-after" }?.1 == "57600")
  }

  @Test("The reader of JSON takes what RFC 8259 allows, within its bounds")
  func jsonReader() throws {
    func read(_ text: String) -> JsonValue? { JsonValue(parsing: Array(text.utf8)) }
    #expect(
      read(#" [1, -2.5e1 ,true,false,null,"a\n\u00e9\ud83d\ude00/\/",{"b":[{}],"":[]}] "#)
        == .array([
          .integer(1), .number(-25), .bool(true), .bool(false), .null, .string("a\né😀//"),
          .object([("b", .array([.object([])])), ("", .array([]))]),
        ]))
    #expect(read("9223372036854775807") == .integer(.max))
    #expect(read("9223372036854775808") == .number(9223372036854775808))
    #expect(read("-0") == .integer(0))
    for bad in [
      "", " ", "{", "}", "[", "]", "[1,]", "[,1]", "[1 2]", "{}{}", "{\"a\"}", "{\"a\":}",
      "{\"a\":1,}",
      "{a:1}", "{\"a\":1,\"a\":2}", "01", "+1", ".5", "1.", "1e", "1e+", "-", "0x1", "NaN",
      "Infinity",
      "tru", "True", "nul", "\"", "\"a", "'a'", #""\x""#, #""\u12""#, #""\ud800""#, #""\udc00""#,
      #""\ud800\u0041""#, #""\u00g0""#, "\"\n\"", "\"\u{0}\"", "\u{feff}1", "/*c*/1",
      String(repeating: "1", count: 65),
      String(repeating: "[", count: 18) + String(repeating: "]", count: 18),
      "[" + String(repeating: "1,", count: JsonReader.maxValues) + "1]",
    ] {
      #expect(read(bad) == nil, "\(bad.prefix(40))")
    }
    #expect(read(String(repeating: "[", count: 17) + String(repeating: "]", count: 17)) != nil)
    #expect(JsonValue(parsing: [0x22, 0xff, 0x22]) == nil)
    #expect(JsonValue(parsing: [0x22, 0xed, 0xa0, 0x80, 0x22]) == nil)
  }

  @Test("Random bytes do not trip the reader of JSON; what it reads, it reads again")
  func jsonMutations() {
    var random = SimRandom(seed: 3)
    let seed = Array(
      #"{"channel":"a/b/c","token":"\u00e9x","n":[1,-2.5,true,null,{"k":"v"}],"ttl":60}"#.utf8)
    for _ in 0..<20_000 {
      var bytes = seed
      for _ in 0..<random.within(1...4) where !bytes.isEmpty {
        switch random.below(3) {
        case 0: bytes[random.below(bytes.count)] = UInt8(random.below(256))
        case 1: bytes.remove(at: random.below(bytes.count))
        default: bytes.insert(UInt8(random.below(256)), at: random.below(bytes.count))
        }
      }
      guard let value = JsonValue(parsing: bytes) else { continue }
      #expect(JsonValue(parsing: value.bytes) == value)
    }
  }

  @Test("JSON is written so that any reader reads it back")
  func json() {
    let text = String(String.UnicodeScalarView((0..<0x300).compactMap { Unicode.Scalar($0) })) + "😀"
    let value = JsonValue.object([
      ("s", .string(text)), ("n", .null), ("b", .bool(true)), ("i", .integer(.min)),
      ("a", .array([.integer(1), .string("")])), ("o", .object([])),
    ])
    guard case .object(let members)? = JsonValue(parsing: value.bytes) else {
      Issue.record("not read back")
      return
    }
    #expect(members.count == 6)
    #expect(members.first { $0.name == "s" }?.value == .string(text))
    #expect(members.first { $0.name == "i" }?.value == .integer(.min))
    #expect(JsonValue.count(.max) == .integer(.max))
  }
}
