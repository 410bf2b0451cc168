/// The five bytes before each gRPC message: a compressed flag and the length, big-endian.
public enum GrpcFrame {
  public static let prefixBytes = 5

  /// What the first bytes of a buffer say.
  public enum Prefix: Equatable, Sendable {
    /// Fewer than five bytes are there.
    case incomplete
    /// A message of `length` bytes follows.
    case message(length: Int, compressed: Bool)
    /// The message would be larger than the limit: RESOURCE_EXHAUSTED.
    case tooLarge(length: Int)
    /// The flag is neither 0 nor 1: INTERNAL.
    case malformed
  }

  /// Reads a prefix. Nothing may be allocated for the message before this said `message`.
  @inlinable public static func prefix(_ bytes: UnsafeRawBufferPointer, limit: Int) -> Prefix {
    guard bytes.count >= prefixBytes else { return .incomplete }
    guard unsafe bytes[0] <= 1 else { return .malformed }
    let length = unsafe Int(
      UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
    guard length <= limit else { return .tooLarge(length: length) }
    return unsafe .message(length: length, compressed: bytes[0] == 1)
  }

  /// Writes the prefix of an uncompressed message of `length` bytes.
  @inlinable public static func writePrefix(_ length: Int, to buffer: UnsafeMutableRawBufferPointer)
  {
    precondition(length >= 0 && length <= Int(UInt32.max), "a gRPC message of \(length) bytes")
    unsafe buffer.storeBytes(of: 0, toByteOffset: 0, as: UInt8.self)
    unsafe buffer.storeBytes(of: UInt32(length).bigEndian, toByteOffset: 1, as: UInt32.self)
  }
}
