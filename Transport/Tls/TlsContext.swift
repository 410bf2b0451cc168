internal import COpenSSL
public import Loop
internal import Report

/// Why a TLS context could not be made: clear text, no secrets.
public struct TlsError: Error, Sendable, CustomStringConvertible {
  public var description: String
}

/// PEM files of a server.
public struct TlsFiles: Sendable {
  public var certificate: String
  public var key: String
  /// Clients must present a certificate of this authority. nil: none is asked for.
  public var clientAuthority: String?
  public init(certificate: String, key: String, clientAuthority: String? = nil) {
    self.certificate = certificate
    self.key = key
    self.clientAuthority = clientAuthority
  }
}

/// One `SSL_CTX`, counted.
final class ContextHandle: @unchecked Sendable {
  let context: OpaquePointer
  init(_ context: OpaquePointer) { self.context = context }
  deinit { SSL_CTX_free(context) }
}

/// ALPN protocols we speak, in our order.
public enum ApplicationProtocol: String, Sendable {
  case h2
  case http11 = "http/1.1"

  static func wireForm(_ list: [ApplicationProtocol]) -> [UInt8] {
    list.flatMap { [UInt8($0.rawValue.utf8.count)] + Array($0.rawValue.utf8) }
  }
}

/// What TLS servers share: certificate, key, protocols. `reload` swaps it for new connections; open
/// ones keep what they began with. Safe from any thread.
public final class TlsServerContext: Sendable {
  private let files: TlsFiles
  private let protocols: ProtocolList
  private let current: Lock<ContextHandle>

  public init(_ files: TlsFiles, protocols: [ApplicationProtocol]) throws(TlsError) {
    self.files = files
    self.protocols = ProtocolList(protocols)
    current = Lock(try TlsServerContext.load(files, self.protocols))
  }

  /// Reads the files again. On failure the old certificate stays in use.
  public func reload() throws(TlsError) {
    let fresh = try TlsServerContext.load(files, protocols)
    current.withLock { $0 = fresh }
  }

  /// The TLS side of a new connection.
  public func makeWire() -> Wire? {
    TlsWire(current.withLock { $0 }, keeping: protocols, isServer: true, serverName: nil)
  }

  private static func load(
    _ files: TlsFiles, _ protocols: ProtocolList
  ) throws(TlsError) -> ContextHandle {
    ERR_clear_error()
    guard let raw = SSL_CTX_new(TLS_server_method()) else { throw failure("TLS could not start") }
    let handle = ContextHandle(raw)
    _ = posthouse_ssl_min_version(raw, TLS1_2_VERSION)
    _ = posthouse_ssl_modes(raw)
    guard SSL_CTX_use_certificate_chain_file(raw, files.certificate) == 1 else {
      throw failure("certificate \(files.certificate)")
    }
    guard SSL_CTX_use_PrivateKey_file(raw, files.key, SSL_FILETYPE_PEM) == 1 else {
      throw failure("key \(files.key)")
    }
    guard SSL_CTX_check_private_key(raw) == 1 else {
      throw failure("key \(files.key) does not belong to certificate \(files.certificate)")
    }
    if let authority = files.clientAuthority {
      guard SSL_CTX_load_verify_file(raw, authority) == 1 else {
        throw failure("client authority \(authority)")
      }
      SSL_CTX_set_client_CA_list(raw, SSL_load_client_CA_file(authority))
      SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    }
    var name = Array("posthouse".utf8)
    SSL_CTX_set_session_id_context(raw, &name, UInt32(name.count))
    SSL_CTX_set_alpn_select_cb(raw, selectProtocol, Unmanaged.passUnretained(protocols).toOpaque())
    return handle
  }
}

/// How a client checks the server.
public struct TlsTrust: Sendable {
  /// PEM file of authorities. nil: those of the system.
  public var authority: String?
  /// False accepts any certificate: for tests against self-made ones only.
  public var verifies: Bool
  /// Certificate and key this side presents, PEM.
  public var identity: TlsFiles?
  public init(authority: String? = nil, verifies: Bool = true, identity: TlsFiles? = nil) {
    self.authority = authority
    self.verifies = verifies
    self.identity = identity
  }
}

public final class TlsClientContext: Sendable {
  private let handle: ContextHandle
  private let verifies: Bool

  public init(_ trust: TlsTrust = TlsTrust(), protocols: [ApplicationProtocol]) throws(TlsError) {
    ERR_clear_error()
    guard let raw = SSL_CTX_new(TLS_client_method()) else { throw failure("TLS could not start") }
    handle = ContextHandle(raw)
    verifies = trust.verifies
    _ = posthouse_ssl_min_version(raw, TLS1_2_VERSION)
    _ = posthouse_ssl_modes(raw)
    if let authority = trust.authority {
      guard SSL_CTX_load_verify_file(raw, authority) == 1 else {
        throw failure("authority \(authority)")
      }
    } else {
      SSL_CTX_set_default_verify_paths(raw)
    }
    SSL_CTX_set_verify(raw, trust.verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nil)
    if let own = trust.identity {
      guard SSL_CTX_use_certificate_chain_file(raw, own.certificate) == 1,
        SSL_CTX_use_PrivateKey_file(raw, own.key, SSL_FILETYPE_PEM) == 1
      else { throw failure("identity \(own.certificate)") }
    }
    let list = ApplicationProtocol.wireForm(protocols)
    SSL_CTX_set_alpn_protos(raw, list, UInt32(list.count))
  }

  public func makeWire(serverName: String) -> Wire? {
    TlsWire(handle, keeping: nil, isServer: false, serverName: serverName)
  }
}

/// Protocols in ALPN's wire form, at a fixed address for the callback.
final class ProtocolList: @unchecked Sendable {
  let base: UnsafeMutablePointer<UInt8>
  let count: Int
  init(_ list: [ApplicationProtocol]) {
    let wire = ApplicationProtocol.wireForm(list)
    base = .allocate(capacity: max(wire.count, 1))
    base.initialize(from: wire, count: wire.count)
    count = wire.count
  }
  deinit { base.deallocate() }
}

let selectProtocol: SSL_CTX_alpn_select_cb_func = {
  _, out, outLength, offered, n, argument in
  let ours = Unmanaged<ProtocolList>.fromOpaque(argument!).takeUnretainedValue()
  var chosen: UnsafeMutablePointer<UInt8>?
  let result = SSL_select_next_proto(
    &chosen, outLength, ours.base, UInt32(ours.count), offered, n)
  if result != OPENSSL_NPN_NEGOTIATED { return SSL_TLSEXT_ERR_ALERT_FATAL }
  out?.pointee = UnsafePointer(chosen)
  return SSL_TLSEXT_ERR_OK
}

/// The first error OpenSSL recorded, as text.
func opensslReason() -> String {
  let code = ERR_get_error()
  ERR_clear_error()
  guard code != 0 else { return "unknown reason" }
  if let text = ERR_reason_error_string(code) { return String(cString: text) }
  // What a system call said: only the long form has it, as its last part (ERR_error_string(3)).
  var long = [CChar](repeating: 0, count: 256)
  ERR_error_string_n(code, &long, long.count)
  let text = String(decoding: long.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  return text.split(separator: ":").last.map(String.init) ?? "unknown reason"
}

func failure(_ what: String) -> TlsError {
  TlsError(description: "\(what): \(opensslReason())")
}
