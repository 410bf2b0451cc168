public import Base
internal import Glibc

/// Where a value comes from.
public enum SettingOrigin: Sendable, Equatable, CustomStringConvertible {
  case standard
  case file(path: String, line: Int)
  case environment(String)
  case flag(String)

  public var description: String {
    switch self {
    case .standard: "default"
    case .file(let path, let line): "\(path):\(line)"
    case .environment(let name): name
    case .flag(let name): name
    }
  }
}

public struct Setting: Sendable, Equatable {
  public var key: SettingKey
  public var value: SettingValue
  public var origin: SettingOrigin
}

/// Every key with its value and origin: file < environment < flags.
public struct Settings: Sendable {
  public let schema: SettingSchema
  private var values: [String: Setting]
  /// The file that was read, if any.
  public private(set) var file: String?
  /// `POSTHOUSE_*` variables that name no key: shown, not fatal, since schedulers set such on their own.
  public private(set) var warnings: [String] = []

  public init(schema: SettingSchema) {
    self.schema = schema
    values = [:]
    for key in schema.keys {
      guard let value = key.value(of: key.standard) else {
        preconditionFailure("checked by the schema")
      }
      values[key.name] = Setting(key: key, value: value, origin: .standard)
    }
  }

  /// In the order of the schema.
  public var all: [Setting] { schema.keys.map { self[$0.name] } }

  /// A key of the schema; any other name is a mistake of ours.
  public subscript(_ name: String) -> Setting {
    guard let setting = values[name] else { preconditionFailure("no setting \(name)") }
    return setting
  }

  // MARK: layers

  /// A TOML file. Unknown keys and wrong types throw `bad_setting`, naming file, line and key.
  public mutating func apply(toml bytes: [UInt8], path: String) throws(Fault) {
    for item in try TomlDocument(bytes, name: path).items {
      guard let key = schema.key(item.key) else {
        throw Fault(.badSetting, "\(path):\(item.line): " + unknown(item.key))
      }
      guard let value = key.value(of: item.value) else {
        throw Fault(
          .badSetting,
          "\(path):\(item.line): \(key.name) wants \(key.kind.wanted), not \(item.value.shown)")
      }
      values[key.name] = Setting(key: key, value: value, origin: .file(path: path, line: item.line))
    }
    file = path
  }

  public mutating func apply(file path: String) throws(Fault) {
    guard let bytes = readFile(path, limit: TomlDocument.maximumBytes + 1) else {
      throw Fault(.badSetting, "configuration \(path): \(String(cString: strerror(errno)))")
    }
    try apply(toml: bytes, path: path)
  }

  /// `others`: variables of the same prefix that other parts read.
  public mutating func apply(environment: [String: String], others: [String] = []) throws(Fault) {
    var known = Set(others)
    for key in schema.keys {
      known.insert(key.environmentName)
      guard let text = environment[key.environmentName] else { continue }
      guard let value = key.value(of: text) else {
        throw Fault(.badSetting, "\(key.environmentName) wants \(key.kind.wanted), not \"\(text)\"")
      }
      values[key.name] = Setting(key: key, value: value, origin: .environment(key.environmentName))
    }
    for name in environment.keys.sorted()
    where name.hasPrefix("POSTHOUSE_") && !known.contains(name) {
      let near = Suggestion.nearest(to: name, in: known.sorted())
      warnings.append(
        "\(name) names no setting" + (near.map { "; did you mean \($0)?" } ?? ""))
    }
  }

  /// A value given by a flag of its own or by `--set`.
  public mutating func apply(flag: String, key name: String, text: String) throws(Fault) {
    guard let key = schema.key(name) else { throw Fault(.badSetting, "\(flag): " + unknown(name)) }
    guard let value = key.value(of: text) else {
      let what = flag == key.flag ? flag : "\(flag) \(name)"
      throw Fault(.badSetting, "\(what) wants \(key.kind.wanted), not \"\(text)\"")
    }
    values[key.name] = Setting(key: key, value: value, origin: .flag(flag))
  }

  private func unknown(_ name: String) -> String {
    "unknown setting \(name)" + (schema.suggestion(for: name).map { "; did you mean \($0)?" } ?? "")
  }

  // MARK: typed access

  public func text(_ name: String) -> String { self[name].value.text }

  public func integer(_ name: String) -> Int64 {
    switch self[name].value {
    case .integer(let n), .bytes(let n): return n
    default: preconditionFailure("setting \(name) is no number")
    }
  }

  public func flag(_ name: String) -> Bool {
    guard case .boolean(let flag) = self[name].value else {
      preconditionFailure("setting \(name) is no boolean")
    }
    return flag
  }

  public func duration(_ name: String) -> Interval {
    guard case .duration(let interval) = self[name].value else {
      preconditionFailure("setting \(name) is no duration")
    }
    return interval
  }

  /// nil: off.
  public func address(_ name: String) -> HostPort? { HostPort(text(name)) }
}

/// The bytes of a regular file, nil with `errno` when it cannot be read. At most `limit` are read.
func readFile(_ path: String, limit: Int) -> [UInt8]? {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 64 << 10)
  while bytes.count < limit {
    let n = read(descriptor, &chunk, min(chunk.count, limit - bytes.count))
    if n < 0 {
      if errno == EINTR { continue }
      return nil
    }
    if n == 0 { break }
    bytes.append(contentsOf: chunk[..<n])
  }
  return bytes
}
