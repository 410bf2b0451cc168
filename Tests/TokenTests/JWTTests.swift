import Base
import Digest
import TestKit
import Testing

@testable import Token

@Suite(.timeLimit(.minutes(1))) struct JWTTests {
  private let keys = SigningKeySet(
    current: "k2",
    secrets: ["k1": [UInt8](repeating: 1, count: 32), "k2": [UInt8](repeating: 2, count: 32)])
  private let wall = Instant(nanoseconds: 1_800_000_000_000_000_000)

  private var claims: TokenClaims {
    TokenClaims(
      tenant: TenantID(org: "acme"), org: "acme", key: RecordID(42), scopes: [.channels, .tokens],
      issuedAt: 1_800_000_000, expiresAt: 1_800_000_300)
  }

  private func verify(_ token: String, at seconds: Int64 = 0) -> Result<TokenClaims, Fault> {
    Result { () throws(Fault) in
      try JWT.verify(token, keys: keys, wall: wall + .seconds(seconds), allowance: 5)
    }
  }

  /// A token of any header and payload, signed right.
  private func forge(_ header: String, _ payload: String, secret: [UInt8]? = nil) -> String {
    let input = Text.base64url(header.utf8) + "." + Text.base64url(payload.utf8)
    let secret = secret ?? [UInt8](repeating: 2, count: 32)
    return input + "." + Text.base64url(JWT.signature(of: input, secret: secret))
  }

  private let header = #"{"alg":"HS256","typ":"JWT","kid":"k2"}"#
  private func payload(_ change: (inout [String: String]) -> Void = { _ in }) -> String {
    let subject = RecordAddress(tenant: TenantID(org: "acme"), record: RecordID(42))
    var members = [
      "iss": #""skytale-api""#, "sub": "\"\(subject)\"", "org": #""acme""#, "scope": #""channels""#,
      "iat": "1800000000", "exp": "1800000300",
    ]
    change(&members)
    return "{" + members.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",") + "}"
  }

  @Test("The signature is that of RFC 7515 appendix A.1")
  func vector() throws {
    let secret = try #require(
      Text.base64urlDecode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"))
    let input =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
      + "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    #expect(
      Text.base64url(JWT.signature(of: input, secret: secret))
        == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    let parts = input.split(separator: ".")
    let header = FlatJSON.parse(try #require(Text.base64urlDecode(String(parts[0]))))
    #expect(header == ["typ": .string("JWT"), "alg": .string("HS256")])
    let payload = FlatJSON.parse(try #require(Text.base64urlDecode(String(parts[1]))))
    #expect(
      payload == [
        "iss": .string("joe"), "exp": .integer(1_300_819_380),
        "http://example.com/is_root": .boolean(true),
      ])
  }

  @Test("What is signed is read again")
  func roundTrip() throws {
    let token = JWT.sign(claims, with: keys)
    #expect(try verify(token).get() == claims)
    #expect(try verify(forge(header, payload())).get().key == RecordID(42))
  }

  @Test("A token is good from its second of issue to its end, give or take the allowance")
  func times() {
    let token = JWT.sign(claims, with: keys)
    for (at, good) in [
      (-6, false), (-5, true), (0, true), (299, true), (304, true), (305, false), (100_000, false),
    ] as [(Int64, Bool)] {
      #expect(((try? verify(token, at: at).get()) != nil) == good, "at \(at)")
    }
  }

  @Test("A key that signs no more still verifies, one that is gone does not")
  func rotation() throws {
    let old = SigningKeySet(current: "k1", secrets: ["k1": [UInt8](repeating: 1, count: 32)])
    let token = JWT.sign(claims, with: old)
    #expect(try verify(token).get() == claims)
    let later = SigningKeySet(current: "k2", secrets: ["k2": [UInt8](repeating: 2, count: 32)])
    #expect(throws: Fault.self) { try JWT.verify(token, keys: later, wall: wall) }
  }

  @Test("Headers that are not exactly ours are refused")
  func headers() {
    for bad in [
      #"{"alg":"none","typ":"JWT","kid":"k2"}"#, #"{"alg":"None","kid":"k2"}"#,
      #"{"alg":"hs256","kid":"k2"}"#, #"{"alg":"HS384","kid":"k2"}"#,
      #"{"alg":"RS256","kid":"k2"}"#,
      #"{"typ":"JWT","kid":"k2"}"#, #"{"alg":"HS256","typ":"JWT"}"#,
      #"{"alg":"HS256","kid":"k3"}"#, #"{"alg":"HS256","kid":""}"#, #"{"alg":"HS256","kid":2}"#,
      #"{"alg":"HS256","kid":"k2","crit":"exp"}"#, #"{"alg":"HS256","kid":"k2","typ":"JWE"}"#,
      #"{"alg":"HS256","alg":"HS256","kid":"k2"}"#, #"{"alg":"none","alg":"HS256","kid":"k2"}"#,
      #"{"alg":"HS256","kid":"k2","x":{}}"#, #"{"alg":"HS256","kid":"k2"} x"#, "", "[]",
    ] {
      #expect(throws: Fault.self, "\(bad)") { try verify(forge(bad, payload())).get() }
    }
  }

  @Test("Claims that are not ours are refused, however well they are signed")
  func badClaims() {
    let foreign = RecordAddress(tenant: TenantID(org: "other"), record: RecordID(42))
    let changes: [(inout [String: String]) -> Void] = [
      { $0["iss"] = #""joe""# }, { $0["iss"] = nil }, { $0["sub"] = nil }, { $0["sub"] = #""x""# },
      { $0["sub"] = "\"\(foreign)\"" }, { $0["org"] = #""other""# }, { $0["org"] = #""ACME""# },
      { $0["scope"] = #""root""# }, { $0["scope"] = #""channels  tokens""# }, { $0["scope"] = nil },
      { $0["exp"] = nil }, { $0["exp"] = #""1800000300""# }, { $0["exp"] = "1800000300.5" },
      { $0["exp"] = "18000003000000000000" }, { $0["exp"] = "1900000000" },
      { $0["exp"] = "1800000000" }, { $0["iat"] = nil }, { $0["iat"] = "-1" },
      { $0["iat"] = "1800000100" }, { $0["nbf"] = "1" },
    ]
    for (index, change) in changes.enumerated() {
      #expect(throws: Fault.self, "change \(index)") {
        try verify(forge(header, payload(change))).get()
      }
    }
  }

  @Test("Another form of the same token is refused")
  func forms() {
    let token = JWT.sign(claims, with: keys)
    let parts = token.split(separator: ".").map(String.init)
    // The last character of a 32-byte signature holds two spare bits.
    let spare = String(parts[2].dropLast()) + (parts[2].hasSuffix("8") ? "9" : "B")
    for bad in [
      "", ".", "..", "...", parts[0] + "." + parts[1], token + ".", token + "=", " " + token,
      token + "\n", token + "." + parts[2], parts[0] + "." + parts[1] + ".",
      parts[0] + "." + parts[1] + "." + spare, parts[0] + "=." + parts[1] + "." + parts[2],
      parts.joined(separator: ". "), String(repeating: "a", count: 5_000),
      token + String(repeating: "A", count: 4_096),
    ] {
      #expect(throws: Fault.self, "\(bad.prefix(40))") { try verify(bad).get() }
    }
  }

  @Test("No token with a flipped bit passes")
  func flips() throws {
    let token = Array(JWT.sign(claims, with: keys).utf8)
    for index in token.indices {
      for bit in 0..<8 {
        var bad = token
        bad[index] ^= 1 << UInt8(bit)
        guard let text = String(validating: bad, as: UTF8.self) else { continue }
        #expect(throws: Fault.self, "byte \(index) bit \(bit)") { try verify(text).get() }
      }
    }
  }

  @Test("A wrong secret makes no token")
  func wrongSecret() {
    let bad = forge(header, payload(), secret: [UInt8](repeating: 3, count: 32))
    #expect(throws: Fault.self) { try verify(bad).get() }
  }

  @Test("The reader of flat JSON takes what RFC 8259 allows, and no more")
  func flatJSON() {
    func parse(_ text: String) -> [String: FlatJSON.Value]? { FlatJSON.parse(Array(text.utf8)) }
    #expect(parse("{}") == [:])
    #expect(
      parse(" {\t\"a\" : -1 ,\n\"b\":true,\"c\":null,\"d\":false } ")
        == ["a": .integer(-1), "b": .boolean(true), "c": .null, "d": .boolean(false)])
    #expect(parse(#"{"a":"x\n\"\\\/\u00e9\ud83d\ude00"}"#) == ["a": .string("x\n\"\\/é😀")])
    #expect(parse(#"{"a":9223372036854775807}"#) == ["a": .integer(.max)])
    #expect(parse(#"{"a":-9223372036854775808}"#) == ["a": .integer(.min)])
    for bad in [
      "", "{", "}", "{}{}", "[]", "1", "\"a\"", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, #"{,"a":1}"#,
      #"{"a":1 "b":2}"#, #"{"a":1,"a":1}"#, #"{"a":01}"#, #"{"a":+1}"#, #"{"a":1.0}"#,
      #"{"a":1e3}"#,
      #"{"a":-}"#, #"{"a":9223372036854775808}"#, #"{"a":-9223372036854775809}"#, #"{"a":tru}"#,
      #"{"a":TRUE}"#, #"{"a":NaN}"#, #"{"a":[1]}"#, #"{"a":{"b":1}}"#, #"{'a':1}"#, #"{a:1}"#,
      #"{"a":"\x"}"#, #"{"a":"\u12"}"#, #"{"a":"\ud800"}"#, #"{"a":"\udc00"}"#,
      #"{"a":"\ud800\u0041"}"#, "{\"a\":\"\n\"}", "{\"a\":\"\u{0}\"}", #"{"a":"b}"#, "\u{feff}{}",
      "{" + (0...32).map { "\"m\($0)\":1" }.joined(separator: ",") + "}",
    ] {
      #expect(parse(bad) == nil, "\(bad)")
    }
    #expect(FlatJSON.parse([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, 0xff, 0x22, 0x7d]) == nil)
  }

  @Test("Random bytes do not trip the reader or the verifier")
  func mutations() {
    var random = SimRandom(seed: 7)
    let seeds = [
      Array(JWT.sign(claims, with: keys).utf8), Array(header.utf8), Array(payload().utf8),
    ]
    for _ in 0..<30_000 {
      var bytes = random.pick(seeds)
      for _ in 0..<random.within(1...4) {
        switch random.below(3) {
        case 0: bytes[random.below(bytes.count)] = UInt8(random.below(256))
        case 1: bytes.remove(at: random.below(bytes.count))
        default: bytes.insert(UInt8(random.below(256)), at: random.below(bytes.count))
        }
        if bytes.isEmpty { bytes = [0] }
      }
      _ = FlatJSON.parse(bytes)
      if let text = String(validating: bytes, as: UTF8.self) { _ = verify(text) }
    }
  }
}
