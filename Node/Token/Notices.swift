public import Base

// What every node of a cluster must know of tenants that others own: whose streams end, who may use whose
// channel. Each node keeps a book of what it says, numbered; the others read it from where they stopped,
// every second and when told to, so that a lost message is made up for by the next reading.

/// Something a tenant's owner says to all nodes until it takes it back.
public enum Notice: Hashable, Sendable {
  /// A key was revoked or has expired: no stream may live by it.
  case keyEnded(TenantID, RecordID)
  /// A tenant is not active, or its name was deleted and made again: what was granted to it before `created`
  /// (wall clock) was granted to another.
  case tenant(TenantID, TenantState, created: Instant)
  /// A tenant may use a channel of another org.
  case granted(ChannelID, TenantID, org: String)
  /// A tenant has used up its day: its streams are slowed.
  case slow(TenantID)

  /// What it is about: a later notice with the same subject replaces it.
  public enum Subject: Hashable, Sendable {
    case key(RecordID, TenantID)
    case tenant(TenantID)
    case grant(ChannelID, TenantID)
    case slow(TenantID)
  }

  public var subject: Subject {
    switch self {
    case .keyEnded(let tenant, let key): .key(key, tenant)
    case .tenant(let tenant, _, _): .tenant(tenant)
    case .granted(let channel, let tenant, _): .grant(channel, tenant)
    case .slow(let tenant): .slow(tenant)
    }
  }
}

/// A line of a book: what stands from now on, or no longer does.
public struct NoticeLine: Hashable, Sendable {
  public var notice: Notice
  public var stands: Bool
  public init(_ notice: Notice, stands: Bool) {
    self.notice = notice
    self.stands = stands
  }
}

/// Part of a book.
public struct NoticePage: Hashable, Sendable {
  /// Names one telling of the book, from its first line on: a process that starts begins another.
  public var epoch: UInt64
  /// The lines follow this number; 0: the telling begins here.
  public var from: UInt64
  /// The last number these lines bring the reader to.
  public var to: UInt64
  public var lines: [NoticeLine]
  /// There is more to read at once.
  public var more: Bool
  public init(epoch: UInt64, from: UInt64, to: UInt64, lines: [NoticeLine], more: Bool) {
    self.epoch = epoch
    self.from = from
    self.to = to
    self.lines = lines
    self.more = more
  }
}

/// What one node says. Only the last line on a subject is kept.
public struct NoticeBook: Sendable {
  /// Lines of one page.
  public static let pageLines = 4_096

  public private(set) var epoch: UInt64
  public private(set) var last: UInt64 = 0
  /// In the order of their numbers, with the places of lines that were replaced empty.
  private var lines: [(number: UInt64, line: NoticeLine)?] = []
  private var places: [Notice.Subject: Int] = [:]
  private var fallen = 0
  private var empty = 0

  /// `epoch`: random.
  public init(epoch: UInt64) { self.epoch = epoch }

  /// Lines that stand.
  public var count: Int { places.count - fallen }

  public func stands(_ subject: Notice.Subject) -> Bool {
    places[subject].map { lines[$0]!.line.stands } ?? false
  }

  /// Says a notice, or takes it back. False: that was the last word on it already.
  @discardableResult public mutating func say(_ notice: Notice, stands: Bool = true) -> Bool {
    let subject = notice.subject
    if let place = places[subject], let old = lines[place] {
      if old.line.stands == stands && (!stands || old.line.notice == notice) { return false }
      if !old.line.stands { fallen -= 1 }
      lines[place] = nil
      empty += 1
    } else if !stands {
      return false
    }
    last += 1
    places[subject] = lines.count
    lines.append((last, NoticeLine(notice, stands: stands)))
    if !stands { fallen += 1 }
    if empty > 1_024, empty * 2 > lines.count { tidy() }
    // What was taken back is told to those who read on; when that is most of the book, all read it anew.
    if fallen > 1_024, fallen * 2 > places.count { beginAnew() }
    return true
  }

  /// Makes the book say exactly these.
  public mutating func replace(_ notices: [Notice]) {
    let wanted = Set(notices.map(\.subject))
    for entry in lines {
      guard let line = entry?.line, line.stands, !wanted.contains(line.notice.subject) else {
        continue
      }
      say(line.notice, stands: false)
    }
    for notice in notices { say(notice) }
  }

  private mutating func tidy() {
    lines = lines.filter { $0 != nil }
    empty = 0
    for place in lines.indices { places[lines[place]!.line.notice.subject] = place }
  }

  private mutating func beginAnew() {
    lines = lines.filter { $0?.line.stands ?? false }
    empty = 0
    fallen = 0
    places = [:]
    for place in lines.indices { places[lines[place]!.line.notice.subject] = place }
    epoch &+= 1
  }

