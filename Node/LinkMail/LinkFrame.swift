public import Base
public import Link

/// One message on the stream between two nodes, as it follows gRPC's five bytes. Integers are big-endian.
///
///     1  hello         u64 node, incarnation, epoch; u32 lowest and highest version; u64 heard incarnation, epoch, received
///     2  mail          u64 sequence, then a `LinkMail`
///     3  acknowledged  u64 sequence
///     4  mails         u64 sequence of the first, then as many `LinkMail` as there are; since version 2
public enum LinkFrame: Sendable {
  case hello(LinkHello)
  case mail(sequence: UInt64, LinkMail)
  case acknowledged(UInt64)
  case mails(first: UInt64, [LinkMail])

  /// 1: a frame for each mail. 2: `mails`, and `LinkMail.answers`.
  public static let versions: ClosedRange<UInt32> = 1...2

  /// - Returns: the whole gRPC frame.
  public func encoded(_ writer: inout ByteWriter) -> Bytes {
    writer.beginFrame()
    switch self {
    case .hello(let hello):
      writer.append(UInt8(1))
      for word in [hello.node.value, hello.incarnation, hello.epoch] {
        writer.append(bigEndian: word)
      }
      writer.append(bigEndian: hello.versions.lowerBound)
      writer.append(bigEndian: hello.versions.upperBound)
      for word in [hello.heardIncarnation, hello.heardEpoch, hello.received] {
        writer.append(bigEndian: word)
      }
    case .mail(let sequence, let mail):
      writer.append(UInt8(2))
      writer.append(bigEndian: sequence)
      mail.write(&writer)
    case .acknowledged(let sequence):
      writer.append(UInt8(3))
      writer.append(bigEndian: sequence)
    case .mails(let first, let mails):
      writer.append(UInt8(4))
      writer.append(bigEndian: first)
      for mail in mails { mail.write(&writer) }
    }
    return writer.endFrame()
  }

  /// Reads what follows gRPC's prefix. Everything is checked: a peer may be another version, or broken.
  public init(_ bytes: UnsafeRawBufferPointer) throws(ReadError) {
    var r = unsafe ByteReader(bytes)
    switch try r.byte() {
    case 1:
      let node = NodeID(try r.bigEndian())
      let (incarnation, epoch) = (try r.bigEndian(UInt64.self), try r.bigEndian(UInt64.self))
      let (low, high) = (try r.bigEndian(UInt32.self), try r.bigEndian(UInt32.self))
      guard low <= high else { throw .malformed }
      self = .hello(
        LinkHello(
          node: node, incarnation: incarnation, epoch: epoch, versions: low...high,
          heardIncarnation: try r.bigEndian(), heardEpoch: try r.bigEndian(),
          received: try r.bigEndian()))
    case 2:
      let sequence = try r.bigEndian(UInt64.self)
      self = .mail(sequence: sequence, try LinkMail(&r))
    case 3: self = .acknowledged(try r.bigEndian())
    case 4:
      let first = try r.bigEndian(UInt64.self)
      var mails: [LinkMail] = []
      // As many as a turn mostly brings, so that it grows once or not at all.
      mails.reserveCapacity(min(r.remaining / 64 + 1, 64))
      mails.append(try LinkMail(&r))
      while !r.atEnd { mails.append(try LinkMail(&r)) }
      self = .mails(first: first, mails)
    default: throw .malformed
    }
    guard r.atEnd else { throw .malformed }
  }
}

/// Mail on its way out, gathered into frames of kind `mails`.
public struct LinkBatch: ~Copyable {
  private var writer = ByteWriter(capacity: 2 * Limits.linkBatchBytes)
  private var next: UInt64 = 0
  /// Of mail that is not taken yet.
  public private(set) var count = 0

  public init() {}

  public var isEmpty: Bool { count == 0 }
  /// Bytes of the frame as it stands.
  public var bytes: Int { count == 0 ? 0 : writer.count }

  /// Whether the next mail may stand in the same frame: its number follows, and the frame is not full.
  public func hasRoom(for sequence: UInt64, bytes: Int) -> Bool {
    count == 0 || (sequence == next && writer.count + bytes <= Limits.linkBatchBytes)
  }

  public mutating func append(sequence: UInt64, _ mail: borrowing LinkMail) {
    if count == 0 {
      writer.beginFrame()
      writer.append(UInt8(4))
      writer.append(bigEndian: sequence)
    }
    mail.write(&writer)
    next = sequence &+ 1
    count += 1
  }

  /// The frame, whole; another one begins.
  public mutating func take() -> Bytes {
    count = 0
    // One long message is no reason to keep so much for good.
    defer {
      if writer.count > 4 * Limits.linkBatchBytes {
        writer = ByteWriter(capacity: 2 * Limits.linkBatchBytes)
      }
    }
    return writer.endFrame()
  }

  public mutating func removeAll() { count = 0 }
}

extension ByteWriter {
  /// gRPC's five bytes, with the length to come.
  fileprivate mutating func beginFrame() {
    removeAll()
    append(UInt8(0))
    append(bigEndian: UInt32(0))
  }

  fileprivate mutating func endFrame() -> Bytes {
    patch(bigEndian: UInt32(count - 5), at: 1)
    return bytes
  }
}
