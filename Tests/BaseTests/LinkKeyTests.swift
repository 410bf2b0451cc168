import Base
import Crypto
import Digest
import Testing

@Suite("Link keys", .timeLimit(.minutes(1)))
struct LinkKeyTests {
  private static func bytes(_ hex: String) throws -> [UInt8] { try #require(Text.hexDecode(hex)) }

  @Test("X25519 agrees with the vector of the wire")
  func agreement() throws {
    let a = try LinkKeyPair(privateKey: Secret([UInt8](0..<32)))
    let b = try LinkKeyPair(privateKey: Secret([UInt8](100..<132)))
    #expect(
      a.publicKey
        == (try Self.bytes("8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f")))
    #expect(
      b.publicKey
        == (try Self.bytes("7d9c24316539825c1896e57f28197746793ce60cbee3ad47da9d07b85fa55e2a")))
    let shared = try Self.bytes("3ae143fb898911b4591769dc17ca01775cc4cad4d05b8f33a39c79e30fa63a72")
    #expect(try a.shared(with: b.publicKey).equals(shared))
    #expect(try b.shared(with: a.publicKey).equals(shared))
  }

  @Test("Fresh pairs differ and agree")
  func fresh() throws {
    let (a, b) = (LinkKeyPair(), LinkKeyPair())
    #expect(a.publicKey != b.publicKey && a.publicKey.count == 32)
    let shared = try a.shared(with: b.publicKey).withUnsafeBytes { Array($0) }
    #expect(try b.shared(with: a.publicKey).equals(shared))
    #expect(try !a.shared(with: a.publicKey).equals(shared))
  }

  @Test("Keys of another length and of small order are refused")
  func refused() throws {
    let pair = LinkKeyPair()
    var one = [UInt8](repeating: 0, count: 32)
    let zero = one
    one[0] = 1
    // Order 8.
    let eight = try Self.bytes("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
    for key in [[], zero, one, eight, Array(pair.publicKey.dropLast()), pair.publicKey + [0]] {
      #expect(throws: Fault.self) { try pair.shared(with: key) }
    }
    #expect(throws: Fault.self) { try LinkKeyPair(privateKey: Secret([1, 2, 3])) }
    // A refusal leaves nothing behind that the next one trips over.
    #expect(try pair.shared(with: LinkKeyPair().publicKey).count == 32)
  }

  @Test("The MAC is HMAC-SHA-256 under the derived key, at every length around a block")
  func hmac() throws {
    let linkID = Array("58a5959b-18b1-4b05-9958-35bf56be2851".utf8)
    let shared = Secret(
      try Self.bytes("3ae143fb898911b4591769dc17ca01775cc4cad4d05b8f33a39c79e30fa63a72"))
    let key = try Self.bytes("d2aab721141d51163480913eec68206b0a490fa4c2d63c3f679946b57f2f99c2")
    for startCount in [0, 1, 55, 63, 64, 65, 200] {
      let start = [UInt8](repeating: 0xaa, count: startCount)
      let link = LinkMac(linkID: linkID, shared: shared, start: start)
      for count in [0, 1, 54, 55, 56, 63, 64, 65, 300] {
        let rest = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        let wanted = hmacSHA256(key: key, start + rest)
        let tag = link.tag(rest)
        #expect(tag.indices.map { tag[$0] } == wanted)
        #expect(link.verify(rest, wanted))
        let frame = Bytes([UInt8](repeating: 1, count: 40))
        link.sign(frame, at: 5, rest)
        #expect(frame.array() == [1, 1, 1, 1, 1] + wanted + [1, 1, 1])
      }
    }
  }

  @Test("An empty link id is an HKDF salt like any other")
  func emptyLinkID() {
    let link = LinkMac(linkID: [], shared: Secret([1]), start: [])
    let key = hmacSHA256(
      key: hmacSHA256(key: [], [1]), Array("SLIM-DP-inter-node-hmac-v1".utf8) + [1])
    #expect(link.verify([2], hmacSHA256(key: key, [2])))
  }
}