  /// What a reader has not seen that stopped at `number` of the telling `epoch`.
  public func page(epoch: UInt64, after number: UInt64) -> NoticePage {
    let from = epoch == self.epoch && number <= last ? number : 0
    var place = firstPlace(after: from)
    var page = NoticePage(epoch: self.epoch, from: from, to: last, lines: [], more: false)
    while place < lines.count {
      if let (number, line) = lines[place] {
        if page.lines.count == NoticeBook.pageLines {
          page.more = true
          return page
        }
        page.lines.append(line)
        if page.lines.count == NoticeBook.pageLines { page.to = number }
      }
      place += 1
    }
    page.to = last
    return page
  }

  /// The first place whose number, or that of the next filled one, is over `number`.
  private func firstPlace(after number: UInt64) -> Int {
    if number == 0 { return 0 }
    var low = 0
    var high = lines.count
    while low < high {
      let middle = (low + high) / 2
      var filled = middle
      while filled < high, lines[filled] == nil { filled += 1 }
      if filled < high, let line = lines[filled], line.number <= number {
        low = filled + 1
      } else {
        high = middle
      }
    }
    return low
  }
}

/// Another node's book as it was read.
struct NoticeReading: Sendable {
  var epoch: UInt64 = 0
  var last: UInt64 = 0
  var known: [Notice.Subject: Notice] = [:]
  /// Seen of a telling that has begun anew and is not read to its end; nil: nothing is left over from before.
  var seen: Set<Notice.Subject>?
  /// Read to the end at least once.
  var isWhole = false

  /// The changes against what was known; nil when the page does not go on where this stopped.
  mutating func receive(_ page: NoticePage) -> [NoticeLine]? {
    if page.epoch != epoch || (page.from == 0 && last != 0) {
      guard page.from == 0 else { return nil }
      epoch = page.epoch
      last = 0
      seen = []
    }
    guard page.from == last, page.to >= page.from else { return nil }
    var changes: [NoticeLine] = []
    for line in page.lines {
      let subject = line.notice.subject
      if line.stands {
        seen?.insert(subject)
        if known.updateValue(line.notice, forKey: subject) != line.notice { changes.append(line) }
      } else if let old = known.removeValue(forKey: subject) {
        seen?.remove(subject)
        changes.append(NoticeLine(old, stands: false))
      }
    }
    last = page.to
    guard !page.more else { return changes }
    isWhole = true
    if let seen {
      for (subject, notice) in known where !seen.contains(subject) {
        known[subject] = nil
        changes.append(NoticeLine(notice, stands: false))
      }
      self.seen = nil
    }
    return changes
  }
}

/// All that a node knows of the others, and what it says itself.
public struct NoticeBoard: Sendable {
  public var own: NoticeBook
  private var readings: [NodeID: NoticeReading] = [:]

  /// `epoch`: random.
  public init(epoch: UInt64) { own = NoticeBook(epoch: epoch) }

  /// Where the reading of a node's book stopped.
  public func place(_ node: NodeID) -> (epoch: UInt64, last: UInt64) {
    readings[node].map { ($0.epoch, $0.last) } ?? (0, 0)
  }

  /// True once its book was read to the end.
  public func isWhole(_ node: NodeID) -> Bool { readings[node]?.isWhole ?? false }

  /// Takes in a page; the changes are for the host to carry out, in order. What one node takes back and
  /// another still says stands. nil: the page does not fit, ask again from `place`.
  public mutating func receive(_ page: NoticePage, from node: NodeID) -> [NoticeLine]? {
    guard let changes = readings[node, default: NoticeReading()].receive(page) else {
      readings[node] = nil
      return nil
    }
    return changes.filter { $0.stands || !stands($0.notice.subject) }
  }

  /// Says something to the others. False: nothing new.
  public mutating func say(_ notice: Notice, stands: Bool = true) -> Bool {
    own.say(notice, stands: stands)
  }

  /// The node is of the cluster no more. Its tenants are others' now, who say what stands.
  public mutating func forget(_ node: NodeID) -> [NoticeLine] {
    guard let gone = readings.removeValue(forKey: node) else { return [] }
    return gone.known.values.filter { !stands($0.subject) }.map { NoticeLine($0, stands: false) }
  }

  /// Nodes whose books were begun.
  public var nodes: [NodeID] { readings.keys.sorted() }

  /// Does anyone say so?
  public func stands(_ subject: Notice.Subject) -> Bool {
    own.stands(subject) || readings.values.contains { $0.known[subject] != nil }
  }
}
