internal import Base
internal import COpenSSL
internal import Crypto
internal import Loop
internal import Report

/// One end of a link: TLS that believes only nodes of its cluster.
final class ClusterWire: TlsWire {
  private let own: NodeIdentity
  private let expected: NodeID?
  private let refuse: (LinkRefusal) -> Void
  private var peer = PeerAddress(kind: .remote, text: "?")
  private var node: NodeIdentity?
  private var verdict: Verdict?
  private var descriptor: Int32 = -1
  /// Records on their way to the socket; nil during the handshake.
  private var outbox: Outbox?

  init?(
    _ context: ContextHandle, keeping protocols: ProtocolList, isServer: Bool, own: NodeIdentity,
    expecting: NodeID?, _ refuse: @escaping (LinkRefusal) -> Void
  ) {
    self.own = own
    expected = expecting
    self.refuse = refuse
    super.init(context, keeping: protocols, isServer: isServer, serverName: nil)
    // The callback that judges the peer finds us by this. The SSL object ends with us.
    SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
  }

  override func attach(descriptor: Int32, peer: PeerAddress) {
    self.peer = peer
    self.descriptor = descriptor
    super.attach(descriptor: descriptor, peer: peer)
  }

  override var peerNode: NodeIdentity? { isDone ? node : nil }

  override func handshake() -> Step {
    let step = super.handshake()
    guard case .done = step else { return step }
    // A client that offers no protocol at all is not asked for one.
    if applicationProtocol != ApplicationProtocol.h2.rawValue {
      return .failed(report(.otherProtocol, "the peer does not speak h2 (ALPN)"))
    }
    // Without tickets there is no way round the certificate; if there were one, it would end here.
    guard node != nil else {
      return .failed(report(.noCertificate, "the peer shows no certificate"))
    }
    outbox = Outbox(ssl)
    return step
  }

  // MARK: writing

  override var isPending: Bool { outbox?.isEmpty == false }

  /// Many records with one write to the socket. What it does not take is sent before anything else is taken.
  override func write(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard let outbox else { return super.write(bytes) }
    let before = outbox.send(to: descriptor)
    if before < 0 { return before }
    var taken = 0
    while taken < bytes.count, outbox.count < Limits.linkSendBytes {
      let n = super.write(UnsafeRawBufferPointer(rebasing: bytes[taken...]))
      if n <= 0 {
        if taken == 0 { return n }
        break
      }
      taken += n
    }
    return outbox.send(to: descriptor) == Wire.broken ? Wire.broken : taken
  }

  override func shutdown() {
    super.shutdown()
    _ = outbox?.send(to: descriptor)
  }

  private func report(_ reason: LinkRefusal.Reason, _ text: String) -> String {
    refuse(LinkRefusal(reason: reason, peer: peer, description: text))
    return text
  }

  // MARK: refusing

  /// 1 when the chain and what the certificate says are ours.
  func judge(_ chain: OpaquePointer) -> Int32 {
    let isTrusted = X509_verify_cert(chain) == 1
    let found: Verdict?
    if let certificate = Certificate(of: X509_STORE_CTX_get0_cert(chain)) {
      found = isTrusted ? judge(certificate) : Verdict(chain: chain, certificate)
    } else {
      found = Verdict(.badCertificate, "the peer's certificate cannot be read")
    }
    guard let found else { return 1 }
    verdict = found
    if isTrusted { X509_STORE_CTX_set_error(chain, X509_V_ERR_CERT_REJECTED) }
    return 0
  }

  private func judge(_ certificate: Certificate) -> Verdict? {
    guard let shown = certificate.node else { return .noNode(certificate) }
    guard shown.cluster == own.cluster else {
      return Verdict(.otherCluster, "the peer is \(shown), this is cluster \(own.cluster)")
    }
    if let expected, shown.node != expected {
      return Verdict(.otherNode, "the peer is \(shown), called was node \(expected)")
    }
    node = shown
    return nil
  }

