public import Base
internal import COpenSSL

/// Where the commands write certificates, and nodes read them.
public enum ClusterFiles {
  /// The cluster's authority, in its own directory and in a node's.
  public static let authority = "ca.pem"
  /// The authority's key: in its own directory only.
  public static let authorityKey = "ca.key"
  public static let node = "node.pem"
  public static let nodeKey = "node.key"
}

/// A key and its certificate, as they are written to files.
public struct CertifiedKey: Sendable {
  public let certificate: Certificate
  /// PEM.
  public let certificatePem: [UInt8]
  /// PEM (PKCS #8), not encrypted.
  public let keyPem: Secret
}

/// The certificate authority of one cluster: it signs certificates of nodes, and nothing may sign below it.
/// EC P-256 and SHA-256 throughout. Knows no clock: the time is given.
public struct ClusterAuthority: Sendable {
  public let own: CertifiedKey
  /// `[a-z0-9-]{1,63}`.
  public let cluster: String

  private static let scheme = "posthouse://"
  /// What an authority's own certificate says in place of a node's URI.
  static func cluster(uri: String) -> String? {
    guard uri.hasPrefix(scheme) else { return nil }
    let name = String(uri.dropFirst(scheme.count))
    return isOrgName(name) ? name : nil
  }

  /// A fresh authority with a key of its own. `days`: 1 to `Limits.certificateMaximumDays`.
  public static func make(
    cluster: String, days: Int = Limits.authorityDays, at wall: Instant
  ) throws(Fault) -> ClusterAuthority {
    guard isOrgName(cluster) else {
      throw Fault(.usage, "\"\(cluster)\" is no cluster name: 1 to 63 of a-z, 0-9 and -")
    }
    let key = try KeyHandle.make()
    let draft = try CertificateDraft(
      key, commonName: cluster, organisation: "Posthouse cluster CA",
      from: wall + .seconds(-Limits.certificateBackdateSeconds), until: try end(wall, days))
    try draft.setIssuer(draft)
    try draft.add(NID_basic_constraints, "critical,CA:TRUE,pathlen:0", issuer: draft)
    try draft.add(NID_key_usage, "critical,keyCertSign", issuer: draft)
    try draft.add(NID_subject_key_identifier, "hash", issuer: draft)
    try draft.addNames(uri: scheme + cluster, hosts: [])
    return ClusterAuthority(own: try draft.signed(by: key, keeping: key), cluster: cluster)
  }

  private init(own: CertifiedKey, cluster: String) {
    self.own = own
    self.cluster = cluster
  }

  /// Reads back what `make` made. Throws `bad_certificate` when the two do not belong together, or the certificate is
  /// no cluster's authority.
  public init(certificatePem: [UInt8], keyPem: Secret) throws(Fault) {
    defer { ERR_clear_error() }
    let handle = try X509Handle.read(pem: certificatePem)[0]
    let certificate = try Certificate(handle)
    guard let cluster = certificate.cluster else {
      throw Fault(
        .badCertificate, "the certificate of \(certificate.subject) is no cluster's authority")
    }
    let key = try KeyHandle(pem: keyPem)
    guard X509_check_private_key(handle.x509, key.key) == 1 else {
      throw Fault(.badCertificate, "the key does not belong to the certificate of the authority")
    }
    guard let pem = handle.pem else { throw CertificateDraft.failure("write the certificate") }
    own = CertifiedKey(certificate: certificate, certificatePem: pem, keyPem: keyPem)
    self.cluster = cluster
  }

