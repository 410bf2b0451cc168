// swift-tools-version: 6.2
import PackageDescription

// Settings for every room. `strict` adds the memory-safety check: all rooms but the adapters.
let common: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
  .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]
let strict: [SwiftSetting] = common + [.strictMemorySafety()]

/// A room: pure or cold code that never touches a C library.
func room(_ name: String, _ path: String, _ needs: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: needs, path: path, swiftSettings: strict)
}

/// An adapter: the only kind of room that imports a C library.
func adapter(_ name: String, _ path: String, _ needs: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: needs, path: path, swiftSettings: common)
}

func program(_ name: String, _ path: String, _ needs: [Target.Dependency]) -> Target {
  .executableTarget(name: name, dependencies: needs, path: path, swiftSettings: common)
}

func suite(
  _ name: String, _ needs: [Target.Dependency], excluding: [String] = []
) -> Target {
  .testTarget(
    name: name, dependencies: needs, path: "Tests/\(name)", exclude: excluding,
    swiftSettings: common)
}

/// Load programs and yardsticks in C: optimised in every build, they measure others.
let loadSettings: [CSetting] = [
  .define("_GNU_SOURCE"), .unsafeFlags(["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"]),
]

func loader(_ name: String, _ libraries: [String]) -> Target {
  .executableTarget(
    name: name, dependencies: ["measure"], path: "Tests/load/\(name)", cSettings: loadSettings,
    linkerSettings: libraries.map { .linkedLibrary($0) })
}

