public import Base
internal import CToml
internal import Glibc

/// A TOML document as a flat list of dotted keys, each with its line. Tables inside arrays and dates
/// are kept as what no setting takes.
public struct TomlDocument: Sendable, Equatable {
  public enum Value: Sendable, Equatable {
    case string(String)
    case integer(Int64)
    case float(String)
    case boolean(Bool)
    case array([Value])
    case other

    /// For messages: as it stands in the file, shortened.
    var shown: String {
      switch self {
      case .string(let text): "\"\(text.count > 60 ? text.prefix(60) + "..." : text[...])\""
      case .integer(let number): "\(number)"
      case .float(let text): String(text.prefix(60))
      case .boolean(let flag): flag ? "true" : "false"
      case .array: "a list of other things"
      case .other: "a date, a time or a table in a list"
      }
    }
  }
  public struct Item: Sendable, Equatable {
    public var key: String
    public var line: Int
    public var value: Value
  }
  /// Bytes of a document at most; larger ones are refused.
  public static let maximumBytes = 1 << 20

  public var items: [Item]

  /// Throws `bad_setting` with `name:line:column: why`.
  public init(_ bytes: [UInt8], name: String) throws(Fault) {
    guard bytes.count <= TomlDocument.maximumBytes else {
      throw Fault(.badSetting, "\(name) is larger than \(TomlDocument.maximumBytes) bytes")
    }
    var out: UnsafeMutablePointer<UInt8>?
    var length = 0
    let failed = bytes.withUnsafeBytes { raw in
      ctoml_parse(
        raw.baseAddress?.assumingMemoryBound(to: CChar.self) ?? emptyText, raw.count, &out, &length)
    }
    guard let out else { throw Fault(.internal, "no memory to read \(name)") }
    defer { free(out) }
    let flat = UnsafeRawBufferPointer(start: out, count: length)
    if failed != 0 {
      throw Fault(.badSetting, "\(name):\(String(decoding: flat, as: UTF8.self))")
    }
    do {
      items = try TomlDocument.read(flat)
    } catch {
      throw Fault(.internal, "\(name) was not read: \(error)")
    }
  }

  private static func read(_ flat: UnsafeRawBufferPointer) throws(ReadError) -> [Item] {
    var reader = ByteReader(flat)
    var items: [Item] = []
    while !reader.atEnd {
      let (type, item, text) = try one(&reader)
      guard type == UInt8(ascii: "[") else {
        items.append(item)
        continue
      }
      var array = item
      var elements: [Value] = []
      for _ in 0..<(Int(text) ?? 0) { elements.append(try one(&reader).1.value) }
      array.value = .array(elements)
      items.append(array)
    }
    return items
  }

  private static func one(_ reader: inout ByteReader) throws(ReadError) -> (UInt8, Item, String) {
    let type = try reader.byte()
    let line = Int(try reader.littleEndian(UInt32.self))
    let key = String(
      decoding: try reader.take(Int(try reader.littleEndian(UInt32.self))), as: UTF8.self)
    let text = String(
      decoding: try reader.take(Int(try reader.littleEndian(UInt32.self))), as: UTF8.self)
    let value: Value =
      switch type {
      case UInt8(ascii: "s"): .string(text)
      case UInt8(ascii: "i"): Int64(text).map { .integer($0) } ?? .other
      case UInt8(ascii: "f"): .float(text)
      case UInt8(ascii: "b"): .boolean(text == "true")
      default: .other
      }
    return (type, Item(key: key, line: line, value: value), text)
  }
}

/// What C gets for an empty document: a pointer that is never read.
nonisolated(unsafe) private let emptyText: UnsafePointer<CChar> = {
  let text = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
  text.pointee = 0
  return UnsafePointer(text)
}()
