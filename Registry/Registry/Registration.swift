public import Base
internal import Codec

/// What an agent says it can do. Tags are sorted by the bytes of their keys; a key stands once, the last one given wins.
public struct Skill: Equatable, Sendable {
  public var id: String
  public var description: String
  public var tags: [Tag]

  public struct Tag: Equatable, Sendable {
    public var key: String
    public var value: String
    public init(_ key: String, _ value: String) {
      self.key = key
      self.value = value
    }
  }

  public init(id: String, description: String = "", tags: [Tag] = []) {
    self.id = id
    self.description = description
    self.tags = Skill.canonical(tags)
  }

  /// The value of a tag; "" when it is missing, as on the wire.
  func value(of key: String) -> String { tags.first { isSameText($0.key, key) }?.value ?? "" }

  static func canonical(_ tags: [Tag]) -> [Tag] {
    if tags.count < 2 { return tags }
    // Not by `==` and `<`: those take an accent and a letter with one for one.
    var last: [[UInt8]: Tag] = [:]
    for tag in tags { last[Array(tag.key.utf8)] = tag }
    return last.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map(\.value)
  }
}

/// One agent's whole entry as its owner gives it: all skills, name, description.
public struct Registration: Equatable, Sendable {
  public var peerID: String
  public var skills: [Skill]
  public var name: String
  public var description: String

  public init(peerID: String, skills: [Skill], name: String = "", description: String = "") {
    self.peerID = peerID
    self.skills = skills
    self.name = name
    self.description = description
  }

  /// Reads `agentanycast.v1.RegisterSkillsRequest`, whose first four fields are also those of
  /// `SkillRegistration`. Throws `bad_request`, or `too_large` for what is over a bound.
  public init(decoding bytes: UnsafeRawBufferPointer) throws(Fault) {
    self.init(peerID: "", skills: [])
    var r = unsafe WireReader(bytes)
    do throws(WireError) {
      try merge(from: &r)
    } catch {
      throw Fault(.badRequest, "the request is no valid registration")
    }
    // Lists are cut one past their bounds.
    if skills.count > Limits.registrySkills {
      throw Fault(.tooLarge, "more than \(Limits.registrySkills) skills")
    }
    if skills.contains(where: { $0.tags.count > Limits.registryTags }) {
      throw Fault(.tooLarge, "more than \(Limits.registryTags) tags in one skill")
    }
  }

  public init(decoding bytes: [UInt8]) throws(Fault) {
    self = try unsafe bytes.withUnsafeBufferPointer { part throws(Fault) in
      try unsafe Registration(decoding: UnsafeRawBufferPointer(part))
    }
  }

  private mutating func merge(from r: inout WireReader) throws(WireError) {
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10: peerID = try r.string()
      case 18:
        let skill = try Registration.skill(from: &r)
        if skills.count <= Limits.registrySkills { skills.append(skill) }
      case 26: name = try r.string()
      case 34: description = try r.string()
      default: try r.skip(tag)
      }
    }
  }

  private static func skill(from r: inout WireReader) throws(WireError) -> Skill {
    var skill = Skill(id: "")
    var tags: [Skill.Tag] = []
    try r.entry { (r, tag) throws(WireError) in
      switch tag {
      case 10: skill.id = try r.string()
      case 18: skill.description = try r.string()
      case 26:
        let found = try Registration.tag(from: &r)
        if tags.count <= Limits.registryTags { tags.append(found) }
      default: try r.skip(tag)
      }
    }
    skill.tags = Skill.canonical(tags)
    return skill
  }

  private static func tag(from r: inout WireReader) throws(WireError) -> Skill.Tag {
    var found = Skill.Tag("", "")
    try r.entry { (r, tag) throws(WireError) in
      switch tag {
      case 10: found.key = try r.string()
      case 18: found.value = try r.string()
      default: try r.skip(tag)
      }
    }
    return found
  }

  /// Shape and bounds, in upstream's words where upstream has them.
  public func check() throws(Fault) {
    if peerID.isEmpty { throw Fault(.badRequest, "peer_id is required") }
    if skills.isEmpty { throw Fault(.badRequest, "at least one skill is required") }
    if skills.contains(where: { $0.id.isEmpty }) {
      throw Fault(.badRequest, "skill_id is required for all skills")
    }
    try checkBounds()
  }

  /// Bounds alone: what holds for a record of any relay.
  public func checkBounds() throws(Fault) {
    func bound(_ text: String, _ limit: Int, _ what: String) throws(Fault) {
      if text.utf8.count > limit { throw Fault(.tooLarge, "\(what) is over \(limit) bytes") }
    }
    try bound(peerID, Limits.registryPeerIDBytes, "peer_id")
    try bound(name, Limits.registryNameBytes, "agent_name")
    try bound(description, Limits.registryTextBytes, "agent_description")
    if skills.count > Limits.registrySkills {
      throw Fault(.tooLarge, "more than \(Limits.registrySkills) skills")
    }
    for skill in skills {
      try bound(skill.id, Limits.registryNameBytes, "a skill_id")
      try bound(skill.description, Limits.registryTextBytes, "the description of a skill")
      if skill.tags.count > Limits.registryTags {
        throw Fault(.tooLarge, "more than \(Limits.registryTags) tags in one skill")
      }
      for tag in skill.tags {
        try bound(tag.key, Limits.registryNameBytes, "the key of a tag")
        try bound(tag.value, Limits.registryNameBytes, "the value of a tag")
      }
    }
    if encodedSize > Limits.registryRecordBytes {
      throw Fault(.tooLarge, "a registration is over \(Limits.registryRecordBytes) bytes")
    }
  }

  // MARK: canonical bytes

  private static func size(_ text: String) -> Int { text.isEmpty ? 0 : 1 + WireSize.string(text) }

  private static func size(_ tag: Skill.Tag) -> Int { size(tag.key) + size(tag.value) }

  private static func size(_ skill: Skill) -> Int {
    skill.tags.reduce(size(skill.id) + size(skill.description)) {
      $0 + 1 + WireSize.delimited(size($1))
    }
  }

  var encodedSize: Int {
    skills.reduce(Self.size(peerID) + Self.size(name) + Self.size(description)) {
      $0 + 1 + WireSize.delimited(Self.size($1))
    }
  }

  /// Fields 1 to 4 of `SkillRegistration`, peer_id first: equal registrations give equal bytes.
  public func encoded() -> Bytes {
    unsafe Bytes(count: encodedSize) { room in
      var w = unsafe WireWriter(room)
      Self.put(10, peerID, &w)
      for skill in skills {
        w.tag(18)
        w.length(Self.size(skill))
        Self.put(10, skill.id, &w)
        Self.put(18, skill.description, &w)
        for tag in skill.tags {
          w.tag(26)
          w.length(Self.size(tag))
          Self.put(10, tag.key, &w)
          Self.put(18, tag.value, &w)
        }
      }
      Self.put(26, name, &w)
      Self.put(34, description, &w)
    }
  }

  private static func put(_ tag: UInt32, _ text: String, _ w: inout WireWriter) {
    if text.isEmpty { return }
    w.tag(tag)
    w.string(text)
  }
}
