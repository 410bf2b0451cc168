internal import Base
internal import Glibc

/// Looks at one byte of every table before RocksDB does.
///
/// RocksDB parses a table's properties block before it checks the block's sum, and as Debian builds it a
/// failed assertion ends the process: the bit that says "this block has a hash index", which a properties
/// block never has, would do so at every start, without naming a file. Everything else in a table is summed
/// before it is parsed, and is left to RocksDB, as is whatever does not look like a table.
enum TableFiles {
  /// The footer of format version 5: checksum type, two block handles, padding, version, magic.
  private static let footerBytes = 53
  private static let handleBytes = 40
  private static let magic: UInt64 = 0x88e2_41b7_85f4_cff7
  private static let propertiesName = Array("rocksdb.properties".utf8)
  private static let hashIndexBit: UInt8 = 0x80
  /// Bytes of a block that lists a table's other blocks; a few hundred are usual.
  private static let listLimit: UInt64 = 1 << 20

  private struct Handle {
    var offset: UInt64
    var size: UInt64
  }

  /// `database` is RocksDB's directory.
  static func check(_ database: String) throws(Fault) {
    for name in listDirectory(database) where name.hasSuffix(".sst") {
      guard let last = lastByteOfProperties(database + "/" + name) else { continue }
      guard last & hashIndexBit != 0 else { continue }
      throw Fault(
        .damaged, "file \(name) is damaged: its properties block claims an index it never has")
    }
  }

  /// nil when the file does not look like a table.
  static func lastByteOfProperties(_ path: String) -> UInt8? {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var facts = stat()
    guard fstat(fd, &facts) == 0, facts.st_size >= footerBytes else { return nil }
    let fileBytes = UInt64(facts.st_size)
    func read(_ at: UInt64, _ count: Int) -> [UInt8]? {
      var bytes = [UInt8](repeating: 0, count: count)
      let n = bytes.withUnsafeMutableBytes { pread(fd, $0.baseAddress, count, off_t(at)) }
      return n == count ? bytes : nil
    }
    func isInside(_ handle: Handle) -> Bool {
      handle.size > 0 && handle.offset < fileBytes && handle.size <= fileBytes - handle.offset
    }
    guard let footer = read(fileBytes - UInt64(footerBytes), footerBytes),
      let list = listHandle(footer), isInside(list), list.size <= listLimit,
      let block = read(list.offset, Int(list.size)),
      let properties = propertiesHandle(block), isInside(properties)
    else { return nil }
    return read(properties.offset + properties.size - 1, 1)?.first
  }

  private static func listHandle(_ footer: [UInt8]) -> Handle? {
    footer.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      do throws(ReadError) {
        try reader.skip(1)
        let handle = Handle(offset: try varint(&reader), size: try varint(&reader))
        try reader.skip(1 + handleBytes + 4 - reader.position)
        return try reader.littleEndian(UInt64.self) == magic ? handle : nil
      } catch {
        return nil
      }
    }
  }

  /// Rows of a list: bytes shared with the row before (none here), key length, value length, key, value.
  private static func propertiesHandle(_ block: [UInt8]) -> Handle? {
    block.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      do throws(ReadError) {
        while !reader.atEnd {
          guard try varint(&reader) == 0 else { return nil }
          let keyBytes = try varint(&reader)
          let valueBytes = try varint(&reader)
          guard keyBytes <= reader.remaining, valueBytes <= reader.remaining else { return nil }
          let key = try reader.array(Int(keyBytes))
          if key == propertiesName {
            return Handle(offset: try varint(&reader), size: try varint(&reader))
          }
          try reader.skip(Int(valueBytes))
        }
        return nil
      } catch {
        return nil
      }
    }
  }

  private static func varint(_ reader: inout ByteReader) throws(ReadError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while shift < 64 {
      let byte = try reader.byte()
      value |= UInt64(byte & 0x7f) << shift
      if byte & 0x80 == 0 { return value }
      shift += 7
    }
    throw .malformed
  }
}
