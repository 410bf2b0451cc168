public import Base
internal import FoundationEssentials

/// One HS256 key.
public struct SigningKey: Sendable {
  /// Names the key in a JWT's `kid`: 8 random bytes in base32.
  public let kid: String
  /// 32 random bytes.
  public let secret: Secret
  /// Wall clock.
  public let created: Instant

  public static func make(now: Instant) -> SigningKey {
    SigningKey(kid: Text.base32(Random.bytes(8)), secret: .random(32), created: now)
  }
}

/// The keys JWTs are signed with: the current one signs, it, the previous and the next one verify. Kept in
/// `signing-keys.json`, mode 0600, outside the database. The nodes of a cluster have the same ones.
public struct SigningKeys: Sendable {
  public static let fileName = "signing-keys.json"
  /// Bytes of the file at most.
  static let fileBytes = 64 << 10

  public private(set) var current: SigningKey
  public private(set) var previous: SigningKey?
  /// Signs as soon as every node of the cluster has it.
  public private(set) var next: SigningKey?
  /// Rises with each change in a cluster; 0: these are of no cluster.
  public private(set) var edition: UInt64

  public init(
    current: SigningKey, previous: SigningKey? = nil, next: SigningKey? = nil, edition: UInt64 = 0
  ) {
    self.current = current
    self.previous = previous
    self.next = next
    self.edition = edition
  }

  /// The key that a `kid` names.
  public func key(_ kid: String) -> SigningKey? {
    if kid == current.kid { return current }
    if let previous, kid == previous.kid { return previous }
    if let next, kid == next.kid { return next }
    return nil
  }

  /// Reads the file at `path`; makes it with a fresh key when there is none.
  public static func loadOrCreate(path: String, now: Instant) throws(Fault) -> SigningKeys {
    if let there = try load(path: path) { return there }
    let fresh = SigningKeys(current: .make(now: now))
    try fresh.save(path: path)
    return fresh
  }

  /// nil when there is no file.
  public static func load(path: String) throws(Fault) -> SigningKeys? {
    guard let bytes = try PrivateFile.read(path, limit: fileBytes) else { return nil }
    guard let file = try? JSONDecoder().decode(File.self, from: Data(bytes)), file.version == 1,
      let current = file.current.key
    else { throw Fault(.damaged, "\(path) is not a signing-key file of version 1") }
    var previous: SigningKey?
    if let row = file.previous {
      guard let key = row.key else {
        throw Fault(.damaged, "\(path): the previous key is malformed")
      }
      previous = key
    }
    return SigningKeys(
      current: current, previous: previous, next: file.next?.key, edition: file.edition ?? 0)
  }

  /// Signs with a fresh key from now on; the key before it still verifies, the one before that no more.
  /// On disk before it returns.
  public mutating func rotate(path: String, now: Instant) throws(Fault) {
    let next = SigningKeys(
      current: .make(now: now), previous: current, edition: edition > 0 ? edition + 1 : 0)
    try next.save(path: path)
    self = next
  }

  // MARK: in a cluster

  /// These are the cluster's from now on: of the node that has them first.
  public func founding() -> SigningKeys {
    edition > 0
      ? self : SigningKeys(current: current, previous: previous, next: next, edition: 1)
  }

  /// With a key that all nodes get before it signs. One that was on its way already stays the one.
  public func announcing(_ key: @autoclosure () -> SigningKey) -> SigningKeys {
    SigningKeys(
      current: current, previous: previous, next: next ?? key(),
      edition: next == nil ? edition + 1 : edition)
  }

  /// The announced key signs; the key before it still verifies, the one before that no more.
  public func activating() -> SigningKeys {
    guard let next else { return self }
    return SigningKeys(current: next, previous: current, edition: edition + 1)
  }

  /// For another node of the cluster, over a connection that is as secret as the file.
  public var encoded: [UInt8] { json.map { [UInt8]($0) } ?? [] }

  /// What another node sent; nil when it is no such set, or of no cluster.
  public init?(decoding bytes: [UInt8]) {
    guard bytes.count <= SigningKeys.fileBytes,
      let file = try? JSONDecoder().decode(File.self, from: Data(bytes)), file.version == 1,
      let current = file.current.key, let edition = file.edition, edition > 0
    else { return nil }
    self.init(
      current: current, previous: file.previous?.key, next: file.next?.key, edition: edition)
  }

  // MARK: the file

  public func save(path: String) throws(Fault) {
    guard let data = json else { throw Fault(.internal, "signing keys cannot be encoded") }
    try PrivateFile.write(path, [UInt8](data) + [0x0a])
  }

  private var json: Data? {
    let file = File(
      version: 1, current: File.Key(current), previous: previous.map { File.Key($0) },
      next: next.map { File.Key($0) }, edition: edition > 0 ? edition : nil)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    return try? encoder.encode(file)
  }

  private struct File: Codable {
    struct Key: Codable {
      var kid: String
      var secret: String
      /// Seconds since 1970.
      var created: Int64

      init(_ key: SigningKey) {
        kid = key.kid
        secret = key.secret.withUnsafeBytes { Text.base64url($0) }
        created = key.created.nanoseconds / 1_000_000_000
      }

      var key: SigningKey? {
        guard let bytes = Text.base64urlDecode(secret), bytes.count == 32, !kid.isEmpty,
          created >= 0, created < Int64.max / 1_000_000_000
        else { return nil }
        return SigningKey(
          kid: kid, secret: Secret(bytes), created: Instant(nanoseconds: created * 1_000_000_000))
      }
    }
    var version: Int
    var current: Key
    var previous: Key?
    var next: Key?
    var edition: UInt64?
  }
}
