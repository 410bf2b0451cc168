import Testing

/// Who may import what. The compiler proves that a target imports only what the manifest gives it; this
/// proves that the manifest, and each room, keep the law.
@Suite("The import law", .timeLimit(.minutes(1)))
struct ImportLaw {
  /// Rooms that decide or translate: bytes and values in, values and bytes out.
  static let pure: [(room: String, may: Set<String>)] = [
    ("Base/Base", []),
    ("Proto/Codec", ["Base"]),
    ("Proto/Messages", ["Base", "Codec"]),
    ("Registry/Registry", ["Base", "Digest", "Codec"]),
    ("Federation/Ring", ["Base", "Digest", "Codec"]),
    ("Federation/Metadata", ["Base", "Digest"]),
    ("Federation/Membership", ["Base", "Digest", "Codec"]),
    ("Federation/Gossip", ["Base", "Digest", "Codec", "Messages", "Registry"]),
    ("Node/Engine", ["Base", "Digest", "Codec"]),
    ("Node/Slim", ["Base", "Codec"]),
    ("Node/Token", ["Base", "Digest", "Codec"]),
  ]

  /// The only rooms in which a C library is touched.
  static let adapters: Set<String> = [
    "Base/Digest", "Base/Crypto", "Base/Report", "Base/Settings", "Base/Store", "Transport/Loop",
    "Transport/Tls", "Transport/Http",
  ]

  /// Cold edges that may use FoundationEssentials (JSON, dates, files); the whole of Foundation, never.
  /// Crypto reads and writes the signing-key file, once at start and at a rotation.
  static let coldEdges: Set<String> = [
    "Base/Crypto", "Base/Settings", "Node/Relay", "Node/posthoused", "Admin/Control",
    "Admin/posthouse",
  ]

  static let relaySide = ["Base", "Proto", "Transport", "Registry", "Federation", "Node"]

  static var rooms: [String] {
    (relaySide + ["Admin"]).flatMap { Repository.folders(in: $0) }
  }

  @Test("The scan sees the rooms and their imports")
  func theScanSees() throws {
    #expect(Self.rooms.contains("Node/Engine"))
    #expect(Self.rooms.contains("Base/Store"))
    #expect(
      Repository.imports(
        of: "public import Base\n@testable import struct Codec.Reader // x\n// import Q")
        == ["Base", "Codec"])
    #expect(Repository.files(under: "Node/Engine", suffix: ".swift").count > 3)
  }

  @Test("Engines and codecs import nothing but engines' words", arguments: pure.indices)
  func pureRooms(index: Int) throws {
    let (room, may) = Self.pure[index]
    for file in Repository.files(under: room, suffix: ".swift") {
      let imports = Repository.imports(of: try Repository.text(file))
      let foreign = imports.filter { !may.contains($0) }
      #expect(foreign.isEmpty, "\(file) imports \(foreign)")
    }
  }

  @Test("Only adapters import C modules and the C library")
  func cModules() throws {
    for room in Self.rooms where !Self.adapters.contains(room) {
      for file in Repository.files(under: room, suffix: ".swift") {
        for module in Repository.imports(of: try Repository.text(file)) {
          let letters = Array(module.utf8)
          let isC =
            letters.count > 1 && letters[0] == UInt8(ascii: "C")
            && (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(letters[1])
          #expect(!isC, "\(file) imports \(module)")
          let isHost =
            room == "Node/Relay" || room == "Admin/Control" || room.hasPrefix("Node/posthoused")
            || room.hasPrefix("Admin/posthouse") || room == "Proto/protogen"
          #expect(module != "Glibc" || isHost, "\(file) imports Glibc")
        }
      }
    }
  }

  @Test("Foundation stays out; FoundationEssentials stays at cold edges")
  func foundation() throws {
    for room in Self.rooms {
      for file in Repository.files(under: room, suffix: ".swift") {
        let imports = Repository.imports(of: try Repository.text(file))
        #expect(!imports.contains("Foundation"), "\(file)")
        if imports.contains("FoundationEssentials") {
          #expect(Self.coldEdges.contains(room), "\(file)")
        }
      }
    }
  }

  @Test("No room of the relay can reach MLS: it cannot decrypt, by construction")
  func noMLS() throws {
    let targets = try Repository.targets()
    #expect(targets.count > 15, "Package.swift is not read right")
    let needs = Dictionary(uniqueKeysWithValues: targets.map { ($0.name, $0.needs) })
    let agentSide = Set(targets.filter { $0.path.hasPrefix("Agent/") }.map(\.name) + ["MLS"])
    for target in targets {
      guard let folder = target.path.split(separator: "/").first,
        Self.relaySide.contains(String(folder))
      else { continue }
      var reached: Set<String> = []
      var open = target.needs
      while let next = open.popLast() {
        if reached.insert(next).inserted { open += needs[next] ?? [] }
      }
      let forbidden = reached.intersection(agentSide)
      #expect(forbidden.isEmpty, "\(target.name) reaches \(forbidden.sorted())")
    }
    for room in Self.rooms where !room.hasPrefix("Admin/") {
      for file in Repository.files(under: room, suffix: ".swift") {
        #expect(!Repository.imports(of: try Repository.text(file)).contains("MLS"), "\(file)")
      }
    }
  }

  @Test("Imports between rooms point down")
  func downwards() throws {
    let order = ["Clib", "Base", "Proto", "Transport", "Registry", "Federation", "Node", "Admin"]
    let targets = try Repository.targets()
    let folder = Dictionary(
      uniqueKeysWithValues: targets.map {
        ($0.name, String($0.path.split(separator: "/").first ?? ""))
      })
    for target in targets {
      guard let place = order.firstIndex(of: folder[target.name] ?? "") else { continue }
      for need in target.needs {
        guard let other = order.firstIndex(of: folder[need] ?? "Clib") else {
          Issue.record("\(target.name) needs \(need), which is above it")
          continue
        }
        #expect(other <= place, "\(target.name) needs \(need), which is above it")
      }
    }
  }
}
