import Base
import Digest
import Testing

@Suite(.timeLimit(.minutes(1))) struct DigestTests {
  @Test(
    "A component's hash is XXH64 over its UTF-8 and 0xFF, as SLIM's peers compute it",
    arguments: [
      ("acme", 0xf685_e3e0_3791_a023 as UInt64), ("org", 0x873e_5803_76ea_963b),
      ("default", 0x2193_03c7_c93f_9668), ("agntcy", 0x169c_a82e_b17d_6bc2),
      ("chan", 0x45a0_b09d_105d_cd87),
    ])
  func component(name: String, hash: UInt64) { #expect(componentHash(name) == hash) }

  @Test("XXH64 of nothing and of a seed are those of its specification")
  func xxh() {
    #expect(xxh64([]) == 0xef46_db37_51d8_e999)
    #expect(xxh64([], seed: 1) == 0xd5af_ba13_36a3_be4b)
    #expect(xxh64(utf8: "abc") == 0x44bc_2cf5_ad77_0999)
    #expect(xxh64(utf8: "abc") == xxh64(Array("abc".utf8)))
  }

  @Test("XXH3-128 of nothing is that of its specification, and one bit changes it")
  func xxh3() {
    let empty = xxh3_128([])
    #expect(empty.high == 0x99aa_06d3_0147_98d8)
    #expect(empty.low == 0x6001_c324_468d_497f)
    #expect(xxh3_128([1]) != xxh3_128([0]))
  }

  @Test(
    "CRC-32C gives the vectors of RFC 3720, appendix B.4",
    arguments: [
      (Array("123456789".utf8), 0xe306_9283), ([], 0),
      ([UInt8](repeating: 0, count: 32), 0x8a91_36aa),
      ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43), ([UInt8](0..<32), 0x46dd_794e),
    ] as [([UInt8], UInt32)])
  func crc(bytes: [UInt8], sum: UInt32) {
    #expect(crc32c(bytes) == sum)
    for cut in 0...bytes.count {
      let front = crc32c(Array(bytes[..<cut]))
      #expect(crc32c(Array(bytes[cut...]), continuing: front) == sum)
    }
  }

  @Test(
    "SHA-256 gives the vectors of FIPS 180-4",
    arguments: [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ])
  func sha(text: String, hex: String) {
    #expect(Text.hex(sha256(utf8: text)) == hex)
    #expect(Text.hex(sha256(Bytes(Array(text.utf8)))) == hex)
  }

  @Test("HMAC-SHA-256 gives the vectors of RFC 4231, and of an empty key and message")
  func hmac() {
    let first = hmacSHA256(key: [UInt8](repeating: 0x0b, count: 20), Array("Hi There".utf8))
    #expect(
      Text.hex(first) == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    let second = hmacSHA256(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8))
    #expect(
      Text.hex(second) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    let long = hmacSHA256(
      key: [UInt8](repeating: 0xaa, count: 131),
      Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8))
    #expect(Text.hex(long) == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    #expect(
      Text.hex(hmacSHA256(key: [], []))
        == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
  }

  @Test("Constant-time equality agrees with equality")
  func equal() {
    #expect(constantTimeEqual([], []))
    #expect(constantTimeEqual([1, 2, 3], [1, 2, 3]))
    #expect(!constantTimeEqual([1, 2, 3], [1, 2, 4]))
    #expect(!constantTimeEqual([1, 2, 3], [1, 2]))
  }

  @Test("A channel id is fixed by family and name, and its families never share one")
  func channelID() {
    let id = ChannelID(family: .skytale, name: "acme/ops/room")
    #expect(id.high == xxh64(utf8: "acme/ops/room"))
    let digest = sha256([1] + Array("acme/ops/room".utf8) + bigEndianBytes(id.high))
    #expect(bigEndianBytes(id.low) == Array(digest[..<8]))
    let other = ChannelID(family: .slimA, name: "acme/ops/room")
    #expect(other.high == id.high && other.low != id.low)
    #expect(TenantID(org: "acme").value == xxh64(utf8: "acme"))
  }
}
