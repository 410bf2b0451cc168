/// Header fields in order of arrival, names in lower case: two allocations however many there are.
public struct HeaderFields: Sendable {
  private struct Field {
    var name: Int32
    var value: Int32
    var end: Int32
  }
  private var bytes: [UInt8] = []
  private var fields: [Field] = []

  public init() {}

  public init(_ list: [(String, String)]) {
    for (name, value) in list { append(name, value) }
  }

  public var count: Int { fields.count }
  /// Octets as SETTINGS_MAX_HEADER_LIST_SIZE counts them: names, values and 32 each.
  public var listBytes: Int { bytes.count + 32 * fields.count }

  public mutating func append(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    let start = Int32(bytes.count)
    bytes.append(contentsOf: name)
    let middle = Int32(bytes.count)
    bytes.append(contentsOf: value)
    fields.append(Field(name: start, value: middle, end: Int32(bytes.count)))
  }

  public mutating func append(_ name: String, _ value: String) {
    var n = name
    var v = value
    n.withUTF8 { n in
      v.withUTF8 { v in append(UnsafeRawBufferPointer(n), UnsafeRawBufferPointer(v)) }
    }
  }

  private func isName(_ f: Field, _ name: StaticString) -> Bool {
    let count = Int(f.value - f.name)
    guard count == name.utf8CodeUnitCount else { return false }
    return bytes.withUnsafeBufferPointer { all in
      for i in 0..<count where all[Int(f.name) + i] != name.utf8Start[i] { return false }
      return true
    }
  }

  /// The first value of a field, without making a string: nil when it is missing.
  public func withValue<R>(of name: StaticString, _ body: (UnsafeRawBufferPointer) -> R) -> R? {
    for f in fields where isName(f, name) {
      return bytes.withUnsafeBytes {
        body(UnsafeRawBufferPointer(rebasing: $0[Int(f.value)..<Int(f.end)]))
      }
    }
    return nil
  }

  public func contains(_ name: StaticString) -> Bool { fields.contains { isName($0, name) } }

  /// The first value. `name` in lower case.
  public subscript(_ name: String) -> String? {
    for f in fields where bytes[Int(f.name)..<Int(f.value)].elementsEqual(name.utf8) {
      return String(decoding: bytes[Int(f.value)..<Int(f.end)], as: UTF8.self)
    }
    return nil
  }

  /// Every value of a field.
  public func all(_ name: String) -> [String] {
    fields.filter { bytes[Int($0.name)..<Int($0.value)].elementsEqual(name.utf8) }
      .map { String(decoding: bytes[Int($0.value)..<Int($0.end)], as: UTF8.self) }
  }

  /// Names and values as strings.
  public var list: [(name: String, value: String)] {
    fields.map {
      (
        String(decoding: bytes[Int($0.name)..<Int($0.value)], as: UTF8.self),
        String(decoding: bytes[Int($0.value)..<Int($0.end)], as: UTF8.self)
      )
    }
  }

  public mutating func removeAll() {
    bytes = []
    fields = []
  }

  /// Calls `body` with pointers that die with the call.
  func forEach(_ body: (UnsafeBufferPointer<UInt8>, UnsafeBufferPointer<UInt8>) -> Void) {
    bytes.withUnsafeBufferPointer { all in
      for f in fields {
        body(
          UnsafeBufferPointer(rebasing: all[Int(f.name)..<Int(f.value)]),
          UnsafeBufferPointer(rebasing: all[Int(f.value)..<Int(f.end)]))
      }
    }
  }
}
