public import Base

/// The header of a Subscribe, Unsubscribe or Publish.
///
/// All ranges count from the first byte of the header's record (its tag), so that they hold for every
/// later message with the same header, wherever it stands there.
public struct SlimHeader: Sendable {
  /// From the EncodedName; nil when the name, or that form of it, is absent.
  public internal(set) var source: SlimName?
  public internal(set) var destination: SlimName?
  /// The body of the StringName; nil when absent.
  public internal(set) var sourceText: Range<Int>?
  public internal(set) var destinationText: Range<Int>?
  /// 1: to one of the subscribers, else to all.
  public internal(set) var fanout: UInt32 = 0
  /// B: hops that are left, 0 when absent. Always 0 in A.
  public internal(set) var ttl: UInt32 = 0
  /// The sender's token, for its peers; a node carries it.
  public internal(set) var identity: Range<Int>?
  /// B: the 32 bytes of the link's MAC; nil when absent or of another length.
  public internal(set) var mac: Range<Int>?
  /// B: SLIM's version text.
  public internal(set) var version: Range<Int>?
  public internal(set) var isError: Bool?
  /// What the sender would have a node do; never obeyed, never forwarded.
  public internal(set) var recvFrom: UInt64?
  public internal(set) var forwardTo: UInt64?
  public var hasRoutingCommand: Bool { recvFrom != nil || forwardTo != nil }

  /// What a `Name` has that its hashes do not tell.
  struct Form: OptionSet, Sendable {
    let rawValue: UInt8
    static let present = Form(rawValue: 1)
    static let encoded = Form(rawValue: 2)
    static let id = Form(rawValue: 4)
  }
  var sourceForm: Form = []
  var destinationForm: Form = []
  /// The header without tag and length.
  var body = 0..<0
  /// Bytes of the records that are not forwarded.
  var strippedBytes = 0
  /// B: the varint of the ttl, and how many of them, and of MACs, there are.
  var ttlPlace = 0..<0
  var ttlCount = 0
  var macCount = 0

  init() {}
}

extension SlimHeader {
  /// Reads the header of family `isB` whose body the reader stands before the length of. `start` is the offset
  /// of its record.
  mutating func read(
    _ r: inout WireReader, isB: Bool, start: Int
  ) throws(WireError) {
    let outer = try r.enter()
    body = r.position - start..<r.end - start
    if isB { try readB(&r, start) } else { try readA(&r, start) }
    r.leave(outer)
  }

