#if arch(x86_64)
  import Base
  import CRocksCrc
  import Digest
  import Testing

  @testable import Store

  @Suite("The checksum of RocksDB's log") struct LogChecksumTests {
    @Test("The library calls ours") func standsIn() { #expect(rocks_crc_stands_in() == 1) }

    @Test("It is CRC-32C, also over parts (RFC 3720 appendix B.4)", arguments: [0, 1, 5, 9, 32])
    func value(cut: Int) {
      let cases: [([UInt8], UInt32)] = [
        (Array("123456789".utf8), 0xe306_9283), ([UInt8](repeating: 0, count: 32), 0x8a91_36aa),
        ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43), (Array(0..<32), 0x46dd_794e), ([], 0),
      ]
      for (bytes, expected) in cases {
        let crc = bytes.withUnsafeBytes { all in
          let chars = all.assumingMemoryBound(to: CChar.self)
          let first = min(cut, all.count)
          let part = rocks_crc_extend(0, chars.baseAddress, first)
          if first == all.count { return part }
          return rocks_crc_extend(part, chars.baseAddress! + first, all.count - first)
        }
        #expect(crc == expected)
        #expect(crc == crc32c(bytes))
      }
    }
  }
#endif
