internal import Base
internal import Relay

extension LinkOpeners {
  /// The real ways: gRPC, and a node of our own for a directory without one.
  static let standard = LinkOpeners(
    socket: { path throws(Fault) in try GrpcLink.socket(path) },
    remote: { node throws(Fault) in try GrpcLink.remote(node) },
    offline: { directory throws(Fault) in
      let node = try OfflineNode(data: directory)
      do throws(Fault) {
        return try GrpcLink.socket(node.adminSocket) { node.close() }
      } catch {
        node.close()
        throw error
      }
    })
}
