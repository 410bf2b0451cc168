public import Base
internal import COpenSSL
internal import Glibc

/// What an X.509 certificate says (RFC 5280), as far as a cluster needs it. Read from bytes of any origin; that it
/// can be read says nothing about whether to believe it.
public struct Certificate: Sendable, Hashable {
  /// The common name, `?` without one.
  public let subject: String
  public let issuer: String
  /// May sign certificates.
  public let isAuthority: Bool
  /// Of an authority that says so: the cluster it signs for.
  public let cluster: String?
  /// The node that it names: exactly one URI of the form `NodeIdentity.uri`, and no authority.
  public let node: NodeIdentity?
  /// Names and addresses in it, in its order, at most `Limits.certificateHosts`.
  public let hosts: [String]
  /// Lower-case hex.
  public let serial: String
  /// Wall clock; the certificate holds from the first to the second.
  public let notBefore: Instant
  public let notAfter: Instant

  /// Throws `bad_certificate` for bytes that are no certificate.
  public init(der: [UInt8]) throws(Fault) {
    let handle = der.withUnsafeBufferPointer { bytes -> X509Handle? in
      var at = bytes.baseAddress
      guard !bytes.isEmpty, let x509 = d2i_X509(nil, &at, bytes.count) else { return nil }
      let handle = X509Handle(x509)
      return at == bytes.baseAddress! + bytes.count ? handle : nil
    }
    ERR_clear_error()
    guard let handle else { throw Fault(.badCertificate, "not an X.509 certificate") }
    try self.init(handle)
  }

  /// The certificates of a PEM text, in their order; what else is in it is passed over. Throws `bad_certificate`
  /// when there is none, or one that cannot be read.
  public static func read(pem: [UInt8]) throws(Fault) -> [Certificate] {
    var found: [Certificate] = []
    for handle in try X509Handle.read(pem: pem) { found.append(try Certificate(handle)) }
    return found
  }

  init(_ handle: X509Handle) throws(Fault) {
    defer { ERR_clear_error() }
    let x509 = handle.x509
    guard let start = wallClock(X509_get0_notBefore(x509)),
      let end = wallClock(X509_get0_notAfter(x509))
    else { throw Fault(.badCertificate, "the certificate's dates cannot be read") }
    notBefore = start
    notAfter = end
    subject = commonName(X509_get_subject_name(x509))
    issuer = commonName(X509_get_issuer_name(x509))
    serial = hexSerial(X509_get0_serialNumber(x509))
    isAuthority = X509_check_ca(x509) == 1
    let names = AlternativeNames(x509)
    hosts = names.hosts
    let ours = names.uris.filter { NodeIdentity.isOurs(uri: $0) }
    let only = ours.count == 1 ? ours[0] : ""
    cluster = isAuthority ? ClusterAuthority.cluster(uri: only) : nil
    node =
      isAuthority
      ? nil
      : NodeIdentity(uri: only).flatMap {
        NodeIdentity(
          cluster: $0.cluster, node: $0.node, name: commonName(X509_get_subject_name(x509)),
          serial: hexSerial(X509_get0_serialNumber(x509)), notBefore: start, notAfter: end)
      }
  }

  /// Where a certificate stands in its life.
  public enum Age: String, Sendable {
    case notYetValid = "not_yet_valid"
    case valid
    /// Less than `Limits.certificateWarningDays`, or than a third of its life, is left.
    case endsSoon = "ends_soon"
    case expired
  }

  public func age(at wall: Instant) -> Age {
    if wall < notBefore { return .notYetValid }
    if wall > notAfter { return .expired }
    let third = Interval(nanoseconds: (notAfter - notBefore).nanoseconds / 3)
    return notAfter - wall < min(.seconds(Limits.certificateWarningDays * 86_400), third)
      ? .endsSoon : .valid
  }
}

/// One X.509 certificate of libcrypto.
final class X509Handle {
  let x509: OpaquePointer
  init(_ x509: OpaquePointer) { self.x509 = x509 }
  deinit { X509_free(x509) }

  /// Those of a PEM text; at least one.
  static func read(pem: [UInt8]) throws(Fault) -> [X509Handle] {
    guard pem.count <= Limits.certificateFileBytes, let text = MemoryText(pem) else {
      throw Fault(.badCertificate, "\(pem.count) bytes are no file of certificates")
    }
    defer { ERR_clear_error() }
    var found: [X509Handle] = []
    while let x509 = PEM_read_bio_X509(text.bio, nil, nil, nil) { found.append(X509Handle(x509)) }
    // At the end of the text there is no further first line; anything else is damage.
    let trouble = ERR_peek_last_error()
    guard ERR_GET_REASON(trouble) == PEM_R_NO_START_LINE else {
      throw Fault(.badCertificate, "a certificate in the file is damaged")
    }
    guard !found.isEmpty else {
      throw Fault(.badCertificate, "the file holds no certificate (PEM)")
    }
    return found
  }

