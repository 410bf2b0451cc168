import Base
import Codec
import Crypto
import Slim

/// Our half of a link's negotiation.
struct SlimLinkAnswer {
  let frame: Bytes
  /// What the messages of the link are signed with; nil in family A.
  let mac: LinkMac?

  /// - Throws: `.badRequest` for a link_id or a key that is none.
  init(
    _ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope, _ family: Family, nodeName: String
  ) throws(Fault) {
    guard envelope.link.linkID.count <= Limits.slimLinkIDBytes else {
      throw Fault(.badRequest, "a link_id of \(envelope.link.linkID.count) bytes")
    }
    let id = unsafe [UInt8](UnsafeRawBufferPointer(rebasing: bytes[envelope.link.linkID]))
    var mac: LinkMac?
    var ours: [UInt8]?
    if family == .slimB, let range = envelope.link.publicKey {
      let theirs = unsafe [UInt8](UnsafeRawBufferPointer(rebasing: bytes[range]))
      let pair = LinkKeyPair()
      do {
        mac = LinkMac(
          linkID: id, shared: try pair.shared(with: theirs), start: SlimMac.start(linkID: id))
      } catch {
        throw Fault(.badRequest, "the Link's public key is no X25519 key")
      }
      ours = pair.publicKey
    }
    self.mac = mac
    frame = SlimAnswer.linkReply(
      linkID: id, version: SlimLinkAnswer.version, publicKey: ours, nodeID: nodeName,
      // An app of family B connects anew only if the link is what it said it is: its edge.
      connectionType: family == .slimB ? envelope.link.connectionType : nil)
  }

  /// The SLIM core version we present: apps want one they can parse.
  static let version = "2.3.0"
}
