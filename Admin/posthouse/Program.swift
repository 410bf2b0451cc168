internal import Control
internal import FoundationEssentials
internal import Glibc

@main struct Program {
  static func main() {
    let code = ControlProgram.run(
      arguments: Array(CommandLine.arguments.dropFirst()),
      environment: ProcessInfo.processInfo.environment, terminal: ProcessTerminal())
    exit(code.rawValue)
  }
}
