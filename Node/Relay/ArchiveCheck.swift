import Base
import Digest
import Engine
import Messages
import Store

/// Reads what is stored of channels the way agents' reads do, and reports what is wrong: whatever a read
/// would be refused for is found here, with file, channel and sequence. Damage ends nothing; it goes on
/// behind it.
struct ArchiveCheck {
  let store: Store
  private var state = AdminVerifyProgress()
  /// Bytes of one read.
  private static let pageBytes = 4 << 20

  init(store: Store) { self.store = store }

  /// One channel, or all when `only` is empty. `progress` is called now and then and at the end, with the
  /// findings since the call before; it returns false to stop.
  mutating func run(only: String, _ progress: (AdminVerifyProgress) -> Bool) throws(Fault) {
    let targets = only.isEmpty ? everyChannel() : try named(only)
    for (id, name) in targets {
      check(id, name)
      state.channels += 1
      guard state.channels % 64 == 0 || !state.findings.isEmpty else { continue }
      if !progress(state) { return }
      state.findings = []
    }
    state.done = true
    _ = progress(state)
  }

  private mutating func note(
    _ channel: String, _ sequence: UInt64, _ file: String, _ problem: String
  ) {
    var finding = AdminVerifyFinding()
    finding.channel = channel
    finding.sequence = sequence
    finding.file = file
    finding.problem = problem
    state.findings.append(finding)
  }

  private mutating func note(
    _ channel: String, _ sequence: UInt64, _ fault: Fault, _ problem: String
  ) {
    let file = Store.damagedFile(fault)
    note(
      channel, sequence, file ?? store.path, file == nil ? "\(problem): \(fault.detail)" : problem)
  }

  // MARK: which channels

  private func named(_ name: String) throws(Fault) -> [(ChannelID, String)] {
    guard let (id, name, _) = ChannelInventory.identity(name) else { throw Fault(.badChannelName) }
    do throws(Fault) {
      guard try store.get(.state, key: StateKind.prefix(StateKind.name, id)) != nil else {
        throw Fault(.notFound, "no channel \(name)")
      }
    } catch {
      // An unreadable name row is for the check to report.
      if error.code != .damaged { throw error }
    }
    return [(id, name)]
  }

