import Base
import Codec
import Crypto
import Messages
import Testing

@Suite("SLIM link MAC", .timeLimit(.minutes(2)))
struct SlimMacTests {
  static let linkID = Array("58a5959b-18b1-4b05-9958-35bf56be2851".utf8)
  static let header = hex(
    """
    0a3c0a2508a3c0c6bc83fcf8c2f60110ded7d4bc829abaa4491882e3daadfa91afc87b22040801100212130a0461636d\
    65120464656d6f1a05616c696365124c0a3708a3c0c6bc83fcf8c2f60110ded7d4bc829abaa44918c4e795d7b7e886d7\
    49221608ffffffffffffffffff0110ffffffffffffffffff0112110a0461636d65120464656d6f1a03626f621a026964\
    20012a05332e342e363008
    """)
  static let mac = hex("359d7c6caa0df517f6f8ca32c34f30fa747d0ca7a149ed2d4e59fa0482a01d8a")

  static func link() throws -> LinkMac {
    let mine = try LinkKeyPair(privateKey: Secret([UInt8](0..<32)))
    let theirs = try LinkKeyPair(privateKey: Secret([UInt8](100..<132)))
    return LinkMac(
      linkID: linkID, shared: try mine.shared(with: theirs.publicKey),
      start: SlimMac.start(linkID: linkID))
  }

  /// A subscribe with the vector's header.
  static var message: [UInt8] {
    let record = [10, UInt8(header.count & 0x7f | 0x80), UInt8(header.count >> 7)] + header
    return [10, UInt8(record.count & 0x7f | 0x80), UInt8(record.count >> 7)] + record
  }

  static func rest(_ bytes: [UInt8], forNextHop: Bool = false) throws -> [UInt8] {
    let e = try envelope(bytes, .slimB)
    return bytes.withUnsafeBytes {
      SlimMac.rest($0, e, header: e.header, forNextHop: forNextHop)
    }
  }

  @Test("The contract's vector, byte for byte")
  func vector() throws {
    let e = try envelope(Self.message, .slimB)
    #expect(e.header.fanout == 1 && e.header.ttl == 8 && e.header.destination?.isAny == true)
    let rest = try Self.rest(Self.message)
    let tag = try Self.link().tag(rest)
    #expect(tag.indices.map { tag[$0] } == Self.mac)
    #expect(try Self.link().verify(rest, Self.mac))
  }

  @Test("Any other tag, header or link is refused")
  func refused() throws {
    let link = try Self.link()
    let rest = try Self.rest(Self.message)
    for i in Self.mac.indices {
      var tag = Self.mac
      tag[i] ^= 0x80
      #expect(!link.verify(rest, tag))
    }
    #expect(!link.verify(rest, Array(Self.mac.dropLast())) && !link.verify(rest, []))
    #expect(!link.verify(rest, Self.mac + [0]))
    for i in rest.indices {
      var other = rest
      other[i] ^= 1
      #expect(!link.verify(other, Self.mac))
    }
    #expect(try !link.verify(Self.rest(Self.message, forNextHop: true), Self.mac))
    let shared = try LinkKeyPair(privateKey: Secret([UInt8](0..<32)))
      .shared(with: LinkKeyPair(privateKey: Secret([UInt8](100..<132))).publicKey)
    let elsewhere = LinkMac(
      linkID: [1], shared: shared, start: SlimMac.start(linkID: Self.linkID))
    #expect(!elsewhere.verify(rest, Self.mac))
  }

  /// The preimage's part, put together from the decoded header.
  static func plain(_ h: SlimBHeader) -> [UInt8] {
    func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] { bigEndianBytes(value).reversed() }
    func counted(_ text: String) -> [UInt8] { little(UInt32(text.utf8.count)) + Array(text.utf8) }
    func option(_ value: UInt64?) -> [UInt8] { value.map { [1] + little($0) } ?? [0] }
    func name(_ n: SlimBName?) -> [UInt8] {
      guard let n else { return [0] }
      var out: [UInt8] = [1]
      if let e = n.name {
        out += [1] + little(e.component0) + little(e.component1) + little(e.component2)
        out += e.nameID.map { [1] + little($0.high) + little($0.low) } ?? [0]
      } else {
        out.append(0)
      }
      guard let s = n.strName else { return out + [0] }
      return out + [1] + counted(s.strComponent0) + counted(s.strComponent1)
        + counted(s.strComponent2)
    }
    return name(h.source) + name(h.destination) + counted(h.identity) + little(h.fanout)
      + option(h.recvFrom) + option(h.forwardTo) + (h.error.map { [1, $0 ? 1 : 0] } ?? [0])
      + little(h.ttl)
  }

  @Test("Every combination of what a header may leave out")
  func combinations() throws {
    let names: [SlimBName?] = [
      nil, SlimBName(), SlimSamples.aliceB, SlimSamples.bobB,
      SlimBName(name: SlimBEncodedName(component1: 5)),
      SlimBName(name: SlimBEncodedName(component1: 5, nameID: SlimBNameId())),
      SlimBName(strName: SlimBStringName(strComponent1: "ü")),
      SlimBName(strName: SlimBStringName()),
    ]
    for source in names {
      for destination in names {
        for (i, error) in ([nil, false, true] as [Bool?]).enumerated() {
          var header = SlimBHeader(
            source: source, destination: destination, identity: i == 0 ? "" : "token",
            fanout: UInt32(i), version: "3", ttl: UInt32(i), recvFrom: i == 1 ? 0 : nil,
            forwardTo: i == 2 ? .max : nil, incomingConn: 4, error: error, headerMac: Self.mac,
            e2eHeaderSig: [1])
          let bytes = SlimSamples.publishB(header).encoded()
          #expect(try Self.rest(bytes) == Self.plain(header))
          header.recvFrom = nil
          header.forwardTo = nil
          header.ttl = header.ttl == 0 ? 0 : header.ttl - 1
          #expect(try Self.rest(bytes, forNextHop: true) == Self.plain(header))
        }
      }
    }
  }

  @Test("What is signed for the next hop is what it will see")
  func nextHop() throws {
    let link = try Self.link()
    for header in SlimForwardTests.headers() {
      let bytes = SlimSamples.publishB(header).encoded()
      let e = try envelope(bytes, .slimB)
      let made = try #require(
        bytes.withUnsafeBytes { SlimForward.frame($0, e, header: e.header, family: .slimB) })
      link.sign(made.frame, at: made.macOffset, try Self.rest(bytes, forNextHop: true))
      let message = Array(made.frame.array()[5...])
      let next = try envelope(message, .slimB)
      let mac = try #require(next.header.mac)
      let tag = Array(
        message[next.headerRecord][(next.headerRecord.lowerBound + mac.lowerBound)...].prefix(32))
      #expect(try link.verify(Self.rest(message), tag))
    }
  }

  @Test("The start holds the context and the link's id with its length")
  func start() {
    #expect(
      SlimMac.start(linkID: [0x61, 0x62])
        == Array("SLIM-DP-HDR-v1".utf8) + [0, 2, 0, 0, 0, 0x61, 0x62])
  }
}
