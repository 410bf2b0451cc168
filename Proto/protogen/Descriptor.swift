import Codec

// The parts of google/protobuf/descriptor.proto and compiler/plugin.proto that generation needs.

struct PluginRequest: WireDecodable {
  var files: [FileNode] = []
  var wanted: [String] = []

  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: wanted.append(try r.string())
      case 122:
        let bytes = try r.bytes()
        var file = try FileNode(decoding: bytes)
        file.bytes = try withoutComments(bytes)
        files.append(file)
      default: try r.skip(tag)
      }
    }
  }
}

struct FileNode: WireDecodable {
  var name = ""
  var package = ""
  var dependencies: [String] = []
  var messages: [MessageNode] = []
  var enums: [EnumNode] = []
  var services: [ServiceNode] = []
  var syntax = ""
  var comments = CommentTable()
  /// Serialized, without source information.
  var bytes: [UInt8] = []

  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = try r.string()
      case 18: package = try r.string()
      case 26: dependencies.append(try r.string())
      case 34: messages.append(try r.embedded())
      case 42: enums.append(try r.embedded())
      case 50: services.append(try r.embedded())
      case 74: try r.merge(into: &comments)
      case 98: syntax = try r.string()
      default: try r.skip(tag)
      }
    }
  }
}

struct MessageNode: WireDecodable {
  var name = ""
  var fields: [FieldNode] = []
  var messages: [MessageNode] = []
  var enums: [EnumNode] = []
  var oneofs: [NameNode] = []
  var options = MessageOptions()

  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = try r.string()
      case 18: fields.append(try r.embedded())
      case 26: messages.append(try r.embedded())
      case 34: enums.append(try r.embedded())
      case 58: try r.merge(into: &options)
      case 66: oneofs.append(try r.embedded())
      default: try r.skip(tag)
      }
    }
  }
}

struct MessageOptions: WireDecodable {
  var mapEntry = false
  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      if tag == 56 { mapEntry = try r.bool() } else { try r.skip(tag) }
    }
  }
}

struct NameNode: WireDecodable {
  var name = ""
  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      if tag == 10 { name = try r.string() } else { try r.skip(tag) }
    }
  }
}

struct FieldNode: WireDecodable {
  var name = ""
  var number: UInt32 = 0
  var repeated = false
  var type: Int32 = 0
  var typeName = ""
  var oneof: Int?
  var explicitPresence = false

  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = try r.string()
      case 24: number = try r.uint32()
      case 32: repeated = try r.int32() == 3
      case 40: type = try r.int32()
      case 50: typeName = try r.string()
      case 72: oneof = Int(try r.int32())
      case 136: explicitPresence = try r.bool()
      default: try r.skip(tag)
      }
    }
  }
}

struct EnumNode: WireDecodable {
  var name = ""
  var values: [EnumValueNode] = []
  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = try r.string()
      case 18: values.append(try r.embedded())
      default: try r.skip(tag)
      }
    }
  }
}

struct EnumValueNode: WireDecodable {
  var name = ""
  var number: Int32 = 0
  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = try r.string()
      case 16: number = try r.int32()
      default: try r.skip(tag)
      }
    }
  }
}

struct ServiceNode: WireDecodable {
  var name = ""
  var methods: [MethodNode] = []
  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = try r.string()
      case 18: methods.append(try r.embedded())
      default: try r.skip(tag)
      }
    }
  }
}

struct MethodNode: WireDecodable {
  var name = ""
  var input = ""
  var output = ""
  var clientStreaming = false
  var serverStreaming = false
  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: name = try r.string()
      case 18: input = try r.string()
      case 26: output = try r.string()
      case 40: clientStreaming = try r.bool()
      case 48: serverStreaming = try r.bool()
      default: try r.skip(tag)
      }
    }
  }
}

/// `SourceCodeInfo`: comments by path of field numbers and indexes.
struct CommentTable: WireDecodable {
  var texts: [[Int32]: String] = [:]

  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      if tag == 10 {
        let place: CommentNode = try r.embedded()
        let text = (place.leading + place.trailing)
        if !text.isEmpty { texts[place.path] = text }
      } else {
        try r.skip(tag)
      }
    }
  }
}

struct CommentNode: WireDecodable {
  var path: [Int32] = []
  var leading = ""
  var trailing = ""
  mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10:
        var numbers: [Int32] = []
        try r.packed { r throws(WireError) in numbers.append(try r.int32()) }
        path += numbers
      case 26: leading = try r.string()
      case 34: trailing = try r.string()
      default: try r.skip(tag)
      }
    }
  }
}

extension WireReader {
  mutating func embedded<M: WireDecodable>() throws(WireError) -> M {
    var message = M()
    try merge(into: &message)
    return message
  }
}

/// A serialized FileDescriptorProto without its field 9, the source information.
func withoutComments(_ bytes: [UInt8]) throws(WireError) -> [UInt8] {
  var kept: [UInt8] = []
  try bytes.withUnsafeBufferPointer { part throws(WireError) in
    let all = UnsafeRawBufferPointer(part)
    var r = WireReader(all)
    while true {
      let start = r.position
      let tag = try r.nextTag()
      if tag == 0 { return }
      try r.skip(tag)
      if tag >> 3 != 9 { kept += all[start..<r.position] }
    }
  }
  return kept
}

/// What the plugin answers.
struct PluginResponse {
  var files: [(name: String, content: String)] = []
  var error: String?

  func encoded() -> [UInt8] {
    var size = 2
    if let error { size += 1 + WireSize.string(error) }
    for f in files { size += 1 + WireSize.delimited(Self.size(f)) }
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      var w = WireWriter(UnsafeMutableRawBufferPointer(buffer))
      if let error {
        w.tag(10)
        w.string(error)
      }
      // supported_features: FEATURE_PROTO3_OPTIONAL
      w.tag(16)
      w.uint64(1)
      for f in files {
        w.tag(122)
        w.length(Self.size(f))
        w.tag(10)
        w.string(f.name)
        w.tag(122)
        w.string(f.content)
      }
      count = w.position
    }
  }

  private static func size(_ file: (name: String, content: String)) -> Int {
    2 + WireSize.string(file.name) + WireSize.string(file.content)
  }
}
