import Base
import Codec

/// The clear header of MLS messages.
struct MLSTarget: FuzzTarget {
  static let name = "mls"
  static let wantedShare = 50_000
  let corpus: [[UInt8]]
  let words: [[UInt8]] = [
    [0, 1, 0, 1], [0, 1, 0, 2], [0, 1, 0, 3], [0x40, 0x40], [0x80, 0, 0x40, 0],
    [0xbf, 0xff, 0xff, 0xff], [0xc0],
  ]

  init() {
    var made: [[UInt8]] = []
    for length in [0, 2, 32, 63, 64, 300] {
      let group = MLSTarget.vector([UInt8](repeating: 7, count: length))
      let epoch = bigEndianBytes(UInt64(length) << 40)
      for sender in 1...4 as ClosedRange<UInt8> {
        let index: [UInt8] = sender <= 2 ? [0, 0, 0, 9] : []
        made.append(
          [0, 1, 0, 1] + group + epoch + [sender] + index + [2, 0xaa, 0xbb, sender % 3 + 1, 1, 2])
      }
      for content in 1...3 as ClosedRange<UInt8> {
        made.append(
          [0, 1, 0, 2] + group + epoch + [content] + MLSTarget.vector([1])
            + MLSTarget.vector([2, 3])
            + MLSTarget.vector([UInt8](repeating: 9, count: 90)))
      }
    }
    for format in 3...5 as ClosedRange<UInt8> {
      made.append([0, 1, 0, format, 0, 1, 0x20, 9, 9, 9])
    }
    // The padded form: mask, length XOR mask, message, fill.
    for message in made.filter({ $0[3] == 2 }) {
      let mask: UInt32 = 0x1234_5678
      let head = [mask, mask ^ UInt32(message.count)].flatMap { word in
        withUnsafeBytes(of: word.littleEndian) { Array($0) }
      }
      made.append(head + message + [UInt8](repeating: 0x55, count: 40))
    }
    corpus = made
  }

  private static func vector(_ bytes: [UInt8]) -> [UInt8] {
    bytes.count < 64
      ? [UInt8(bytes.count)] + bytes
      : [0x40 | UInt8(bytes.count >> 8), UInt8(truncatingIfNeeded: bytes.count)] + bytes
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let header = MLSHeader.read(input) else { return false }
    let group = header.groupID
    try check(group.lowerBound >= 0 && group.upperBound <= input.count, "group id at \(group)")
    try check(
      header.content != .none && (1...5).contains(header.wireFormat) && header.sender <= 4,
      "\(header)")
    try check((header.sender == 0) == (header.wireFormat != 1), "sender \(header.sender)")
    // What the relay appends changes nothing.
    let longer = Array(input) + [UInt8](repeating: 0, count: 8)
    let again = longer.withUnsafeBytes { MLSHeader.read($0) }
    try check(
      again?.content == header.content && again?.epoch == header.epoch && again?.groupID == group,
      "the suffix changes the header")
    return true
  }
}
