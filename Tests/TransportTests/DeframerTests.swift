internal import Base
internal import Grpc
import Testing

@Suite("gRPC frames", .timeLimit(.minutes(1))) struct DeframerTests {
  @Test("messages come out however the bytes are cut", arguments: [1, 3, 5, 6, 100, .max])
  func pieces(size: Int) {
    let messages = [[], [1], Array("hello".utf8), [UInt8](repeating: 7, count: 5_000), [], [9]]
    let all = messages.flatMap { framed($0).array() }
    var deframer = Deframer()
    var got: [[UInt8]] = []
    var rest = all[...]
    while !rest.isEmpty {
      let part = Array(rest.prefix(size))
      rest = rest.dropFirst(part.count)
      part.withUnsafeBytes { bytes in
        var input = bytes
        while case .message(let m) = deframer.next(&input, limit: 10_000) { got.append(Array(m)) }
      }
    }
    #expect(got == messages)
    #expect(deframer.kept == 0)
  }

  @Test("stashed bytes are cut later") func stash() {
    var deframer = Deframer()
    let two = framed([1, 2]).array() + framed([3]).array() + [0, 0]
    two.withUnsafeBytes { deframer.stash($0) }
    #expect(deframer.kept == two.count)
    var got: [[UInt8]] = []
    var none = UnsafeRawBufferPointer(start: nil, count: 0)
    while case .message(let m) = deframer.next(&none, limit: 10) { got.append(Array(m)) }
    #expect(got == [[1, 2], [3]])
    #expect(deframer.kept == 2)
  }

  @Test("limits and flags are checked before a byte is kept") func refused() {
    func step(_ bytes: [UInt8]) -> String {
      var deframer = Deframer()
      return bytes.withUnsafeBytes { all in
        var input = all
        switch deframer.next(&input, limit: 100) {
        case .needsMore: return "more"
        case .message: return "message"
        case .tooLarge(let n): return "too large \(n)"
        case .compressed: return "compressed"
        case .malformed: return "malformed"
        }
      }
    }
    #expect(step([0, 0, 0, 0, 101]) == "too large 101")
    #expect(step([0, 0x40, 0, 0, 0]) == "too large 1073741824")
    #expect(step([0, 0, 0, 0, 100]) == "more")
    #expect(step([1, 0, 0, 0, 1, 5]) == "compressed")
    #expect(step([2, 0, 0, 0, 1, 5]) == "malformed")
  }

  @Test(
    "timeouts are read and written",
    arguments: [
      ("1S", 1_000_000_000), ("99999999n", 99_999_999), ("5m", 5_000_000),
      ("2H", 7_200_000_000_000),
    ])
  func timeouts(text: String, nanoseconds: Int64) {
    let read = Array(text.utf8).withUnsafeBytes { GrpcText.timeout($0) }
    #expect(read?.nanoseconds == nanoseconds)
    let written = GrpcText.timeoutText(Interval(nanoseconds: nanoseconds))
    let again = Array(written.utf8).withUnsafeBytes { GrpcText.timeout($0) }
    #expect(again?.nanoseconds ?? 0 >= nanoseconds)
  }

  @Test(
    "malformed timeouts are refused", arguments: ["", "S", "1", "1x", "-1S", "123456789S", " 1S"])
  func badTimeouts(text: String) {
    #expect(Array(text.utf8).withUnsafeBytes { GrpcText.timeout($0) } == nil)
  }

  @Test("messages are percent-encoded both ways") func messages() {
    let text = "\t\ntest 100% ☺ 😈"
    let wire = GrpcText.percentEncode(text)
    #expect(wire.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f })
    #expect(GrpcText.percentDecode(wire) == text)
    #expect(GrpcText.percentDecode("a%zz%4") == "a%zz%4")
  }
}
