internal import Glibc

/// Header fields in order of arrival, names in lower case: one allocation for those of a usual call.
public struct HeaderFields: @unchecked Sendable {
  @usableFromInline struct Head {
    @usableFromInline var bytes: Int
    var capacity: Int
  }
  /// A field: the lengths of its name and of its value, four bytes each, and both. Changed only while one value holds
  /// it.
  @usableFromInline final class Storage: ManagedBuffer<Head, UInt8> {}
  @usableFromInline var storage: Storage?
  public private(set) var count = 0
  private static let prefix = 8
  /// Room for the fields of a usual call, so that the first one makes room for all.
  private static let usualBytes = 288

  public init() {}

  public init(_ list: [(String, String)]) {
    for (name, value) in list { append(name, value) }
  }

  private var byteCount: Int { storage.map { $0.header.bytes } ?? 0 }

  /// Octets as SETTINGS_MAX_HEADER_LIST_SIZE counts them: names, values and 32 each.
  public var listBytes: Int { byteCount &+ (32 &- HeaderFields.prefix) &* count }

  public mutating func append(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    let room = HeaderFields.prefix &+ name.count &+ value.count
    if !isKnownUniquelyReferenced(&storage) || byteCount &+ room > storage!.header.capacity {
      grow(by: room)
    }
    let lengths = UInt64(UInt32(name.count)) | UInt64(UInt32(value.count)) << 32
    storage.unsafelyUnwrapped.withUnsafeMutablePointers { head, bytes in
      let to = UnsafeMutableRawPointer(bytes) + head.pointee.bytes
      to.storeBytes(of: lengths.littleEndian, as: UInt64.self)
      if let from = name.baseAddress { memcpy(to + HeaderFields.prefix, from, name.count) }
      if let from = value.baseAddress {
        memcpy(to + HeaderFields.prefix + name.count, from, value.count)
      }
      head.pointee.bytes &+= room
    }
    count &+= 1
  }

  private mutating func grow(by room: Int) {
    let held = byteCount
    let capacity = max(HeaderFields.usualBytes, 2 * held, held + room)
    let made = Storage.create(minimumCapacity: capacity) { _ in
      Head(bytes: held, capacity: capacity)
    }
    let next = unsafeDowncast(made, to: Storage.self)
    next.withUnsafeMutablePointerToElements { to in
      storage?.withUnsafeMutablePointerToElements { to.update(from: $0, count: held) }
    }
    storage = next
  }

  @inlinable func withBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
    guard let storage else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    return storage.withUnsafeMutablePointers {
      body(UnsafeRawBufferPointer(start: $1, count: $0.pointee.bytes))
    }
  }

  public mutating func append(_ name: String, _ value: String) {
    var n = name
    var v = value
    n.withUTF8 { n in
      v.withUTF8 { v in append(UnsafeRawBufferPointer(n), UnsafeRawBufferPointer(v)) }
    }
  }

  /// Calls `body` with each field's name and where its value stands, until it says true.
  @inline(__always)
  private func search(
    _ body: (_ name: UnsafeRawBufferPointer, _ value: Range<Int>) -> Bool
  ) {
    withBytes { all in
      var at = 0
      while at < all.count {
        let lengths = UInt64(littleEndian: all.loadUnaligned(fromByteOffset: at, as: UInt64.self))
        let middle = at &+ HeaderFields.prefix &+ Int(lengths & 0xffff_ffff)
        let end = middle &+ Int(lengths >> 32)
        let name = UnsafeRawBufferPointer(rebasing: all[at &+ HeaderFields.prefix..<middle])
        if body(name, middle..<end) { return }
        at = end
      }
    }
  }

  /// Where the first value of a field stands; empty and at the front: it is missing.
  @usableFromInline func place(of name: StaticString) -> Range<Int> {
    var place = 0..<0
    search { found, value in
      guard found.count == name.utf8CodeUnitCount,
        memcmp(found.baseAddress.unsafelyUnwrapped, name.utf8Start, found.count) == 0
      else { return false }
      place = value
      return true
    }
    return place
  }

  /// The first value of a field, without making a string: nil when it is missing.
  @inlinable
  public func withValue<R>(of name: StaticString, _ body: (UnsafeRawBufferPointer) -> R) -> R? {
    let place = place(of: name)
    if place.upperBound == 0 { return nil }
    return withBytes { body(UnsafeRawBufferPointer(rebasing: $0[place])) }
  }

  public func contains(_ name: StaticString) -> Bool { place(of: name).upperBound > 0 }

  /// The first value. `name` in lower case.
  public subscript(_ name: String) -> String? {
    var place: Range<Int>?
    search { found, value in
      guard found.elementsEqual(name.utf8) else { return false }
      place = value
      return true
    }
    return place.map { place in withBytes { String(decoding: $0[place], as: UTF8.self) } }
  }

  /// Every value of a field.
  public func all(_ name: String) -> [String] {
    var values: [String] = []
    forEach { found, value in
      if found.elementsEqual(name.utf8) { values.append(String(decoding: value, as: UTF8.self)) }
    }
    return values
  }

  /// Names and values as strings.
  public var list: [(name: String, value: String)] {
    var list: [(name: String, value: String)] = []
    forEach {
      list.append((String(decoding: $0, as: UTF8.self), String(decoding: $1, as: UTF8.self)))
    }
    return list
  }

  public mutating func removeAll() {
    storage = nil
    count = 0
  }

  private func forEach(_ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void) {
    withBytes { all in
      search { name, value in
        body(name, UnsafeRawBufferPointer(rebasing: all[value]))
        return false
      }
    }
  }
}
