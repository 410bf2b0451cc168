import Base
import Codec
import Testing

/// Messages of four MLS implementations; long ones are cut behind their clear header.
private struct Capture: Sendable, CustomTestStringConvertible {
  var testDescription: String
  var content: MLSContent
  var epoch: UInt64
  var groupBytes: Int
  var format: UInt16
  var sender: UInt8
  var bytes: [UInt8]
}

private let captures: [Capture] = [
  Capture(
    testDescription: "an mls-rs application message", content: .application, epoch: 1,
    groupBytes: 32, format: 2,
    sender: 0,
    bytes: hex(
      """
      0001000220409348f32a4b1a643aa908239e17bc5fefcbd6aa8bb90459b2aa7ea80a8258bb000000
      000000000101001cc031cf2baf4ded2dec1b9fe513c3d99da3a892ba166c8bf8a88023714070dca0
      0ee4bffe9c45d0f4ccb90957b03b5257450af2bd39824985e6803731755df1c45a986b1e0043dfb8
      aadbd5022f113fac42a6c4c0fb09211f6f5cd8d969f8d174dd950a114be4a76dd3e3042a3589f7db
      fbc2a4e98cfacced41f3e7be3f8a5f76aa93e0c26d8182b3085d6e93ea64
      """)),
  Capture(
    testDescription: "an mls-rs commit", content: .commit, epoch: 0, groupBytes: 32, format: 1,
    sender: 1,
    bytes: hex(
      """
      0001000120409348f32a4b1a643aa908239e17bc5fefcbd6aa8bb90459b2aa7ea80a8258bb000000
      000000000001000000000003411e010001000100012059be1922659f74ac937b2dac865e5f6bfc57
      """)),
  Capture(
    testDescription: "an OpenMLS commit", content: .commit, epoch: 1, groupBytes: 2, format: 1,
    sender: 1,
    bytes: hex(
      """
      0001000102673100000000000000010100000000000341310100010001000120290c286c7845ca53
      441dbd634745fa3590c7e73f194ab08259797495dcac096e203bc4bd93e7e71b2c51bc606118d615
      """)),
  Capture(
    testDescription: "an OpenMLS external commit", content: .commit, epoch: 1, groupBytes: 2,
    format: 1,
    sender: 4,
    bytes: hex(
      """
      000100010267670000000000000001040003240100062003799bbfed74c51f306b72d4aa3355d626
      582068cf3b4037a1647098858ca23601208f7d3d76b4ef8139422314c3d4cc0fc5f112d7c470fb6c
      """)),
  Capture(
    testDescription: "an mlspp commit", content: .commit, epoch: 2, groupBytes: 8, format: 1,
    sender: 1,
    bytes: hex(
      """
      00010001081122334455667788000000000000000201000000020003220220c40dac246baeed0e04
      c3fe17997277888797f86896857e8109a5d00a02677fc10140410439af216fb126614621b71b8aee
      """)),
  Capture(
    testDescription: "an encrypted OpenMLS commit", content: .commit, epoch: 0, groupBytes: 16,
    format: 2,
    sender: 0,
    bytes: hex(
      """
      0001000210aea6ecf4db01caa9e29f28be809b575c000000000000000003001c3fa362a570266b3e
      dfee47e0c2ccd6d85fa84250434f8bba4df3645c4271384b56ec4f60c239713918c9d638ab633624
      49a85297f3b4fa964c97b43562a11dc0ae49b469a9ea909378b456432b1cd2349e9f7501e1db1efe
      9460a43790aaabdca480aae796c259039028cda9c57f8c83be1a0f83e6eae30baceaec7836151104
      56003d04da03418787ebc9f87b098ecf793dfbc924fdadd7a6471d580d44695a7fd80c5e97ed70c5
      02de7af590100e57d538132b067a6ba8c21a7c5b9cb5318f9d9164e34e7b8b7e5be54c4efeb79987
      b9b7e8bc59eea6346c9bf07e132936339361da5c8a353b22cfec610c6e9b57cb9f34d03a37a4f5a9
      f0969f3f7330b0aa8b5cbe292e7649692af3b203ee924ce0f8b940744e85a03c1eeae937af35df63
      ad0effc4c83b4f441b5ce1b957bdb51672068ae0985e72822a4b9ca96b8d6973adb9d6e0ebba9d06
      ecfffd607c2af3ab1aca40582f0bd8bed0e869a1f1177e4ab209aab31001cfed2c44871948fe8787
      8163d9777a15e39672620792ad6315e26873de2bc79b02894765ce261318669c94b61ca60b97899d
      589eef40031ae1ddd20216c9605cb718e37446145bb896e37823e6dc02980c6520a39c4266d30892
      4dcdc9a97209b1c8e60701e771de133a2d4b2dc2c89aca626982a7864de71be70db93b176308e9a4
      a96eb1621d58348bc305a90c842d41730bd004f4118c898002c0a9f365ef923d409ff4fb203bd02f
      b42587535882e4548dc7febb9cc275b49e23baf34e5b80450396acf43776db33ccdde869a119be6c
      886b32df6d174d8f5f8d0080c2654dbf6b5797ce2d7500d24bacb3c7dcb713c115a80712a5afeb51
      97b94f65b97afb788136fccdc064bbd1b592d22521f9ba007dde0c61843046c0ac94a0d404fd5187
      4da9eb1bd3527e
      """)),
  Capture(
    testDescription: "a Welcome of the published SDK", content: .other, epoch: 0, groupBytes: 0,
    format: 3,
    sender: 0,
    bytes: hex(
      """
      000100030001407620d6605efb8642931ffdc9b0f1f13c295086d72f759a702ebd82d882d65d6a70
      9c204034f67d257d92e00e52ac5579efa3a949ade748e847d5ad32881ff34e356f2c33f4c2615e45
      """)),
  Capture(
    testDescription: "an OpenMLS GroupInfo", content: .other, epoch: 0, groupBytes: 0, format: 4,
    sender: 0,
    bytes: hex(
      """
      0001000400010001026731000000000000000220a1a75c67b5ed05603b97137e476579f191515a17
      afc9f235b5f0683b7414ea7420b5b1f5c7cad643f012e4ca517de2cd7194965211d5659c0eefa7d9
      """)),
  Capture(
    testDescription: "a KeyPackage of the published SDK", content: .other, epoch: 0, groupBytes: 0,
    format: 5,
    sender: 0,
    bytes: hex(
      """
      000100050001000120f01254aead5a1006b8c694101317090e4f7175be47b18b5619eb877533723f
      372059c5da34b2ab4ee064773ca0f40d354198203ce0af84c1d63d424dbf18bf4547204ba8421b51
      """)),
]

