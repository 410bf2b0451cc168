public import Base

/// gRPC frames as Skytale agents receive them: the payload is the last thing in the frame and is
/// followed, inside its own length, by `Limits.suffixBytes` bytes that take the sequence later.
public enum SkytaleFrame {
  /// A frame for the channel's archive and subscribers, from a publish as it came: one allocation.
  ///
  /// The payload is moved to the end of every message that encloses it (the order of fields is
  /// free) and gets eight zero bytes; recv_from, forward_to and incoming_conn are taken out of the
  /// header; all other records keep their bytes. Without a payload (a ping) nothing is added and
  /// `hasSuffix` is false. nil: not a publish, or more than `Limits.messageBytes` with the suffix.
  public static func build(
    from bytes: UnsafeRawBufferPointer, view: SlimView
  ) -> (frame: Bytes, hasSuffix: Bool)? {
    guard view.kind == .publish else { return nil }
    guard let payload = view.payload else {
      guard let frame = unsafe withoutPayload(bytes, view) else { return nil }
      return (frame, false)
    }
    let last = view.depth - 1
    // Sizes from the inside out: what stands behind each level's tag and length.
    var inner = InlineArray<6, Int>(repeating: 0)
    inner[last] = payload.count + Limits.suffixBytes
    var size = 0
    for i in stride(from: last, through: 0, by: -1) {
      let level = view.levels[i]
      size = level.body.count - level.record.count + recordSize(level.tag, inner[i])
      if i == 1 { size -= headerSaving(view) }
      if i > 0 { inner[i - 1] = size }
    }
    guard size <= Limits.messageBytes else { return nil }
    let frame = framed(size) { w in
      for i in 0...last {
        let level = view.levels[i]
        unsafe writeOthers(&w, bytes, level, view, isPublish: i == 1)
        w.tag(level.tag)
        w.length(inner[i])
      }
      unsafe w.raw(part(bytes, payload))
      w.zeros(Limits.suffixBytes)
    }
    return (frame, true)
  }

  /// A frame from scratch, for a publish that did not come as a SLIM message. The payload goes
  /// where its session message type has it: MSG, JOIN_REPLY, GROUP_ADD, GROUP_REMOVE,
  /// GROUP_WELCOME, GROUP_PROPOSAL; nil for other types, and when it would be larger than
  /// `Limits.messageBytes`. `payloadType` is kept for MSG only.
  public static func make(
    org: String, namespace: String, service: String, messageType: UInt32, payloadType: String,
    payload: UnsafeRawBufferPointer
  ) -> Bytes? {
    guard let way = way(messageType), payload.count <= Limits.messageBytes else { return nil }
    let type = messageType == 1 ? payloadType : ""
    // Records before the payload in the innermost message: the payload type.
    let ahead = type.isEmpty ? 0 : 1 + WireSize.string(type)
    var inner = InlineArray<4, Int>(repeating: 0)
    var size = payload.count + Limits.suffixBytes
    for i in stride(from: way.count - 1, through: 0, by: -1) {
      inner[i] = size
      size = recordSize(way[i], size) + (i == way.count - 1 ? ahead : 0)
    }
    return publish(org, namespace, service, messageType, contentSize: size) { w in
      for i in 0..<way.count {
        if i == way.count - 1, !type.isEmpty {
          w.tag(10)
          w.string(type)
        }
        w.tag(way[i])
        w.length(inner[i])
      }
      unsafe w.raw(payload)
      w.zeros(Limits.suffixBytes)
    }
  }

  /// GROUP_ACK to the channel's name.
  public static func ack(org: String, namespace: String, service: String) -> Bytes {
    answer(org, namespace, service, 16, tag: 98)
  }

  /// GROUP_NACK to the channel's name.
  public static func nack(org: String, namespace: String, service: String) -> Bytes {
    answer(org, namespace, service, 17, tag: 106)
  }

  /// Where the payload of a frame of `build` or `make` stands, without the suffix; offsets into the
  /// frame. nil when it has none.
  public static func payload(
    of frame: Bytes
  ) -> (payload: Range<Int>, payloadType: Range<Int>, type: UInt32)? {
    unsafe frame.withUnsafeBytes { all in
      guard all.count > GrpcFrame.prefixBytes else { return nil }
      let message = unsafe UnsafeRawBufferPointer(rebasing: all[GrpcFrame.prefixBytes...])
      guard let view = try? unsafe SlimView(message), let payload = view.payload,
        payload.upperBound == message.count, payload.count >= Limits.suffixBytes
      else { return nil }
      func moved(_ range: Range<Int>) -> Range<Int> {
        range.lowerBound + GrpcFrame.prefixBytes..<range.upperBound + GrpcFrame.prefixBytes
      }
      return (
        moved(payload.lowerBound..<payload.upperBound - Limits.suffixBytes),
        moved(view.payloadType ?? 0..<0), view.sessionMessageType
      )
    }
  }

  // MARK: rebuilding

  private static func withoutPayload(_ bytes: UnsafeRawBufferPointer, _ view: SlimView) -> Bytes? {
    let top = view.levels[0]
    if view.strippedBytes == 0 {
      guard bytes.count <= Limits.messageBytes else { return nil }
      return framed(bytes.count) { w in unsafe w.raw(bytes) }
    }
    // The publish is written last, with its header stripped and nothing taken out of it.
    let body = view.levels[1].body
    let publish = body.count - headerSaving(view)
    let size = top.body.count - top.record.count + recordSize(top.tag, publish)
    guard size <= Limits.messageBytes else { return nil }
    return framed(size) { w in
      unsafe writeOthers(&w, bytes, top, view, isPublish: false)
      w.tag(top.tag)
      w.length(publish)
      unsafe writeOthers(&w, bytes, SlimView.Level(body: body), view, isPublish: true)
    }
  }

