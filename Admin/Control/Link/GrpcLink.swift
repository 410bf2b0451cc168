internal import Base
internal import Glibc
internal import Grpc
internal import Loop
internal import Settings
internal import Tls

/// A link over gRPC: the admin socket, or a node's address with an admin credential.
final class GrpcLink: AdminLink {
  private let client: GrpcBlockingClient
  private let place: String
  /// Set for a node that was started for this link alone.
  private let whenClosed: (() -> Void)?

  private init(_ client: GrpcBlockingClient, place: String, whenClosed: (() -> Void)? = nil) {
    self.client = client
    self.place = place
    self.whenClosed = whenClosed
  }

  /// Connects at once, so that a socket without a listener is known before the first call.
  static func socket(
    _ path: String, whenClosed: (() -> Void)? = nil
  ) throws(Fault) -> GrpcLink {
    try SocketProbe.check(path)
    do {
      return GrpcLink(
        try GrpcBlockingClient(.unix(path: path)), place: path, whenClosed: whenClosed)
    } catch {
      throw Fault(.unreachable, "\(path): \(error)")
    }
  }

  static func remote(_ node: RemoteNode) throws(Fault) -> GrpcLink {
    let metadata = node.token.isEmpty ? [] : [("authorization", "Bearer \(node.token)")]
    let place = node.address.description
    do {
      var wire: (@Sendable (String) -> Wire?)?
      if node.isTls {
        let context = try TlsClientContext(TlsTrust(authority: node.authority), protocols: [.h2])
        wire = { context.makeWire(serverName: $0) }
      }
      return GrpcLink(
        try GrpcBlockingClient(
          .tcp(host: node.address.host, port: node.address.port), tls: wire, metadata: metadata),
        place: place)
    } catch {
      throw Fault(.unreachable, "\(place): \(error)")
    }
  }

  func unary(path: String, request: [UInt8], timeout: Interval) throws(Fault) -> [UInt8] {
    do throws(GrpcError) {
      return try client.unary(path, request, timeout: timeout)
    } catch {
      throw fault(error)
    }
  }

  func stream(
    path: String, request: [UInt8], timeout: Interval?, each: ([UInt8]) throws(Fault) -> Bool
  ) throws(Fault) {
    let stream = client.serverStream(path, request, timeout: timeout)
    while true {
      let next: [UInt8]?
      do throws(GrpcError) {
        next = try stream.next()
      } catch {
        throw fault(error)
      }
      guard let message = next else { return }
      var goOn = false
      do throws(Fault) {
        goOn = try each(message)
      } catch {
        stream.cancel()
        throw error
      }
      if !goOn {
        stream.cancel()
        return
      }
    }
  }

  var isOffline: Bool { whenClosed != nil }

  func close() {
    client.close()
    whenClosed?()
  }

  private func fault(_ error: GrpcError) -> Fault {
    if let code = error.code.flatMap({ FaultCode(rawValue: $0) }) {
      return StatusFault.fault(code, message: error.message)
    }
    // No code of ours: the connection failed, not the node.
    if error.status == .unavailable { return Fault(.unreachable, "\(place): \(error.message)") }
    return StatusFault.fault(error.status, message: error.message)
  }
}

/// Whether somebody listens on a Unix socket.
enum SocketProbe {
  static func check(_ path: String) throws(Fault) {
    var address = sockaddr_un()
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard path.utf8.count < room else {
      throw Fault(.usage, "\(path) is longer than the \(room - 1) bytes a socket path may have")
    }
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) {
      unsafe $0.copyBytes(from: Array(path.utf8))
    }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw fault(path) }
    defer { close(descriptor) }
    let connected = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    if connected != 0 { throw fault(path) }
  }

  private static func fault(_ path: String) -> Fault {
    if errno == EACCES || errno == EPERM {
      return Fault(.forbidden, "\(path): only the node's user and group may use its admin socket")
    }
    return Fault(.unreachable, "\(path): \(unsafe String(cString: strerror(errno)))")
  }
}
