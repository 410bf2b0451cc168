import Base
import Codec
import Digest
import Engine

/// Which names one SLIM stream may use: those whose component_0 is the hash of its org, and those of channels its
/// tenant has a grant for. What was found out about a grant holds until grants change, a refusal for a second.
struct SlimRights {
  enum Verdict: Equatable {
    case yes
    case no
    /// A name of another org that has a channel's form: does the tenant have a grant for it?
    case ask(ChannelID)
  }
  /// nil: every name is allowed (no credential under `--auth open`).
  private let org: UInt64?
  private var grants: [ChannelID: Answer] = [:]

  private struct Answer {
    var granted: Bool
    var version: UInt64
    var until: Instant
  }

  init(_ principal: Principal) {
    org = principal.anonymous ? nil : componentHash(principal.org)
  }

  /// `record`: the header's. `version`: of the grants the node knows of.
  func judge(
    _ header: SlimHeader, _ record: UnsafeRawBufferPointer, version: UInt64, at now: Instant
  ) -> Verdict {
    guard let source = header.source, let destination = header.destination else { return .no }
    guard let org else { return .yes }
    // A `str_name` beside the EncodedName must say the same.
    guard source.c0 == org, unsafe agrees(source, header.sourceText, record),
      unsafe agrees(destination, header.destinationText, record)
    else { return .no }
    if destination.c0 == org { return .yes }
    guard let body = header.destinationText,
      let name = unsafe SlimNameText(record, body: body)?.channelName(in: record)
    else { return .no }
    let channel = ChannelID(family: .skytale, name: name.description)
    guard let known = grants[channel] else { return isFull ? .no : .ask(channel) }
    guard known.version == version, known.granted || now < known.until else { return .ask(channel) }
    return known.granted ? .yes : .no
  }

  /// What was granted is never forgotten: who lives by a grant that is taken back must be found.
  private var isFull: Bool {
    grants.count >= Limits.slimGrantsPerSession && grants.allSatisfy(\.value.granted)
  }

  mutating func learn(_ channel: ChannelID, granted: Bool, version: UInt64, at now: Instant) {
    if grants[channel] == nil, grants.count >= Limits.slimGrantsPerSession {
      grants = grants.filter(\.value.granted)
    }
    grants[channel] = Answer(granted: granted, version: version, until: now + .seconds(1))
  }

  /// Has this stream used that channel by a grant?
  func uses(_ channel: ChannelID) -> Bool { grants[channel]?.granted ?? false }

  private func agrees(
    _ name: SlimName, _ text: Range<Int>?, _ record: UnsafeRawBufferPointer
  ) -> Bool {
    guard let text else { return true }
    guard let parts = unsafe SlimNameText(record, body: text) else { return false }
    func hash(_ range: Range<Int>) -> UInt64 {
      unsafe componentHash(UnsafeRawBufferPointer(rebasing: record[range]))
    }
    return hash(parts.org) == name.c0 && hash(parts.namespace) == name.c1
      && hash(parts.service) == name.c2
  }
}
