import Base
import Digest
import Token

/// Keys and claims that the token targets share.
enum TokenSeeds {
  static let keys = SigningKeySet(
    current: "k2",
    secrets: ["k1": [UInt8](repeating: 1, count: 32), "k2": [UInt8](repeating: 2, count: 32)])
  static let wall = Instant(nanoseconds: 1_800_000_000_000_000_000)
  static let claims: [TokenClaims] = ["acme", "a", "other-org-with-a-longer-name"].flatMap { org in
    [Scopes.all, [.channels], [.tokens, .usage]].map { scopes in
      TokenClaims(
        tenant: TenantID(org: org), org: org, key: RecordID(0x0123_4567_89ab_cdef), scopes: scopes,
        issuedAt: 1_799_999_900, expiresAt: 1_800_000_200)
    }
  }

  static func sign(header: [UInt8], payload: [UInt8]) -> String {
    let input = Text.base64url(header) + "." + Text.base64url(payload)
    return input + "."
      + Text.base64url(hmacSHA256(key: [UInt8](repeating: 2, count: 32), Array(input.utf8)))
  }
}

/// Tokens of strangers: none verifies but those we signed, byte for byte.
struct JWTTarget: FuzzTarget {
  static let name = "jwt"
  static let wantedShare = 10_000
  let corpus: [[UInt8]]
  let words: [[UInt8]] = [
    ".", "..", "=", "eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9", "-", "_", "+", "/", "A", "AA",
  ].map { Array($0.utf8) }
  private let ours: Set<[UInt8]>

  init() {
    corpus = TokenSeeds.claims.map { Array(JWT.sign($0, with: TokenSeeds.keys).utf8) }
    ours = Set(corpus)
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let text = String(decoding: input, as: UTF8.self)
    guard let claims = try? JWT.verify(text, keys: TokenSeeds.keys, wall: TokenSeeds.wall) else {
      try check(!ours.contains(Array(input)), "a token of ours was refused")
      return false
    }
    try check(ours.contains(Array(text.utf8)), "a token that we did not sign verifies: \(text)")
    try check(TokenSeeds.claims.contains(claims), "claims that we did not sign")
    return true
  }
}

/// Headers and claims of strangers under our own signature: reaches what the signature keeps out.
struct SignedJWTTarget: FuzzTarget {
  static let name = "jwt-signed"
  static let wantedShare = 10_000
  let corpus: [[UInt8]]
  let words: [[UInt8]] = [
    "\"iss\":\"skytale-api\",", "\"nbf\":1,", "\"crit\":[],", "\"exp\":9223372036854775807",
    "\"iat\":-1", "null",
    "true", "\\u0000", "\\ud83d\\ude42", "\\ud800", "9223372036854775808", "-9223372036854775808",
    "1e5", "1.5",
    "\"alg\":\"none\",", "channels ", "{", "}", ",", "\"", "\\",
  ].map { Array($0.utf8) }
  /// Between header and payload.
  private static let cut: UInt8 = 0x0a

  init() {
    corpus = TokenSeeds.claims.map { claims in
      let parts = JWT.sign(claims, with: TokenSeeds.keys).split(separator: ".")
      return (Text.base64urlDecode(String(parts[0])) ?? []) + [SignedJWTTarget.cut]
        + (Text.base64urlDecode(String(parts[1])) ?? [])
    }
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let at = input.firstIndex(of: SignedJWTTarget.cut) ?? input.count
    let payload = Array(input[min(at + 1, input.count)...])
    let token = TokenSeeds.sign(header: Array(input[..<at]), payload: payload)
    let now = TokenSeeds.wall.nanoseconds / 1_000_000_000
    guard let claims = try? JWT.verify(token, keys: TokenSeeds.keys, wall: TokenSeeds.wall) else {
      return false
    }
    try check(token.utf8.count <= Limits.jwtBytes, "a token of \(token.utf8.count) bytes")
    try check(
      isOrgName(claims.org) && TenantID(org: claims.org) == claims.tenant, "org \(claims.org)")
    try check(claims.expiresAt > now - 5 && claims.issuedAt <= now + 5, "out of time: \(claims)")
    try check(
      claims.expiresAt - claims.issuedAt <= Int64(Limits.jwtMaxSeconds) && !claims.scopes.isEmpty,
      "claims \(claims)")
    let again = try? JWT.verify(
      JWT.sign(claims, with: TokenSeeds.keys), keys: TokenSeeds.keys, wall: TokenSeeds.wall)
    try check(again == claims, "claims that change when they are signed again: \(claims)")
    return true
  }
}

