import Base
import Crypto
import Digest
import Loop
import Settings
import Token

/// What `posthouse admin token` gives: `pha_` + base32(expiry in seconds u64, HMAC-SHA256 under the
/// node's signing key). Opens metrics, reflection and the admin service to callers that are not local.
enum AdminCredential {
  static let prefix = "pha_"
  private static let label = Array("posthouse admin credential v1".utf8)

  static func make(expires seconds: Int64, _ keys: SigningKeys) -> String {
    let expiry = bigEndianBytes(UInt64(clamping: seconds))
    return prefix + Text.base32(expiry + tag(expiry, keys.current))
  }

  static func verify(_ text: String, _ keys: SigningKeys, at wall: Instant) -> Bool {
    guard text.hasPrefix(prefix), text.utf8.count < 100,
      let bytes = Text.base32Decode(String(text.dropFirst(prefix.count))), bytes.count == 40
    else { return false }
    let expiry = Array(bytes[..<8])
    let seconds = UInt64(bigEndianBytes: expiry)
    guard Int64(clamping: seconds) > wall.nanoseconds / 1_000_000_000 else { return false }
    let given = Array(bytes[8...])
    for key in [keys.current, keys.previous].compactMap({ $0 })
    where constantTimeEqual(given, tag(expiry, key)) {
      return true
    }
    return false
  }

  private static func tag(_ expiry: [UInt8], _ key: SigningKey) -> [UInt8] {
    let derived = unsafe key.secret.withUnsafeBytes { unsafe hmacSHA256(key: [UInt8]($0), label) }
    return hmacSHA256(key: derived, expiry)
  }
}

extension NodeHost {
  /// What operators' calls over TCP are answered for: an admin credential; without any, loopback, if the settings
  /// trust it (`admin_loopback`). A wrong credential is refused wherever it comes from: whoever sends one means
  /// to be known by it, and a proxy on this machine that adds one must not be taken for the operator.
  func isOperator(_ authorization: String?, _ peer: PeerAddress, at now: Now) -> Bool {
    let isOne: Bool
    if let authorization {
      isOne =
        bearer(authorization).map { AdminCredential.verify($0, signing.value, at: now.wall) }
        ?? false
    } else {
      isOne = peer.isLocal && settings.trustsLoopback
    }
    if !isOne {
      refusals.note(
        "operator", from: peer.text,
        authorization == nil ? "no admin credential" : "a wrong or expired admin credential",
        at: now.monotonic)
    }
    return isOne
  }

  /// The same for people.
  var operatorRule: String {
    settings.trustsLoopback
      ? "operators' calls want the admin socket, an admin credential (posthouse admin token), or none from "
        + "loopback; a wrong one is refused"
      : "operators' calls want the admin socket or an admin credential (posthouse admin token)"
  }

  /// A caller of the token API was refused.
  func noteRefusal(_ caller: TokenCaller, _ fault: Fault) {
    guard [.unauthorized, .forbidden, .keyRevoked, .tenantSuspended].contains(fault.code) else {
      return
    }
    let peer: String
    switch caller {
    case .bearer(_, let from), .redacted(let from): peer = from
    default: return
    }
    refusals.note(
      "request", from: peer, "\(fault.code.rawValue): \(fault)", at: loops[0].now.monotonic)
  }
}