  var pem: [UInt8]? {
    guard let text = MemoryText(), PEM_write_bio_X509(text.bio, x509) == 1 else { return nil }
    return text.bytes
  }
}

/// A memory BIO. Its bytes are wiped when it goes.
final class MemoryText {
  let bio: OpaquePointer
  /// What a reading one reads from.
  private let held: UnsafeMutablePointer<UInt8>?
  private let count: Int

  init?() {
    guard let bio = BIO_new(BIO_s_mem()) else { return nil }
    self.bio = bio
    held = nil
    count = 0
  }

  init?(_ bytes: [UInt8]) {
    let held = UnsafeMutablePointer<UInt8>.allocate(capacity: max(bytes.count, 1))
    held.initialize(from: bytes, count: bytes.count)
    guard let bio = BIO_new_mem_buf(held, Int32(clamping: bytes.count)) else {
      held.deallocate()
      return nil
    }
    self.bio = bio
    self.held = held
    count = bytes.count
  }

  deinit {
    BIO_free(bio)
    if let held {
      OPENSSL_cleanse(held, count)
      held.deallocate()
    }
  }

  /// What was written.
  var bytes: [UInt8] {
    var start: UnsafeMutableRawPointer?
    let n = BIO_ctrl(bio, BIO_CTRL_INFO, 0, &start)
    guard n > 0, let start else { return [] }
    return [UInt8](UnsafeRawBufferPointer(start: start, count: n))
  }
}

/// The subject's alternative names that we read.
private struct AlternativeNames {
  var uris: [String] = []
  var hosts: [String] = []

  init(_ x509: OpaquePointer) {
    guard let raw = X509_get_ext_d2i(x509, NID_subject_alt_name, nil, nil) else { return }
    let names = OpaquePointer(raw)
    defer { posthouse_names_free(names) }
    for i in 0..<min(posthouse_names_count(names), Int32(4 * Limits.certificateHosts)) {
      var start: UnsafePointer<UInt8>?
      var count: Int32 = 0
      let type = posthouse_name_at(names, i, &start, &count)
      guard let start, count > 0 else { continue }
      let bytes = Array(UnsafeBufferPointer(start: start, count: Int(count)))
      switch type {
      case GEN_URI: uris.append(printable(bytes))
      case GEN_DNS: add(printable(bytes))
      case GEN_IPADD: if let text = HostAddress.text(bytes) { add(text) }
      default: break
      }
    }
  }

  private mutating func add(_ host: String) {
    if hosts.count < Limits.certificateHosts { hosts.append(host) }
  }
}

/// Bytes as text; what is no printable ASCII becomes `?`, so that no name steers a terminal or looks like another.
private func printable(_ bytes: [UInt8]) -> String {
  String(decoding: bytes.map { (0x20...0x7e).contains($0) ? $0 : 0x3f }, as: UTF8.self)
}

private func commonName(_ name: OpaquePointer?) -> String {
  let at = X509_NAME_get_index_by_NID(name, NID_commonName, -1)
  guard at >= 0, let text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)) else {
    return "?"
  }
  var utf8: UnsafeMutablePointer<UInt8>?
  let count = ASN1_STRING_to_UTF8(&utf8, text)
  guard count >= 0, let utf8 else { return "?" }
  defer { CRYPTO_free(utf8, #file, #line) }
  return printable(Array(UnsafeBufferPointer(start: utf8, count: min(Int(count), 256))))
}

private func hexSerial(_ serial: UnsafePointer<ASN1_INTEGER>?) -> String {
  guard let serial, let bytes = ASN1_STRING_get0_data(serial) else { return "" }
  let count = min(max(Int(ASN1_STRING_length(serial)), 0), 32)
  return Text.hex(UnsafeBufferPointer(start: bytes, count: count))
}

/// Saturates where nanoseconds end, in the year 2262.
private func wallClock(_ time: UnsafePointer<ASN1_TIME>?) -> Instant? {
  var parts = tm()
  guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return nil }
  let seconds = timegm(&parts)
  let (nanoseconds, over) = Int64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
  if over { return seconds < 0 ? Instant(nanoseconds: .min) : .distantFuture }
  return Instant(nanoseconds: nanoseconds)
}
