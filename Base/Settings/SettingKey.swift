public import Base

/// What a setting holds.
public enum SettingKind: Sendable, Equatable {
  case string
  case integer(ClosedRange<Int64>)
  case boolean
  case duration
  /// A duration, `all` or `off`.
  case window
  case bytes
  /// `HOST:PORT`, or `off`.
  case address
  case choice([String])
  case list

  /// For messages: "a duration such as 10m".
  var wanted: String {
    switch self {
    case .string: "a text"
    case .integer(let range):
      range.upperBound == .max
        ? "a whole number from \(range.lowerBound)"
        : "a whole number from \(range.lowerBound) to \(range.upperBound)"
    case .boolean: "true or false"
    case .duration: "a duration such as 10m, 90s or 250ms"
    case .window: "a duration such as 10m, all or off"
    case .bytes: "a size such as 64KiB, 1GiB or a number of bytes"
    case .address: "HOST:PORT or off"
    case .choice(let names): "one of " + names.joined(separator: ", ")
    case .list: "a list of texts"
    }
  }
}

public enum SettingValue: Sendable, Equatable {
  case string(String)
  case integer(Int64)
  case boolean(Bool)
  case duration(Interval)
  case bytes(Int64)
  case list([String])

  /// As it would be written in a file or on a command line.
  public var text: String {
    switch self {
    case .string(let text): text
    case .integer(let number): "\(number)"
    case .boolean(let flag): flag ? "true" : "false"
    case .duration(let interval): SettingText.text(interval)
    case .bytes(let bytes): SettingText.sizeText(bytes)
    case .list(let texts): texts.joined(separator: ",")
    }
  }
}

/// One row of the schema: a name as in `tls.cert`, what it holds, what it is for, and where it may
/// come from besides the file.
public struct SettingKey: Sendable, Equatable {
  public var name: String
  public var kind: SettingKind
  /// In the form of `SettingValue.text`.
  public var standard: String
  public var help: String
  /// A flag of its own (`--grpc`); every key can also be given as `--set name=value`.
  public var flag: String?
  /// What stands for the value in the help: `HOST:PORT`.
  public var placeholder: String

  public init(
    _ name: String, _ kind: SettingKind, _ standard: String, _ help: String, flag: String? = nil,
    placeholder: String = "VALUE"
  ) {
    self.name = name
    self.kind = kind
    self.standard = standard
    self.help = help
    self.flag = flag
    self.placeholder = placeholder
  }

  /// `tls.cert` -> `POSTHOUSE_TLS_CERT`.
  public var environmentName: String {
    "POSTHOUSE_" + String(name.map { $0 == "." || $0 == "-" ? "_" : $0 }).uppercased()
  }

  /// Reads the written form: environment, flags, defaults.
  func value(of text: String) -> SettingValue? {
    switch kind {
    case .string: return .string(text)
    case .integer(let range):
      guard let number = Int64(text), range.contains(number) else { return nil }
      return .integer(number)
    case .boolean:
      switch text.lowercased() {
      case "true", "1", "yes", "on": return .boolean(true)
      case "false", "0", "no", "off": return .boolean(false)
      default: return nil
      }
    case .duration: return SettingText.duration(text).map { .duration($0) }
    case .window:
      if text == "all" || text == "off" { return .string(text) }
      return SettingText.duration(text).map { .duration($0) }
    case .bytes: return SettingText.size(text).map { .bytes($0) }
    case .address:
      if text == "off" || text.isEmpty { return .string("off") }
      return HostPort(text).map { .string($0.description) }
    case .choice(let names): return names.contains(text) ? .string(text) : nil
    case .list:
      return .list(text.isEmpty ? [] : text.split(separator: ",").map { trimmed(String($0)) })
    }
  }

  /// Reads a value of the file: its TOML type must fit.
  func value(of toml: TomlDocument.Value) -> SettingValue? {
    switch (kind, toml) {
    case (.string, .string(let text)), (.duration, .string(let text)), (.window, .string(let text)),
      (.bytes, .string(let text)), (.address, .string(let text)), (.choice, .string(let text)):
      return value(of: text)
    case (.integer, .integer(let number)), (.bytes, .integer(let number)):
      return value(of: "\(number)")
    case (.duration, .integer(0)), (.window, .integer(0)): return value(of: "0")
    case (.boolean, .boolean(let flag)): return .boolean(flag)
    case (.list, .array(let elements)):
      var texts: [String] = []
      for element in elements {
        guard case .string(let text) = element else { return nil }
        texts.append(text)
      }
      return .list(texts)
    default: return nil
    }
  }

  private func trimmed(_ text: String) -> String {
    String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }
}

/// `HOST:PORT` or `[V6]:PORT`.
public struct HostPort: Sendable, Hashable, CustomStringConvertible {
  public var host: String
  public var port: UInt16
  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  public init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":"),
      let port = UInt16(text[text.index(after: colon)...])
    else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x2f }) else {
      return nil
    }
    self.host = String(host)
    self.port = port
  }

  /// Reachable from this machine only: `localhost`, `::1`, or an IPv4 literal of 127/8.
  public var isLoopback: Bool {
    if host == "localhost" || host == "::1" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil } && parts[0] == "127"
  }

  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
