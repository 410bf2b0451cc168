internal import Base
internal import Crypto
internal import Settings

/// Nodes by names that people give them, so that a command need not say where one is:
/// `$XDG_CONFIG_HOME/posthouse/contexts.toml`, else `~/.config/posthouse/contexts.toml`. Written by `posthouse context`
/// alone. Tokens stay in files of their own.
struct ContextFile: Equatable {
  /// One node. Of `socket`, `address` and `data` one is set.
  struct Entry: Equatable {
    var socket = ""
    var address = ""
    var data = ""
    var isTls = false
    var authority = ""
    /// A file with an admin credential.
    var tokenFile = ""

    var place: String { [socket, address, data].first { !$0.isEmpty } ?? "" }
  }

  var current = ""
  var entries: [String: Entry] = [:]

  /// nil: there is no home to keep it in.
  static func path(_ environment: [String: String]) -> String? {
    if let base = environment["XDG_CONFIG_HOME"], base.hasPrefix("/") {
      return base + "/posthouse/contexts.toml"
    }
    guard let home = environment["HOME"], home.hasPrefix("/") else { return nil }
    return home + "/.config/posthouse/contexts.toml"
  }

  /// Empty when there is no file.
  static func load(_ environment: [String: String]) throws(Fault) -> ContextFile {
    guard let path = path(environment),
      let bytes = try PrivateFile.read(path, limit: TomlDocument.maximumBytes)
    else { return ContextFile() }
    var file = ContextFile()
    for item in try TomlDocument(bytes, name: path).items {
      let words = item.key.split(separator: ".").map(String.init)
      switch (words.count, words.last, item.value) {
      case (1, "current", .string(let name)): file.current = name
      case (2, "admin_socket", .string(let text)):
        file.entries[words[0], default: Entry()].socket = text
      case (2, "address", .string(let text)):
        file.entries[words[0], default: Entry()].address = text
      case (2, "data", .string(let text)): file.entries[words[0], default: Entry()].data = text
      case (2, "tls", .boolean(let flag)): file.entries[words[0], default: Entry()].isTls = flag
      case (2, "ca", .string(let text)): file.entries[words[0], default: Entry()].authority = text
      case (2, "token_file", .string(let text)):
        file.entries[words[0], default: Entry()].tokenFile = text
      default:
        throw Fault(.badSetting, "\(path):\(item.line): \(item.key) is nothing a context has")
      }
    }
    return file
  }

  func save(_ environment: [String: String]) throws(Fault) {
    guard let path = ContextFile.path(environment) else {
      throw Fault(.usage, "contexts are kept under HOME or XDG_CONFIG_HOME: neither is set")
    }
    var folder = ""
    for part in path.split(separator: "/").dropLast() {
      folder += "/" + part
      if !CertificateFiles.exists(folder) { try CertificateFiles.makeDirectory(folder) }
    }
    try PrivateFile.write(path, Array(text.utf8))
  }

  /// As it stands in the file.
  var text: String {
    var out = "# Written by `posthouse context`.\ncurrent = \(ContextFile.quoted(current))\n"
    for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
      out += "\n[\(name)]\n"
      for (key, value) in [
        ("admin_socket", entry.socket), ("address", entry.address), ("data", entry.data),
        ("ca", entry.authority), ("token_file", entry.tokenFile),
      ] where !value.isEmpty {
        out += "\(key) = \(ContextFile.quoted(value))\n"
      }
      if entry.isTls { out += "tls = true\n" }
    }
    return out
  }

  /// A basic string of TOML; what it cannot hold as it is, is escaped.
  static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case _ where scalar.value < 0x20 || scalar.value == 0x7f:
        let hex = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }

  func entry(_ name: String) throws(Fault) -> Entry {
    if let entry = entries[name] { return entry }
    let near = Suggestion.nearest(to: name, in: entries.keys.sorted())
    throw Fault(
      .notFound,
      "no context \(name)"
        + (near.map { "; did you mean \($0)?" } ?? "; posthouse context ls lists them"))
  }
}
