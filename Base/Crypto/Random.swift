internal import COpenSSL

/// Random bytes from libcrypto's generator. Never fails: without randomness nothing here is safe, so the
/// process ends.
public enum Random {
  public static func bytes(_ count: Int) -> [UInt8] {
    precondition(count >= 0 && count <= 1 << 20, "asked for \(count) random bytes")
    return [UInt8](unsafeUninitializedCapacity: count) { out, filled in
      if count > 0 {
        precondition(
          RAND_bytes(out.baseAddress!, Int32(count)) == 1, "no randomness from libcrypto")
      }
      filled = count
    }
  }

  public static func uint64() -> UInt64 {
    bytes(8).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
  }
}
