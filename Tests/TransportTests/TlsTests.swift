internal import Base
internal import Glibc
internal import Grpc
internal import Http
internal import Loop
import Testing
internal import Tls

@Suite("TLS", .timeLimit(.minutes(2))) struct TlsTests {
  /// A self-made certificate in a directory of its own.
  private func certificate(_ directory: String, _ name: String) throws -> TlsFiles {
    mkdir(directory, 0o700)
    let files = TlsFiles(certificate: "\(directory)/cert.pem", key: "\(directory)/key.pem")
    let line =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "
      + "\(files.key) -out \(files.certificate) -days 2 -subj /CN=\(name) "
      + "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null"
    try #require(system(line) == 0, "openssl made no certificate")
    return files
  }

  private func directory() -> String { "/tmp/posthouse-tls-\(UInt32.random(in: 0 ... .max))" }

  @Test("calls run over TLS, and a client that does not know the authority refuses") func calls()
    throws
  {
    let place = directory()
    defer { system("rm -rf \(place)") }
    let files = try certificate(place, "one")
    let rig = try Rig()
    let context = try TlsServerContext(files, protocols: [.h2])
    let listener = try rig.server.listen(
      .tcp(host: "localhost", port: 0), tls: { context.makeWire() })
    let trust = try TlsClientContext(TlsTrust(authority: files.certificate), protocols: [.h2])
    let client = try GrpcBlockingClient(listener.endpoint, tls: { trust.makeWire(serverName: $0) })
    let body = [UInt8](repeating: 3, count: 300_000)
    #expect(try client.unary("/t.T/Reverse", body) == body)
    let stream = client.serverStream("/t.T/Flood", [1])
    var got = 0
    while let message = try stream.next() { got += message.count }
    #expect(got == 1_000 * 65_536)

    let stranger = try TlsClientContext(TlsTrust(), protocols: [.h2])
    let wary = try GrpcBlockingClient(listener.endpoint, tls: { stranger.makeWire(serverName: $0) })
    do throws(GrpcError) {
      _ = try wary.unary("/t.T/Reverse", [1])
      Issue.record("an unknown certificate was accepted")
    } catch {
      #expect(error.status == .unavailable)
      #expect(error.message.contains("certificate"))
    }
  }

  @Test("a reloaded certificate serves new connections, old ones go on") func reload() throws {
    let place = directory()
    defer { system("rm -rf \(place)") }
    let files = try certificate(place, "one")
    system("cp \(files.certificate) \(place)/old.pem")
    let rig = try Rig()
    let context = try TlsServerContext(files, protocols: [.h2])
    let listener = try rig.server.listen(
      .tcp(host: "localhost", port: 0), tls: { context.makeWire() })
    func client(_ authority: String) throws -> GrpcBlockingClient {
      let trust = try TlsClientContext(TlsTrust(authority: authority), protocols: [.h2])
      return try GrpcBlockingClient(listener.endpoint, tls: { trust.makeWire(serverName: $0) })
    }
    let old = try client("\(place)/old.pem")
    #expect(try old.unary("/t.T/Reverse", [1]) == [1])
    _ = try certificate(place, "two")
    try context.reload()
    #expect(try old.unary("/t.T/Reverse", [2]) == [2], "the open connection goes on")
    #expect(try client(files.certificate).unary("/t.T/Reverse", [3]) == [3])
    #expect(throws: GrpcError.self) {
      _ = try client("\(place)/old.pem").unary("/t.T/Reverse", [4])
    }
    system("echo broken > \(files.certificate)")
    #expect(throws: TlsError.self) { try context.reload() }
    _ = try certificate(place, "three")
    #expect(throws: GrpcError.self) { _ = try client(files.certificate).unary("/t.T/Reverse", [5]) }
  }

  @Test("a server that asks for certificates takes only its authority's") func mutual() throws {
    let place = directory()
    let own = directory()
    defer { system("rm -rf \(place) \(own)") }
    let files = try certificate(place, "server")
    let mine = try certificate(own, "client")
    let rig = try Rig()
    let context = try TlsServerContext(
      TlsFiles(certificate: files.certificate, key: files.key, clientAuthority: mine.certificate),
      protocols: [.h2])
    let listener = try rig.server.listen(
      .tcp(host: "localhost", port: 0), tls: { context.makeWire() })
    let known = try TlsClientContext(
      TlsTrust(authority: files.certificate, identity: mine), protocols: [.h2])
    let nobody = try TlsClientContext(TlsTrust(authority: files.certificate), protocols: [.h2])
    let good = try GrpcBlockingClient(listener.endpoint, tls: { known.makeWire(serverName: $0) })
    #expect(try good.unary("/t.T/Reverse", [1]) == [1])
    let bad = try GrpcBlockingClient(listener.endpoint, tls: { nobody.makeWire(serverName: $0) })
    #expect(throws: GrpcError.self) { _ = try bad.unary("/t.T/Reverse", [1]) }
  }
}
