internal import Base
internal import COpenSSL

/// A certificate being made. Every failure is libcrypto's want of memory or a defect here.
struct CertificateDraft {
  private let handle: X509Handle
  private var x509: OpaquePointer { handle.x509 }

  /// Version 3, a random serial number, the key and the dates.
  init(
    _ key: KeyHandle, commonName: String, organisation: String?, from start: Instant,
    until end: Instant
  ) throws(Fault) {
    guard let x509 = X509_new() else { throw Self.failure("make a certificate") }
    handle = X509Handle(x509)
    guard X509_set_version(x509, Int(X509_VERSION_3)) == 1, Self.setSerial(x509),
      X509_set_pubkey(x509, key.key) == 1,
      Self.set(X509_getm_notBefore(x509), start), Self.set(X509_getm_notAfter(x509), end),
      Self.set(x509, NID_organizationName, organisation), Self.set(x509, NID_commonName, commonName)
    else { throw Self.failure("make a certificate") }
  }

  /// One that is there already: the issuer of others.
  init(_ handle: X509Handle) { self.handle = handle }

  private static func setSerial(_ x509: OpaquePointer) -> Bool {
    // 127 random bits: positive, as RFC 5280 section 4.1.2.2 wants it, and never a second time.
    var bytes = Random.bytes(16)
    bytes[0] = bytes[0] & 0x7f | 0x40
    guard let number = BN_bin2bn(bytes, Int32(bytes.count), nil) else { return false }
    defer { BN_free(number) }
    return BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != nil
  }

  /// Whole seconds.
  private static func set(_ time: UnsafeMutablePointer<ASN1_TIME>?, _ wall: Instant) -> Bool {
    ASN1_TIME_set(time, Int(wall.nanoseconds / 1_000_000_000)) != nil
  }

  private static func set(_ x509: OpaquePointer, _ field: Int32, _ text: String?) -> Bool {
    guard let text else { return true }
    let utf8 = Array(text.utf8)
    return X509_NAME_add_entry_by_NID(
      X509_get_subject_name(x509), field, MBSTRING_FLAG | 0, utf8, Int32(utf8.count), -1, 0) == 1
  }

  func setIssuer(_ issuer: CertificateDraft) throws(Fault) {
    guard X509_set_issuer_name(x509, X509_get_subject_name(issuer.x509)) == 1 else {
      throw Self.failure("name the issuer")
    }
  }

  /// `value` in OpenSSL's notation; only constants are given here, so that nothing can be smuggled into it.
  func add(_ extension: Int32, _ value: StaticString, issuer: CertificateDraft) throws(Fault) {
    var context = X509V3_CTX()
    posthouse_x509_context(&context, issuer.x509, x509)
    guard let made = X509V3_EXT_conf_nid(nil, &context, `extension`, "\(value)") else {
      throw Self.failure("add \(value)")
    }
    defer { X509_EXTENSION_free(made) }
    guard X509_add_ext(x509, made, -1) == 1 else { throw Self.failure("add \(value)") }
  }

  /// The subject's alternative names. Bytes as they are: no notation is parsed.
  func addNames(uri: String?, hosts: [String]) throws(Fault) {
    if uri == nil, hosts.isEmpty { return }
    guard let names = posthouse_names_new() else { throw Self.failure("add names") }
    defer { posthouse_names_free(names) }
    var all: [(Int32, [UInt8])] = uri.map { [(GEN_URI, Array($0.utf8))] } ?? []
    for host in hosts {
      if let address = HostAddress.bytes(host) {
        all.append((GEN_IPADD, address))
      } else {
        all.append((GEN_DNS, Array(host.utf8)))
      }
    }
    for (type, bytes) in all
    where posthouse_names_add(names, type, bytes, Int32(bytes.count)) != 1 {
      throw Self.failure("add names")
    }
    guard
      X509_add1_ext_i2d(x509, NID_subject_alt_name, UnsafeMutableRawPointer(names), 0, 0) == 1
    else { throw Self.failure("add names") }
  }

  func signed(by issuer: KeyHandle, keeping key: KeyHandle) throws(Fault) -> CertifiedKey {
    guard X509_sign(x509, issuer.key, EVP_sha256()) > 0, let certificatePem = handle.pem,
      let keyPem = key.pem
    else { throw Self.failure("sign a certificate") }
    return CertifiedKey(
      certificate: try Certificate(handle), certificatePem: certificatePem, keyPem: keyPem)
  }

  static func failure(_ act: String) -> Fault {
    ERR_clear_error()
    return Fault(.badCertificate, "libcrypto could not \(act)")
  }
}