private func read(_ bytes: [UInt8]) -> MLSHeader? { bytes.withUnsafeBytes { MLSHeader.read($0) } }

@Suite("MLS header", .timeLimit(.minutes(1)))
struct MLSHeaderTests {
  @Test("The clear header of real messages is read", arguments: captures)
  fileprivate func real(capture: Capture) throws {
    let header = try #require(read(capture.bytes))
    #expect(header.content == capture.content && header.epoch == capture.epoch)
    #expect(header.wireFormat == capture.format && header.sender == capture.sender)
    #expect(header.groupID == (capture.groupBytes == 0 ? 0..<0 : 5..<5 + capture.groupBytes))
    // A suffix of the relay changes nothing.
    #expect(read(capture.bytes + [UInt8](repeating: 0, count: 8))?.epoch == capture.epoch)
  }

  @Test("A header cut anywhere is no MLS message", arguments: captures.filter { $0.format <= 2 })
  fileprivate func cut(capture: Capture) {
    // A PublicMessage is known at its content type, a PrivateMessage at the end of its ciphertext.
    let content = 5 + capture.groupBytes + 8 + (capture.sender == 4 ? 1 : 5) + 2
    let needed = capture.format == 1 ? content : capture.bytes.count
    for n in 0..<needed { #expect(read(Array(capture.bytes.prefix(n))) == nil, "at \(n)") }
    #expect(read(Array(capture.bytes.prefix(needed))) != nil)
  }

  @Test("An application message in the padded form of newer agents is found behind its eight bytes")
  func padded() throws {
    let app = captures[0].bytes
    var random = Seeded(5)
    for _ in 0..<100 {
      let mask = UInt32(truncatingIfNeeded: random.next())
      var bytes: [UInt8] = []
      for word in [mask, mask ^ UInt32(app.count)] {
        withUnsafeBytes(of: word.littleEndian) { bytes += $0 }
      }
      bytes += app
      // No fill at all, then a usual one.
      #expect(read(bytes)?.epoch == 1)
      let header = try #require(read(bytes + random.bytes(512 - bytes.count)))
      #expect(header.content == .application && header.groupID == 13..<45)
      #expect(read(Array(bytes.dropLast())) == nil)
    }
  }

  @Test("A commit is never read behind a padding")
  func paddedCommit() {
    let commit = captures[1].bytes
    #expect(read([0, 0, 0, 0, UInt8(commit.count), 0, 0, 0] + commit) == nil)
  }

  @Test(
    "What is no MLS message is nothing",
    arguments: [
      ("empty", ""), ("version 2", "0002 0001 01aa 0000000000000001 01 00000000 00 03"),
      ("wire format 0", "0001 0000 01aa 0000000000000001 01 00000000 00 03"),
      ("wire format 6", "0001 0006 01aa 0000000000000001 01 00000000 00 03"),
      ("sender 0", "0001 0001 01aa 0000000000000001 00 00000000 00 03"),
      ("sender 5", "0001 0001 01aa 0000000000000001 05 00 03"),
      ("content type 0", "0001 0001 01aa 0000000000000001 01 00000000 00 00"),
      ("content type 4", "0001 0001 01aa 0000000000000001 01 00000000 00 04"),
      ("a length prefix 11", "0001 0001 c0000001aa 0000000000000001 01 00000000 00 03"),
      ("a length that is not the shortest", "0001 0001 4001aa 0000000000000001 01 00000000 00 03"),
      ("a length past the end", "0001 0001 bfffffffaa 0000000000000001 01 00000000 00 03"),
      ("text", "68656c6c6f2c20776f726c6420616e6420636f6d70616e79"),
      (
        "a bare key package",
        "000100012060ee94c585a7a0bb1011747c0cd690760eb17022dc1f2e5ab35ececacc55c25f20fde73f26b7e8a8b4c0ff76"
      ),
    ])
  func nothing(what: String, text: String) {
    #expect(read(hex(text)) == nil, "\(what)")
  }

  @Test("Group ids of every length class, and each sender, are read")
  func shapes() throws {
    for length in [0, 1, 63, 64, 16_383, 16_384] {
      var group: [UInt8]
      switch length {
      case ..<64: group = [UInt8(length)]
      case ..<16_384: group = [UInt8(length >> 8) | 0x40, UInt8(length & 255)]
      default:
        group = [
          UInt8(length >> 24) | 0x80, UInt8(length >> 16), UInt8(length >> 8 & 255),
          UInt8(length & 255),
        ]
      }
      let prefix = group.count
      group += [UInt8](repeating: 7, count: length)
      for sender in 1...4 as ClosedRange<UInt8> {
        let index: [UInt8] = sender <= 2 ? [0, 0, 0, 9] : []
        let bytes =
          hex("0001 0001") + group + hex("00000000000000ff") + [sender] + index + [
            2, 0xaa, 0xbb, 2,
          ]
        let header = try #require(read(bytes))
        #expect(header.content == .proposal && header.epoch == 255 && header.sender == sender)
        #expect(header.groupID == 4 + prefix..<4 + prefix + length)
      }
    }
  }
}