let package = Package(
  name: "posthouse",
  products: [
    .executable(name: "posthoused", targets: ["posthoused"]),
    .executable(name: "posthouse", targets: ["posthouse"]),
    .executable(name: "protoc-gen-posthouse", targets: ["protogen"]),
    .executable(name: "simulate", targets: ["simulate"]),
    .executable(name: "bench", targets: ["bench"]),
    .executable(name: "loadgen", targets: ["loadgen"]),
    .executable(name: "slimbench", targets: ["slimbench"]),
    .executable(name: "limitgrpc", targets: ["limitgrpc"]),
    .executable(name: "registryload", targets: ["registryload"]),
    .executable(name: "limitlog", targets: ["limitlog"]),
    .executable(name: "grpcpeer", targets: ["grpcpeer"]),
  ],
  targets: [
    // Clib: module maps and shims, the reason beside every line there.
    .target(name: "CSys", path: "Clib/CSys"),
    .systemLibrary(
      name: "CDigest", path: "Clib/CDigest", providers: [.apt(["libxxhash-dev", "libisal-dev"])]),
    .systemLibrary(
      name: "COpenSSL", path: "Clib/COpenSSL", pkgConfig: "openssl",
      providers: [.apt(["libssl-dev"])]),
    .systemLibrary(
      name: "CNghttp2", path: "Clib/CNghttp2", pkgConfig: "libnghttp2",
      providers: [.apt(["libnghttp2-dev"])]),
    .systemLibrary(
      name: "CRocksDB", path: "Clib/CRocksDB", pkgConfig: "rocksdb",
      providers: [.apt(["librocksdb-dev"])]),
    .target(
      name: "CRocksCrc", path: "Clib/CRocksCrc", linkerSettings: [.linkedLibrary("isal")]),
    .target(name: "CToml", path: "Clib/CToml", cxxSettings: [.unsafeFlags(["-std=c++17"])]),

    // Base: the words every room uses.
    room("Base", "Base/Base"),
    adapter("Digest", "Base/Digest", ["Base", "CDigest", "COpenSSL"]),
    adapter("Crypto", "Base/Crypto", ["Base", "Digest", "COpenSSL"]),
    adapter("Report", "Base/Report", ["Base", "CSys"]),
    adapter("Settings", "Base/Settings", ["Base", "CToml"]),
    adapter("Store", "Base/Store", ["Base", "Digest", "Report", "CRocksDB", "CRocksCrc", "CSys"]),

    // Proto: the wire.
    room("Codec", "Proto/Codec", ["Base"]),
    room("Messages", "Proto/Messages", ["Base", "Codec"]),
    program("protogen", "Proto/protogen", ["Base", "Codec"]),

    // Transport: bytes in, calls out.
    adapter("Loop", "Transport/Loop", ["Base", "Report", "CSys"]),
    adapter("Tls", "Transport/Tls", ["Base", "Crypto", "Report", "Loop", "COpenSSL"]),
    adapter("Http", "Transport/Http", ["Base", "Report", "Loop", "Tls", "CNghttp2", "CSys"]),
    room("Grpc", "Transport/Grpc", ["Base", "Codec", "Messages", "Report", "Loop", "Http"]),

    // Registry: who can do what.
    room("Registry", "Registry/Registry", ["Base", "Digest", "Codec"]),

    // Federation: who owns what, who is there, what relays tell each other. Pure; hosted by the relay.
    room("Ring", "Federation/Ring", ["Base", "Digest"]),
    room("Metadata", "Federation/Metadata", ["Base", "Digest"]),
    room("Link", "Federation/Link", ["Base"]),
    room("Gossip", "Federation/Gossip", ["Base", "Messages", "Registry"]),
    room("Membership", "Federation/Membership", ["Base", "Digest"]),

    // Node: the engines decide, the relay hosts them.
    room("Engine", "Node/Engine", ["Base", "Digest", "Codec"]),
    room("Slim", "Node/Slim", ["Base", "Codec"]),
    room("LinkMail", "Node/LinkMail", ["Base", "Codec", "Engine", "Link"]),
    room("Token", "Node/Token", ["Base", "Digest", "Codec"]),
    room(
      "Relay", "Node/Relay",
      [
        "Base", "Digest", "Crypto", "Report", "Settings", "Store", "Codec", "Messages", "Loop",
        "Tls",
        "Http", "Grpc", "Engine", "Slim", "Token", "Registry", "Gossip", "Ring", "Metadata",
        "Membership", "Link", "LinkMail",
      ]),
    program("posthoused", "Node/posthoused", ["Base", "Report", "Settings", "Relay"]),

    // Admin: what operators type.
    room(
      "Control", "Admin/Control",
      [
        "Base", "Crypto", "Report", "Settings", "Codec", "Messages", "Loop", "Tls", "Grpc",
        "Store", "Relay",
      ]),
    program("posthouse", "Admin/posthouse", ["Base", "Settings", "Control"]),

    // Tests: suites, and the programs that prove promises.
    adapter(
      "TestKit", "Tests/TestKit",
      [
        "Base", "Digest", "Crypto", "Report", "Store", "Codec", "Messages", "Engine", "Token",
        "Registry", "Gossip", "Link", "LinkMail", "Membership", "Metadata", "Ring", "CSys",
      ]),
    suite("BaseTests", ["Base", "Digest", "Crypto", "Report", "Settings"]),
    suite(
      "ProtoTests", ["Base", "Crypto", "Codec", "Messages", "TestKit"],
      excluding: ["differential.py"]),
    suite(
      "TransportTests",
      ["Base", "Crypto", "Report", "Codec", "Messages", "Loop", "Tls", "Http", "Grpc", "CSys"]),
    suite("LinkMailTests", ["Base", "Codec", "Engine", "Link", "LinkMail", "TestKit"]),
    suite("LinkTests", ["Base", "Link"]),
    suite("RingTests", ["Base", "Digest", "Ring"], excluding: ["transcripts"]),
    suite("MetadataTests", ["Base", "Digest", "Metadata"]),
    suite("MembershipTests", ["Base", "Digest", "Membership"], excluding: ["transcripts"]),
    suite(
      "StoreTests", ["Base", "Digest", "Report", "Store", "Engine", "TestKit", "CRocksCrc"]),
    suite("EngineTests", ["Base", "Digest", "Codec", "Engine", "TestKit"]),
    suite("SlimTests", ["Base", "Codec", "Slim"]),
    suite("TokenTests", ["Base", "Digest", "Crypto", "Codec", "Token", "TestKit"]),
    suite(
      "RelayTests",
      [
        "Base", "Digest", "Crypto", "Report", "Settings", "Store", "Codec", "Messages", "Loop",
        "Tls",
        "Http", "Grpc", "Engine", "Slim", "Token", "Ring", "Membership", "Link", "LinkMail",
        "Relay", "TestKit",
      ]),
    suite("RegistryTests", ["Base", "Registry"]),
    suite("GossipTests", ["Base", "Codec", "Messages", "Registry", "Gossip", "TestKit"]),
    suite(
      "AdminTests",
      ["Base", "Crypto", "Report", "Settings", "Codec", "Messages", "Control", "TestKit"]),
    suite("HouseTests", ["Base"]),
    program(
      "simulate", "Tests/simulate",
      ["Base", "Digest", "Codec", "Engine", "Registry", "Token", "TestKit"]),
    program("bench", "Tests/bench", ["Base", "Report", "TestKit"]),
    loader("loadgen", ["nghttp2"]),
    loader("slimbench", ["crypto"]),
    loader("limitgrpc", ["nghttp2"]),
    loader("registryload", ["nghttp2"]),
    loader("limitlog", ["rocksdb"]),
    .target(name: "measure", path: "Tests/load/measure", cSettings: loadSettings),
    program(
      "grpcpeer", "Tests/grpcpeer",
      ["Base", "Report", "Codec", "Messages", "Loop", "Tls", "Http", "Grpc"]),
    program(
      "fuzz", "Tests/fuzz",
      [
        "Base", "Digest", "Settings", "Store", "Codec", "Messages", "Loop", "Http", "Grpc",
        "Engine", "Token", "Ring", "Registry", "Link", "LinkMail", "Membership", "Relay",
      ]),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .gnu11,
  cxxLanguageStandard: .cxx17
)
