public import Base
internal import COpenSSL
internal import Digest

/// An ephemeral X25519 key pair (RFC 7748), for one link.
public struct LinkKeyPair: Sendable {
  /// Bytes of a private key, a public key and a shared secret.
  public static let keyBytes = 32

  public let publicKey: [UInt8]
  private let privateKey: Secret

  public init() {
    // Any 32 bytes are a private key, and libcrypto has a public one for it.
    let key = Secret.random(Self.keyBytes)
    guard let publicKey = Self.publicKey(of: key) else {
      preconditionFailure("X25519 failed in libcrypto")
    }
    self.publicKey = publicKey
    privateKey = key
  }

  /// For tests with known keys.
  public init(privateKey: Secret) throws(Fault) {
    guard privateKey.count == Self.keyBytes, let publicKey = Self.publicKey(of: privateKey) else {
      throw Fault(.badRequest, "a private key of \(privateKey.count) bytes")
    }
    self.publicKey = publicKey
    self.privateKey = privateKey
  }

  /// What both ends of the link know. Throws for a key of another length and for one of small order, with which the
  /// secret would be known to everybody.
  public func shared(with peer: [UInt8]) throws(Fault) -> Secret {
    guard peer.count == Self.keyBytes, let shared = derive(peer) else {
      throw Fault(.badRequest, "the link's public key is not an X25519 key")
    }
    return shared
  }

  private static func publicKey(of key: Secret) -> [UInt8]? {
    // What failed stays in the thread's error queue, where TLS would find it.
    defer { ERR_clear_error() }
    guard let pair = pair(key) else { return nil }
    defer { EVP_PKEY_free(pair) }
    var made = [UInt8](repeating: 0, count: keyBytes)
    var count = made.count
    guard EVP_PKEY_get_raw_public_key(pair, &made, &count) == 1, count == keyBytes else {
      return nil
    }
    return made
  }

  private static func pair(_ key: Secret) -> OpaquePointer? {
    key.withUnsafeBytes {
      EVP_PKEY_new_raw_private_key(
        EVP_PKEY_X25519, nil, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), $0.count)
    }
  }

  private func derive(_ peer: [UInt8]) -> Secret? {
    defer { ERR_clear_error() }
    guard let mine = Self.pair(privateKey) else { return nil }
    defer { EVP_PKEY_free(mine) }
    guard let theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nil, peer, peer.count) else {
      return nil
    }
    defer { EVP_PKEY_free(theirs) }
    guard let context = EVP_PKEY_CTX_new(mine, nil) else { return nil }
    defer { EVP_PKEY_CTX_free(context) }
    var made = [UInt8](repeating: 0, count: Self.keyBytes)
    defer { OPENSSL_cleanse(&made, made.count) }
    var count = made.count
    guard EVP_PKEY_derive_init(context) == 1,
      EVP_PKEY_derive_set_peer(context, theirs) == 1,
      // Refuses the secret of all zeros itself.
      EVP_PKEY_derive(context, &made, &count) == 1, count == Self.keyBytes
    else { return nil }
    return Secret(made)
  }
}

/// The MAC of a link: HMAC-SHA-256 under a key that both ends derived.
///
/// Both hash states are kept as they are after the key, the inner one after `start` too, so that a tag costs the
/// blocks of `rest` and one more. Never changed after it was made: any thread may use it.
public final class LinkMac: @unchecked Sendable {
  public static let tagBytes = 32
  private static let blockBytes = 64
  private static let info = "SLIM-DP-inter-node-hmac-v1"

  /// The inner state, then the outer one. They stand for the key, so they are wiped at the end.
  private let states: UnsafeMutablePointer<SHA256_CTX>

  /// `start` is what every message's preimage begins with on this link.
  public init(linkID: [UInt8], shared: Secret, start: [UInt8]) {
    states = .allocate(capacity: 2)
    states.initialize(repeating: SHA256_CTX(), count: 2)
    // HKDF (RFC 5869) with one block of output.
    var extracted = linkID.withUnsafeBytes { salt in
      shared.withUnsafeBytes { hmacSHA256(key: salt, $0) }
    }
    var key = hmacSHA256(key: extracted, Array(Self.info.utf8) + [1])
    var pad = [UInt8](repeating: 0x36, count: Self.blockBytes)
    for i in key.indices { pad[i] ^= key[i] }
    posthouse_sha256_init(states)
    posthouse_sha256_update(states, pad, pad.count)
    posthouse_sha256_update(states, start, start.count)
    for i in pad.indices { pad[i] ^= 0x36 ^ 0x5c }
    posthouse_sha256_init(states + 1)
    posthouse_sha256_update(states + 1, pad, pad.count)
    OPENSSL_cleanse(&pad, pad.count)
    OPENSSL_cleanse(&key, key.count)
    OPENSSL_cleanse(&extracted, extracted.count)
  }

  deinit {
    OPENSSL_cleanse(states, 2 * MemoryLayout<SHA256_CTX>.stride)
    states.deallocate()
  }

  /// The tag of `start` followed by `rest`. Allocates nothing.
  public func tag(_ rest: UnsafeRawBufferPointer) -> InlineArray<32, UInt8> {
    var tag = InlineArray<32, UInt8>(repeating: 0)
    withUnsafeMutableBytes(of: &tag) { put(rest, $0.baseAddress!) }
    return tag
  }

  public func tag(_ rest: [UInt8]) -> InlineArray<32, UInt8> { rest.withUnsafeBytes { tag($0) } }

  /// Writes the tag over the 32 bytes at `offset` of a frame that is not shared yet.
  public func sign(_ frame: Bytes, at offset: Int, _ rest: [UInt8]) {
    precondition(
      offset >= 0 && offset <= frame.count - Self.tagBytes, "a MAC's place outside the frame")
    rest.withUnsafeBytes { put($0, frame.base + offset) }
  }

  /// In constant time. False for a tag of another length.
  public func verify(_ rest: [UInt8], _ tag: UnsafeRawBufferPointer) -> Bool {
    let right = self.tag(rest)
    return withUnsafeBytes(of: right) { constantTimeEqual($0, tag) }
  }

  public func verify(_ rest: [UInt8], _ tag: [UInt8]) -> Bool {
    tag.withUnsafeBytes { verify(rest, $0) }
  }

  private func put(_ rest: UnsafeRawBufferPointer, _ to: UnsafeMutableRawPointer) {
    posthouse_sha256_hmac(states, rest.baseAddress, rest.count, to)
  }
}
