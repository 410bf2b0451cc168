extension Emitter {
  func message(
    _ m: MessageNode, _ full: String, _ path: [Int32], _ out: inout Source
  ) throws(GenerationError) {
    let name = try names.name(full)
    var fields: [FieldShape] = []
    for f in m.fields { fields.append(try FieldShape(f, names)) }
    try refuseRecursion(name, fields)
    let oneofs = m.oneofs.enumerated().compactMap { i, o in
      // The compiler makes a oneof of its own for each `optional`; that one is no property.
      let members = fields.filter { if case .oneof(i) = $0.presence { true } else { false } }
      return members.isEmpty ? nil : Oneof(index: i, name: o.name, members: members)
    }
    out.line()
    out.doc(comment(path, or: "`\(full.dropFirst())`."))
    out.block("public struct \(name): ProtoMessage") { out in
      properties(fields, oneofs, path, &out)
      out.line()
      out.line("public static var fullName: String { \"\(full.dropFirst())\" }")
      out.line()
      out.line("public init() {}")
      memberwise(fields, oneofs, &out)
      out.line()
      merge(fields, oneofs, &out)
      out.line()
      size(fields, oneofs, &out)
      out.line()
      encode(fields, oneofs, &out)
    }
    for (i, n) in m.messages.enumerated() where !n.options.mapEntry {
      try message(n, full + "." + n.name, path + [3, Int32(i)], &out)
    }
    for (i, e) in m.enums.enumerated() {
      try enumeration(e, full + "." + e.name, path + [4, Int32(i)], &out)
    }
  }

  struct Oneof {
    var index: Int
    var name: String
    var members: [FieldShape]
    var property: String { Casing.lower(name) }
    var type: String { Casing.upper(name) }
  }

  /// A struct cannot hold itself; no schema of ours asks for it.
  private func refuseRecursion(_ name: String, _ fields: [FieldShape]) throws(GenerationError) {
    for f in fields {
      if case .message(name) = f.kind, case .repeated = f.presence { continue }
      if case .message(name) = f.kind {
        throw GenerationError(text: "\(name).\(f.node.name): a message inside itself is not served")
      }
    }
  }

  // MARK: storage

  private func properties(
    _ fields: [FieldShape], _ oneofs: [Oneof], _ path: [Int32], _ out: inout Source
  ) {
    for o in oneofs {
      out.doc("The cases of `\(o.name)`.")
      out.block("public enum \(o.type): Equatable, Sendable") { out in
        for f in o.members { out.line("case \(f.property)(\(f.element))") }
      }
    }
    var shown: Set<Int> = []
    for (i, f) in fields.enumerated() {
      if case .oneof(let index) = f.presence {
        guard shown.insert(index).inserted, let o = oneofs.first(where: { $0.index == index })
        else { continue }
        let numbers = o.members.map { "\($0.number)" }.joined(separator: ", ")
        out.doc("`\(o.name)`: one of fields \(numbers).")
        out.line("public var \(o.property): \(o.type)?")
        continue
      }
      out.doc(comment(path + [2, Int32(i)], or: "`\(f.node.name)`, field \(f.number)."))
      let (type, initial) = f.declaration
      out.line("public var \(f.property): \(type)" + (initial.map { " = " + $0 } ?? ""))
    }
  }

  private func memberwise(_ fields: [FieldShape], _ oneofs: [Oneof], _ out: inout Source) {
    var arguments: [String] = []
    var stored: [String] = []
    var shown: Set<Int> = []
    for f in fields {
      if case .oneof(let index) = f.presence {
        guard shown.insert(index).inserted, let o = oneofs.first(where: { $0.index == index })
        else { continue }
        arguments.append("\(o.property): \(o.type)? = nil")
        stored.append(o.property)
      } else {
        let (type, initial) = f.declaration
        arguments.append("\(f.property): \(type) = \(initial ?? "nil")")
        stored.append(f.property)
      }
    }
    if arguments.isEmpty { return }
    out.line("public init(")
    for (i, a) in arguments.enumerated() {
      out.line("  \(a)" + (i + 1 < arguments.count ? "," : ""))
    }
    out.block(")") { out in
      for p in stored { out.line("self.\(p.filter { $0 != "`" }) = \(p)") }
    }
  }

  // MARK: decoding

  private func merge(_ fields: [FieldShape], _ oneofs: [Oneof], _ out: inout Source) {
    out.block("public mutating func merge(from r: inout WireReader) throws(WireError)") { out in
      out.block("while case let tag = try r.nextTag(), tag != 0") { out in
        if fields.isEmpty {
          out.line("try r.skip(tag)")
          return
        }
        out.block("switch tag") { out in
          for f in fields { read(f, oneofs, &out) }
          out.line("default: try r.skip(tag)")
        }
      }
    }
  }

  private func read(_ f: FieldShape, _ oneofs: [Oneof], _ out: inout Source) {
    switch (f.kind, f.presence) {
    case (.map(let key, let value), _):
      readMap(f, key, value, &out)
    case (.scalar(let s), .repeated):
      out.line("case \(f.number << 3 | s.wireType): \(f.property).append(\(s.read))")
      if s.canBePacked {
        out.line("case \(f.number << 3 | 2):")
        out.line("  var values: [\(s.swift)] = []")
        out.line("  try r.packed { r throws(WireError) in values.append(\(s.read)) }")
        out.line("  \(f.property) += values")
      }
    case (.message(let name), .repeated):
      out.line("case \(f.number << 3 | 2):")
      out.line("  var value = \(name)()")
      out.line("  try r.merge(into: &value)")
      out.line("  \(f.property).append(value)")
    case (.scalar(let s), .oneof(let index)):
      let o = oneofs.first { $0.index == index }
      let tag = f.number << 3 | s.wireType
      out.line("case \(tag): \(o?.property ?? "") = .\(f.property)(\(s.read))")
    case (.message(let name), .oneof(let index)):
      let property = oneofs.first { $0.index == index }?.property ?? ""
      out.line("case \(f.number << 3 | 2):")
      out.line("  var value = \(name)()")
      out.line("  if case .\(f.property)(let earlier)? = \(property) { value = earlier }")
      out.line("  try r.merge(into: &value)")
      out.line("  \(property) = .\(f.property)(value)")
    case (.scalar(let s), _):
      out.line("case \(f.number << 3 | s.wireType): \(f.property) = \(s.read)")
    case (.message(let name), _):
      out.line("case \(f.number << 3 | 2):")
      out.line("  var value = \(f.property) ?? \(name)()")
      out.line("  try r.merge(into: &value)")
      out.line("  \(f.property) = value")
    }
  }

  private func readMap(
    _ f: FieldShape, _ key: Scalar, _ value: FieldShape.MapValue, _ out: inout Source
  ) {
    out.line("case \(f.number << 3 | 2):")
    let (start, read, wire): (String, String, UInt32) =
      switch value {
      case .scalar(let s): ("\(s.initial)", "value = \(s.read)", s.wireType)
      case .message(let name): ("\(name)()", "try r.merge(into: &value)", 2)
      }
    let type =
      switch value {
      case .scalar(let s): s.swift
      case .message(let name): name
      }
    out.line("  var key: \(key.swift) = \(key.initial)")
    out.line("  var value: \(type) = \(start)")
    out.line("  try r.entry { r, tag throws(WireError) in")
    out.line("    switch tag {")
    out.line("    case \(1 << 3 | key.wireType): key = \(key.read)")
    out.line("    case \(2 << 3 | wire): \(read)")
    out.line("    default: try r.skip(tag)")
    out.line("    }")
    out.line("  }")
    out.line("  \(f.property)[key] = value")
  }

  // MARK: encoding

  private func tagSize(_ f: FieldShape) -> Int {
    switch f.number {
    case ..<16: 1
    case ..<2048: 2
    case ..<(1 << 18): 3
    case ..<(1 << 25): 4
    default: 5
    }
  }

  private func size(_ fields: [FieldShape], _ oneofs: [Oneof], _ out: inout Source) {
    if fields.isEmpty {
      out.line("public var encodedSize: Int { 0 }")
      return
    }
    out.block("public var encodedSize: Int") { out in
      out.line("var n = 0")
      each(fields, oneofs, &out) { f, v, packed in
        let t = tagSize(f)
        switch f.kind {
        case .scalar(let s) where packed:
          let one = s.isEnum ? "{ WireSize.int32($0.rawValue) }" : "{ WireSize.\(s.method)($0) }"
          return ["n &+= \(t) &+ WireSize.delimited(WireSize.packed(\(v)) \(one))"]
        case .scalar(let s): return ["n &+= \(t) &+ \(s.size(v))"]
        case .message: return ["n &+= \(t) &+ WireSize.message(\(v))"]
        case .map: return ["n &+= \(t) &+ WireSize.delimited(\(entrySize(f)))"]
        }
      }
      out.line("return n")
    }
  }

  private func encode(_ fields: [FieldShape], _ oneofs: [Oneof], _ out: inout Source) {
    if fields.isEmpty {
      out.line("public func encode(into w: inout WireWriter) {}")
      return
    }
    out.block("public func encode(into w: inout WireWriter)") { out in
      each(fields, oneofs, &out, sorted: true) { f, v, packed in
        switch f.kind {
        case .scalar(let s) where packed:
          let one = s.isEnum ? "{ WireSize.int32($0.rawValue) }" : "{ WireSize.\(s.method)($0) }"
          return [
            "w.tag(\(f.number << 3 | 2))", "w.length(WireSize.packed(\(v)) \(one))",
            "for value in \(v) { \(s.write("value")) }",
          ]
        case .scalar(let s): return ["w.tag(\(f.number << 3 | s.wireType))", s.write(v)]
        case .message: return ["w.tag(\(f.number << 3 | 2))", "w.message(\(v))"]
        case .map(let key, let value):
          return ["w.tag(\(f.number << 3 | 2))", "w.length(\(entrySize(f)))"]
            + writeEntry(key, value)
        }
      }
    }
  }

  /// Both members of a map entry are always written.
  private func entrySize(_ f: FieldShape) -> String {
    guard case .map(let key, let value) = f.kind else { return "0" }
    let v =
      switch value {
      case .scalar(let s): s.size("value")
      case .message: "WireSize.message(value)"
      }
    return "2 &+ \(key.size("key")) &+ \(v)"
  }

  private func writeEntry(_ key: Scalar, _ value: FieldShape.MapValue) -> [String] {
    var lines = ["w.tag(\(1 << 3 | key.wireType))", key.write("key")]
    switch value {
    case .scalar(let s): lines += ["w.tag(\(2 << 3 | s.wireType))", s.write("value")]
    case .message: lines += ["w.tag(18)", "w.message(value)"]
    }
    return lines
  }

  /// Walks the fields that are present; `body` gives the lines for one value.
  private func each(
    _ fields: [FieldShape], _ oneofs: [Oneof], _ out: inout Source, sorted: Bool = false,
    _ body: (FieldShape, _ value: String, _ packed: Bool) -> [String]
  ) {
    var shown: Set<Int> = []
    for f in fields {
      let head: String
      switch (f.kind, f.presence) {
      case (.map(let key, _), _):
        let order = sorted ? ".sorted(by: { \(key.precedes("$0.key", "$1.key")) })" : ""
        head = "for (key, value) in \(f.property)\(order)"
        present(head, body(f, "value", false), &out)
      case (.scalar(let s), .repeated) where s.canBePacked:
        present("if !\(f.property).isEmpty", body(f, f.property, true), &out)
      case (_, .repeated):
        present("for value in \(f.property)", body(f, "value", false), &out)
      case (_, .oneof(let index)):
        guard shown.insert(index).inserted, let o = oneofs.first(where: { $0.index == index })
        else { continue }
        out.block("switch \(o.property)") { out in
          for member in o.members {
            out.line("case .\(member.property)(let value)?:")
            for l in body(member, "value", false) { out.line("  " + l) }
          }
          out.line("case nil: break")
        }
      case (.scalar(let s), .implicit):
        present("if \(s.differs(f.property))", body(f, f.property, false), &out)
      case (_, _):
        present("if let value = \(f.property)", body(f, "value", false), &out)
      }
    }
  }

  private func present(_ head: String, _ lines: [String], _ out: inout Source) {
    if lines.count == 1, head.count + lines[0].count < 84 {
      out.line("\(head) { \(lines[0]) }")
      return
    }
    out.block(head) { out in for l in lines { out.line(l) } }
  }
}
