public import Base
internal import Digest

/// What a JWT of ours says.
public struct TokenClaims: Hashable, Sendable {
  public var tenant: TenantID
  public var org: String
  /// The API key it was issued for; `sub` is its address as text.
  public var key: RecordID
  public var scopes: Scopes
  /// Seconds since 1970.
  public var issuedAt: Int64
  public var expiresAt: Int64

  public init(
    tenant: TenantID, org: String, key: RecordID, scopes: Scopes, issuedAt: Int64, expiresAt: Int64
  ) {
    self.tenant = tenant
    self.org = org
    self.key = key
    self.scopes = scopes
    self.issuedAt = issuedAt
    self.expiresAt = expiresAt
  }
}

/// JSON Web Tokens (RFC 7519), HS256 only (RFC 7518 section 3.2). Pure arithmetic: about 2 us each way.
/// Whether the key behind a token still lives is asked of the engine, not of the token.
public enum JWT {
  static let issuer = "skytale-api"

  public static func sign(_ claims: TokenClaims, with keys: SigningKeySet) -> String {
    let header =
      Array(#"{"alg":"HS256","typ":"JWT","kid":"#.utf8) + FlatJSON.quote(keys.current)
      + Array("}".utf8)
    let subject = RecordAddress(tenant: claims.tenant, record: claims.key)
    var payload = Array(#"{"iss":"\#(issuer)","sub":"\#(subject)","org":"#.utf8)
    payload += FlatJSON.quote(claims.org)
    payload += Array(
      #","scope":"\#(claims.scopes.claim)","iat":\#(claims.issuedAt),"exp":\#(claims.expiresAt)}"#
        .utf8)
    let input = Text.base64url(header) + "." + Text.base64url(payload)
    return input + "." + Text.base64url(signature(of: input, secret: keys.currentSecret))
  }

  /// HMAC-SHA-256 over the signing input (RFC 7515 section 5.1).
  static func signature(of input: String, secret: [UInt8]) -> [UInt8] {
    hmacSHA256(key: secret, Array(input.utf8))
  }

  /// Checks form, algorithm, key, signature and times. `allowance`: seconds the clocks of two nodes may
  /// differ. Throws `unauthorized`, never saying more than which check failed.
  public static func verify(
    _ token: String, keys: SigningKeySet, wall: Instant, allowance: Int64 = 5
  ) throws(Fault) -> TokenClaims {
    guard token.utf8.count <= Limits.jwtBytes else { throw refusal("the token is too long") }
    let parts = token.split(separator: ".", maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count == 3, let header = Text.base64urlDecode(String(parts[0])),
      let payload = Text.base64urlDecode(String(parts[1])),
      let given = Text.base64urlDecode(String(parts[2]))
    else { throw refusal("not a token") }
    guard let fields = FlatJSON.parse(header), fields["alg"] == .string("HS256"),
      fields["typ"] == nil || fields["typ"] == .string("JWT"), fields["crit"] == nil,
      case .string(let kid)? = fields["kid"]
    else { throw refusal("the token's header is not ours") }
    guard let secret = keys.secret(kid) else { throw refusal("unknown signing key") }
    let wanted = signature(of: "\(parts[0]).\(parts[1])", secret: secret)
    guard constantTimeEqual(wanted, given) else { throw refusal("the signature does not match") }
    let claims = try read(payload)
    let seconds = wall.nanoseconds / 1_000_000_000
    if claims.expiresAt <= seconds - allowance { throw refusal("the token has expired") }
    if claims.issuedAt > seconds + allowance { throw refusal("the token is not valid yet") }
    return claims
  }

  /// The tenant a token says it is of; nil when it says none in our way. Nothing is checked: it only tells
  /// who can.
  static func tenantClaimed(by token: String) -> TenantID? {
    guard token.utf8.count <= Limits.jwtBytes else { return nil }
    let parts = token.split(separator: ".", maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count == 3, let payload = Text.base64urlDecode(String(parts[1])),
      case .string(let subject)? = FlatJSON.parse(payload)?["sub"]
    else { return nil }
    return RecordAddress(subject)?.tenant
  }

  private static func read(_ payload: [UInt8]) throws(Fault) -> TokenClaims {
    guard let members = FlatJSON.parse(payload), members["iss"] == .string(issuer),
      case .string(let subject)? = members["sub"], case .string(let org)? = members["org"],
      case .string(let scope)? = members["scope"], case .integer(let issued)? = members["iat"],
      case .integer(let expires)? = members["exp"],
      let address = RecordAddress(subject), let scopes = Scopes(claim: scope), !scope.isEmpty,
      isOrgName(org), TenantID(org: org) == address.tenant,
      issued >= 0, issued < expires, expires <= issued + Int64(Limits.jwtMaxSeconds)
    else { throw refusal("the token's claims are not ours") }
    if members["nbf"] != nil { throw refusal("the token's claims are not ours") }
    return TokenClaims(
      tenant: address.tenant, org: org, key: address.record, scopes: scopes, issuedAt: issued,
      expiresAt: expires)
  }

  private static func refusal(_ why: String) -> Fault { Fault(.unauthorized, why) }
}
