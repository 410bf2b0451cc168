/// What the MAC of a link (family B) is made over.
///
/// A context, the link's id, and then what `rest` holds. Everything of varying length has its length before it, and
/// everything optional a byte that says whether it is there.
public enum SlimMac {
  public static let context = "SLIM-DP-HDR-v1\0"

  /// What comes before the part of the header: the same for every message of a link.
  public static func start(linkID: UnsafeRawBufferPointer) -> [UInt8] {
    var bytes = Array(context.utf8)
    bytes.reserveCapacity(bytes.count + 4 + linkID.count)
    let length = UInt32(truncatingIfNeeded: linkID.count)
    for shift: UInt32 in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: length >> shift)) }
    unsafe bytes.append(contentsOf: linkID)
    return bytes
  }

  public static func start(linkID: [UInt8]) -> [UInt8] {
    unsafe linkID.withUnsafeBytes { unsafe start(linkID: $0) }
  }

  /// The part of the preimage behind the link's id: names, identity, fanout, commands, error, ttl.
  ///
  /// `forNextHop` false: as the header came, to verify its MAC. True: as `SlimForward` sends it on. `bytes` is the
  /// whole message `envelope` was read from; `header` is the envelope's, or the one kept from earlier.
  public static func rest(
    _ bytes: UnsafeRawBufferPointer, _ envelope: SlimEnvelope, header: SlimHeader, forNextHop: Bool
  ) -> [UInt8] {
    let record = unsafe UnsafeRawBufferPointer(rebasing: bytes[envelope.headerRecord])
    return unsafe rest(record: record, header: header, forNextHop: forNextHop)
  }

  /// The same from the header's record alone.
  public static func rest(
    record: UnsafeRawBufferPointer, header: SlimHeader, forNextHop: Bool
  ) -> [UInt8] {
    let source = unsafe NamePart(record, header.source, header.sourceText, header.sourceForm)
    let destination = unsafe NamePart(
      record, header.destination, header.destinationText, header.destinationForm)
    let identity = header.identity ?? 0..<0
    let commands = forNextHop ? (nil, nil) : (header.recvFrom, header.forwardTo)
    let size =
      source.size + destination.size + 4 + identity.count + 4 + optionSize(commands.0)
      + optionSize(commands.1) + (header.isError == nil ? 1 : 2) + 4
    return unsafe [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      var w = unsafe WireWriter(UnsafeMutableRawBufferPointer(buffer))
      unsafe source.write(&w, record)
      unsafe destination.write(&w, record)
      unsafe w.counted(record, identity)
      w.fixed32(header.fanout)
      w.option(commands.0)
      w.option(commands.1)
      if let isError = header.isError {
        w.byte(1)
        w.bool(isError)
      } else {
        w.byte(0)
      }
      w.fixed32(forNextHop && header.ttl > 0 ? header.ttl - 1 : header.ttl)
      precondition(w.position == size, "a MAC's preimage is smaller than its computed size")
      count = size
    }
  }

  private static func optionSize(_ value: UInt64?) -> Int { value == nil ? 1 : 9 }

  /// A `Name` as it is covered.
  private struct NamePart {
    let name: SlimName?
    let text: SlimNameText?
    let form: SlimHeader.Form

    init(
      _ record: UnsafeRawBufferPointer, _ name: SlimName?, _ body: Range<Int>?,
      _ form: SlimHeader.Form
    ) {
      self.name = name
      self.form = form
      text = body.flatMap { unsafe SlimNameText(record, body: $0) }
    }

    var size: Int {
      guard form.contains(.present) else { return 1 }
      let encoded = form.contains(.encoded) ? 1 + 24 + 1 + (form.contains(.id) ? 16 : 0) : 1
      guard let text else { return 1 + encoded + 1 }
      return 1 + encoded + 1 + 12 + text.org.count + text.namespace.count + text.service.count
    }

    func write(_ w: inout WireWriter, _ record: UnsafeRawBufferPointer) {
      guard form.contains(.present) else { return w.byte(0) }
      w.byte(1)
      if let name {
        w.byte(1)
        w.fixed64(name.c0)
        w.fixed64(name.c1)
        w.fixed64(name.c2)
        if form.contains(.id) {
          w.byte(1)
          w.fixed64(name.idHigh)
          w.fixed64(name.idLow)
        } else {
          w.byte(0)
        }
      } else {
        w.byte(0)
      }
      guard let text else { return w.byte(0) }
      w.byte(1)
      unsafe w.counted(record, text.org)
      unsafe w.counted(record, text.namespace)
      unsafe w.counted(record, text.service)
    }
  }
}

extension WireWriter {
  /// u32 little-endian length, then the bytes.
  fileprivate mutating func counted(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
    fixed32(UInt32(truncatingIfNeeded: range.count))
    unsafe raw(UnsafeRawBufferPointer(rebasing: bytes[range]))
  }

  /// 0, or 1 and the value.
  fileprivate mutating func option(_ value: UInt64?) {
    guard let value else { return byte(0) }
    byte(1)
    fixed64(value)
  }
}
