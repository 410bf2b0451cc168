import Base
import Codec
import Digest
import Engine

/// How an archived SLIM channel is called: `slim-a:` or `slim-b:`, the three component hashes and the id in hex
/// (`*` for NULL), with slashes between. The hashes are all a relay is sure to know of a name.
enum SlimChannel {
  static func text(_ family: Family, _ name: SlimName) -> String {
    let id: String
    if name.isAny {
      id = "*"
    } else {
      id = family == .slimA ? hex(name.idLow) : hex(name.idHigh) + hex(name.idLow)
    }
    return prefix(family) + [hex(name.c0), hex(name.c1), hex(name.c2), id].joined(separator: "/")
  }

  private static func prefix(_ family: Family) -> String {
    family == .slimA ? "slim-a:" : "slim-b:"
  }

  private static func hex(_ value: UInt64) -> String { Text.hex(bigEndianBytes(value)) }

  /// Reads the form above, and the one people type: `slim-a:org/namespace/service`, with `/ID` behind it for one
  /// instance. nil: no SLIM name.
  static func parse(_ text: String) -> (family: Family, name: SlimName)? {
    let family: Family
    if text.hasPrefix("slim-a:") {
      family = .slimA
    } else if text.hasPrefix("slim-b:") {
      family = .slimB
    } else {
      return nil
    }
    guard text.utf8.count <= Limits.channelNameBytes else { return nil }
    let parts = text.utf8.dropFirst(7).split(separator: 0x2f, omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
    guard parts.count == 3 || parts.count == 4, parts.allSatisfy({ !$0.isEmpty }) else {
      return nil
    }
    let isHex = parts.count == 4 && parts[..<3].allSatisfy { word($0) != nil }
    let hashes = parts[..<3].map { isHex ? word($0) ?? 0 : componentHash($0) }
    var name = SlimName(c0: hashes[0], c1: hashes[1], c2: hashes[2])
    if parts.count == 4, parts[3] != "*" {
      let id = parts[3]
      if family == .slimA {
        guard let low = word(id) else { return nil }
        (name.idHigh, name.idLow) = (0, low)
      } else {
        guard id.utf8.count == 32, let high = word(String(id.prefix(16))),
          let low = word(String(id.suffix(16)))
        else { return nil }
        (name.idHigh, name.idLow) = (high, low)
      }
    }
    return (family, name)
  }

  /// The beginnings, in the form above, of what people mean by `org`, `org/namespace` or `org/namespace/service`, with
  /// or without a family before it. Empty: the text can be no SLIM name, or has hashes already.
  static func prefixes(_ text: String) -> [String] {
    let named = [Family.slimA, .slimB].filter { text.hasPrefix(prefix($0)) }
    let body = named.isEmpty ? text : String(text.utf8.dropFirst(7)) ?? ""
    guard body.utf8.count <= Limits.channelNameBytes else { return [] }
    let parts = body.utf8.split(separator: 0x2f).map { String(decoding: $0, as: UTF8.self) }
    guard (1...3).contains(parts.count) else { return [] }
    let hashes = parts.map { hex(componentHash($0)) + "/" }.joined()
    return (named.isEmpty ? [.slimA, .slimB] : named).map { prefix($0) + hashes }
  }

  private static func word(_ text: String) -> UInt64? {
    text.utf8.count == 16 && text.utf8.allSatisfy { $0 != 0x2b && $0 != 0x2d }
      ? UInt64(text, radix: 16) : nil
  }

  /// Without an org: who may use a SLIM name is decided on the stream, by its component_0.
  static func ref(_ family: Family, _ name: SlimName) -> ChannelRef {
    let text = text(family, name)
    return ChannelRef(
      id: ChannelID(family: family, name: text), family: family, name: text, org: "",
      tenant: .none, archived: true)
  }

  /// May this principal read that channel by name?
  static func mayRead(_ principal: Principal, _ name: SlimName) -> Bool {
    principal.anonymous || componentHash(principal.org) == name.c0
  }

  /// Where the payload and its type stand in a frame of a SLIM message; nil when it has none.
  static func payload(
    of frame: Bytes, _ family: Family
  ) -> (payload: Range<Int>, payloadType: Range<Int>)? {
    unsafe frame.withUnsafeBytes { all in
      guard all.count > GrpcFrame.prefixBytes else { return nil }
      let message = unsafe UnsafeRawBufferPointer(rebasing: all[GrpcFrame.prefixBytes...])
      let none = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
      guard let envelope = try? unsafe SlimEnvelope(message, family: family, knownHeader: none),
        let payload = envelope.payload
      else { return nil }
      func moved(_ range: Range<Int>) -> Range<Int> {
        range.lowerBound + GrpcFrame.prefixBytes..<range.upperBound + GrpcFrame.prefixBytes
      }
      return (moved(payload), moved(envelope.payloadType ?? 0..<0))
    }
  }
}
