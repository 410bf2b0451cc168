internal import COpenSSL
internal import Loop

/// TLS over one socket. OpenSSL reads and writes the descriptor itself; its buffers are released when
/// idle.
class TlsWire: Wire {
  final let ssl: OpaquePointer
  /// Keeps the context and what its callbacks point at alive.
  final private let context: ContextHandle
  final private let protocols: ProtocolList?
  final private(set) var isDone = false
  final private var failed = false
  final private var brokenBy: String?

  init?(
    _ context: ContextHandle, keeping protocols: ProtocolList?, isServer: Bool, serverName: String?
  ) {
    guard let ssl = SSL_new(context.context) else { return nil }
    self.ssl = ssl
    self.context = context
    self.protocols = protocols
    super.init()
    if isServer {
      SSL_set_accept_state(ssl)
    } else {
      SSL_set_connect_state(ssl)
      if let serverName {
        let isAddress =
          serverName.contains(":") || serverName.allSatisfy { $0.isNumber || $0 == "." }
        if isAddress {
          X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), serverName)
        } else {
          _ = posthouse_ssl_server_name(ssl, serverName)
          SSL_set1_host(ssl, serverName)
        }
      }
    }
  }

  deinit { SSL_free(ssl) }

  override func attach(descriptor: Int32, peer: PeerAddress) { SSL_set_fd(ssl, descriptor) }

  override var breakage: String? { brokenBy }

  override var applicationProtocol: String? {
    var name: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    SSL_get0_alpn_selected(ssl, &name, &count)
    guard let name, count > 0 else { return nil }
    return String(decoding: UnsafeBufferPointer(start: name, count: Int(count)), as: UTF8.self)
  }

  override var peerName: String? {
    guard SSL_get_verify_result(ssl) == Int(X509_V_OK), let shown = SSL_get1_peer_certificate(ssl)
    else { return nil }
    defer { X509_free(shown) }
    var name = [CChar](repeating: 0, count: 512)
    let count = X509_NAME_get_text_by_NID(
      X509_get_subject_name(shown), NID_commonName, &name, Int32(name.count))
    guard count > 0, count < name.count - 1 else { return nil }
    let bytes = name[..<Int(count)].map { UInt8(bitPattern: $0) }
    // A zero inside is a trick.
    return bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self)
  }

  override func handshake() -> Step {
    ERR_clear_error()
    let result = SSL_do_handshake(ssl)
    if result == 1 {
      isDone = true
      return .done
    }
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .wantsMore
    case SSL_ERROR_SSL:
      failed = true
      let code = ERR_get_error()
      ERR_clear_error()
      return .failed(explain(code, inHandshake: true))
    default:
      failed = true
      ERR_clear_error()
      return .failed(explain(nil, inHandshake: true))
    }
  }

  /// One line about OpenSSL's first error; nil: the peer just went. Once, when the connection is over.
  func explain(_ code: UInt?, inHandshake: Bool) -> String {
    guard let code else { return "the peer closed the connection during the handshake" }
    guard code != 0, let text = ERR_reason_error_string(code) else { return "unknown reason" }
    return String(cString: text)
  }

  override func read(into room: UnsafeMutableRawBufferPointer) -> Int {
    ERR_clear_error()
    let n = SSL_read(ssl, room.baseAddress, Int32(clamping: room.count))
    return n > 0 ? Int(n) : outcome(n)
  }

  override func write(_ bytes: UnsafeRawBufferPointer) -> Int {
    ERR_clear_error()
    let n = SSL_write(ssl, bytes.baseAddress, Int32(clamping: bytes.count))
    return n > 0 ? Int(n) : outcome(n)
  }

  private func outcome(_ n: Int32) -> Int {
    switch SSL_get_error(ssl, n) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return Wire.later
    case SSL_ERROR_ZERO_RETURN: return 0
    case SSL_ERROR_SSL:
      if !failed { brokenBy = explain(ERR_get_error(), inHandshake: false) }
      failed = true
      ERR_clear_error()
      return Wire.broken
    default:
      failed = true
      ERR_clear_error()
      return Wire.broken
    }
  }

  override func shutdown() {
    guard isDone, !failed else { return }
    ERR_clear_error()
    SSL_shutdown(ssl)
    ERR_clear_error()
  }
}
