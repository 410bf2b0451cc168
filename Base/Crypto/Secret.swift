internal import COpenSSL
internal import Digest

/// Bytes that must not be shown: every description is `<secret>`, the memory is zeroed when the last copy
/// of the value goes. (Copies that a caller makes of the bytes are the caller's.)
public struct Secret: Sendable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  private final class Storage: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer
    init(_ from: UnsafeRawBufferPointer) {
      bytes = .allocate(byteCount: max(from.count, 1), alignment: 1)
      bytes.copyMemory(from: from)
      count = from.count
    }
    let count: Int
    deinit {
      OPENSSL_cleanse(bytes.baseAddress, bytes.count)
      bytes.deallocate()
    }
  }

  private let storage: Storage

  public init(_ bytes: [UInt8]) {
    storage = bytes.withUnsafeBytes { Storage($0) }
  }

  public static func random(_ count: Int) -> Secret { Secret(Random.bytes(count)) }

  public var count: Int { storage.count }

  public func withUnsafeBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try body(UnsafeRawBufferPointer(rebasing: storage.bytes.prefix(storage.count)))
  }

  /// In constant time.
  public func equals(_ other: [UInt8]) -> Bool {
    withUnsafeBytes { mine in other.withUnsafeBytes { constantTimeEqual(mine, $0) } }
  }

  public var description: String { "<secret>" }
  public var debugDescription: String { "<secret>" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}
