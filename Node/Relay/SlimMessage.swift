import Base
import Codec
import Engine
import Slim

/// A SLIM publish on its way, as every receiver gets it but for its header MAC. One buffer, shared by all
/// queues of all loops.
struct SlimMessage: Sendable {
  /// What it has in common with others under the same header.
  let course: SlimCourse
  /// gRPC prefix and message; family B: with a hole for the MAC.
  let frame: Bytes
  /// To one subscriber.
  let isAnycast: Bool
  /// The sender uses this header again and again: its MACs are worth remembering.
  let repeats: Bool
  /// Of an archived channel: where it stands in it.
  let channel: ChannelRef?
  let sequence: UInt64
  /// Who sent it, when that is not known where it is routed.
  let sender: SessionID?

  init(
    _ course: SlimCourse, _ frame: Bytes, repeats: Bool, channel: ChannelRef? = nil,
    sequence: UInt64 = 0, sender: SessionID? = nil
  ) {
    self.course = course
    isAnycast = course.isAnycast
    self.frame = frame
    self.repeats = repeats
    self.channel = channel
    self.sequence = sequence
    self.sender = sender
  }

  /// What it counts for on its way to another node.
  var linkCost: Int { 256 &+ frame.count }
}

/// Where messages under one header go, and what their receivers' MACs are made of. Made once for all of them.
final class SlimCourse: Sendable {
  let family: Family
  let destination: SlimName
  /// To one subscriber.
  let isAnycast: Bool
  /// nil in family A.
  let hop: SlimHop?

  init(_ family: Family, _ destination: SlimName, isAnycast: Bool, _ hop: SlimHop?) {
    self.family = family
    self.destination = destination
    self.isAnycast = isAnycast
    self.hop = hop
  }
}

/// The signed part of a header behind the link's own, for the next hop.
final class SlimHop: Sendable {
  let rest: [UInt8]
  init(_ rest: [UInt8]) { self.rest = rest }
}
