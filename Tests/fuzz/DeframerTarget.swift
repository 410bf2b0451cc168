import Base
import Codec
import Grpc

/// Streams of gRPC frames: however they are cut, the same messages come out.
struct DeframerTarget: FuzzTarget {
  static let name = "grpc"
  static let wantedShare = 100_000
  private static let limit = 4096
  let corpus: [[UInt8]]
  let words: [[UInt8]] = [
    [0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 9], [1, 0, 0, 0, 0], [0, 0, 0, 0x10, 0],
  ]

  init() {
    func frame(_ n: Int) -> [UInt8] {
      [0] + bigEndianBytes(UInt32(n)) + (0..<n).map { UInt8(truncatingIfNeeded: $0) }
    }
    corpus = [
      frame(0), frame(1) + frame(0) + frame(2), frame(40) + frame(3), frame(300),
      frame(7) + frame(200) + frame(7),
      frame(DeframerTarget.limit), (0..<20).flatMap { frame($0) },
    ]
  }

  /// What came out: messages, then how it ended.
  private struct Result: Equatable {
    var messages: [[UInt8]] = []
    var end = "more"
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    var whole = Result()
    var one = Deframer()
    try take(&one, input, &whole)
    var pieces = Result()
    var other = Deframer()
    var rest = input
    while !rest.isEmpty, pieces.end == "more" {
      let n = 1 + random.below(min(rest.count, random.oneIn(2) ? 8 : rest.count))
      let part = UnsafeRawBufferPointer(rebasing: rest[..<n])
      rest = UnsafeRawBufferPointer(rebasing: rest[n...])
      if random.oneIn(4) {
        // The reader paused, and goes on later.
        other.stash(part)
        try take(&other, UnsafeRawBufferPointer(start: nil, count: 0), &pieces)
      } else {
        try take(&other, part, &pieces)
      }
    }
    try check(
      whole == pieces,
      "cut in pieces: \(pieces.messages.count) messages, \(pieces.end); whole: "
        + "\(whole.messages.count), \(whole.end)")
    return !whole.messages.isEmpty
  }

  private func take(
    _ deframer: inout Deframer, _ bytes: UnsafeRawBufferPointer, _ result: inout Result
  ) throws(Finding) {
    var input = bytes
    while true {
      switch deframer.next(&input, limit: DeframerTarget.limit) {
      case .needsMore:
        try check(input.isEmpty, "more is wanted and bytes are left")
        try check(deframer.kept <= Mutator.limit, "more is kept than came")
        return
      case .message(let message):
        try check(message.count <= DeframerTarget.limit, "a message over the limit")
        result.messages.append(Array(message))
      case .tooLarge(let length):
        try check(length > DeframerTarget.limit, "\(length) is not too large")
        result.end = "too large \(length)"
        return
      case .compressed:
        result.end = "compressed"
        return
      case .malformed:
        result.end = "malformed"
        return
      }
    }
  }
}
