import FoundationEssentials

/// The checked-out tree, found from this file's place in it.
enum Repository {
  static let root: String = {
    var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    parts.removeLast(3)
    return parts.joined(separator: "/")
  }()

  static func text(_ path: String) throws -> String {
    try String(contentsOf: URL(filePath: root + "/" + path), encoding: .utf8)
  }

  static func exists(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: root + "/" + path)
  }

  /// Files under a folder that end in `suffix`, as paths from the root; none when the folder is missing.
  static func files(under folder: String, suffix: String) -> [String] {
    guard let names = try? FileManager.default.subpathsOfDirectory(atPath: root + "/" + folder)
    else {
      return []
    }
    return names.filter { $0.hasSuffix(suffix) && !$0.hasPrefix(".") }.map { folder + "/" + $0 }
      .sorted()
  }

  /// Folders directly in `folder`, as paths from the root.
  static func folders(in folder: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root + "/" + folder)) ?? []
    return names.map { folder + "/" + $0 }.filter { path in
      var isFolder = false
      return FileManager.default.fileExists(atPath: root + "/" + path, isDirectory: &isFolder)
        && isFolder
    }.sorted()
  }

  /// The modules a Swift source imports.
  static func imports(of source: String) -> [String] {
    source.split(separator: "\n").compactMap { line in
      var words = line.split(separator: " ").prefix { !$0.hasPrefix("//") }[...]
      let modifiers: Set<Substring> = ["public", "internal", "package", "private", "fileprivate"]
      while let first = words.first, modifiers.contains(first) || first.hasPrefix("@") {
        words = words.dropFirst()
      }
      guard words.first == "import", words.count >= 2 else { return nil }
      let kinds: Set<Substring> = [
        "struct", "class", "enum", "protocol", "func", "var", "typealias",
      ]
      let named = words.dropFirst().first { !kinds.contains($0) } ?? ""
      return named.split(separator: ".").first.map(String.init)
    }
  }
}

/// One target line of Package.swift.
struct Target {
  var name: String
  var path: String
  var needs: [String]
}

extension Repository {
  /// The targets made by `room`, `adapter` and `program` in Package.swift, read as text: the manifest is
  /// written one call to a target for this.
  static func targets() throws -> [Target] {
    let manifest = try text("Package.swift")
    let call = #/(?:room|adapter|program)\(\s*"([^"]+)",\s*"([^"]+)"(?:,\s*\[([^\]]*)\])?/#
    return manifest.matches(of: call).map { match in
      let needs = (match.3 ?? "").matches(of: #/"([^"]+)"/#).map { String($0.1) }
      return Target(name: String(match.1), path: String(match.2), needs: needs)
    }
  }
}
