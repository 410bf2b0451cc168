internal import Base

/// Where a cluster keeps what it must agree on: a small ordered key-value store with the semantics that etcd v3 (3.4 and
/// later: KV, Lease, Watch) has, and no more than those. One implementation hosts a `MetadataEngine` on the node's own
/// disk, one asks the node that does, one speaks to etcd.
///
/// Requests end by one answer, a watch goes on until it is ended by either side. Everything happens on the loop that
/// owns the store; answers may come before `begin` returns.
public protocol MetadataStore: AnyObject {
  /// `token` is the caller's, and comes back with each answer. One per request in flight, and one per watch.
  func begin(_ request: MetadataRequest, token: UInt64)
  /// Ends a watch, or says that an answer is not waited for any more. A transaction may take place all the same.
  func cancel(token: UInt64)
}

/// Who asked a `MetadataStore`.
public protocol MetadataClient: AnyObject {
  func receive(_ answer: MetadataAnswer, token: UInt64)
}

/// Keys from `from` on, before `to`. `to` nil: only the key `from`; `to` empty: all from there on.
public struct MetadataRange: Hashable, Sendable {
  public var from: [UInt8]
  public var to: [UInt8]?
  public init(from: [UInt8], to: [UInt8]?) {
    self.from = from
    self.to = to
  }
  public static func key(_ key: [UInt8]) -> MetadataRange { MetadataRange(from: key, to: nil) }
  /// Every key that begins with `prefix`.
  public static func prefix(_ prefix: [UInt8]) -> MetadataRange {
    var end = prefix
    while let last = end.last, last == 0xff { end.removeLast() }
    if let last = end.popLast() { end.append(last + 1) }
    return MetadataRange(from: prefix, to: end)
  }
  public static let all = MetadataRange(from: [], to: [])

  public func contains(_ key: [UInt8]) -> Bool {
    guard let to else { return key == from }
    return !key.lexicographicallyPrecedes(from) && (to.isEmpty || key.lexicographicallyPrecedes(to))
  }
}

/// A key and what it holds, with etcd's numbers.
public struct MetadataEntry: Hashable, Sendable {
  public var key: [UInt8]
  public var value: [UInt8]
  /// Revisions at which the key was made and last written.
  public var created: UInt64
  public var modified: UInt64
  /// Writes since it was made, that one counted.
  public var version: UInt64
  /// The lease it goes with; 0: none.
  public var lease: UInt64
}

/// A condition of a transaction. A missing key has the numbers 0, and a value unlike any.
public struct MetadataCompare: Hashable, Sendable {
  public enum Target: Hashable, Sendable {
    case value([UInt8])
    case created(UInt64)
    case modified(UInt64)
    case version(UInt64)
  }
  public enum Relation: UInt8, Hashable, Sendable, CaseIterable {
    case equal, notEqual, less, greater
  }
  public var key: [UInt8]
  public var relation: Relation
  public var target: Target
  public init(_ key: [UInt8], _ relation: Relation, _ target: Target) {
    self.key = key
    self.relation = relation
    self.target = target
  }
}

public enum MetadataOperation: Hashable, Sendable {
  case get(MetadataRange, limit: Int)
  /// `lease` 0: none.
  case put(key: [UInt8], value: [UInt8], lease: UInt64)
  case delete(MetadataRange)
}

/// When all `compares` hold `success` is done, else `failure`; all of it at one revision. In one list no key is put twice,
/// nor put and deleted.
public struct MetadataTransaction: Hashable, Sendable {
  public var compares: [MetadataCompare]
  public var success: [MetadataOperation]
  public var failure: [MetadataOperation]
  public init(
    compares: [MetadataCompare] = [], success: [MetadataOperation],
    failure: [MetadataOperation] = []
  ) {
    self.compares = compares
    self.success = success
    self.failure = failure
  }

  /// Writes `value` if the key was last written at revision `modified` (0: if it is not there); else reads it.
  public static func swap(
    _ key: [UInt8], modified: UInt64, value: [UInt8], lease: UInt64 = 0
  ) -> MetadataTransaction {
    MetadataTransaction(
      compares: [MetadataCompare(key, .equal, .modified(modified))],
      success: [.put(key: key, value: value, lease: lease)], failure: [.get(.key(key), limit: 1)])
  }
}

public enum MetadataRequest: Hashable, Sendable {
  /// What is there now, by key; linearizable. `limit` 0: as many as one answer holds.
  case get(MetadataRange, limit: Int)
  case transact(MetadataTransaction)
  /// A lease of `seconds`, 1 to `Limits.leaseSeconds`. `lease` 0: the store chooses its number.
  case grant(lease: UInt64, seconds: Int)
  /// The lease lasts its whole time again from now.
  case keepAlive(lease: UInt64)
  /// Ends a lease and deletes its keys.
  case revoke(lease: UInt64)
  /// Every change in the range from revision `from` on, in order; 0: from the next. `get` at revision r, then a watch
  /// from r + 1, miss nothing.
  case watch(MetadataRange, from: UInt64)
  /// Forget changes before this revision.
  case compact(UInt64)
}

public enum MetadataResult: Hashable, Sendable {
  case got([MetadataEntry], more: Bool)
  case put
  case deleted(Int)
}

/// A change that a watch tells of.
public enum MetadataChange: Hashable, Sendable {
  case put(MetadataEntry)
  /// At this revision.
  case deleted(key: [UInt8], revision: UInt64)
}

/// Every answer has the store's revision as of then.
public enum MetadataAnswer: Hashable, Sendable {
  case got([MetadataEntry], more: Bool, revision: UInt64)
  /// `revision`: that of what was written, if anything was.
  case transacted(succeeded: Bool, [MetadataResult], revision: UInt64)
  case granted(lease: UInt64, seconds: Int, revision: UInt64)
  /// `seconds` 0: there is no such lease any more.
  case kept(lease: UInt64, seconds: Int, revision: UInt64)
  case revoked(revision: UInt64)
  /// Changes of a watch, whole revisions, in order.
  case changed([MetadataChange], revision: UInt64)
  case compacted(revision: UInt64)
  /// Not done. For a transaction sent to a store that is elsewhere, `unavailable` leaves open whether it was.
  case failed(MetadataFault)
}

public enum MetadataFault: Error, Hashable, Sendable {
  /// The store cannot be reached, cannot write, or has too much to do.
  case unavailable
  /// A watch or compact asks for what is forgotten: changes are known from `first` on. Get anew, and watch from there.
  case forgotten(first: UInt64)
  case futureRevision
  case noLease
  case leaseExists
  /// A key, value, list or number breaks its bound; the text says which.
  case outOfBounds(String)
  /// A key is written twice in one list.
  case keyTwice
  /// The store holds as many keys, leases or watches as it may.
  case full
}
