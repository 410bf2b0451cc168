import Base
import Digest
import Engine
import Messages
import Store

/// What the store says of channels, for operators: read beside the engines, never on a loop.
struct ChannelInventory {
  let store: Store

  /// One channel as its rows describe it. nil: no such channel.
  func channel(_ name: String) throws(Fault) -> AdminChannel? {
    let id = ChannelID(family: .skytale, name: name)
    guard try store.get(.state, key: StateKind.prefix(StateKind.name, id)) != nil else { return nil }
    return try describe(id, name: name, family: .skytale)
  }

  /// Channels in the order of their ids, from the one after `after`, up to `limit`.
  func channels(prefix: String, after: String, limit: Int) throws(Fault) -> [AdminChannel] {
    var from = [StateKind.name]
    if !after.isEmpty { from += ChannelID(family: .skytale, name: after).bytes + [0] }
    var found: [(ChannelID, String, Family)] = []
    try store.scan(.state, from: from, to: [StateKind.name + 1]) { key, value in
      guard let entry = Self.name(key, value) else { return true }
      if prefix.isEmpty || entry.1.hasPrefix(prefix) { found.append(entry) }
      return found.count < limit
    }
    var out: [AdminChannel] = []
    for (id, name, family) in found {
      if let channel = try describe(id, name: name, family: family) { out.append(channel) }
    }
    return out
  }

  private static func name(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) -> (ChannelID, String, Family)? {
    guard key.count == 17, value.count > 1, let family = Family(rawValue: value[0]) else { return nil }
    let id = ChannelID(
      high: UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 1, as: UInt64.self)),
      low: UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 9, as: UInt64.self)))
    return (id, String(decoding: value.dropFirst(), as: UTF8.self), family)
  }

  private func describe(
    _ id: ChannelID, name: String, family: Family
  ) throws(Fault) -> AdminChannel? {
    var out = AdminChannel()
    out.name = name
    out.channelID = Text.hex(id.bytes)
    out.family = "\(family)"
    out.slot = UInt32(id.slot)
    out.state = "active"
    if let row = try store.get(.state, key: HeadRow.key(id)) {
      guard let head = try? HeadRow(decoding: row) else {
        out.state = "damaged"
        return out
      }
      if head.deleted { return nil }
      out.firstSequence = head.oldest
      out.lastSequence = head.last
      out.generation = UInt64(head.generation)
      out.bytes = head.bytesKept
      let commits = StateKind.prefix(StateKind.commit, id) + bigEndianBytes(head.generation)
      if let last = try store.lastRow(
        .state, atOrBefore: commits + bigEndianBytes(UInt64.max), prefix: commits.count),
        let commit = try? CommitRow(last)
      {
        out.mlsEpoch = commit.epoch + 1
      }
    }
    let grants = StateKind.prefix(StateKind.grant, id)
    try store.scan(.state, from: grants, to: keyAfter(prefix: grants)) { _, value in
      out.grants.append(String(decoding: value, as: UTF8.self))
      return true
    }
    return out
  }

  // MARK: verify

  /// Reads every record of one channel, or of all when `only` is empty, and reports what is wrong.
  /// `progress` is called now and then and at the end; it returns false to stop.
  func verify(
    only: String, _ progress: (AdminVerifyProgress) -> Bool
  ) throws(Fault) {
    var state = AdminVerifyProgress()
    var targets: [(ChannelID, String)] = []
    if only.isEmpty {
      try store.scan(.state, from: [StateKind.name], to: [StateKind.name + 1]) { key, value in
        if let (id, name, _) = Self.name(key, value) { targets.append((id, name)) }
        return true
      }
    } else {
      guard try channel(only) != nil else { throw Fault(.notFound, "no channel \(only)") }
      targets.append((ChannelID(family: .skytale, name: only), only))
    }
    for (id, name) in targets {
      verify(id, name, &state)
      state.channels += 1
      if state.channels % 64 == 0 || !state.findings.isEmpty {
        if !progress(state) { return }
        state.findings = []
      }
    }
    findStrays(Set(targets.map(\.0)), only: only, &state)
    state.done = true
    _ = progress(state)
  }

  private func verify(_ id: ChannelID, _ name: String, _ state: inout AdminVerifyProgress) {
    var verifier = ChannelVerifier(id)
    func report(_ finding: ChannelVerifier.Finding) {
      var row = AdminVerifyFinding()
      row.channel = name
      row.sequence = finding.sequence
      row.problem = "\(finding)"
      row.file = store.path
      state.findings.append(row)
    }
    var next: UInt64 = 0
    do {
      try store.scan(.records, from: id.bytes, to: keyAfter(prefix: id.bytes), bulk: true) { key, value in
        let row = Row(key: [UInt8](key), value: [UInt8](value))
        for finding in verifier.feed(row) { report(finding) }
        if let parsed = RecordKey.parse(row.key) { next = parsed.first }
        return true
      }
      for finding in verifier.finish(head: try store.get(.state, key: HeadRow.key(id))) { report(finding) }
    } catch {
      var row = AdminVerifyFinding()
      row.channel = name
      row.sequence = next
      row.file = error.detail
      row.problem = "the storage engine refused to read on after this sequence"
      state.findings.append(row)
    }
    state.records += verifier.records
    state.messages += verifier.messages
  }

  /// Records whose channel has no name row: their name was lost.
  private func findStrays(
    _ known: Set<ChannelID>, only: String, _ state: inout AdminVerifyProgress
  ) {
    guard only.isEmpty else { return }
    var from: [UInt8] = []
    while true {
      var stray: ChannelID?
      do {
        try store.scan(.records, from: from, to: [UInt8](repeating: 0xff, count: 25)) { key, _ in
          guard let parsed = RecordKey.parse([UInt8](key)) else { return true }
          stray = parsed.channel
          return false
        }
      } catch {
        return
      }
      guard let channel = stray else { return }
      if !known.contains(channel) {
        var row = AdminVerifyFinding()
        row.channel = Text.hex(channel.bytes)
        row.sequence = 1
        row.problem = "records of a channel whose name row is missing"
        row.file = store.path
        state.findings.append(row)
      }
      from = keyAfter(prefix: channel.bytes)
    }
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
