import Base
import Codec
import Testing

@testable import Relay

@Suite("The header of a message on its way")
struct SlimHeaderRecordTests {
  /// A publish of family A with the destination 1/2/3 and fanout 2: prefix, Publish, header, names.
  private let frame: [UInt8] = {
    let name: [UInt8] = [10, 6, 8, 1, 16, 2, 24, 3]
    let header = [10, UInt8(name.count)] + name + [18, UInt8(name.count)] + name + [24, 2]
    let publish = [10, UInt8(header.count)] + header
    let message = [26, UInt8(publish.count)] + publish
    return [0, 0, 0, 0, UInt8(message.count)] + message
  }()

  @Test("It is known again, and a changed one is not")
  func repeats() throws {
    let first = try #require(SlimHeaderRecord.of(Bytes(frame), .slimA, nil).record)
    #expect(first.fanout == 2)
    #expect(SlimHeaderRecord.of(Bytes(frame), .slimA, first).repeats)
    var other = frame
    other[other.count - 1] = 1
    let changed = SlimHeaderRecord.of(Bytes(other), .slimA, first)
    #expect(!changed.repeats && changed.record?.fanout == 1)
  }

  @Test("The same bytes at the same place inside something else are no header")
  func elsewhere() throws {
    let first = try #require(SlimHeaderRecord.of(Bytes(frame), .slimA, nil).record)
    var hidden = frame
    // An unknown field of the message in place of the publish.
    hidden[GrpcFrame.prefixBytes] = 15 << 3 | 2
    #expect(!SlimHeaderRecord.of(Bytes(hidden), .slimA, first).repeats)
  }
}
