import Base
import Codec
import Crypto
import Grpc

/// A `DataPlaneService/OpenChannel` stream while the node's store opens. A SLIM app that has lost its connection throws
/// away what it publishes until it has a link again (slim-bindings 3.3.8) or raises an error (1.x), so the link comes
/// at once. What the app sends after it waits in the connection, and is read when the store is open.
final class OpeningStream: GrpcHandler {
  private let nodeName: String
  /// What its Link said, once that is answered.
  private(set) var link: (family: Family, mac: LinkMac?)?
  /// The first message, when it was no Link.
  private(set) var first: Bytes?

  init(_ call: GrpcCall, nodeName: String) {
    self.nodeName = nodeName
    call.userData = self
  }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    call.pauseReading()
    let none = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    let family = unsafe SlimStream.family(ofLink: bytes)
    guard let view = unsafe try? SlimView(bytes), view.kind == .link,
      let envelope = unsafe try? SlimEnvelope(bytes, family: family, knownHeader: none),
      !envelope.link.isReply
    else {
      first = unsafe Bytes(bytes)
      return
    }
    do {
      let answer = try unsafe SlimLinkAnswer(bytes, envelope, family, nodeName: nodeName)
      link = (family, answer.mac)
      call.send(answer.frame)
    } catch {
      call.finish(error)
    }
  }

  func receiveHalfClose(on call: GrpcCall) { call.finish(.ok) }
  func receiveClosed(on call: GrpcCall) {}
}
