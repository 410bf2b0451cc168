internal import Relay
internal import Store

/// What this program is made of.
struct BuildFacts {
  var version: String
  var swift: String
  var format: Int

  static let current = BuildFacts(
    version: PosthouseVersion.text, swift: swiftVersion, format: Int(Store.format))

  /// Of the compiler that built it; there is no way to ask the runtime.
  private static var swiftVersion: String {
    #if compiler(>=6.5)
      "6.5 or later"
    #elseif compiler(>=6.4)
      "6.4"
    #elseif compiler(>=6.3.1)
      "6.3.1"
    #elseif compiler(>=6.3)
      "6.3"
    #else
      "6.2"
    #endif
  }
}
