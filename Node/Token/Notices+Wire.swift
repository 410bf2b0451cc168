public import Base

extension NoticePage {
  static let version: UInt8 = 1

  public var encoded: [UInt8] {
    var w = ByteWriter(capacity: 32 + lines.count * 32)
    w.append(NoticePage.version)
    w.append(bigEndian: epoch)
    w.append(bigEndian: from)
    w.append(bigEndian: to)
    w.append(mark: more)
    w.append(varint: UInt64(lines.count))
    for line in lines {
      w.append(mark: line.stands)
      line.notice.write(&w)
    }
    return w.array
  }

  public init(decoding bytes: [UInt8]) throws(ReadError) {
    self = try readWhole(bytes) { (r) throws(ReadError) in
      guard try r.byte() == NoticePage.version else { throw .malformed }
      var page = NoticePage(
        epoch: try r.bigEndian(), from: try r.bigEndian(), to: try r.bigEndian(), lines: [],
        more: try r.mark())
      for _ in 0..<(try r.varint(atMost: NoticeBook.pageLines)) {
        let stands = try r.mark()
        page.lines.append(NoticeLine(try Notice(&r), stands: stands))
      }
      // A page that moves nobody on would be asked for without end.
      guard r.atEnd, page.to >= page.from, !page.more || page.to > page.from else {
        throw .malformed
      }
      return page
    }
  }
}

/// Asks for a page of a node's book.
public struct NoticeQuery: Hashable, Sendable {
  public var epoch: UInt64
  public var after: UInt64
  public init(epoch: UInt64, after: UInt64) {
    self.epoch = epoch
    self.after = after
  }

  public var encoded: [UInt8] {
    [NoticePage.version] + bigEndianBytes(epoch) + bigEndianBytes(after)
  }

  public init(decoding bytes: [UInt8]) throws(ReadError) {
    self = try readWhole(bytes) { (r) throws(ReadError) in
      guard try r.byte() == NoticePage.version else { throw .malformed }
      let made = NoticeQuery(epoch: try r.bigEndian(), after: try r.bigEndian())
      guard r.atEnd else { throw .malformed }
      return made
    }
  }
}

extension Notice {
  fileprivate func write(_ w: inout ByteWriter) {
    switch self {
    case .keyEnded(let tenant, let key):
      w.append(UInt8(1))
      w.append(bigEndian: tenant.value)
      w.append(bigEndian: key.value)
    case .tenant(let tenant, let state, let created):
      w.append(UInt8(2))
      w.append(bigEndian: tenant.value)
      w.append(state.rawValue)
      w.append(bigEndian: created.nanoseconds)
    case .granted(let channel, let tenant, let org):
      w.append(UInt8(3))
      w.append(bigEndian: channel.high)
      w.append(bigEndian: channel.low)
      w.append(bigEndian: tenant.value)
      w.append(countedUTF8: org)
    case .slow(let tenant):
      w.append(UInt8(4))
      w.append(bigEndian: tenant.value)
    }
  }

  fileprivate init(_ r: inout ByteReader) throws(ReadError) {
    switch try r.byte() {
    case 1: self = .keyEnded(TenantID(try r.bigEndian()), RecordID(try r.bigEndian()))
    case 2:
      let tenant = TenantID(try r.bigEndian())
      guard let state = TenantState(rawValue: try r.byte()) else { throw .malformed }
      self = .tenant(tenant, state, created: Instant(nanoseconds: try r.bigEndian()))
    case 3:
      let channel = ChannelID(high: try r.bigEndian(), low: try r.bigEndian())
      self = .granted(
        channel, TenantID(try r.bigEndian()), org: try r.countedUTF8(atMost: Limits.nodeLabelBytes))
    case 4: self = .slow(TenantID(try r.bigEndian()))
    default: throw .malformed
    }
  }
}

/// What one writer (a shard in one run of a process) has counted for a tenant on a day, in all. A later total of the
/// same writer replaces an earlier one, so that it may be sent more than once.
public struct UsageReport: Hashable, Sendable {
  public var tenant: TenantID
  public var day: UInt32
  public var writer: UInt64
  public var messages: UInt64
  public var bytes: UInt64
  public init(tenant: TenantID, day: UInt32, writer: UInt64, messages: UInt64, bytes: UInt64) {
    self.tenant = tenant
    self.day = day
    self.writer = writer
    self.messages = messages
    self.bytes = bytes
  }

  /// Reports of one call.
  public static let most = 4_096

  public static func encode(_ reports: [UsageReport]) -> [UInt8] {
    var w = ByteWriter(capacity: 8 + reports.count * 36)
    w.append(NoticePage.version)
    w.append(varint: UInt64(reports.count))
    for one in reports {
      w.append(bigEndian: one.tenant.value)
      w.append(bigEndian: one.day)
      w.append(bigEndian: one.writer)
      w.append(bigEndian: one.messages)
      w.append(bigEndian: one.bytes)
    }
    return w.array
  }

  public static func decode(_ bytes: [UInt8]) throws(ReadError) -> [UsageReport] {
    try readWhole(bytes) { (r) throws(ReadError) in
      guard try r.byte() == NoticePage.version else { throw .malformed }
      var out: [UsageReport] = []
      for _ in 0..<(try r.varint(atMost: most)) {
        out.append(
          UsageReport(
            tenant: TenantID(try r.bigEndian()), day: try r.bigEndian(),
            writer: try r.bigEndian(), messages: try r.bigEndian(), bytes: try r.bigEndian()))
      }
      guard r.atEnd else { throw .malformed }
      return out
    }
  }
}