  private mutating func readA(_ r: inout WireReader, _ start: Int) throws(WireError) {
    while true {
      let at = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case 10: try readName(&r, start, isB: false, isSource: true)
      case 18: try readName(&r, start, isB: false, isSource: false)
      case 24: fanout = try r.uint32()
      case 34: identity = try r.text().from(start)
      case 40:
        recvFrom = try r.uint64()
        strippedBytes += r.position - at
      case 48:
        forwardTo = try r.uint64()
        strippedBytes += r.position - at
      case 56:
        _ = try r.uint64()
        strippedBytes += r.position - at
      case 64: isError = try r.bool()
      default: try SlimShape.header.check(tag, &r)
      }
    }
  }

  private mutating func readB(_ r: inout WireReader, _ start: Int) throws(WireError) {
    while true {
      let at = r.position
      let tag = try r.nextTag()
      switch tag {
      case 0: return
      case 10: try readName(&r, start, isB: true, isSource: true)
      case 18: try readName(&r, start, isB: true, isSource: false)
      case 26: identity = try r.text().from(start)
      case 32: fanout = try r.uint32()
      case 42: version = try r.text().from(start)
      case 48:
        let value = r.position - start
        ttl = try r.uint32()
        ttlPlace = value..<r.position - start
        ttlCount += 1
      case 56:
        recvFrom = try r.uint64()
        strippedBytes += r.position - at
      case 64:
        forwardTo = try r.uint64()
        strippedBytes += r.position - at
      case 72:
        _ = try r.uint64()
        strippedBytes += r.position - at
      case 80: isError = try r.bool()
      case 90:
        let range = try r.delimited()
        mac = range.count == Self.macBytes ? range.from(start) : nil
        macCount += 1
      default: try SlimShape.headerB.check(tag, &r)
      }
    }
  }

  /// Bytes of a link's MAC.
  static var macBytes: Int { 32 }

  // MARK: names

  private mutating func readName(
    _ r: inout WireReader, _ start: Int, isB: Bool, isSource: Bool
  ) throws(WireError) {
    var form = isSource ? sourceForm : destinationForm
    guard form.isEmpty else { throw .malformed }
    form = .present
    var name: SlimName?
    var text: Range<Int>?
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10:
        guard name == nil else { throw .malformed }
        name = try Self.encodedName(&r, isB: isB, &form)
      case 18:
        guard text == nil else { throw .malformed }
        text = try Self.stringName(&r).from(start)
      default: try SlimShape.name.check(tag, &r)
      }
    }
    r.leave(outer)
    if isSource {
      (source, sourceText, sourceForm) = (name, text, form)
    } else {
      (destination, destinationText, destinationForm) = (name, text, form)
    }
  }

  private static func encodedName(
    _ r: inout WireReader, isB: Bool, _ form: inout Form
  ) throws(WireError) -> SlimName {
    form.insert(.encoded)
    // A: an id that is not there is 0, as proto3 has it. B: it is NULL.
    var name = SlimName(c0: 0, c1: 0, c2: 0)
    if !isB { (name.idHigh, name.idLow) = (0, 0) }
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 8: name.c0 = try r.uint64()
      case 16: name.c1 = try r.uint64()
      case 24: name.c2 = try r.uint64()
      case 32 where !isB:
        name.idLow = try r.uint64()
        name.idHigh = name.idLow == .max ? .max : 0
      case 34 where isB:
        guard !form.contains(.id) else { throw .malformed }
        form.insert(.id)
        (name.idHigh, name.idLow) = try nameID(&r)
      default: try (isB ? SlimShape.encodedNameB : SlimShape.encodedName).check(tag, &r)
      }
    }
    r.leave(outer)
    return name
  }

  private static func nameID(
    _ r: inout WireReader
  ) throws(WireError) -> (high: UInt64, low: UInt64) {
    var (high, low): (UInt64, UInt64) = (0, 0)
    let outer = try r.enter()
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 8: high = try r.uint64()
      case 16: low = try r.uint64()
      default: try SlimShape.nameID.check(tag, &r)
      }
    }
    r.leave(outer)
    return (high, low)
  }

  private static func stringName(_ r: inout WireReader) throws(WireError) -> Range<Int> {
    let outer = try r.enter()
    let body = r.position..<r.end
    while case let tag = try r.nextTag(), tag != 0 {
      switch tag {
      case 10, 18, 26: _ = try r.text()
      default: try SlimShape.stringName.check(tag, &r)
      }
    }
    r.leave(outer)
    return body
  }
}

/// The three parts of a StringName; empty where absent.
public struct SlimNameText: Sendable {
  public internal(set) var org = 0..<0
  public internal(set) var namespace = 0..<0
  public internal(set) var service = 0..<0

  /// Reads the body of a StringName. Ranges are offsets into `bytes`.
  public init?(_ bytes: UnsafeRawBufferPointer, body: Range<Int>) {
    guard body.lowerBound >= 0, body.upperBound <= bytes.count else { return nil }
    var r = unsafe WireReader(bytes, range: body)
    do throws(WireError) {
      while case let tag = try r.nextTag(), tag != 0 {
        switch tag {
        case 10: org = try r.delimited()
        case 18: namespace = try r.delimited()
        case 26: service = try r.delimited()
        default: try r.skip(tag)
        }
      }
    } catch { return nil }
  }

  /// The three parts as a channel's name; nil when they are not one. `bytes` are those they were read from.
  public func channelName(in bytes: UnsafeRawBufferPointer) -> ChannelName? {
    func text(_ range: Range<Int>) -> String {
      unsafe String(decoding: UnsafeRawBufferPointer(rebasing: bytes[range]), as: UTF8.self)
    }
    return ChannelName(org: text(org), namespace: text(namespace), service: text(service))
  }
}

extension Range<Int> {
  /// Counted from `start`.
  @inline(__always) func from(_ start: Int) -> Range<Int> {
    lowerBound - start..<upperBound - start
  }
  /// Moved back.
  @inline(__always) func shifted(_ by: Int) -> Range<Int> { lowerBound + by..<upperBound + by }
}

extension WireReader {
  /// Steps into an embedded message; the answer goes to `leave` when it has been read to its end.
  @inline(__always) mutating func enter() throws(WireError) -> Int {
    let length = try uint64()
    guard length <= UInt64(limit &- at) else { throw .truncated }
    let outer = limit
    limit = at &+ Int(length)
    return outer
  }

  @inline(__always) mutating func leave(_ outer: Int) {
    at = limit
    limit = outer
  }
}
