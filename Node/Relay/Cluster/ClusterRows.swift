import Base
import Codec
import Crypto
import Messages
import Ring
import Store

/// What a node keeps of its cluster, in table `meta`, so that it serves from it whoever else is there:
///
///     ci   identity: u64 node · varint incarnation · counted cluster
///     cm   the last map
///     cs   the nodes and who hosts the metadata, as `ClusterState` without a map
struct ClusterRows {
  let store: Store

  static let identityKey = Array("ci".utf8)
  static let mapKey = Array("cm".utf8)
  static let stateKey = Array("cs".utf8)

  struct Identity: Equatable {
    var node: NodeID
    /// Rises with every start.
    var incarnation: UInt64
    var cluster: String
  }

  /// nil: the directory is of no cluster.
  func identity() throws(Fault) -> Identity? {
    guard let bytes = try store.get(.meta, key: ClusterRows.identityKey) else { return nil }
    let read: Identity? = unsafe bytes.withUnsafeBytes { raw in
      var r = unsafe ByteReader(raw)
      guard let node = try? r.bigEndian(UInt64.self), let incarnation = try? r.varint(),
        let cluster = try? r.countedUTF8(atMost: Limits.nodeLabelBytes), r.atEnd
      else { return nil }
      return Identity(node: NodeID(node), incarnation: incarnation, cluster: cluster)
    }
    guard let read else { throw Fault(.damaged, "the row that names this node is damaged") }
    return read
  }

  /// Makes the directory this node's, or counts one more start of it. Throws when it is another node's.
  func adopt(_ own: NodeIdentity) throws(Fault) -> Identity {
    var identity = Identity(node: own.node, incarnation: 0, cluster: own.cluster)
    if let known = try self.identity() {
      guard known.node == own.node, known.cluster == own.cluster else {
        throw Fault(
          .badSetting,
          "\(store.path) is of node \(known.node) of cluster \(known.cluster), the certificate is of \(own): "
            + "give the node its own directory, or a certificate with --node-id \(known.node)")
      }
      identity = known
    }
    identity.incarnation += 1
    try keep(identity)
    return identity
  }

  func keep(_ identity: Identity) throws(Fault) {
    var out = ByteWriter()
    out.append(bigEndian: identity.node.value)
    out.append(varint: identity.incarnation)
    out.append(countedUTF8: identity.cluster)
    var set = WriteSet()
    set.put(.meta, key: ClusterRows.identityKey, value: out.array)
    try store.write(set, synced: true)
  }

  /// nil: this node was never in the cluster.
  func map() throws(Fault) -> RingMap? {
    guard let bytes = try store.get(.meta, key: ClusterRows.mapKey) else { return nil }
    do throws(RingCodecError) {
      return try RingMap(bytes)
    } catch {
      throw Fault(.damaged, "the map in \(store.path) cannot be read (\(error))")
    }
  }

  func state() throws(Fault) -> ClusterState? {
    guard let bytes = try store.get(.meta, key: ClusterRows.stateKey) else { return nil }
    do {
      return try ClusterState(decoding: bytes)
    } catch {
      throw Fault(.damaged, "the nodes of the cluster in \(store.path) cannot be read")
    }
  }

  /// Whether anything was ever ordered or any tenant made here.
  func isUnused() throws(Fault) -> Bool {
    for table in [Table.tokens, .slots] {
      var isEmpty = true
      try unsafe store.scan(table) { _, _ in
        isEmpty = false
        return false
      }
      if !isEmpty { return false }
    }
    return true
  }
}
