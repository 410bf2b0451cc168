import Base
import Crypto
import Digest
import Grpc
import Loop
import Settings

/// Proof that a caller owns the peer_id it names: an Ed25519 signature in the metadata of the call.
///
/// `posthouse-proof: TIME.SIGNATURE`, TIME in nanoseconds since 1970 and SIGNATURE 128 hex digits, over
/// the text `posthouse registry 1`, the method's path, the peer_id, TIME and the SHA-256 of the request in
/// hex, each followed by a line feed. The key is in the peer_id (libp2p: base58 of an identity multihash).
/// A time that is not later than the last one used for that peer_id, or five minutes off, is refused.
final class PeerProofs {
  static let field = "posthouse-proof"
  private static let window: Int64 = 300 * 1_000_000_000
  private let mode: NodeSettings.Proof
  private var lastTimes: [String: Int64] = [:]
  private static let most = 200_000

  init(_ mode: NodeSettings.Proof) { self.mode = mode }

  /// True: the call is proved. False: unsigned, which is in order. Throws for what must be refused.
  func check(_ call: GrpcCall, peerID: String, request: [UInt8]) throws(Fault) -> Bool {
    if mode == .off { return false }
    guard let text = call.metadata(PeerProofs.field) else {
      if mode == .required {
        throw Fault(.unauthorized, "this relay wants calls signed with the key of the peer_id")
      }
      return false
    }
    try verify(text, call.path, peerID, request, wall: call.loop.now.wall.nanoseconds)
    return true
  }

  func verify(
    _ text: String, _ path: String, _ peerID: String, _ request: [UInt8], wall: Int64
  ) throws(Fault) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, let time = Int64(parts[0]),
      let signature = PeerProofs.bytes(ofHex: String(parts[1])), signature.count == 64
    else { throw Fault(.unauthorized, "posthouse-proof is TIME.SIGNATURE") }
    guard let key = PeerProofs.key(of: peerID) else {
      throw Fault(.unauthorized, "the peer_id holds no Ed25519 key")
    }
    let (age, over) = wall.subtractingReportingOverflow(time)
    guard !over, abs(age) <= PeerProofs.window, time > lastTimes[peerID] ?? .min else {
      throw Fault(.unauthorized, "the time of the proof is too old, too new or used before")
    }
    let message = PeerProofs.message(path, peerID, time, request)
    guard Ed25519.verify(signature: signature, of: message, key: key) else {
      throw Fault(.unauthorized, "the signature is not that of the peer_id's key")
    }
    if lastTimes.count >= PeerProofs.most {
      lastTimes = lastTimes.filter { $0.value > wall - PeerProofs.window }
      // All of them recent: older proofs could come again, so newer ones wait.
      if lastTimes.count >= PeerProofs.most { throw Fault(.rateLimited) }
    }
    lastTimes[peerID] = time
  }

  static func message(_ path: String, _ peerID: String, _ time: Int64, _ request: [UInt8])
    -> [UInt8]
  {
    let digest = sha256(request).map { byte in
      let text = String(byte, radix: 16)
      return text.utf8.count == 1 ? "0" + text : text
    }.joined()
    return Array("posthouse registry 1\n\(path)\n\(peerID)\n\(time)\n\(digest)\n".utf8)
  }

  static func bytes(ofHex text: String) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0, digits.count <= 256 else { return nil }
    var out: [UInt8] = []
    for i in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[i...i + 1], as: UTF8.self), radix: 16) else {
        return nil
      }
      out.append(byte)
    }
    return out
  }

  /// The Ed25519 key inside `12D3KooW...`: base58btc of 00 24 08 01 12 20 and 32 bytes.
  static func key(of peerID: String) -> [UInt8]? {
    guard peerID.utf8.count <= 64, let bytes = base58(peerID), bytes.count == 38,
      Array(bytes[..<6]) == [0x00, 0x24, 0x08, 0x01, 0x12, 0x20]
    else { return nil }
    return Array(bytes[6...])
  }

  private static let alphabet = Array(
    "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".utf8)

  private static func base58(_ text: String) -> [UInt8]? {
    var number: [UInt8] = []
    for character in text.utf8 {
      guard var carry = alphabet.firstIndex(of: character) else { return nil }
      for i in number.indices {
        carry += Int(number[i]) * 58
        number[i] = UInt8(carry & 255)
        carry >>= 8
      }
      while carry > 0 {
        number.append(UInt8(carry & 255))
        carry >>= 8
      }
    }
    let zeros = text.utf8.prefix { $0 == UInt8(ascii: "1") }.count
    return Array(repeating: 0, count: zeros) + number.reversed()
  }
}
