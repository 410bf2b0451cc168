internal import COpenSSL

/// Ed25519 (RFC 8032), verification only.
public enum Ed25519 {
  public static let keyBytes = 32
  public static let signatureBytes = 64

  /// False for anything that is not a signature of `message` under `key`, malformed input included.
  public static func verify(signature: [UInt8], of message: [UInt8], key: [UInt8]) -> Bool {
    guard key.count == keyBytes, signature.count == signatureBytes,
      let parsed = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, key, key.count)
    else {
      ERR_clear_error()
      return false
    }
    defer { EVP_PKEY_free(parsed) }
    guard let context = EVP_MD_CTX_new() else { return false }
    defer {
      EVP_MD_CTX_free(context)
      ERR_clear_error()
    }
    guard EVP_DigestVerifyInit(context, nil, nil, nil, parsed) == 1 else { return false }
    return EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
  }
}
