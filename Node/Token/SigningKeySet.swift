/// The HS256 keys of the cluster: the current one signs, all of them verify. The host keeps an old key in
/// the set until the longest token it may have signed has expired (`Limits.jwtMaxSeconds`).
public struct SigningKeySet: Sendable, CustomStringConvertible, CustomReflectable {
  public let current: String
  private let secrets: [String: [UInt8]]

  /// `secrets` maps kid to secret bytes and holds `current`; a secret has at least 32 bytes (RFC 7518
  /// section 3.2).
  public init(current: String, secrets: [String: [UInt8]]) {
    precondition(secrets[current] != nil, "the current signing key is not in the set")
    precondition(secrets.values.allSatisfy { $0.count >= 32 }, "a signing key is too short")
    self.current = current
    self.secrets = secrets
  }

  func secret(_ kid: String) -> [UInt8]? { secrets[kid] }
  var currentSecret: [UInt8] { secrets[current]! }

  public var description: String { "<signing keys, current \(current)>" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}
