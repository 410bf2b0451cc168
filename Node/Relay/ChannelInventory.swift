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
    guard let (id, name, family) = Self.identity(name) else { return nil }
    guard try store.get(.state, key: StateKind.prefix(StateKind.name, id)) != nil else {
      return nil
    }
    return try describe(id, name: name, family: family)
  }

  /// Channels in the order of their ids, from the one after `after`, up to `limit`. `prefix` as people type it: of
  /// SLIM names, which are kept as hashes, every part of it stands for a whole component.
  func channels(prefix: String, after: String, limit: Int) throws(Fault) -> [AdminChannel] {
    var from = [StateKind.name]
    if let (id, _, _) = Self.identity(after) { from += id.bytes + [0] }
    var found: [(ChannelID, String, Family)] = []
    let hashed = SlimChannel.prefixes(prefix)
    try unsafe store.scan(.state, from: from, to: [StateKind.name + 1]) { key, value in
      guard let entry = unsafe Self.name(key, value) else { return true }
      if prefix.isEmpty || entry.1.hasPrefix(prefix) || hashed.contains(where: entry.1.hasPrefix) {
        found.append(entry)
      }
      return found.count < limit
    }
    var out: [AdminChannel] = []
    for (id, name, family) in found {
      if let channel = try describe(id, name: name, family: family) { out.append(channel) }
    }
    return out
  }

  /// The channel a text names; nil when it names none.
  static func identity(_ text: String) -> (ChannelID, String, Family)? {
    if let (family, name) = SlimChannel.parse(text) {
      let ref = SlimChannel.ref(family, name)
      return (ref.id, ref.name, family)
    }
    guard let name = ChannelName(text)?.description else { return nil }
    return (ChannelID(family: .skytale, name: name), name, .skytale)
  }

  static func name(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) -> (ChannelID, String, Family)? {
    guard key.count == 17, value.count > 1, let family = unsafe Family(rawValue: value[0]) else {
      return nil
    }
    let id = unsafe ChannelID(
      high: UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 1, as: UInt64.self)),
      low: UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 9, as: UInt64.self)))
    return (id, unsafe String(decoding: value.dropFirst(), as: UTF8.self), family)
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
    try unsafe store.scan(.state, from: grants, to: Store.after(prefix: grants)) { _, value in
      unsafe out.grants.append(String(decoding: value, as: UTF8.self))
      return true
    }
    return out
  }
}
