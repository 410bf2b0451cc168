/// What a key or JWT may do for its tenant. A key without scopes may do all of it.
public struct Scopes: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Register, read and end channels; join them; serve and fetch welcomes; open streams.
  public static let channels = Scopes(rawValue: 1)
  /// Create, list and end invites and grants of the tenant's own channels.
  public static let invites = Scopes(rawValue: 2)
  /// Create, list and revoke API keys of the tenant.
  public static let keys = Scopes(rawValue: 4)
  /// Exchange the API key for JWTs.
  public static let tokens = Scopes(rawValue: 8)
  /// Read the tenant's usage.
  public static let usage = Scopes(rawValue: 16)

  public static let all: Scopes = [.channels, .invites, .keys, .tokens, .usage]

  /// In the order they are written.
  static let named: [(name: String, scope: Scopes)] = [
    ("channels", .channels), ("invites", .invites), ("keys", .keys), ("tokens", .tokens),
    ("usage", .usage),
  ]

  /// The names, sorted.
  public var names: [String] { Self.named.filter { contains($0.scope) }.map(\.name) }

  /// nil when a name is unknown. No names at all mean every right.
  public init?(names: some Sequence<String>) {
    var made: Scopes = []
    for name in names {
      guard let known = Self.named.first(where: { $0.name == name }) else { return nil }
      made.insert(known.scope)
    }
    self = made.isEmpty ? .all : made
  }

  /// The `scope` claim: names between single spaces.
  public var claim: String { names.joined(separator: " ") }

  /// Reads a `scope` claim or request member; nil when it is not names between single spaces.
  public init?(claim: String) {
    // Twice the longest that says something.
    guard claim.utf8.count <= 128 else { return nil }
    self.init(
      names: claim.isEmpty
        ? [] : claim.split(separator: " ", omittingEmptySubsequences: false).map(String.init))
  }
}
