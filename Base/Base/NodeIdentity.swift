/// Who a certificate of a cluster says a node is. Bounds are those of its parts; nothing here says that the
/// certificate was believed: whoever hands it out says so.
public struct NodeIdentity: Hashable, Sendable, CustomStringConvertible {
  /// `[a-z0-9-]{1,63}`.
  public let cluster: String
  /// Never `none`.
  public let node: NodeID
  /// The subject's common name, at most `Limits.nodeLabelBytes` bytes; empty when it has none that fits. For
  /// people: nothing is decided by it.
  public var name: String
  /// The certificate's serial number, lower-case hex.
  public var serial: String
  /// Wall clock: the certificate holds from the first to the second.
  public var notBefore: Instant
  public var notAfter: Instant

  /// nil when the cluster's name or the node id cannot be.
  public init?(
    cluster: String, node: NodeID, name: String = "", serial: String = "",
    notBefore: Instant = .zero, notAfter: Instant = .distantFuture
  ) {
    guard isOrgName(cluster), node != .none else { return nil }
    self.cluster = cluster
    self.node = node
    self.name = isNodeName(name) ? name : ""
    self.serial = serial
    self.notBefore = notBefore
    self.notAfter = notAfter
  }

  static let scheme = "posthouse://"
  private static let middle = "/node/"

  /// What stands in the certificate: `posthouse://CLUSTER/node/` and 16 hex digits in lower case.
  public var uri: String { Self.scheme + cluster + Self.middle + node.description }

  /// nil for anything but that one form.
  public init?(uri: String) {
    // Longer ones are not even looked at.
    guard uri.utf8.count <= 128, uri.hasPrefix(Self.scheme) else { return nil }
    let parts = uri.dropFirst(Self.scheme.count).utf8.split(
      separator: 0x2f, omittingEmptySubsequences: false)
    guard parts.count == 3, parts[1].elementsEqual("node".utf8),
      let node = NodeID(hex: String(decoding: parts[2], as: UTF8.self))
    else { return nil }
    self.init(cluster: String(decoding: parts[0], as: UTF8.self), node: node)
  }

  /// True for URIs that speak of clusters at all.
  public static func isOurs(uri: String) -> Bool { uri.hasPrefix(scheme) }

  /// `n1 (00ab12cd34ef5678) of posthouse`.
  public var description: String {
    (name.isEmpty ? "" : name + " ") + "(\(node)) of \(cluster)"
  }
}

extension NodeID {
  /// 16 hex digits in lower case, not all zero: the only written form.
  public init?(hex: String) {
    guard hex.utf8.count == 16, let bytes = Text.hexDecode(hex), Text.hex(bytes) == hex else {
      return nil
    }
    self.init(UInt64(bigEndianBytes: bytes))
    if self == .none { return nil }
  }
}

/// Names of nodes: 1 to `Limits.nodeLabelBytes` bytes of printable ASCII without spaces, so that a name stands
/// unquoted in a log line, a command line and a certificate.
public func isNodeName(_ text: String) -> Bool {
  (1...Limits.nodeLabelBytes).contains(text.utf8.count)
    && text.utf8.allSatisfy { (0x21...0x7e).contains($0) }
}