  /// A certificate for a node, with a fresh key. It ends with the authority at the latest. `hosts`: DNS names and IP
  /// addresses, at most `Limits.certificateHosts`.
  public func issue(
    node: NodeID, name: String, hosts: [String] = [], days: Int = Limits.certificateDays,
    at wall: Instant
  ) throws(Fault) -> CertifiedKey {
    guard isNodeName(name) else {
      throw Fault(
        .usage, "a node's name is 1 to \(Limits.nodeLabelBytes) printable characters without spaces"
      )
    }
    guard let identity = NodeIdentity(cluster: cluster, node: node) else {
      throw Fault(.usage, "a node id is never 0")
    }
    guard hosts.count <= Limits.certificateHosts else {
      throw Fault(.usage, "\(hosts.count) hosts; a certificate holds \(Limits.certificateHosts)")
    }
    for host in hosts where HostAddress.bytes(host) == nil && !HostAddress.isName(host) {
      throw Fault(.usage, "\"\(host)\" is neither a host name nor an IP address")
    }
    return try sign(name: name, uri: identity.uri, hosts: hosts, days: days, at: wall)
  }

  /// Whatever URI is asked for: tests make certificates that no node would get.
  func sign(
    name: String, uri: String?, hosts: [String], days: Int, at wall: Instant
  ) throws(Fault) -> CertifiedKey {
    let authority = try X509Handle.read(pem: own.certificatePem)[0]
    let authorityKey = try KeyHandle(pem: own.keyPem)
    let end = min(try Self.end(wall, days), own.certificate.notAfter)
    guard end > wall else {
      throw Fault(.badCertificate, "the authority of \(cluster) has expired: make a new one")
    }
    let key = try KeyHandle.make()
    let draft = try CertificateDraft(
      key, commonName: name, organisation: nil,
      from: max(
        wall + .seconds(-Limits.certificateBackdateSeconds), own.certificate.notBefore),
      until: end)
    let issuer = CertificateDraft(authority)
    try draft.setIssuer(issuer)
    try draft.add(NID_basic_constraints, "critical,CA:FALSE", issuer: issuer)
    try draft.add(NID_key_usage, "critical,digitalSignature", issuer: issuer)
    try draft.add(NID_ext_key_usage, "serverAuth,clientAuth", issuer: issuer)
    try draft.add(NID_subject_key_identifier, "hash", issuer: issuer)
    try draft.add(NID_authority_key_identifier, "keyid:always", issuer: issuer)
    try draft.addNames(uri: uri, hosts: hosts)
    return try draft.signed(by: authorityKey, keeping: key)
  }

  private static func end(_ wall: Instant, _ days: Int) throws(Fault) -> Instant {
    guard (1...Limits.certificateMaximumDays).contains(days) else {
      throw Fault(.usage, "a certificate is made for 1 to \(Limits.certificateMaximumDays) days")
    }
    return wall + .seconds(Int64(days) * 86_400)
  }
}

/// A private key of libcrypto.
final class KeyHandle {
  let key: OpaquePointer
  private init(_ key: OpaquePointer) { self.key = key }
  deinit { EVP_PKEY_free(key) }

  /// EC P-256.
  static func make() throws(Fault) -> KeyHandle {
    defer { ERR_clear_error() }
    guard let context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nil) else {
      throw CertificateDraft.failure("make a key")
    }
    defer { EVP_PKEY_CTX_free(context) }
    var key: OpaquePointer?
    guard EVP_PKEY_keygen_init(context) == 1,
      EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1,
      EVP_PKEY_keygen(context, &key) == 1, let key
    else { throw CertificateDraft.failure("make a key") }
    return KeyHandle(key)
  }

  /// Throws `bad_certificate` for what is no private key, and for an encrypted one.
  init(pem: Secret) throws(Fault) {
    defer { ERR_clear_error() }
    guard let text = pem.withUnsafeBytes({ MemoryText([UInt8]($0)) }),
      let key = PEM_read_bio_PrivateKey(text.bio, nil, { _, _, _, _ in -1 }, nil)
    else { throw Fault(.badCertificate, "not an unencrypted private key (PEM)") }
    self.key = key
  }

  var pem: Secret? {
    guard let text = MemoryText(),
      PEM_write_bio_PKCS8PrivateKey(text.bio, key, nil, nil, 0, nil, nil) == 1
    else { return nil }
    var bytes = text.bytes
    defer { OPENSSL_cleanse(&bytes, bytes.count) }
    return Secret(bytes)
  }
}