/// The JSON of token parts.
struct FlatJSONTarget: FuzzTarget {
  static let name = "flat-json"
  static let wantedShare = 50_000
  let corpus: [[UInt8]] = [
    #"{}"#, #" { "a" : 1 , "b" : "x" , "c" : true , "d" : null , "e" : false } "#,
    #"{"alg":"HS256","typ":"JWT","kid":"k2"}"#,
    #"{"n":-9223372036854775808,"m":9223372036854775807,"z":0}"#,
    #"{"t":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude42"}"#, #"{"é":"日本語","":""}"#,
    "{" + (0..<32).map { "\"m\($0)\":\($0)" }.joined(separator: ",") + "}",
  ].map { Array($0.utf8) }
  let words: [[UInt8]] = [
    "\\u0000", "\\ud83d\\ude42", "\\ud800", "\\udc00", "\\uDFFF", "null", "true", "false", "-0",
    "00", "-",
    "9223372036854775808", "\"\":", ",", ":", "{", "}", "[", "]", "\"", "\\", "1.0", "1e1", "\t",
    "\u{1}",
  ].map { Array($0.utf8) }

  init() {}

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let members = FlatJSON.parse(Array(input)) else { return false }
    try check(members.count <= 32, "\(members.count) members")
    var out: [UInt8] = [0x7b]
    for (name, value) in members {
      if out.count > 1 { out.append(0x2c) }
      out += FlatJSON.quote(name) + [0x3a]
      switch value {
      case .string(let text): out += FlatJSON.quote(text)
      case .integer(let n): out += Array("\(n)".utf8)
      case .boolean(let b): out += Array((b ? "true" : "false").utf8)
      case .null: out += Array("null".utf8)
      }
    }
    out.append(0x7d)
    try check(FlatJSON.parse(out) == members, "members that change when they are written again")
    return true
  }
}

/// API keys, invites, addresses, scopes and names as text: one form each.
struct CredentialTarget: FuzzTarget {
  static let name = "credential"
  static let wantedShare = 50_000
  let corpus: [[UInt8]]
  let words: [[UInt8]] = [
    "sk_live_", "skt_inv_", "jr_", "a", "7", "=", "A", "/", " ", "channels", "invites",
  ].map {
    Array($0.utf8)
  }

  init() {
    let address = RecordAddress(tenant: TenantID(org: "acme"), record: RecordID(77))
    let credential = Credential(address: address, secret: [UInt8](0..<32))
    let texts = [
      credential.text(.apiKey), credential.text(.invite), address.description, Scopes.all.claim,
      "channels", "acme", "org/ns/c1", "org/ns/c/1/2",
    ]
    corpus = texts.map { Array($0.utf8) }
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let text = String(decoding: input, as: UTF8.self)
    var accepted = false
    for kind in [Credential.Kind.apiKey, .invite] {
      guard let read = Credential(kind, text) else { continue }
      accepted = true
      try check(read.text(kind).utf8.elementsEqual(text.utf8), "a second text form: \(text)")
      try check(read.matches(read.digest), "a key that does not match its own digest")
    }
    if let address = RecordAddress(text) {
      accepted = true
      try check(address.description.utf8.elementsEqual(text.utf8), "a second text form: \(text)")
    }
    if let scopes = Scopes(claim: text) {
      accepted = accepted || !text.isEmpty
      try check(Scopes(claim: scopes.claim) == scopes, "scopes that change: \(text)")
    }
    if let name = ChannelName(text) {
      accepted = true
      try check(
        name.description == text && text.utf8.count <= Limits.channelNameBytes, "name \(text)")
    }
    if isOrgName(text) { try check((1...63).contains(text.utf8.count), "org \(text)") }
    return accepted
  }
}
