import Base
import Codec

extension ProtoMessage {
  /// A request as it came over the wire. Throws `bad_request`, which names the message.
  init(request bytes: [UInt8]) throws(Fault) {
    do throws(WireError) {
      self = try Self(decoding: bytes)
    } catch {
      throw Fault(.badRequest, "the request is no valid \(Self.fullName)")
    }
  }
}
