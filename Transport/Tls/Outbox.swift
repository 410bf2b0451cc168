internal import COpenSSL
internal import Loop

/// What TLS has made and the socket has not taken. OpenSSL writes here in place of the socket.
/// SAFETY: the memory is this object's; OpenSSL's BIO points at it, and goes with the SSL object, which its owner frees
/// before this goes or never writes to again.
final class Outbox {
  private let held: UnsafeMutablePointer<posthouse_outbox>
  private var sent = 0

  nonisolated(unsafe) private static let method = posthouse_outbox_method()

  /// nil when memory is out: OpenSSL goes on writing to the socket itself.
  init?(_ ssl: OpaquePointer) {
    guard let method = Outbox.method, let bio = BIO_new(method) else { return nil }
    held = .allocate(capacity: 1)
    held.initialize(to: posthouse_outbox(bytes: nil, used: 0, room: 0))
    BIO_set_data(bio, held)
    SSL_set0_wbio(ssl, bio)
  }

  deinit {
    posthouse_outbox_free(held)
    held.deallocate()
  }

  var count: Int { held.pointee.used - sent }
  var isEmpty: Bool { count == 0 }

  /// - Returns: 0 when all is on the socket, `Wire.later`, or `Wire.broken`.
  func send(to descriptor: Int32) -> Int {
    while sent < held.pointee.used {
      let rest = UnsafeRawBufferPointer(start: held.pointee.bytes + sent, count: count)
      let n = Wire.send(rest, to: descriptor)
      if n < 0 { return n }
      sent += n
    }
    held.pointee.used = 0
    sent = 0
    return 0
  }
}
