public import Base
public import Link

/// One message on the stream between two nodes, as it follows gRPC's five bytes. Integers are big-endian.
///
///     1  hello         u64 node, incarnation, epoch; u32 lowest and highest version; u64 heard incarnation, epoch, received
///     2  mail          u64 sequence, then a `LinkMail`
///     3  acknowledged  u64 sequence
public enum LinkFrame: Sendable {
  case hello(LinkHello)
  case mail(sequence: UInt64, LinkMail)
  case acknowledged(UInt64)

  /// - Returns: the whole gRPC frame.
  public func encoded(_ writer: inout ByteWriter) -> Bytes {
    writer.removeAll()
    writer.append(UInt8(0))
    writer.append(bigEndian: UInt32(0))
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
    }
    writer.patch(bigEndian: UInt32(writer.count - 5), at: 1)
    return writer.bytes
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
    default: throw .malformed
    }
    guard r.atEnd else { throw .malformed }
  }
}
