// Varints and counted runs of our own formats. One form per value: longer ones are refused, so that what decodes
// encodes to the same bytes.

extension ByteWriter {
  /// LEB128: seven bits a byte, the lowest first; 1 to 10 bytes.
  public mutating func append(varint value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    append(UInt8(truncatingIfNeeded: rest))
  }

  /// A varint count, then the bytes.
  public mutating func append(counted bytes: [UInt8]) {
    append(varint: UInt64(bytes.count))
    append(bytes)
  }

  /// A varint count of UTF-8 bytes, then they.
  public mutating func append(countedUTF8 text: String) {
    append(varint: UInt64(text.utf8.count))
    append(utf8: text)
  }
}

extension ByteReader {
  /// LEB128 in its shortest form.
  public mutating func varint() throws(ReadError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let next = try byte()
      // The tenth byte holds one bit; a last byte of zero would be a second form.
      if shift == 63 && next > 1 || next == 0 && shift > 0 { throw .malformed }
      value |= UInt64(next & 0x7f) << shift
      if next < 0x80 { return value }
      shift += 7
    }
  }

  /// A varint of at most `most`.
  public mutating func varint(atMost most: Int) throws(ReadError) -> Int {
    let value = try varint()
    guard let small = Int(exactly: value), small <= most else { throw .malformed }
    return small
  }

  /// Bytes behind their count, which is at most `most`.
  public mutating func counted(atMost most: Int) throws(ReadError) -> [UInt8] {
    try array(varint(atMost: most))
  }

  /// UTF-8 text behind its count of bytes, which is at most `most`.
  public mutating func countedUTF8(atMost most: Int) throws(ReadError) -> String {
    let bytes = try counted(atMost: most)
    guard let text = String(validating: bytes, as: UTF8.self) else { throw .malformed }
    return text
  }
}
