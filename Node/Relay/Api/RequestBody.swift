import Base

/// The members of a JSON request body, taken by name and type. Refusals name the member.
struct RequestBody {
  private var members: [String: JsonValue] = [:]

  /// An empty body has no members.
  init(_ body: [UInt8]) throws(Fault) {
    if body.isEmpty { return }
    guard let value = JsonValue(parsing: body) else {
      throw Fault(.badRequest, "the body is not JSON")
    }
    guard case .object(let list) = value else {
      throw Fault(.badRequest, "the body is not a JSON object")
    }
    for member in list { members[member.name] = member.value }
  }

  func string(_ name: String) throws(Fault) -> String {
    guard let value = try optionalString(name) else {
      throw Fault(.badRequest, "`\(name)` is missing")
    }
    return value
  }

  func optionalString(_ name: String) throws(Fault) -> String? {
    switch members[name] {
    case nil: return nil
    case .string(let value)?: return value
    default: throw Fault(.badRequest, "`\(name)` is not a string")
    }
  }

  func optionalInteger(_ name: String) throws(Fault) -> Int64? {
    switch members[name] {
    case nil: return nil
    case .integer(let value)?: return value
    case .number(let value)?:
      if let whole = Int64(exactly: value) { return whole }
      throw Fault(.badRequest, "`\(name)` is not a whole number, or too large")
    default: throw Fault(.badRequest, "`\(name)` is not a whole number")
    }
  }

  func strings(_ name: String) throws(Fault) -> [String] {
    guard let value = members[name] else { return [] }
    guard case .array(let items) = value else {
      throw Fault(.badRequest, "`\(name)` is not a list of strings")
    }
    var out: [String] = []
    for item in items {
      guard case .string(let text) = item else {
        throw Fault(.badRequest, "`\(name)` is not a list of strings")
      }
      out.append(text)
    }
    return out
  }

  /// Standard base64 with padding (RFC 4648 section 4), in its one canonical form.
  func base64(_ name: String) throws(Fault) -> [UInt8] {
    guard let bytes = StandardBase64.decode(try string(name)) else {
      throw Fault(.badRequest, "`\(name)` is not standard base64 with padding")
    }
    return bytes
  }
}