  override func explain(_ code: UInt?, inHandshake: Bool) -> String {
    let plain = super.explain(code, inHandshake: inHandshake)
    guard let code else { return report(.ended, plain) }
    if let verdict { return report(verdict.reason, verdict.text) }
    let reason = ERR_GET_REASON(code)
    switch reason {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return report(.noCertificate, "the peer shows no certificate")
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return report(.otherProtocol, "the peer does not speak h2 (ALPN)")
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_WRONG_SSL_VERSION, SSL_R_VERSION_TOO_LOW:
      return report(.otherProtocol, "the peer does not speak TLS 1.3")
    case SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST:
      return report(.otherProtocol, "the peer does not speak TLS")
    case 1_000...1_255:
      // OpenSSL's number for an alert of the peer is 1000 and the alert's (RFC 8446 section 6.2).
      return report(.refusedByPeer, "the peer refused this node: \(alertText(reason - 1_000))")
    default:
      return report(.other, inHandshake ? "the handshake failed: \(plain)" : plain)
    }
  }

  private func alertText(_ alert: Int32) -> String {
    switch alert {
    case 42, 40: "it does not take this node's certificate"
    case 43, 46: "it cannot use this node's certificate"
    case 44: "this node's certificate was revoked"
    case 45: "this node's certificate has expired, by its clock"
    case 48: "it does not know the authority of this node's certificate"
    case 70: "it does not speak TLS 1.3"
    case 116: "it wants a certificate"
    case 120: "it does not speak h2 (ALPN)"
    default: "TLS alert \(alert)"
    }
  }
}

/// What speaks against a certificate.
struct Verdict {
  let reason: LinkRefusal.Reason
  /// One line.
  let text: String

  init(_ reason: LinkRefusal.Reason, _ text: String) {
    self.reason = reason
    self.text = text
  }

  static func noNode(_ certificate: Certificate) -> Verdict {
    Verdict(
      .noNode, "the certificate of \(certificate.subject) does not name one node of a cluster")
  }

  /// Of a chain that was not believed.
  init(chain: OpaquePointer, _ certificate: Certificate) {
    let code = X509_STORE_CTX_get_error(chain)
    let isOwn = X509_STORE_CTX_get_error_depth(chain) == 0
    let whose =
      isOwn ? "the certificate of \(certificate.subject)" : "the authority \(certificate.issuer)"
    switch code {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      let end = isOwn ? " on " + Timestamp.text(certificate.notAfter) : ""
      self.init(.expired, "\(whose) expired\(end)")
    case X509_V_ERR_CERT_NOT_YET_VALID:
      let start = isOwn ? " before " + Timestamp.text(certificate.notBefore) : ""
      self.init(.notYetValid, "\(whose) does not hold yet\(start); is a clock wrong?")
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_SIGNATURE_FAILURE,
      X509_V_ERR_CERT_UNTRUSTED:
      self.init(
        .otherAuthority,
        "the certificate of \(certificate.subject) is signed by \(certificate.issuer), which is not "
          + "this cluster's authority")
    default:
      let why = X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "?"
      self.init(.badCertificate, "\(whose) cannot be used: \(why)")
    }
  }
}

extension Certificate {
  /// nil for no certificate, and for one that cannot be read.
  init?(of x509: OpaquePointer?) {
    guard let x509 else { return nil }
    let count = i2d_X509(x509, nil)
    guard count > 0, Int(count) <= Limits.certificateFileBytes else { return nil }
    let der = [UInt8](unsafeUninitializedCapacity: Int(count)) { room, filled in
      var at = room.baseAddress
      filled = max(0, Int(i2d_X509(x509, &at)))
    }
    guard let read = try? Certificate(der: der) else { return nil }
    self = read
  }
}

/// OpenSSL asks this in place of its own check.
let judgePeer: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> Int32 = { chain, _ in
  guard let chain,
    let ssl = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()),
    let owner = SSL_get_ex_data(OpaquePointer(ssl), 0)
  else { return 0 }
  return Unmanaged<ClusterWire>.fromOpaque(owner).takeUnretainedValue().judge(chain)
}