  /// By their names; where names or their index cannot be read, by what the records and the slot log say.
  private mutating func everyChannel() -> [(ChannelID, String)] {
    var known: [ChannelID: String] = [:]
    var isDamaged = false
    do throws(Fault) {
      try unsafe store.scan(.state, from: [StateKind.name], to: [StateKind.name + 1], bulk: true) {
        key, value in
        if let (id, name, _) = unsafe ChannelInventory.name(key, value) { known[id] = name }
        return true
      }
    } catch {
      note("", 0, error, "the list of channel names cannot be read to its end")
      isDamaged = true
    }
    var strays = Set<ChannelID>()
    do throws(Fault) {
      try scanRecordChannels { strays.insert($0) }
    } catch {
      isDamaged = true
    }
    if isDamaged {
      do throws(Fault) {
        try unsafe store.scan(.slots, bulk: true) { _, value in
          guard value.count == 24 else { return true }
          unsafe strays.insert(Self.channel(value))
          return true
        }
      } catch {
        note("", 0, error, "the slot log cannot be read to its end")
      }
    }
    for id in strays where known[id] == nil { known[id] = strayName(id) }
    return known.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  private static func channel(_ key: UnsafeRawBufferPointer) -> ChannelID {
    unsafe ChannelID(
      high: UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
      low: UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
  }

  /// Every channel that has records, by jumping from one to the next.
  private func scanRecordChannels(_ body: (ChannelID) -> Void) throws(Fault) {
    var from: [UInt8] = []
    while true {
      var found: ChannelID?
      try unsafe store.scan(.records, from: from) { key, _ in
        if key.count == 24 { found = unsafe Self.channel(key) }
        return found == nil
      }
      guard let channel = found else { return }
      body(channel)
      guard let next = Store.after(prefix: channel.bytes) else { return }
      from = next
    }
  }

  /// The name of a channel that was not listed, or its id.
  private mutating func strayName(_ id: ChannelID) -> String {
    let hex = Text.hex(id.bytes)
    do throws(Fault) {
      let row = try store.get(.state, key: StateKind.prefix(StateKind.name, id))
      if let row, row.count > 1 { return String(decoding: row.dropFirst(), as: UTF8.self) }
      // A deleted channel keeps slot rows and no name.
      let head = try store.get(.state, key: HeadRow.key(id))
      if head == nil || (try? HeadRow(decoding: head!))?.deleted == false {
        note(hex, 1, store.path, "records of a channel whose name row is missing")
      }
    } catch {
      note(hex, 1, error, "the name row of this channel id cannot be read")
    }
    return hex
  }

  // MARK: one channel

  private mutating func check(_ id: ChannelID, _ name: String) {
    do throws(Fault) {
      // What opening the channel reads; without it every read is refused.
      _ = try store.stateRows(of: id)
    } catch {
      note(name, 1, error, "the channel's state cannot be read, so it is not served")
    }
    let begin = head(id)
    if begin?.row?.deleted == true { return }
    var verifier = ChannelVerifier(id)
    var next = max(begin?.row?.oldest ?? 1, 1)
    var isWhole = true
    while true {
      // Before the records: what is written meanwhile is behind it, not missing.
      let head = head(id)
      do throws(Fault) {
        let rows = try store.records(of: id, from: next, limitBytes: Self.pageBytes)
        if let after = feed(rows, from: next, &verifier, name) {
          next = after
          continue
        }
        if isWhole, let head { finish(verifier, head, oldestBefore: begin?.row?.oldest, name) }
        break
      } catch {
        isWhole = false
        let behind = firstReadable(id, behind: next, last: head?.row?.last)
        let what = behind.map { $0 == next + 1 ? "" : ", to \($0 - 1)," } ?? " and what follows"
        note(name, next, error, "the message of this sequence\(what) cannot be read")
        guard let behind else { break }
        count(verifier)
        // Place and chain are not known behind a hole.
        verifier = ChannelVerifier(id)
        next = behind
      }
    }
    count(verifier)
  }

  /// nil when the head cannot be read; its damage is noted once, by the channel's state.
  private func head(_ id: ChannelID) -> (bytes: [UInt8]?, row: HeadRow?)? {
    guard let bytes = try? store.get(.state, key: HeadRow.key(id)) as [UInt8]?? else { return nil }
    return (bytes, bytes.flatMap { try? HeadRow(decoding: $0) })
  }

  private mutating func finish(
    _ verifier: ChannelVerifier, _ head: (bytes: [UInt8]?, row: HeadRow?), oldestBefore: UInt64?,
    _ name: String
  ) {
    for finding in verifier.finish(head: head.bytes) {
      // Retention may move on while the records are read.
      if case .oldest = finding, head.row?.oldest != oldestBefore { continue }
      note(name, finding)
    }
  }

  private mutating func count(_ verifier: ChannelVerifier) {
    state.records += verifier.records
    state.messages += verifier.messages
  }

  private mutating func note(_ name: String, _ finding: ChannelVerifier.Finding) {
    note(name, finding.sequence, store.path, "\(finding)")
  }

  /// The sequence after the last of `rows`; nil when none of them is at `next` or behind it.
  private mutating func feed(
    _ rows: [Row], from next: UInt64, _ verifier: inout ChannelVerifier, _ name: String
  ) -> UInt64? {
    var after: UInt64?
    for row in rows {
      guard let key = RecordKey.parse(row.key), key.first >= next else { continue }
      for finding in verifier.feed(row) { note(name, finding) }
      after = max(key.first + 1, verifier.next)
    }
    return after
  }

  /// The first record behind an unreadable one, looked for in growing steps.
  private func firstReadable(_ id: ChannelID, behind next: UInt64, last: UInt64?) -> UInt64? {
    let end = id.bytes + bigEndianBytes(UInt64.max)
    var step: UInt64 = 1
    while step < 1 << 40, next + step <= last ?? .max / 2 {
      let from = RecordKey.key(id, next + step)
      if let rows = try? store.rows(.records, from: from, to: end, limitBytes: 1) {
        return rows.first.flatMap { RecordKey.parse($0.key)?.first }
      }
      step *= 2
    }
    return nil
  }
}

extension ChannelVerifier.Finding {
  /// The first sequence it concerns.
  var sequence: UInt64 {
    switch self {
    case .gap(let next, _): next
    case .overlap(_, let found): found
    case .damaged(let first, _): first
    case .chain(let first): first
    case .headSequence(_, let last): last
    case .headHash(let last): last
    case .oldest(_, let first): first
    case .noHead, .damagedHead: 0
    case .suffix(let sequence): sequence
    }
  }
}
