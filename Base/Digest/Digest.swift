public import Base
internal import CDigest
internal import COpenSSL

// Digests: pure functions of bytes, so engines may use them. C is not visible from outside.

/// XXH64 (xxhash 0.8). About 10 GB/s; not collision resistant against an adversary.
public func xxh64(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
  XXH64(bytes.baseAddress, bytes.count, seed)
}

public func xxh64(_ bytes: [UInt8], seed: UInt64 = 0) -> UInt64 {
  bytes.withUnsafeBytes { xxh64($0, seed: seed) }
}

/// XXH64 of the UTF-8 of `text`.
public func xxh64(utf8 text: String, seed: UInt64 = 0) -> UInt64 {
  var text = text
  return text.withUTF8 { xxh64(UnsafeRawBufferPointer($0), seed: seed) }
}

/// SLIM's hash of one name component: XXH64, seed 0, over the UTF-8 followed by 0xFF (what Rust's
/// `str` feeds a hasher).
public func componentHash(_ text: String) -> UInt64 {
  var bytes = Array(text.utf8)
  bytes.append(0xff)
  return xxh64(bytes)
}

/// The same of UTF-8 bytes.
public func componentHash(_ text: UnsafeRawBufferPointer) -> UInt64 {
  withUnsafeTemporaryAllocation(byteCount: text.count + 1, alignment: 1) { buffer in
    buffer.copyMemory(from: text)
    buffer[text.count] = 0xff
    return xxh64(UnsafeRawBufferPointer(buffer))
  }
}

/// XXH3, 128 bits: chains archive records. Not collision resistant against an adversary.
// swift-format-ignore: AlwaysUseLowerCamelCase
public func xxh3_128(_ bytes: UnsafeRawBufferPointer) -> (high: UInt64, low: UInt64) {
  #if arch(x86_64)
    let hash = XXH3_128bits_dispatch(bytes.baseAddress, bytes.count)
  #else
    let hash = XXH3_128bits(bytes.baseAddress, bytes.count)
  #endif
  return (hash.high64, hash.low64)
}

// swift-format-ignore: AlwaysUseLowerCamelCase
public func xxh3_128(_ bytes: [UInt8]) -> (high: UInt64, low: UInt64) {
  bytes.withUnsafeBytes { xxh3_128($0) }
}

/// CRC-32C (Castagnoli, as in RFC 3720). `previous` continues an earlier result over the bytes before.
public func crc32c(_ bytes: UnsafeRawBufferPointer, continuing previous: UInt32 = 0) -> UInt32 {
  var crc = ~previous
  var rest = bytes
  // The C function counts in Int32.
  while !rest.isEmpty {
    let part = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
    // It reads only, though its parameter is not const.
    let base = UnsafeMutableRawPointer(mutating: part.baseAddress!)
    crc = crc32_iscsi(base.assumingMemoryBound(to: UInt8.self), Int32(part.count), crc)
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(part.count))
  }
  return ~crc
}

public func crc32c(_ bytes: [UInt8], continuing previous: UInt32 = 0) -> UInt32 {
  bytes.withUnsafeBytes { crc32c($0, continuing: previous) }
}

/// SHA-256 (FIPS 180-4): 32 bytes.
public func sha256(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
  [UInt8](unsafeUninitializedCapacity: 32) { out, count in
    // The low-level one-shot: no provider fetch, no allocation. An empty buffer may have no address.
    var nothing: UInt8 = 0
    if let base = bytes.baseAddress {
      SHA256(base.assumingMemoryBound(to: UInt8.self), bytes.count, out.baseAddress!)
    } else {
      SHA256(&nothing, 0, out.baseAddress!)
    }
    count = 32
  }
}

public func sha256(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { sha256($0) } }

public func sha256(_ bytes: Bytes) -> [UInt8] { bytes.withUnsafeBytes { sha256($0) } }

public func sha256(utf8 text: String) -> [UInt8] { sha256(Array(text.utf8)) }

/// HMAC-SHA-256 (RFC 2104): 32 bytes. About 1 us and a few allocations.
public func hmacSHA256(key: UnsafeRawBufferPointer, _ data: UnsafeRawBufferPointer) -> [UInt8] {
  precondition(key.count <= Int(Int32.max), "HMAC key of \(key.count) bytes")
  // With no key address the C function would take the key of an earlier call: give it one always.
  var nothing: UInt8 = 0
  return withUnsafePointer(to: &nothing) { empty in
    [UInt8](unsafeUninitializedCapacity: 32) { out, count in
      let made = HMAC(
        EVP_sha256(), key.baseAddress ?? UnsafeRawPointer(empty), Int32(key.count),
        data.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? empty, data.count,
        out.baseAddress!,
        nil)
      precondition(made != nil, "HMAC-SHA-256 failed in libcrypto")
      count = 32
    }
  }
}

public func hmacSHA256(key: [UInt8], _ data: [UInt8]) -> [UInt8] {
  key.withUnsafeBytes { k in data.withUnsafeBytes { d in hmacSHA256(key: k, d) } }
}

/// Equal, in a time that depends on the lengths only. Different lengths are unequal.
public func constantTimeEqual(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
  guard a.count == b.count else { return false }
  guard let x = a.baseAddress, let y = b.baseAddress else { return true }
  return CRYPTO_memcmp(x, y, a.count) == 0
}

public func constantTimeEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
  a.withUnsafeBytes { x in b.withUnsafeBytes { y in constantTimeEqual(x, y) } }
}
