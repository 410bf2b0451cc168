import Base
import Codec
import Messages

/// Every generated message, from random messages made after the schema that reflection serves.
struct ProtobufTarget: FuzzTarget {
  static let name = "protobuf"
  static let wantedShare = 100_000
  let corpus: [[UInt8]]
  private let types = DescriptorSet.messages
  private static let seedsPerType = 8

  init() {
    let schema = SchemaModel()
    var random = FuzzRandom(2026)
    var made: [[UInt8]] = []
    for type in DescriptorSet.messages {
      for _ in 0..<ProtobufTarget.seedsPerType {
        let bytes = schema.message(type.fullName, depth: 0, &random)
        precondition(
          (try? type.init(decoding: bytes)) != nil, "\(type.fullName) refuses a valid message")
        made.append(bytes)
      }
    }
    corpus = made
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    // Now and then as another message than it was made as.
    let own = origin / ProtobufTarget.seedsPerType
    let type: any ProtoMessage.Type = types[random.oneIn(6) ? random.below(types.count) : own]
    return try roundTrip(type, input)
  }

  private func roundTrip<M: ProtoMessage>(
    _ type: M.Type, _ input: UnsafeRawBufferPointer
  ) throws(Finding) -> Bool {
    guard let read = try? M(decoding: input) else { return false }
    let encoded = read.encoded()
    try check(encoded.count == read.encodedSize, "\(M.fullName): its size differs from its bytes")
    // A record of two bytes may stand for defaults that are written out, never for much more.
    try check(encoded.count <= 8 * input.count + 64, "\(M.fullName) grew from \(input.count) bytes")
    guard let again = try? M(decoding: encoded) else {
      throw Finding("\(M.fullName) refuses what it encoded")
    }
    try check(again.encoded() == encoded, "\(M.fullName) changes from one encoding to the next")
    return true
  }
}

/// Messages and fields of `DescriptorSet`, as far as valid messages need them.
struct SchemaModel {
  struct Field {
    var number: UInt32 = 0
    var label: UInt32 = 1
    var type: UInt32 = 0
    var typeName = ""
  }
  private var messages: [String: [Field]] = [:]

  init() {
    for file in DescriptorSet.files {
      file.bytes.withUnsafeBytes { bytes in
        var r = WireReader(bytes)
        while let tag = try? r.nextTag(), tag != 0 {
          if tag == 34, let range = try? r.delimited() {
            readMessage(bytes, range, scope: file.package)
          } else {
            guard (try? r.skip(tag)) != nil else { return }
          }
        }
      }
    }
  }

  private mutating func readMessage(
    _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, scope: String
  ) {
    var name = ""
    var fields: [Field] = []
    var nested: [Range<Int>] = []
    var r = WireReader(bytes, range: range)
    while let tag = try? r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = (try? r.string()) ?? ""
      case 18: if let part = try? r.delimited() { fields.append(readField(bytes, part)) }
      case 26: if let part = try? r.delimited() { nested.append(part) }
      default: guard (try? r.skip(tag)) != nil else { return }
      }
    }
    messages[scope + "." + name] = fields
    for part in nested { readMessage(bytes, part, scope: scope + "." + name) }
  }

  private func readField(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> Field {
    var field = Field()
    var r = WireReader(bytes, range: range)
    while let tag = try? r.nextTag(), tag != 0 {
      switch tag {
      case 24: field.number = (try? r.uint32()) ?? 0
      case 32: field.label = (try? r.uint32()) ?? 0
      case 40: field.type = (try? r.uint32()) ?? 0
      case 50: field.typeName = String(((try? r.string()) ?? "").dropFirst())
      default: guard (try? r.skip(tag)) != nil else { return field }
      }
    }
    return field
  }

  // MARK: random messages

  func message(_ name: String, depth: Int, _ random: inout FuzzRandom) -> [UInt8] {
    guard let fields = messages[name] else {
      preconditionFailure("no message \(name) in the schema")
    }
    var out: [UInt8] = []
    for field in fields where random.below(10) < (depth == 0 ? 8 : 5) {
      let times = field.label == 3 ? 1 + random.below(3) : 1
      if field.label == 3, Self.isPackable(field.type), random.oneIn(2) {
        let run = (0..<times).flatMap { _ in scalar(field.type, &random) }
        out += varint(UInt64(field.number << 3 | 2)) + varint(UInt64(run.count)) + run
        continue
      }
      for _ in 0..<times { out += record(field, depth, &random) }
    }
    if random.oneIn(8) { out += [0xf8, 0x3e] + varint(random.next()) }
    return out
  }

  private func record(_ field: Field, _ depth: Int, _ random: inout FuzzRandom) -> [UInt8] {
    let body: [UInt8]
    switch field.type {
    case 9: body = Array(Self.texts[random.below(Self.texts.count)].utf8)
    case 12: body = random.bytes(random.below(40))
    case 11:
      if depth >= 4 { return [] }
      body = message(field.typeName, depth: depth + 1, &random)
    default:
      return varint(UInt64(field.number << 3 | Self.wireType(field.type)))
        + scalar(field.type, &random)
    }
    return varint(UInt64(field.number << 3 | 2)) + varint(UInt64(body.count)) + body
  }

  private static let texts = ["", "a", "org/ns/c1", "naïve", "日本語", "x y\n", "sk_live_", "🙂🙂"]

  private static func isPackable(_ type: UInt32) -> Bool { type != 9 && type != 11 && type != 12 }

  private static func wireType(_ type: UInt32) -> UInt32 {
    switch type {
    case 1, 6, 16: 1
    case 2, 7, 15: 5
    default: 0
    }
  }

  private func scalar(_ type: UInt32, _ random: inout FuzzRandom) -> [UInt8] {
    switch Self.wireType(type) {
    case 1: return random.bytes(8)
    case 5: return random.bytes(4)
    default: break
    }
    switch type {
    case 8: return [UInt8(random.below(2))]
    case 14: return varint(UInt64(random.below(24)))
    case 3, 4, 18: return varint(random.next() >> UInt64(random.below(64)))
    case 5: return varint(UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: random.next()))))
    default: return varint(UInt64(UInt32(truncatingIfNeeded: random.next())))
    }
  }
}

func varint(_ value: UInt64) -> [UInt8] {
  var rest = value
  var out: [UInt8] = []
  while rest >= 0x80 {
    out.append(UInt8(truncatingIfNeeded: rest) | 0x80)
    rest >>= 7
  }
  return out + [UInt8(rest)]
}