  /// Bytes that the header's record loses by stripping.
  private static func headerSaving(_ view: SlimView) -> Int {
    if view.strippedBytes == 0 { return 0 }
    return view.headerRecord.count - recordSize(10, view.headerBody.count - view.strippedBytes)
  }

  /// Every record of a message but the one that leads to the payload, in order.
  private static func writeOthers(
    _ w: inout WireWriter, _ bytes: UnsafeRawBufferPointer, _ level: SlimView.Level,
    _ view: SlimView,
    isPublish: Bool
  ) {
    let strips = isPublish && view.strippedBytes > 0
    let hole = level.record
    if !strips {
      if hole.isEmpty {
        unsafe w.raw(part(bytes, level.body))
        return
      }
      unsafe w.raw(part(bytes, level.body.lowerBound..<hole.lowerBound))
      unsafe w.raw(part(bytes, hole.upperBound..<level.body.upperBound))
      return
    }
    let header = view.headerRecord
    let headerFirst = hole.isEmpty || header.lowerBound < hole.lowerBound
    let (first, second) = headerFirst ? (header, hole) : (hole, header)
    unsafe w.raw(part(bytes, level.body.lowerBound..<first.lowerBound))
    if headerFirst { unsafe writeHeader(&w, bytes, view) }
    if second.isEmpty {
      unsafe w.raw(part(bytes, first.upperBound..<level.body.upperBound))
      return
    }
    unsafe w.raw(part(bytes, first.upperBound..<second.lowerBound))
    if !headerFirst { unsafe writeHeader(&w, bytes, view) }
    unsafe w.raw(part(bytes, second.upperBound..<level.body.upperBound))
  }

  private static func writeHeader(
    _ w: inout WireWriter, _ bytes: UnsafeRawBufferPointer, _ view: SlimView
  ) {
    w.tag(10)
    w.length(view.headerBody.count - view.strippedBytes)
    var r = unsafe WireReader(bytes, range: view.headerBody)
    while true {
      let start = r.position
      // Cannot fail: the view was read from the same bytes.
      guard let tag = try? r.nextTag(), tag != 0, (try? r.skip(tag)) != nil else { return }
      if tag == 40 || tag == 48 || tag == 56 { continue }
      unsafe w.raw(part(bytes, start..<r.position))
    }
  }

  // MARK: from scratch

  /// Tags from Content to the payload.
  private static func way(_ messageType: UInt32) -> [UInt32]? {
    switch messageType {
    case 1: [10, 18]
    case 8: [18, 34, 10]
    case 11: [18, 58, 26, 18]
    case 12: [18, 66, 26, 18]
    case 13: [18, 74, 18, 18]
    case 15: [18, 90, 18]
    default: nil
    }
  }

  private static func answer(
    _ org: String, _ namespace: String, _ service: String, _ type: UInt32, tag: UInt32
  ) -> Bytes {
    let made = publish(org, namespace, service, type, contentSize: 4) { w in
      w.tag(18)
      w.length(2)
      w.tag(tag)
      w.length(0)
    }
    // Only a name beyond every limit would be too large; names are checked when they are made.
    guard let made else { preconditionFailure("an answer to a name of more than 4 MiB") }
    return made
  }

  private static func publish(
    _ org: String, _ namespace: String, _ service: String, _ type: UInt32, contentSize: Int,
    _ content: (inout WireWriter) -> Void
  ) -> Bytes? {
    let names = 3 + WireSize.string(org) + WireSize.string(namespace) + WireSize.string(service)
    let name = recordSize(18, names)
    let header = recordSize(18, name)
    // Session type (multicast) and message type.
    let session = 3 + WireSize.uint32(type)
    let body = recordSize(10, header) + recordSize(18, session) + recordSize(26, contentSize)
    let size = recordSize(26, body)
    guard size <= Limits.messageBytes else { return nil }
    return framed(size) { w in
      for (tag, length) in [(26, body), (10, header), (18, name), (18, names)] as [(UInt32, Int)] {
        w.tag(tag)
        w.length(length)
      }
      for (tag, text) in [(10, org), (18, namespace), (26, service)] as [(UInt32, String)] {
        w.tag(tag)
        w.string(text)
      }
      w.tag(18)
      w.length(session)
      w.tag(8)
      w.uint32(2)
      w.tag(16)
      w.uint32(type)
      w.tag(26)
      w.length(contentSize)
      content(&w)
    }
  }

  // MARK: pieces

  private static func recordSize(_ tag: UInt32, _ length: Int) -> Int {
    WireSize.uint32(tag) + WireSize.delimited(length)
  }

  private static func part(
    _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>
  ) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
  }

  private static func framed(_ size: Int, _ fill: (inout WireWriter) -> Void) -> Bytes {
    unsafe Bytes(count: size + GrpcFrame.prefixBytes) { buffer in
      unsafe GrpcFrame.writePrefix(size, to: buffer)
      var w = unsafe WireWriter(
        UnsafeMutableRawBufferPointer(rebasing: buffer[GrpcFrame.prefixBytes...]))
      fill(&w)
      precondition(w.position == size, "a frame is smaller than its computed size")
    }
  }
}
