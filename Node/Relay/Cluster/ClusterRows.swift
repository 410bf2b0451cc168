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
///     cf   empty; there while this node is forgotten, and serves nothing
struct ClusterRows {
  let store: Store

  static let identityKey = Array("ci".utf8)
  static let mapKey = Array("cm".utf8)
  static let stateKey = Array("cs".utf8)
  static let forgottenKey = Array("cf".utf8)

  struct Identity: Equatable {
    var node: NodeID
    /// Rises with every start: milliseconds since 1970, or one more than the last when the clock is behind that.
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

  /// Makes the directory this node's, and begins its next life. Throws when it is another node's.
  ///
  /// The wall clock makes a node that was restored from a backup newer than each of its earlier lives, which the backup
  /// knows nothing of. No order of messages depends on it; with a clock that is behind, the node hears what is
  /// remembered of it, and contradicts.
  func adopt(_ own: NodeIdentity, at wall: Instant) throws(Fault) -> Identity {
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
    let clock = UInt64(clamping: wall.nanoseconds / 1_000_000)
    // Others refuse what is above the bound: a clock that far ahead is not gone by.
    identity.incarnation = max(
      identity.incarnation + 1, clock < Limits.memberIncarnation / 2 ? clock : 0)
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

  func isForgotten() throws(Fault) -> Bool {
    try store.get(.meta, key: ClusterRows.forgottenKey) != nil
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
