import Base
import Codec
import Crypto
import Engine
import Slim

/// Why a message goes no further.
enum SlimRefusal: Equatable {
  case none, noRight, badMac, expired
  case ask(ChannelID)
}

/// A header as it came last, and what follows from it.
final class SlimKnownHeader {
  /// The whole header record.
  private let bytes: Bytes
  let header: SlimHeader
  /// Checked last: ttl. With `expired` all else is right.
  var refusal = SlimRefusal.none
  /// Of the grants, when the refusal was found out.
  var version: UInt64 = 0
  /// For the MACs of the next hop (family B).
  var hop: SlimHop?
  var isRepeated = false
  /// What its messages have in common on their way; nil: they go nowhere.
  var course: SlimCourse?
  /// How the next message under it is made ready, when nothing of it moves.
  let patch: SlimPatch?
  var route: SlimRoute? {
    didSet { borrowedRoute = route.map { Borrowed($0) } }
  }
  /// The same: `route` holds it.
  private(set) var borrowedRoute: Borrowed<SlimRoute>?
  var routeVersion: UInt64 = .max
  /// The archived channel of the destination, once something was archived there.
  var channel: ChannelRef?

  init(_ record: UnsafeRawBufferPointer, _ header: SlimHeader, _ family: Family) {
    bytes = unsafe Bytes(record)
    self.header = header
    patch = SlimForward.patch(header, family: family)
  }
  /// Lives as long as the object.
  var record: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: bytes.base, count: bytes.count)
  }
  /// Worth keeping: a long one would hold its memory as long as the stream lasts.
  var isShort: Bool { bytes.count <= Limits.slimKnownHeaderBytes }
  var isAllowed: Bool { refusal == .none }
  var destination: SlimName? { header.destination }
}

/// The MACs of the last few headers that repeat, for one link.
struct SlimMacCache {
  private var entries: [(hop: SlimHop, tag: InlineArray<32, UInt8>)] = []
  private var next = 0

  mutating func tag(_ hop: SlimHop, _ mac: LinkMac) -> InlineArray<32, UInt8> {
    for entry in entries where entry.hop === hop { return entry.tag }
    let tag = mac.tag(hop.rest)
    if entries.count < Limits.slimKnownMacs {
      entries.append((hop, tag))
    } else {
      entries[next] = (hop, tag)
      next = (next + 1) % entries.count
    }
    return tag
  }
}
