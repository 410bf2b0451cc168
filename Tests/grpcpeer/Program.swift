internal import Base
internal import Grpc
internal import Http
internal import Loop
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

    let loops = try (0..<count).map { index throws(SocketError) in try EventLoop.start(index: index) }
    let server = GrpcServer(loops: loops)
    InteropService.register(on: server)
    let grpc = try server.listen(.tcp(host: host, port: port))
    var line = "READY port=\(grpc.port)"
    if let unix { try server.listen(.unix(path: unix)) }
    if let certificate, let key {
      let files = TlsFiles(certificate: certificate, key: key)
      let tls = try TlsServerContext(files, protocols: [.h2])
      let secure = try server.listen(.tcp(host: host, port: 0), tls: { tls.makeWire() })
      line += " tls=\(secure.port)"
    }
    print(line)
    flushOutput()
    while readLine() != nil {}
    server.drain()
  }
}
