internal import Base
internal import Settings

enum VersionShow: Command {
  static let form = CommandForm("version", "The version of this program and of the data format.")

  static func run(_ call: Call) throws(Fault) {
    let facts = BuildFacts.current
    call.renderer.show(
      .record(
        [
          Field("posthouse", facts.version), Field("Swift", facts.swift),
          Field("Data format", "\(facts.format)"),
        ],
        .object([
          JsonMember("version", .string(facts.version)), JsonMember("swift", .string(facts.swift)),
          JsonMember("format_version", .integer(Int64(facts.format))),
        ]), name: facts.version))
  }
}
