import Base
import Codec
import Foundation
import Messages
import Testing

/// Decoders meet bytes of strangers: whatever comes, they answer or throw.
@Suite("Damaged input", .timeLimit(.minutes(10)))
struct MutationTests {
  static let seeds: [[UInt8]] = {
    var all: [[UInt8]] = [[], hex("0a13 0a11 120f 120d 0a03 6f7267 1202 6e73 1a02 6331")]
    for place in Places.names {
      let names = [channelName("o", "n", "s")]
      all.append(
        Places.message(Places.content(place, [UInt8](repeating: 1, count: 40), participants: names))
          .encoded())
    }
    all.append(
      hex(
        "0001000220409348f32a4b1a643aa908239e17bc5fefcbd6aa8bb90459b2aa7ea80a8258bb"
          + "0000000000000001 01 00 04 01020304 02 0102"))
    all.append(hex("0001 0001 02 6731 0000000000000001 01 00000000 00 03 41310100"))
    return all
  }()

  /// Runs everything that reads a stranger's bytes; true when the view accepted them.
  @discardableResult static func read(_ bytes: [UInt8]) -> Bool {
    var accepted = false
    bytes.withUnsafeBytes { all in
      _ = MLSHeader.read(all)
      _ = GrpcFrame.prefix(all, limit: Limits.messageBytes)
      if let view = try? SlimView(all) {
        accepted = true
        _ = view.destination.channelName(in: all)
        for range in [view.payload, view.payloadType, view.identity, view.destination.stringName] {
          if let range { precondition(range.lowerBound >= 0 && range.upperBound <= all.count) }
        }
        if let built = SkytaleFrame.build(from: all, view: view) {
          // What we send on is always decodable, and keeps its payload.
          let message = built.frame.array(5..<built.frame.count)
          precondition((try? SlimAMessage(decoding: message)) != nil)
          let again = try? message.withUnsafeBytes { try SlimView($0) }
          precondition(again != nil && again?.hasRoutingCommand == false)
          if built.hasSuffix {
            let found = SkytaleFrame.payload(of: built.frame)
            precondition(found?.payload.count == view.payload?.count)
          }
        }
      }
    }
    return accepted
  }

  @Test("Every message cut at every byte")
  func truncation() {
    for seed in Self.seeds {
      for n in 0...seed.count {
        let part = Array(seed.prefix(n))
        Self.read(part)
        for type in DescriptorSet.messages { _ = try? type.init(decoding: part) }
      }
    }
  }

  /// POSTHOUSE_TEST_MUTATIONS asks for more than a hundred thousand.
  static let count =
    ProcessInfo.processInfo.environment["POSTHOUSE_TEST_MUTATIONS"].flatMap { Int($0) } ?? 100_000

  @Test("Seeded mutations trap nothing, and what the view accepts can be decoded")
  func mutations() throws {
    var random = Seeded(20_26)
    var accepted = 0
    for i in 0..<Self.count {
      let bytes = mutated(Self.seeds[random.below(Self.seeds.count)], &random)
      if Self.read(bytes) {
        accepted += 1
        #expect(throws: Never.self) { try SlimAMessage(decoding: bytes) }
      }
      let type = DescriptorSet.messages[i % DescriptorSet.messages.count]
      if let read = try? type.init(decoding: bytes) {
        let encoded = read.encoded()
        #expect(try type.init(decoding: encoded).encoded() == encoded)
      }
    }
    // Otherwise the mutations would prove little.
    #expect(accepted > Self.count / 20 && accepted < Self.count / 20 * 19, "\(accepted) accepted")
  }
}
