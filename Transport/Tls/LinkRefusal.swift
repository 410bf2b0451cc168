public import Loop
internal import Report

/// Why a link's handshake came to nothing.
public struct LinkRefusal: Error, Sendable, CustomStringConvertible {
  public enum Reason: String, Sendable, CaseIterable {
    case noCertificate = "no_certificate"
    case expired
    case notYetValid = "not_yet_valid"
    /// Signed by somebody else than our cluster's authority.
    case otherAuthority = "other_authority"
    case otherCluster = "other_cluster"
    /// The certificate holds no node's URI, or several.
    case noNode = "no_node"
    /// A node, but not the one that was called.
    case otherNode = "other_node"
    /// Damaged, or made for another purpose.
    case badCertificate = "bad_certificate"
    /// Not TLS, not TLS 1.3, or not h2.
    case otherProtocol = "other_protocol"
    /// The peer refused us, and said so in an alert.
    case refusedByPeer = "refused_by_peer"
    /// The connection ended in the middle.
    case ended
    case other
  }

  public let reason: Reason
  public let peer: PeerAddress
  /// One line for a log; names in it come from the certificate, made printable.
  public let description: String
}

/// Refusals since the context was made, by reason. Cold: a lock is enough.
final class RefusalCounts: Sendable {
  private let counts = Lock([Int](repeating: 0, count: LinkRefusal.Reason.allCases.count))

  func add(_ reason: LinkRefusal.Reason) {
    let place = LinkRefusal.Reason.allCases.firstIndex(of: reason)!
    counts.withLock { $0[place] += 1 }
  }

  var all: [(reason: LinkRefusal.Reason, count: Int)] {
    Array(zip(LinkRefusal.Reason.allCases, counts.withLock { $0 })).map { ($0, $1) }
  }
}
