import Base
import Testing

@testable import Codec
@testable import Messages

@Suite("A SLIM publish at a glance") struct SlimGlanceTests {
  private func glance(_ bytes: [UInt8], known: [UInt8]) -> SlimGlance? {
    bytes.withUnsafeBytes { all in known.withUnsafeBytes { SlimGlance(all, knownHeader: $0) } }
  }

  /// Publishes as apps send them, without metadata, and their header's record.
  private static let plain: [(Family, [UInt8])] = [
    (.slimB, SlimSamples.publishB(metadata: [:]).encoded()),
    (.slimA, withoutMetadata(SlimSamples.publishA()).encoded()),
  ]

  private static func withoutMetadata(_ message: SlimAMessage) -> SlimAMessage {
    var bare = message
    bare.metadata = [:]
    return bare
  }

  private func record(_ bytes: [UInt8], _ family: Family) throws -> [UInt8] {
    Array(bytes[try envelope(bytes, family).headerRecord])
  }

  @Test("The common form is seen, with what the whole reading finds") func common() throws {
    for (family, bytes) in Self.plain {
      let whole = try envelope(bytes, family)
      let seen = try #require(glance(bytes, known: try record(bytes, family)))
      #expect(seen.headerAt == whole.headerRecord.lowerBound)
      #expect(seen.sessionType == whole.sessionType)
      #expect(seen.messageType == whole.messageType && seen.messageID == whole.messageID)
      #expect(seen.isMulticast == whole.isMulticast)
    }
  }

  @Test("Other forms are not") func others() throws {
    for (family, bytes) in Self.plain {
      let known = try record(bytes, family)
      #expect(glance(bytes, known: []) == nil)
      #expect(glance(bytes, known: known + [0]) == nil)
      for at in known.indices {
        var other = known
        other[at] ^= 1
        #expect(glance(bytes, known: other) == nil)
      }
      for cut in 0..<bytes.count { #expect(glance(Array(bytes[..<cut]), known: known) == nil) }
      #expect(glance(bytes + [0x22, 0], known: known) == nil)
    }
    let command = SlimSamples.publishB(
      SlimSamples.headerB(), SlimSamples.commandB(SlimSamples.commandsB[0]), metadata: [:]
    ).encoded()
    #expect(glance(command, known: try record(command, .slimB)) == nil)
  }

  @Test("What is seen at a glance the whole reading accepts, with the same values")
  func agrees() throws {
    var random = Seeded(77)
    var seen = 0
    let known = try Self.plain.map { try record($1, $0) }
    for round in 0..<60_000 {
      let which = round % Self.plain.count
      let (family, seed) = Self.plain[which]
      // Behind the header, where all that is read at a glance stands; now and then anywhere.
      let start = round % 7 == 0 ? 0 : try envelope(seed, family).headerRecord.upperBound
      var bytes = Array(seed[..<start]) + mutated(Array(seed[start...]), &random)
      if round % 3 == 0, bytes.count < 16_384, bytes.count > 3 {
        // Its outer length is right again, so that what stands inside decides.
        bytes = rewrapped(bytes)
      }
      guard let glance = glance(bytes, known: known[which]) else { continue }
      seen += 1
      let whole = try envelope(bytes, family, known: known[which])
      #expect(whole.kind == .publish && whole.headerIsKnown)
      #expect(whole.headerRecord.lowerBound == glance.headerAt)
      #expect(whole.sessionType == glance.sessionType)
      #expect(whole.messageType == glance.messageType && whole.messageID == glance.messageID)
      #expect(whole.isToGroup == glance.isToGroup)
    }
    #expect(seen > 300)
  }

  /// With the publish's length written anew.
  private func rewrapped(_ bytes: [UInt8]) -> [UInt8] {
    let body = Array(bytes[(bytes[1] < 0x80 ? 2 : 3)...])
    let length: [UInt8] =
      body.count < 0x80
      ? [UInt8(body.count)] : [UInt8(body.count & 0x7f) | 0x80, UInt8(body.count >> 7)]
    return [26] + length + body
  }
}
