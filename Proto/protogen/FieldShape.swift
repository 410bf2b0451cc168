/// How one field is held in Swift and written on the wire.
struct FieldShape {
  enum Kind {
    /// A scalar, text, bytes, or an enum.
    case scalar(Scalar)
    case message(String)
    case map(key: Scalar, value: MapValue)
  }
  enum MapValue {
    case scalar(Scalar)
    case message(String)
  }
  enum Presence {
    /// Left out at its default.
    case implicit
    /// An optional: `optional`, or an embedded message.
    case explicit
    case repeated
    /// One case of the oneof of that index.
    case oneof(Int)
  }

  var node: FieldNode
  var kind: Kind
  var presence: Presence
  var property: String

  var number: UInt32 { node.number }

  init(_ node: FieldNode, _ names: NameTable) throws(GenerationError) {
    self.node = node
    property = Casing.lower(node.name)
    if let entry = names.maps[node.typeName] {
      guard entry.fields.count == 2, let key = Scalar(entry.fields[0], names) else {
        throw GenerationError(text: "\(node.name): not a map")
      }
      let value = entry.fields[1]
      if let scalar = Scalar(value, names) {
        kind = .map(key: key, value: .scalar(scalar))
      } else {
        kind = .map(key: key, value: .message(try names.name(value.typeName)))
      }
      presence = .repeated
      return
    }
    if let scalar = Scalar(node, names) {
      kind = .scalar(scalar)
    } else if node.type == 11 {
      kind = .message(try names.name(node.typeName))
    } else {
      throw GenerationError(text: "\(node.name): groups are not served")
    }
    if node.repeated {
      presence = .repeated
    } else if node.explicitPresence {
      presence = .explicit
    } else if let oneof = node.oneof {
      presence = .oneof(oneof)
    } else if case .message = kind {
      presence = .explicit
    } else {
      presence = .implicit
    }
  }

  /// The type of one value.
  var element: String {
    switch kind {
    case .scalar(let s): s.swift
    case .message(let name): name
    case .map(let key, .scalar(let value)): "[\(key.swift): \(value.swift)]"
    case .map(let key, .message(let value)): "[\(key.swift): \(value)]"
    }
  }

  /// The property's type and the value it starts with.
  var declaration: (type: String, initial: String?) {
    if case .map = kind { return (element, "[:]") }
    switch presence {
    case .explicit, .oneof: return (element + "?", nil)
    case .repeated: return ("[\(element)]", "[]")
    case .implicit:
      guard case .scalar(let s) = kind else { return (element + "?", nil) }
      return (element, s.initial)
    }
  }
}

/// A proto type that is not a message.
struct Scalar {
  var swift: String
  /// Name of the methods of WireReader, WireWriter and WireSize.
  var method: String
  var wireType: UInt32
  var isEnum = false

  init?(_ field: FieldNode, _ names: NameTable) {
    if field.type == 14 {
      guard let name = names.swift[field.typeName] else { return nil }
      self.init(swift: name, method: "int32", wireType: 0, isEnum: true)
      return
    }
    guard let known = Self.known[field.type] else { return nil }
    self = known
  }

  private init(swift: String, method: String, wireType: UInt32, isEnum: Bool = false) {
    self.swift = swift
    self.method = method
    self.wireType = wireType
    self.isEnum = isEnum
  }

  /// By `FieldDescriptorProto.Type`.
  private static let known: [Int32: Scalar] = [
    1: Scalar(swift: "Double", method: "double", wireType: 1),
    2: Scalar(swift: "Float", method: "float", wireType: 5),
    3: Scalar(swift: "Int64", method: "int64", wireType: 0),
    4: Scalar(swift: "UInt64", method: "uint64", wireType: 0),
    5: Scalar(swift: "Int32", method: "int32", wireType: 0),
    6: Scalar(swift: "UInt64", method: "fixed64", wireType: 1),
    7: Scalar(swift: "UInt32", method: "fixed32", wireType: 5),
    8: Scalar(swift: "Bool", method: "bool", wireType: 0),
    9: Scalar(swift: "String", method: "string", wireType: 2),
    12: Scalar(swift: "[UInt8]", method: "bytes", wireType: 2),
    13: Scalar(swift: "UInt32", method: "uint32", wireType: 0),
    15: Scalar(swift: "Int32", method: "sfixed32", wireType: 5),
    16: Scalar(swift: "Int64", method: "sfixed64", wireType: 1),
    17: Scalar(swift: "Int32", method: "sint32", wireType: 0),
    18: Scalar(swift: "Int64", method: "sint64", wireType: 0),
  ]

  var canBePacked: Bool { wireType != 2 }

  var initial: String {
    if isEnum { return "\(swift)()" }
    switch method {
    case "string": return "\"\""
    case "bytes": return "[]"
    case "bool": return "false"
    default: return "0"
    }
  }

  /// Reads one value from `r`.
  var read: String {
    isEnum ? "\(swift)(rawValue: try r.int32())" : "try r.\(method)()"
  }

  /// Size of the value named `v`, without its tag.
  func size(_ v: String) -> String { "WireSize.\(method)(\(isEnum ? v + ".rawValue" : v))" }

  func write(_ v: String) -> String { "w.\(method)(\(isEnum ? v + ".rawValue" : v))" }

  /// True when the value named `v` is not the default and must be written.
  func differs(_ v: String) -> String {
    if isEnum { return "\(v).rawValue != 0" }
    switch method {
    case "string", "bytes": return "!\(v).isEmpty"
    case "bool": return v
    // Minus zero is not the default.
    case "double", "float": return "\(v).bitPattern != 0"
    default: return "\(v) != 0"
    }
  }

  /// For sorting map entries by key.
  func precedes(_ a: String, _ b: String) -> String {
    method == "bool" ? "!\(a) && \(b)" : "\(a) < \(b)"
  }
}
