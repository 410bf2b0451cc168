import Base
import Testing

@testable import Token

@Suite("Notices", .timeLimit(.minutes(1))) struct NoticeTests {
  private struct Dice {
    var state: UInt64
    mutating func next(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(bound))
    }
  }

  private static func notice(_ dice: inout Dice) -> Notice {
    let tenant = TenantID(UInt64(1 + dice.next(6)))
    switch dice.next(4) {
    case 0: return .keyEnded(tenant, RecordID(UInt64(dice.next(9))))
    case 1:
      return .tenant(
        tenant, dice.next(2) == 0 ? .suspended : .deleted,
        created: Instant(nanoseconds: Int64(dice.next(3))))
    case 2: return .granted(ChannelID(high: 1, low: UInt64(dice.next(9))), tenant, org: "o")
    default: return .slow(tenant)
    }
  }

  /// Carries changes out as a host would, and says what stands by them.
  private struct Host {
    var stands: [Notice.Subject: Notice] = [:]
    mutating func carry(out lines: [NoticeLine]) {
      for line in lines { stands[line.notice.subject] = line.stands ? line.notice : nil }
    }
  }

  /// Reads on until there is no more; some pages get lost, some come twice.
  private static func read(
    _ book: NoticeBook, _ node: NodeID, _ board: inout NoticeBoard, _ host: inout Host,
    _ dice: inout Dice
  ) throws {
    for _ in 0..<1_000 {
      let place = board.place(node)
      let asked = try NoticeQuery(
        decoding: NoticeQuery(epoch: place.epoch, after: place.last).encoded)
      let page = try NoticePage(
        decoding: book.page(epoch: asked.epoch, after: asked.after).encoded)
      if dice.next(10) == 0 { continue }
      if let lines = board.receive(page, from: node) { host.carry(out: lines) }
      if dice.next(10) == 0, let lines = board.receive(page, from: node) {
        host.carry(out: lines)
      }
      if board.place(node) == (book.epoch, book.last), !page.more { return }
    }
    Issue.record("the reading never comes to an end")
  }

  @Test("Whatever is said, lost, told twice or begun anew: after a reading all know what stands")
  func converges() throws {
    for seed in 0..<300 {
      var dice = Dice(state: UInt64(seed))
      var books: [NodeID: NoticeBook] = [:]
      for n in 1...3 { books[NodeID(UInt64(n))] = NoticeBook(epoch: UInt64(1_000 * n)) }
      var board = NoticeBoard(epoch: 5)
      var host = Host()
      for _ in 0..<40 {
        let node = NodeID(UInt64(1 + dice.next(3)))
        switch dice.next(12) {
        case 0:
          // Its process starts again and says what its rows say.
          let all = (0..<dice.next(8)).map { _ in Self.notice(&dice) }
          books[node] = NoticeBook(epoch: UInt64(10_000 + dice.next(1_000_000)))
          for one in all { books[node]!.say(one) }
        case 1: books[node]!.replace((0..<dice.next(8)).map { _ in Self.notice(&dice) })
        case 2, 3, 4: try Self.read(books[node]!, node, &board, &host, &dice)
        default: books[node]!.say(Self.notice(&dice), stands: dice.next(3) > 0)
        }
      }
      for (node, book) in books { try Self.read(book, node, &board, &host, &dice) }
      var wanted: Set<Notice.Subject> = []
      for book in books.values {
        for line in book.page(epoch: 0, after: 0).lines where line.stands {
          wanted.insert(line.notice.subject)
        }
      }
      #expect(Set(host.stands.keys) == wanted, "seed \(seed)")
      for subject in wanted { #expect(board.stands(subject)) }
    }
  }

  @Test("A book of many pages is read in order, also while it grows and shrinks")
  func pages() throws {
    var book = NoticeBook(epoch: 1)
    for n in 0..<10_000 { book.say(.keyEnded(TenantID(1), RecordID(UInt64(n)))) }
    for n in 0..<3_000 { book.say(.keyEnded(TenantID(1), RecordID(UInt64(n))), stands: false) }
    #expect(book.count == 7_000)
    var board = NoticeBoard(epoch: 2)
    var host = Host()
    var dice = Dice(state: 1)
    let node = NodeID(9)
    let first = book.page(epoch: 0, after: 0)
    #expect(first.more && first.lines.count == NoticeBook.pageLines)
    let lines = board.receive(first, from: node)
    host.carry(out: try #require(lines))
    #expect(!board.isWhole(node))
    for n in 3_000..<9_000 { book.say(.keyEnded(TenantID(1), RecordID(UInt64(n))), stands: false) }
    try Self.read(book, node, &board, &host, &dice)
    #expect(board.isWhole(node) && host.stands.count == 1_000 && book.count == 1_000)
    let place = board.place(node)
    #expect(book.page(epoch: place.epoch, after: place.last).lines.isEmpty)
  }

  @Test(
    "What one node takes back stands while another says it, and a node that is gone says nothing")
  func several() throws {
    let ended = Notice.granted(ChannelID(high: 1, low: 1), TenantID(4), org: "o")
    var board = NoticeBoard(epoch: 1)
    var (a, b) = (NoticeBook(epoch: 2), NoticeBook(epoch: 3))
    a.say(ended)
    b.say(ended)
    let first = board.receive(a.page(epoch: 0, after: 0), from: NodeID(1))
    #expect(first?.count == 1)
    _ = board.receive(b.page(epoch: 0, after: 0), from: NodeID(2))
    a.say(ended, stands: false)
    let second = board.receive(a.page(epoch: 2, after: 1), from: NodeID(1))
    #expect(second == [])
    #expect(board.stands(ended.subject))
    let gone = board.forget(NodeID(2))
    #expect(gone == [NoticeLine(ended, stands: false)])
    #expect(!board.stands(ended.subject))
    let late = board.receive(b.page(epoch: 3, after: 1), from: NodeID(2))
    #expect(late == nil, "not from its start")
  }

  @Test("Saying the same again tells nobody anything")
  func again() {
    var board = NoticeBoard(epoch: 1)
    let notice = Notice.slow(TenantID(3))
    let news = [false, true, true, false, false].map { board.say(notice, stands: $0) }
    #expect(news == [false, true, false, true, false])
    #expect(board.own.last == 2 && board.own.count == 0)
  }
}
