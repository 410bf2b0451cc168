public import Base

/// Checks a channel's records against each other and its head: feed every row of table `records` of the
/// channel in key order, then `finish`. Pure; memory does not grow with the channel.
public struct ChannelVerifier: Sendable {
  /// What is wrong, and from which sequence on.
  public enum Finding: Error, Sendable, Equatable {
    /// Messages are missing: `next` was due and `found` came.
    case gap(next: UInt64, found: UInt64)
    /// Two records hold the same sequences.
    case overlap(next: UInt64, found: UInt64)
    case damaged(first: UInt64, RecordError)
    /// A record does not name the one before it.
    case chain(first: UInt64)
    /// The records end before the head does, or after it.
    case headSequence(head: UInt64, last: UInt64)
    /// The last record is not the one that the head names.
    case headHash(last: UInt64)
    /// The first record kept is not where the head says that the kept part begins.
    case oldest(head: UInt64, first: UInt64)
    case noHead
    case damagedHead
    /// A message's suffix holds another sequence than its place.
    case suffix(sequence: UInt64)
  }

  public let channel: ChannelID
  /// The sequence that should come next; 0 before the first record.
  public private(set) var next: UInt64 = 0
  private var first: UInt64 = 0
  private var previous: RecordHash?
  /// After a damaged record neither place nor chain are known.
  private var lost = false
  public private(set) var records: UInt64 = 0
  public private(set) var messages: UInt64 = 0
  public private(set) var bytes: UInt64 = 0

  public init(_ channel: ChannelID) { self.channel = channel }

  /// Takes the next row.
  /// - Parameter body: called for each message of an undamaged record.
  public mutating func feed(
    _ row: Row, _ body: (UInt64, RecordMessage) -> Void = { _, _ in }
  ) -> [Finding] {
    var findings: [Finding] = []
    records += 1
    var count: UInt64 = 0
    var size: UInt64 = 0
    let header: RecordHeader
    do throws(RecordError) {
      header = try RecordReader.read(row, channel: channel) { sequence, message in
        count += 1
        size += UInt64(message.frame.count - RecordHeader.framePrefix)
        if message.hasSuffix, !ChannelVerifier.suffixHolds(message.frame, sequence) {
          findings.append(.suffix(sequence: sequence))
        }
        body(sequence, message)
      }
    } catch {
      let place = RecordKey.parse(row.key)?.first ?? next
      findings.append(.damaged(first: place, error))
      if first == 0 { first = place }
      lost = true
      previous = nil
      return findings
    }
    messages += count
    bytes += size
    if first == 0 { first = header.first }
    if next != 0, !lost {
      if header.first > next { findings.append(.gap(next: next, found: header.first)) }
      if header.first < next { findings.append(.overlap(next: next, found: header.first)) }
    }
    if let previous, header.previous != previous { findings.append(.chain(first: header.first)) }
    previous = RecordReader.hash(row)
    next = header.last + 1
    lost = false
    return findings
  }

  /// Compares with the head row (its value), nil when there is none.
  public func finish(head value: [UInt8]?) -> [Finding] {
    guard let value else { return records == 0 ? [] : [.noHead] }
    guard let head = try? HeadRow(decoding: value) else { return [.damagedHead] }
    if lost { return [] }
    if records == 0 {
      return head.oldest == head.last + 1 ? [] : [.headSequence(head: head.last, last: 0)]
    }
    var findings: [Finding] = []
    if head.last != next - 1 { findings.append(.headSequence(head: head.last, last: next - 1)) }
    if head.oldest != first { findings.append(.oldest(head: head.oldest, first: first)) }
    if head.last == next - 1, head.hash != previous { findings.append(.headHash(last: next - 1)) }
    return findings
  }

  private static func suffixHolds(_ frame: Bytes, _ sequence: UInt64) -> Bool {
    guard frame.count >= RecordHeader.framePrefix + Limits.suffixBytes else { return false }
    let at = unsafe frame.base + (frame.count - Limits.suffixBytes)
    return unsafe UInt64(bigEndian: at.loadUnaligned(as: UInt64.self)) == sequence
  }
}
