internal import Base
internal import Grpc
internal import Http
internal import Loop
internal import Messages
internal import Tls

/// A server for the interoperability tests: `grpc.testing.TestService`, health and reflection, an HTTP
/// listener that answers with what it got, in the clear and over TLS. Prints one line and serves until
/// its standard input ends.
@main struct Program {
  static func main() {
    do {
      try serve()
    } catch {
      print("FAILED \(error)")
      exitNow(1)
    }
  }

  static func serve() throws {
    prepareProcessForSockets()
    var arguments = Array(CommandLine.arguments.dropFirst())
    func option(_ name: String) -> String? {
      guard let i = arguments.firstIndex(of: name), i + 1 < arguments.count else { return nil }
      let value = arguments[i + 1]
      arguments.removeSubrange(i...(i + 1))
      return value
    }
    let host = option("--host") ?? "127.0.0.1"
    let port = UInt16(option("--port") ?? "0") ?? 0
    let count = Int(option("--loops") ?? "2") ?? 2
    let unix = option("--unix")
    let certificate = option("--cert")
    let key = option("--key")

    let loops = try (0..<count).map { index throws(SocketError) in try EventLoop.start(index: index)
    }
    let server = GrpcServer(loops: loops)
    InteropService.register(on: server)
    let health = HealthServer()
    health.register(on: server)
    health.set(InteropTestService.serviceName, .serving)
    let reflection = ReflectionServer(
      services: [InteropTestService.serviceName, HealthService.serviceName])
    reflection.register(on: server)
    let web = HttpServer(loops: loops) { _ in HttpMirror() }
    let http = try web.listen(.tcp(host: host, port: 0))
    let grpc = try server.listen(.tcp(host: host, port: port))
    var line = "READY port=\(grpc.port) http=\(http.port)"
    if let unix { try server.listen(.unix(path: unix)) }
    if let certificate, let key {
      let files = TlsFiles(certificate: certificate, key: key)
      let tls = try TlsServerContext(files, protocols: [.h2])
      let secure = try server.listen(.tcp(host: host, port: 0), tls: { tls.makeWire() })
      let webTls = try TlsServerContext(files, protocols: [.h2, .http11])
      let secureWeb = try web.listen(.tcp(host: host, port: 0), tls: { webTls.makeWire() })
      line += " tls=\(secure.port) https=\(secureWeb.port)"
    }
    print(line)
    flushOutput()
    // Commands: a health state to set; the end of input ends the program.
    while let command = readLine() {
      switch command {
      case "sick": health.set(InteropTestService.serviceName, .notServing)
      case "well": health.set(InteropTestService.serviceName, .serving)
      case "counts":
        print(TransportCounts.shared.all.map { "\($0.name)=\($0.value)" }.joined(separator: " "))
        flushOutput()
      case "drain":
        server.drain()
        web.drain()
      default: break
      }
    }
  }
}
