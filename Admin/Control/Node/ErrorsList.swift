internal import Base
internal import Settings

enum ErrorsList: Command {
  static let form = CommandForm("errors ls", "List every error code.")

  static func run(_ call: Call) throws(Fault) {
    let columns: [Column] = [
      .left("CODE"), .right("GRPC"), .right("HTTP"), .right("EXIT"), .left("RETRY"), .left("WHAT"),
      .wide("DO"),
    ]
    let rows = FaultCode.allCases.map { code in
      ViewRow(
        cells: [
          code.rawValue, "\(code.grpc.rawValue)", "\(code.http)", "\(ExitCode(code).rawValue)",
          code.isRetriable ? "yes" : "no", code.what, code.advice,
        ], json: json(code), name: code.rawValue)
    }
    call.renderer.show(.list(columns, rows))
  }

  static func json(_ code: FaultCode) -> JsonValue {
    .object([
      JsonMember("code", .string(code.rawValue)), JsonMember("what", .string(code.what)),
      JsonMember("advice", .string(code.advice)),
      JsonMember("retriable", .boolean(code.isRetriable)),
      JsonMember("grpc", .integer(Int64(code.grpc.rawValue))),
      JsonMember("http", .integer(Int64(code.http))),
      JsonMember("exit", .integer(Int64(ExitCode(code).rawValue))),
    ])
  }
}
