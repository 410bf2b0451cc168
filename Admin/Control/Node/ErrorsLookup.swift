internal import Base
internal import Settings

enum ErrorsLookup: Command {
  static let form = CommandForm(
    "errors lookup", "What an error code means and what to do.",
    arguments: [CommandArgument("CODE")])

  static func run(_ call: Call) throws(Fault) {
    let text = call.word(0)
    guard let code = FaultCode(rawValue: text) else {
      let near = Suggestion.nearest(to: text, in: FaultCode.allCases.map(\.rawValue))
      throw Fault(.notFound, "no error code \(text)" + (near.map { "; did you mean \($0)?" } ?? ""))
    }
    call.renderer.show(
      .record(
        [
          Field("Code", code.rawValue), Field("What", code.what), Field("Do", code.advice),
          Field("Retriable", code.isRetriable ? "yes" : "no"),
          Field("gRPC status", "\(code.grpc.rawValue)"), Field("HTTP status", "\(code.http)"),
          Field("Exit code", "\(ExitCode(code).rawValue)"),
        ], ErrorsList.json(code), name: code.rawValue))
  }
}
