import Base
import FoundationEssentials
import Relay
import Report
import Settings

/// The node's program: reads its settings, serves until SIGTERM or SIGINT, reloads certificates on SIGHUP.
@main struct Program {
  static func main() {
    let start: NodeStart
    do {
      start = try NodeStart.read(
        arguments: Array(CommandLine.arguments.dropFirst()),
        environment: ProcessInfo.processInfo.environment)
    } catch {
      fail(error, code: 2)
    }
    switch start {
    case .help(let text): print(text)
    case .version: print("posthoused \(PosthouseVersion.text)")
    case .check(let node, let settings): check(node, settings)
    case .run(let node, let settings): serve(node, settings)
    }
  }

  /// Changes nothing and opens no port: for configurations that are to be installed.
  private static func check(_ node: NodeSettings, _ settings: Settings) {
    for warning in settings.warnings {
      StandardStream.error.write("posthoused: warning: \(warning)\n")
    }
    do {
      try NodeHost.checkCertificates(node)
    } catch {
      fail(error, code: 2)
    }
    print("ok: \(settings.file ?? "no file"), data \(node.data), auth \(node.auth.rawValue)")
  }

  private static func serve(_ node: NodeSettings, _ settings: Settings) {
    let signals = Signals()
    keepMemoryForReuse()
    // A developer who wants backtraces says so.
    if ProcessInfo.processInfo.environment["SWIFT_BACKTRACE"] == nil { leaveCrashesToTheKernel() }
    let coreDumpsAreClean = leaveMemoryOutOfCoreDumps()
    let log = Log(
      minimum: LogLevel(name: node.logLevel) ?? .info, format: format(node.logForm),
      writer: LogWriter(descriptor: 2)
    ).with(["node": .of(node.nodeName)])
    for warning in settings.warnings { log.warn(warning) }
    if !coreDumpsAreClean { log.warn("a core dump of this process would hold secrets") }
    if node.auth == .open {
      log.warn("--auth open: streams without a credential may use every channel")
    }
    let host: NodeHost
    do {
      let inheritance =
        node.takesOver
        ? try Inheritance.fromPredecessor(settings: node, log: log)
        : try Inheritance.fromSupervisor(
          environment: ProcessInfo.processInfo.environment, settings: node)
      host = try NodeHost(
        settings: node, log: log, inheritance: inheritance,
        askForDrain: { Signals.terminateSelf() }, goOnWaiting: { !signals.endIsPending })
    } catch {
      log.flush()
      // Told to end while it waited its turn.
      if signals.endIsPending { return }
      fail(error, code: 1)
    }
    announce(host.addresses)
    if node.trustsLoopback {
      log.info(
        "callers on this machine are operators without a credential",
        ["setting": "admin_loopback", "behind_a_proxy_or_tunnel": "set it to token"])
    }
    log.info("serving", ["version": .of(PosthouseVersion.text), "data": .of(node.data)])
    while true {
      switch signals.next() {
      case .hangUp: host.reloadCertificates()
      case .terminate, .interrupt:
        host.drain()
        return
      }
    }
  }

  /// The one line on standard output, once the node serves.
  private static func announce(_ addresses: NodeHost.Addresses) {
    var line = "READY grpc=\(addresses.grpc) http=\(addresses.http) admin=\(addresses.admin)"
    if !addresses.grpcTls.isEmpty { line += " grpc-tls=\(addresses.grpcTls)" }
    if !addresses.httpTls.isEmpty { line += " http-tls=\(addresses.httpTls)" }
    if !addresses.registry.isEmpty { line += " registry=\(addresses.registry)" }
    if !addresses.federation.isEmpty { line += " federation=\(addresses.federation)" }
    if !addresses.cluster.isEmpty { line += " cluster=\(addresses.cluster)" }
    StandardStream.output.write(line + "\n")
  }

  private static func format(_ form: NodeSettings.LogForm) -> LogFormat {
    switch form {
    case .auto: .automatic()
    case .json: .json
    case .text: .text(color: false)
    }
  }

  private static func fail(_ fault: Fault, code: Int32) -> Never {
    StandardStream.error.write("posthoused: \(fault)\n")
    endProcess(code)
  }
}
