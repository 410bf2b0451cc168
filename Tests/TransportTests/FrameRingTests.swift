import Base
import Testing

@testable import Http

@Suite("The queue of a stream")
struct FrameRingTests {
  private func frame(_ byte: UInt8, _ count: Int, hole: Int = 0) -> Bytes {
    let made = Bytes([UInt8](repeating: byte, count: count))
    if hole > 0 { made.makeHole(at: hole) }
    return made
  }

  private func filling(_ byte: UInt8) -> HoleFilling { HoleFilling(InlineArray(repeating: byte)) }

  private func drain(_ ring: inout FrameRing, _ n: Int) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: n)
    out.withUnsafeMutableBytes { ring.drain(n, into: $0.baseAddress!) }
    return out
  }

  @Test(
    "A hole is filled for each receiver, however the bytes are cut", arguments: [1, 3, 7, 40, 100])
  func holes(_ step: Int) {
    let shared = frame(1, 50, hole: 10)
    var ring = FrameRing()
    for i in 0..<9 as Range<UInt8> {
      ring.push(shared, filling(100 + i))
      ring.push(frame(2, 5))
    }
    var all: [UInt8] = []
    while ring.bytes > 0 { all += drain(&ring, min(step, ring.bytes)) }
    var wanted: [UInt8] = []
    for i in 0..<9 as Range<UInt8> {
      wanted += [UInt8](repeating: 1, count: 10) + [UInt8](repeating: 100 + i, count: 32)
      wanted += [UInt8](repeating: 1, count: 8) + [UInt8](repeating: 2, count: 5)
    }
    #expect(all == wanted)
  }

  @Test("The oldest go first, but not what has begun to leave or is promised")
  func dropOldest() {
    var ring = FrameRing()
    for i in 0..<10 as Range<UInt8> { ring.push(frame(i, 40, hole: 4), filling(100 + i)) }
    _ = drain(&ring, 10)
    // 30 of frame 0 are left, and 20 bytes into frame 1 are promised.
    #expect(ring.dropOldest(to: 150, sparing: 50) == 6)
    #expect(ring.bytes == 150)
    let rest = drain(&ring, 150)
    #expect(rest[29] == 0 && rest[30] == 1 && rest[40] == 101 && rest[69] == 1)
    #expect(rest[70] == 8 && rest[80] == 108 && rest[110] == 9 && rest[120] == 109)
    #expect(ring.bytes == 0)
    ring.push(frame(7, 40, hole: 4), filling(9))
    #expect(drain(&ring, 40)[5] == 9)
  }

  @Test("Nothing is dropped when everything is promised, and all when nothing is")
  func bounds() {
    var ring = FrameRing()
    for i in 0..<3 as Range<UInt8> { ring.push(frame(i, 10)) }
    #expect(ring.dropOldest(to: 0, sparing: 30) == 0)
    #expect(ring.dropOldest(to: 30, sparing: 0) == 0)
    #expect(ring.dropOldest(to: 0, sparing: 0) == 3)
    #expect(ring.bytes == 0)
  }
}
