public import Base
internal import Digest

/// The address of a record: the tenant it belongs to and its id there. As text: base32 of 16 bytes.
public struct RecordAddress: Hashable, Sendable, CustomStringConvertible {
  public var tenant: TenantID
  public var record: RecordID

  public init(tenant: TenantID, record: RecordID) {
    self.tenant = tenant
    self.record = record
  }

  static let byteCount = 16
  static let textCount = 26

  var bytes: [UInt8] { bigEndianBytes(tenant.value) + bigEndianBytes(record.value) }

  public var description: String { Text.base32(bytes) }

  /// nil for every text that `description` would not write.
  public init?(_ text: String) {
    guard text.utf8.count == Self.textCount, let bytes = Text.base32Decode(text),
      bytes.count == Self.byteCount
    else { return nil }
    self.init(bytes: bytes[...])
  }

  init(bytes: ArraySlice<UInt8>) {
    self.init(
      tenant: TenantID(UInt64(bigEndianBytes: bytes.prefix(8))),
      record: RecordID(UInt64(bigEndianBytes: bytes.dropFirst(8).prefix(8))))
  }
}

/// Join request ids: `jr_` and the address, in the tenant that owns the channel.
enum JoinText {
  static let prefix = "jr_"
  static func write(_ address: RecordAddress) -> String { prefix + address.description }
  static func read(_ text: String) -> RecordAddress? {
    text.hasPrefix(prefix) ? RecordAddress(String(text.dropFirst(prefix.count))) : nil
  }
}

/// A bearer secret as it is shown once: prefix, then base32 of address (16 bytes) and 32 random bytes.
package struct Credential {
  package enum Kind: String {
    case apiKey = "sk_live_"
    case invite = "skt_inv_"
  }

  static let secretByteCount = 32
  /// base32 of 48 bytes.
  static let textCount = 77

  package let address: RecordAddress
  private let secret: [UInt8]

  package init(address: RecordAddress, secret: [UInt8]) {
    precondition(secret.count == Self.secretByteCount, "a secret of \(secret.count) bytes")
    self.address = address
    self.secret = secret
  }

  /// nil for every text but the canonical one.
  package init?(_ kind: Kind, _ text: String) {
    guard text.utf8.count == kind.rawValue.utf8.count + Self.textCount,
      text.hasPrefix(kind.rawValue),
      let bytes = Text.base32Decode(String(text.dropFirst(kind.rawValue.count))),
      bytes.count == RecordAddress.byteCount + Self.secretByteCount
    else { return nil }
    address = RecordAddress(bytes: bytes[..<RecordAddress.byteCount])
    secret = Array(bytes[RecordAddress.byteCount...])
  }

  package func text(_ kind: Kind) -> String { kind.rawValue + Text.base32(address.bytes + secret) }

  /// What is stored: SHA-256 of the secret.
  package var digest: [UInt8] { sha256(secret) }

  /// In constant time.
  package func matches(_ stored: [UInt8]) -> Bool { constantTimeEqual(digest, stored) }
}
