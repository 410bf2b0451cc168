public import Base
internal import COpenSSL
internal import Crypto
public import Loop
internal import Report

/// Mutual TLS 1.3 between the nodes of one cluster, for both ends of a link.
///
/// Both sides show a certificate, and believe only what the cluster's authority signed; the system's authorities do
/// not count. A certificate names its node, which `Connection.peerNode` tells once the handshake is done. Host names
/// are not looked at: nodes move. There are no tickets, so every connection shows its certificate anew. ALPN is h2.
/// Safe from any thread.
public final class ClusterTlsContext: Sendable {
  /// PEM files. `authority` may hold several authorities: the old and the new one while they change.
  public struct Files: Sendable {
    public var authority: String
    public var certificate: String
    public var key: String

    public init(authority: String, certificate: String, key: String) {
      self.authority = authority
      self.certificate = certificate
      self.key = key
    }

    /// What `posthouse tls issue --out` wrote.
    public init(directory: String) {
      authority = "\(directory)/\(ClusterFiles.authority)"
      certificate = "\(directory)/\(ClusterFiles.node)"
      key = "\(directory)/\(ClusterFiles.nodeKey)"
    }
  }

  private struct Loaded {
    let handle: ContextHandle
    let own: NodeIdentity
  }

  private let files: Files
  private let verificationTime: Instant?
  private let onRefusal: @Sendable (LinkRefusal) -> Void
  private let protocols = ProtocolList([.h2])
  private let counts = RefusalCounts()
  private let current: Lock<Loaded>

  /// Throws when a file cannot be read, when they do not belong together, and when the certificate would be refused
  /// by other nodes: expired, say. `verifyingAt`: the wall clock that certificates are judged by, for tests; nil: the
  /// time of each handshake. `onRefusal` is called on the connection's loop, once for a handshake that failed.
  public init(
    _ files: Files, verifyingAt: Instant? = nil,
    onRefusal: @escaping @Sendable (LinkRefusal) -> Void = { _ in }
  ) throws(TlsError) {
    self.files = files
    verificationTime = verifyingAt
    self.onRefusal = onRefusal
    current = Lock(try ClusterTlsContext.load(files, protocols, verifyingAt))
  }

  /// Who we are by our certificate.
  public var own: NodeIdentity { current.withLock { $0.own } }

  /// Handshakes refused since the context was made, every reason once.
  public var refusals: [(reason: LinkRefusal.Reason, count: Int)] { counts.all }

  public func count(of reason: LinkRefusal.Reason) -> Int {
    counts.all.first { $0.reason == reason }?.count ?? 0
  }

  /// Reads the files again, for the next handshakes; open connections go on. On failure, and when the certificate is
  /// another node's, what was read before stays in use.
  public func reload() throws(TlsError) {
    let fresh = try ClusterTlsContext.load(files, protocols, verificationTime)
    let was = own
    guard fresh.own.node == was.node, fresh.own.cluster == was.cluster else {
      throw TlsError(
        description: "certificate \(files.certificate) is of \(fresh.own), this node is \(was)")
    }
    current.withLock { $0 = fresh }
  }

  /// The side that is called.
  public func makeServerWire() -> Wire? { makeWire(isServer: true, expecting: nil) }

  /// The side that calls. With `expecting` any other node is refused.
  public func makeClientWire(expecting: NodeID? = nil) -> Wire? {
    makeWire(isServer: false, expecting: expecting)
  }

  private func makeWire(isServer: Bool, expecting: NodeID?) -> Wire? {
    let loaded = current.withLock { $0 }
    let counts = counts
    let tell = onRefusal
    return ClusterWire(
      loaded.handle, keeping: protocols, isServer: isServer, own: loaded.own, expecting: expecting
    ) { refusal in
      counts.add(refusal.reason)
      tell(refusal)
    }
  }

  // MARK: files

  private static func load(
    _ files: Files, _ protocols: ProtocolList, _ time: Instant?
  ) throws(TlsError) -> Loaded {
    ERR_clear_error()
    guard let raw = SSL_CTX_new(TLS_method()) else { throw failure("TLS could not start") }
    let handle = ContextHandle(raw)
    _ = posthouse_ssl_modes(raw)
    posthouse_ssl_links_only(raw)
    // An encrypted key is a failure, never a question at the terminal.
    SSL_CTX_set_default_passwd_cb(raw) { _, _, _, _ in -1 }
    guard SSL_CTX_load_verify_file(raw, files.authority) == 1 else {
      throw failure("cluster authority \(files.authority)")
    }
    guard SSL_CTX_use_certificate_chain_file(raw, files.certificate) == 1 else {
      throw failure("certificate \(files.certificate)")
    }
    guard SSL_CTX_use_PrivateKey_file(raw, files.key, SSL_FILETYPE_PEM) == 1 else {
      throw failure("key \(files.key)")
    }
    guard SSL_CTX_check_private_key(raw) == 1 else {
      throw failure("key \(files.key) does not belong to certificate \(files.certificate)")
    }
    if let time {
      X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(raw), Int(time.nanoseconds / 1_000_000_000))
    }
    let own = try checkOwn(raw, files, time)
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    SSL_CTX_set_cert_verify_callback(raw, judgePeer, nil)
    let list = ApplicationProtocol.wireForm([.h2])
    SSL_CTX_set_alpn_protos(raw, list, UInt32(list.count))
    SSL_CTX_set_alpn_select_cb(raw, selectProtocol, Unmanaged.passUnretained(protocols).toOpaque())
    return Loaded(handle: handle, own: own)
  }

  /// Our own certificate, looked at as other nodes will.
  private static func checkOwn(
    _ context: OpaquePointer, _ files: Files, _ time: Instant?
  ) throws(TlsError) -> NodeIdentity {
    let x509 = SSL_CTX_get0_certificate(context)
    guard let certificate = Certificate(of: x509) else {
      throw TlsError(description: "certificate \(files.certificate) cannot be read")
    }
    for purpose in [X509_PURPOSE_SSL_SERVER, X509_PURPOSE_SSL_CLIENT] {
      guard let check = X509_STORE_CTX_new() else { throw failure("TLS could not start") }
      defer {
        X509_STORE_CTX_free(check)
        ERR_clear_error()
      }
      guard X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(context), x509, nil) == 1 else {
        throw failure("certificate \(files.certificate)")
      }
      X509_STORE_CTX_set_purpose(check, purpose)
      if let time {
        X509_STORE_CTX_set_time(check, 0, Int(time.nanoseconds / 1_000_000_000))
      }
      if X509_verify_cert(check) == 1 { continue }
      let verdict = Verdict(chain: check, certificate)
      throw TlsError(
        description: "\(files.certificate) (authority \(files.authority)): \(verdict.text)")
    }
    guard let node = certificate.node else {
      throw TlsError(
        description: "\(files.certificate): \(Verdict.noNode(certificate).text)")
    }
    return node
  }
}
