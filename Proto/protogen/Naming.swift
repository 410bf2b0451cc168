/// How the names of one schema file become Swift names.
struct NamingRule {
  /// Put before message and enum names, unless they begin with it.
  var prefix: String
  /// Swift file in Proto/Messages.
  var output: String
  /// Names that the prefix alone would make wrong: by name inside the package.
  var renamed: [String: String] = [:]
}

/// One entry per schema file. Swift names are flat: a nested type is its parent's name and its own.
let namingRules: [String: NamingRule] = [
  "dataplane/proto/v1/data_plane.proto": NamingRule(
    prefix: "SlimA", output: "DataPlane.swift",
    renamed: ["SLIMHeader": "SlimAHeader"]),
  "posthouse/slimb/v1/data_plane.proto": NamingRule(prefix: "SlimB", output: "DataPlaneB.swift"),
  "posthouse/v1/channel.proto": NamingRule(
    prefix: "", output: "Channel.swift",
    // The engine has a Durability of its own.
    renamed: ["Durability": "ChannelDurability"]),
  "posthouse/v1/admin.proto": NamingRule(prefix: "Admin", output: "Admin.swift"),
  "posthouse/cluster/v1/cluster.proto": NamingRule(prefix: "Cluster", output: "Cluster.swift"),
  "agentanycast/v1/registry_service.proto": NamingRule(
    prefix: "Anycast", output: "AnycastRegistry.swift"),
  "agentanycast/v1/federation.proto": NamingRule(
    prefix: "Anycast", output: "AnycastFederation.swift"),
  "google/protobuf/timestamp.proto": NamingRule(prefix: "Proto", output: "ProtoTimestamp.swift"),
  "grpc/health/v1/health.proto": NamingRule(
    prefix: "Health", output: "Health.swift",
    renamed: [
      "Health": "HealthService", "HealthCheckResponse.ServingStatus": "HealthServingStatus",
    ]),
  "grpc/reflection/v1/reflection.proto": NamingRule(
    prefix: "Reflection", output: "Reflection.swift",
    renamed: [
      "ServerReflection": "ReflectionService", "ServerReflectionRequest": "ReflectionRequest",
      "ServerReflectionResponse": "ReflectionResponse",
    ]),
  "grpc/reflection/v1alpha/reflection.proto": NamingRule(
    prefix: "ReflectionAlpha", output: "ReflectionAlpha.swift",
    renamed: [
      "ServerReflection": "ReflectionAlphaService",
      "ServerReflectionRequest": "ReflectionAlphaRequest",
      "ServerReflectionResponse": "ReflectionAlphaResponse",
    ]),
  "grpc/testing/test.proto": NamingRule(
    prefix: "Interop", output: "Interop.swift",
    renamed: [
      "TestService": "InteropTestService", "UnimplementedService": "InteropUnimplementedService",
    ]),
]

enum Casing {
  private static let keywords: Set<String> = [
    "as", "break", "case", "catch", "class", "continue", "default", "defer", "deinit", "do", "else",
    "enum", "extension", "fallthrough", "false", "for", "func", "guard", "if", "import", "in",
    "init",
    "inout", "internal", "is", "let", "nil", "operator", "private", "protocol", "public", "repeat",
    "rethrows", "return", "self", "static", "struct", "subscript", "super", "switch", "throw",
    "throws",
    "true", "try", "typealias", "var", "where", "while",
  ]

  /// `some_name` or `SomeName` -> `someName`, in backticks when Swift owns the word.
  static func lower(_ name: String) -> String {
    let upper = upper(name)
    let word = upper == "ID" ? "id" : upper.prefix(1).lowercased() + upper.dropFirst()
    return keywords.contains(word) ? "`\(word)`" : word
  }

  /// `some_name` -> `SomeName`, `some_id` -> `SomeID`.
  static func upper(_ name: String) -> String {
    name.split(separator: "_").map {
      $0 == "id" ? "ID" : $0.prefix(1).uppercased() + $0.dropFirst()
    }.joined()
  }

  /// `SESSION_TYPE_MULTICAST` of `SessionType` -> `multicast`.
  static func enumCase(_ value: String, of type: String) -> String {
    let prefix = snake(type) + "_"
    let rest = value.uppercased().hasPrefix(prefix) ? String(value.dropFirst(prefix.count)) : value
    return lower(rest.lowercased())
  }

  /// `SessionType` -> `SESSION_TYPE`.
  private static func snake(_ name: String) -> String {
    var out = ""
    for c in name {
      if c.isUppercase && !out.isEmpty { out += "_" }
      out += c.uppercased()
    }
    return out
  }
}

/// A mistake in a schema, or something protogen does not do.
struct GenerationError: Error { var text: String }

/// Swift names by full proto name (`.package.Message`).
struct NameTable {
  private(set) var swift: [String: String] = [:]
  private(set) var maps: [String: MessageNode] = [:]
  private var taken: [String: String] = [:]

  init(_ files: [FileNode]) throws(GenerationError) {
    for file in files {
      guard let rule = namingRules[file.name] else {
        throw GenerationError(
          text: "\(file.name): no entry in namingRules (Proto/protogen/Naming.swift)")
      }
      guard file.syntax == "proto3" else {
        throw GenerationError(text: "\(file.name): only proto3 is served")
      }
      let scope = file.package.isEmpty ? "" : "." + file.package
      for m in file.messages { try add(m, rule, scope: scope, path: "", parent: nil) }
      for e in file.enums { try add(e.name, rule, scope: scope, path: e.name, parent: nil) }
      for s in file.services { try add(s.name, rule, scope: scope, path: s.name, parent: "") }
    }
  }

  func name(_ full: String) throws(GenerationError) -> String {
    guard let name = swift[full] else { throw GenerationError(text: "\(full) is not defined") }
    return name
  }

  private mutating func add(
    _ m: MessageNode, _ rule: NamingRule, scope: String, path: String, parent: String?
  ) throws(GenerationError) {
    let path = path.isEmpty ? m.name : path + "." + m.name
    if m.options.mapEntry {
      maps[scope + "." + path] = m
      return
    }
    try add(m.name, rule, scope: scope, path: path, parent: parent)
    let own = swift[scope + "." + path]
    for n in m.messages { try add(n, rule, scope: scope, path: path, parent: own) }
    for e in m.enums { try add(e.name, rule, scope: scope, path: path + "." + e.name, parent: own) }
  }

  private mutating func add(
    _ name: String, _ rule: NamingRule, scope: String, path: String, parent: String?
  ) throws(GenerationError) {
    let plain = parent ?? rule.prefix
    let made = rule.renamed[path] ?? (name.hasPrefix(plain) ? name : plain + name)
    let full = scope + "." + path
    if let other = taken[made] {
      throw GenerationError(text: "\(full) and \(other) would both be \(made) in Swift")
    }
    taken[made] = full
    swift[full] = made
  }
}
